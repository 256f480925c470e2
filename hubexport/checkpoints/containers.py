"""Recognizes the format of a file of trained values from its bytes, never from its name."""

from pathlib import Path
import re
from typing import Literal
import zipfile

from hubexport.checkpoints.leveldb_table import FOOTER_MAGIC

# A V2 checkpoint is several files; V2 means its index.
Container = Literal["V2", "V1", "HDF5", "Keras archive", "safetensors", "gzip", "pickle"]

# The weights' file in a `.keras` archive.
KERAS_WEIGHTS = "model.weights.h5"

_GZIP = b"\x1f\x8b"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# In zip archives that torch.save writes.
_TORCH_PICKLE = "data.pkl"
# A safetensors file begins with the length of its header, a JSON object; the safetensors package allows 100 MB.
_MAX_SAFETENSORS_HEADER_BYTES = 100_000_000
_START_BYTES = 9


def container_of(path: Path) -> Container | None:
    """Returns a file's format, or None if it is not a known one.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
        file.seek(max(0, path.stat().st_size - len(FOOTER_MAGIC)))
        end = file.read()
    if start.startswith(_GZIP):
        return "gzip"
    if start.startswith(_HDF5):
        return "HDF5"
    if start.startswith(_ZIP):
        return _container_of_zip(path)
    if end == FOOTER_MAGIC:
        return "V2" if path.suffix == ".index" else "V1"
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_SAFETENSORS_HEADER_BYTES:
        return "safetensors"
    return "pickle" if _PICKLE.match(start) else None


def _container_of_zip(path: Path) -> Container | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return None
    if KERAS_WEIGHTS in names:
        return "Keras archive"
    return "pickle" if any(name.rpartition("/")[2] == _TORCH_PICKLE for name in names) else None
