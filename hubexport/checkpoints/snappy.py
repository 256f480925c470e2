"""Unpacks Snappy's block format, which google/snappy describes in format_description.txt."""

from hubexport.checkpoints.proto_wire import read_varint
from hubexport.checkpoints.stored_values import DamageError

# The best an element can do: 64 bytes out of 3.
_MAX_OUT, _MIN_IN = 64, 3
_LITERAL, _SHORT_COPY = 0, 1
_MAX_PLAIN_LITERAL = 60
_OFFSET_BYTES = {2: 2, 3: 4}


def unpack_snappy(packed: bytes) -> bytes:
    """Unpacks a block.

    Raises:
        DamageError: the block is damaged. By then no more memory is used than a sound block of its size could need.
    """
    length, position = read_varint(packed, 0)
    if length * _MIN_IN > len(packed) * _MAX_OUT:
        raise DamageError("a block unpacks to too much")
    block = bytearray()
    while position < len(packed) and len(block) <= length:
        tag = packed[position]
        size, kind = (tag >> 2) + 1, tag & 3
        position += 1
        if kind == _LITERAL:
            if (width := size - _MAX_PLAIN_LITERAL) > 0:
                size = int.from_bytes(packed[position : position + width], "little") + 1
                position += width
            block += packed[position : position + size]
            position += size
            continue
        if kind == _SHORT_COPY:
            size, high, width = 4 + (tag >> 2 & 7), tag >> 5, 1
        else:
            high, width = 0, _OFFSET_BYTES[kind]
        offset = high << 8 | int.from_bytes(packed[position : position + width], "little")
        position += width
        if not 0 < offset <= len(block):
            raise DamageError("a block cannot be unpacked")
        start = len(block) - offset
        repeated = block[start : start + size]
        # A copy may overlap its own result: then the bytes repeat.
        block += repeated if len(repeated) == size else (repeated * size)[:size]
    if position != len(packed) or len(block) != length:
        raise DamageError("a block cannot be unpacked")
    return bytes(block)
