"""What is where: the ASGI application, whose answers all come from the release's index.

An address is looked up among those that the index lists, as it is: no part of it becomes a path on the disk.
"""

from collections.abc import AsyncIterator, Callable, Hashable
import contextlib
import dataclasses
from urllib.parse import quote, urlencode, urlsplit

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from hubexport.release.index import INDEX, SHA256SUMS, ArtifactRecord, as_json
from hubexport.serve.access import Access
from hubexport.serve.file_responses import listed_file
from hubexport.serve.headers import digest_headers, is_known
from hubexport.serve.metrics import CONTENT_TYPE, Metrics
from hubexport.serve.served_release import PageText, ServedRelease
from hubexport.serve.tokens import Tokens
from hubexport.serve.trial_endpoint import TrialEndpoint
from hubexport.serve.watch import Watched
from hubexport.site.catalogue import FORMATS, SearchQuery
from hubexport.site.http_headers import CHANGING, UNCHANGING

# To make a page takes some hundredths of a second; the rest is waiting for others.
_PAGE_SECONDS = 30
# What somebody may look for.
_MAX_QUERY_TEXT = 200
_MAX_PAGE_DIGITS = 6

_HTML = "text/html; charset=utf-8"
_ASSET_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# How clients of TensorFlow's libraries ask for what is no page.
_HUB_FORMAT = "tf-hub-format"
_OTHER_FORMATS = {"tfjs-format": "TensorFlow.js", "lite-format": "TensorFlow Lite"}


@dataclasses.dataclass(frozen=True)
class AppOptions:
    """How a release is served.

    Attributes:
        url: where people and programs reach the server, without a slash at the end.
        bucket: the `gs://` address below which the unpacked modules are; None if there are none.
        tokens: who may ask; None: everybody.
    """

    url: str
    bucket: str | None = None
    tokens: Tokens | None = None


def make_app(watched: Watched, options: AppOptions, metrics: Metrics, try_out: TrialEndpoint | None) -> ASGIApp:
    """Returns the application.

    Args:
        watched: the release.
        options: how it is served.
        metrics: what is counted.
        try_out: classifies photographs; None if nobody may ask for that.
    """
    hub = _Hub(watched, options, metrics)
    routes = [
        Route("/", hub.catalogue),
        Route("/healthz", hub.health),
        Route("/metrics", hub.metrics),
        Route("/-/{name}", hub.asset),
        Route("/{path:path}", hub.at_path),
    ]
    if try_out:
        routes.insert(0, Route("/-/try/{handle:path}", try_out.answer, methods=["POST"]))

    @contextlib.asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watched.watch)
            yield
            tasks.cancel_scope.cancel()
        if try_out:
            await try_out.close()

    app = Starlette(
        routes=routes, lifespan=living, exception_handlers={HTTPException: hub.refuse, TimeoutError: hub.late}
    )
    return Access(app, metrics, options.tokens)


