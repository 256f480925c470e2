"""Compares the two settings files of a Hugging Face directory with a network.

The settings and their defaults are those of `MobileNetV2Config` and `MobileNetV2ImageProcessor` in transformers.
"""

from collections.abc import Iterator
import json
import math
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from hubexport.layouts.huggingface import huggingface_layout
from hubexport.networks.family import DepthMultiplier, Family
from hubexport.networks.mobilenet_v2 import MOBILENET_V2
from hubexport.networks.network import Network

# What `config.json` calls MobileNet V2.
MODEL_TYPE = "mobilenet_v2"

# The architectures that `huggingface_config` writes.
_HEADLESS, _CLASSIFIER = "MobileNetV2Model", "MobileNetV2ForImageClassification"
_ACTIVATION = "relu6"
_OUTPUT_STRIDE = 32
# With these strides, later blocks dilate their convolutions instead of halving the image once more.
_DILATING_STRIDES = (2, 4, 8, 16)

_PLAIN = DepthMultiplier(depth_multiplier=1.0)
_KERNEL = ".convolution.weight"
# The relative error of an epsilon that was rounded to float32.
_ROUNDING = 1e-6
# The brightest intensity of an image file, and half the step between two intensities in the network's range [-1, 1].
_WHITE, _HALF_STEP = 255, 1 / 255

_Scale = Annotated[float, Field(gt=0, le=1000)]
_Count = Annotated[int, Field(ge=1, le=1 << 16)]
_Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
_Divisor = Annotated[float, Field(gt=0)]
_Divisors = Annotated[list[_Divisor], Field(min_length=3, max_length=3)]


