"""Made-up values for a network: deterministic, and conditioned so that activations neither die nor explode.

They stand in for trained values in demonstrations and tests. Each variable's values depend on the seed and on its name
alone, through NumPy's frozen legacy generator: the same on every machine, and for every network that has the variable.
"""

from collections.abc import Iterable
import zlib

import numpy as np

from hubexport.arrays import Array
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.networks.ops import Variable

# Keeps the streams of neighbouring seeds apart; any prime would do.
_SEED_STRIDE = 7919
# A network may add up so many residual branches, each as large as it comes. More of them get smaller together, so that
# their sum does not grow with the network's depth.
_BRANCHES_OF_FULL_SIZE = 10


class SyntheticValues(StoredValues):
    """Made-up values of variables, each computed when it is read."""

    def __init__(self, variables: Iterable[Variable], seed: int) -> None:
        self._variables = {variable.name: variable for variable in variables}
        self._seed = seed
        self.shapes = {name: variable.shape for name, variable in self._variables.items()}

    def dtype(self, name: str) -> str:
        return "float32"

    def stored_bytes(self, name: str) -> bytes:
        return synthetic_value(self._variables[name], self._seed).astype("<f4").tobytes()


def synthetic_value(variable: Variable, seed: int) -> Array:
    """Makes up one variable's values, float32 of its shape.

    Scales and variances spread around 1, offsets and means around 0. Weights are normal with variance 1.4 / fan-in,
    between the 1 that suits linear layers and the 2 that suits rectified ones. What ends a residual branch is smaller
    in a network with many of them.
    """
    generator = np.random.RandomState((zlib.crc32(variable.name.encode()) + _SEED_STRIDE * seed) % 2**32)
    kind = variable.name.rpartition("/")[2]
    if kind == "gamma":
        value = generator.uniform(0.7, 1.3, variable.shape)
    elif kind == "moving_variance":
        value = generator.uniform(0.6, 1.4, variable.shape)
    elif kind in ("beta", "moving_mean", "biases"):
        value = generator.normal(0, 0.2, variable.shape)
    else:
        height, width, inputs, _ = variable.shape
        fan_in = height * width * (1 if kind == "depthwise_weights" else inputs)
        value = generator.normal(0, np.sqrt(1.4 / fan_in), variable.shape)
    if variable.branches > _BRANCHES_OF_FULL_SIZE:
        value = value * np.sqrt(_BRANCHES_OF_FULL_SIZE / variable.branches)
    return np.asarray(value, np.float32)
