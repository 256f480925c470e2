"""Safetensors files: a JSON header of names, dtypes, shapes and offsets, then the values.

The safetensors package checks that the header's offsets cover the file exactly before anything is read.
"""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hubexport.checkpoints.stored_values import DamageError, StoredReader, checked_shape, unique_dict

# By safetensors' names; the others stay as they are.
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


class SafetensorsReader(StoredReader):
    """The values of a safetensors file by name.

    Attributes:
        shapes: of all stored values, by name.
        metadata: the texts that the header has beside the values.
    Raises:
        DamageError: it is none, or damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            safe_open(path, framework="numpy")
        except SafetensorError as error:
            raise DamageError(str(error)) from error
        self._path = path
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            # NumPy's reader in that package knows fewer dtypes than the header may name.
            self._header = json.loads(file.read(length), object_pairs_hook=unique_dict)
        self._start = _LENGTH_BYTES + length
        self.metadata: dict[str, str] = self._header.pop(_METADATA, None) or {}
        self.shapes = {name: checked_shape(one["shape"]) for name, one in self._header.items()}

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""
        stored: str = self._header[name]["dtype"]
        return _DTYPE_NAMES.get(stored, stored)

    def stored_bytes(self, name: str) -> bytes:
        """Reads one value of any dtype, as `hubexport.checkpoints.stored_values.StoredValues` says.

        Raises:
            OSError: the file cannot be read.
        """
        start, stop = self._header[name]["data_offsets"]
        with self._path.open("rb") as file:
            file.seek(self._start + start)
            return file.read(stop - start)


def write_safetensors(path: Path, values: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Writes values to a new file.

    Args:
        path: the file.
        values: by name.
        metadata: one entry at most: safetensors writes several in an order that changes from run to run.
    Raises:
        OSError: the file cannot be written.
    """
    # The package's own writing to a file leaves it readable for its owner alone.
    stored = save({name: np.asarray(value, order="C") for name, value in values.items()}, dict(metadata))
    with path.open("xb") as file:
        file.write(stored)
