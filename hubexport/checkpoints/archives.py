"""Checkpoints and modules in gzipped tars, as they are published."""

from collections.abc import Iterator
import contextlib
from pathlib import Path, PurePosixPath
import re

from hubexport.errors import CheckpointError
from hubexport.system.tars import ArchiveError, member_paths, unpack_matching

# In the directory of every SavedModel and TF1 Hub module.
MODULE_FILE = "saved_model.pb"

_CHECKPOINT_FILE = re.compile(r".+\.(index|data-\d{5}-of-\d{5}|ckpt(-\d+)?)")


def unpack_checkpoint(archive: Path, into: Path) -> bool:
    """Unpacks the checkpoint files of an archive, all into one folder, and leaves the rest packed.

    Args:
        archive: the `.tgz`.
        into: an existing folder.
    Returns:
        Whether the archive also holds a module.
    Raises:
        CheckpointError: the archive is damaged, hostile or too large; see `hubexport.system.tars`.
        OSError: the files cannot be written.
    """
    with archive_errors_reworded():
        return MODULE_FILE in unpack_matching(archive, _CHECKPOINT_FILE, into)


def find_module(archive: Path) -> PurePosixPath | None:
    """Returns the folder of the module in an archive; None if it holds no module.

    Raises:
        CheckpointError: the archive is damaged, hostile or too large; see `hubexport.system.tars`.
    """
    with archive_errors_reworded():
        return next((path.parent for path in member_paths(archive) if path.name == MODULE_FILE), None)


@contextlib.contextmanager
def archive_errors_reworded() -> Iterator[None]:
    """Turns an ArchiveError into a CheckpointError."""
    try:
        yield
    except ArchiveError as error:
        raise CheckpointError(error.what, why=error.why, fix=error.fix) from error
