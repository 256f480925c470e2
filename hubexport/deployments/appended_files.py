"""The zip archive after a TFLite model, which may be damaged or hostile: the names of its files, and one of them."""

import os
import struct
from typing import BinaryIO
import zipfile
import zlib

from hubexport.system.damage import DamageError

# Models have one or two files; each could take little room in an archive, and much in memory.
_MOST_FILES = 100
_MOST_DIRECTORY_BYTES = 1 << 20
# Lists of class names are far smaller.
_MOST_FILE_BYTES = 1 << 22
# The last record of an archive says how many files it has. A comment may follow.
_END, _END_BYTES, _LONGEST_COMMENT = b"PK\5\6", 22, 65535


def appended_files(file: BinaryIO, wanted: str | None) -> tuple[list[str], bytes | None]:
    """Reads the archive after a model.

    Args:
        file: the model, open for reading.
        wanted: the name of a file in the archive; None for none.
    Returns:
        The names of all files, and the content of the wanted one; None if that is not there.
    Raises:
        DamageError: the archive is damaged, or unreasonably large.
    """
    if not _has_archive(file):
        return [], None
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if wanted is None or wanted not in names:
                return names, None
            size = archive.getinfo(wanted).file_size
            if size > _MOST_FILE_BYTES:
                raise DamageError(f"{wanted} has {size:,} bytes")
            return names, archive.read(wanted)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, OverflowError, RuntimeError, ValueError) as error:
        raise DamageError(str(error)) from error


def _has_archive(file: BinaryIO) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES - _LONGEST_COMMENT))
    tail = file.read()
    start = tail.rfind(_END)
    if start < 0 or start + _END_BYTES > len(tail):
        return False
    count, length = struct.unpack_from("<HI", tail, start + 10)
    if count > _MOST_FILES or length > _MOST_DIRECTORY_BYTES:
        raise DamageError(f"it has {count:,} files, and a list of {length:,} bytes")
    return True
