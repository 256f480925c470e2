"""From what `--checkpoint` names to the values of a network's variables."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import tempfile
from typing import Any, Literal

import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.checkpoints.bundle import BundleReader
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.judgement import judge
from hubexport.checkpoints.keras_archive import KerasArchive
from hubexport.checkpoints.object_based import values_by_variable
from hubexport.checkpoints.recognize import Recognition, in_slim_terms, most_likely_layout, plain_shapes, recognize
from hubexport.checkpoints.select import select_values
from hubexport.checkpoints.sources import (
    ArchiveSource,
    FileSource,
    Source,
    SyntheticSource,
    Weights,
    unpack_failures_reported,
)
from hubexport.checkpoints.stored import DamageError, StoredValues
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.errors import CheckpointError
from hubexport.extras import require_extras
from hubexport.mappings.registry import SLIM
from hubexport.mappings.tf2 import OBJECT_GRAPH_KEY
from hubexport.networks.layers import Variable
from hubexport.networks.registry import PUBLISHED_DEPTH_MULTIPLIERS
from hubexport.output import scratch_directory
from hubexport.progress import Progress
from hubexport.variants import Variant


@dataclasses.dataclass(frozen=True)
class OpenedCheckpoint:
    """Values that can be read for as long as their source is open.

    Attributes:
        native: the values under the names that they have in the file; those of object-based checkpoints under their
            variables' names.
        recognition: what they are of; None if that cannot be told.
        container: how the file stores them.
        packed: whether that is in a gzipped tar.
        object_based: whether a graph of objects told their names.
        of_training: whether they may be plain and averaged, with the rest of a training's state.
        doubt: why they are not what their names and shapes say; None if they are.
    """

    native: StoredValues
    recognition: Recognition | None
    container: Container
    packed: bool
    object_based: bool
    of_training: bool
    doubt: str | None


@dataclasses.dataclass(frozen=True)
class Restored:
    """A network's values.

    Attributes:
        values: float32 by variable name, finite and of the variables' shapes.
        weights: which they are; `only` where the source has one value a variable.
    """

    values: dict[str, Array]
    weights: Weights | Literal["only"]


def read_values(
    source: Source, variables: Sequence[Variable], weights: Weights, variant: Variant, progress: Progress
) -> Restored:
    """Reads or makes up the values of all variables.

    Args:
        source: where from.
        variables: whose values are wanted.
        weights: see `hubexport.checkpoints.select.select_values`.
        variant: what the checkpoint should be of.
        progress: hears of the steps.
    Raises:
        CheckpointError: they are not all there and right.
    """
    if isinstance(source, SyntheticSource):
        progress.step(f"making up synthetic values from seed {source.seed}")
        return Restored({variable.name: synthetic_value(variable, source.seed) for variable in variables}, "only")
    with opened_checkpoint(source, progress, (variant.depth_multiplier,)) as opened:
        return restore(opened, source.shown_as, variables, weights, variant)


def restore(
    opened: OpenedCheckpoint, shown_as: Path, variables: Sequence[Variable], weights: Weights, variant: Variant | None
) -> Restored:
    """Reads the values of variables from an open checkpoint; see `read_values`."""
    if opened.recognition is None and most_likely_layout(opened.native.shapes)[0] != SLIM:
        raise unrecognized_error(opened, shown_as)
    stored = in_slim_terms(opened.native, opened.recognition)
    values = select_values(stored, shown_as, variables, weights if opened.of_training else "raw", variant)
    return Restored(values, weights if opened.of_training else "only")


def unrecognized_error(opened: OpenedCheckpoint, shown_as: Path) -> CheckpointError:
    """Returns the error for values of which nobody knows what they are of."""
    layout, known, total = most_likely_layout(plain_shapes(opened.native))
    return CheckpointError(
        f"cannot identify the network in {shown_as}",
        why=opened.doubt
        or f"its names and shapes match no published MobileNet V2: it has {known} of {total} variables by their "
        f"{layout} names, and {len(opened.native.shapes)} values in all",
        fix="pass the variant with --variant, or use another file",
    )


@contextlib.contextmanager
def opened_checkpoint(
    source: Source, progress: Progress, multipliers: Sequence[float] = ()
) -> Iterator[OpenedCheckpoint]:
    """Opens a source that is no synthetic one, for as long as the context lasts.

    Args:
        source: where from.
        progress: hears of the steps.
        multipliers: depth multipliers to try before the published ones.
    Raises:
        CheckpointError: it is damaged; damage to values is told when they are read.
    """
    assert not isinstance(source, SyntheticSource), "there is nothing to open"
    progress.step(f"reading {source.shown_as}")
    with source.opened() as files, contextlib.ExitStack() as stack:
        with _damage_reported(source.shown_as):
            stored = _OPENERS[files.container](files, stack, progress)
            object_based = isinstance(stored, BundleReader) and OBJECT_GRAPH_KEY in stored.shapes
            if isinstance(stored, BundleReader) and object_based:
                stored = values_by_variable(stored)
        recognition = recognize(stored, (*multipliers, *PUBLISHED_DEPTH_MULTIPLIERS))
        recognition, doubt = judge(recognition, stored, source.shown_as, progress)
        native = _DamageReporting(stored, source.shown_as)
        yield OpenedCheckpoint(
            native,
            recognition,
            files.container,
            packed=isinstance(source, ArchiveSource),
            object_based=object_based,
            of_training=files.is_of_training and not object_based,
            doubt=doubt,
        )


class _DamageReporting:
    """Stored values whose damage is told in hubexport's form, with the file's name."""

    def __init__(self, stored: StoredValues, shown_as: Path) -> None:
        self._stored = stored
        self._shown_as = shown_as
        self.shapes = stored.shapes
        self.dtype = stored.dtype

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one value of numbers."""
        with _damage_reported(self._shown_as):
            return self._stored.read(name)


