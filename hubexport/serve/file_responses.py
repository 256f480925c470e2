"""Sends a listed file: whole or in part, or tells a client that it has it already."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
import dataclasses
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

# Read at once, and kept until the client has taken it: larger ones take less time, and memory of each client. So all
# answers that are under way share what there is.
_MIN_CHUNK_BYTES, _MAX_CHUNK_BYTES = 64 << 10, 1 << 20
_SHARED_BYTES = 128 << 20
# What lies in memory is read without a thread, which would take longer than to read it.
_AT_ONCE: int = getattr(os, "RWF_NOWAIT", 0)
# Open files, beside those that are being sent.
_KEPT_OPEN = 64

_TYPES = {
    ".tar.gz": "application/gzip",
    ".md": "text/markdown; charset=utf-8",
    ".cdx.json": "application/vnd.cyclonedx+json",
    ".json": "application/json",
}


class ChangedError(Exception):
    """A file is not what the release's index says; the message is for the log."""


class OpenFiles:
    """Files of a release's folder; those that were asked for last stay open.

    Args:
        folder: of the release.
    Attributes:
        sending: how many answers with one of them are under way.
    """

    def __init__(self, folder: UntrustedFolder) -> None:
        self.sending = 0
        self._folder = folder
        self._files: OrderedDict[str, BinaryIO] = OrderedDict()

    async def open(self, file: ReleaseFile) -> BinaryIO:
        """Returns an open file, which is closed when nobody has it any more.

        Raises:
            ChangedError: it is missing, cannot be read, or has another size than is listed.
        """
        opened = self._files.get(file.path)
        if opened is None:
            opened = await to_thread.run_sync(self._open, file)
        size = os.fstat(opened.fileno()).st_size
        if size != file.bytes:
            self._files.pop(file.path, None)
            raise ChangedError(f"{file.path} has {size:,} bytes, not {file.bytes:,}")
        self._files[file.path] = opened
        self._files.move_to_end(file.path)
        if len(self._files) > _KEPT_OPEN:
            self._files.popitem(last=False)
        return opened

    @property
    def chunk_bytes(self) -> int:
        """How much an answer may take into memory now."""
        return max(_MIN_CHUNK_BYTES, min(_MAX_CHUNK_BYTES, _SHARED_BYTES // max(1, self.sending)))

    def _open(self, file: ReleaseFile) -> BinaryIO:
        try:
            return self._folder.open(file.path)
        except UntrustedFileError as error:
            raise ChangedError(f"{file.path} {error}") from error


async def listed_file(request: Request, file: ReleaseFile, files: OpenFiles, headers: Mapping[str, str]) -> Response:
    """Returns the answer to GET or HEAD for a file.

    Args:
        request: whose conditions and range are looked at.
        file: as the index lists it.
        files: of the release.
        headers: more of them, like those on caching.
    Raises:
        ChangedError: it is missing, cannot be read, or has another size.
    """
    headers = {**headers, **digest_headers(file.sha256), "accept-ranges": "bytes"}
    if is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = _media_type(file.path)
    part = _part(request, file.bytes, headers["etag"])
    if part is None:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{file.bytes}"})
    headers["content-length"] = str(part.stop - part.start)
    if part.is_range:
        headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{file.bytes}"
    opened = await files.open(file)
    status = 206 if part.is_range else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return _PartResponse(files, opened, part, status, headers)


@dataclasses.dataclass(frozen=True)
class _Part:
    start: int
    stop: int
    is_range: bool


def _part(request: Request, size: int, etag: str) -> _Part | None:
    """Returns what a client asks for; None if there is no such part.

    Several ranges at once may be answered by all there is, and are: nobody needs them of an archive.
    """
    whole = _Part(0, size, is_range=False)
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("range", "").strip())
    if not match or request.headers.get("if-range", etag) != etag or match.groups() == ("", ""):
        return whole
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < int(first):
            return whole
    return _Part(start, stop, is_range=True) if start < stop else None


class _PartResponse(Response):
    """Sends a part of a file, in pieces, as fast as the client takes them.

    Starlette's own responses for files and streams ask a thread for each piece, or need a group of tasks, which takes
    longer than to send it; see scripts/benchmark_serve.py.
    """

    def __init__(
        self, files: OpenFiles, opened: BinaryIO, part: _Part, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        self._files = files
        self._opened = opened
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        self._files.sending += 1
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            place = self._part.start
            while place < self._part.stop and not gone.done():
                chunk = await self._read(place)
                place += len(chunk)
                more = place < self._part.stop
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        finally:
            self._files.sending -= 1
            gone.cancel()

    async def _read(self, place: int) -> memoryview:
        wanted = (self._opened.fileno(), min(self._files.chunk_bytes, self._part.stop - place), place)
        chunk = _read(*wanted, _AT_ONCE) if _AT_ONCE else None
        chunk = chunk or await to_thread.run_sync(_read, *wanted, 0)
        if not chunk:
            # The client gets fewer bytes than it was promised, and the end of its connection.
            raise ChangedError("a file shrank while it was sent")
        return chunk


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _read(descriptor: int, size: int, place: int, flags: int) -> memoryview:
    """Returns up to `size` bytes; none if there are none, or none that are in memory and `flags` want those alone."""
    chunk = bytearray(size)
    try:
        return memoryview(chunk)[: os.preadv(descriptor, [chunk], place, flags)]
    except OSError:
        if flags:
            return memoryview(b"")
        raise


def _media_type(path: str) -> str:
    return next((kind for suffix, kind in _TYPES.items() if path.endswith(suffix)), "text/plain; charset=utf-8")
