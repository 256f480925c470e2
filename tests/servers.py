"""A local HTTP server with one archive, which behaves as well or as badly as a test wants."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import hashlib
import http.server
import random
import threading

from hubexport.variants import PublishedCheckpoint

ARCHIVE = random.Random(0).randbytes(600_000)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@dataclasses.dataclass
class Request:
    """A request, and how much of the response was sent.

    Attributes:
        path: the request's target.
        range: the Range header, if there is one.
        encoding: the Accept-Encoding header, if there is one.
        sent: the sent bytes of the body.
    """

    path: str
    range: str | None
    encoding: str | None
    sent: int = 0


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers a request with the server's next act."""

    server: "Server"

    def do_GET(self) -> None:
        """Called by http.server for each request."""
        self.request_seen = Request(self.path, self.headers["Range"], self.headers["Accept-Encoding"])
        self.server.requests.append(self.request_seen)
        acts = self.server.acts
        act = acts.pop(0) if len(acts) > 1 else acts[0]
        # A killed client disconnects in the middle.
        with contextlib.suppress(ConnectionError):
            act(self)

    def head(self, status: int, **headers: object) -> None:
        """Sends the status and headers; in their names, _ stands for -."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, content: bytes) -> None:
        """Sends a part of the body."""
        # Counted before the client can have it, so that tests see it in time.
        self.request_seen.sent += len(content)
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        """Called by http.server; keeps quiet."""


Act = Callable[[Handler], None]


class Server(http.server.ThreadingHTTPServer):
    """Performs one act per request, and repeats the last one.

    Attributes:
        acts: the acts still to perform.
        content: the archive.
        requests: all requests so far.
        gate: an event that some acts wait for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts: list[Act] = [serve]
        self.content = ARCHIVE
        self.requests: list[Request] = []
        self.gate = threading.Event()

    @property
    def address(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def published(self, name: str = "net.tgz", sha256: str | None = SHA256) -> PublishedCheckpoint:
        """Returns the archive as a config names it."""
        return PublishedCheckpoint(url=f"{self.address}/{name}", sha256=sha256, name="model.ckpt")


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Runs a server as long as the context lasts."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.gate.set()
            server.shutdown()
            thread.join()


def serve(handler: Handler) -> None:
    """Sends the archive or the requested range, as a good server does."""
    _serve_up_to(handler, len(handler.server.content))


def serve_some(size: int, *, wait: bool = False) -> Act:
    """Returns an act that ends the connection after the archive's first bytes, at once or when the gate opens."""

    def act(handler: Handler) -> None:
        _serve_up_to(handler, size)
        if wait:
            handler.server.gate.wait(60)

    return act


def serve_when_told(size: int) -> Act:
    """Returns an act that sends the archive's first bytes at once, and the others when the gate opens."""

    def act(handler: Handler) -> None:
        _serve_up_to(handler, size)
        handler.server.gate.wait(60)
        handler.body(handler.server.content[size:])

    return act


def _serve_up_to(handler: Handler, end: int) -> None:
    requested = handler.request_seen.range
    start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
    content = handler.server.content
    if start >= len(content):
        handler.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        return
    length = len(content) - start
    if requested:
        content_range = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, Content_Length=length, Content_Range=content_range)
    else:
        handler.head(200, Content_Length=length)
    handler.body(content[start:end])


def answer(status: int, content: bytes = b"", **headers: object) -> Act:
    """Returns an act that sends this response to any request; headers may state a false length."""

    def act(handler: Handler) -> None:
        handler.head(status, **{"Content_Length": len(content), **headers})
        handler.body(content)

    return act
