"""Made-up values for a network: deterministic, and conditioned so that activations neither die nor explode.

They stand in for trained values in demonstrations and tests. Each variable's values depend on the seed and on its name
alone, through NumPy's frozen legacy generator: the same on every machine, and for every network that has the variable.
"""

from collections.abc import Iterable, Iterator
import functools
import math
import zlib

import numpy as np

from hubexport.arrays import CHUNK_BYTES, Array
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.networks.ops import Variable

# Keeps the streams of neighbouring seeds apart; any prime would do.
_SEED_STRIDE = 7919


class SyntheticValues(StoredValues):
    """Made-up values of variables, each computed when it is read."""

    def __init__(self, variables: Iterable[Variable], seed: int) -> None:
        self._variables = {variable.name: variable for variable in variables}
        self._seed = seed
        self.shapes = {name: variable.shape for name, variable in self._variables.items()}

    def dtype(self, name: str) -> str:
        return "float32"

    def stored_chunks(self, name: str) -> Iterator[bytes]:
        chunks = _synthetic_chunks(self._variables[name], self._seed)
        return (chunk.astype("<f4", copy=False).tobytes() for chunk in chunks)


def synthetic_value(variable: Variable, seed: int) -> Array:
    """Makes up one variable's values, float32 of its shape.

    Scales and variances spread around 1, offsets and means around 0. Weights are normal with variance 1.4 / fan-in,
    between the 1 that suits linear layers and the 2 that suits rectified ones. All are multiplied with the variable's
    gain, which is 1 unless its place in the network asks for larger or smaller values.
    """
    return np.concatenate([*_synthetic_chunks(variable, seed)]).reshape(variable.shape)


def _synthetic_chunks(variable: Variable, seed: int) -> Iterator[Array]:
    """Makes the values up one after another: the generator gives the same ones, however many it gives at a time."""
    generator = np.random.RandomState((zlib.crc32(variable.name.encode()) + _SEED_STRIDE * seed) % 2**32)
    kind = variable.name.rpartition("/")[2]
    if kind == "gamma":
        draw = functools.partial(generator.uniform, 0.7, 1.3)
    elif kind == "moving_variance":
        draw = functools.partial(generator.uniform, 0.6, 1.4)
    elif kind in ("beta", "moving_mean", "biases"):
        draw = functools.partial(generator.normal, 0, 0.2)
    else:
        fan_in = math.prod(variable.shape[:2] if kind == "depthwise_weights" else variable.shape[:-1])
        draw = functools.partial(generator.normal, 0, np.sqrt(1.4 / fan_in))
    step = CHUNK_BYTES // np.dtype(np.float32).itemsize
    for start in range(0, variable.size, step):
        # It gives numbers of twice the size.
        numbers = draw(min(step, variable.size - start))
        yield np.asarray(numbers * variable.gain, np.float32)
