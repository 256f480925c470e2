"""The ASGI application: which address gets which answer.

Addresses are looked up among those that the release's index lists; no part of an address becomes a path on the disk.
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

from hubexport.release.facts import MODULE_FORMATS
from hubexport.release.index import INDEX, SHA256SUMS, ArtifactRecord, ReleaseFile, as_json
from hubexport.serve.access import AccessMiddleware
from hubexport.serve.deployment_requests import requested_file
from hubexport.serve.file_responses import file_response
from hubexport.serve.headers import accepts_gzip, digest_headers, is_known, saved_as
from hubexport.serve.metrics import Metrics
from hubexport.serve.release_watcher import ReleaseWatcher
from hubexport.serve.served_release import PageText, ServedRelease
from hubexport.serve.tokens import Tokens
from hubexport.serve.trial_endpoint import TrialEndpoint
from hubexport.site.catalogue import SearchQuery
from hubexport.site.http_headers import CHANGING, OPEN_TO_PAGES, UNCHANGING
from hubexport.site.protocol_files import TFJS_FORMAT, main_file

# Rendering takes some hundredths of a second; the rest is waiting for other requests.
_RENDER_TIMEOUT_SECONDS = 30
_MAX_QUERY_CHARACTERS = 200
_MAX_PAGE_DIGITS = 6

_HTML = "text/html; charset=utf-8"
_ASSET_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# The query parameter by which tensorflow_hub asks for a module.
_HUB_FORMAT = "tf-hub-format"


@dataclasses.dataclass(frozen=True)
class AppOptions:
    """How to serve a release.

    Attributes:
        url: the server's public address, without a slash at the end.
        bucket: the `gs://` address that holds the unpacked modules; None if there is none.
        tokens: the tokens that permit access; None admits everyone.
        tfjs: the content of TF.js, see `hubexport.site.tfjs_runtime`; None if browsers classify no photographs.
    """

    url: str
    bucket: str | None = None
    tokens: Tokens | None = None
    tfjs: bytes | None = None


def make_app(
    watcher: ReleaseWatcher, options: AppOptions, metrics: Metrics, trial_endpoint: TrialEndpoint | None
) -> ASGIApp:
    """Returns the application.

    Args:
        watcher: provides the release.
        options: how to serve the release.
        metrics: counts requests and downloads.
        trial_endpoint: classifies photographs; None disables that.
    """
    handlers = _Handlers(watcher, options, metrics)
    routes = [
        Route("/", handlers.catalogue),
        Route("/healthz", handlers.health),
        Route("/metrics", handlers.metrics),
        Route("/-/{name}", handlers.asset),
        Route("/{path:path}", handlers.at_path),
    ]
    if trial_endpoint:
        routes.insert(0, Route("/-/try/{handle:path}", trial_endpoint.answer, methods=["POST"]))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watcher.watch)
            yield
            tasks.cancel_scope.cancel()
        if trial_endpoint:
            await trial_endpoint.close()

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: handlers.http_error, TimeoutError: handlers.timeout},
    )
    # It would redirect to the host that the client names.
    app.router.redirect_slashes = False
    return AccessMiddleware(app, metrics, options.tokens)


class _Handlers:
    """Answers requests from the current release; `request.state.what` labels each in the log and metrics."""

    def __init__(self, watcher: ReleaseWatcher, options: AppOptions, metrics: Metrics) -> None:
        self._watcher = watcher
        self._bucket = options.bucket
        self._metrics = metrics
        self._root = urlsplit(options.url).path

    async def catalogue(self, request: Request) -> Response:
        request.state.what = "catalogue"
        release = self._watcher.current
        parameters = request.query_params
        names = [field.name for field in dataclasses.fields(SearchQuery)]
        query = SearchQuery(**{name: parameters.get(name, "")[:_MAX_QUERY_CHARACTERS].strip() for name in names})
        number = parameters.get("page", "")
        # The number may be far too large; anything else stands for the first page.
        page = int(number) if number.isascii() and number.isdecimal() and len(number) <= _MAX_PAGE_DIGITS else 1
        return await _rendered(request, release, (query, page), lambda: release.pages.catalogue(query, page))

    async def health(self, request: Request) -> Response:
        request.state.what = "health"
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        request.state.what = "metrics"
        headers = {"content-type": self._metrics.content_type, "cache-control": "no-store"}
        return Response(self._metrics.text(), headers=headers)

    async def asset(self, request: Request) -> Response:
        request.state.what = "asset"
        name = request.path_params["name"]
        text = self._watcher.current.assets.get(f"-/{name}")
        if text is None:
            raise HTTPException(404, "There is no such file.")
        media_type = next(media_type for suffix, media_type in _ASSET_TYPES.items() if name.endswith(suffix))
        return _text_response(request, text, media_type, UNCHANGING)

    async def at_path(self, request: Request) -> Response:
        """Answers at all other addresses: modules, files and publishers, by their names in the index."""
        release, path = self._watcher.current, request.path_params["path"]
        catalogue = release.catalogue
        if file := requested_file(catalogue, path, request.query_params) or catalogue.files.get(path):
            return await self._file(request, release, file)
        if record := catalogue.records.get(path):
            return await self._module(request, release, record)
        if record := catalogue.deployments.get(path):
            request.state.what = "deployment"
            return await _rendered(request, release, path, lambda: release.pages.deployment(record))
        if path in catalogue.modules:
            return self._newest(request, release, path)
        if path == INDEX:
            request.state.what = "file"
            return await _rendered(request, release, INDEX, lambda: as_json(catalogue.index), "application/json")
        if path == SHA256SUMS:
            request.state.what = "file"
            return await _rendered(request, release, SHA256SUMS, catalogue.index.sums, "text/plain; charset=utf-8")
        if path in catalogue.publishers:
            request.state.what = "publisher"
            return await _rendered(request, release, ("publisher", path), lambda: release.pages.publisher(path))
        return self._unlisted(request, release, path)

    def _unlisted(self, request: Request, release: ServedRelease, path: str) -> Response:
        """Answers at addresses that the index does not list, if possible by pointing to one that it does."""
        if path == "robots.txt":
            return PlainTextResponse("User-agent: *\nAllow: /\n")
        catalogue, bare = release.catalogue, path.rstrip("/")
        lists = (catalogue.records, catalogue.modules, catalogue.deployments, catalogue.publishers)
        is_listed = any(bare in listed for listed in lists)
        if path != bare and is_listed:
            return self._redirect(request, bare, 301)
        if catalogue.holds_below(bare):
            return RedirectResponse(f"{self._root}/?{urlencode({'q': bare + '/'})}", 302)
        name, _, last = path.rpartition("/")
        if records := catalogue.modules.get(name):
            if TFJS_FORMAT in request.query_params:
                return self._redirect(request, f"{records[0].handle}/{last}", 302)
            if last.isdecimal():
                versions = ", ".join(str(record.version) for record in records)
                raise HTTPException(
                    404, f"This module has no version {last[:10]} here. Available versions: {versions}."
                )
        raise HTTPException(404, "Nothing with this name is published here.")

    async def _module(self, request: Request, release: ServedRelease, record: ArtifactRecord) -> Response:
        """Answers at a module's address: programs get the module, people its page."""
        hub_format = request.query_params.get(_HUB_FORMAT)
        if hub_format == "compressed":
            return await self._archive(request, release, record)
        if hub_format == "uncompressed":
            return self._unpacked(request, record)
        if hub_format is not None:
            raise HTTPException(400, f"{_HUB_FORMAT} must be compressed or uncompressed.")
        request.state.what = "module"
        return await _rendered(request, release, record.handle, lambda: release.pages.module(record))

    async def _file(self, request: Request, release: ServedRelease, file: ReleaseFile) -> Response:
        """Answers with a listed file."""
        request.state.what = "file"
        path, catalogue = file.path, release.catalogue
        unchanging = path.partition("/")[0] not in catalogue.publishers or path.count("/") > 1
        headers = {"cache-control": UNCHANGING if unchanging else CHANGING}
        deployed = catalogue.deployment_files.get(path)
        if deployed is None:
            return await file_response(request, file, release.files, headers)
        request.state.what = "model"
        headers |= {**OPEN_TO_PAGES, **saved_as(deployed, file)}
        response = await file_response(request, file, release.files, headers)
        if file == main_file(deployed):
            self._count_download(request, response, deployed)
        return response

    def _count_download(self, request: Request, response: Response, record: ArtifactRecord) -> None:
        if request.method == "GET" and response.status_code == 200:
            self._metrics.downloads.labels(record.handle).inc()

    async def _archive(self, request: Request, release: ServedRelease, record: ArtifactRecord) -> Response:
        request.state.what = "archive"
        headers = {"cache-control": UNCHANGING, **saved_as(record, record.files["archive"])}
        response = await file_response(request, record.files["archive"], release.files, headers)
        self._count_download(request, response, record)
        return response

    def _unpacked(self, request: Request, record: ArtifactRecord) -> Response:
        """Redirects to where TensorFlow can read a module without downloading it.

        tensorflow_hub expects status 303, and a `gs://` address as the body.
        """
        request.state.what = "unpacked"
        if self._bucket is None:
            raise HTTPException(404, "This server has no unpacked modules. Use tf-hub-format=compressed.")
        location = f"{self._bucket}/{record.handle}"
        return PlainTextResponse(location, 303, {"location": location, "cache-control": CHANGING})

    def _newest(self, request: Request, release: ServedRelease, path: str) -> Response:
        """Redirects from a handle without a version to the module's newest version."""
        request.state.what = "unversioned"
        format_ = request.query_params.get("format")
        if format_ is not None and format_ not in MODULE_FORMATS:
            raise HTTPException(400, f"format must be {' or '.join(MODULE_FORMATS)}.")
        record = release.catalogue.newest(path, format_)
        if record is None:
            raise HTTPException(404, f"No version of this module has the format {format_}.")
        return self._redirect(request, record.handle, 302, without="format")

    def _redirect(self, request: Request, path: str, status: int, without: str = "") -> Response:
        kept = [(name, value) for name, value in request.query_params.multi_items() if name != without]
        query = f"?{urlencode(kept)}" if kept else ""
        headers = {"cache-control": CHANGING, **OPEN_TO_PAGES}
        return RedirectResponse(f"{self._root}/{quote(path)}{query}", status, headers)

    async def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._message(request, error.status_code, error.detail, dict(error.headers or {}))

    async def timeout(self, request: Request, _: Exception) -> Response:
        return self._message(request, 503, "The server is busy. Try again.", {"retry-after": "10"})

    def _message(self, request: Request, status: int, text: str, headers: dict[str, str]) -> Response:
        """Returns a page for people, or a line for programs."""
        headers["cache-control"] = "no-store"
        if "text/html" not in request.headers.get("accept", ""):
            return PlainTextResponse(f"{text}\n", status, headers)
        title = {404: "Not found", 405: "Not allowed"}.get(status, "Request failed")
        page = self._watcher.current.pages.message(title, text)
        return Response(page, status, {**headers, "content-type": _HTML})


async def _rendered(
    request: Request, release: ServedRelease, key: Hashable, render: Callable[[], str | bytes], media_type: str = _HTML
) -> Response:
    with anyio.fail_after(_RENDER_TIMEOUT_SECONDS):
        text = await release.text(key, render)
    return _text_response(request, text, media_type, CHANGING)


def _text_response(request: Request, text: PageText, media_type: str, cache_control: str) -> Response:
    compressed = accepts_gzip(request)
    headers = {"vary": "accept-encoding", "cache-control": cache_control, **digest_headers(text.sha256)}
    if compressed:
        # An entity tag identifies bytes, and the compressed ones differ; the digest would have to be theirs, too.
        del headers["repr-digest"]
        headers |= {"content-encoding": "gzip", "etag": f'"{text.sha256}-gzip"'}
    if is_known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = media_type
    return Response(text.gzipped if compressed else text.body, headers=headers)
