"""Opens archives that somebody else made: nothing in them can write outside, link, or grow without bound."""

from collections.abc import Iterator
import contextlib
import fnmatch
import gzip
import hashlib
import io
from pathlib import Path, PurePosixPath
import re
import shutil
import tarfile
from typing import IO
import zlib

from hubexport.errors import CheckpointError

# Far more than any checkpoint of an image network, and not so much that it fills a disk.
MAX_UNPACKED_BYTES = 4 << 30
MAX_MEMBERS = 10_000
# Of single reads: tarfile reads the headers that extend a member's name or attributes in one piece.
_MAX_READ_BYTES = 1 << 20

# Of a SavedModel or a TF1 Hub module.
MODULE_FILE = "saved_model.pb"

_CHECKPOINT_FILE = re.compile(r".+\.(index|data-\d{5}-of-\d{5}|ckpt(-\d+)?)")


def unpack_checkpoint(archive: Path, into: Path) -> bool:
    """Unpacks the checkpoint files of a gzipped tar, all into one folder, and leaves the rest packed.

    Args:
        archive: the `.tgz`; every member is looked at, also those that are not unpacked.
        into: an existing folder.
    Returns:
        Whether the archive holds a module, too.
    Raises:
        CheckpointError: the archive is damaged, is not one, is too large, or has members that no checkpoint archive has
            (links, devices, absolute paths, `..`, one file twice).
        OSError: the files cannot be written.
    """
    holds_module = False
    with _damage_reported(archive):
        for tar, member in _members(archive):
            name = PurePosixPath(member.name).name
            holds_module |= name == MODULE_FILE
            if member.isfile() and _CHECKPOINT_FILE.fullmatch(name):
                _extract(archive, tar, member, into / name)
    return holds_module


def find_module(archive: Path) -> PurePosixPath | None:
    """Returns the folder of the module that a gzipped tar holds; None if it holds none.

    Raises:
        CheckpointError: see `unpack_checkpoint`.
    """
    with _damage_reported(archive):
        paths = [PurePosixPath(member.name) for _, member in _members(archive)]
    return next((path.parent for path in paths if path.name == MODULE_FILE), None)


def read_member(archive: Path, pattern: str) -> bytes | None:
    """Returns the content of the first file whose name fits a pattern like `*.pb`; None if there is none.

    Raises:
        CheckpointError: see `unpack_checkpoint`.
    """
    with _damage_reported(archive):
        for tar, member in _members(archive):
            name = PurePosixPath(member.name).name
            if member.isfile() and not name.startswith(".") and fnmatch.fnmatchcase(name, pattern):
                content = io.BytesIO()
                _copy(tar, member, content)
                return content.getvalue()
    return None


def read_file(archive: Path, file: IO[bytes], name: str, limit: int) -> bytes | None:
    """Returns the content of a file near the start of a gzipped tar; what comes after it is not looked at.

    Args:
        archive: what messages call it.
        file: the archive, opened.
        name: the member's.
        limit: how many bytes are unzipped to find and read it.
    Returns:
        None if it is not among them.
    Raises:
        CheckpointError: see `unpack_checkpoint`.
    """
    with _damage_reported(archive):
        for tar, member in _members(archive, file):
            if member.offset_data + member.size > limit:
                break
            if member.name == name and member.isfile():
                content = io.BytesIO()
                _copy(tar, member, content)
                return content.getvalue()
    return None


def unpack_all(archive: Path, into: Path) -> None:
    """Unpacks all files of a gzipped tar, each in its folder; see `unpack_checkpoint`."""
    with _damage_reported(archive):
        for tar, member in _members(archive):
            if member.isfile():
                target = into / member.name
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                except (FileExistsError, NotADirectoryError):
                    raise _refusal(archive, f"its member {member.name!r} is in a folder that is also a file") from None
                _extract(archive, tar, member, target)


