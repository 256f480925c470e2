"""Reads TFRecord files without TensorFlow.

A record is the length of its data (8 bytes), a checksum of the length (4 bytes), the data, and a checksum of the data
(4 bytes); see tensorflow/core/lib/io/record_writer.cc. A whole file may be gzipped.
"""

from collections.abc import Iterator
import contextlib
import gzip
import os
from pathlib import Path
import struct
from typing import Any, BinaryIO
import zlib

from hubexport.system.crc32c import masked_crc32c
from hubexport.system.regular_files import open_regular_file

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size
_GZIP = b"\x1f\x8b"
# Far above any photograph. Without a limit, a damaged file could fill the memory.
_MAX_RECORD_BYTES = 256 << 20


class RecordError(ValueError):
    """A file has no records, or damaged ones. The message gives the reason in a few words."""


def is_record_file(path: Path) -> bool:
    """Returns whether a file begins with a record, gzipped or not. An empty file counts: it has no records.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with _opened(path) as file:
            return _read_length(file) is not None or path.stat().st_size == 0
    except RecordError:
        return False


def split_records(path: Path, at_most: int) -> list[tuple[int, int]]:
    """Splits a file into parts.

    This skips the records' data without reading it. A gzipped file cannot be skipped through, so it is one part.

    Args:
        path: the file.
        at_most: the largest number of records in a part.
    Returns:
        The position of each part in the uncompressed file, in bytes, and its number of records.
    Raises:
        RecordError: the file is damaged, or ends in the middle of a record.
        OSError: the file cannot be read.
    """
    offsets = []
    with _opened(path) as file:
        while (length := _read_length(file)) is not None:
            offsets.append(file.tell() - _HEADER_BYTES)
            file.seek(length, os.SEEK_CUR)
            _read(file, _CHECKSUM.size)
    if _is_gzipped(path):
        at_most = max(1, len(offsets))
    return [(offsets[start], len(offsets[start : start + at_most])) for start in range(0, len(offsets), at_most)]


def read_records(path: Path, offset: int, count: int) -> Iterator[bytes]:
    """Yields records.

    Args:
        path: the file.
        offset: the position of the first record in the uncompressed file, in bytes.
        count: the number of records.
    Raises:
        RecordError: a record is missing or damaged.
        OSError: the file cannot be read.
    """
    with _opened(path) as file:
        file.seek(offset)
        for _ in range(count):
            length = _read_length(file)
            if length is None:
                raise RecordError("it ends before its last record")
            data = _read(file, length)
            if _CHECKSUM.unpack(_read(file, _CHECKSUM.size))[0] != masked_crc32c(data):
                raise RecordError(f"the checksum of the record that ends at byte {file.tell()} is wrong")
            yield data


def _read_length(file: BinaryIO) -> int | None:
    """Reads a record's header and returns the length of its data; None at the end of the file."""
    header = file.read(_HEADER_BYTES)
    if not header:
        return None
    if len(header) < _HEADER_BYTES or not _is_header(header):
        raise RecordError(f"there is no record at byte {file.tell() - len(header)}")
    length: int = _LENGTH.unpack_from(header)[0]
    if length > _MAX_RECORD_BYTES:
        raise RecordError(f"a record is larger than {_MAX_RECORD_BYTES >> 20} MiB")
    return length


def _is_header(header: bytes) -> bool:
    return _CHECKSUM.unpack_from(header, _LENGTH.size)[0] == masked_crc32c(header[: _LENGTH.size])


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise RecordError("it ends in the middle of a record")
    return data


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(open_regular_file(path))
        if _is_gzipped(path):
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        try:
            yield file
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise RecordError(f"it is damaged: {error}") from error


def _is_gzipped(path: Path) -> bool:
    with open_regular_file(path) as file:
        header = file.read(_HEADER_BYTES)
    # A record's length may begin with the same two bytes, but then its checksum is right.
    return header.startswith(_GZIP) and not (len(header) == _HEADER_BYTES and _is_header(header))
