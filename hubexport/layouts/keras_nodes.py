"""Turns a model that Keras describes into steps, of which a network's are a part if the model computes it."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any

from hubexport.layouts.keras_layers import INPUT, LayerCall
from hubexport.layouts.keras_preprocessing import factor_and_summand
from hubexport.layouts.steps import (
    CONCATENATION,
    IMAGES,
    MEAN,
    NO_PADDING,
    ONE_PIXEL,
    PRODUCT,
    SUM,
    Kind,
    Node,
    Padding,
    Steps,
    batch_norm,
    convolution,
    cut,
    dense,
    linear,
    pad,
    pool,
)
from hubexport.networks.ops import HARD_SIGMOID_SLOPE
from hubexport.networks.shapes import same_padding

# Layers that return their input outside training.
_RANDOM = "Flip|Rotation|Translation|Zoom|Contrast|Brightness|Height|Width|Hue|Saturation|Sharpness|Shear|Erasing"
_IDLE = re.compile(rf"{INPUT}|\w*Dropout\w*|GaussianNoise|ActivityRegularization|Random({_RANDOM})")
# Layers that do so for features of one pixel.
_RESHAPING = ("Flatten", "Reshape")
_RESIZING = ("Resizing", "CenterCrop", "RandomCrop")
# For models of any image size, Keras pads as for even sizes.
_EVEN_SIZE = (2, 2)
# Far beyond any image: a larger size would be damage.
_MAX_SIZE = 8192
# The axis of a batch norm or a concatenation over channels, as Keras 2 and 3 write it.
_CHANNELS = (3, -1, [3], [-1])


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """The output of a call of a layer of the model; `size` is height and width, None if they are not known."""

    node: Node
    size: tuple[int, int] | None = None


class ModelNodes:
    """The nodes of a model in which one convolution takes the images, whatever comes before it.

    Attributes:
        outputs: the node that gives the output of each call.
        all: all nodes.
        by_step: a node for each step.
        image_size: the size of the images, without padding; None if it is not known.
    """

    def __init__(self, calls: Sequence[LayerCall], start: int, steps: Steps) -> None:
        self._steps = steps
        self._images = steps.node(IMAGES, (), "the images")
        self.all: list[Node] = [self._images]
        self.image_size: tuple[int, int] | None = None
        tensors: list[_Tensor] = []
        for position, call in enumerate(calls):
            inputs = [tensors[source] for source in call.inputs]
            if position == start:
                inputs = [self._as_images(source) for source in inputs]
            output = self._output(call, inputs)
            tensors.append(output or _Tensor(self._node(call, ("another layer", position), inputs)))
        self.outputs = [tensor.node for tensor in tensors]
        self.by_step = {node.step: node for node in reversed(self.all)}

    def _as_images(self, source: _Tensor) -> _Tensor:
        """Replaces a tensor by the images; zeros around it are part of the network."""
        padding = source.node.padding
        size = source.size
        if padding is None:
            self.image_size = size
            return _Tensor(self._images, size)
        if size:
            self.image_size = size[0] - sum(padding[0]), size[1] - sum(padding[1])
        padded = self._steps.node(pad(padding), [self._images], "the images", (), padding)
        return _Tensor(padded, size)

    def _node(
        self,
        call: LayerCall,
        kind: Kind,
        inputs: Sequence[_Tensor],
        weights: tuple[str, ...] = (),
        padding: Padding | None = None,
    ) -> Node:
        self.all.append(self._steps.node(kind, [source.node for source in inputs], call, weights, padding))
        return self.all[-1]

    def _output(self, call: LayerCall, inputs: list[_Tensor]) -> _Tensor | None:
        """Returns a layer's output; None if no network of ours has such a layer."""
        kind, config = call.kind, call.config
        if config.get("data_format") == "channels_first" or (call.trains and kind == "BatchNormalization"):
            return None
        if kind == INPUT:
            size = _image_size(config)
            if not inputs:
                return _Tensor(self._node(call, ("input", str(call)), ()), size)
            return _Tensor(inputs[0].node, inputs[0].size or size)
        if kind == "Add" and len(inputs) == 2:
            return _Tensor(self._node(call, SUM, inputs), inputs[0].size)
        if kind == "Multiply" and len(inputs) == 2:
            # A gate has one pixel.
            sizes = [source.size for source in inputs if source.size != ONE_PIXEL]
            return _Tensor(self._node(call, PRODUCT, inputs), sizes[0] if sizes else ONE_PIXEL)
        if kind == "Concatenate" and config["axis"] in _CHANNELS:
            return _Tensor(self._node(call, CONCATENATION, inputs), inputs[0].size)
        if kind.rpartition(">")[2] == "CustomScaleLayer" and len(inputs) == 2:  # Of Keras' Inception-ResNet V2.
            scaled = self._node(call, linear(float(config["scale"])), inputs[1:])
            return _Tensor(self._node(call, SUM, [inputs[0], _Tensor(scaled)]), inputs[0].size)
        return self._output_of_one(call, inputs[0]) if len(inputs) == 1 else None

    def _output_of_one(self, call: LayerCall, source: _Tensor) -> _Tensor | None:
        kind, config, size = call.kind, call.config, source.size
        if kind in ("Conv2D", "DepthwiseConv2D"):
            return self._convolved(call, source)
        if kind == "ZeroPadding2D":
            padding = tuple((before, after) for before, after in config["padding"])
            grown = size and (size[0] + sum(padding[0]), size[1] + sum(padding[1]))
            return _Tensor(self._node(call, pad(padding), [source], padding=padding), grown)
        if is_idle(call) or (kind in _RESHAPING and size == ONE_PIXEL):
            return source
        if kind in _RESIZING:
            return _Tensor(self._node(call, (kind, call.path), [source]), (config["height"], config["width"]))
        if numbers := factor_and_summand(call):
            return self._mapped(call, source, *numbers)
        if kind == "Cropping2D" and all(after == 0 for _, after in config["cropping"]):
            begin = tuple(before for before, _ in config["cropping"])
            kept = size and (size[0] - begin[0], size[1] - begin[1])
            return _Tensor(self._node(call, cut(begin), [source]), kept)
        if kind == "BatchNormalization" and config["axis"] in _CHANNELS and config["center"]:
            names = ("beta", *(("gamma",) if config["scale"] else ()), "moving_mean", "moving_variance")
            return _Tensor(self._node(call, batch_norm(len(names), config["epsilon"]), [source], names), size)
        if kind in ("AveragePooling2D", "MaxPooling2D"):
            return self._pooled(call, source)
        if kind == "GlobalAveragePooling2D":
            return _Tensor(self._node(call, MEAN, [source]), ONE_PIXEL)
        if kind == "Dense" and size == ONE_PIXEL and config["use_bias"]:
            node = self._node(call, dense(config["units"]), [source], ("kernel", "bias"))
            return self._activated(call, _Tensor(node, size))
        return self._activated(call, source) if kind in ("Activation", "ReLU", "Softmax") else None

    def _convolved(self, call: LayerCall, source: _Tensor) -> _Tensor | None:
        config = call.config
        kernel, stride = tuple(config["kernel_size"]), tuple(config["strides"])
        if not _is_plain(config):
            return None
        depthwise = call.kind == "DepthwiseConv2D"
        outputs = config["depth_multiplier" if depthwise else "filters"]
        names = ("kernel", "bias") if config["use_bias"] else ("kernel",)
        padding = source.node.padding or NO_PADDING
        size, inside = source.size, source.node
        if source.node.padding is not None:
            [inside] = source.node.inputs
            size = size and (size[0] - sum(padding[0]), size[1] - sum(padding[1]))
        same = _same_padding(size or _EVEN_SIZE, kernel, stride)
        if config["padding"] == "same":
            if padding != NO_PADDING:
                return None
            padding = same
        kind = convolution(depthwise, kernel, stride, outputs, len(names), "SAME" if padding == same else padding)
        padded = size and (size[0] + sum(padding[0]), size[1] + sum(padding[1]))
        node = self._node(call, kind, [_Tensor(inside)], names)
        return self._activated(call, _Tensor(node, _windows(padded, kernel, stride)))

    def _pooled(self, call: LayerCall, source: _Tensor) -> _Tensor:
        config, size = call.config, source.size
        window, stride = tuple(config["pool_size"]), tuple(config["strides"] or config["pool_size"])
        kind = "max" if call.kind == "MaxPooling2D" else "average"
        if kind == "average" and config["padding"] == "valid" and window == size:
            return _Tensor(self._node(call, MEAN, [source]), ONE_PIXEL)
        padding = config["padding"].upper()
        # Where SAME pads more on one side, Keras on PyTorch cannot average in one step.
        if window == ONE_PIXEL and (averaged := _averaged_apart(source.node, size, stride)):
            strided, inside = averaged
            return _Tensor(self._node(call, strided, [_Tensor(inside)]), _windows(size, window, stride))
        if padding == "SAME":
            size = size and (-(-size[0] // stride[0]), -(-size[1] // stride[1]))
        else:
            size = _windows(size, window, stride)
        return _Tensor(self._node(call, pool(kind, window, stride, padding), [source]), size)

    def _mapped(self, call: LayerCall, source: _Tensor, factor: float, summand: float | tuple[float, ...]) -> _Tensor:
        node = source.node
        # TF-Slim's hard sigmoid takes three layers: Keras' own has another slope.
        if (factor, summand) == (HARD_SIGMOID_SLOPE, 0) and node.kind == ("relu6",):
            if node.inputs[0].kind == linear(1.0, 3.0):
                [inside] = node.inputs[0].inputs
                return _Tensor(self._node(call, ("hard_sigmoid",), [_Tensor(inside)]), source.size)
        return _Tensor(self._node(call, linear(factor, summand), [source]), source.size)

    def _activated(self, call: LayerCall, source: _Tensor) -> _Tensor:
        activation = _activation(call)
        return source if activation == "linear" else _Tensor(self._node(call, (activation,), [source]), source.size)


def _averaged_apart(node: Node, size: tuple[int, int] | None, stride: tuple[int, ...]) -> tuple[Kind, Node] | None:
    """Returns what averages around each pixel, the first of them cut off, are with a stride, and of what.

    Returns None if they are not those of SAME padding.
    """
    if node.kind[0] != "cut" or size is None or node.inputs[0].kind[:2] != ("pool", "average"):
        return None
    begin: Any = node.kind[1]
    [averaged] = node.inputs
    window: Any = averaged.kind[2]
    image = size[0] + begin[0], size[1] + begin[1]
    before = [first for first, _ in _same_padding(image, window, stride)]
    if averaged.kind != pool("average", window, ONE_PIXEL, "SAME") or any(
        window[axis] // 2 - before[axis] != begin[axis] for axis in range(2)
    ):
        return None
    return pool("average", window, stride, "SAME"), averaged.inputs[0]


def is_idle(call: LayerCall) -> bool:
    """Tells whether a layer returns its input outside training."""
    return _IDLE.fullmatch(call.kind) is not None and (call.kind == INPUT or not call.trains)


def _is_plain(config: Mapping[str, Any]) -> bool:
    """Tells whether a convolution has no settings that TF-Slim's lack."""
    return set(config["dilation_rate"]) == {1} and (config.get("groups") or 1) == 1


def _same_padding(size: tuple[int, int], kernel: tuple[int, ...], stride: tuple[int, ...]) -> Padding:
    """Returns the zeros that TensorFlow's SAME puts around an image."""
    return tuple(same_padding(*lengths) for lengths in zip(size, kernel, stride, strict=True))


def _windows(size: tuple[int, int] | None, window: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, int] | None:
    """Returns how many windows fit into an image."""
    if size is None:
        return None
    return (size[0] - window[0]) // stride[0] + 1, (size[1] - window[1]) // stride[1] + 1


def _activation(call: LayerCall) -> str:
    """Returns the name of a layer's activation; unknown ones get a name that no network of ours uses."""
    kind, config = call.kind, call.config
    if kind == "Softmax":
        return "softmax" if config["axis"] in (-1, [-1]) else "softmax of other axes"
    if kind == "ReLU":
        maximum, slope = config["max_value"], config.get("negative_slope", 0)
        names = {None: "relu", 6: "relu6"}
        plain = not slope and not config.get("threshold", 0)
        return names[maximum] if plain and maximum in names else f"ReLU{(maximum, slope, config.get('threshold'))}"
    activation = config["activation"]
    name = str(activation.get("config") if isinstance(activation, dict) else activation)
    return "hard_swish" if name == "hard_silu" else name


def _image_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = config.get("batch_input_shape") or config.get("batch_shape") or ()
    height_and_width = tuple(shape[1:3])
    known = len(shape) == 4 and all(isinstance(one, int) and 0 < one <= _MAX_SIZE for one in height_and_width)
    if len(shape) == 2:
        return ONE_PIXEL  # A vector, as features are.
    return (height_and_width[0], height_and_width[1]) if known else None
