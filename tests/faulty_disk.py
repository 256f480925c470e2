"""A disk that is too small."""

from collections.abc import Iterator
import contextlib
import errno
import os
from pathlib import Path
import shutil
import subprocess
from typing import NoReturn

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """Mounts a file system of this size at a folder; skips the test if that is not permitted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def hide_free_space() -> None:
    """Keeps the rest of this process from knowing how much room a disk has: it finds out while it writes."""
    shutil.disk_usage = _unknown


def _unknown(path: object) -> NoReturn:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), path)
