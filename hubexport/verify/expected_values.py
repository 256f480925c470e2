"""The values that a module should have, read from the checkpoint that `--checkpoint` names."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

from hubexport.arrays import Array
from hubexport.build import provenance_fields
from hubexport.checkpoints.checkpoint_choice import checkpoint_for
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.restore import RestoredValues, restore_values
from hubexport.checkpoints.sources import Source, resolve_source
from hubexport.checkpoints.weights_choice import ONLY, Choice, Weights
from hubexport.errors import CheckpointError
from hubexport.formats.manifest import MANIFEST, MAX_MANIFEST_BYTES, ManifestError, parse_manifest
from hubexport.modules.identity import ModuleIdentity
from hubexport.progress import Progress

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
        provenance: returns what `hubexport.json` says of a module with these values: its fields `values`, `weights`
            and `checkpoint`.
        provenance_of_module: returns what the manifest of the module that holds these values says of them, in the same
            form; None if they are in no module, or in one without a valid manifest.
        other: reads the network's other values in the checkpoint, by `averaged` or `raw`; empty if it has only one
            choice.
        frozen_graph: reads the publisher's frozen graph, a serialized GraphDef; returns None if the checkpoint comes
            without one.
    """

    shown_as: str
    weights: str
    values: Mapping[str, Array]
    provenance: Callable[[], Mapping[str, Any]]
    provenance_of_module: Callable[[], Mapping[str, Any] | None]
    other: Callable[[], Mapping[str, Mapping[str, Array]]]
    frozen_graph: Callable[[], bytes | None]


def read_expected_values(
    checkpoint: str, module: ModuleIdentity, progress: Progress, scope: str | None = None
) -> ExpectedValues:
    """Reads the values that a module should have.

    Args:
        checkpoint: the checkpoint, in any of the forms that `hubexport.checkpoints.sources` lists, or what stands for
            those of many variants, see `hubexport.checkpoints.checkpoint_choice.checkpoint_for`.
        module: the module. Its manifest says whether it should have averaged or raw values.
        progress: is told of each step.
        scope: what the names of the network's variables begin with in the checkpoint. Defaults to the manifest's scope.
    Raises:
        CheckpointError: the checkpoint is missing or damaged, or does not fit the network.
    """
    variables = module.network.variables
    if scope is None and module.manifest:
        scope = module.manifest.checkpoint.scope
    # Only a config tells the name of the published archive.
    chosen = checkpoint_for(module.config or module.variant, checkpoint)
    assert chosen is not None, "None stands for no checkpoint but None"
    source = resolve_source(chosen, module.variant, progress, scope=scope)
    recorded = module.manifest.weights if module.manifest else None
    weights: Weights = "raw" if recorded == "raw" else "auto" if recorded in (None, ONLY) else "averaged"
    with open_checkpoint(source, progress, module.variant) as opened:
        restored = restore_values(opened, variables, weights)
        values = {name: value.read() for name, value in restored.values.items()}
    return ExpectedValues(
        chosen,
        restored.weights(),
        values,
        provenance=lambda: {
            **provenance_fields(source, in_module=restored.in_module),
            "weights": restored.weights(),
        },
        provenance_of_module=functools.partial(_provenance_of_module, source, restored),
        other=functools.partial(_other_values, source, module, restored),
        frozen_graph=functools.partial(source.read_beside, _FROZEN_GRAPH),
    )


def _provenance_of_module(source: Source, restored: RestoredValues) -> Mapping[str, Any] | None:
    if not restored.in_module:
        return None
    try:
        manifest = parse_manifest(source.read_in_module(MANIFEST, MAX_MANIFEST_BYTES) or b"")
    except ManifestError:
        return None
    checkpoint = manifest.checkpoint.model_dump(exclude_none=True)
    return {"values": manifest.values, "weights": manifest.weights, "checkpoint": checkpoint}


def _other_values(
    source: Source, module: ModuleIdentity, restored: RestoredValues
) -> Mapping[str, Mapping[str, Array]]:
    """Returns the averaged values if the restored ones are raw, and the other way round."""
    if not restored.choices:
        return {}
    other: Choice = "averaged" if restored.weights() == "raw" else "raw"
    try:
        with open_checkpoint(source, Progress(), module.variant) as opened:
            others = restore_values(opened, module.network.variables, other)
            return {other: {name: value.read() for name, value in others.values.items()}}
    except CheckpointError:
        return {}  # Not every checkpoint has both.
