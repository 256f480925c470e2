"""The cache of downloaded archives. Downloading is another module, because importing the HTTP library takes a while.

Beside an archive there may be `NAME.part`, the beginning that an interrupted download left; `NAME.wrong-…`, another
file that the server sent instead; and, while a process downloads, `NAME.lock`.
"""

import dataclasses
from pathlib import Path
import re
from typing import Literal

from hubexport.errors import UsageError
from hubexport.system.cache_folder import cache_dir
from hubexport.system.digests import file_sha256
from hubexport.variants import PublishedCheckpoint

# A damaged file has another SHA-256 than was published.
CacheState = Literal["intact", "damaged", "partial", "not cached", "unreadable"]


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
    """

    path: Path
    size: int
    state: CacheState
    set_aside: tuple[Path, ...]


def file_name(url: str) -> str:
    """Returns the last part of an address, with `_` for characters that a file's name should not have."""
    name = re.sub(r"[^\w.+%~-]", "_", url.rpartition("/")[2])
    return name if name.strip(".") else "archive"


def archive_path(published: PublishedCheckpoint, downloads: Downloads) -> Path:
    """Returns where the cache keeps a published archive."""
    folder = Path(downloads.cache_dir or cache_dir()) / "checkpoints" / published.sha256[:16]
    return folder / file_name(published.url)


def partial_path(archive: Path) -> Path:
    """Returns where an archive is while it is being downloaded."""
    return archive.with_name(f"{archive.name}.part")


def wrong_path(archive: Path, sha256: str) -> Path:
    """Returns where a file is kept that the server sent instead of an archive."""
    return archive.with_name(f"{archive.name}.wrong-{sha256[:8]}")


def look_up(published: PublishedCheckpoint, downloads: Downloads) -> CachedArchive:
    """Returns what the cache has of an archive. Reads the whole file to compare its SHA-256."""
    archive = archive_path(published, downloads)
    partial = partial_path(archive)
    try:
        set_aside = tuple(sorted(archive.parent.glob(wrong_path(archive, "*").name)))
        if archive.is_file():
            state: CacheState = "intact" if file_sha256(archive) == published.sha256 else "damaged"
            return CachedArchive(archive, archive.stat().st_size, state, set_aside)
        if partial.is_file():
            return CachedArchive(partial, partial.stat().st_size, "partial", set_aside)
        return CachedArchive(archive, 0, "not cached", set_aside)
    except OSError:
        return CachedArchive(archive, 0, "unreadable", ())
