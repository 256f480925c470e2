"""The interface that every reader of trained values offers, and parts that the readers share."""

import abc
from collections.abc import Iterable, Iterator, Mapping
import functools
import itertools
from typing import Any, TypeVar

import numpy.typing as npt

from hubexport.arrays import CHUNK_BYTES
from hubexport.checkpoints.dtypes import bits_dtype, decode_numbers, holds_numbers
from hubexport.errors import printable
from hubexport.networks.ops import Shape
from hubexport.system.damage import DamageError

_Value = TypeVar("_Value")

# NumPy's arrays can have no more.
_MAX_DIMENSIONS = 32
_MAX_ELEMENTS = 1 << 58


class StoredValues(abc.ABC):
    """Stored values by name.

    Attributes:
        shapes: the shapes of all stored values, by name.
        copies: the names of values that are stored a second time, under the name of their variable.
    """

    shapes: Mapping[str, Shape]
    copies: frozenset[str] = frozenset()

    @abc.abstractmethod
    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""

    @abc.abstractmethod
    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        """Reads one value of any dtype as bytes that are equal for equal values, in whatever container.

        Nothing is read before the first chunk is asked for. Damage may show only at the end: whoever uses a chunk must
        not publish the result before the last one has come.

        Returns:
            The bytes of the elements, each chunk of `CHUNK_BYTES`, the last one of up to as many; for strings a single
            chunk with their lengths, then the strings. None if the bytes are not available.
        Raises:
            DamageError: the value is damaged; also while chunks are read.
            OSError: its file cannot be read; also while chunks are read.
        """

    def chunks(self, name: str) -> Iterator[npt.NDArray[Any]]:
        """Reads one numeric value as flat arrays, in the dtype that `hubexport.checkpoints.dtypes` gives it.

        Values of the same shape and dtype have chunks of the same lengths, whatever stores them. None is larger than
        `CHUNK_BYTES`.

        Raises:
            DamageError: the value is damaged or not numeric. Damage may show only at the end.
            OSError: its file cannot be read.
        """
        dtype = self._checked_dtype(name)
        step = CHUNK_BYTES // _expansion(dtype)
        for chunk in self._available_chunks(name):
            for start in range(0, len(chunk), step):
                yield decode_numbers(dtype, chunk[start : start + step])

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one numeric value, in the dtype that `hubexport.checkpoints.dtypes.decode_numbers` gives it.

        Raises:
            DamageError: the value is damaged or not numeric.
            OSError: its file cannot be read.
        """
        dtype = self._checked_dtype(name)
        return decode_numbers(dtype, b"".join(self._available_chunks(name))).reshape(self.shapes[name])

    def _checked_dtype(self, name: str) -> str:
        if not holds_numbers(dtype := self.dtype(name)):
            raise DamageError(f"{name}: values of type {dtype} cannot be read as numbers")
        return dtype

    def _available_chunks(self, name: str) -> Iterator[bytes]:
        chunks = self.stored_chunks(name)
        assert chunks is not None, "the bytes of numbers are always available"
        return chunks


def equal_chunks(chunks: Iterable[bytes], others: Iterable[bytes]) -> bool:
    """Tells whether two values are equal. It reads both to their end, where damage may show."""
    equal = True
    for chunk, other in itertools.zip_longest(chunks, others):
        equal = equal and chunk == other
    return equal


def in_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Cuts and joins consecutive bytes to chunks of `CHUNK_BYTES`; the last one may be smaller."""
    waiting = bytearray()
    for part in parts:
        if not waiting and len(part) == CHUNK_BYTES:
            yield part
            continue
        waiting += part
        while len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting[:CHUNK_BYTES])
            del waiting[:CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


@functools.cache
def _expansion(dtype: str) -> int:
    """Returns how many times as many bytes an element takes once it is decoded."""
    bits = bits_dtype(dtype)
    assert bits is not None, "numbers have bits"
    return decode_numbers(dtype, b"").dtype.itemsize // bits.itemsize


def checked_shape(lengths: Iterable[int]) -> Shape:
    """Returns a shape that a file claims.

    Raises:
        DamageError: no array can have this shape.
    """
    count, shape = 1, tuple(lengths)
    for length in shape:
        count *= max(length, 1)
        if length < 0 or count > _MAX_ELEMENTS or len(shape) > _MAX_DIMENSIONS:
            raise DamageError("it has an impossible shape")
    return shape


class Renamed(StoredValues):
    """Stored values under other names.

    Args:
        stored: the values.
        names: the name of each value in `stored`, by its new name.
    """

    def __init__(self, stored: StoredValues, names: Mapping[str, str]) -> None:
        self._stored = stored
        self._names = names
        self.shapes = {name: stored.shapes[old] for name, old in names.items()}
        self.copies = frozenset(name for name, old in names.items() if old in stored.copies)

    def dtype(self, name: str) -> str:
        return self._stored.dtype(self._names[name])

    def chunks(self, name: str) -> Iterator[npt.NDArray[Any]]:
        return self._stored.chunks(self._names[name])

    def read(self, name: str) -> npt.NDArray[Any]:
        return self._stored.read(self._names[name])

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        return self._stored.stored_chunks(self._names[name])


class Joined(StoredValues):
    """The values of several sources; where they share a name, those of the last one."""

    def __init__(self, *sources: StoredValues) -> None:
        self._source_of = {name: source for source in sources for name in source.shapes}
        self.shapes = {name: source.shapes[name] for name, source in self._source_of.items()}

    def dtype(self, name: str) -> str:
        return self._source_of[name].dtype(name)

    def chunks(self, name: str) -> Iterator[npt.NDArray[Any]]:
        return self._source_of[name].chunks(name)

    def read(self, name: str) -> npt.NDArray[Any]:
        return self._source_of[name].read(name)

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        return self._source_of[name].stored_chunks(name)


def unique_dict(pairs: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """Returns values by name.

    Raises:
        DamageError: two values have the same name.
    """
    values: dict[str, _Value] = {}
    for name, value in pairs:
        if name in values:
            raise DamageError(f"the name '{printable(name)}' is there twice")
        values[name] = value
    return values