class _Hub:
    def __init__(self, watched: Watched, options: AppOptions, metrics: Metrics) -> None:
        self._watched = watched
        self._options = options
        self._metrics = metrics
        self._root = urlsplit(options.url).path

    async def catalogue(self, request: Request) -> Response:
        shelf = self._shelf(request, "catalogue")
        query, page = _query(request), _number(request.query_params.get("page", ""))
        return await _page(request, shelf, (query, page), lambda: shelf.pages.catalogue(query, page))

    async def health(self, request: Request) -> Response:
        self._shelf(request, "health")
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        self._shelf(request, "metrics")
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    async def asset(self, request: Request) -> Response:
        shelf, name = self._shelf(request, "asset"), request.path_params["name"]
        text = shelf.assets.get(f"-/{name}")
        if text is None:
            raise HTTPException(404, "There is no such file.")
        kind = next(kind for suffix, kind in _ASSET_TYPES.items() if name.endswith(suffix))
        return _answer(request, text, kind, UNCHANGING)

    async def at_path(self, request: Request) -> Response:
        """Answers for all that the index lists, by its own names."""
        shelf, path = self._shelf(request, "other"), request.path_params["path"]
        catalogue = shelf.catalogue
        if record := catalogue.records.get(path):
            return await self._module(request, shelf, record)
        if path in catalogue.modules:
            return self._newest(request, shelf, path)
        if file := catalogue.files.get(path):
            request.state.what = "file"
            unchanging = path.partition("/")[0] not in catalogue.publishers or path.count("/") > 1
            return await listed_file(request, file, shelf.files, _caching(UNCHANGING if unchanging else CHANGING))
        if path == INDEX:
            request.state.what = "file"
            return await _text(request, shelf, INDEX, lambda: as_json(catalogue.index), "application/json")
        if path == SHA256SUMS:
            request.state.what = "file"
            return await _text(request, shelf, SHA256SUMS, catalogue.index.sums, "text/plain; charset=utf-8")
        if path in catalogue.publishers:
            request.state.what = "publisher"
            return await _page(request, shelf, ("publisher", path), lambda: shelf.pages.publisher(path))
        return self._elsewhere(request, shelf, path)

    def _elsewhere(self, request: Request, shelf: ServedRelease, path: str) -> Response:
        """Answers for addresses that are near others."""
        if path == "robots.txt":
            return PlainTextResponse("User-agent: *\nAllow: /\n")
        if path != (bare := path.rstrip("/")) and self._is_known(shelf, bare):
            return self._redirect(request, bare, 301)
        if shelf.catalogue.holds_below(path.rstrip("/")):
            return RedirectResponse(f"{self._root}/?{urlencode({'q': path.rstrip('/') + '/'})}", 302)
        name, _, version = path.rpartition("/")
        if version.isdecimal() and (records := shelf.catalogue.modules.get(name)):
            versions = ", ".join(str(record.version) for record in records)
            raise HTTPException(404, f"This module has no version {version[:10]} here. Available versions: {versions}.")
        raise HTTPException(404, "Nothing with this name is published here.")

    def _is_known(self, shelf: ServedRelease, path: str) -> bool:
        catalogue = shelf.catalogue
        return path in catalogue.records or path in catalogue.modules or path in catalogue.publishers

    async def _module(self, request: Request, shelf: ServedRelease, record: ArtifactRecord) -> Response:
        """Answers at a module's address: programs get the module, people its page."""
        wanted = request.query_params.get(_HUB_FORMAT)
        if wanted == "compressed":
            return await self._archive(request, shelf, record)
        if wanted == "uncompressed":
            return self._unpacked(request, record)
        if wanted is not None:
            raise HTTPException(400, f"{_HUB_FORMAT} must be compressed or uncompressed.")
        for parameter, name in _OTHER_FORMATS.items():
            if parameter in request.query_params:
                raise HTTPException(404, f"This module is not available for {name}.")
        request.state.what = "module"
        return await _page(request, shelf, record.handle, lambda: shelf.pages.module(record))

    async def _archive(self, request: Request, shelf: ServedRelease, record: ArtifactRecord) -> Response:
        request.state.what = "archive"
        name = f"{record.variant}-{record.kind}-{record.version}.tar.gz"
        headers = {**_caching(UNCHANGING), "content-disposition": f'attachment; filename="{name}"'}
        answer = await listed_file(request, record.files["archive"], shelf.files, headers)
        if request.method == "GET" and answer.status_code == 200:
            self._metrics.downloads.labels(record.handle).inc()
        return answer

    def _unpacked(self, request: Request, record: ArtifactRecord) -> Response:
        """Says where TensorFlow can read a module without downloading it.

        tensorflow_hub reads the address from the body, and wants this status, and `gs://`.
        """
        request.state.what = "unpacked"
        if self._options.bucket is None:
            raise HTTPException(404, "This server has no unpacked modules. Use tf-hub-format=compressed.")
        location = f"{self._options.bucket}/{record.handle}"
        return PlainTextResponse(location, 303, {"location": location, **_caching(CHANGING)})

    def _newest(self, request: Request, shelf: ServedRelease, path: str) -> Response:
        request.state.what = "unversioned"
        wanted = request.query_params.get("format")
        if wanted is not None and wanted not in FORMATS:
            raise HTTPException(400, f"format must be {' or '.join(FORMATS)}.")
        record = shelf.catalogue.newest(path, wanted)
        if record is None:
            raise HTTPException(404, f"No version of this module has the format {wanted}.")
        return self._redirect(request, record.handle, 302, without="format")

    def _redirect(self, request: Request, path: str, status: int, without: str = "") -> Response:
        rest = [(name, value) for name, value in request.query_params.multi_items() if name != without]
        query = f"?{urlencode(rest)}" if rest else ""
        return RedirectResponse(f"{self._root}/{quote(path)}{query}", status, _caching(CHANGING))

    async def refuse(self, request: Request, error: Exception) -> Response:
        """Answers what cannot be answered: with a page for people, with a line for programs."""
        assert isinstance(error, HTTPException)
        return self._message(request, error.status_code, error.detail, dict(error.headers or {}))

    async def late(self, request: Request, _: Exception) -> Response:
        return self._message(request, 503, "The server is busy. Try again.", {"retry-after": "10"})

    def _message(self, request: Request, status: int, text: str, headers: dict[str, str]) -> Response:
        headers["cache-control"] = "no-store"
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(f"{text}\n", status, headers)
        title = {404: "Not found", 405: "Not allowed"}.get(status, "Request failed")
        return Response(self._watched.shelf.pages.message(title, text), status, {**headers, "content-type": _HTML})

    def _shelf(self, request: Request, what: str) -> ServedRelease:
        """Returns what the whole request is answered from, and notes what it is about."""
        request.state.what = what
        return self._watched.shelf


def _query(request: Request) -> SearchQuery:
    names = [field.name for field in dataclasses.fields(SearchQuery)]
    return SearchQuery(**{name: request.query_params.get(name, "")[:_MAX_QUERY_TEXT].strip() for name in names})


def _number(text: str) -> int:
    """Returns the number of a page, which may be far too large; 1 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_PAGE_DIGITS else 1


async def _page(request: Request, shelf: ServedRelease, key: Hashable, make: Callable[[], str]) -> Response:
    return await _text(request, shelf, key, make, _HTML)


async def _text(
    request: Request, shelf: ServedRelease, key: Hashable, make: Callable[[], str | bytes], media_type: str
) -> Response:
    with anyio.fail_after(_PAGE_SECONDS):
        text = await shelf.text(key, make)
    return _answer(request, text, media_type, CHANGING)


def _answer(request: Request, text: PageText, media_type: str, caching: str) -> Response:
    packs = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"vary": "accept-encoding", **_caching(caching), **digest_headers(text.sha256)}
    if packs:
        # The entity tag names bytes, and these are others; the digest would have to be theirs, too.
        del headers["repr-digest"]
        headers |= {"content-encoding": "gzip", "etag": f'"{text.sha256}-gzip"'}
    if is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = media_type
    return Response(text.gzipped if packs else text.body, headers=headers)


def _caching(how: str) -> dict[str, str]:
    return {"cache-control": how}
