"""Where downloaded archives are kept, and what is there of each; without the HTTP library, whose import takes a while.

Beside an archive there may be `NAME.part`, what has come of it when a download broke; `NAME.wrong-…`, what came under
its name but is something else; and, while a process downloads, `NAME.lock`.
"""

import dataclasses
from pathlib import Path
import re
from typing import Literal

from hubexport.errors import UsageError
from hubexport.system.cache_folder import cache_dir
from hubexport.system.digests import file_sha256
from hubexport.variants import PublishedCheckpoint

# Damaged is what has another SHA-256 than was published.
CacheState = Literal["intact", "damaged", "partial", "not cached", "unreadable"]


@dataclasses.dataclass(frozen=True)
class Downloads:
    """Where archives are kept and fetched from.

    Attributes:
        cache_dir: where they are kept; None means `cache_dir()`.
        mirror: an http:// or https:// address below which they lie by their file names; None means that each is fetched
            from where its config says.
        offline: take what is in the cache, and never ask the network.
    Raises:
        UsageError: the mirror is no such address.
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
        path: the archive, or what there is of it; if there is nothing, where it will be.
        size: bytes of the file at `path`.
        state: what that file is.
        set_aside: files that came under its name and were something else.
    """

    path: Path
    size: int
    state: CacheState
    set_aside: tuple[Path, ...]


def file_name(url: str) -> str:
    """Returns the last part of an address, without what cannot be in a file's name."""
    name = re.sub(r"[^\w.+%~-]", "_", url.rpartition("/")[2])
    return name if name.strip(".") else "archive"


def archive_path(published: PublishedCheckpoint, downloads: Downloads) -> Path:
    """Returns where the cache keeps a published archive."""
    folder = Path(downloads.cache_dir or cache_dir()) / "checkpoints" / published.sha256[:16]
    return folder / file_name(published.url)


def partial_path(archive: Path) -> Path:
    """Returns where an archive is while it comes."""
    return archive.with_name(f"{archive.name}.part")


def lock_path(archive: Path) -> Path:
    """Returns the lock file of whoever downloads an archive."""
    return archive.with_name(f"{archive.name}.lock")


def wrong_path(archive: Path, sha256: str) -> Path:
    """Returns where something else is kept that came as an archive."""
    return archive.with_name(f"{archive.name}.wrong-{sha256[:8]}")


def look_up(published: PublishedCheckpoint, downloads: Downloads) -> CachedArchive:
    """Finds out what the cache has of an archive; this reads all of it."""
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
