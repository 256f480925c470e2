"""Temporary folders, and errors that blame them, not the input, if they are full."""

from collections.abc import Iterator
import contextlib
import errno
from pathlib import Path
import tempfile

from hubexport.errors import TemporaryFileError
from hubexport.system.atomic_output import scratch_directory

# The system's errors for a full or read-only disk. Other errors may come from the input.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_NO_PERMISSION = (errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def temporary_directory(what: str) -> Iterator[Path]:
    """Makes a private directory for temporary files, and removes it at the end of the context.

    Args:
        what: the first line of the error, like `cannot unpack m.tgz`.
    Raises:
        TemporaryFileError: the directory cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(scratch_directory(Path(tempfile.gettempdir())))
        except OSError as error:
            raise _error(what, error) from error
        yield directory


@contextlib.contextmanager
def temporary_failures_reported(what: str) -> Iterator[None]:
    """Turns an OSError for lack of room or permission into a TemporaryFileError.

    Args:
        what: the first line of the error, like `cannot unpack m.tgz`.
    Raises:
        TemporaryFileError: temporary files have no room, or may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (*NO_ROOM, *_NO_PERMISSION):
            raise
        raise _error(what, error) from error


def _error(what: str, error: OSError) -> TemporaryFileError:
    try:
        place = tempfile.gettempdir()
    except OSError:  # There is no such folder, as `error` says.
        place = "TMPDIR"
    return TemporaryFileError(
        what,
        why=f"it needs temporary files: {error.strerror or error}: {error.filename or place}",
        fix=f"free space in {place} and make it writable, or set TMPDIR to another folder",
    )
