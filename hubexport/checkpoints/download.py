"""Published archives, downloaded once into a cache and never trusted without their SHA-256.

When a download breaks, the part that arrived stays in the cache, and the next attempt, in this process or another,
asks only for the rest. A file gets the archive's name only once it is complete and has the right SHA-256.
"""

from pathlib import Path

from hubexport.checkpoints.download_cache import Downloads, archive_path, file_name, look_up, partial_path, wrong_path
from hubexport.errors import DownloadError
from hubexport.progress import Progress
from hubexport.system.atomic_output import make_folder, publish_file
from hubexport.system.digests import file_sha256
from hubexport.system.http_download import HttpError, download, without_password
from hubexport.system.locks import locked
from hubexport.variants import PublishedCheckpoint

_ATTEMPTS = 5


def fetch(published: PublishedCheckpoint, progress: Progress, downloads: Downloads = Downloads()) -> Path:
    """Returns the path of a published archive in the cache, downloading it if it is not there.

    Args:
        published: the archive's address and SHA-256.
        progress: shows the download, and warns of each attempt that failed.
        downloads: where the archive is kept and fetched from.
    Raises:
        DownloadError: the archive cannot be downloaded or stored, its SHA-256 is not the config's, or it is not in the
            cache and the network is forbidden.
    """
    cached = look_up(published, downloads)
    if cached.state == "intact":
        return cached.path
    if downloads.offline:
        state = "does not exist" if cached.state == "not cached" else f"is {cached.state}"
        raise DownloadError(
            f"{file_name(published.url)} is not in the cache",
            why=f"{cached.path} {state}, and --offline forbids downloading it",
            fix="run `hubexport fetch` while online, or pass a copy with --checkpoint",
        )
    archive = archive_path(published, downloads)
    mirror = downloads.mirror
    url = f"{mirror.rstrip('/')}/{file_name(published.url)}" if mirror else published.url
    try:
        make_folder(archive.parent)
        with locked(archive.with_name(f"{archive.name}.lock"), f"download {archive.name}", progress):
            # Another process may have been quicker.
            if look_up(published, downloads).state != "intact":
                _download(url, archive, published.sha256, progress)
    except OSError as error:
        raise DownloadError(
            f"cannot store {archive.name} in the cache",
            why=f"{error.strerror}: {error.filename or archive.parent}",
            fix="free space there, or pass a writable folder with --cache_dir",
        ) from error
    return archive


def _download(url: str, archive: Path, sha256: str, progress: Progress) -> None:
    partial = partial_path(archive)
    resumed = _complete(url, partial, progress)
    found = file_sha256(partial)
    if resumed and found != sha256:
        progress.warn(
            f"{archive.name}: the rest does not match the part downloaded before; downloading all of it again"
        )
        partial.unlink()
        _complete(url, partial, progress)
        found = file_sha256(partial)
    if found == sha256:
        publish_file(partial, archive, overwrite=True)
        return
    kept = wrong_path(archive, found)
    partial.replace(kept)
    raise DownloadError(
        f"{without_password(url)} is not the published archive",
        why=f"its SHA-256 is {found}, but the config says {sha256}",
        fix=f"do not use the file, which is kept as {kept}; correct the config only if you know why it changed",
    )


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
            fix="check the network and proxy settings, or download the archive elsewhere and pass it with --checkpoint",
        ) from error
