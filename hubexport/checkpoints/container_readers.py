"""Opens the files of a checkpoint with the reader of their container."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.keras_archive import KerasArchive
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.stored_values import DamageError, StoredValues
from hubexport.checkpoints.v1_checkpoint import V1Reader
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.errors import CheckpointError
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.system.temporary import temporary_directory, temporary_failures_reported


@contextlib.contextmanager
def open_container(files: CheckpointFiles, shown_as: Path) -> Iterator[StoredValues]:
    """Opens the files of a checkpoint for as long as the context lasts.

    Args:
        files: the files.
        shown_as: how messages name them.
    Returns:
        Their values, those of object-based checkpoints by variable. A damaged value raises DamageError when it is read.
    Raises:
        CheckpointError: the files are damaged, or cannot be read.
        TemporaryFileError: they have to be unpacked, and there is no room for that.
    """
    with contextlib.ExitStack() as stack:
        with damage_reported(shown_as):
            stored = _OPENERS[files.container](files, stack)
            if not stored.shapes:
                raise DamageError("it holds no values")
        yield stored


class DamageReporting:
    """Stored values whose damage is raised as CheckpointError, with the name of the file."""

    def __init__(self, stored: StoredValues, shown_as: Path) -> None:
        self._stored = stored
        self._shown_as = shown_as
        self.shapes = stored.shapes
        self.dtype = stored.dtype

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one numeric value."""
        with damage_reported(self._shown_as):
            return self._stored.read(name)

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads the bytes of one value."""
        with damage_reported(self._shown_as):
            return self._stored.stored_bytes(name)


@contextlib.contextmanager
def damage_reported(shown_as: Path) -> Iterator[None]:
    """Turns the errors of readers into a CheckpointError."""
    try:
        yield
    except (DamageError, OSError) as error:
        raise CheckpointError(
            f"cannot read checkpoint {shown_as}",
            why=str(error),
            fix="it is damaged or not a weights file: fetch or copy it again",
        ) from error


def _open_v2(files: CheckpointFiles, stack: contextlib.ExitStack) -> StoredValues:
    bundle = BundleReader(files.prefix)
    return ValuesByVariable(bundle) if OBJECT_GRAPH_KEY in bundle.shapes else bundle


def _open_v1(files: CheckpointFiles, stack: contextlib.ExitStack) -> StoredValues:
    return V1Reader(stack.enter_context(files.paths[0].open("rb")))


def _open_safetensors(files: CheckpointFiles, stack: contextlib.ExitStack) -> StoredValues:
    from hubexport.checkpoints.safetensors_file import SafetensorsReader  # TF-Slim's checkpoints do not need it.

    return SafetensorsReader(files.paths[0])


def _open_keras(files: CheckpointFiles, stack: contextlib.ExitStack) -> StoredValues:
    from hubexport.checkpoints.hdf5 import read_hdf5  # Nor this.

    what = f"cannot unpack {files.prefix}"
    scratch = stack.enter_context(temporary_directory(what))
    if files.container == "HDF5":
        with temporary_failures_reported(what):
            return read_hdf5(files.paths[0], scratch)
    with KerasArchive(files.paths[0]) as archive, temporary_failures_reported(what):
        return read_hdf5(archive.unpack_weights(scratch), scratch, archive.model_config())


# Each puts onto the stack whatever must stay open while values are read.
_OPENERS: dict[Container, Callable[[CheckpointFiles, contextlib.ExitStack], StoredValues]] = {
    "V2": _open_v2,
    "V1": _open_v1,
    "HDF5": _open_keras,
    "Keras archive": _open_keras,
    "safetensors": _open_safetensors,
}
