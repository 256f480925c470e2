"""Small files that users name, read whole: never a pipe that nobody writes to, or a device that does not end."""

import errno
import os
from pathlib import Path
import stat
from typing import BinaryIO


def open_regular_file(path: Path) -> BinaryIO:
    """Opens a file to be read, and waits for nobody.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a socket or a device; `strerror` says it in a few words.
    """
    try:
        # What opening alone would do to a device, or to whoever waits at the other end of a pipe.
        _check_regular(os.stat(path), path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:
        # Of a path with a NUL, or with a character that no path has.
        raise OSError(errno.EINVAL, f"it is not a path: {error}", str(path)) from error
    file = open(descriptor, "rb")
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        file.close()
        raise
    return file


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Returns what is in a file.

    Args:
        path: the file's.
        max_bytes: how many these may be.
    Raises:
        OSError: as for `open_regular_file`, or it is larger.
    """
    with open_regular_file(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes >> 20} MiB", str(path))
    return content


def _check_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file", str(path))
