"""Published archives, downloaded once into a cache and never trusted without their SHA-256.

When a download breaks, the part that arrived stays in the cache, and the next attempt, in this process or another,
asks only for the rest. A file gets the archive's name only once it is complete and has the right SHA-256.

An archive that is published without a SHA-256 is trusted on first use: the first complete download is accepted, and
later ones must be the same.
"""

from collections.abc import Iterator
import contextlib
from pathlib import Path

from hubexport.checkpoints.download_cache import (
    Downloads,
    archive_path,
    file_name,
    look_up,
    memory_path,
    partial_path,
    pinned,
    remembered_sha256,
    wrong_path,
)
from hubexport.errors import DownloadError
from hubexport.progress import Progress
from hubexport.system.atomic_output import make_folder, publish_file
from hubexport.system.digests import file_sha256
from hubexport.system.http_download import HttpError, download, without_password
from hubexport.system.locks import locked
from hubexport.system.tars import ArchiveError, member_paths
from hubexport.variants import PublishedCheckpoint

_ATTEMPTS = 5


def fetch(published: PublishedCheckpoint, progress: Progress, downloads: Downloads = Downloads()) -> Path:
    """Returns the path of a published archive in the cache, downloading it if it is not there.

    Args:
        published: the archive's address and SHA-256. Without a SHA-256 the first download is accepted, see `pin`.
        progress: shows the download, and warns of each attempt that failed.
        downloads: where the archive is kept and fetched from.
    Raises:
        DownloadError: the archive cannot be downloaded or stored, its SHA-256 is not the config's or that of the first
            download, or it is not in the cache and the network is forbidden.
    """
    published = pin(published, progress, downloads)
    cached = look_up(published, downloads)
    if cached.state == "intact":
        return cached.path
    if downloads.offline:
        state = "does not exist" if cached.state == "not cached" else f"is {cached.state}"
        raise _not_cached(published, f"{cached.path} {state}")
    archive = archive_path(published, downloads)
    with _download_locked(archive, progress):
        # Another process may have been quicker.
        if look_up(published, downloads).state != "intact":
            _download(published, archive, progress, downloads)
    return archive


def pin(published: PublishedCheckpoint, progress: Progress, downloads: Downloads = Downloads()) -> PublishedCheckpoint:
    """Returns a published archive with its SHA-256, downloading the archive if that is the only way to know it.

    Args:
        published: the archive's address, and its SHA-256 if the publishers give one. Without one the first download is
            accepted if it is a whole gzipped tar, and the cache remembers its SHA-256.
        progress: shows the download, and is warned when a download is accepted.
        downloads: where the archive is kept and fetched from.
    Raises:
        DownloadError: the archive cannot be downloaded or stored, is not a gzipped tar, or is not in the cache and the
            network is forbidden.
    """
    if known := pinned(published, downloads):
        return known
    archive = archive_path(published, downloads)
    if downloads.offline:
        raise _not_cached(published, "it was not downloaded before")
    with _download_locked(archive, progress):
        # Another process may have been quicker.
        return pinned(published, downloads) or _accept(published, archive, progress, downloads)


def _not_cached(published: PublishedCheckpoint, state: str) -> DownloadError:
    return DownloadError(
        f"{file_name(published.url)} is not in the cache",
        why=f"{state}, and --offline forbids downloading it",
        fix="run `hubexport fetch --variant NAME` while online, or pass a copy with --checkpoint",
    )


@contextlib.contextmanager
def _download_locked(archive: Path, progress: Progress) -> Iterator[None]:
    """Makes the archive's folder, keeps other processes from downloading it meanwhile, and reports failures to write.

    Raises:
        DownloadError: the archive cannot be stored.
    """
    try:
        make_folder(archive.parent)
        with locked(archive.with_name(f"{archive.name}.lock"), f"download {archive.name}", progress):
            yield
    except OSError as error:
        raise DownloadError(
            f"cannot store {archive.name} in the cache",
            why=f"{error.strerror}: {error.filename or archive.parent}",
            fix="free space there, or pass a writable folder with --cache-dir",
        ) from error


