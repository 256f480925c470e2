"""Takes a photograph from a browser, and tells what a module takes it for."""

from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hubexport.errors import HubexportError, ImageError, ModuleError
from hubexport.serve.metrics import Metrics
from hubexport.serve.trials import BusyError, TrialLimits, Trials
from hubexport.serve.watch import Watched

MAX_IMAGE_BYTES = TrialLimits.image_bytes
# Around the image: the parts' headers and boundaries.
_FORM_BYTES = 16 << 10
_UPLOAD_SECONDS = 30
_UPLOADS = 16


class TrialEndpoint:
    """Answers the form on modules' pages.

    Args:
        watched: the release.
        directory: its folder.
        trials: classifies photographs.
        metrics: what is counted.
    """

    def __init__(self, watched: Watched, directory: Path, trials: Trials, metrics: Metrics) -> None:
        self._watched = watched
        self._directory = directory
        self._trials = trials
        self._metrics = metrics
        self._uploads = 0

    async def answer(self, request: Request) -> Response:
        """Answers `POST /-/try/HANDLE` with what the module takes the photograph for."""
        request.state.what = "try"
        shelf = self._watched.shelf
        record = shelf.catalogue.records.get(request.path_params["handle"])
        if record is None or record.kind != "classification":
            raise HTTPException(404, "There is no such classification module here.")
        # Other sites shall not let this server work.
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise HTTPException(403, "Photographs can be sent only from this site's own pages.")
        try:
            image = await self._image(request)
            scores = await self._trials.classify(self._directory / record.files["archive"].path, image)
        except BusyError:
            self._count("busy")
            raise _busy() from None
        except (ImageError, ModuleError) as error:
            refused = isinstance(error, ImageError)
            self._count("refused" if refused else "failed")
            page = await to_thread.run_sync(shelf.pages.trial, record, None, error)
            return self._told(request, page, _error(error), 422 if refused else 500)
        self._count("classified")
        top = [{"index": one.index, "label": one.label, "probability": one.probability} for one in scores]
        page = await to_thread.run_sync(shelf.pages.trial, record, scores, None)
        return self._told(request, page, {"top": top}, 200)

    async def close(self) -> None:
        """Ends what is under way."""
        await self._trials.close()

    async def _image(self, request: Request) -> bytes:
        """Receives the form, and returns the bytes of its image."""
        if self._uploads >= _UPLOADS:
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

    def _told(self, request: Request, page: str, facts: dict[str, Any], status: int) -> Response:
        headers = {"cache-control": "no-store", "vary": "accept"}
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(facts, status, headers)
        return Response(page, status, {**headers, "content-type": "text/html; charset=utf-8"})

    def _count(self, result: str) -> None:
        self._metrics.trials.labels(result).inc()


async def _read_form(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "Send a form with a photograph: multipart/form-data with a field named image.")
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise HTTPException(411, "The request must have a Content-Length header.")
    if int(length[:12]) > MAX_IMAGE_BYTES + _FORM_BYTES:
        raise HTTPException(413, f"A photograph may have up to {MAX_IMAGE_BYTES >> 20} MiB.")
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=4)
    # Nothing that a stranger sends is written to the disk.
    parser.spool_max_size = MAX_IMAGE_BYTES + _FORM_BYTES
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"The form cannot be read: {error.message}") from None
    image = form.get("image")
    try:
        if not isinstance(image, UploadFile):
            raise HTTPException(400, "The form has no file in its field image.")
        return await image.read()
    finally:
        await form.close()


def _busy() -> HTTPException:
    return HTTPException(503, "Too many photographs are waiting. Try again.", {"retry-after": "5"})


def _error(error: HubexportError) -> dict[str, Any]:
    return {"error": {"what": error.what, "why": error.why, "fix": error.fix}}
