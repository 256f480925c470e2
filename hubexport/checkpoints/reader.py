"""From what `--checkpoint` names to the values of a network's variables."""

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path

from hubexport.arrays import Array
from hubexport.checkpoints.bundle import BundleError, BundleReader
from hubexport.checkpoints.select import StoredValues, select_values
from hubexport.checkpoints.sources import ArchiveSource, FileSource, Source, SyntheticSource, Weights
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.errors import CheckpointError
from hubexport.networks.layers import Variable
from hubexport.progress import Progress
from hubexport.variants import Variant


def read_values(
    source: Source, variables: Sequence[Variable], weights: Weights, variant: Variant, progress: Progress
) -> dict[str, Array]:
    """Reads or makes up the values of all variables.

    Args:
        source: where from.
        variables: whose values are wanted.
        weights: see `hubexport.checkpoints.select.select_values`.
        variant: what the checkpoint should be of.
        progress: hears of the steps.
    Returns:
        float32 values by variable name, finite and of the variables' shapes.
    Raises:
        CheckpointError: they are not all there and right.
    """
    if isinstance(source, SyntheticSource):
        progress.step(f"making up values from seed {source.seed}")
        return {variable.name: synthetic_value(variable, source.seed) for variable in variables}
    shown_as = source.path if isinstance(source, ArchiveSource) else source.prefix
    progress.step(f"reading {shown_as}")
    with source.opened() as files, _damage_reported(shown_as):
        return select_values(_open(files, progress), shown_as, variables, weights, variant)


def _open(source: FileSource, progress: Progress) -> StoredValues:
    if not source.is_v1:
        reader = BundleReader(source.prefix)
        if not reader.has_slices:
            return reader
    with progress.tensorflow_starting():
        from hubexport.checkpoints.tensorflow_reader import TensorFlowReader  # Takes seconds, and is seldom needed.
    return TensorFlowReader(source.prefix)


@contextlib.contextmanager
def _damage_reported(shown_as: Path) -> Iterator[None]:
    try:
        yield
    except (BundleError, OSError) as error:
        raise CheckpointError(
            f"cannot read checkpoint {shown_as}",
            why=str(error),
            fix="it is damaged or no TensorFlow checkpoint: fetch or copy it again",
        ) from error
