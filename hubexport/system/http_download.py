"""Downloads files over HTTP. Sizes are bounded, and a broken download is resumed where it ended.

Proxies come from the environment.
"""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
import re
import ssl
import time

import requests
from urllib3 import Retry

from hubexport.errors import HubexportError
from hubexport.progress import Progress
from hubexport.system.reachability import unreachable_reason

# For the connection, and between two pieces of the answer.
_TIMEOUT_S = 30
# Before the second attempt; each later wait is twice the one before.
_FIRST_WAIT_S = 1
# Even if a server asks for a longer wait.
_LONGEST_WAIT_S = 60
# A broken connection loses less than this.
_BLOCK_BYTES = 1 << 14
# Far more than any checkpoint or packed module. Without a limit, a broken server could fill the disk.
_MAX_BYTES = 4 << 30
_GZIP = b"\x1f\x8b"

# Any number in a header has fewer digits; Python refuses to read thousands of them.
_NUMBER = r"[0-9]{1,15}"
_CONTENT_RANGE = re.compile(rf"bytes (?P<first>{_NUMBER})-(?P<last>{_NUMBER})/(?P<total>{_NUMBER}|\*)")


class HttpError(Exception):
    """A download failed. The message says why, without passwords.

    Args:
        why: what happened.
        status: the HTTP status, if the server refused the request.
        wait_s: the seconds after which another attempt may succeed; None if retrying is useless.
    """

    def __init__(self, why: str, status: int | None = None, wait_s: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.wait_s = wait_s


class ContentError(HttpError):
    """The server's answer is too large, empty, or not a gzip file."""


def download(
    url: str,
    target: Path,
    progress: Progress,
    *,
    query: Mapping[str, str] | None = None,
    gzip_only: bool = False,
    attempts: int = 1,
) -> bool:
    """Downloads a file, or the missing rest of it.

    Args:
        url: an http or https address.
        target: the file to write. If it exists, only the content after its end is requested.
        progress: shows the download, and warns before each further attempt.
        query: parameters to add to the address.
        gzip_only: refuse content that does not begin like a gzip file.
        attempts: the number of attempts, if the failures may be temporary. A server that cannot be reached in the
            first place is not tried again: without a network, nobody should have to wait.
    Returns:
        Whether `target` still begins with its old content. The server may have changed the file in the meantime.
    Raises:
        ContentError: the content is larger than 4 GiB or empty, or `gzip_only` is set and it is not a gzip file.
            `target` is removed.
        HttpError: the download is incomplete. The content received so far stays in `target`.
        OSError: the content cannot be stored.
    """
    size = _size(target)
    progress.step(f"downloading {without_password(url)}" + (f", resuming after {size / 1e6:.1f} MB" if size else ""))
    # Retry decides which answers are worth another attempt, counts the attempts, and doubles the waits. The loop is
    # ours: Retry's own ends with the head of an answer, so it cannot resume a body that breaks off. It also waits
    # without a warning, and does not wait at all before the second attempt.
    retry = Retry(
        total=attempts - 1,
        status_forcelist=(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, *range(500, 600)),
        backoff_factor=_FIRST_WAIT_S,
    )
    if why := unreachable_reason(url):
        raise HttpError(without_password(why))
    while True:
        attempt = len(retry.history) + 1
        try:
            return _attempt(url, query, target, gzip_only, retry, progress)
        except HttpError as error:
            if error.wait_s is None or not retry.total:
                if attempt > 1:
                    error.args = (f"{error} (attempt {attempt} of {attempts})",)
                raise
            retry = retry.increment("GET", url, error=error)
            wait_s = max(_FIRST_WAIT_S, retry.get_backoff_time(), error.wait_s)
            progress.warn(f"{target.stem}: {error}; attempt {attempt + 1} of {attempts} in {wait_s:g} s")
            time.sleep(wait_s)


def without_password(text: str) -> str:
    """Returns an address, or a text with addresses, without users and passwords.

    Example:
        >>> without_password("https://me:secret@hub.example/net.tgz")
        'https://hub.example/net.tgz'
    """
    return re.sub(r"//[^/@]*@", "//", text)


def _attempt(
    url: str, query: Mapping[str, str] | None, target: Path, gzip_only: bool, retry: Retry, progress: Progress
) -> bool:
    # If a server compressed the content once more, its bytes could not be counted.
    headers = {"Accept-Encoding": "identity"}
    if size := _size(target):
        headers["Range"] = f"bytes={size}-"
    try:
        with requests.get(url, params=query, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            start, total = _extent(answer, target, retry)
            _store(answer, target, start, total, gzip_only, progress)
    # For malformed addresses, libraries below requests raise ValueErrors of their own.
    except (requests.RequestException, ValueError) as error:
        raise _failure(error) from error
    return start > 0


def _extent(answer: requests.Response, target: Path, retry: Retry) -> tuple[int, int | None]:
    """Returns the position of the answer's bytes in the file, and the size of the whole file; None if it is unknown.

    Raises:
        HttpError: the answer is useless. If the server cannot continue at the end of the file, the file is removed.
    """
    status, size = answer.status_code, _size(target)
    if status == HTTPStatus.OK:
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch(_NUMBER, length) else None
    if status == HTTPStatus.PARTIAL_CONTENT or (status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size):
        part = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if status == HTTPStatus.PARTIAL_CONTENT and part and int(part["first"]) == size:
            return size, int(part["last"]) + 1 if part["total"] == "*" else int(part["total"])
        target.unlink(missing_ok=True)
        raise HttpError("the server did not send the requested rest; downloading all of it again", wait_s=0)
    why = f"the server answered {status} {answer.reason}".strip()
    if retry.is_retry("GET", status):
        # Retry would also accept dates, however far away, and fail for thousands of digits.
        asked = answer.headers.get("Retry-After", "")
        raise HttpError(why, status, min(int(asked), _LONGEST_WAIT_S) if re.fullmatch(_NUMBER, asked) else 0)
    raise HttpError(why, status)


def _store(
    answer: requests.Response, target: Path, start: int, total: int | None, gzip_only: bool, progress: Progress
) -> None:
    """Writes an answer's bytes to the file, from `start` (0 or the file's end) on."""
    # Many servers declare a .tgz as a gzipped .tar, and requests would unzip it.
    answer.raw.headers.pop("Content-Encoding", None)
    done = start
    broken = False
    try:
        _check_size(total or 0)
        with target.open("ab" if start else "wb") as file:
            try:
                for block in answer.iter_content(_BLOCK_BYTES):
                    if gzip_only and not done and not block.startswith(_GZIP):
                        kind = answer.headers.get("Content-Type", "data of an unknown type")
                        raise ContentError(f"the server sent {kind}, which is not a gzipped tar")
                    done += len(block)
                    _check_size(done)
                    file.write(block)
                    progress.advance(done, total)
            except requests.exceptions.ChunkedEncodingError:
                broken = True
        if broken or (total is not None and done < total):
            of_total = f" of {total}" if total is not None else ""
            raise HttpError(f"the connection ended after {done}{of_total} bytes", wait_s=0)
        if gzip_only and not done:
            raise ContentError("the server sent nothing")
    except ContentError:
        target.unlink(missing_ok=True)
        raise


def _check_size(size: int) -> None:
    if size > _MAX_BYTES:
        raise ContentError(f"it is larger than {_MAX_BYTES >> 30} GiB")


def _failure(error: Exception) -> HttpError:
    cause = error
    # requests and urllib3 wrap the cause in several layers. A HubexportError was being handled before: it is no cause.
    while isinstance(cause.__context__, Exception) and not isinstance(cause.__context__, HubexportError):
        cause = cause.__context__
    why = without_password(" ".join(str(cause).split())) or type(cause).__name__
    transient = isinstance(error, (requests.ConnectionError, requests.Timeout))
    # A certificate that is not trusted now will not be trusted in a few seconds.
    return HttpError(why, wait_s=0 if transient and not isinstance(cause, ssl.SSLCertVerificationError) else None)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
