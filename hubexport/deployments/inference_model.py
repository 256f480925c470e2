"""A network made ready for inference: what the writers of all deployment formats start from."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.arrays import StreamedValue, Value
from hubexport.deployments.options import DeploymentOptions, Pixels, no_probabilities_error
from hubexport.networks import ops
from hubexport.networks.folding import fold
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, Pad, Variable

INPUT = "images"
LOGITS = "logits"
PROBABILITIES = "probabilities"
FEATURES = "feature_vector"

# The largest intensity of images.
WHITE: dict[Pixels, float] = {"float": 1.0, "uint8": 255.0}


@dataclasses.dataclass(frozen=True)
class InferenceModel:
    """A network with its values, its outputs, and what programs may want to know of it.

    Attributes:
        name: of the model.
        network: a folded one. Its input mapping is what is left to do with the images.
        values: float32, for each of the network's variables, by name.
        outputs: the op that gives each output, by the output's name: the logits, or else the probabilities or the
            features, and then endpoints. Several outputs may come from the same op.
        pixels: of the images, whose name is `images`: `float` is float32 in [0, 1], `uint8` is 0 to 255.
        metadata: what the model is, as values that JSON has: `name`, `input_range`, what the network itself takes
            (`network_input_range`, `network_channel_means`) and `class_names`.
    """

    name: str
    network: Network
    values: Mapping[str, Value]
    outputs: Mapping[str, str]
    pixels: Pixels
    metadata: Mapping[str, Any]

    @functools.cached_property
    def ops(self) -> tuple[Op, ...]:
        """The ops that lead to the outputs, in order; the first is the `Input`."""
        needed = set(self.outputs.values())
        for op in reversed(self.network.ops):
            if op.name in needed:
                needed.update(op.inputs)
        return tuple(op for op in self.network.ops if op.name in needed)

    @functools.cached_property
    def merged_pads(self) -> Mapping[str, Pad]:
        """The pads that convolutions without padding of their own can do, and nothing else needs, by name."""
        kept = set(self.outputs.values())
        merged = {op.name: op for op in self.ops if isinstance(op, Pad) and op.name not in kept}
        for op in self.ops:
            if not (isinstance(op, ops.Conv | ops.DepthwiseConv) and op.padding == "VALID"):
                for name in op.inputs:
                    merged.pop(name, None)
        return merged

    def value(self, variable: Variable) -> npt.NDArray[np.float32]:
        """Returns a variable's value, whole in memory."""
        value = self.values[variable.name]
        return value.read() if isinstance(value, StreamedValue) else value

    @property
    def class_names(self) -> Sequence[str] | None:
        """The names of the classes, in order; None if they are unknown."""
        return self.metadata.get("class_names")


def inference_model(
    name: str,
    network: Network,
    values: Mapping[str, Value],
    options: DeploymentOptions,
    *,
    class_names: Sequence[str] | None = None,
    endpoints: Sequence[str] = (),
) -> InferenceModel:
    """Makes a network ready for inference.

    Args:
        name: of the model.
        network: what the model computes from images: the logits, or the features if there are none.
        values: float32, for each of the network's variables, by TF-Slim's name.
        options: what users chose of any format.
        class_names: the names of the classes, in order; None if they are unknown.
        endpoints: keys of the endpoints that are outputs, too.
    Raises:
        UsageError: the network has no logits to make probabilities of.
    """
    if options.softmax and network.logits is None:
        raise no_probabilities_error()
    folded = fold(network, values, endpoints=endpoints, white=WHITE[options.pixels])
    made, outputs = with_outputs(folded.network, endpoints, softmax=options.softmax)
    metadata = _metadata(name, network, options.pixels, class_names)
    return InferenceModel(name, made, folded.values, outputs, options.pixels, metadata)


def with_outputs(network: Network, endpoints: Sequence[str], *, softmax: bool) -> tuple[Network, dict[str, str]]:
    """Returns a network that computes the outputs of a model, and the op of each output by the output's name.

    Args:
        network: folded or not.
        endpoints: keys of the endpoints that are outputs, too.
        softmax: give the probabilities of the classes instead of the logits.
    """
    main = network.logits or network.features
    outputs = {FEATURES if network.logits is None else LOGITS: main}
    if softmax:
        last = ops.Softmax(PROBABILITIES, (main,), PROBABILITIES)
        network = dataclasses.replace(network, ops=(*network.ops, last))
        outputs = {PROBABILITIES: last.name}
    return network, outputs | {key: network.endpoints[key] for key in endpoints}


def _metadata(name: str, network: Network, pixels: Pixels, class_names: Sequence[str] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": name,
        "input_range": [0, 255] if pixels == "uint8" else [0.0, 1.0],
        # What the model itself makes of its images, before means are subtracted.
        "network_input_range": list(network.input_range),
    }
    if network.channel_means is not None:
        metadata["network_channel_means"] = list(network.channel_means)
    if class_names is not None:
        metadata["class_names"] = list(class_names)
    return metadata
