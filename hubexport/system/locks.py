"""Files on which one process at a time has a lock, as long as it lives; the next one says what it waits for.

Whoever may open a file may lock it. So only their owner can open these, and those who share the owner's group if the
umask lets them write. Where files cannot be locked (some network file systems), nobody is kept out.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
from pathlib import Path
import stat

from hubexport.errors import OutputError, printable
from hubexport.progress import Progress

# In a folder where output of several files takes its place.
LOCK = ".hubexport.lock"
# Nobody but its owner may read one: reading is enough to lock it.
_MODE = 0o620
_MAX_HOLDER_BYTES = 100
# What opening a link, a FIFO, a folder, and another user's file gives.
_NOT_OURS = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM)


class HeldError(Exception):
    """Another process has the lock; the message says which."""


@contextlib.contextmanager
def locked(path: Path, purpose: str, progress: Progress | None) -> Iterator[None]:
    """Holds a lock for as long as the context lasts; afterwards its file is gone.

    Args:
        path: the lock file; its folder exists.
        purpose: what a holder does, like `download m.tgz`.
        progress: hears who is waited for; without it, nobody is.
    Raises:
        HeldError: another process has the lock, and there is no `progress`.
        OutputError: what is there is somebody else's, or no lock file.
        OSError: the file cannot be made.
    """
    descriptor = _locked_file(path, purpose, progress)
    try:
        yield
    finally:
        if _is_at(descriptor, path):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def lock_at_once(descriptor: int) -> bool:
    """Locks an open file or directory, and returns whether its file system has locks.

    Raises:
        BlockingIOError: another process has the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _locked_file(path: Path, purpose: str, progress: Progress | None) -> int:
    while True:
        descriptor = _open(path)
        try:
            _wait(descriptor, path, purpose, progress)
            # Its last holder may have removed it after it was opened here: then it keeps nobody out.
            if _is_at(descriptor, path):
                with contextlib.suppress(OSError):  # On a full disk nobody learns who holds it.
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    # Neither through a link nor for ever, if somebody has put a link or a FIFO there.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, _MODE)
    except OSError as error:
        if error.errno not in _NOT_OURS or not os.path.lexists(path):
            raise
        raise _unusable(path, "something is there that is no lock file of this user") from None
    mine = os.fstat(descriptor).st_uid == os.geteuid()
    if not mine and path.parent.stat().st_mode & stat.S_IWOTH:
        os.close(descriptor)
        raise _unusable(path, "it belongs to another user")
    return descriptor


def _unusable(path: Path, why: str) -> OutputError:
    return OutputError(
        f"cannot lock {path}", why=why, fix="choose another folder, or remove that file if no hubexport runs there"
    )


def _wait(descriptor: int, path: Path, purpose: str, progress: Progress | None) -> None:
    try:
        lock_at_once(descriptor)
    except BlockingIOError:
        holder = _holder(path)
        if progress is None:
            raise HeldError(f"{holder} holds the lock {path}") from None
        progress.step(f"waiting for another process to {purpose}: {holder} holds the lock {path}")
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Returns what the holder has written into a lock file."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_HOLDER_BYTES).decode(errors="replace")
    except OSError:  # Of another user, say.
        text = ""
    return printable(text) or "it"
