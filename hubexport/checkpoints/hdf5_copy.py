"""The program that copies an HDF5 file's values into a safetensors file, for `hubexport.checkpoints.hdf5`."""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import json
from pathlib import Path
import resource
from typing import Any

import h5py
import numpy as np

from hubexport.arrays import StreamedValue
from hubexport.checkpoints.dtypes import NUMPY_NUMBERS, bits_dtype
from hubexport.checkpoints.safetensors_file import write_safetensors
from hubexport.checkpoints.slices import boxes
from hubexport.system.child_program import answer_task, limit_resources

_ADDRESS_BYTES = 8 << 30
_MAX_OBJECTS = 100_000
_MAX_DEPTH = 64
_MAX_BYTES = 4 << 30
# Compression could hide huge values in a small file; real weights shrink to 0.6 of their size.
_MAX_EXPANSION = 16
# The dtype that NumPy lacks and Keras 3 stores as opaque bytes.
_KERAS_BITS = "bfloat16"
_READ_DTYPES = NUMPY_NUMBERS | {_KERAS_BITS}
# In these attributes Keras describes the model, and lists its layers and weights.
_ATTRIBUTES = ("layer_names", "weight_names", "model_config")


class _UnreadableError(Exception):
    """HDF5's library cannot read the source; the message says why in a few words."""


def copy_values(task: Mapping[str, Any]) -> dict[str, Any]:
    """Copies the values of an HDF5 file, and describes all else in it.

    Args:
        task: `source` and `copy`, the paths of the two files; `cpu_seconds`, after which the system ends the process.
    Returns:
        Empty; or `damage`, why the source cannot be read; or `errno`, why the copy cannot be written.
    """
    limit_resources({resource.RLIMIT_CPU: task["cpu_seconds"]})
    with contextlib.suppress(ValueError, OSError):  # Not every system has this one.
        limit_resources({resource.RLIMIT_AS: _ADDRESS_BYTES})
    copy = Path(task["copy"])
    try:
        with _unreadable():
            file = h5py.File(task["source"], "r")
            values, description = _find(file, Path(task["source"]).stat().st_size)
        write_safetensors(copy, values, {"description": json.dumps(description)})
    except _UnreadableError as error:
        copy.unlink(missing_ok=True)
        return {"damage": str(error)}
    except OSError as error:
        copy.unlink(missing_ok=True)  # It makes room for the answer.
        return {"errno": error.errno}
    return {}


@contextlib.contextmanager
def _unreadable(path: str = "") -> Iterator[None]:
    """Names the place of damage, which HDF5's library reports by any kind of exception."""
    try:
        yield
    except Exception as error:
        why = f"{path}: {error}" if path else str(error)
        raise _UnreadableError(" ".join(why.split()) or type(error).__name__) from error


def _find(file: h5py.File, file_bytes: int) -> tuple[dict[str, StreamedValue], dict[str, Any]]:
    """Returns the values that are numbers, by path, and a description of everything else.

    The description has `attributes`, by `PATH@NAME`; `bits_of`, the dtypes of values that are copied as their bits, by
    path; and `unread`, the dtypes and shapes of all other values by path.
    """
    values: dict[str, StreamedValue] = {}
    bits_of: dict[str, str] = {}
    unread: dict[str, Any] = {}
    attributes: dict[str, list[str]] = {}
    limit = min(_MAX_BYTES, _MAX_EXPANSION * file_bytes)
    for path, node in _objects(file):
        for key in _ATTRIBUTES:
            if (texts := _texts(node.attrs, key)) is not None:
                attributes[f"{path}@{key}"] = texts
        if not isinstance(node, h5py.Dataset):
            continue
        # Reading such a value would read another file.
        if node.external or node.is_virtual:
            raise ValueError(f"{path} is stored in another file")
        dtype = _dtype_name(node)
        if dtype not in _READ_DTYPES:
            unread[path] = dtype, node.shape or ()
            continue
        limit -= node.size * node.dtype.itemsize
        if limit < 0:
            raise ValueError("its values are too large for the size of the file")
        bits = bits_dtype(dtype)
        assert bits is not None, "numbers have bits"
        if dtype not in NUMPY_NUMBERS:
            bits_of[path] = dtype
        values[path] = StreamedValue(node.shape, functools.partial(_chunks, path, node), bits)
    return values, {"attributes": attributes, "bits_of": bits_of, "unread": unread}


def _chunks(path: str, node: h5py.Dataset) -> Iterator[Any]:
    # HDF5's own chunks, which Keras does not use, may be compressed. Each part of one would unpack the whole.
    places = boxes(node.shape, node.dtype.itemsize) if node.chunks is None else [()]
    for place in places:
        with _unreadable(path):
            chunk = np.ravel(node[place])
        yield chunk.view("<u2") if chunk.dtype.kind == "V" else chunk


def _objects(file: Any) -> Iterator[tuple[str, Any]]:
    """Yields all groups and datasets with their paths; one with several names comes once for each."""
    waiting = [("", file["/"], 0)]
    count = 0
    while waiting:
        path, node, depth = waiting.pop()
        yield path, node
        if not isinstance(node, h5py.Group):
            continue
        # A group may contain itself.
        if depth == _MAX_DEPTH:
            raise ValueError(f"its groups are nested more than {_MAX_DEPTH} deep")
        for key in node:
            count += 1
            if count > _MAX_OBJECTS:
                raise ValueError(f"it has more than {_MAX_OBJECTS} objects")
            below = f"{path}/{key}" if path else key
            if not isinstance(node.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"{below} is a link to another place")
            waiting.append((below, node[key], depth + 1))


def _dtype_name(dataset: Any) -> str:
    """Returns NumPy's name for the type of a dataset's numbers; for other types, a name that NumPy does not have."""
    try:
        dtype = dataset.dtype
    except TypeError:
        return "unknown"
    if dataset.shape is None:
        return "empty"
    # Keras 3 stores numbers that NumPy does not have, such as bfloat16, as opaque bytes.
    if dtype.kind == "V" and isinstance(declared := dataset.attrs.get("dtype"), str):
        return declared if dtype.str == "|V2" and declared == _KERAS_BITS else f"opaque {declared}"
    if h5py.check_string_dtype(dtype):
        return "string"
    if dtype.kind in "fiub" and dtype.itemsize <= np.dtype(np.float64).itemsize:
        return str(dtype.name)
    kinds = {"f": "extended float", "c": "complex", "V": "compound" if dtype.names else "opaque", "O": "reference"}
    return kinds.get(dtype.kind, "unknown")


def _texts(attributes: Any, key: str) -> list[str] | None:
    """Returns an attribute's texts; Keras splits a long list into numbered attributes. None if there is neither."""
    if key in attributes:
        values = [attributes[key]]
    elif f"{key}0" in attributes:
        count = next(number for number in range(len(attributes) + 1) if f"{key}{number}" not in attributes)
        values = [attributes[f"{key}{number}"] for number in range(count)]
    else:
        return None
    return [text.decode() if isinstance(text, bytes) else str(text) for value in values for text in np.ravel(value)]


if __name__ == "__main__":
    answer_task(copy_values)
