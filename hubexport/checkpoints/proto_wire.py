"""How protocol buffers are stored: just enough to read large ones without a copy of every part, and NumPy's way.

Numbers of variable length are groups of seven bits, the lowest first; the last group's top bit is 0. LevelDB has the
same.
"""

import numpy as np
import numpy.typing as npt

from hubexport.checkpoints.stored_values import DamageError

_MOST_NUMBER_BYTES = 10
_NUMBER, _BYTES = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}
# Of messages that have each field once.
_MOST_FIELDS = 100


def varint(number: int) -> bytes:
    """Returns a number of 0 or more as it is stored."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Returns the number that stands at a position, and the position after it.

    Raises:
        DamageError: the bytes end before it does, or it has more than ten.
    """
    number = 0
    for length, byte in enumerate(data[position : position + _MOST_NUMBER_BYTES]):
        number |= (byte & 0x7F) << 7 * length
        if byte < 0x80:
            return number, position + length + 1
    raise DamageError("a number has no end")


def read_varints(data: bytes) -> npt.NDArray[np.int64]:
    """Returns all numbers, those of more than 63 bits as negative ones.

    Raises:
        DamageError: the last one does not end, or one has more than ten bytes.
    """
    groups = np.frombuffer(data, np.uint8)
    if not groups.size or groups.max() < 0x80:
        return groups.astype(np.int64)
    ends = np.flatnonzero(groups < 0x80) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(starts)
    if starts[-1] < groups.size or lengths.max() > _MOST_NUMBER_BYTES:
        raise DamageError("a number has no end")
    values = np.zeros(len(ends), np.uint64)
    for index in range(lengths.max()):
        longer = lengths > index
        bits = groups[starts[:-1][longer] + index] & 0x7F
        values[longer] |= bits.astype(np.uint64) << np.uint64(7 * index)
    return values.view(np.int64)


def bytes_fields(message: memoryview, number: int) -> list[memoryview]:
    """Returns what a message has in a field of bytes, of messages or of packed numbers.

    Args:
        message: the bytes of the message.
        number: the field's.
    Raises:
        DamageError: it is no message, or has very many fields.
    """
    found: list[memoryview] = []
    position = 0
    for _ in range(_MOST_FIELDS):
        if position == len(message):
            return found
        tag, position = read_varint(message, position)
        start, kind = position, tag & 7
        if kind == _NUMBER:
            _, position = read_varint(message, position)
        elif kind == _BYTES:
            length, start = read_varint(message, position)
            position = start + length
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            raise DamageError("an entry cannot be decoded")
        if position > len(message):
            raise DamageError("an entry cannot be decoded")
        if tag == number << 3 | _BYTES:
            found.append(message[start:position])
    raise DamageError("an entry has too many fields")
