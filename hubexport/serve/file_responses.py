"""Responses with listed files: whole, a range of bytes, or only the status 304 if nothing has changed."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
import dataclasses
import hashlib
import os
import re
from typing import BinaryIO
import weakref

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hubexport.release.index import ReleaseFile
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder
from hubexport.serve.headers import digest_headers, is_known
from hubexport.serve.log import LOG

# A chunk stays in memory until the client has taken it. Large chunks are faster, but all downloads in progress share
# this memory: the more there are, the smaller their chunks.
_MIN_CHUNK_BYTES, _MAX_CHUNK_BYTES = 64 << 10, 1 << 20
_SHARED_BYTES = 128 << 20
# Reads only what is in the page cache, which takes less time than handing the read to a thread. 0 where the system
# does not support it.
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
# How many files stay open for the next request.
MAX_OPEN_FILES = 64
# Digests are computed by as many threads: more would slow down downloads.
_CHECKING_THREADS = 2

_MEDIA_TYPES = {
    ".tar.gz": "application/gzip",
    ".md": "text/markdown; charset=utf-8",
    ".cdx.json": "application/vnd.cyclonedx+json",
    ".json": "application/json",
    # Models, and the values of those that are several files.
    ".onnx": "application/octet-stream",
    ".tflite": "application/octet-stream",
    ".bin": "application/octet-stream",
}


class ChangedError(Exception):
    """A file is not what the release's index says. The log already says why."""


# What changes when the content of an open file does, or when its path leads to another file from then on.
_State = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class OpenFile:
    """A file with the listed digest.

    Attributes:
        path: its path in the release.
        file: the open file. It is closed when nothing refers to it any more.
        state: its state when its digest was computed.
    """

    path: str
    file: BinaryIO
    state: _State

    def is_unchanged(self) -> bool:
        """Returns whether the file is still the one whose digest was computed."""
        return _state(self.file) == self.state

    def check_after_reading(self) -> None:
        """Call this before what was read is used or sent to its end.

        Raises:
            ChangedError: the file has changed. The log says so.
        """
        if not self.is_unchanged():
            raise self.changed()

    def changed(self) -> ChangedError:
        """Returns the error for a file that changed while it was read, and logs it."""
        LOG.error("a file changed while it was read", extra={"facts": {"file": self.path}})
        return ChangedError(self.path)