def _open_v2(source: FileSource, stack: contextlib.ExitStack, progress: Progress) -> StoredValues:
    reader = BundleReader(source.prefix)
    return _open_with_tensorflow(source, stack, progress) if reader.has_slices else reader


def _open_with_tensorflow(source: FileSource, stack: contextlib.ExitStack, progress: Progress) -> StoredValues:
    require_extras(f"reading {source.shown_as}", "tensorflow")
    with progress.tensorflow_starting():
        from hubexport.checkpoints.tensorflow_reader import TensorFlowReader  # Takes seconds, and is seldom needed.
    return TensorFlowReader(source.prefix)


def _open_safetensors(source: FileSource, stack: contextlib.ExitStack, progress: Progress) -> StoredValues:
    from hubexport.checkpoints.safetensors_file import SafetensorsReader  # Not needed for TF-Slim's checkpoints.

    return SafetensorsReader(source.files[0])


def _open_hdf5(source: FileSource, stack: contextlib.ExitStack, progress: Progress) -> StoredValues:
    from hubexport.checkpoints.hdf5 import read_hdf5  # The same.

    scratch = _scratch(source, stack)
    with unpack_failures_reported(source.shown_as):
        return read_hdf5(source.files[0], scratch)


def _open_keras_archive(source: FileSource, stack: contextlib.ExitStack, progress: Progress) -> StoredValues:
    from hubexport.checkpoints.hdf5 import read_hdf5

    scratch = _scratch(source, stack)
    with KerasArchive(source.files[0]) as archive, unpack_failures_reported(source.shown_as):
        return read_hdf5(archive.unpack_weights(scratch), scratch, archive.model_config())


def _scratch(source: FileSource, stack: contextlib.ExitStack) -> Path:
    """Makes a folder that is there until the stack ends."""
    with unpack_failures_reported(source.shown_as):
        return stack.enter_context(scratch_directory(Path(tempfile.gettempdir())))


# What one opens for as long as its values are read goes onto the stack.
_OPENERS: dict[Container, Callable[[FileSource, contextlib.ExitStack, Progress], StoredValues]] = {
    "V2": _open_v2,
    "V1": _open_with_tensorflow,
    "HDF5": _open_hdf5,
    "Keras archive": _open_keras_archive,
    "safetensors": _open_safetensors,
}


@contextlib.contextmanager
def _damage_reported(shown_as: Path) -> Iterator[None]:
    try:
        yield
    except (DamageError, OSError) as error:
        raise CheckpointError(
            f"cannot read checkpoint {shown_as}",
            why=str(error),
            fix="it is damaged or not a weights file: fetch or copy it again",
        ) from error
