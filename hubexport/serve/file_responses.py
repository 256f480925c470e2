"""Responses with listed files: whole, a range of bytes, or only the status 304 if nothing has changed."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
import os
import re
from typing import BinaryIO

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hubexport.release.index import ReleaseFile
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder
from hubexport.serve.headers import digest_headers, is_known

# A chunk stays in memory until the client has taken it. Large chunks are faster, but all downloads in progress share
# this memory: the more there are, the smaller their chunks.
_MIN_CHUNK_BYTES, _MAX_CHUNK_BYTES = 64 << 10, 1 << 20
_SHARED_BYTES = 128 << 20
# Reads only what is in the page cache, which takes less time than handing the read to a thread. 0 where the system
# does not support it.
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
# How many files stay open for the next request.
_MAX_OPEN_FILES = 64

_MEDIA_TYPES = {
    ".tar.gz": "application/gzip",
    ".md": "text/markdown; charset=utf-8",
    ".cdx.json": "application/vnd.cyclonedx+json",
    ".json": "application/json",
}


class ChangedError(Exception):
    """A file is not what the release's index says; the message is for the log."""


class OpenFiles:
    """Opens files of a release's folder, and keeps the most recently requested ones open.

    Args:
        folder: the release's folder.
    Attributes:
        sending: how many files are being sent now.
    """

    def __init__(self, folder: UntrustedFolder) -> None:
        self.sending = 0
        self._folder = folder
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    async def open(self, listed: ReleaseFile) -> BinaryIO:
        """Returns a file. It is closed when nothing refers to it any more.

        Raises:
            ChangedError: the file is missing or unreadable, or its size is not the listed one.
        """
        file = self._files.get(listed.path)
        if file is None:
            file = await to_thread.run_sync(self._open, listed)
        size = os.fstat(file.fileno()).st_size
        if size != listed.bytes:
            self._files.pop(listed.path, None)
            raise ChangedError(f"{listed.path} has {size:,} bytes, not {listed.bytes:,}")
        self._files[listed.path] = file
        self._files.move_to_end(listed.path)
        if len(self._files) > _MAX_OPEN_FILES:
            self._files.popitem(last=False)
        return file

    @property
    def chunk_bytes(self) -> int:
        """How many bytes each download may read ahead now."""
        return max(_MIN_CHUNK_BYTES, min(_MAX_CHUNK_BYTES, _SHARED_BYTES // max(1, self.sending)))

    def _open(self, listed: ReleaseFile) -> BinaryIO:
        try:
            return self._folder.open(listed.path)
        except UntrustedFileError as error:
            raise ChangedError(f"{listed.path} {error}") from error


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
        ChangedError: the file is missing or unreadable, or its size is not the listed one.
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

    def __init__(self, files: OpenFiles, file: BinaryIO, part: range, status: int, headers: Mapping[str, str]) -> None:
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
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        finally:
            self._files.sending -= 1
            disconnected.cancel()

    async def _read(self, offset: int) -> memoryview:
        wanted = (self._file.fileno(), min(self._files.chunk_bytes, self._part.stop - offset), offset)
        chunk = _read(*wanted, _NO_WAIT) if _NO_WAIT else None
        chunk = chunk or await to_thread.run_sync(_read, *wanted, 0)
        if not chunk:
            # The client sees that something is wrong: the connection ends before all promised bytes are there.
            raise ChangedError("a file shrank while it was sent")
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
