"""Copies an HDF5 file's values into a safetensors file, in a process of its own: see `hubexport.checkpoints.hdf5`."""

import contextlib
import json
from pathlib import Path
import resource
import sys
from typing import Any, NoReturn

import h5py
import numpy as np

from hubexport.checkpoints.safetensors_file import write_safetensors

# The exit status when the copy cannot be written, for which the file is not to blame.
NOT_WRITTEN = 3
_ADDRESS_BYTES = 8 << 30
_MAX_OBJECTS = 100_000
_MAX_BYTES = 4 << 30
# Compressed values could make a small file a huge one; real weights were seen to shrink to 0.6 of their size.
_MAX_EXPANSION = 16
# Those by which Keras orders layers and weights.
_ATTRIBUTES = ("layer_names", "weight_names")


def main() -> NoReturn:
    """Copies one file to another, both named in `sys.argv`, in no more seconds of CPU time than the third word says.

    If it cannot read, it exits with status 1, and a last line on stderr that says why. If it cannot write, it exits
    with `NOT_WRITTEN`, and the last line is the error's number.
    """
    source, target, cpu_seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    with contextlib.suppress(ValueError, OSError):  # Not every system has this one.
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_BYTES, _ADDRESS_BYTES))
    try:
        values, attributes = _read(source)
    except Exception as error:  # HDF5's library reports damage by any kind of exception.
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
    try:
        write_safetensors(target, values, {"attributes": json.dumps(attributes)})
    except OSError as error:
        print(error.errno, file=sys.stderr)
        sys.exit(NOT_WRITTEN)
    sys.exit(0)


def _read(source: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    values: dict[str, Any] = {}
    attributes: dict[str, list[str]] = {}
    limit = min(_MAX_BYTES, _MAX_EXPANSION * source.stat().st_size)
    with h5py.File(source, "r") as file:
        for name, found in _objects(file):
            for key in _ATTRIBUTES:
                if key in found.attrs:
                    attributes[f"{name}@{key}"] = _texts(found.attrs, key)
            if isinstance(found, h5py.Dataset) and found.dtype.kind in "fiub":
                limit -= found.size * found.dtype.itemsize
                if limit < 0:
                    raise ValueError("its values are too large for the size of the file")
                # Those would read other files.
                if found.external or found.is_virtual:
                    raise ValueError(f"{name} is stored in another file")
                values[name] = found[()]
    return values, attributes


def _objects(file: Any) -> list[tuple[str, Any]]:
    names = [""]

    def visit(name: str) -> None:
        names.append(name)
        if len(names) > _MAX_OBJECTS:
            raise ValueError(f"it has more than {_MAX_OBJECTS} objects")

    # Follows neither soft nor external links.
    file.visit(visit)
    return [(name, file[name or "/"]) for name in names]


def _texts(attributes: Any, key: str) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else str(text) for text in np.ravel(attributes[key])]