def _address(published: PublishedCheckpoint, downloads: Downloads) -> str:
    mirror = downloads.mirror
    return f"{mirror.rstrip('/')}/{file_name(published.url)}" if mirror else published.url


def _download(published: PublishedCheckpoint, archive: Path, progress: Progress, downloads: Downloads) -> None:
    url, partial = _address(published, downloads), partial_path(archive)
    resumed = _complete(url, partial, progress)
    found = file_sha256(partial)
    if resumed and found != published.sha256:
        _start_over(url, partial, progress)
        found = file_sha256(partial)
    if found == published.sha256:
        publish_file(partial, archive, overwrite=True)
        return
    kept = wrong_path(archive, found)
    partial.replace(kept)
    expected, accept = f"but the config says {published.sha256}", "correct the config only if you know why it changed"
    if remembered_sha256(published, downloads) == published.sha256:
        expected = f"but it was {published.sha256} when it was first downloaded"
        accept = f"only if you know why it changed, accept it with `sha256: {found}` in the config"
    raise DownloadError(
        f"{without_password(url)} is not the published archive",
        why=f"its SHA-256 is {found}, {expected}",
        fix=f"do not use the file, which is kept as {kept}; {accept}",
    )


def _accept(
    published: PublishedCheckpoint, archive: Path, progress: Progress, downloads: Downloads
) -> PublishedCheckpoint:
    """Downloads an archive of unknown SHA-256, and remembers its SHA-256."""
    url, partial = _address(published, downloads), partial_path(archive)
    resumed = _complete(url, partial, progress)
    progress.step(f"checking {archive.name}")
    problem = _problem(partial)
    if resumed and problem:
        _start_over(url, partial, progress)
        problem = _problem(partial)
    found = file_sha256(partial)
    if problem:
        kept = wrong_path(archive, found)
        partial.replace(kept)
        raise DownloadError(
            f"{without_password(url)} is not an archive",
            why=problem,
            fix=f"look at the file, which is kept as {kept}, and correct the address in the config or --mirror",
        )
    progress.warn(
        f"{archive.name}: its config has no SHA-256 to compare it with. This download is accepted, and later ones must "
        f"be the same: SHA-256 {found}"
    )
    accepted = published.model_copy(update={"sha256": found})
    publish_file(partial, archive_path(accepted, downloads), overwrite=True)
    # Last, so that a SHA-256 is remembered only of an archive that is in its place.
    memory = memory_path(published, downloads)
    unfinished = memory.with_name(f"{memory.name}.new")
    unfinished.write_text(f"{found}  {archive.name}\n", encoding="utf-8")
    publish_file(unfinished, memory, overwrite=True)
    return accepted


def _problem(archive: Path) -> str | None:
    """Returns why a file is no whole gzipped tar; None if it is one.

    Gzip's checksum also shows whether the rest of a resumed download belongs to its beginning.
    """
    try:
        member_paths(archive)
    except ArchiveError as error:
        return error.why
    return None


def _start_over(url: str, partial: Path, progress: Progress) -> None:
    progress.warn(f"{partial.stem}: the rest does not match the part downloaded before; downloading all of it again")
    partial.unlink()
    _complete(url, partial, progress)


def _complete(url: str, partial: Path, progress: Progress) -> bool:
    """Downloads the rest of a file, and returns whether the part that was there before was kept."""
    try:
        return download(url, partial, progress, attempts=_ATTEMPTS)
    except HttpError as error:
        size = partial.stat().st_size if partial.exists() else 0
        kept = f"; the next attempt resumes after {size / 1e6:.1f} MB" if size else ""
        raise DownloadError(
            f"cannot download {without_password(url)}",
            why=f"{error}{kept}",
            fix=f"check the network and proxy settings, or download {without_password(url)} elsewhere and pass it "
            "as --checkpoint FILE; --checkpoint synthetic builds without trained values",
        ) from error
