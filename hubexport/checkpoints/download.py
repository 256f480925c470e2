"""Published archives, downloaded once into a cache and never trusted without their SHA-256.

What has come of an archive when a download breaks stays in the cache; the next attempt, of this process or another,
asks for the rest alone. Only what is whole and right gets the archive's name. Proxies are those of the environment.
"""

import os
from pathlib import Path
import re
import ssl
import time

import requests

from hubexport.checkpoints.download_cache import (
    CachedArchive,
    Downloads,
    archive_path,
    file_name,
    lock_path,
    look_up,
    partial_path,
    wrong_path,
)
from hubexport.errors import DownloadError, HubexportError
from hubexport.progress import Progress
from hubexport.system.atomic_output import make_folder
from hubexport.system.digests import file_sha256
from hubexport.system.locks import locked
from hubexport.variants import PublishedCheckpoint

# To connect, and between two pieces of the answer.
_TIMEOUT_S = 30
# Before the second attempt, the third and so on.
_WAITS_S = (1, 2, 4, 8)
# However long a server asks to wait.
_LONGEST_WAIT_S = 60
# What is lost when a connection breaks is less than this.
_BLOCK_BYTES = 1 << 14
# No published archive comes near; without a bound a broken server could fill the disk.
_MAX_BYTES = 4 << 30

_OK = 200
_PARTIAL_CONTENT = 206
_REQUEST_TIMEOUT = 408
_RANGE_NOT_SATISFIABLE = 416
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500

# So many digits that every number is one; Python refuses to read thousands of them.
_NUMBER = r"[0-9]{1,15}"
_CONTENT_RANGE = re.compile(rf"bytes (?P<first>{_NUMBER})-(?P<last>{_NUMBER})/(?P<total>{_NUMBER}|\*)")


class _Failed(Exception):
    """The archive cannot be had from this address; the message says why."""


class _Interrupted(_Failed):
    """This attempt failed, another one may not.

    Args:
        why: what happened.
        wait_s: how long to wait at least.
    """

    def __init__(self, why: str, wait_s: int = 0) -> None:
        super().__init__(why)
        self.wait_s = wait_s


def fetch(published: PublishedCheckpoint, progress: Progress, downloads: Downloads = Downloads()) -> Path:
    """Returns the path of a published archive in the cache, downloading it if it is not there.

    Args:
        published: which.
        progress: hears of the download, and of each attempt that failed.
        downloads: where it is kept and fetched from.
    Raises:
        DownloadError: it cannot be fetched or stored, its digest is not the config's, or it is not in the cache and
            the network is forbidden.
    """
    found = look_up(published, downloads)
    if found.state == "intact":
        return found.path
    if downloads.offline:
        raise _offline_error(published, found)
    archive = archive_path(published, downloads)
    try:
        make_folder(archive.parent)
        with locked(lock_path(archive), f"download {archive.name}", progress):
            # Another process may have been quicker.
            if look_up(published, downloads).state != "intact":
                _download(_address(published, downloads), archive, published.sha256, progress)
    except OSError as error:
        raise DownloadError(
            f"cannot store {archive.name} in the cache",
            why=f"{error.strerror}: {error.filename or archive.parent}",
            fix="free space there, or pass a writable folder with --cache_dir",
        ) from error
    return archive


def _offline_error(published: PublishedCheckpoint, found: CachedArchive) -> DownloadError:
    return DownloadError(
        f"{file_name(published.url)} is not in the cache",
        why=f"{found.path} {'does not exist' if found.state == 'not cached' else f'is {found.state}'}, and --offline "
        "forbids downloading it",
        fix="run `hubexport fetch` while online, or pass a copy with --checkpoint",
    )


def _address(published: PublishedCheckpoint, downloads: Downloads) -> str:
    return f"{downloads.mirror.rstrip('/')}/{file_name(published.url)}" if downloads.mirror else published.url


def _download(url: str, archive: Path, sha256: str, progress: Progress) -> None:
    """Puts what a URL answers in an archive's place, if it is the archive.

    Raises:
        DownloadError: it is not, or it does not come.
        OSError: it cannot be stored.
    """
    partial = partial_path(archive)
    resumed = _complete(url, partial, progress)
    if resumed and file_sha256(partial) != sha256:
        progress.warn(
            f"{archive.name}: the rest does not match the part downloaded before; downloading all of it again"
        )
        partial.unlink()
        _complete(url, partial, progress)
    found = file_sha256(partial)
    if found == sha256:
        partial.replace(archive)
        return
    kept = wrong_path(archive, found)
    partial.replace(kept)
    raise DownloadError(
        f"{_shown(url)} is not the published archive",
        why=f"its SHA-256 is {found}, but the config says {sha256}",
        fix=f"do not use the file, which is kept as {kept}; correct the config only if you know why it changed",
    )


