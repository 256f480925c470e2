"""LevelDB's table format, sorted keys to values: TensorFlow's V1 checkpoints, and the indexes of V2 checkpoints.

A table is blocks, then an index block that gives each block's last key and place, then a footer that gives the index
block's place. A block is entries, whose keys leave out what they share with the key before, then the places where an
entry does not ("restarts"); a byte for its compression and a checksum follow it. See LevelDB's doc/table_format.md and
tensorflow/core/lib/io/table_builder.cc, whose bytes `table_bytes` reproduces for tables of one block.
"""

import bisect
from collections.abc import Iterator, Sequence
import os
import struct
from typing import BinaryIO

from hubexport.checkpoints.proto_wire import read_varint, varint
from hubexport.checkpoints.snappy import unpacked
from hubexport.checkpoints.stored_values import DamageError
from hubexport.system.crc32c import masked_crc32c

FOOTER_MAGIC = bytes.fromhex("57fb808b247547db")

_FOOTER_BYTES = 48
# One byte that says how the block is compressed, four of checksum.
_TRAILER_BYTES = 5
_UNCOMPRESSED, _SNAPPY = 0, 1
# Entries from one restart to the next; TensorFlow's index blocks have one at every entry.
_RESTART_INTERVAL = 16
# TensorFlow begins a new block beyond this; the indexes that we write are far smaller.
_MAX_BLOCK_BYTES = 262144
# Only a block's last entry goes beyond that, and the others take more than a byte.
_MAX_BLOCK_ENTRIES = _MAX_BLOCK_BYTES
# A table of 16 GB has an index of 4 MB.
_MAX_INDEX_BYTES = 16 << 20
# Keys that share nearly all with the one before could make a small block a huge one. The names of a MobileNet V2's
# checkpoint take 1.4 times the bytes of its index.
_MAX_EXPANSION = 16


class LeveldbTable:
    """A table in a file, of which one block at a time is in memory.

    Args:
        file: open for reading for as long as the table is used.
    Raises:
        DamageError: it is no table, or its index is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        end = file.seek(0, os.SEEK_END)
        footer = self._read(max(0, end - _FOOTER_BYTES), _FOOTER_BYTES)
        if not footer.endswith(FOOTER_MAGIC):
            raise DamageError("it does not end like a table")
        *_, position = _handle(footer, 0)
        offset, size, _ = _handle(footer, position)
        if size > _MAX_INDEX_BYTES:
            raise DamageError("its index is too large")
        index = self._block(offset, size)
        self._last_keys: list[bytes] = []
        self._handles: list[tuple[int, int]] = []
        end_of_last = 0
        for key, start, stop in _block_entries(index):
            offset, size, _ = _handle(index[start:stop], 0)
            if offset < end_of_last:
                raise DamageError("its blocks overlap")
            end_of_last = offset + size
            self._last_keys.append(key)
            self._handles.append((offset, size))
        self._cached: tuple[int, bytes, dict[bytes, tuple[int, int]]] = (-1, b"", {})

    def entries(self, max_bytes: int) -> Iterator[tuple[bytes, bytes]]:
        """Yields all keys, sorted, and their values.

        Raises:
            DamageError: a block is damaged, or they take more than `max_bytes`.
            OSError: the file cannot be read.
        """
        last_key = None
        for number in range(len(self._handles)):
            block, places = self._entries_of(number)
            max_bytes -= len(block)
            if max_bytes < 0:
                raise DamageError("its entries take too many bytes")
            for key, (start, stop) in places.items():
                if last_key is not None and key <= last_key:
                    raise DamageError("its keys are not in order")
                last_key = key
                yield key, block[start:stop]

    def find(self, key: bytes) -> bytes | None:
        """Returns the value of a key, or None if it is not there.

        Raises:
            DamageError: the block where it should be is damaged.
            OSError: the file cannot be read.
        """
        number = bisect.bisect_left(self._last_keys, key)
        if number == len(self._handles):
            return None
        block, places = self._entries_of(number)
        place = places.get(key)
        return block[slice(*place)] if place else None

    def _entries_of(self, number: int) -> tuple[bytes, dict[bytes, tuple[int, int]]]:
        # Values that are read in order are often in the same block.
        if self._cached[0] != number:
            self._cached = (-1, b"", {})
            block = self._block(*self._handles[number])
            self._cached = number, block, {key: (start, stop) for key, start, stop in _block_entries(block)}
        return self._cached[1:]

    def _block(self, offset: int, size: int) -> bytes:
        block, trailer = self._read(offset, size), self._read(offset + size, _TRAILER_BYTES)
        if struct.unpack("<I", trailer[1:])[0] != masked_crc32c(block, trailer[:1]):
            raise DamageError("a checksum is wrong")
        if trailer[0] not in (_UNCOMPRESSED, _SNAPPY):
            raise DamageError(f"a block is compressed in an unknown way ({trailer[0]})")
        return unpacked(block) if trailer[0] == _SNAPPY else block

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._file.seek(0, os.SEEK_END):
            raise DamageError("it points beyond its end")
        self._file.seek(offset)
        return self._file.read(size)


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


def _block_entries(block: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the keys of a block, in order, and where their values begin and end."""
    if len(block) < 4:
        raise DamageError("a block's length is wrong")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise DamageError("a block's length is wrong")
    position = count = key_bytes = 0
    key = b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        length, position = read_varint(block, position)
        start = position + unshared
        if shared > len(key) or start + length > end:
            raise DamageError("an entry's length is wrong")
        last_key, key = key, key[:shared] + block[position:start]
        if count and key <= last_key:
            raise DamageError("its keys are not in order")
        count += 1
        key_bytes += len(key)
        if count > _MAX_BLOCK_ENTRIES or key_bytes > _MAX_EXPANSION * len(block):
            raise DamageError("its keys are too long or too many")
        position = start + length
        yield key, start, position


def _handle(data: bytes, position: int) -> tuple[int, int, int]:
    """Returns a block's offset and size, and the position after them."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return offset, size, position


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
