"""Receives a photograph that somebody uploads, and answers with the classes that a module finds."""

from collections.abc import AsyncGenerator
import dataclasses
from email.message import Message
from pathlib import Path
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
from anyio import to_thread
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from hubexport.errors import ImageError, ModuleError
from hubexport.release.index import ArtifactRecord
from hubexport.serve.file_responses import ChangedError
from hubexport.serve.metrics import Metrics
from hubexport.serve.release_watcher import ReleaseWatcher
from hubexport.serve.served_release import ServedRelease
from hubexport.serve.trials import BusyError, TrialLimits, Trials, no_answer

if TYPE_CHECKING:
    from hubexport.images.classification import Score

MAX_IMAGE_BYTES = TrialLimits.image_bytes
# With what surrounds the image: headers and boundaries.
_MAX_BODY_BYTES = MAX_IMAGE_BYTES + (16 << 10)
# As RFC 2046 allows them.
_BOUNDARY = re.compile(r"[\w'()+,./:=? -]{1,70}", re.ASCII)
_UPLOAD_SECONDS = 30
_MAX_UPLOADS = 16


class TrialEndpoint:
    """Answers the form on the pages of classification modules.

    Args:
        watcher: provides the release.
        directory: the release's folder.
        trials: classifies photographs.
        metrics: counts the results.
        url: the server's public address.
    """

    def __init__(self, watcher: ReleaseWatcher, directory: Path, trials: Trials, metrics: Metrics, url: str) -> None:
        self._watcher = watcher
        public = urlsplit(url)
        # As browsers write it.
        self._public_host = public.netloc.lower().removesuffix(":443" if public.scheme == "https" else ":80")
        self._directory = directory
        self._trials = trials
        self._metrics = metrics
        self._uploads = 0

    async def answer(self, request: Request) -> Response:
        """Answers `POST /-/try/HANDLE` with the most probable classes of the photograph."""
        request.state.what = "try"
        release = self._watcher.current
        record = release.catalogue.records.get(request.path_params["handle"])
        if record is None or record.kind != "classification":
            raise HTTPException(404, "There is no such classification module here.")
        if not self._is_from_this_site(request):
            raise HTTPException(403, "Photographs can be sent only from this site's own pages.")
        try:
            image = await self._image(request)
            scores = await self._scores(release, record, image)
        except BusyError:
            self._count("busy")
            raise _busy() from None
        except (ImageError, ModuleError) as error:
            is_image_error = isinstance(error, ImageError)
            self._count("refused" if is_image_error else "failed")
            page = await to_thread.run_sync(release.pages.trial, record, None, error)
            facts = {"error": {"what": error.what, "why": error.why, "fix": error.fix}}
            return _page_or_json(request, page, facts, 422 if is_image_error else 500)
        self._count("classified")
        page = await to_thread.run_sync(release.pages.trial, record, scores, None)
        return _page_or_json(request, page, {"top": [dataclasses.asdict(score) for score in scores]}, 200)

    async def _scores(self, release: ServedRelease, record: ArtifactRecord, image: bytes) -> "tuple[Score, ...]":
        """Returns the classes of an image, found with the listed archive and no other.

        Raises:
            BusyError, ImageError: see `Trials.classify`.
            ModuleError: the server or the module is at fault. The log says what happened, the error does not.
        """
        try:
            archive = await release.files.open(record.files["archive"])
            scores = await self._trials.classify(self._directory / archive.path, image)
            archive.check_after_reading()
        except ChangedError:
            raise no_answer() from None
        return scores

    def _is_from_this_site(self, request: Request) -> bool:
        """Returns whether a page of this server, or a program, sends the request: other sites must not make us work."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        # Older browsers send only this one. People use the public address, or the one that they connect to.
        origin = request.headers.get("origin")
        if origin is None:
            return True
        _, _, host = origin.partition("://")
        return bool(host) and host in (self._public_host, request.headers.get("host"))

    async def close(self) -> None:
        """Ends the classifications in progress."""
        await self._trials.close()

    async def _image(self, request: Request) -> bytes:
        """Receives the form, and returns the image's bytes."""
        if self._uploads >= _MAX_UPLOADS:
            self._count("busy")
            raise _busy()
        self._uploads += 1
        try:
            with anyio.fail_after(_UPLOAD_SECONDS):
                return await _read_form(request)
        except TimeoutError:
            raise HTTPException(408, "The photograph took too long to arrive.", {"connection": "close"}) from None
        finally:
            self._uploads -= 1

    def _count(self, result: str) -> None:
        self._metrics.trials.labels(result).inc()


def _page_or_json(request: Request, page: str, facts: dict[str, Any], status: int) -> Response:
    headers = {"cache-control": "no-store", "vary": "accept"}
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse(facts, status, headers)
    return Response(page, status, {**headers, "content-type": "text/html; charset=utf-8"})


async def _read_form(request: Request) -> bytes:
    content_type = Message()
    content_type["content-type"] = request.headers.get("content-type", "")
    if content_type.get_content_type() != "multipart/form-data":
        raise HTTPException(415, "Send a form with a photograph: multipart/form-data with a field named image.")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal()):
        raise HTTPException(411, "The request must have a Content-Length header.")
    # A number of thousands of digits is an error to int().
    significant = length.lstrip("0") or "0"
    if len(significant) > len(str(_MAX_BODY_BYTES)) or int(significant) > _MAX_BODY_BYTES:
        raise _too_large()
    boundary = content_type.get_boundary("")
    if not _BOUNDARY.fullmatch(boundary):
        raise HTTPException(400, "The form cannot be read: its boundary is missing or not valid.")
    # Without the form's charset, which names any of Python's codecs, slow ones included.
    headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})
    parser = MultiPartParser(headers, _limited(request.stream()), max_files=1, max_fields=4)
    # The upload stays in memory: Starlette writes what is larger to the disk.
    parser.spool_max_size = _MAX_BODY_BYTES
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"The form cannot be read: {error.message}") from None
    except ClientDisconnect:
        raise HTTPException(400, "The form broke off.") from None
    image = form.get("image")
    try:
        if not isinstance(image, UploadFile):
            raise HTTPException(400, "The form has no file in its field image.")
        return await image.read()
    finally:
        await form.close()


async def _limited(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > _MAX_BODY_BYTES:
            raise _too_large()
        yield chunk


def _too_large() -> HTTPException:
    return HTTPException(413, f"A photograph may have up to {MAX_IMAGE_BYTES >> 20} MiB.")


def _busy() -> HTTPException:
    return HTTPException(503, "Too many photographs are waiting. Try again.", {"retry-after": "5"})
