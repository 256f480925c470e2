"""What a module's values should be, from what `--checkpoint` names."""

from collections.abc import Callable, Mapping
import functools
from pathlib import Path

from hubexport.arrays import Array
from hubexport.checkpoints.archives import archive_errors_reworded
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, opened_checkpoint, read_values, restore
from hubexport.checkpoints.sources import ArchiveSource, FileSource, SyntheticSource, Weights, resolve_source
from hubexport.errors import CheckpointError
from hubexport.modules.identity import ModuleIdentity
from hubexport.progress import Progress
from hubexport.system.tars import read_first_matching
from hubexport.verify.context import ExpectedValues

# In the published archives, beside the checkpoint.
_FROZEN_GRAPH = "*_frozen.pb"


def read_trained(checkpoint: str, subject: ModuleIdentity, progress: Progress) -> ExpectedValues:
    """Reads the values that a module should have.

    Args:
        checkpoint: where they are, see `hubexport.checkpoints.sources`.
        subject: the module; of a training's checkpoint the values are taken that its `hubexport.json` names.
        progress: hears of each step.
    Raises:
        CheckpointError: they cannot be found, read or fitted to the network.
    """
    variables = subject.network.variables
    source = resolve_source(checkpoint, subject.variant, progress)
    weights: Weights = "raw" if subject.manifest and subject.manifest.weights == "raw" else "averaged"
    if isinstance(source, SyntheticSource):
        restored = read_values(source, variables, weights, subject.variant, progress)
        return ExpectedValues(checkpoint, restored.weights(), restored.values, {}, lambda: None)
    with opened_checkpoint(source, progress, (subject.variant.depth_multiplier,)) as opened:
        restored = restore(opened, source.shown_as, variables, weights, subject.variant)
        other = _other_values(opened, source.shown_as, subject, weights) if restored.taken else {}
    return ExpectedValues(
        checkpoint, restored.weights(), restored.values, other, functools.cache(_frozen_graph(source))
    )


def _other_values(
    opened: OpenedCheckpoint, shown_as: Path, subject: ModuleIdentity, weights: Weights
) -> Mapping[str, Mapping[str, Array]]:
    other: Weights = "raw" if weights == "averaged" else "averaged"
    try:
        restored = restore(opened, shown_as, subject.network.variables, other, subject.variant)
    except CheckpointError:
        return {}  # Not every checkpoint has both.
    return {other: restored.values}


def _frozen_graph(source: ArchiveSource | FileSource) -> Callable[[], bytes | None]:
    def read() -> bytes | None:
        if isinstance(source, ArchiveSource):
            with archive_errors_reworded():
                return read_first_matching(source.path, _FROZEN_GRAPH)
        beside = sorted(source.files[0].parent.glob(_FROZEN_GRAPH))
        return beside[0].read_bytes() if len(beside) == 1 else None

    return read
