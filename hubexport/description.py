"""Tells whether a path is a module or a file of trained values, packed or not, and describes it."""

from pathlib import Path

from hubexport.checkpoints.checkpoint_report import CheckpointReport, describe_checkpoint
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.sources import read_failures_reported, resolve_source
from hubexport.modules.module_report import ModuleReport, describe_module
from hubexport.modules.opening import holds_module, is_address, opened_module_directory
from hubexport.progress import Progress


def describe(path: str | Path, *, progress: Progress | None = None) -> ModuleReport | CheckpointReport:
    """Describes what is at a path.

    Args:
        path: a module, as a directory, packed or at an address, or what `hubexport.checkpoints.sources` takes.
        progress: hears of each step.
    Raises:
        CheckpointError: there is nothing of the kind, or it is damaged.
        ModuleError: a module is damaged, or cannot be fetched.
    """
    progress = progress or Progress()
    with read_failures_reported(Path(path)):
        is_module = is_address(path) or holds_module(Path(path))
    if is_module:
        with opened_module_directory(path, progress) as artifact:
            return describe_module(artifact.directory, artifact.shown_as)
    source = resolve_source(path, None, progress)
    source.check_stored("inspected", fix="build or convert them with --variant, and inspect the result")
    with open_checkpoint(source, progress, accept_problems=True) as opened:
        return describe_checkpoint(opened)
