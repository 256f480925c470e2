"""The cache of downloaded archives. Downloading is another module, because importing the HTTP library takes a while.

An archive is in a folder that is named after its SHA-256. Beside it there may be `NAME.part`, the beginning that an
interrupted download left; `NAME.wrong-…`, another file that the server sent instead; and, while a process downloads,
`NAME.lock`.

Some configs have no SHA-256, because the publishers give none. The first download of such an archive is accepted; it
begins in a folder that is named after the archive's address. There `NAME.sha256` remembers the SHA-256, and from then
on it counts like one in a config. That file is written last: without it, nothing was accepted.
"""

import dataclasses
import hashlib
from pathlib import Path
import re
from typing import Literal

from hubexport.errors import DownloadError, UsageError
from hubexport.system.cache_folder import cache_dir
from hubexport.system.digests import file_sha256
from hubexport.system.regular_files import read_regular_file
from hubexport.variants import PublishedCheckpoint

# A damaged file has another SHA-256 than was published, or than the cache remembers.
CacheState = Literal["intact", "damaged", "partial", "not cached", "unreadable"]

# What remembers a SHA-256 is 64 digits, two spaces and a file's name.
_MAX_MEMORY_BYTES = 1 << 12


@dataclasses.dataclass(frozen=True)
class Downloads:
    """Where archives are kept and fetched from.

    Attributes:
        cache_dir: the folder that keeps them; defaults to `hubexport.system.cache_folder.cache_dir()`.
        mirror: an http or https address that has them by their file names; defaults to the address in each config.
        offline: use the cache only, never the network.
    Raises:
        UsageError: the mirror is not an http or https address.
    """

    cache_dir: str | Path | None = None
    mirror: str | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.mirror is not None and not re.fullmatch(r"https?://[^\s/]\S*", self.mirror):
            raise UsageError(
                f"--mirror {self.mirror}: not a valid address",
                why="--mirror takes an http or https address",
                fix="use an address like --mirror https://example.org/checkpoints",
            )


@dataclasses.dataclass(frozen=True)
class CachedArchive:
    """What the cache has of one published archive.

    Attributes:
        path: the archive, or the part of it that arrived; if there is neither, where the archive will be.
        size: the size of the file at `path`, in bytes; 0 if there is none.
        state: the state of the file at `path`.
        set_aside: other files that the server sent instead of the archive.
        remembered: the SHA-256 that the cache remembers of an archive whose config has none; None if it has not been
            downloaded yet, or the config has one.
    """

    path: Path
    size: int
    state: CacheState
    set_aside: tuple[Path, ...]
    remembered: str | None = None


def file_name(url: str) -> str:
    """Returns the last part of an address, with `_` for characters that a file's name should not have."""
    name = re.sub(r"[^\w.+%~-]", "_", url.rpartition("/")[2])
    return name if name.strip(".") else "archive"


def archive_path(published: PublishedCheckpoint, downloads: Downloads) -> Path:
    """Returns where the cache keeps a published archive, or downloads one of unknown SHA-256 to."""
    folder = f"url-{hashlib.sha256(published.url.encode()).hexdigest()}"[:20]
    if published.sha256 is not None:
        folder = published.sha256[:16]
    return Path(downloads.cache_dir or cache_dir()) / "checkpoints" / folder / file_name(published.url)


def memory_path(published: PublishedCheckpoint, downloads: Downloads) -> Path:
    """Returns the file in which the cache remembers the SHA-256 of an archive that was published without one."""
    archive = archive_path(published.model_copy(update={"sha256": None}), downloads)
    return archive.with_name(f"{archive.name}.sha256")


def remembered_sha256(published: PublishedCheckpoint, downloads: Downloads) -> str | None:
    """Returns the SHA-256 of the first file that was downloaded from an archive's address; None if there was none.

    Raises:
        DownloadError: the file that remembers it cannot be read, or is damaged.
    """
    path = memory_path(published, downloads)
    try:
        content = read_regular_file(path, _MAX_MEMORY_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable_memory(path, error.strerror or str(error)) from error
    if not re.match(rb"[0-9a-f]{64}(\s|$)", content):
        raise _unreadable_memory(path, "it does not begin with a SHA-256")
    return content[:64].decode()


def _unreadable_memory(path: Path, why: str) -> DownloadError:
    return DownloadError(
        f"cannot tell which archive was downloaded before: {path}",
        why=why,
        fix="put it in order, or remove it to accept what the next download sends",
    )


def pinned(published: PublishedCheckpoint, downloads: Downloads) -> PublishedCheckpoint | None:
    """Returns a published archive with its SHA-256: the config's, or else the one that the cache remembers.

    Returns:
        None if the config has none, and the archive has not been downloaded yet.
    Raises:
        DownloadError: the file that remembers the SHA-256 cannot be read, or is damaged.
    """
    if published.sha256 is not None:
        return published
    remembered = remembered_sha256(published, downloads)
    return published.model_copy(update={"sha256": remembered}) if remembered else None


def partial_path(archive: Path) -> Path:
    """Returns where an archive is while it is being downloaded."""
    return archive.with_name(f"{archive.name}.part")


def wrong_path(archive: Path, sha256: str) -> Path:
    """Returns where a file is kept that the server sent instead of an archive."""
    return archive.with_name(f"{archive.name}.wrong-{sha256[:8]}")


def look_up(published: PublishedCheckpoint, downloads: Downloads) -> CachedArchive:
    """Returns what the cache has of an archive. Reads the whole file to compare its SHA-256."""
    try:
        known = pinned(published, downloads)
    except DownloadError:
        return CachedArchive(archive_path(published, downloads), 0, "unreadable", ())
    remembered = known.sha256 if known and published.sha256 is None else None
    archive = archive_path(known or published, downloads)
    partial = partial_path(archive)
    try:
        set_aside = tuple(sorted(archive.parent.glob(wrong_path(archive, "*").name)))
        if known and archive.is_file():
            state: CacheState = "intact" if file_sha256(archive) == known.sha256 else "damaged"
            return CachedArchive(archive, archive.stat().st_size, state, set_aside, remembered)
        if partial.is_file():
            return CachedArchive(partial, partial.stat().st_size, "partial", set_aside, remembered)
        return CachedArchive(archive, 0, "not cached", set_aside, remembered)
    except OSError:
        return CachedArchive(archive, 0, "unreadable", (), remembered)
