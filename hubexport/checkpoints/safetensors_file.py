"""Reads and writes safetensors files: a JSON header of names, dtypes, shapes and offsets, then the values.

Before anything is read, the safetensors package checks that the header's offsets cover the file exactly.
"""

from collections.abc import Iterator, Mapping
import json
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from hubexport.arrays import CHUNK_BYTES, StreamedValue, as_streamed
from hubexport.checkpoints.safetensors_index import names_by_shard
from hubexport.checkpoints.stored_values import Joined, Renamed, StoredValues, checked_shape, unique_dict
from hubexport.system.damage import DamageError, damage_in

# By safetensors' names; dtypes that are missing here keep those.
_DTYPE_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "C64": "complex64",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}
_STORED_NAMES = {name: stored for stored, name in _DTYPE_NAMES.items()}
# From the smallest to the largest, as the package orders those that NumPy has.
_DTYPE_ORDER = (
    *("bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32"),
    *("complex64", "float64", "int64", "uint64"),
)
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_METADATA = "__metadata__"


class SafetensorsReader(StoredValues):
    """The values of a safetensors file by name.

    Attributes:
        metadata: the header's own texts, by name.
    Raises:
        DamageError: the file is damaged, or not a safetensors file.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise DamageError(str(error)) from error
        self._path = path
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            # The package's reader for NumPy knows fewer dtypes than headers may name.
            self._header = json.loads(file.read(length), object_pairs_hook=unique_dict)
        self._start = _LENGTH_BYTES + length
        self.metadata: dict[str, str] = self._header.pop(_METADATA, None) or {}
        self.shapes = {name: checked_shape(value["shape"]) for name, value in self._header.items()}

    def dtype(self, name: str) -> str:
        stored: str = self._header[name]["dtype"]
        return _DTYPE_NAMES.get(stored, stored)

    def stored_chunks(self, name: str) -> Iterator[bytes]:
        start, stop = (self._start + offset for offset in self._header[name]["data_offsets"])
        for position in range(start, stop, CHUNK_BYTES):
            with self._path.open("rb", buffering=0) as file:
                file.seek(position)
                data = file.read(min(CHUNK_BYTES, stop - position))
            if len(data) < min(CHUNK_BYTES, stop - position):
                raise DamageError("it became shorter while it was read")
            yield data


def read_shards(index: Path) -> StoredValues:
    """Opens all files that an index lists.

    Raises:
        DamageError: the index or a file is damaged, or they do not fit each other.
        OSError: a file cannot be read.
    """
    parts = []
    for path, names in names_by_shard(index).items():
        with damage_in(path.name):
            stored = SafetensorsReader(path)
            if missing := [name for name in names if name not in stored.shapes]:
                raise DamageError(f"it lacks {missing[0]}, which {index.name} says it has")
        parts.append(Renamed(stored, {name: name for name in names}))
    return Joined(*parts)


def write_safetensors(
    path: Path, values: Mapping[str, npt.NDArray[Any] | StreamedValue], metadata: Mapping[str, str]
) -> None:
    """Writes values to a new file, the same bytes as the safetensors package.

    Args:
        path: the file.
        values: the values, by name.
        metadata: at most one text: safetensors writes several in an order that changes from run to run.
    Raises:
        OSError: the file cannot be written. What reading a value raises comes through, too.
    """
    streamed = {name: as_streamed(value) for name, value in values.items()}
    # The package's own order keeps values aligned: those with the largest elements first.
    order = sorted(streamed, key=lambda name: (-_DTYPE_ORDER.index(streamed[name].dtype.name), name))
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    offset = 0
    for name in order:
        value = streamed[name]
        places = [offset, offset + value.nbytes]
        header[name] = {"dtype": _STORED_NAMES[value.dtype.name], "shape": value.shape, "data_offsets": places}
        offset += value.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    # If the package writes a file itself, only the owner can read it.
    with path.open("xb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for name in order:
            for chunk in streamed[name].chunks():
                file.write(chunk.astype(chunk.dtype.newbyteorder("<"), copy=False).tobytes())
