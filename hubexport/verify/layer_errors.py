"""How far a module's layers are from exact arithmetic, and how far float32 arithmetic has to be.

`hubexport.networks.numpy_forward` computes the exact outputs in float64. The same code in float32 gives the floor: the
error that plain float32 arithmetic makes with these values on these images. A module computes the same sums in another
order, so its errors are about as large as the floor, but not equal to it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Floats
from hubexport.networks.ops import Op, Softmax
from hubexport.verify.sample_images import SampleImages
from hubexport.verify.two_precisions import TwoPrecisions

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# The largest error that passes, in floors. Over all families in both formats, the default output was off by up to 3.9
# floors, and the worst endpoint by 5.2.
LIMIT_IN_FLOORS = 10
_DEFAULT = "default"
# NumPy may make no error at all, as on black images. Then the floor is the error of rounding the result.
_EPSILON = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class LayerDeviation:
    """How far a layer's output is from the exact one, on one image or at worst on several.

    Attributes:
        largest: the largest absolute value of the exact output.
        error: the largest absolute error of the module's output; None if the module does not show the layer.
        floor: the largest absolute error of float32 arithmetic in NumPy.
    """

    largest: float
    error: float | None
    floor: float


@dataclasses.dataclass(frozen=True)
class ImageErrors:
    """The errors of all layers on one image.

    Attributes:
        image: the image's name.
        ops: the deviation of each layer's output and of each endpoint, by the name of its op.
        exact: float64, the exact outputs that have one axis (features, logits, probabilities), by the op's name.
        output: float32, the module's default output.
    """

    image: str
    ops: Mapping[str, LayerDeviation]
    exact: Mapping[str, Floats]
    output: Array


def measure_layer_errors(
    module: "ImageModule", network: Network, values: Mapping[str, Array], samples: SampleImages
) -> list[ImageErrors]:
    """Runs a module on images, one by one, and compares all endpoints with the exact outputs.

    Args:
        module: the module in TensorFlow.
        network: what it should compute.
        values: the values of the network's variables, by name.
        samples: images of the network's size, or of any size if the network's is open.
    """
    shown = shown_outputs(network)
    keys = [*itertools.chain(*shown.values())]
    compared = {*shown, *(layer.output for layer in network.layers)}
    errors = []
    for name, image in zip(samples.names, samples.images, strict=True):
        outputs = module.run(image[None], keys)
        exact, rounded = TwoPrecisions(network, values, image[None]).run()
        deviations = {}
        for op in network.ops:
            if op.name in compared:
                largest = float(np.abs(exact[op.name]).max())
                differences = [layer_difference(outputs[key], exact[op.name]) for key in shown.get(op.name, ())]
                floor = output_floor(op, rounded, exact)
                deviations[op.name] = LayerDeviation(largest, max(differences, default=None), floor)
        vectors = {op: output[0] for op, output in exact.items() if output[0].ndim == 1}
        errors.append(ImageErrors(name, deviations, vectors, outputs[_DEFAULT][0]))
    return errors


def output_floor(op: Op, rounded: Mapping[str, Floats], exact: Mapping[str, Floats]) -> float:
    """Returns the floor of an op's output: the error of float32 arithmetic, or of rounding if that makes none."""
    return max(rounding_floor(op, rounded, exact), float(np.abs(exact[op.name]).max()) * _EPSILON)


def rounding_floor(op: Op, rounded: Mapping[str, Floats], exact: Mapping[str, Floats]) -> float:
    """Returns the error of float32 arithmetic in NumPy, as it may come out.

    The error of a probability hangs on those of a few logits, which may be much smaller in NumPy than in the module by
    chance. If all logits are off by e, a probability p is off by up to 2 p (1 - p) e.
    """
    floor = layer_difference(rounded[op.name], exact[op.name])
    if isinstance(op, Softmax):
        [logits], probabilities = op.inputs, exact[op.name]
        steepest = float((2 * probabilities * (1 - probabilities)).max())
        floor = max(floor, steepest * layer_difference(rounded[logits], exact[logits]))
    return floor


def shown_outputs(network: Network) -> dict[str, list[str]]:
    """Returns the names under which a module shows the output of an op: endpoints and `default`, by the op's name."""
    shown: dict[str, list[str]] = {}
    for name, op in [*network.endpoints.items(), (_DEFAULT, network.logits or network.features)]:
        shown.setdefault(op, []).append(name)
    return shown


def op_shown_by(network: Network, signature: str, key: str) -> str:
    """Returns the op whose output a signature or function shows under a key; the names of signatures say which."""
    main = network.features if "feature_vector" in signature else network.logits or network.features
    return network.endpoints.get(key, main)


def layer_difference(output: Floats, exact: Floats) -> float:
    """Returns the largest absolute difference. It is infinite if the shapes differ, or if any number is not finite."""
    if output.shape != exact.shape:
        return float("inf")
    largest = float(np.abs(output - exact).max())
    return largest if np.isfinite(largest) else float("inf")


def worst_deviation(errors: Sequence[ImageErrors], op: str) -> LayerDeviation:
    """Returns the largest figures of an op over images, each by itself."""
    deviations = [image.ops[op] for image in errors]
    shown = [deviation.error for deviation in deviations if deviation.error is not None]
    return LayerDeviation(
        largest=max(deviation.largest for deviation in deviations),
        error=max(shown) if shown else None,
        floor=max(deviation.floor for deviation in deviations),
    )