def hash_members(archive: Path, file: IO[bytes], keep: str) -> Iterator[tuple[tarfile.TarInfo, str, bytes]]:
    """Yields the members of a gzipped tar, folders as well, each with the SHA-256 of its content.

    Args:
        archive: what messages call it.
        file: the archive, opened; it is read once, and to its end.
        keep: the name of a small file whose content is wanted, too; of others it is left empty.
    Raises:
        CheckpointError: see `unpack_checkpoint`; or that file is larger than 1 MiB.
    """
    with _damage_reported(archive):
        for tar, member in _members(archive, file):
            if member.name == keep and member.size > _MAX_READ_BYTES:
                raise _refusal(archive, f"its member {keep!r} is larger than 1 MiB")
            digest, kept = hashlib.sha256(), b""
            if content := tar.extractfile(member):
                while block := content.read(_MAX_READ_BYTES):
                    digest.update(block)
                    kept = block if member.name == keep else b""
            yield member, digest.hexdigest(), kept


def _members(archive: Path, file: IO[bytes] | None = None) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yields the members one after another, each looked at, with the tar that they can be extracted from."""
    with gzip.open(file or archive, "rb") as unzipped:
        stream = _BoundedStream(archive, unzipped)
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            for count, member in enumerate(tar, start=1):
                if count > MAX_MEMBERS:
                    raise _refusal(archive, f"it has more than {MAX_MEMBERS} members")
                _check_member(archive, member)
                yield tar, member
        # What follows the last member is padding, but its checksum covers all the rest.
        while stream.read(_MAX_READ_BYTES):
            pass


class _BoundedStream:
    """The unzipped bytes, refused once they are more than any checkpoint has."""

    def __init__(self, archive: Path, stream: gzip.GzipFile) -> None:
        self._archive = archive
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes."""
        if size > _MAX_READ_BYTES:
            raise _refusal(self._archive, "a member's header is larger than 1 MiB")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        """Goes on to a position; tarfile skips members' contents so."""
        # Only a negative size leads back; each step back would unzip everything before it again.
        if position < self._stream.tell():
            raise _refusal(self._archive, "a member has a negative size")
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        """Returns the position in the unzipped bytes."""
        return self._stream.tell()

    def _check(self, position: int) -> None:
        # The last read may reach a little beyond the end.
        if position > MAX_UNPACKED_BYTES + _MAX_READ_BYTES:
            raise _refusal(self._archive, f"it unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise _refusal(archive, f"its member {member.name!r} points outside the archive")
    if member.size < 0:
        raise _refusal(archive, f"its member {member.name!r} has a negative size")
    if not (member.isfile() or member.isdir()):
        raise _refusal(archive, f"its member {member.name!r} is a link or a device")
    # A sparse file's holes are not in the stream, so that the stream's bound would not hold them.
    if member.issparse():
        raise _refusal(archive, f"its member {member.name!r} is a sparse file")


def _extract(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    try:
        file = target.open("xb")
    except FileExistsError:
        raise _refusal(archive, f"it has two files named {target.name!r}") from None
    with file:
        _copy(tar, member, file)


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: IO[bytes]) -> None:
    content = tar.extractfile(member)
    assert content is not None, "extractfile returns None for directories and devices only"
    with content:
        shutil.copyfileobj(content, target, _MAX_READ_BYTES)


@contextlib.contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    try:
        yield
    # tarfile raises ValueError and OverflowError for numbers in extended headers that are none, or too large, and calls
    # itself for each header that extends another.
    except (
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        tarfile.TarError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise CheckpointError(
            f"cannot unpack {archive}",
            why=f"it is damaged or not a gzipped tar: {error}",
            fix="download it again, and compare its SHA-256 with the published one",
        ) from error


def _refusal(archive: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"refusing to unpack {archive}",
        why=why,
        fix="use an archive from a source that you trust, or unpack it yourself and use the checkpoint inside",
    )
