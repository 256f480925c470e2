"""The files of a directory, and their digests."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Returns a file's SHA-256 in lower-case hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tree_files(directory: Path) -> list[Path]:
    """Returns all files below a directory, sorted by their path."""
    return sorted(path for path in directory.rglob("*") if path.is_file())
