"""Reads gzipped tars from strangers: nothing in them can write outside, link, or grow without bound."""

from collections.abc import Iterator, Mapping
import contextlib
import gzip
import hashlib
import io
from pathlib import Path, PurePosixPath
import re
import shutil
import tarfile
from typing import IO
import zlib

from hubexport.errors import HubexportError

# Far more than any image network takes, and too little to fill a disk.
MAX_UNPACKED_BYTES = 4 << 30
MAX_MEMBERS = 10_000
# For single reads: tarfile reads a header that extends a member's name or attributes in one piece.
_MAX_READ_BYTES = 1 << 20
# For malformed or huge numbers in extended headers tarfile raises ValueError or OverflowError, and it recurses for each
# header that extends another.
_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError, ValueError, OverflowError, RecursionError)


class ArchiveError(HubexportError):
    """An archive is damaged, not a gzipped tar, too large, or hostile.

    Hostile members are links, devices, sparse files, absolute paths, paths with `..`, and repeated files. The functions
    here check every member that they pass, whether they unpack it or not.
    """


def member_paths(archive: Path) -> list[PurePosixPath]:
    """Returns the paths of all files and folders in an archive, in its order.

    Raises:
        ArchiveError: the archive cannot be read safely.
    """
    with _damage_reported(archive):
        return [PurePosixPath(member.name) for _, member in _members(archive)]


def unpack_archive(archive: Path, into: Path, only: re.Pattern[str] | None = None) -> list[PurePosixPath]:
    """Unpacks files, and returns the paths of all members.

    Args:
        archive: the gzipped tar.
        into: an existing folder. Files keep their paths below it.
        only: unpack only the files whose names match. Defaults to all files.
    Raises:
        ArchiveError: the archive cannot be unpacked safely.
        OSError: the files cannot be written.
    """
    paths = []
    with _damage_reported(archive):
        for tar, member in _members(archive):
            path = PurePosixPath(member.name)
            paths.append(path)
            if member.isfile() and (only is None or only.fullmatch(path.name)):
                _extract(archive, tar, member, into / path)
    return paths


def read_first_matching(archive: Path, pattern: str, max_bytes: int = MAX_UNPACKED_BYTES) -> bytes | None:
    """Returns the content of the first file whose name fits a pattern like `*.pb`; None if no file fits.

    A pattern with folders, like `assets/*.txt`, must fit the end of a file's path.

    Raises:
        ArchiveError: the archive cannot be read safely, or the file is larger than `max_bytes`.
    """
    with _damage_reported(archive):
        for tar, member in _members(archive):
            path = PurePosixPath(member.name)
            if member.isfile() and not path.name.startswith(".") and path.match(pattern):
                if member.size > max_bytes:
                    raise _refusal(archive, f"its member {member.name!r} is larger than {max_bytes >> 20} MiB")
                return _content(tar, member)
    return None


def read_near_start(archive: Path, file: IO[bytes], name: str, max_bytes: int) -> bytes | None:
    """Returns the content of a file near the start of an archive, without looking at what follows it.

    Args:
        archive: what messages call the archive.
        file: the archive, open for reading.
        name: the member's name.
        max_bytes: how many unzipped bytes to read at most.
    Returns:
        None if the file does not end within `max_bytes`.
    Raises:
        ArchiveError: the archive cannot be read safely.
    """
    with _damage_reported(archive):
        for tar, member in _members(archive, file):
            if member.offset_data + member.size > max_bytes:
                break
            if member.name == name and member.isfile():
                return _content(tar, member)
    return None


def hash_members(
    archive: Path, file: IO[bytes], keep: Mapping[str, int]
) -> Iterator[tuple[tarfile.TarInfo, str, bytes]]:
    """Yields all members, including folders, each with the SHA-256 of its content.

    Args:
        archive: what messages call the archive.
        file: the archive, open for reading. It is read once, to its end.
        keep: the names of files whose content is yielded, too, and how many bytes they may have.
    Yields:
        The member, its SHA-256 in hexadecimal, and its content if it is in `keep`, else `b""`.
    Raises:
        ArchiveError: the archive cannot be read safely, a file in `keep` is too large, or more than padding follows the
            last member.
    """
    with _damage_reported(archive):
        for tar, member in _members(archive, file, to_the_end=True):
            if member.size > keep.get(member.name, member.size):
                raise _refusal(archive, f"its member {member.name!r} is larger than {keep[member.name] >> 20} MiB")
            digest, kept = hashlib.sha256(), io.BytesIO()
            if content := tar.extractfile(member):
                while block := content.read(_MAX_READ_BYTES):
                    digest.update(block)
                    if member.name in keep:
                        kept.write(block)
            yield member, digest.hexdigest(), kept.getvalue()


def _members(
    archive: Path, file: IO[bytes] | None = None, *, to_the_end: bool = False
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yields the members in order, each checked, with the tar to extract it from.

    With `to_the_end`, what follows the last member must be padding.
    """
    with gzip.open(file or archive, "rb") as unzipped:
        stream = _BoundedStream(archive, unzipped)
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            for count, member in enumerate(tar, start=1):
                if count > MAX_MEMBERS:
                    raise _refusal(archive, f"it has more than {MAX_MEMBERS} members")
                _check_member(archive, member)
                yield tar, member
        # Only padding follows the last member, but gzip's checksum comes after it.
        while block := stream.read(_MAX_READ_BYTES):
            if to_the_end and block.strip(b"\0"):
                raise _refusal(archive, "more than padding follows its last member")


class _BoundedStream:
    """The unzipped bytes, refused beyond `MAX_UNPACKED_BYTES`."""

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
        """Moves forward to a position, as tarfile does to skip a member's content."""
        # Only a negative size leads back, and each step back would unzip everything before it again.
        if position < self._stream.tell():
            raise _refusal(self._archive, "a member has a negative size")
        self._check(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        """Returns the position in the unzipped bytes."""
        return self._stream.tell()

    def _check(self, position: int) -> None:
        # The last read may reach a little beyond the end of the archive.
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
    # A sparse file's holes are not in the stream, so the stream's bound does not cover them.
    if member.issparse():
        raise _refusal(archive, f"its member {member.name!r} is a sparse file")


def _extract(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise _refusal(archive, f"its member {member.name!r} is in a folder that is also a file") from None
    try:
        file = target.open("xb")
    except FileExistsError:
        raise _refusal(archive, f"it has two files named {target.name!r}") from None
    with file:
        _copy(tar, member, file)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = io.BytesIO()
    _copy(tar, member, content)
    return content.getvalue()


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, target: IO[bytes]) -> None:
    content = tar.extractfile(member)
    assert content is not None, "extractfile returns None for directories and devices only"
    with content:
        shutil.copyfileobj(content, target, _MAX_READ_BYTES)


@contextlib.contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ArchiveError(
            f"cannot unpack {archive}",
            why=f"it is damaged or not a gzipped tar: {error}",
            fix="download it again, and compare its SHA-256 with the published one",
        ) from error


def _refusal(archive: Path, why: str) -> ArchiveError:
    return ArchiveError(
        f"refusing to unpack {archive}",
        why=why,
        fix="use an archive from a source that you trust, or unpack it yourself and use what is inside",
    )
