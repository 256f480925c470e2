"""TensorFlow's V2 checkpoints ("tensor bundles"), read and written without TensorFlow.

`PREFIX.index` is a table from names to `BundleEntryProto`: dtype, shape, and where in which of the files
`PREFIX.data-00000-of-00001` and so on the values are, with their checksum. The empty name has a `BundleHeaderProto`.
What is written here has the same bytes as what TensorFlow's SaveV2 op writes, and everything that is read is checked
before it is believed: an index may claim any offset, size or shape.
"""

from collections.abc import Mapping
import math
from pathlib import Path
import struct
from typing import Any

from google.protobuf.message import DecodeError
import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.checkpoints.stored import DamageError
from hubexport.checkpoints.table import TableError, masked_crc32c, read_varint, table_bytes, table_entries, varint
from hubexport.networks.layers import Shape
from hubexport.protos import DT_FLOAT, DT_STRING, BundleEntryProto, BundleHeaderProto, Message, TensorShapeProto

_HEADER_KEY = b""
# What the keys of pieces begin with; the whole value's entry, under its plain name, lists them.
_SLICE_KEY = b"\0"
_PRODUCER = 1
_LITTLE_ENDIAN = 0
# Four hundred times the index of a MobileNet V2's training checkpoint.
_MAX_INDEX_BYTES = 16 << 20
_FLOAT = np.dtype("<f4")
# Between the length of a string and the string.
_LENGTH_CHECKSUM_BYTES = 4

# tensorflow/core/framework/types.proto: those that are stored as NumPy has them, and others for messages.
_DTYPES = {
    DT_FLOAT: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    17: "uint16",
    19: "float16",
    22: "uint32",
    23: "uint64",
}
_DTYPE_NAMES = {**_DTYPES, DT_STRING: "string", 14: "bfloat16"}


class BundleError(DamageError):
    """The files are no V2 checkpoint, or a damaged one."""


class BundleReader:
    """The values of a V2 checkpoint by name.

    Args:
        prefix: what the names of its files begin with.
    Attributes:
        shapes: of all stored values, by name.
        has_slices: whether some values are stored in pieces, which only TensorFlow's reader puts together.
    Raises:
        BundleError: it is none, or its index is damaged.
        OSError: its index cannot be read.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        index = Path(f"{prefix}.index")
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise BundleError(f"{index.name} is larger than {_MAX_INDEX_BYTES >> 20} MiB")
        try:
            entries = dict(table_entries(index.read_bytes()))
            self._header = BundleHeaderProto.FromString(entries.pop(_HEADER_KEY))
            self._entries = {
                key.decode(): BundleEntryProto.FromString(value)
                for key, value in entries.items()
                if not key.startswith(_SLICE_KEY)
            }
        except (TableError, DecodeError, KeyError, UnicodeDecodeError) as error:
            raise BundleError(f"{index.name}: {_reason(error)}") from error
        if self._header.endianness != _LITTLE_ENDIAN:
            raise BundleError(f"{index.name}: it was written on a big-endian machine")
        self.has_slices = any(entry.slices for entry in self._entries.values())
        self.shapes: dict[str, Shape] = {
            name: tuple(dim.size for dim in entry.shape.dim) for name, entry in self._entries.items()
        }

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""
        number = self._entries[name].dtype
        return _DTYPE_NAMES.get(number, f"dtype {number}")

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers.

        Raises:
            BundleError: it is damaged, not where the index says, or holds no numbers.
            OSError: its file cannot be read.
        """
        entry, shape = self._entries[name], self.shapes[name]
        if entry.dtype not in _DTYPES:
            raise BundleError(f"{name}: values of type {self.dtype(name)} cannot be read as numbers")
        dtype = np.dtype(_DTYPES[entry.dtype]).newbyteorder("<")
        if entry.size != math.prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
            raise BundleError(f"{name}: {entry.size} bytes do not fit {dtype.name} of shape {list(shape)}")
        data = self._stored_bytes(name)
        if masked_crc32c(data) != entry.crc32c:
            raise BundleError(f"{name}: its checksum is wrong")
        return np.frombuffer(data, dtype).reshape(shape)

    def read_text(self, name: str) -> bytes:
        """Reads one string.

        Raises:
            BundleError: it is damaged, not where the index says, or no string.
            OSError: its file cannot be read.
        """
        entry = self._entries[name]
        data = self._stored_bytes(name)
        try:
            _, position = read_varint(data, 0)
        except (IndexError, TableError):
            position = 0
        text = data[position + _LENGTH_CHECKSUM_BYTES :]
        if entry.dtype != DT_STRING or self.shapes[name] or _stored(text)[1:] != (data, entry.crc32c):
            raise BundleError(f"{name}: it is not a string, or its checksum is wrong")
        return text

    def _stored_bytes(self, name: str) -> bytes:
        entry = self._entries[name]
        path = data_path(self._prefix, entry.shard_id, self._header.num_shards)
        with path.open("rb") as file:
            if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > path.stat().st_size:
                raise BundleError(f"{name}: the index points beyond the end of {path.name}")
            file.seek(entry.offset)
            return file.read(entry.size)


def _reason(error: Exception) -> str:
    if isinstance(error, TableError):
        return str(error)
    return "it has no header" if isinstance(error, KeyError) else "an entry cannot be decoded"


def data_path(prefix: Path, shard: int, count: int) -> Path:
    """Returns the path of one of a checkpoint's `count` data files."""
    return Path(f"{prefix}.data-{shard:05}-of-{count:05}")


def shard_count(index: bytes) -> int:
    """Returns how many data files an index belongs to.

    Raises:
        BundleError: it is damaged.
    """
    return int(_header(index).num_shards)


def with_shard_count(index: bytes, count: int) -> bytes:
    """Returns an index that differs only in how many data files it says there are."""
    header = _header(index)
    header.num_shards = count
    entries = {**dict(table_entries(index)), _HEADER_KEY: header.SerializeToString()}
    return table_bytes(list(entries.items()))


def _header(index: bytes) -> Message:
    try:
        return BundleHeaderProto.FromString(dict(table_entries(index))[_HEADER_KEY])
    except (TableError, DecodeError, KeyError) as error:
        raise BundleError(_reason(error)) from error


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
    """Returns a value's dtype, what is stored of it, and its checksum.

    Of a string its length is stored, a checksum of the length as a fixed32, and the bytes. The whole's checksum reads
    the length as a fixed32, too, not as the varint that is stored.
    """
    if not isinstance(value, bytes):
        data = np.ascontiguousarray(value, _FLOAT).tobytes()
        return DT_FLOAT, data, masked_crc32c(data)
    length = struct.pack("<I", len(value))
    length_checksum = struct.pack("<I", masked_crc32c(length))
    return (
        DT_STRING,
        varint(len(value)) + length_checksum + value,
        masked_crc32c(length + length_checksum + value),
    )
