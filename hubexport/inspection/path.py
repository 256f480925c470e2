"""Tells whether a path is a module or a file of trained values, packed or not, and describes it."""

from pathlib import Path
import tempfile

from hubexport.checkpoints.archive import MODULE_FILE, find_module, unpack_all
from hubexport.checkpoints.containers import container_of
from hubexport.checkpoints.reader import opened_checkpoint
from hubexport.checkpoints.sources import (
    SyntheticSource,
    read_failures_reported,
    resolve_source,
    unpack_failures_reported,
)
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
    given = Path(path)
    with read_failures_reported(given):
        if (given / MODULE_FILE).is_file():
            return describe_module(given)
        folder = find_module(given) if given.is_file() and container_of(given) == "gzip" else None
    if folder is not None:
        with unpack_failures_reported(given), scratch_directory(Path(tempfile.gettempdir())) as scratch:
            unpack_all(given, scratch)
            return describe_module(scratch / folder, shown_as=given)
    source = resolve_source(path, None, progress)
    if isinstance(source, SyntheticSource):
        raise CheckpointError(
            "synthetic values cannot be inspected",
            why="they could be of any network",
            fix="build or convert something of them with --variant, and inspect that",
        )
    with opened_checkpoint(source, progress) as opened:
        return describe_checkpoint(opened)
