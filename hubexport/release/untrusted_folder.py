"""Reads a folder that somebody else filled: bounded, without waiting, and never through a link."""

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

# No packed module is larger; a sparse file of any size is made in no time, and read in a long one.
_MAX_FILE_BYTES = 4 << 30
# Of pages, reports and the like.
_MAX_TEXT_BYTES = 4 << 20
# In one document; pydantic keeps a thousand bytes for each that is wrong.
_MAX_VALUES = 20_000
# Between the lines of a report, longer texts would only hide the others.
_MAX_TEXT = 300
_BLOCK_BYTES = 1 << 20

_Model = TypeVar("_Model", bound=pydantic.BaseModel)

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UntrustedFileError(Exception):
    """Something is not as it has to be; the message says what in a few words."""


def shown(text: str) -> str:
    """Returns a stranger's text, short and safe to print."""
    text = printable(text[: _MAX_TEXT + 1])
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


class UntrustedFolder(contextlib.ExitStack):
    """A folder, open as long as the context lasts.

    Args:
        path: of the folder; it may be a link, nothing in it may.
    Raises:
        OSError: there is no such folder, or none that may be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.callback(os.close, self._descriptor)

    def open(self, name: str) -> BinaryIO:
        """Opens a file by its path in the folder.

        Raises:
            WrongError: the path leads out of the folder; or the file is missing, a link or none, or cannot be opened.
        """
        *folders, last = name.split("/")
        if "\0" in name or {"", ".", ".."} & {*folders, last}:
            raise UntrustedFileError("is not a path inside the release")
        place = self._descriptor
        with read_failures_told(), contextlib.ExitStack() as stack:
            for folder in folders:
                _refuse_links(folder, place)
                place = os.open(folder, _FLAGS | os.O_DIRECTORY, dir_fd=place)
                stack.callback(os.close, place)
            # A device may do something when it is opened.
            if not stat.S_ISREG(_refuse_links(last, place)):
                raise UntrustedFileError("is not a regular file")
            return os.fdopen(os.open(last, _FLAGS, dir_fd=place), "rb")

    def read(self, name: str, limit: int) -> bytes:
        """Reads a file of up to `limit` bytes.

        Raises:
            WrongError: see `open`; or it is larger.
        """
        with self.open(name) as file, read_failures_told():
            size = _size(file)
            if size > limit:
                raise UntrustedFileError(f"has {size:,} bytes, more than the limit of {limit:,}")
            return file.read(size)


def _refuse_links(name: str, place: int) -> int:
    """Returns the type and mode of what has a name in a folder."""
    mode = os.stat(name, dir_fd=place, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise UntrustedFileError("is a link, or inside a linked folder")
    return mode


@contextlib.contextmanager
def read_failures_told() -> Iterator[None]:
    """Turns what the system says into a WrongError."""
    try:
        yield
    except UnicodeEncodeError:
        raise UntrustedFileError("has a name that this system cannot represent") from None
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        raise UntrustedFileError("is missing" if missing else f"cannot be read: {error.strerror}") from error


def check_listed(folder: UntrustedFolder, file: ReleaseFile) -> None:
    """Compares a file with what is listed.

    Raises:
        WrongError: it is not the same.
    """
    with opened_listed(folder, file):
        pass


@contextlib.contextmanager
def opened_listed(folder: UntrustedFolder, file: ReleaseFile) -> Iterator[BinaryIO]:
    """Opens a file that is as it is listed, at its start.

    Raises:
        WrongError: it is not.
    """
    with folder.open(file.path) as opened:
        with read_failures_told():
            _compare(file, _size(opened), _sha256(opened))
            opened.seek(0)
        yield opened


def read_listed(folder: UntrustedFolder, file: ReleaseFile) -> str:
    """Reads a text that is as it is listed.

    Raises:
        WrongError: it is not, or is very long.
    """
    content = folder.read(file.path, _MAX_TEXT_BYTES)
    _compare(file, len(content), hashlib.sha256(content).hexdigest())
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UntrustedFileError("is not text") from None


def check_digest(folder: UntrustedFolder, path: str, sha256: str) -> None:
    """Compares a file, of any size, with a digest.

    Raises:
        WrongError: it has another one.
    """
    with folder.open(path) as opened, read_failures_told():
        _compare(ReleaseFile(path="any", sha256=sha256, bytes=_size(opened)), _size(opened), _sha256(opened))


def parsed(model: type[_Model], text: str, what: str = "is") -> _Model:
    """Parses JSON that hubexport should have written.

    Args:
        model: what it has to say.
        text: the JSON.
        what: begins the message.
    Raises:
        WrongError: it says something else, or very much.
    """
    if text.count(",") > _MAX_VALUES:
        raise UntrustedFileError(f"{what} not what hubexport writes: it has more than {_MAX_VALUES:,} values")
    try:
        return model.model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "".join(f"{part}: " for part in first["loc"])
        raise UntrustedFileError(f"{what} not what hubexport writes: {place}{first['msg']}") from None


def _compare(file: ReleaseFile, size: int, sha256: str) -> None:
    if size != file.bytes:
        raise UntrustedFileError(f"has {size:,} bytes, not {file.bytes:,}")
    if sha256 != file.sha256:
        raise UntrustedFileError(f"its SHA-256 is {sha256}, not {file.sha256}")


def _size(opened: BinaryIO) -> int:
    """Returns the size of an open file.

    Raises:
        WrongError: to read it would take very long.
    """
    size = os.fstat(opened.fileno()).st_size
    if size > _MAX_FILE_BYTES:
        raise UntrustedFileError(f"has {size:,} bytes, more than any release file")
    return size


def _sha256(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := opened.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