class OpenFiles:
    """Opens files of a release's folder, and keeps the most recently requested ones open.

    The digest of each state of a file is computed once. A file without the listed digest is not opened until it has
    changed.

    Args:
        folder: the release's folder.
    Attributes:
        sending: how many files are being sent now.
    """

    def __init__(self, folder: UntrustedFolder) -> None:
        self.sending = 0
        self._folder = folder
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        # By path: the state, None for a file that cannot be opened, and what is wrong with it, None for nothing.
        self._findings: dict[str, tuple[_State | None, str | None]] = {}
        self._checking = anyio.CapacityLimiter(_CHECKING_THREADS)
        self._locks: weakref.WeakValueDictionary[str, anyio.Lock] = weakref.WeakValueDictionary()

    async def open(self, listed: ReleaseFile) -> OpenFile:
        """Returns a file.

        Raises:
            ChangedError: the file is missing or unreadable, or does not have the listed size and digest.
        """
        opened = self._kept(listed.path)
        if opened is None:
            async with self._locks.setdefault(listed.path, anyio.Lock()):
                opened = self._kept(listed.path)
                if opened is None:
                    opened = await to_thread.run_sync(self._open, listed, limiter=self._checking)
        self._files[listed.path] = opened
        self._files.move_to_end(listed.path)
        if len(self._files) > MAX_OPEN_FILES:
            self._files.popitem(last=False)
        return opened

    @property
    def chunk_bytes(self) -> int:
        """How many bytes each download may read ahead now."""
        return max(_MIN_CHUNK_BYTES, min(_MAX_CHUNK_BYTES, _SHARED_BYTES // max(1, self.sending)))

    def _kept(self, path: str) -> OpenFile | None:
        """Returns a file that is open already, unless it has changed or its path may lead to another one now."""
        kept = self._files.get(path)
        if kept is None or kept.is_unchanged():
            return kept
        del self._files[path]
        return None

    def _open(self, listed: ReleaseFile) -> OpenFile:
        file, state, fault = None, None, None
        try:
            file = self._folder.open(listed.path)
            state = _state(file)
        except UntrustedFileError as error:
            fault = str(error)
        known_state, known_fault = self._findings.get(listed.path, (None, None))
        if file is not None:
            fault = known_fault if state == known_state else _fault(file, listed)
        self._findings[listed.path] = state, fault
        if fault is not None and fault != known_fault:
            LOG.error("a file does not match the index", extra={"facts": {"why": f"{listed.path} {fault}"}})
        elif fault is None and known_fault is not None:
            LOG.info("a file matches the index again", extra={"facts": {"file": listed.path}})
        if file is None or state is None or fault is not None:
            raise ChangedError(listed.path)
        return OpenFile(listed.path, file, state)


def _state(file: BinaryIO) -> _State:
    """Returns the state of an open file.

    The time of the last change of the file's attributes is a part of it: nobody can set it back, and it changes when
    the file's path is given to another file.
    """
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink


def _fault(file: BinaryIO, listed: ReleaseFile) -> str | None:
    """Returns how a file differs from what is listed, None if it does not."""
    size = os.fstat(file.fileno()).st_size
    if size != listed.bytes:
        return f"has {size:,} bytes, not {listed.bytes:,}"
    try:
        sha256 = sha256_of(file)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if sha256 == listed.sha256 else f"has the SHA-256 {sha256}, not {listed.sha256}"


def sha256_of(file: BinaryIO) -> str:
    """Returns the digest of an open file's whole content, in lower-case hexadecimal."""
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(file.fileno(), _MAX_CHUNK_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


async def file_response(
    request: Request, listed: ReleaseFile, files: OpenFiles, headers: Mapping[str, str]
) -> Response:
    """Returns the response to GET or HEAD for a file.

    Args:
        request: the request, whose conditions and range are respected.
        listed: the file, as the index lists it.
        files: the release's files.
        headers: further headers, such as `cache-control`.
    Raises:
        ChangedError: the file is missing or unreadable, or does not have the listed size and digest.
    """
    headers = {**headers, **digest_headers(listed.sha256), "accept-ranges": "bytes"}
    if is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    types = (media_type for suffix, media_type in _MEDIA_TYPES.items() if listed.path.endswith(suffix))
    headers["content-type"] = next(types, "text/plain; charset=utf-8")
    part = _requested_range(request, listed.bytes, headers["etag"])
    if part is None:
        status, part = 200, range(listed.bytes)
    elif part:
        status = 206
        headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{listed.bytes}"
    else:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{listed.bytes}"})
    headers["content-length"] = str(len(part))
    file = await files.open(listed)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return _FileResponse(files, file, part, status, headers)


def _requested_range(request: Request, size: int, etag: str) -> range | None:
    """Returns the requested bytes, an empty range if the file has none of them, or None for the whole file.

    RFC 9110 lets a server answer several ranges with the whole file. We do: nobody needs several ranges of an archive.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("range", "").strip())
    if not match or request.headers.get("if-range", etag) != etag or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if not last:
        return range(int(first), size)
    return range(int(first), min(size, int(last) + 1)) if int(first) <= int(last) else None


class _FileResponse(Response):
    """Sends a part of a file, in chunks, as fast as the client takes them.

    It costs 0.4 ms of processor time per MB, at archives of 1.6 MB. Starlette's FileResponse, which reads each 64 KiB
    in a thread, costs 1.7 ms; its StreamingResponse, with a task group and chunks of 1 MiB, 0.8 ms. So large archives
    are as fast as from nginx: see docs/performance.md and scripts/benchmark_serve.py.
    """

    def __init__(self, files: OpenFiles, file: OpenFile, part: range, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._files = files
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        disconnected = asyncio.create_task(_wait_for_disconnect(receive))
        self._files.sending += 1
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            offset = self._part.start
            while offset < self._part.stop and not disconnected.done():
                chunk = await self._read(offset)
                offset += len(chunk)
                more = offset < self._part.stop
                if not more:
                    # The client sees that something is wrong: the connection ends before all promised bytes are there.
                    self._file.check_after_reading()
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        finally:
            self._files.sending -= 1
            disconnected.cancel()

    async def _read(self, offset: int) -> memoryview:
        wanted = (self._file.file.fileno(), min(self._files.chunk_bytes, self._part.stop - offset), offset)
        chunk = _read(*wanted, _NO_WAIT) if _NO_WAIT else None
        chunk = chunk or await to_thread.run_sync(_read, *wanted, 0)
        if not chunk:
            raise self._file.changed()
        return chunk


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _read(descriptor: int, size: int, offset: int, flags: int) -> memoryview:
    """Returns up to `size` bytes; with flags, none if they cannot be read without waiting."""
    chunk = bytearray(size)
    try:
        return memoryview(chunk)[: os.preadv(descriptor, [chunk], offset, flags)]
    except OSError:
        if flags:
            return memoryview(b"")
        raise
