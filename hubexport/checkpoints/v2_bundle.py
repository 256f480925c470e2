"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written without TensorFlow.

`PREFIX.index` is a table from names to `BundleEntryProto`: dtype, shape, checksum, and the place in one of the files
`PREFIX.data-00000-of-00001` and so on. The empty name has a `BundleHeaderProto`. A value in pieces has an entry that
lists them, and an entry for each piece: see `hubexport.checkpoints.slices`.

Written files have the same bytes as those of TensorFlow's SaveV2 op. Nothing that is read is trusted: an index may
claim any offset, size or shape.

The code is our own for speed: it reads or writes all values of a MobileNet V2 in about 0.1 seconds, while importing
TensorFlow alone takes seconds. `scripts/benchmark_build.py` measures whole builds against that.
"""

from collections.abc import Iterator, Mapping
import io
import math
import os
from pathlib import Path
import struct
from typing import Any

from google.protobuf.message import DecodeError
import numpy.typing as npt

from hubexport.arrays import CHUNK_BYTES, FLOAT_BYTES, StreamedValue, as_streamed
from hubexport.checkpoints.dtypes import bits_dtype, tensorflow_dtype
from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.checkpoints.slices import PIECE_KEY, join_pieces, piece_key, region_shape, regions
from hubexport.checkpoints.stored_values import StoredValues, checked_shape
from hubexport.networks.ops import Shape
from hubexport.protos import DT_FLOAT, DT_STRING, BundleEntryProto, BundleHeaderProto, Message, TensorShapeProto
from hubexport.system.crc32c import extend_crc32c, masked, masked_crc32c
from hubexport.system.damage import DamageError, damage_in
from hubexport.system.proto_wire import encode_varint, read_varint

_HEADER_KEY = b""
_PRODUCER = 1
_LITTLE_ENDIAN = 0
# Four hundred times the index of a MobileNet V2's training checkpoint.
_MAX_INDEX_BYTES = 16 << 20
# The checksum between the lengths of strings and the strings.
_LENGTH_CHECKSUM_BYTES = 4
# Of a piece, at least this much is read at a time.
_MIN_PART_BYTES = 4096


class BundleReader(StoredValues):
    """The values of a V2 checkpoint by name.

    Args:
        prefix: the path up to `.index` and `.data-…`.
    Raises:
        DamageError: the index is damaged, or not that of a V2 checkpoint.
        OSError: the index cannot be read.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._shards: dict[int, Path] = {}
        index = index_path(prefix)
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise DamageError(f"{index.name} is larger than {_MAX_INDEX_BYTES >> 20} MiB")
        with damage_in(index.name):
            with index.open("rb") as file:
                entries = dict(LeveldbTable(file).entries(_MAX_INDEX_BYTES))
            try:
                self._header = _decode_header(entries)
                decoded = {
                    key: BundleEntryProto.FromString(value) for key, value in entries.items() if key != _HEADER_KEY
                }
                self._entries = {key.decode(): entry for key, entry in decoded.items() if not key.startswith(PIECE_KEY)}
            except (DecodeError, UnicodeDecodeError) as error:
                raise DamageError("an entry cannot be decoded") from error
            if self._header.endianness != _LITTLE_ENDIAN:
                raise DamageError("it was written on a big-endian machine")
            self._pieces = {key: entry for key, entry in decoded.items() if key.startswith(PIECE_KEY)}
            self.shapes = {name: _shape(entry) for name, entry in self._entries.items()}

    def dtype(self, name: str) -> str:
        return tensorflow_dtype(self._entries[name].dtype)

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        """Reads the bytes of one value; None for strings and unknown dtypes in several pieces.

        The checksums of unknown dtypes are not verified.
        """
        entry = self._entries[name]
        if entry.slices and bits_dtype(tensorflow_dtype(entry.dtype)) is None:
            return None
        return self._value_chunks(name, entry)

    def _value_chunks(self, name: str, entry: Message) -> Iterator[bytes]:
        shape = self.shapes[name]
        with damage_in(name):
            if not entry.slices:
                yield from self._contents(entry, shape)
                return
            where = regions(entry.slices, shape)
            pieces = [self._pieces.get(piece_key(name, piece), BundleEntryProto()) for piece in entry.slices]
            for piece, region in zip(pieces, where, strict=True):
                if (piece.dtype, _shape(piece)) != (entry.dtype, region_shape(region)):
                    raise DamageError("a piece is missing, or of another shape or type")
            # An index could place many pieces at one offset, and so demand more memory than the files have bytes.
            if sum(piece.size for piece in pieces) > sum(path.stat().st_size for path in set(map(self._shard, pieces))):
                raise DamageError("its pieces overlap in their files")
            bits = bits_dtype(tensorflow_dtype(entry.dtype))
            assert bits is not None, "values of unknown dtypes in pieces are refused"
            # All pieces have a part in memory at the same time.
            part_bytes = max(_MIN_PART_BYTES, CHUNK_BYTES // len(pieces))
            contents = [
                self._contents(piece, region_shape(region), part_bytes)
                for piece, region in zip(pieces, where, strict=True)
            ]
            yield from join_pieces(shape, bits.itemsize, where, contents)

    def read_text(self, name: str) -> bytes:
        """Reads one string.

        Raises:
            DamageError: the value is damaged, not where the index says, or not a string.
            OSError: its file cannot be read.
        """
        entry = self._entries[name]
        with damage_in(name):
            if entry.dtype != DT_STRING or self.shapes[name] or entry.slices:
                raise DamageError("it is not a string")
            return self._read_strings(entry, 1)[1]

    def _contents(self, entry: Message, shape: Shape, part_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Reads the bytes that an entry describes, a value's or a piece's, in parts.

        The last part comes only if the checksum of all is right.
        """
        if entry.dtype == DT_STRING:
            yield b"".join(self._read_strings(entry, math.prod(shape)))
            return
        bits = bits_dtype(tensorflow_dtype(entry.dtype))
        if bits is None:
            yield from self._read_region(entry, part_bytes)
            return
        if entry.size != math.prod(shape) * bits.itemsize:
            raise DamageError(f"{entry.size} bytes do not fit {tensorflow_dtype(entry.dtype)} of shape {list(shape)}")
        crc, last = 0, b""
        for part in self._read_region(entry, part_bytes):
            crc = extend_crc32c(crc, part)
            if last:
                yield last
            last = part
        if masked(crc) != entry.crc32c:
            raise DamageError("its checksum is wrong")
        if last:
            yield last

    def _read_strings(self, entry: Message, count: int) -> tuple[bytes, bytes]:
        """Reads strings, and returns their lengths as varints, and the strings one after another."""
        data = b"".join(self._read_region(entry))
        lengths: list[int] = []
        position = 0
        while len(lengths) < count:
            length, position = read_varint(data, position)
            lengths.append(length)
        strings_start = position + _LENGTH_CHECKSUM_BYTES
        length_checksum, strings = data[position:strings_start], data[strings_start:]
        if count and sum(lengths) != len(strings):
            raise DamageError("its strings have other lengths")
        if count and _string_checksums(lengths, strings) != (length_checksum, entry.crc32c):
            raise DamageError("its checksum is wrong")
        return data[:position], strings

    def _read_region(self, entry: Message, part_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        path = self._shard(entry)
        start, end = entry.offset, entry.offset + entry.size
        if not 0 <= start <= end <= os.stat(path).st_size:
            raise DamageError(f"the index points beyond the end of {path.name}")
        while start < end:
            # Many pieces may be read at the same time: between two parts, none keeps its file open.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                part = os.pread(descriptor, min(part_bytes, end - start), start)
            finally:
                os.close(descriptor)
            if not part:
                raise DamageError(f"{path.name} became shorter while it was read")
            yield part
            start += len(part)

    def _shard(self, entry: Message) -> Path:
        number = entry.shard_id
        if number not in self._shards:
            self._shards[number] = data_path(self._prefix, number, self._header.num_shards)
        return self._shards[number]


def _shape(entry: Message) -> Shape:
    return checked_shape(dim.size for dim in entry.shape.dim)


def _string_checksums(lengths: list[int], strings: bytes) -> tuple[bytes, int]:
    """Returns the stored form of the checksum of strings' lengths, and the checksum of everything.

    The checksum covers each length as a fixed32, or a fixed64 if it needs one, not as the varint that is stored.
    """
    fixed = b"".join(struct.pack("<I" if length >> 32 == 0 else "<Q", length) for length in lengths)
    length_checksum = struct.pack("<I", masked_crc32c(fixed))
    return length_checksum, masked_crc32c(fixed, length_checksum, strings)


def index_path(prefix: Path) -> Path:
    """Returns the path of a checkpoint's index."""
    return Path(f"{prefix}.index")


def data_path(prefix: Path, shard: int, count: int) -> Path:
    """Returns the path of one of a checkpoint's `count` data files."""
    return Path(f"{prefix}.data-{shard:05}-of-{count:05}")


def shard_count(index: bytes) -> int:
    """Returns the number of data files that an index gives.

    Raises:
        DamageError: the index is damaged.
    """
    return int(_decode_header(_read_entries(index)).num_shards)


def with_shard_count(index: bytes, count: int) -> bytes:
    """Returns the same index with another number of data files.

    Raises:
        DamageError: the index is damaged.
    """
    entries = _read_entries(index)
    header = _decode_header(entries)
    header.num_shards = count
    return table_bytes(list({**entries, _HEADER_KEY: header.SerializeToString()}.items()))


def _read_entries(index: bytes) -> dict[bytes, bytes]:
    with damage_in("the index"):
        return dict(LeveldbTable(io.BytesIO(index)).entries(_MAX_INDEX_BYTES))


def _decode_header(entries: Mapping[bytes, bytes]) -> Message:
    if _HEADER_KEY not in entries:
        raise DamageError("it has no header")
    return BundleHeaderProto.FromString(entries[_HEADER_KEY])


def write_bundle(prefix: Path, values: Mapping[str, npt.NDArray[Any] | StreamedValue | bytes]) -> None:
    """Writes values as a V2 checkpoint of one data file.

    Args:
        prefix: the path up to `.index` and `.data-…`; the files must not exist.
        values: the values, by name; numbers are stored as float32, bytes as one string.
    Raises:
        OSError: the files cannot be written. What reading a value raises comes through, too.
    """
    header = BundleHeaderProto(num_shards=1, version={"producer": _PRODUCER})
    entries = [(_HEADER_KEY, header.SerializeToString())]
    offset = 0
    with data_path(prefix, 0, 1).open("xb") as file:
        for name in sorted(values):
            value = values[name]
            shape: Shape = ()
            if isinstance(value, bytes):
                length_checksum, checksum = _string_checksums([len(value)], value)
                dtype, size = DT_STRING, file.write(encode_varint(len(value)) + length_checksum + value)
            else:
                value = as_streamed(value)
                dtype, shape, size, crc = DT_FLOAT, value.shape, 0, 0
                for chunk in value.chunks():
                    data = chunk.astype("<f4", copy=False).tobytes()
                    crc = extend_crc32c(crc, data)
                    size += file.write(data)
                assert size == math.prod(shape) * FLOAT_BYTES, "the chunks make up the whole value"
                checksum = masked(crc)
            dims = TensorShapeProto(dim=[{"size": length} for length in shape])
            entry = BundleEntryProto(dtype=dtype, shape=dims, offset=offset, size=size, crc32c=checksum)
            entries.append((name.encode(), entry.SerializeToString()))
            offset += size
    index_path(prefix).write_bytes(table_bytes(entries))
