"""Keras' HDF5 files: `.h5` and `.weights.h5`, whose layouts `hubexport.layouts.keras` describes.

With some damaged files, HDF5's library never returns. So another process, with limited time and memory, reads the file
and copies the values into a safetensors file.
"""

from collections.abc import Iterator, Mapping
import contextlib
import json
import os
from pathlib import Path
import sys
from typing import Any

import h5py
import numpy as np

from hubexport.arrays import Value, as_streamed
from hubexport.checkpoints.keras_values import KerasValues, WithDescription
from hubexport.checkpoints.safetensors_file import SafetensorsReader
from hubexport.system.child_process import ChildError, own_environment, running_child
from hubexport.system.damage import DamageError

# Keras transposes the kernels of files that state no version, or version 1.
_KERAS_VERSION = "2.15.0"
# Reading a file of 100 MB takes one second.
_CPU_SECONDS = 20
_PROGRAM = Path(__file__).with_name("hdf5_copy.py")


def read_hdf5(path: Path, scratch: Path, model_config: str | None = None) -> KerasValues:
    """Reads a file of Keras' weights.

    Args:
        path: the file.
        scratch: a folder for the copy of the values, which must exist for as long as they are read.
        model_config: the model's description, if it is stored elsewhere.
    Returns:
        All values in the file, including those that cannot be read as numbers.
    Raises:
        DamageError: the file is damaged, is not an HDF5 file, or has links instead of values.
        OSError: the copy cannot be written.
    """
    copy = scratch / "values.safetensors"
    task = {"source": str(path.absolute()), "copy": str(copy), "cpu_seconds": _CPU_SECONDS}
    try:
        with running_child(sys.executable, _PROGRAM, task, scratch.absolute(), own_environment()) as wait:
            answer = wait()
    except ChildError as error:
        why = str(error) if error.status == 1 else "the HDF5 library crashed on it or did not finish"
        raise DamageError(why) from error
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]), str(copy))
    if "damage" in answer:
        raise DamageError(answer["damage"])
    stored = SafetensorsReader(copy)
    description = json.loads(stored.metadata["description"])
    unread = {name: (dtype, tuple(shape)) for name, (dtype, shape) in description["unread"].items()}
    attributes = description["attributes"]
    model_config = "".join(attributes.get("@model_config", [])) or model_config
    return KerasValues(WithDescription(stored, description["bits_of"], unread), attributes, model_config)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Any]:
    """Makes a file in memory, and writes it once it is complete; on a full disk, HDF5's library would crash."""
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    with path.open("xb") as written:
        written.write(content)


def write_keras_h5(path: Path, values: Mapping[str, Value]) -> None:
    """Writes a new `.h5` file. It is whole in memory: only MobileNets, of 27 MB at most, have such files.

    Args:
        path: the file.
        values: float32, by `LAYER/WEIGHT`, with the layers in the model's order and their weights in Keras's.
    Raises:
        OSError: the file cannot be written.
    """
    layers: dict[str, list[str]] = {}
    for name in values:
        layers.setdefault(name.partition("/")[0], []).append(f"{name}:0")
    with _new_file(path) as file:
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        file.attrs["backend"] = np.bytes_("tensorflow")
        file.attrs["keras_version"] = np.bytes_(_KERAS_VERSION)
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight in weights:
                group[weight] = as_streamed(values[weight.removesuffix(":0")]).read()


def write_keras_weights_h5(path: Path, values: Mapping[str, Value]) -> None:
    """Writes a new `.weights.h5` file, which is whole in memory like those of `write_keras_h5`.

    Args:
        path: the file.
        values: float32, by their paths in the file.
    Raises:
        OSError: the file cannot be written.
    """
    with _new_file(path) as file:
        file.create_group("vars")  # For the model's own variables; there are none, but Keras 2 looks for it.
        for name, value in values.items():
            file[name] = as_streamed(value).read()
