"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written without TensorFlow.

`PREFIX.index` is a table from names to `BundleEntryProto`: dtype, shape, and where in which of the files
`PREFIX.data-00000-of-00001` and so on the values are, with their checksum. The empty name has a `BundleHeaderProto`.
A value in pieces has an entry that lists them, and another for each piece: see `hubexport.checkpoints.slices`.
What is written here has the same bytes as what TensorFlow's SaveV2 op writes, and everything that is read is checked
before it is believed: an index may claim any offset, size or shape.
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
from hubexport.checkpoints.proto_wire import read_varint, varint
from hubexport.checkpoints.slices import PIECE_KEY, joined, piece_key, regions, shape_of
from hubexport.checkpoints.stored_values import DamageError, StoredReader, checked_shape, damage_named
from hubexport.networks.layers import Shape
from hubexport.protos import DT_FLOAT, DT_STRING, BundleEntryProto, BundleHeaderProto, Message, TensorShapeProto
from hubexport.system.crc32c import masked_crc32c

_HEADER_KEY = b""
_PRODUCER = 1
_LITTLE_ENDIAN = 0
# Four hundred times the index of a MobileNet V2's training checkpoint.
_MAX_INDEX_BYTES = 16 << 20
_FLOAT = np.dtype("<f4")
# Between the lengths of strings and the strings.
_LENGTH_CHECKSUM_BYTES = 4


class BundleReader(StoredReader):
    """The values of a V2 checkpoint by name.

    Args:
        prefix: what the names of its files begin with.
    Attributes:
        shapes: of all stored values, by name.
    Raises:
        DamageError: it is none, or its index is damaged.
        OSError: its index cannot be read.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        index = Path(f"{prefix}.index")
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise DamageError(f"{index.name} is larger than {_MAX_INDEX_BYTES >> 20} MiB")
        with damage_named(index.name):
            with index.open("rb") as file:
                entries = dict(LeveldbTable(file).entries(_MAX_INDEX_BYTES))
            try:
                self._header = _header(entries)
                found = {
                    key: BundleEntryProto.FromString(value) for key, value in entries.items() if key != _HEADER_KEY
                }
                self._entries = {key.decode(): one for key, one in found.items() if not key.startswith(PIECE_KEY)}
            except (DecodeError, UnicodeDecodeError) as error:
                raise DamageError("an entry cannot be decoded") from error
            if self._header.endianness != _LITTLE_ENDIAN:
                raise DamageError("it was written on a big-endian machine")
            self._pieces = {key: one for key, one in found.items() if key.startswith(PIECE_KEY)}
            self.shapes = {name: _shape(entry) for name, entry in self._entries.items()}

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""
        return tensorflow_dtype(self._entries[name].dtype)

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads one value of any dtype, as `hubexport.checkpoints.stored_values.StoredValues` says.

        Those of unknown dtypes come as they are, with no look at their checksum; None of strings in several pieces.

        Raises:
            DamageError: it is damaged, or not where the index says.
            OSError: its file cannot be read.
        """
        entry, shape = self._entries[name], self.shapes[name]
        with damage_named(name):
            if not entry.slices:
                return self._contents(entry, shape)
            bits = bits_dtype(tensorflow_dtype(entry.dtype))
            if bits is None:
                return None
            where = regions(entry.slices, shape)
            pieces = [self._pieces.get(piece_key(name, one), BundleEntryProto()) for one in entry.slices]
            for piece, region in zip(pieces, where, strict=True):
                if (piece.dtype, _shape(piece)) != (entry.dtype, shape_of(region)):
                    raise DamageError("a piece is missing, or of another shape or type")
            # Several pieces could be said to be at one place, and so take more memory than the files deserve.
            if sum(piece.size for piece in pieces) > sum(path.stat().st_size for path in set(map(self._shard, pieces))):
                raise DamageError("its pieces overlap in their files")
            contents = [self._contents(*one) for one in zip(pieces, map(shape_of, where), strict=True)]
            return joined(shape, bits.itemsize, where, contents)

    def read_text(self, name: str) -> bytes:
        """Reads one string.

        Raises:
            DamageError: it is damaged, not where the index says, or no string.
            OSError: its file cannot be read.
        """
        entry = self._entries[name]
        with damage_named(name):
            if entry.dtype != DT_STRING or self.shapes[name] or entry.slices:
                raise DamageError("it is not a string")
            return self._strings(entry, 1)[1]

    def _contents(self, entry: Message, shape: Shape) -> bytes:
        """Reads what an entry of its own says is of this shape."""
        if entry.dtype == DT_STRING:
            return b"".join(self._strings(entry, math.prod(shape)))
        bits = bits_dtype(tensorflow_dtype(entry.dtype))
        if bits is None:
            return self._region(entry)
        if entry.size != math.prod(shape) * bits.itemsize:
            raise DamageError(f"{entry.size} bytes do not fit {tensorflow_dtype(entry.dtype)} of shape {list(shape)}")
        data = self._region(entry)
        if masked_crc32c(data) != entry.crc32c:
            raise DamageError("its checksum is wrong")
        return data

    def _strings(self, entry: Message, count: int) -> tuple[bytes, bytes]:
        """Reads strings: their lengths, each a varint, and all of them, one after another."""
        data = self._region(entry)
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

    def _region(self, entry: Message) -> bytes:
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
    """Returns the checksum of strings' lengths, as it is stored, and that of all.

    Of a string's length not the varint is summed that is stored, but a fixed32, or a fixed64 if it is that long.
    """
    fixed = b"".join(struct.pack("<I" if length >> 32 == 0 else "<Q", length) for length in lengths)
    length_checksum = struct.pack("<I", masked_crc32c(fixed))
    return length_checksum, masked_crc32c(fixed, length_checksum, strings)


