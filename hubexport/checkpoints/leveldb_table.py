"""LevelDB's table format, sorted keys to values: TensorFlow's V1 checkpoints, and the indexes of V2 checkpoints.

A table consists of data blocks, then an index block with each data block's last key and place, then a footer with the
index block's place. A block consists of entries, whose keys omit the prefix that they share with the key before, then
the places of entries that omit nothing ("restarts"). Each block is followed by a byte for its compression and by a
checksum. See LevelDB's doc/table_format.md and tensorflow/core/lib/io/table_builder.cc, whose bytes `table_bytes`
reproduces for tables of one block.

The code is our own for speed: a checkpoint's index is read in hundredths of a second, while TensorFlow, the only Python
package that reads such tables, takes seconds to import.
"""

import bisect
from collections.abc import Iterator, Sequence
import os
import struct
import tempfile
from typing import BinaryIO

from hubexport.arrays import CHUNK_BYTES
from hubexport.checkpoints.snappy import unpack_snappy, unpacked_parts
from hubexport.system.crc32c import extend_crc32c, masked, masked_crc32c
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import Bytes, PartOfFile, encode_varint, read_varint
from hubexport.system.temporary import temporary_failures_reported

FOOTER_MAGIC = bytes.fromhex("57fb808b247547db")

_FOOTER_BYTES = 48
# One byte for the compression, four for the checksum.
_TRAILER_BYTES = 5
_UNCOMPRESSED, _SNAPPY = 0, 1
# Entries from one restart to the next; in TensorFlow's index blocks every entry is a restart.
_RESTART_INTERVAL = 16
# TensorFlow begins a new block beyond this size; the indexes that we write are far smaller.
_MAX_BLOCK_BYTES = 262144
# A table of 16 GB has an index of 4 MB.
_MAX_INDEX_BYTES = 16 << 20
# A small block could expand to huge keys that share nearly everything with the key before. The names in a MobileNet V2
# checkpoint take 1.4 times the bytes of its index.
_MAX_EXPANSION = 16


class LeveldbTable:
    """A table in a file; one block at a time is in memory, and of a block larger than `CHUNK_BYTES` only parts.

    Args:
        file: the file, open for reading for as long as the table is used.
    Raises:
        DamageError: the file is not a table, or its index is damaged.
        OSError: the file cannot be read.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        end = file.seek(0, os.SEEK_END)
        footer = self._read(max(0, end - _FOOTER_BYTES), _FOOTER_BYTES)
        if not footer.endswith(FOOTER_MAGIC):
            raise DamageError("it does not end like a table")
        _, _, offset, size = _varints(footer, 4)
        if size > _MAX_INDEX_BYTES:
            raise DamageError("its index is too large")
        index = self._read_block(offset, size)
        self._last_keys: list[bytes] = []
        self._handles: list[tuple[int, int]] = []
        end_of_last = 0
        for key, start, stop in _block_entries(index):
            offset, size = _varints(index[start:stop], 2)
            if offset < end_of_last:
                raise DamageError("its blocks overlap")
            end_of_last = offset + size
            self._last_keys.append(key)
            self._handles.append((offset, size))
        self._cached: tuple[int, Bytes, dict[bytes, range]] = (-1, b"", {})

    def entries(self, max_bytes: int) -> Iterator[tuple[bytes, bytes]]:
        """Yields all keys, sorted, and their values.

        Raises:
            DamageError: a block is damaged, or the blocks take more than `max_bytes`.
            OSError: the file cannot be read.
        """
        last_key = None
        for number in range(len(self._handles)):
            block, places = self._read_entries(number)
            max_bytes -= len(block)
            if max_bytes < 0:
                raise DamageError("its entries take too many bytes")
            for key, place in places.items():
                if last_key is not None and key <= last_key:
                    raise DamageError("its keys are not in order")
                last_key = key
                yield key, block[place.start : place.stop]

    def find(self, key: bytes) -> tuple[Bytes, range] | None:
        """Returns the bytes of a block and the place of a key's value among them; None if the table lacks the key.

        Raises:
            DamageError: the block where the key should be is damaged.
            OSError: the file cannot be read.
        """
        number = bisect.bisect_left(self._last_keys, key)
        if number == len(self._handles):
            return None
        block, places = self._read_entries(number)
        return (block, places[key]) if key in places else None

    def _read_entries(self, number: int) -> tuple[Bytes, dict[bytes, range]]:
        # Values are mostly read in order, many from one block.
        if self._cached[0] != number:
            self._cached = (-1, b"", {})
            block = self._read_block(*self._handles[number])
            self._cached = number, block, {key: range(start, stop) for key, start, stop in _block_entries(block)}
        return self._cached[1:]

    def _read_block(self, offset: int, size: int) -> Bytes:
        trailer = self._read(offset + size, _TRAILER_BYTES)
        if size > CHUNK_BYTES:
            return self._open_block(PartOfFile(self._file, offset, size), trailer)
        block = self._read(offset, size)
        _check_trailer(trailer, masked_crc32c(block, trailer[:1]))
        return unpack_snappy(block) if trailer[0] == _SNAPPY else block

    def _open_block(self, block: PartOfFile, trailer: bytes) -> PartOfFile:
        """Checks a large block in chunks, and unpacks it, where it must be, into a temporary file."""
        crc = 0
        for start in range(0, len(block), CHUNK_BYTES):
            crc = extend_crc32c(crc, block[start : start + CHUNK_BYTES])
        _check_trailer(trailer, masked(extend_crc32c(crc, trailer[:1])))
        if trailer[0] == _UNCOMPRESSED:
            return block
        with temporary_failures_reported("cannot unpack the values of a checkpoint"):
            file = tempfile.TemporaryFile()  # It is closed when the last one forgets the block.
            for part in unpacked_parts(block):
                file.write(part)
        return PartOfFile(file, 0, file.tell())

    def _read(self, offset: int, size: int) -> bytes:
        if offset + size > self._file.seek(0, os.SEEK_END):
            raise DamageError("it points beyond its end")
        self._file.seek(offset)
        return self._file.read(size)


def table_bytes(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Returns a table of one uncompressed block.

    Args:
        entries: keys and values, sorted by key; at least one.
    Raises:
        ValueError: the entries do not fit into one block.
    """
    data = _encode_block(entries, _RESTART_INTERVAL)
    if len(data) > _MAX_BLOCK_BYTES:
        raise ValueError(f"{len(data)} bytes do not fit into one block")
    table, data_handle = _append_block(b"", data)
    table, meta_handle = _append_block(table, _encode_block([], _RESTART_INTERVAL))
    index = _encode_block([(_short_successor(entries[-1][0]), data_handle)], restart_interval=1)
    table, index_handle = _append_block(table, index)
    return table + (meta_handle + index_handle).ljust(_FOOTER_BYTES - len(FOOTER_MAGIC), b"\0") + FOOTER_MAGIC


