"""What a module's values should be, from what `--checkpoint` names."""

from collections.abc import Mapping
import functools

from hubexport.arrays import Array
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.restore import restore_values
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.weights_choice import Weights
from hubexport.errors import CheckpointError
from hubexport.modules.identity import ModuleIdentity
from hubexport.progress import Progress
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
    with open_checkpoint(source, progress, subject.variant) as opened:
        restored = restore_values(opened, variables, weights)
        other = _other_values(opened, subject, weights) if restored.choices else {}
    frozen_graph = functools.cache(functools.partial(source.read_beside, _FROZEN_GRAPH))
    return ExpectedValues(checkpoint, restored.weights(), restored.values, other, frozen_graph)


def _other_values(
    opened: OpenedCheckpoint, subject: ModuleIdentity, weights: Weights
) -> Mapping[str, Mapping[str, Array]]:
    other: Weights = "raw" if weights == "averaged" else "averaged"
    try:
        restored = restore_values(opened, subject.network.variables, other)
    except CheckpointError:
        return {}  # Not every checkpoint has both.
    return {other: restored.values}
