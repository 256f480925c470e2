"""Files and directories that appear whole or not at all.

Unfinished output goes to scratch directories near its destination, named `.hubexport-…` and locked by the process that
fills them. If that process dies, the next process that works in the same folder removes its scratch directory.
"""

from collections.abc import Iterator, Sequence
import contextlib
import ctypes
import errno
import os
from pathlib import Path
import shutil
import tempfile

from hubexport.errors import OutputError
from hubexport.system.destinations import exists_error
from hubexport.system.locks import lock_at_once

_SCRATCH_PREFIX = ".hubexport-"

# From linux/fs.h and fcntl.h, for renameat2(2).
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """Makes a private directory in `parent`, and removes it with all its content at the end.

    First it removes the scratch directories that killed processes left in `parent`.

    Raises:
        OSError: the directory cannot be made.
    """
    make_folder(parent)
    _remove_leftovers(parent)
    scratch, lock = _new_scratch(parent)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _new_scratch(parent: Path) -> tuple[Path, int]:
    """Makes a directory. Returns it with a descriptor whose lock tells other processes that it is in use."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=parent))
        # Until it is locked, other processes may mistake it for a leftover and remove it.
        try:
            lock = _open_directory(scratch)
        except FileNotFoundError:
            continue
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            lock_at_once(lock)
            if os.path.samestat(os.fstat(lock), scratch.lstat()):
                return scratch, lock
        os.close(lock)


def _remove_leftovers(parent: Path) -> None:
    for leftover in parent.glob(f"{_SCRATCH_PREFIX}*"):
        try:
            descriptor = _open_directory(leftover)
        except OSError:
            continue  # It belongs to another user, or its owner has just removed it.
        try:
            # In a folder that others can write to, anybody may have made a directory of this name.
            if os.fstat(descriptor).st_uid == os.geteuid() and lock_at_once(descriptor):
                shutil.rmtree(leftover, ignore_errors=True)
        except BlockingIOError:
            pass  # Its owner is still running.
        finally:
            os.close(descriptor)


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def make_folder(folder: Path) -> None:
    """Makes a folder and its missing parents, and flushes their names to the disk.

    Raises:
        OSError: a folder cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        with contextlib.suppress(PermissionError):  # A folder that is writable but not readable cannot be flushed.
            _flush(path.parent)


def publish_directory(staged: Path, final: Path, *, overwrite: bool) -> None:
    """Moves a finished directory to its place. After a crash at any moment, either the old or the new one is there.

    Args:
        staged: the directory, in a scratch directory on the same file system. Afterwards it is gone, or holds the old
            content of `final` if that was replaced.
        final: the directory's place. Missing parents are made.
        overwrite: swap it with an existing directory.
    Raises:
        OutputError: `final` exists and `overwrite` is false, or the file system cannot swap directories.
        OSError: the directory cannot be moved.
    """
    for path in [*staged.rglob("*"), staged]:
        _flush(path)
    make_folder(final.parent)
    try:
        staged.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if not overwrite:
            raise exists_error(final) from None
        _exchange(staged, final)
    _flush(final.parent)


def publish_file(staged: Path, final: Path, *, overwrite: bool) -> None:
    """Moves a finished file to its place in one step.

    Args:
        staged: the file, on the same file system. Afterwards it is gone.
        final: the file's place. Missing parents are made.
        overwrite: replace an existing file.
    Raises:
        OutputError: `final` exists and `overwrite` is false.
        OSError: the file cannot be moved.
    """
    _flush(staged)
    make_folder(final.parent)
    if overwrite:
        staged.replace(final)
    else:
        try:
            os.link(staged, final)
        except FileExistsError:
            raise exists_error(final) from None
        staged.unlink()
    _flush(final.parent)


def publish_together(scratch: Path, finals: Sequence[Path], *, overwrite: bool) -> None:
    """Moves finished files that belong together to their places.

    The first file appears last, so it is never beside old versions of the others. Until then, old files are kept beside
    the new ones as `NAME.old`. After a crash they stay there.

    Args:
        scratch: a scratch directory on the same file system. It holds the files under their final names.
        finals: the places of the files, in one folder.
        overwrite: replace existing files.
    Raises:
        OutputError: a file exists and `overwrite` is false.
        OSError: a file cannot be moved. Then all old files are back in their places, without any new file.
    """
    if len(finals) == 1:
        publish_file(scratch / finals[0].name, finals[0], overwrite=overwrite)
        return
    put_aside = [(path, path.with_name(f"{path.name}.old")) for path in finals if overwrite and path.exists()]
    placed: list[Path] = []
    try:
        for path, aside in put_aside:
            path.rename(aside)
        for path in reversed(finals):
            publish_file(scratch / path.name, path, overwrite=overwrite)
            placed.append(path)
    except BaseException:
        for path in placed:
            path.unlink()
        for path, aside in reversed(put_aside):
            with contextlib.suppress(FileNotFoundError):
                aside.replace(path)
        raise
    for _, aside in put_aside:
        aside.unlink()


@contextlib.contextmanager
def write_failures_reported(what: str, place: Path, otherwise: str) -> Iterator[None]:
    """Turns an OSError from writing something into an OutputError.

    Args:
        what: the error's first line, like `cannot write model.h5`.
        place: the path to name if the system's error names none.
        otherwise: what the user can do instead of making room, like `choose another folder`.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            what,
            why=f"{error.strerror or error}: {error.filename or place}",
            fix=f"free space there and make it writable, or {otherwise}",
        ) from error


def _exchange(path: Path, other: Path) -> None:
    """Swaps two paths in one step, which Python's standard library cannot do."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        failure = errno.ENOSYS
    else:
        status = renameat2(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
        failure = ctypes.get_errno() if status else 0
    if failure in (errno.ENOSYS, errno.EINVAL):
        raise OutputError(
            f"cannot replace {other}",
            why="this system cannot swap two directories in one step, and a crash between two steps would lose both",
            fix="remove the old one first, or choose another place",
        )
    if failure:
        raise OSError(failure, os.strerror(failure), str(other))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
