"""Tells whether a path is a module or a file of trained values, packed or not, and describes it."""

from pathlib import Path
import tempfile

from hubexport.checkpoints.archive import MODULE_FILE, find_module, unpack_all
from hubexport.checkpoints.containers import container_of
from hubexport.checkpoints.reader import opened_checkpoint
from hubexport.checkpoints.sources import SyntheticSource, resolve_source
from hubexport.errors import CheckpointError
from hubexport.inspection.checkpoint import CheckpointReport, describe_checkpoint
from hubexport.inspection.module import ModuleReport, describe_module
from hubexport.output import scratch_directory
from hubexport.progress import Progress


def describe(path: str, *, progress: Progress | None = None) -> ModuleReport | CheckpointReport:
    """Describes what is at a path.

    Args:
        path: a module, as a directory or packed, or what `hubexport.checkpoints.sources` takes.
        progress: hears of each step.
    Raises:
        CheckpointError: there is nothing of the kind, or it is damaged.
        ModuleError: a module is damaged.
    """
    progress = progress or Progress()
    if (Path(path) / MODULE_FILE).is_file():
        return describe_module(Path(path))
    if Path(path).is_file() and container_of(Path(path)) == "gzip":
        folder = find_module(Path(path))
        if folder is not None:
            with scratch_directory(Path(tempfile.gettempdir())) as scratch:
                unpack_all(Path(path), scratch)
                return describe_module(scratch / folder, shown_as=Path(path))
    source = resolve_source(path, None, progress)
    if isinstance(source, SyntheticSource):
        raise CheckpointError(
            "synthetic values cannot be inspected",
            why="they could be of any network",
            fix="build or convert something of them with --variant, and inspect that",
        )
    with opened_checkpoint(source, progress) as opened:
        return describe_checkpoint(opened)
