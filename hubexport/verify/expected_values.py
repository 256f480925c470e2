"""The values that a module should have, read from the checkpoint that `--checkpoint` names."""

from collections.abc import Callable, Mapping
import dataclasses
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

# The published archives have it beside the checkpoint.
_FROZEN_GRAPH = "*_frozen.pb"


@dataclasses.dataclass(frozen=True)
class ExpectedValues:
    """The values that a module should have.

    Attributes:
        shown_as: what messages call the checkpoint.
        weights: which of the checkpoint's values these are, in the manifest's words: `averaged`, `raw`, a count of each
            like `158 averaged, 104 raw`, or `only`.
        values: the values by variable name.
        other: the network's other values in the checkpoint, by `averaged` or `raw`; empty if it has only one choice.
        frozen_graph: reads the publisher's frozen graph, a serialized GraphDef; returns None if the checkpoint comes
            without one.
    """

    shown_as: str
    weights: str
    values: Mapping[str, Array]
    other: Mapping[str, Mapping[str, Array]]
    frozen_graph: Callable[[], bytes | None]


def read_expected_values(checkpoint: str, subject: ModuleIdentity, progress: Progress) -> ExpectedValues:
    """Reads the values that a module should have.

    Args:
        checkpoint: the checkpoint, in any of the forms that `hubexport.checkpoints.sources` lists.
        subject: the module. Its manifest says whether it should have averaged or raw values.
        progress: is told of each step.
    Raises:
        CheckpointError: the checkpoint is missing or damaged, or does not fit the network.
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
    frozen_graph = functools.partial(_read_frozen_graph, source)
    return ExpectedValues(checkpoint, restored.weights(), restored.values, other, frozen_graph)


def _other_values(
    opened: OpenedCheckpoint, shown_as: Path, subject: ModuleIdentity, weights: Weights
) -> Mapping[str, Mapping[str, Array]]:
    """Returns the averaged values if `weights` are the raw ones, and the other way round."""
    other: Weights = "raw" if weights == "averaged" else "averaged"
    try:
        restored = restore(opened, shown_as, subject.network.variables, other, subject.variant)
    except CheckpointError:
        return {}  # Not every checkpoint has both.
    return {other: restored.values}


def _read_frozen_graph(source: ArchiveSource | FileSource) -> bytes | None:
    if isinstance(source, ArchiveSource):
        with archive_errors_reworded():
            return read_first_matching(source.path, _FROZEN_GRAPH)
    beside = sorted(source.files[0].parent.glob(_FROZEN_GRAPH))
    return beside[0].read_bytes() if len(beside) == 1 else None
