"""Published archives, downloaded once into a cache and never trusted without their SHA-256."""

import hashlib
import os
from pathlib import Path

import platformdirs
import requests

from hubexport.errors import DownloadError
from hubexport.output import file_sha256, scratch_directory
from hubexport.progress import Progress
from hubexport.variants import PublishedCheckpoint

# To connect, and between two pieces of the answer.
_TIMEOUT_S = 30
_BLOCK_BYTES = 1 << 18
# No published archive comes near; without a bound a broken server could fill the disk.
_MAX_BYTES = 4 << 30


def cache_dir() -> Path:
    """Returns the cache: `$HUBEXPORT_CACHE_DIR`, or a folder of the user's cache folder."""
    return Path(os.environ.get("HUBEXPORT_CACHE_DIR") or platformdirs.user_cache_dir("hubexport"))


def fetch(published: PublishedCheckpoint, progress: Progress) -> Path:
    """Returns the path of a published archive in the cache, downloading it if it is not there.

    Raises:
        DownloadError: it cannot be fetched or stored, or its digest is not the config's.
    """
    archive = cache_dir() / "checkpoints" / published.sha256[:16] / published.url.rpartition("/")[2]
    try:
        if archive.is_file() and file_sha256(archive) == published.sha256:
            return archive
        progress.step(f"downloading {published.url}")
        with scratch_directory(archive.parent) as scratch:
            partial = scratch / archive.name
            found = _download(published.url, partial, progress)
            if found != published.sha256:
                raise DownloadError(
                    f"{published.url} is not the published archive",
                    why=f"its SHA-256 is {found}, the config says {published.sha256}",
                    fix="try again; if it stays so, do not use it, and correct the config only if you know why",
                )
            partial.replace(archive)
    except (requests.RequestException, OSError) as error:
        raise DownloadError(
            f"cannot download {published.url}",
            why=_reason(error),
            fix="check the network and proxy settings, or fetch the archive elsewhere and name it with --checkpoint",
        ) from error
    return archive


def _download(url: str, target: Path, progress: Progress) -> str:
    """Writes what a URL answers to a new file, and returns its SHA-256."""
    digest = hashlib.sha256()
    with requests.get(url, stream=True, timeout=_TIMEOUT_S) as answer, target.open("xb") as file:
        answer.raise_for_status()
        announced = answer.headers.get("Content-Length", "")
        total = int(announced) if announced.isdecimal() else None
        done = 0
        for block in answer.iter_content(_BLOCK_BYTES):
            done += len(block)
            if done > _MAX_BYTES:
                raise OSError(f"it is larger than {_MAX_BYTES >> 30} GiB")
            digest.update(block)
            file.write(block)
            progress.advance(done, total)
        if total and done < total and not answer.headers.get("Content-Encoding"):
            raise OSError(f"the connection ended after {done} of {total} bytes")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """Returns the innermost cause: requests and urllib3 wrap it in several layers of text."""
    while isinstance(error.__context__, Exception):
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
