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

from hubexport.checkpoints.stored import DamageError, unique_names
from hubexport.networks.layers import Shape

# The dtypes that NumPy has, by safetensors' names.
_DTYPE_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}


# Of the header, at the file's beginning.
_LENGTH_BYTES = 8


class SafetensorsReader:
    """The values of a safetensors file by name.

    Attributes:
        metadata: the texts that the header has beside the values.
    Raises:
        DamageError: it is none, or damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = safe_open(path, framework="numpy")
            self.metadata: dict[str, str] = self._file.metadata() or {}
            self._slices = {name: self._file.get_slice(name) for name in self._file.keys()}
        except SafetensorError as error:
            raise DamageError(str(error)) from error
        _check_names(path)
        self.shapes: dict[str, Shape] = {name: tuple(one.get_shape()) for name, one in self._slices.items()}

    def dtype(self, name: str) -> str:
        """Returns the name of a stored value's dtype, like `float32`."""
        stored: str = self._slices[name].get_dtype()
        return _DTYPE_NAMES.get(stored, stored)

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value.

        Raises:
            DamageError: its dtype is not one of NumPy's.
        """
        if self.dtype(name) not in _DTYPE_NAMES.values():
            raise DamageError(f"{name}: NumPy has no dtype {self.dtype(name)}")
        value: npt.NDArray[Any] = self._file.get_tensor(name)
        return value


def _check_names(path: Path) -> None:
    """Raises DamageError if two values have one name: the package would drop the first without a word."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        json.loads(file.read(length), object_pairs_hook=lambda pairs: unique_names((name, name) for name, _ in pairs))


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