def _complete(url: str, partial: Path, progress: Progress) -> bool:
    """Downloads what is missing of a file, and returns whether something was there before.

    Raises:
        DownloadError: some of it is missing still, and further attempts are vain.
        OSError: it cannot be stored.
    """
    there = f", resuming after {_size(partial) / 1e6:.1f} MB" if _size(partial) else ""
    progress.step(f"downloading {_shown(url)}{there}")
    attempt = 1
    while True:
        try:
            return _attempt(url, partial, progress)
        except _Failed as error:
            if not isinstance(error, _Interrupted) or attempt > len(_WAITS_S):
                raise _download_error(url, partial, error, attempt) from error
            wait_s = max(_WAITS_S[attempt - 1], error.wait_s)
            attempt += 1
            progress.warn(f"{partial.stem}: {error}; attempt {attempt} of {len(_WAITS_S) + 1} in {wait_s} s")
            time.sleep(wait_s)


def _download_error(url: str, partial: Path, error: _Failed, attempts: int) -> DownloadError:
    tried = f" (attempt {attempts} of {len(_WAITS_S) + 1})" if attempts > 1 else ""
    kept = f"; the next attempt resumes after {_size(partial) / 1e6:.1f} MB" if _size(partial) else ""
    return DownloadError(
        f"cannot download {_shown(url)}",
        why=f"{error}{tried}{kept}",
        fix="check the network and proxy settings, or download the archive elsewhere and pass it with --checkpoint",
    )


def _attempt(url: str, partial: Path, progress: Progress) -> bool:
    """Asks once for what is missing of a file, and returns whether what was there before is still in it.

    Raises:
        _Failed: some of it is missing still.
        OSError: it cannot be stored.
    """
    # Compressed once more on the way, its bytes could not be counted.
    headers = {"Accept-Encoding": "identity"}
    if size := _size(partial):
        headers["Range"] = f"bytes={size}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            start, total = _part(answer, partial)
            _store(answer, partial, start, total, progress)
    except (requests.RequestException, ValueError) as error:
        # Of an address that is none, some libraries below requests complain in their own way.
        raise _failure(error) from error
    return start > 0


def _part(answer: requests.Response, partial: Path) -> tuple[int, int | None]:
    """Returns where in the file the answer's bytes belong, and how many the whole has, if that is known.

    Raises:
        _Failed: the answer is of no use. If the server cannot go on where the file ends, it is removed.
    """
    status = answer.status_code
    size = _size(partial)
    if status == _OK:
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch(_NUMBER, length) else None
    if status == _PARTIAL_CONTENT or (status == _RANGE_NOT_SATISFIABLE and size):
        part = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if status == _PARTIAL_CONTENT and part and int(part["first"]) == size:
            return size, int(part["last"]) + 1 if part["total"] == "*" else int(part["total"])
        partial.unlink(missing_ok=True)
        raise _Interrupted("the server did not send the requested rest; downloading all of it again")
    said = f"the server answered {status} {answer.reason}".strip()
    if status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS) or status >= _SERVER_ERROR:
        wait = answer.headers.get("Retry-After", "")
        raise _Interrupted(said, min(int(wait), _LONGEST_WAIT_S) if re.fullmatch(_NUMBER, wait) else 0)
    raise _Failed(said)


def _store(answer: requests.Response, partial: Path, start: int, total: int | None, progress: Progress) -> None:
    """Writes an answer's bytes to the file from `start` on, which is its end or 0.

    Raises:
        _Failed: fewer than `total` came, or too many.
        OSError: they cannot be stored.
    """
    # Many a server calls a .tgz a gzipped .tar; it must not be unpacked on the way.
    answer.raw.headers.pop("Content-Encoding", None)
    done = start
    broken = False
    with partial.open("ab" if start else "wb") as file:
        try:
            for block in answer.iter_content(_BLOCK_BYTES):
                done += len(block)
                if max(done, total or 0) > _MAX_BYTES:
                    partial.unlink()
                    raise _Failed(f"it is larger than {_MAX_BYTES >> 30} GiB")
                file.write(block)
                progress.advance(done, total)
        except requests.exceptions.ChunkedEncodingError:
            broken = True
        file.flush()
        os.fsync(file.fileno())
    if broken or (total is not None and done < total):
        of_total = f" of {total}" if total is not None else ""
        raise _Interrupted(f"the connection ended after {done}{of_total} bytes")


def _failure(error: Exception) -> _Failed:
    """Tells what may be better next time from what will not."""
    cause = error
    # requests and urllib3 wrap the cause in several layers of text. What was handled before all of that is none of it.
    while isinstance(cause.__context__, Exception) and not isinstance(cause.__context__, HubexportError):
        cause = cause.__context__
    reason = " ".join(str(cause).split()) or type(cause).__name__
    passing = isinstance(error, (requests.ConnectionError, requests.Timeout))
    if passing and not isinstance(cause, ssl.SSLCertVerificationError):
        return _Interrupted(reason)
    return _Failed(reason)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _shown(url: str) -> str:
    """Returns an address without a password."""
    return re.sub(r"//[^/@]*@", "//", url, count=1)
