"""Reads files that users or other programs name, without waiting for pipes or reading endless devices."""

import errno
import os
from pathlib import Path
import stat
from typing import BinaryIO


def open_regular_file(path: Path) -> BinaryIO:
    """Opens a file for reading.

    Raises:
        OSError: the file cannot be opened, or is a folder, a pipe, a socket or a device; `strerror` says which.
    """
    try:
        # Opening a device or a pipe may have effects by itself, so look first.
        _check_regular(os.stat(path), path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except ValueError as error:
        # The path has a NUL, or a character that no path can have.
        raise OSError(errno.EINVAL, f"it is not a path: {error}", str(path)) from error
    file = open(descriptor, "rb")
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        file.close()
        raise
    return file


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Returns the content of a file.

    Raises:
        OSError: see `open_regular_file`; or the file is larger than `max_bytes`.
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
