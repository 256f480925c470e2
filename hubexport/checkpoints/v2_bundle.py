"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written without TensorFlow.

`PREFIX.index` is a table from names to `BundleEntryProto`: dtype, shape, checksum, and the place in one of the files
`PREFIX.data-00000-of-00001` and so on. The empty name has a `BundleHeaderProto`. A value in pieces has an entry that
lists them, and an entry for each piece: see `hubexport.checkpoints.slices`.

Written files have the same bytes as those of TensorFlow's SaveV2 op. Nothing that is read is trusted: an index may
claim any offset, size or shape.

The code is our own for speed: it reads or writes all values of a MobileNet V2 in about 0.1 seconds, while importing
TensorFlow alone takes seconds. `scripts/benchmark_build.py` measures whole builds against that.
"""

from collections.abc import Mapping
import io
import math
from pathlib import Path
import struct

from google.protobuf.message import DecodeError
import numpy as np

from hubexport.arrays import Array
from hubexport.checkpoints.dtypes import bits_dtype, tensorflow_dtype
from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.checkpoints.proto_wire import encode_varint, read_varint
from hubexport.checkpoints.slices import PIECE_KEY, join_pieces, piece_key, region_shape, regions
from hubexport.checkpoints.stored_values import DamageError, StoredValues, checked_shape, damage_in
from hubexport.networks.ops import Shape
from hubexport.protos import DT_FLOAT, DT_STRING, BundleEntryProto, BundleHeaderProto, Message, TensorShapeProto
from hubexport.system.crc32c import masked_crc32c

_HEADER_KEY = b""
_PRODUCER = 1
_LITTLE_ENDIAN = 0
# Four hundred times the index of a MobileNet V2's training checkpoint.
_MAX_INDEX_BYTES = 16 << 20
# The checksum between the lengths of strings and the strings.
_LENGTH_CHECKSUM_BYTES = 4


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

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads the bytes of one value; None for strings and unknown dtypes in several pieces.

        The checksums of unknown dtypes are not verified.
        """
        entry, shape = self._entries[name], self.shapes[name]
        with damage_in(name):
            if not entry.slices:
                return self._read_contents(entry, shape)
            bits = bits_dtype(tensorflow_dtype(entry.dtype))
            if bits is None:
                return None
            where = regions(entry.slices, shape)
            pieces = [self._pieces.get(piece_key(name, piece), BundleEntryProto()) for piece in entry.slices]
            for piece, region in zip(pieces, where, strict=True):
                if (piece.dtype, _shape(piece)) != (entry.dtype, region_shape(region)):
                    raise DamageError("a piece is missing, or of another shape or type")
            # An index could place many pieces at one offset, and so demand more memory than the files have bytes.
            if sum(piece.size for piece in pieces) > sum(path.stat().st_size for path in set(map(self._shard, pieces))):
                raise DamageError("its pieces overlap in their files")
            contents = list(map(self._read_contents, pieces, map(region_shape, where)))
            return join_pieces(shape, bits.itemsize, where, contents)

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

    def _read_contents(self, entry: Message, shape: Shape) -> bytes:
        """Reads the bytes that an entry describes: a value's or a piece's."""
        if entry.dtype == DT_STRING:
            return b"".join(self._read_strings(entry, math.prod(shape)))
        bits = bits_dtype(tensorflow_dtype(entry.dtype))
        if bits is None:
            return self._read_region(entry)
        if entry.size != math.prod(shape) * bits.itemsize:
            raise DamageError(f"{entry.size} bytes do not fit {tensorflow_dtype(entry.dtype)} of shape {list(shape)}")
        data = self._read_region(entry)
        if masked_crc32c(data) != entry.crc32c:
            raise DamageError("its checksum is wrong")
        return data

    def _read_strings(self, entry: Message, count: int) -> tuple[bytes, bytes]:
        """Reads strings, and returns their lengths as varints, and the strings one after another."""
        data = self._read_region(entry)
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

    def _read_region(self, entry: Message) -> bytes:
        path = self._shard(entry)
        with path.open("rb") as file:
            if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > path.stat().st_size:
                raise DamageError(f"the index points beyond the end of {path.name}")
            file.seek(entry.offset)
            return file.read(entry.size)

    def _shard(self, entry: Message) -> Path:
        return data_path(self._prefix, entry.shard_id, self._header.num_shards)


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


def write_bundle(prefix: Path, values: Mapping[str, Array | bytes]) -> None:
    """Writes values as a V2 checkpoint of one data file.

    Args:
        prefix: the path up to `.index` and `.data-…`; the files must not exist.
        values: the values, by name; arrays are stored as float32, bytes as one string.
    Raises:
        OSError: the files cannot be written.
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
                dtype, data = DT_STRING, encode_varint(len(value)) + length_checksum + value
            else:
                dtype, shape, data = DT_FLOAT, value.shape, np.ascontiguousarray(value, "<f4").tobytes()
                checksum = masked_crc32c(data)
            file.write(data)
            dims = TensorShapeProto(dim=[{"size": length} for length in shape])
            entry = BundleEntryProto(dtype=dtype, shape=dims, offset=offset, size=len(data), crc32c=checksum)
            entries.append((name.encode(), entry.SerializeToString()))
            offset += len(data)
    index_path(prefix).write_bytes(table_bytes(entries))
