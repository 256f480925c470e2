"""Opens files of trained values, each with the reader of its container."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.keras_archive import KerasArchive
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.sources import FileSource
from hubexport.checkpoints.stored_values import DamageError, StoredValues
from hubexport.checkpoints.v1_checkpoint import V1Reader
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.errors import CheckpointError
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.system.temporary import temporary_directory, temporary_failures_reported


@contextlib.contextmanager
def opened_values(files: FileSource, shown_as: Path) -> Iterator[StoredValues]:
    """Opens files for as long as the context lasts.

    Args:
        files: which.
        shown_as: what messages call them.
    Returns:
        Their values, those of object-based checkpoints by variable. Damage to one is a DamageError when it is read.
    Raises:
        CheckpointError: they are damaged, or cannot be read.
        TemporaryFileError: they have to be unpacked, and there is no room for that.
    """
    with contextlib.ExitStack() as stack:
        with damage_reported(shown_as):
            stored = _OPENERS[files.container](files, stack)
            if not stored.shapes:
                raise DamageError("it holds no values")
        yield stored


class DamageReporting:
    """Stored values whose damage is told in hubexport's form, with the file's name."""

    def __init__(self, stored: StoredValues, shown_as: Path) -> None:
        self._stored = stored
        self._shown_as = shown_as
        self.shapes = stored.shapes
        self.dtype = stored.dtype

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers."""
        with damage_reported(self._shown_as):
            return self._stored.read(name)

    def stored_bytes(self, name: str) -> bytes | None:
        """Reads one value of any dtype."""
        with damage_reported(self._shown_as):
            return self._stored.stored_bytes(name)


@contextlib.contextmanager
def damage_reported(shown_as: Path) -> Iterator[None]:
    """Turns what readers say of damage into a CheckpointError."""
    try:
        yield
    except (DamageError, OSError) as error:
        raise CheckpointError(
            f"cannot read checkpoint {shown_as}",
            why=str(error),
            fix="it is damaged or not a weights file: fetch or copy it again",
        ) from error


def _open_v2(source: FileSource, stack: contextlib.ExitStack) -> StoredValues:
    bundle = BundleReader(source.prefix)
    return ValuesByVariable(bundle) if OBJECT_GRAPH_KEY in bundle.shapes else bundle


def _open_v1(source: FileSource, stack: contextlib.ExitStack) -> StoredValues:
    return V1Reader(stack.enter_context(source.files[0].open("rb")))


def _open_safetensors(source: FileSource, stack: contextlib.ExitStack) -> StoredValues:
    from hubexport.checkpoints.safetensors_file import SafetensorsReader  # Not needed for TF-Slim's checkpoints.

    return SafetensorsReader(source.files[0])


def _open_hdf5(source: FileSource, stack: contextlib.ExitStack) -> StoredValues:
    from hubexport.checkpoints.hdf5 import read_hdf5  # The same.

    what = f"cannot unpack {source.shown_as}"
    scratch = stack.enter_context(temporary_directory(what))
    with temporary_failures_reported(what):
        return read_hdf5(source.files[0], scratch)


def _open_keras_archive(source: FileSource, stack: contextlib.ExitStack) -> StoredValues:
    from hubexport.checkpoints.hdf5 import read_hdf5

    what = f"cannot unpack {source.shown_as}"
    scratch = stack.enter_context(temporary_directory(what))
    with KerasArchive(source.files[0]) as archive, temporary_failures_reported(what):
        return read_hdf5(archive.unpack_weights(scratch), scratch, archive.model_config())


# What is open for as long as its values are read goes onto the stack.
_OPENERS: dict[Container, Callable[[FileSource, contextlib.ExitStack], StoredValues]] = {
    "V2": _open_v2,
    "V1": _open_v1,
    "HDF5": _open_hdf5,
    "Keras archive": _open_keras_archive,
    "safetensors": _open_safetensors,
}
