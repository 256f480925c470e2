"""Reads flatbuffers that may be damaged or hostile: every place is checked, and nothing is read twice without end.

The flatbuffers package for Python follows whatever places it finds. A table here is a place in a file, and its fields
are numbers, texts, vectors and other tables, by the numbers of their slots in the schema.
"""

from collections.abc import Iterator
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes

# The tables of the largest networks are far fewer. A file could say of each of its bytes that it is a table.
_MOST_TABLES = 100_000
# Of all vectors and texts but the values of tensors: many tables could name the same large one.
_MOST_BYTES = 1 << 25
_PLACE = struct.Struct("<I")


class Flatbuffer:
    """A flatbuffer.

    Args:
        data: the file; it may go on after the flatbuffer.
        identifier: the four letters that tell its format.
    Raises:
        DamageError: it has not these letters.
    """

    def __init__(self, data: Bytes, identifier: bytes) -> None:
        self._data = data
        self._tables = self._bytes = 0
        if data[4:8] != identifier:
            raise DamageError(f"it does not say that it is {identifier.decode()}")

    @property
    def root(self) -> "FlatTable":
        """Its outermost table."""
        return self.table(self.place(0))

    def table(self, place: int) -> "FlatTable":
        """Returns the table at a place."""
        self._tables += 1
        if self._tables > _MOST_TABLES:
            raise DamageError(f"it has more than {_MOST_TABLES:,} tables")
        return FlatTable(self, place)

    def place(self, position: int) -> int:
        """Returns the place that the number at a position points to."""
        [distance] = _PLACE.unpack(self.read(position, 4))
        if not distance:
            raise DamageError("a place points to itself")
        return position + int(distance)

    def read(self, start: int, size: int) -> bytes:
        """Returns bytes, all of which must be there."""
        if start < 0 or start + size > len(self._data):
            raise DamageError("it points outside of itself")
        return self._data[start : start + size]

    def content(self, place: int, size: int) -> bytes:
        """Returns what is in a vector; `size` is that of one item, in bytes."""
        start, count = self.vector(place, size)
        self._bytes += count * size
        if self._bytes > _MOST_BYTES:
            raise DamageError(f"its texts and lists have more than {_MOST_BYTES:,} bytes")
        return self.read(start, count * size)

    def vector(self, place: int, size: int) -> tuple[int, int]:
        """Returns where the items of a vector begin, and how many there are; `size` is that of one, in bytes."""
        [count] = _PLACE.unpack(self.read(place, 4))
        if place + 4 + count * size > len(self._data):
            raise DamageError("it points outside of itself")
        return place + 4, int(count)


class FlatTable:
    """A table in a flatbuffer. Fields that are not there have the default that is asked for.

    Args:
        buffer: the flatbuffer.
        place: where the table begins.
    Raises:
        DamageError: here and in all methods: what is read is not in the file, or is not what it should be.
    """

    def __init__(self, buffer: Flatbuffer, place: int) -> None:
        self._buffer = buffer
        self._place = place
        [distance] = struct.unpack("<i", buffer.read(place, 4))
        self._slots = place - distance
        [size] = struct.unpack("<H", buffer.read(self._slots, 2))
        self._count = max(0, size // 2 - 2)

    def number(self, slot: int, dtype: str, default: int = 0) -> int:
        """Returns an integer.

        Args:
            slot: of the field.
            dtype: in NumPy's words, like `int8`.
            default: the value of a field that is not there.
        """
        position = self._position(slot)
        if position is None:
            return default
        kind = np.dtype(dtype).newbyteorder("<")
        return int(np.frombuffer(self._buffer.read(position, kind.itemsize), kind)[0])

    def text(self, slot: int) -> str | None:
        """Returns a text."""
        if (place := self._pointed(slot)) is None:
            return None
        return self._buffer.content(place, 1).decode(errors="replace")

    def numbers(self, slot: int, dtype: str) -> npt.NDArray[Any]:
        """Returns a vector of numbers."""
        if (place := self._pointed(slot)) is None:
            return np.zeros(0, dtype)
        kind = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(self._buffer.content(place, kind.itemsize), kind)

    def part(self, slot: int) -> tuple[int, int]:
        """Returns where a vector of bytes begins in the file, and how many there are."""
        place = self._pointed(slot)
        return (0, 0) if place is None else self._buffer.vector(place, 1)

    def table(self, slot: int) -> "FlatTable | None":
        """Returns a table."""
        place = self._pointed(slot)
        return None if place is None else self._buffer.table(place)

    def tables(self, slot: int) -> "Iterator[FlatTable]":
        """Yields the tables of a vector."""
        if (place := self._pointed(slot)) is None:
            return
        start, count = self._buffer.vector(place, 4)
        for position in range(start, start + 4 * count, 4):
            yield self._buffer.table(self._buffer.place(position))

    def _position(self, slot: int) -> int | None:
        if slot >= self._count:
            return None
        [distance] = struct.unpack("<H", self._buffer.read(self._slots + 4 + 2 * slot, 2))
        return self._place + distance if distance else None

    def _pointed(self, slot: int) -> int | None:
        position = self._position(slot)
        return None if position is None else self._buffer.place(position)
