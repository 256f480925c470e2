"""The wire format of protocol buffers: just enough to read large messages without copying every part, with NumPy.

A varint is a number in groups of seven bits, the lowest first; only in its last byte is the top bit 0. LevelDB uses the
same encoding. See https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from hubexport.system.damage import DamageError

_MAX_VARINT_BYTES = 10
# Wire types; those of fixed length with their bytes.
_VARINT, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
# Most messages read here have each field once.
_MAX_FIELDS = 100


def encode_varint(number: int) -> bytes:
    """Encodes a non-negative number."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


class Bytes(Protocol):
    """Bytes that need not be in memory: only the slices that are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


class PartOfFile:
    """Bytes in a file, of which only the slices that are asked for are read.

    Args:
        file: the file, open for reading for as long as slices are.
        offset: where the bytes begin.
        size: how many there are.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: slice) -> bytes:
        start, stop, _ = place.indices(self._size)
        self._file.seek(self._offset + start)
        data = self._file.read(max(0, stop - start))
        if len(data) < stop - start:
            raise DamageError("it became shorter while it was read")
        return data


def read_varint(data: Bytes, position: int) -> tuple[int, int]:
    """Returns the number at a position, and the position after it.

    Raises:
        DamageError: the number does not end within the data, or has more than ten bytes.
    """
    number = 0
    for length, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * length
        if byte < 0x80:
            return number, position + length + 1
    raise DamageError("a number has no end")


def read_varints(parts: Iterable[bytes]) -> Iterator[npt.NDArray[np.int64]]:
    """Yields all numbers, an array for each part; those that need a 64th bit become negative.

    Decoding a part at once with NumPy takes a fraction of the time of a Python loop over millions of numbers.

    Args:
        parts: the bytes of the numbers; a number may begin in one part and end in the next.
    Raises:
        DamageError: the last number does not end, or a number has more than ten bytes.
    """
    rest = b""
    for part in parts:
        data = rest + part
        # A number that does not end within this part has its last bytes here.
        end = next(
            (end for end in range(len(data), max(len(data) - _MAX_VARINT_BYTES, 0), -1) if data[end - 1] < 0x80), 0
        )
        rest = data[end:]
        if len(rest) >= _MAX_VARINT_BYTES:
            raise DamageError("a number has no end")
        if end:
            yield _decode_varints(np.frombuffer(data[:end], np.uint8))
    if rest:
        raise DamageError("a number has no end")


def _decode_varints(groups: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    if groups.max() < 0x80:
        return groups.astype(np.int64)
    ends = np.flatnonzero(groups < 0x80) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(starts)
    if lengths.max() > _MAX_VARINT_BYTES:
        raise DamageError("a number has no end")
    values = np.zeros(len(ends), np.uint64)
    for index in range(lengths.max()):
        longer = lengths > index
        bits = groups[starts[:-1][longer] + index] & 0x7F
        values[longer] |= bits.astype(np.uint64) << np.uint64(7 * index)
    return values.view(np.int64)


def fields(message: Bytes, within: range, max_fields: int = _MAX_FIELDS) -> Iterator[tuple[int, int | range | bytes]]:
    """Yields the number and the content of each of a message's fields, in order.

    The content of a varint is its number, and that of bytes, submessages and packed numbers their place. Numbers of
    fixed length are the 4 or 8 bytes themselves.

    Args:
        message: bytes that contain the message.
        within: the message's place among them.
        max_fields: how many fields of any kind the message may have.
    Raises:
        DamageError: the bytes are not a message, or it has more fields.
    """
    position = within.start
    for _ in range(max_fields + 1):
        if position == within.stop:
            return
        tag, position = read_varint(message, position)
        content: int | range | bytes
        kind = tag & 7
        if kind == _VARINT:
            content, position = read_varint(message, position)
        elif kind == _BYTES:
            length, start = read_varint(message, position)
            position = start + length
            content = range(start, position)
        elif kind in _FIXED_BYTES:
            start, position = position, position + _FIXED_BYTES[kind]
            content = message[start:position]
        else:
            raise DamageError("an entry cannot be decoded")
        if position > within.stop:
            raise DamageError("an entry cannot be decoded")
        yield tag >> 3, content
    raise DamageError("an entry has too many fields")


def bytes_fields(message: Bytes, within: range, number: int, max_fields: int = _MAX_FIELDS) -> list[range]:
    """Returns the places of a message's fields of bytes, submessages or packed numbers that have a number.

    For arguments and errors see `fields`.
    """
    found = fields(message, within, max_fields)
    return [content for field, content in found if field == number and isinstance(content, range)]
