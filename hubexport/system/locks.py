"""Locks between processes: while one process holds a lock file, the next one waits, and reports whom it waits for.

Anyone who can open a file can lock it. So only its owner can open a lock file, and the owner's group if the umask lets
it write. If the file system has no locks, like some network file systems, processes do not wait for each other.

The package filelock is no substitute: it polls, names no holder, leaves files behind, locks FIFOs and other users'
files, fails where there are no locks (ENOLCK), and cannot lock the directories of `hubexport.system.atomic_output`.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
from pathlib import Path
import stat
from typing import IO

from hubexport.errors import OutputError, printable
from hubexport.progress import Progress

# In a folder into which output of several files is moved.
LOCK = ".hubexport.lock"
# Nobody but the owner may read the file, because reading it is enough to lock it.
_MODE = 0o620
_MAX_HOLDER_BYTES = 100
# The errors of opening a link, a FIFO, a folder, and another user's file.
_NOT_OURS = (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES, errno.EPERM)


class HeldError(Exception):
    """Another process has the lock; the message says which."""


@contextlib.contextmanager
def locked(path: Path, purpose: str, progress: Progress | None) -> Iterator[None]:
    """Holds a lock for as long as the context lasts, and removes its file afterwards.

    Args:
        path: the lock file, in an existing folder.
        purpose: what the lock is for, as a verb phrase like `download m.tgz`.
        progress: receives a step that names the process it waits for. With None, it does not wait.
    Raises:
        HeldError: another process has the lock, and `progress` is None.
        OutputError: the file belongs to another user, or is not a lock file.
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
    """Locks an open file or directory. Returns false if its file system has no locks.

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


@contextlib.contextmanager
def turn_of_this_process(file: IO[bytes]) -> Iterator[None]:
    """Waits for its turn among the processes that inherited an open file, and has it until the context ends.

    If a process is killed, the system ends its turn.
    """
    # Unlike flock, it tells apart processes that share one opening of the file.
    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)


def _locked_file(path: Path, purpose: str, progress: Progress | None) -> int:
    while True:
        descriptor = _open(path)
        try:
            _wait(descriptor, path, purpose, progress)
            # If the last holder removed the file after we opened it, our lock keeps nobody out.
            if _is_at(descriptor, path):
                with contextlib.suppress(OSError):  # On a full disk, the file does not name its holder.
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode())
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    # Somebody may have put a link or a FIFO there: do not follow it, or wait for its reader.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, _MODE)
    except OSError as error:
        if error.errno not in _NOT_OURS or not os.path.lexists(path):
            raise
        raise _unusable(path, "it is not a lock file of this user") from None
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
        holder = ""
        with contextlib.suppress(OSError), path.open("rb") as file:  # It may be another user's, and not be readable.
            holder = printable(file.read(_MAX_HOLDER_BYTES).decode(errors="replace"))
        holder = holder or "it"
        if progress is None:
            raise HeldError(f"{holder} holds the lock {path}") from None
        progress.step(f"waiting for another process to {purpose}: {holder} holds the lock {path}")
        with contextlib.suppress(OSError):  # See `lock_at_once`.
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
