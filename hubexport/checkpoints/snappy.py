"""Unpacks Snappy's block format, which google/snappy describes in format_description.txt."""

from collections.abc import Iterator

from hubexport.arrays import CHUNK_BYTES
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes, read_varint

# The best an element can do: 64 bytes out of 3.
_MAX_OUT, _MIN_IN = 64, 3
_LITERAL, _SHORT_COPY = 0, 1
_MAX_PLAIN_LITERAL = 60
_OFFSET_BYTES = {2: 2, 3: 4}


def unpack_snappy(packed: bytes) -> bytes:
    """Unpacks a block; see `unpacked_parts`."""
    return b"".join(unpacked_parts(packed))


def unpacked_parts(packed: Bytes) -> Iterator[bytes]:
    """Yields an unpacked block in parts.

    Only the end of what was unpacked stays in memory for copies to repeat. Snappy's own packer reaches back 64 KiB at
    most.

    Raises:
        DamageError: the block is damaged, or a copy reaches further back. By then no more is unpacked than a sound
            block of its size could need.
    """
    length, position = read_varint(packed, 0)
    if length * _MIN_IN > len(packed) * _MAX_OUT:
        raise DamageError("a block unpacks to too much")
    block, finished, literal_end = bytearray(), 0, 0
    while position < len(packed) and finished + len(block) <= length:
        if len(block) > 2 * CHUNK_BYTES:
            done = len(block) - CHUNK_BYTES
            yield bytes(block[:done])
            del block[:done]
            finished += done
        if position < literal_end:  # A literal may be the whole block.
            stop = min(literal_end, position + CHUNK_BYTES)
            block += packed[position:stop]
            position = stop
            continue
        [tag] = packed[position : position + 1]
        size, kind = (tag >> 2) + 1, tag & 3
        position += 1
        if kind == _LITERAL:
            if (width := size - _MAX_PLAIN_LITERAL) > 0:
                size = int.from_bytes(packed[position : position + width], "little") + 1
                position += width
            literal_end = position + size
            if literal_end > len(packed):
                raise DamageError("a block cannot be unpacked")
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
    if position != len(packed) or finished + len(block) != length:
        raise DamageError("a block cannot be unpacked")
    yield bytes(block)