class _Settings(pydantic.BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class ConfigSettings(_Settings):
    """`config.json`, without the settings that change nothing in inference."""

    architectures: list[str] | None = None
    model_type: str = MODEL_TYPE
    num_channels: _Count = 3
    image_size: _Count | Annotated[list[_Count], Field(min_length=2, max_length=2)] = 224
    depth_multiplier: _Scale = 1.0
    depth_divisible_by: _Count = 8
    min_depth: _Count = 8
    expand_ratio: _Scale = 6.0
    output_stride: int = _OUTPUT_STRIDE
    first_layer_is_expansion: bool = True
    finegrained_output: bool = True
    hidden_act: str = _ACTIVATION
    tf_padding: bool = True
    layer_norm_eps: float = 0.001
    quantization_config: dict[str, Any] | None = None
    id2label: Any = None

    @property
    def family(self) -> Family:
        """The family of the network that the settings describe."""
        return MOBILENET_V2

    @property
    def parameters(self) -> DepthMultiplier:
        """The parameters of the network in its family."""
        return DepthMultiplier(depth_multiplier=self.depth_multiplier)

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes; None unless each class from 0 on has one, or if they only number the classes."""
        names = self.id2label if isinstance(self.id2label, dict) else {}
        ordered = [name for number in range(len(names)) if isinstance(name := names.get(str(number)), str)]
        if ordered == [f"LABEL_{number}" for number in range(len(names))]:  # What transformers calls nameless classes.
            return None
        return ordered if len(ordered) == len(names) else None

    def problems(self, parameters: DepthMultiplier | None) -> Iterator[str]:
        """Yields a line for each setting with which transformers computes something else, with the supported value.

        Args:
            parameters: of the MobileNet V2 that the weights are for; None if it is not known.
        """
        network = _network(parameters or _PLAIN)
        if self.model_type != MODEL_TYPE:
            yield _problem("model_type", self.model_type, MODEL_TYPE)
        if not set(self.architectures or ()) <= {_CLASSIFIER, _HEADLESS}:
            yield _problem("architectures", self.architectures, [_CLASSIFIER], [_HEADLESS])
        if not self.tf_padding:
            yield _problem("tf_padding", False, True)
        if self.hidden_act != _ACTIVATION:
            yield _problem("hidden_act", self.hidden_act, _ACTIVATION)
        if self.output_stride in _DILATING_STRIDES:
            yield _problem("output_stride", self.output_stride, _OUTPUT_STRIDE)
        epsilon = network.batch_norm_epsilon
        assert epsilon is not None, "MobileNet V2 has batch norm"
        if not math.isclose(self.layer_norm_eps, epsilon, rel_tol=_ROUNDING):
            yield _problem("layer_norm_eps", self.layer_norm_eps, epsilon)
        if not self.first_layer_is_expansion:
            yield _problem("first_layer_is_expansion", False, True)
        if self.quantization_config is not None:
            yield "quantization_config is given, and must not be"
        if parameters is None or self._depths() != _kernel_depths(network):
            supported = {
                "num_channels": 3,
                "depth_multiplier": (parameters or self).depth_multiplier,
                "depth_divisible_by": 8,
                "min_depth": 8,
                "expand_ratio": 6,
                "finegrained_output": True,
            }
            for name, value in supported.items():
                if getattr(self, name) != value:
                    yield _problem(name, getattr(self, name), value)

    def _depths(self) -> dict[str, tuple[int, int]]:
        """Returns the input and output channels of each convolution, as transformers derives them from the settings."""
        depths: dict[str, tuple[int, int]] = {}
        inputs = self.num_channels
        # transformers multiplies the numbers of the network at depth multiplier 1.
        for name, (_, plain) in _kernel_depths(_network(_PLAIN)).items():
            if name.endswith("expand_1x1"):
                outputs = self._divisible(round(inputs * self.expand_ratio))
            elif name.endswith("conv_3x3"):
                # A depthwise kernel has one input channel.
                depths[name] = (1, inputs)
                continue
            elif name.endswith("conv_1x1") and self.finegrained_output and self.depth_multiplier < 1:
                outputs = plain
            else:
                outputs = self._divisible(round(plain * self.depth_multiplier))
            depths[name] = (inputs, outputs)
            inputs = outputs
        return depths

    def _divisible(self, depth: int) -> int:
        divisor = self.depth_divisible_by
        rounded = max(self.min_depth, int(depth + divisor / 2) // divisor * divisor)
        return rounded + divisor if rounded < 0.9 * depth else rounded


def _network(parameters: DepthMultiplier) -> Network:
    return MOBILENET_V2.network(parameters, 224, None)


def _kernel_depths(network: Network) -> dict[str, tuple[int, int]]:
    """Returns the input and output channels of each convolution's kernel, in the network's order."""
    kernels = {layout.name: layout.shape for layout in huggingface_layout(network) if layout.name.endswith(_KERNEL)}
    return {name.removesuffix(_KERNEL): (inputs, outputs) for name, (outputs, inputs, _, _) in kernels.items()}


def _problem(name: str, value: object, *supported: object) -> str:
    return f"{name} is {json.dumps(value)}, and must be {' or '.join(map(json.dumps, supported))}"


class PreprocessorSettings(_Settings):
    """`preprocessor_config.json`: how the intensities 0 … 255 of image files become the network's input."""

    do_rescale: bool = True
    rescale_factor: float = 1 / _WHITE
    do_normalize: bool = True
    image_mean: float | _Channels | None = None
    image_std: _Divisor | _Divisors | None = None
    do_flip_channel_order: bool | None = None

    def warnings(self, wanted: tuple[float, float]) -> Iterator[str]:
        """Yields a line for each difference from modules, which map black and white to the ends of `wanted`.

        Args:
            wanted: the lowest and highest intensity that the network was trained on.
        """
        # What black and white become, in red, green and blue.
        ranges = [(0.0, _WHITE * (self.rescale_factor if self.do_rescale else 1.0))] * 3
        if self.do_normalize:
            channels = zip(ranges, _per_channel(self.image_mean), _per_channel(self.image_std), strict=True)
            ranges = [
                ((low - mean) / deviation, (high - mean) / deviation) for (low, high), mean, deviation in channels
            ]
        ends = [end for channel in ranges for end in zip(channel, wanted, strict=True)]
        if not all(math.isclose(end, wanted_end, abs_tol=_HALF_STEP) for end, wanted_end in ends):
            described = " ".join(map(_range, ranges))
            yield (
                f"takes images to {described} (red, green, blue), but the network is to get {_range(wanted)}, and "
                "modules will give it that"
            )
        if self.do_flip_channel_order:
            yield "do_flip_channel_order is true: the network was to get blue first, but modules will give it red first"


def _per_channel(setting: float | list[float] | None) -> list[float]:
    return setting if isinstance(setting, list) else [0.5 if setting is None else setting] * 3


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"[{low:.4g}, {high:.4g}]"
