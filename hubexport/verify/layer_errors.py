"""How far a module's layers are from exact arithmetic, and how far float32 arithmetic has to be.

`hubexport.networks.numpy_forward` computes the exact outputs in float64. The same code in float32 gives the floor: the
error that plain float32 arithmetic makes with these values on these images. A module computes the same sums in another
order, so its errors are about as large as the floor, but not equal to it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Floats, Forward
from hubexport.verify.sample_images import SampleImages

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# The largest error that passes, in floors. Over all 22 variants in both formats, the default output was off by up to
# 3.9 floors, and the worst endpoint, softmax, by 5.2.
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
        layers: each layer's deviation, by the layer's name.
        exact: float64, the exact outputs that have one axis (features, logits, probabilities), by the layer's name.
        output: float32, the module's default output.
    """

    image: str
    layers: Mapping[str, LayerDeviation]
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
        samples: images of the network's size.
    """
    output_names = {op: name for name, op in network.endpoints.items()}
    output_names[network.logits or network.features] = _DEFAULT
    errors = []
    for name, image in zip(samples.names, samples.images, strict=True):
        outputs = module.run(image[None], [*output_names.values()])
        exact = Forward(network, values, image[None]).run()
        rounded = Forward(network, values, image[None], dtype=np.float32).run()
        layers = {}
        for layer in network.layers:
            op = layer.output
            largest = float(np.abs(exact[op]).max())
            error = layer_difference(outputs[output_names[op]], exact[op]) if op in output_names else None
            floor = max(layer_difference(rounded[op], exact[op]), largest * _EPSILON)
            layers[layer.name] = LayerDeviation(largest, error, floor)
        vectors = {op: output[0] for op, output in exact.items() if output[0].ndim == 1}
        errors.append(ImageErrors(name, layers, vectors, outputs[_DEFAULT][0]))
    return errors


def layer_difference(output: Floats, exact: Floats) -> float:
    """Returns the largest absolute difference. It is infinite if the shapes differ, or if any number is not finite."""
    if output.shape != exact.shape:
        return float("inf")
    largest = float(np.abs(output - exact).max())
    return largest if np.isfinite(largest) else float("inf")


def worst_deviation(errors: Sequence[ImageErrors], layer: str) -> LayerDeviation:
    """Returns the largest figures of a layer over images, each by itself."""
    deviations = [image.layers[layer] for image in errors]
    shown = [deviation.error for deviation in deviations if deviation.error is not None]
    return LayerDeviation(
        largest=max(deviation.largest for deviation in deviations),
        error=max(shown) if shown else None,
        floor=max(deviation.floor for deviation in deviations),
    )
