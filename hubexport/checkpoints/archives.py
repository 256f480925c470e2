"""Checkpoints and modules in gzipped tars, as they are published."""

from collections.abc import Collection, Iterator
import contextlib
from pathlib import Path, PurePosixPath
import re

from hubexport.errors import CheckpointError
from hubexport.system.tars import ArchiveError, member_paths, unpack_archive

# In the directory of every SavedModel and TF1 Hub module.
MODULE_FILE = "saved_model.pb"
# SavedModels and TF1 Hub modules keep their checkpoint at this prefix.
MODULE_PREFIX = PurePosixPath("variables", "variables")

_CHECKPOINT_FILE = re.compile(r"checkpoint|.+\.(index|data-\d{5}-of-\d{5}|ckpt(-\d+)?)")
# The files that stand for a checkpoint: the index of a V2 checkpoint, or a V1 checkpoint.
_TELLING_SUFFIX = re.compile(r"\.(index|ckpt(-\d+)?)$")


def unpack_checkpoints(archive: Path, into: Path) -> list[PurePosixPath]:
    """Unpacks the checkpoint files of an archive, and leaves the rest packed.

    Args:
        archive: the `.tgz`.
        into: an existing folder. Files keep their paths below it.
    Returns:
        The paths of everything that the archive holds.
    Raises:
        CheckpointError: the archive is damaged, hostile or too large; see `hubexport.system.tars`.
        OSError: the files cannot be written.
    """
    with archive_errors_reworded():
        return unpack_archive(archive, into, _CHECKPOINT_FILE)


def module_of(prefix: PurePosixPath, paths: Collection[PurePosixPath]) -> PurePosixPath | None:
    """Returns the directory of the module that a checkpoint belongs to; None if it is in no module.

    Args:
        prefix: the checkpoint's prefix.
        paths: what there is, from the same folder on.
    """
    module = prefix.parent.parent
    return module if prefix == module / MODULE_PREFIX and module / MODULE_FILE in paths else None


def holds_modules_alone(archive: Path) -> bool:
    """Returns whether an archive holds a module, and no checkpoint beside it.

    Raises:
        CheckpointError: the archive is damaged, hostile or too large; see `hubexport.system.tars`.
    """
    with archive_errors_reworded():
        paths = {*member_paths(archive)}
    if not any(path.name == MODULE_FILE for path in paths):
        return False
    prefixes = (path.with_suffix("") if path.suffix == ".index" else path for path in paths if _is_telling(path))
    return all(module_of(prefix, paths) is not None for prefix in prefixes)


def _is_telling(path: PurePosixPath) -> bool:
    return _TELLING_SUFFIX.search(path.name) is not None


@contextlib.contextmanager
def archive_errors_reworded() -> Iterator[None]:
    """Turns an ArchiveError into a CheckpointError."""
    try:
        yield
    except ArchiveError as error:
        raise CheckpointError(error.what, why=error.why, fix=error.fix) from error
