"""Writes the weights of TF.js models, as they are or quantized, in files of the size that browsers cache."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import math
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hubexport.deployments.half_floats import halves

SHARD_BYTES = 4 << 20

_Numbers: TypeAlias = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Weight:
    """A constant of a graph, whose values are in the files of weights.

    Attributes:
        name: of its node.
        shape: its lengths.
        dtype: what the graph gets: float32 or int32.
        stored: what the file has: the same, or float16, uint16 or uint8 in place of float32.
        read: returns the values, of `dtype`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    read: Callable[[], _Numbers]

    @property
    def nbytes(self) -> int:
        """The size of the stored values."""
        return math.prod(self.shape) * self.stored.itemsize


def write_weights(folder: Path, weights: Sequence[Weight]) -> list[dict[str, Any]]:
    """Writes the files, one value after another, and returns the manifest. One value is in memory at a time.

    Raises:
        OSError: a file cannot be written.
        UsageError: a value is too large for how it is to be stored.
    """
    entries: list[dict[str, Any]] = []

    def contents() -> Iterator[bytes]:
        for weight in weights:
            entry: dict[str, Any] = {
                "name": weight.name,
                "shape": list(weight.shape),
                "dtype": weight.dtype.name,
            }
            values = weight.read()
            if weight.stored != weight.dtype:
                values, how = quantized(weight.name, values, weight.stored)
                entry["quantization"] = {"dtype": weight.stored.name, **how, "original_dtype": weight.dtype.name}
            entries.append(entry)
            yield values.astype(values.dtype.newbyteorder("<"), order="C", copy=False).tobytes()

    paths = _write_shards(folder, sum(weight.nbytes for weight in weights), contents())
    return [{"paths": paths, "weights": entries}]


def quantized(name: str, values: _Numbers, stored: np.dtype[Any]) -> tuple[_Numbers, dict[str, float]]:
    """Returns float32 values as another dtype has them, and how to get them back.

    Zero stays zero. Integers stand for `integer * scale + min`.

    Args:
        name: what errors call them.
        values: float32, all finite.
        stored: float16, uint16 or uint8.
    Returns:
        The stored values; `min` and `scale` for integers.
    Raises:
        UsageError: a value is too large for float16.
    """
    if stored == np.float16:
        return halves(name, values, "uint16"), {}
    lowest, highest = min(0.0, float(values.min())), max(0.0, float(values.max()))
    most = int(np.iinfo(stored).max)
    scale = (highest - lowest) / most or 1.0
    zero = round(-lowest / scale)
    integers = np.rint(values.astype(np.float64) / scale) + zero
    return integers.clip(0, most).astype(stored), {"min": -zero * scale, "scale": scale}


def _write_shards(folder: Path, size: int, contents: Iterable[bytes]) -> list[str]:
    count = -(-size // SHARD_BYTES)
    names = [f"group1-shard{number}of{count}.bin" for number in range(1, count + 1)]
    unwritten = iter(names)
    rest = bytearray()
    for content in contents:
        rest += content
        while len(rest) >= SHARD_BYTES:
            (folder / next(unwritten)).write_bytes(rest[:SHARD_BYTES])
            del rest[:SHARD_BYTES]
    if rest:
        (folder / next(unwritten)).write_bytes(rest)
    return names
