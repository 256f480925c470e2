"""How far a module is from exact arithmetic, layer by layer, and how far float32 has to be.

The exact outputs are those of `numpy_forward.py` in float64. The same in float32 gives the floor: the error that plain
float32 arithmetic makes with these values on these pictures. A module computes the same sums in another order, so its
errors have the floor's size without being equal to it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.layers import Network
from hubexport.networks.numpy_forward import Floats, Forward
from hubexport.verify.sample_images import Pictures

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# A module passes with errors of up to this many floors. Over all 22 variants in both formats the default output was off
# by up to 3.9 floors, and of all endpoints the worst, softmax, by 5.2.
LIMIT_IN_FLOORS = 10
_DEFAULT = "default"
# Where NumPy happens to make no error at all, as on black pictures, the floor is that of rounding the result.
_EPSILON = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class LayerDeviation:
    """How far one layer's output for one picture is from the exact one.

    Attributes:
        largest: the largest absolute value of the exact output.
        error: the largest difference of the module's output to it; None where the module does not show the layer.
        floor: the largest difference of float32 arithmetic in NumPy to it.
    """

    largest: float
    error: float | None
    floor: float


@dataclasses.dataclass(frozen=True)
class PictureErrors:
    """All layers' errors for one picture.

    Attributes:
        picture: its name.
        layers: by the layer's name.
        exact: the exact outputs without image axes (features, logits, probabilities), float64, by the layer's name.
        output: the module's default output, float32.
    """

    picture: str
    layers: Mapping[str, LayerDeviation]
    exact: Mapping[str, Floats]
    output: Array


def measure_layers(
    module: "ImageModule", network: Network, values: Mapping[str, Array], pictures: Pictures
) -> list[PictureErrors]:
    """Runs a module on pictures, one by one, and compares all endpoints with the exact outputs.

    Args:
        module: runs in TensorFlow.
        network: what it should compute.
        values: of the network's variables, by name.
        pictures: of the network's size.
    """
    shown = {layer: name for name, layer in network.endpoints.items()}
    shown[network.logits or network.features] = _DEFAULT
    measured = []
    for name, image in zip(pictures.names, pictures.images, strict=True):
        found = module.run(image[None], [*shown.values()])
        exact = Forward(network, values, image[None]).run()
        rounded = Forward(network, values, image[None], dtype=np.float32).run()
        layers = {
            layer: _deviation(exact[layer], rounded[layer], found[shown[layer]] if layer in shown else None)
            for layer in exact
        }
        vectors = {layer: output[0] for layer, output in exact.items() if output[0].ndim == 1}
        measured.append(PictureErrors(name, layers, vectors, found[_DEFAULT][0]))
    return measured


def _deviation(exact: Floats, rounded: Floats, found: Array | None) -> LayerDeviation:
    largest = float(np.abs(exact).max())
    floor = max(layer_difference(rounded, exact), largest * _EPSILON)
    return LayerDeviation(largest, None if found is None else layer_difference(found, exact), floor)


def layer_difference(found: Floats, exact: Floats) -> float:
    """Returns the largest absolute difference; infinity if the shapes differ, or if a number is missing."""
    if found.shape != exact.shape:
        return float("inf")
    largest = float(np.abs(found - exact).max())
    return largest if np.isfinite(largest) else float("inf")


def worst_in_floors(measured: Sequence[PictureErrors], layer: str) -> tuple[float, float]:
    """Returns the largest error of a layer over pictures, and the largest floor."""
    errors = [one.layers[layer] for one in measured]
    return max(one.error or 0.0 for one in errors), max(one.floor for one in errors)
