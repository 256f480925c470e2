"""Reads and writes safetensors files: a JSON header of names, dtypes, shapes and offsets, then the values.

Before anything is read, the safetensors package checks that the header's offsets cover the file exactly.
"""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hubexport.checkpoints.stored_values import DamageError, StoredValues, checked_shape, unique_dict

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
_LENGTH_BYTES = 8
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

    def stored_bytes(self, name: str) -> bytes:
        start, stop = self._header[name]["data_offsets"]
        with self._path.open("rb") as file:
            file.seek(self._start + start)
            return file.read(stop - start)


def write_safetensors(path: Path, values: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes values to a new file.

    Args:
        path: the file.
        values: the values, by name.
        metadata: at most one text: safetensors writes several in an order that changes from run to run.
    Raises:
        OSError: the file cannot be written.
    """
    # If the package writes a file itself, only the owner can read it.
    stored = save({name: np.asarray(value, order="C") for name, value in values.items()}, dict(metadata))
    with path.open("xb") as file:
        file.write(stored)
