"""Packs modules the way hub servers serve them: the same files give the same bytes, on any machine and at any time.

An archive does not depend on the order of a folder, nor on owners, modes or clocks. One fixed release of libdeflate
compresses it, because the output of Python's own zlib depends on the library that Python was built with.
"""

from collections.abc import Iterator
import io
import os
from pathlib import Path
import re
import tarfile

import deflate

from hubexport.errors import ModuleError, UsageError

# libdeflate's level 9 makes a module of real weights 1.4% smaller, and takes more than twice as long.
_LEVEL = 6
# A tar header has 11 octal digits for a time.
_MTIME_LIMIT = 8**11
_EPOCH = "SOURCE_DATE_EPOCH"


def pack(directory: Path, archive: Path, *, mtime: int) -> None:
    """Packs a directory into a gzipped tar.

    Folders are members, too, and precede what they contain, because tensorflow_hub creates no folder that is not one.

    Args:
        directory: the module, which becomes the root of the archive.
        archive: the file to write.
        mtime: the time of every member's last change, in seconds since 1970.
    Raises:
        ModuleError: the directory contains a link, a device or the like.
        OSError: a file cannot be read or written.
    """
    packed = io.BytesIO()
    # PAX is plain USTAR for names that fit its headers.
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        # Sorted as bytes, because text depends on the locale.
        for entry in sorted(_entries(os.fsencode(directory)), key=lambda entry: entry.path):
            name = os.path.relpath(entry.path, os.fsencode(directory)).decode("utf-8", "surrogateescape")
            _add(tar, name, entry, mtime)
    archive.write_bytes(deflate.gzip_compress(packed.getbuffer(), _LEVEL))


def _entries(directory: bytes) -> Iterator["os.DirEntry[bytes]"]:
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def _add(tar: tarfile.TarFile, name: str, entry: "os.DirEntry[bytes]", mtime: int) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = mtime
    if entry.is_dir(follow_symlinks=False):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    elif entry.is_file(follow_symlinks=False):
        with open(entry.path, "rb") as file:
            member.size, member.mode = os.fstat(file.fileno()).st_size, 0o644
            tar.addfile(member, file)
    else:
        raise ModuleError(
            f"cannot pack {os.fsdecode(entry.path)}",
            why="it is a link or a special file, and loaders unpack only files and folders",
            fix="replace it with the file itself, or build the module again",
        )


def source_date_epoch() -> int:
    """Returns the time in SOURCE_DATE_EPOCH, in seconds since 1970, or 0 if it is not set.

    Raises:
        UsageError: it is not a whole number of seconds, or too large for a tar header.
    """
    text = os.environ.get(_EPOCH, "0")
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) >= _MTIME_LIMIT:
        raise UsageError(
            f"{_EPOCH} is {text!r}",
            why=f"it must be a whole number of seconds since 1970, below {_MTIME_LIMIT}",
            fix=f"set one like {_EPOCH}=1577836800, or unset it to use 0",
        )
    return int(text)
