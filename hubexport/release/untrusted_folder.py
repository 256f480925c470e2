"""Reads files that a stranger wrote: never without a limit, never through a link, and without waiting for a writer."""

from collections.abc import Iterator
import contextlib
import errno
import hashlib
import os
from pathlib import Path
import stat
from typing import BinaryIO, TypeVar

import pydantic

from hubexport.errors import printable
from hubexport.release.index import ReleaseFile

# No packed module is larger. A sparse file of any size takes no time to make, but a long time to read.
_MAX_FILE_BYTES = 4 << 30
# The limit for pages, reports and the like.
_MAX_TEXT_BYTES = 4 << 20
# The limit for one JSON document. Pydantic keeps a thousand bytes for each value that is wrong.
_MAX_VALUES = 20_000
# Longer texts would hide the rest of a report.
_MAX_TEXT = 300

_Model = TypeVar("_Model", bound=pydantic.BaseModel)

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UntrustedFileError(Exception):
    """A file is not what it should be; the message says how, in a few words."""


def shortened(text: str) -> str:
    """Returns a stranger's text, cut to a reasonable length and safe to print."""
    text = printable(text[: _MAX_TEXT + 1])
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


class UntrustedFolder(contextlib.ExitStack):
    """A folder of a stranger's files, which stays open until the context ends.

    Args:
        path: the folder. The path itself may be a link.
    Raises:
        OSError: the folder does not exist, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.callback(os.close, self._descriptor)

    def open(self, name: str) -> BinaryIO:
        """Opens a file by its path in the folder.

        Raises:
            UntrustedFileError: the path leads out of the folder or through a link; or the file is missing, is not a
                regular file, or cannot be opened.
        """
        *folders, last = name.split("/")
        if "\0" in name or {"", ".", ".."} & {*folders, last}:
            raise UntrustedFileError("is not a path inside the release")
        parent = self._descriptor
        with os_errors_converted(), contextlib.ExitStack() as stack:
            for folder in folders:
                _refuse_links(folder, parent)
                parent = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=parent)
                stack.callback(os.close, parent)
            # Checked first, because opening a device may have an effect.
            if not stat.S_ISREG(_refuse_links(last, parent)):
                raise UntrustedFileError("is not a regular file")
            return os.fdopen(os.open(last, _FLAGS, dir_fd=parent), "rb")

    def read(self, name: str, limit: int) -> bytes:
        """Reads a file of up to `limit` bytes.

        Raises:
            UntrustedFileError: the file is larger, or cannot be opened.
        """
        with self.open(name) as file, os_errors_converted():
            size = _size(file)
            if size > limit:
                raise UntrustedFileError(f"has {size:,} bytes, more than the limit of {limit:,}")
            return file.read(size)


def _refuse_links(name: str, parent: int) -> int:
    """Returns the mode of an entry of a folder, unless it is a link."""
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise UntrustedFileError("is a link, or inside a linked folder")
    return mode


@contextlib.contextmanager
def os_errors_converted() -> Iterator[None]:
    """Turns the system's errors into UntrustedFileErrors."""
    try:
        yield
    except UnicodeEncodeError:
        raise UntrustedFileError("has a name that this system cannot represent") from None
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise UntrustedFileError("is missing" if missing else f"cannot be read: {error.strerror}") from error


def check_listed(folder: UntrustedFolder, file: ReleaseFile) -> None:
    """Compares a file's size and digest with what is listed.

    Raises:
        UntrustedFileError: they differ.
    """
    with opened_listed(folder, file):
        pass


@contextlib.contextmanager
def opened_listed(folder: UntrustedFolder, file: ReleaseFile) -> Iterator[BinaryIO]:
    """Opens a file after comparing its size and digest with what is listed.

    Raises:
        UntrustedFileError: they differ.
    """
    with folder.open(file.path) as opened:
        with os_errors_converted():
            _compare(file, _size(opened), _sha256(opened))
            opened.seek(0)
        yield opened


def read_listed(folder: UntrustedFolder, file: ReleaseFile) -> str:
    """Reads a text in UTF-8 of at most 4 MiB whose size and digest are as listed.

    Raises:
        UntrustedFileError: they differ, or the text is longer or not UTF-8.
    """
    content = folder.read(file.path, _MAX_TEXT_BYTES)
    _compare(file, len(content), hashlib.sha256(content).hexdigest())
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UntrustedFileError("is not text") from None


def check_digest(folder: UntrustedFolder, path: str, sha256: str) -> None:
    """Compares a file's digest with what is listed.

    Raises:
        UntrustedFileError: they differ.
    """
    with folder.open(path) as opened, os_errors_converted():
        _compare(ReleaseFile(path="any", sha256=sha256, bytes=_size(opened)), _size(opened), _sha256(opened))


def parsed(model: type[_Model], text: str, what: str = "is") -> _Model:
    """Parses JSON that hubexport should have written.

    Args:
        model: the model of the document.
        text: the JSON.
        what: the first words of the error's message.
    Raises:
        UntrustedFileError: the JSON does not fit the model, or has more than 20,000 values.
    """
    if text.count(",") > _MAX_VALUES:
        raise UntrustedFileError(f"{what} not what hubexport writes: it has more than {_MAX_VALUES:,} values")
    try:
        return model.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise UntrustedFileError(f"{what} not what hubexport writes: {first_error(error)}") from None


def first_error(error: pydantic.ValidationError) -> str:
    """Returns the first of the errors in a document, after its place, in one line."""
    first = error.errors(include_url=False, include_input=False)[0]
    return "".join(f"{part}: " for part in first["loc"]) + first["msg"]


def _compare(file: ReleaseFile, size: int, sha256: str) -> None:
    if size != file.bytes:
        raise UntrustedFileError(f"has {size:,} bytes, not {file.bytes:,}")
    if sha256 != file.sha256:
        raise UntrustedFileError(f"its SHA-256 is {sha256}, not {file.sha256}")


def _size(opened: BinaryIO) -> int:
    """Returns the size of an open file.

    Raises:
        UntrustedFileError: the file is larger than 4 GiB.
    """
    size = os.fstat(opened.fileno()).st_size
    if size > _MAX_FILE_BYTES:
        raise UntrustedFileError(f"has {size:,} bytes, more than any release file")
    return size


def _sha256(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := opened.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