def _check_trailer(trailer: bytes, checksum: int) -> None:
    if struct.unpack("<I", trailer[1:])[0] != checksum:
        raise DamageError("a checksum is wrong")
    if trailer[0] not in (_UNCOMPRESSED, _SNAPPY):
        raise DamageError(f"a block is compressed in an unknown way ({trailer[0]})")


def _encode_block(entries: Sequence[tuple[bytes, bytes]], restart_interval: int) -> bytes:
    block, restarts, last_key = bytearray(), [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_interval == 0:
            restarts.append(len(block))
        else:
            shared = len(os.path.commonprefix([last_key, key]))
        block += (
            encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value)) + key[shared:] + value
        )
        last_key = key
    restarts = restarts or [0]
    return bytes(block) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _append_block(table: bytes, block: bytes) -> tuple[bytes, bytes]:
    """Appends a block and its trailer to a table, and returns the new table and the block's handle."""
    checked = block + bytes([_UNCOMPRESSED])
    handle = encode_varint(len(table)) + encode_varint(len(block))
    return table + checked + struct.pack("<I", masked_crc32c(checked)), handle


def _block_entries(block: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the keys of a block, in order, and the start and end of their values."""
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
        if unshared > _MAX_BLOCK_BYTES:
            raise DamageError("its keys are too long or too many")
        last_key, key = key, key[:shared] + block[position:start]
        if count and key <= last_key:
            raise DamageError("its keys are not in order")
        count += 1
        key_bytes += len(key)
        # Only a block's last entry can exceed the largest size, and each of the others takes more than a byte.
        if count > _MAX_BLOCK_BYTES or key_bytes > _MAX_EXPANSION * len(block):
            raise DamageError("its keys are too long or too many")
        position = start + length
        yield key, start, position


def _varints(data: Bytes, count: int) -> list[int]:
    """Returns the first numbers of the data; two make a handle, a block's offset and size."""
    numbers, position = [], 0
    for _ in range(count):
        number, position = read_varint(data, position)
        numbers.append(number)
    return numbers


def _short_successor(key: bytes) -> bytes:
    """Returns a short key that is not before this one; TensorFlow's index has it for the last block."""
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes([byte + 1])
    return key
