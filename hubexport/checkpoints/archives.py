"""Checkpoints and modules in gzipped tars, as they are published."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
import re

from hubexport.errors import CheckpointError
from hubexport.system.tars import ArchiveError, member_paths, unpack_archive

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
        return any(path.name == MODULE_FILE for path in unpack_archive(archive, into, _CHECKPOINT_FILE))


def has_module(archive: Path) -> bool:
    """Returns whether an archive holds a module.

    Raises:
        CheckpointError: the archive is damaged, hostile or too large; see `hubexport.system.tars`.
    """
    with archive_errors_reworded():
        return any(path.name == MODULE_FILE for path in member_paths(archive))


@contextlib.contextmanager
def archive_errors_reworded() -> Iterator[None]:
    """Turns an ArchiveError into a CheckpointError."""
    try:
        yield
    except ArchiveError as error:
        raise CheckpointError(error.what, why=error.why, fix=error.fix) from error