def data_path(prefix: Path, shard: int, count: int) -> Path:
    """Returns the path of one of a checkpoint's `count` data files."""
    return Path(f"{prefix}.data-{shard:05}-of-{count:05}")


def shard_count(index: bytes) -> int:
    """Returns how many data files an index belongs to.

    Raises:
        DamageError: it is damaged.
    """
    return int(_header(_entries(index)).num_shards)


def with_shard_count(index: bytes, count: int) -> bytes:
    """Returns an index that differs only in how many data files it says there are.

    Raises:
        DamageError: it is damaged.
    """
    entries = _entries(index)
    header = _header(entries)
    header.num_shards = count
    return table_bytes(list({**entries, _HEADER_KEY: header.SerializeToString()}.items()))


def _entries(index: bytes) -> dict[bytes, bytes]:
    with damage_named("the index"):
        return dict(LeveldbTable(io.BytesIO(index)).entries(_MAX_INDEX_BYTES))


def _header(entries: Mapping[bytes, bytes]) -> Message:
    if _HEADER_KEY not in entries:
        raise DamageError("it has no header")
    return BundleHeaderProto.FromString(entries[_HEADER_KEY])


def write_bundle(prefix: Path, values: Mapping[str, Array | bytes]) -> None:
    """Writes values as a V2 checkpoint of one data file.

    Args:
        prefix: what the names of the files begin with; they must not exist.
        values: by name; arrays are stored as float32, bytes as one string.
    Raises:
        OSError: the files cannot be written.
    """
    header = BundleHeaderProto(num_shards=1, version={"producer": _PRODUCER})
    entries = [(_HEADER_KEY, header.SerializeToString())]
    offset = 0
    with data_path(prefix, 0, 1).open("xb") as file:
        for name in sorted(values):
            value = values[name]
            shape: Shape = () if isinstance(value, bytes) else value.shape
            dtype, data, checksum = _stored(value)
            file.write(data)
            dims = TensorShapeProto(dim=[{"size": length} for length in shape])
            entry = BundleEntryProto(dtype=dtype, shape=dims, offset=offset, size=len(data), crc32c=checksum)
            entries.append((name.encode(), entry.SerializeToString()))
            offset += len(data)
    Path(f"{prefix}.index").write_bytes(table_bytes(entries))


def _stored(value: Array | bytes) -> tuple[int, bytes, int]:
    """Returns a value's dtype, what is stored of it, and its checksum."""
    if not isinstance(value, bytes):
        data = np.ascontiguousarray(value, _FLOAT).tobytes()
        return DT_FLOAT, data, masked_crc32c(data)
    length_checksum, checksum = _string_checksums([len(value)], value)
    return DT_STRING, varint(len(value)) + length_checksum + value, checksum
