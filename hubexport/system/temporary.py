"""Folders for temporary files, and errors that blame them, not what is read, when they have no room."""

from collections.abc import Iterator
import contextlib
import errno
from pathlib import Path
import tempfile

from hubexport.errors import TemporaryFileError
from hubexport.system.atomic_output import scratch_directory

# What the system says of a place that takes no more, or nothing at all. Other failures may be those of what is read.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_NO_PERMISSION = (errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def temporary_directory(what: str) -> Iterator[Path]:
    """Makes a private directory among the temporary files; it is gone after the context.

    Args:
        what: could not be done without, like `cannot unpack m.tgz`.
    Raises:
        TemporaryFileError: there is no room for one.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(scratch_directory(Path(tempfile.gettempdir())))
        except OSError as error:
            raise _error(what, error) from error
        yield directory


@contextlib.contextmanager
def temporary_failures_reported(what: str) -> Iterator[None]:
    """Turns what the system says when there is no room for temporary files into a TemporaryFileError.

    Args:
        what: could not be done, like `cannot unpack m.tgz`.
    Raises:
        TemporaryFileError: there is none, or no permission to write.
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
    except OSError:  # There is none at all, which is what `error` says.
        place = "TMPDIR"
    return TemporaryFileError(
        what,
        why=f"it needs temporary files: {error.strerror or error}: {error.filename or place}",
        fix=f"free space in {place} and make it writable, or set TMPDIR to another folder",
    )
