"""Describes what is at a path: a module or a checkpoint, packed or not."""

from pathlib import Path

from hubexport.checkpoints.checkpoint_report import CheckpointReport, describe_checkpoint
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.sources import read_failures_reported, resolve_source
from hubexport.modules.module_report import ModuleReport, describe_module
from hubexport.modules.opening import holds_module, is_address, opened_module_directory
from hubexport.progress import Progress


def describe(path: str | Path, *, progress: Progress | None = None) -> ModuleReport | CheckpointReport:
    """Describes a module or a checkpoint.

    Args:
        path: a module, as a directory, an archive or an address; or a checkpoint, see `hubexport.checkpoints.sources`.
        progress: is told of each step.
    Raises:
        CheckpointError: the path is neither a module nor a checkpoint, or the checkpoint is damaged.
        ModuleError: the module is damaged, or cannot be downloaded.
    """
    progress = progress or Progress()
    with read_failures_reported(Path(path)):
        is_module = is_address(path) or holds_module(Path(path))
    if is_module:
        with opened_module_directory(path, progress) as artifact:
            return describe_module(artifact.directory, artifact.shown_as)
    source = resolve_source(path, None, progress)
    source.check_stored("inspected", fix="build or convert them with --variant, and inspect the result")
    with open_checkpoint(source, progress, accept_problems=True, accept_several=True) as opened:
        return describe_checkpoint(opened)
