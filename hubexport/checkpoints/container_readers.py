"""Opens the files of a checkpoint with the reader of their container."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.keras_archive import KerasArchive
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.safetensors_index import SAFETENSORS_INDEX_SUFFIX
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.v1_checkpoint import V1Reader
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.errors import CheckpointError
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.system.damage import DamageError
from hubexport.system.temporary import temporary_directory, temporary_failures_reported

_Chunk = TypeVar("_Chunk")


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
            stored = _open(files, stack)
            if not stored.shapes:
                raise DamageError("it holds no values")
        yield stored


class DamageReporting(StoredValues):
    """Stored values whose damage is raised as CheckpointError, with the name of the file."""

    def __init__(self, stored: StoredValues, shown_as: Path) -> None:
        self._stored = stored
        self._shown_as = shown_as
        self.shapes = stored.shapes

    def dtype(self, name: str) -> str:
        return self._stored.dtype(name)

    def chunks(self, name: str) -> Iterator[npt.NDArray[Any]]:
        return self._reported(self._stored.chunks(name))

    def read(self, name: str) -> npt.NDArray[Any]:
        with damage_reported(self._shown_as):
            return self._stored.read(name)

    def stored_chunks(self, name: str) -> Iterator[bytes] | None:
        with damage_reported(self._shown_as):
            chunks = self._stored.stored_chunks(name)
        return None if chunks is None else self._reported(chunks)

    def _reported(self, chunks: Iterator[_Chunk]) -> Iterator[_Chunk]:
        # What is done with a chunk between two of them fails for reasons of its own.
        while True:
            with damage_reported(self._shown_as):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk


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


def _open(files: CheckpointFiles, stack: contextlib.ExitStack) -> StoredValues:
    """Opens files with their reader, and puts onto the stack whatever must stay open while values are read."""
    path = files.paths[0]
    if files.container == "V1":
        return V1Reader(stack.enter_context(path.open("rb")))
    if files.container == "V2":
        bundle = BundleReader(files.prefix)
        return ValuesByVariable(bundle) if OBJECT_GRAPH_KEY in bundle.shapes else bundle
    # The libraries for other files are imported late: TF-Slim's checkpoints do not need them.
    if files.container == "safetensors":
        from hubexport.checkpoints.safetensors_file import SafetensorsReader, read_shards

        return read_shards(path) if path.name.endswith(SAFETENSORS_INDEX_SUFFIX) else SafetensorsReader(path)
    from hubexport.checkpoints.hdf5 import read_hdf5

    what = f"cannot unpack {files.prefix}"
    scratch = stack.enter_context(temporary_directory(what))
    if files.container == "HDF5":
        with temporary_failures_reported(what):
            return read_hdf5(path, scratch)
    with contextlib.closing(KerasArchive(path)) as archive, temporary_failures_reported(what):
        return read_hdf5(archive.unpack_weights(scratch), scratch, archive.model_config())
