"""LevelDB's table format, in which TensorFlow keeps a checkpoint's index: sorted keys to values, in one file.

A table is blocks, then an index block that gives each block's last key and place, then a footer that gives the index
block's place. A block is entries, whose keys leave out what they share with the key before, then the places where an
entry does not ("restarts"); a byte for its compression and a checksum follow it. See LevelDB's doc/table_format.md and
tensorflow/core/lib/io/table_builder.cc, whose bytes `table_bytes` reproduces for tables of one block.
"""

from collections.abc import Iterator, Sequence
import struct

import google_crc32c

FOOTER_MAGIC = bytes.fromhex("57fb808b247547db")

_FOOTER_BYTES = 48
# One byte that says how the block is compressed, four of checksum.
_TRAILER_BYTES = 5
_UNCOMPRESSED = 0
# Entries from one restart to the next; TensorFlow's index blocks have one at every entry.
_RESTART_INTERVAL = 16
# TensorFlow begins a new block beyond this; the indexes that we write are far smaller.
_MAX_BLOCK_BYTES = 262144
# Keys that share nearly all with the one before could make a small table a huge one. The names of a MobileNet V2's
# checkpoint take 1.4 times the bytes of its index.
_MAX_EXPANSION = 16
_CRC_MASK_DELTA = 0xA282EAD8


class TableError(ValueError):
    """The bytes are no table, or a damaged one."""


def masked_crc32c(data: bytes) -> int:
    """Returns the checksum as LevelDB and TensorFlow store it: rotated, so that a checksum of checksums is sound."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def table_bytes(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Returns a table of one uncompressed block.

    Args:
        entries: keys and values, sorted by key, at least one.
    Raises:
        ValueError: they do not fit into one block.
    """
    data = _block(entries, _RESTART_INTERVAL)
    if len(data) > _MAX_BLOCK_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit into one block")
    table, data_handle = _appended(b"", data)
    table, meta_handle = _appended(table, _block([], _RESTART_INTERVAL))
    index = _block([(_short_successor(entries[-1][0]), data_handle)], restart_interval=1)
    table, index_handle = _appended(table, index)
    return table + (meta_handle + index_handle).ljust(_FOOTER_BYTES - len(FOOTER_MAGIC), b"\0") + FOOTER_MAGIC


def table_entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields a table's keys and values.

    Raises:
        TableError: it is no table, damaged, compressed, or made to take more time or memory than its length deserves.
    """
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or not footer.endswith(FOOTER_MAGIC):
        raise TableError("it does not end like an index")
    try:
        _, _, position = _handle(footer, 0)
        index_offset, index_size, _ = _handle(footer, position)
        block_bytes = key_bytes = 0
        last_key = None
        for _, handle in _block_entries(_read_block(table, index_offset, index_size)):
            offset, size, _ = _handle(handle, 0)
            block_bytes += size
            if block_bytes > len(table):
                raise TableError("its blocks overlap")
            for key, value in _block_entries(_read_block(table, offset, size)):
                key_bytes += len(key)
                if key_bytes > _MAX_EXPANSION * len(table):
                    raise TableError("its keys are too long")
                if last_key is not None and key <= last_key:
                    raise TableError("its keys are not in order, or one comes twice")
                last_key = key
                yield key, value
    except (IndexError, struct.error):
        raise TableError("it ends in the middle of an entry") from None


def _block(entries: Sequence[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    block, restarts, last_key = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval == 0:
            restarts.append(len(block))
        else:
            shared = _shared_prefix(last_key, key)
        block += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last_key = key
    restarts = restarts or [0]
    return bytes(block) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _appended(table: bytes, block: bytes) -> tuple[bytes, bytes]:
    """Returns the table with a block and its trailer at the end, and the block's handle."""
    checked = block + bytes([_UNCOMPRESSED])
    handle = varint(len(table)) + varint(len(block))
    return table + checked + struct.pack("<I", masked_crc32c(checked)), handle


def _read_block(table: bytes, offset: int, size: int) -> bytes:
    checked = table[offset : offset + size + 1]
    trailer = table[offset + size : offset + size + _TRAILER_BYTES]
    if len(trailer) < _TRAILER_BYTES:
        raise TableError("it points beyond its end")
    if trailer[0] != _UNCOMPRESSED:
        raise TableError("it is compressed")
    if struct.unpack("<I", trailer[1:])[0] != masked_crc32c(checked):
        raise TableError("a checksum is wrong")
    return table[offset : offset + size]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise TableError("a block's length is wrong")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        value_start = position + unshared
        if shared > len(key) or value_start + length > end:
            raise TableError("an entry's length is wrong")
        key = key[:shared] + block[position:value_start]
        position = value_start + length
        yield key, block[value_start:position]


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Returns a block's offset and size, and the position after them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


def varint(number: int) -> bytes:
    """Returns a number of 0 or more in groups of seven bits, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns the number that stands at a position, and the position after it.

    Raises:
        IndexError: the bytes end before it does.
        TableError: it has more than 64 bits.
    """
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position
        if shift > 63:
            raise TableError("a number is too long")


def _shared_prefix(one: bytes, other: bytes) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return length


def _short_successor(key: bytes) -> bytes:
    """Returns a short key that is not before this one; TensorFlow names a table's last block by it."""
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes([byte + 1])
    return key
