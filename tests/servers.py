"""A server on this machine that has one archive and does what a test tells it to, however wrong."""

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
    """What a client asked for, and what went out to it.

    Attributes:
        path: what stands behind GET.
        range: the header; None if there is none.
        sent: bytes of the body.
    """

    path: str
    range: str | None
    encoding: str | None
    sent: int = 0


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request with the act whose turn it is."""

    server: "Server"

    def do_GET(self) -> None:
        """Called for each request."""
        self.request_seen = Request(self.path, self.headers["Range"], self.headers["Accept-Encoding"])
        self.server.requests.append(self.request_seen)
        acts = self.server.acts
        act = acts.pop(0) if len(acts) > 1 else acts[0]
        # A client that is killed hangs up in the middle.
        with contextlib.suppress(ConnectionError):
            act(self)

    def head(self, status: int, **headers: object) -> None:
        """Sends a status and headers, in whose names _ stands for -."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, content: bytes) -> None:
        """Sends some of the body."""
        # Before the client can have it, and so before a test can ask.
        self.request_seen.sent += len(content)
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, *args: object) -> None:
        """Says nothing."""


Act = Callable[[Handler], None]


class Server(http.server.ThreadingHTTPServer):
    """Performs its acts one a request, the last of them from then on.

    Attributes:
        acts: what to do.
        requests: what was asked for so far.
        gate: what some acts wait for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts: list[Act] = [serve]
        self.requests: list[Request] = []
        self.gate = threading.Event()

    @property
    def address(self) -> str:
        """What an URL begins with."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def published(self, name: str = "net.tgz", sha256: str = SHA256) -> PublishedCheckpoint:
        """The archive, as a config names it."""
        return PublishedCheckpoint(url=f"{self.address}/{name}", sha256=sha256, name="model.ckpt")


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Gives a server, which runs for as long as the context lasts."""
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
    """The archive, or the part of it that is asked for: what a good server does."""
    _serve_up_to(handler, len(ARCHIVE))


def serve_some(size: int, *, wait: bool = False) -> Act:
    """The same, but the connection ends after the archive's first bytes, at once or when the gate is opened."""

    def act(handler: Handler) -> None:
        _serve_up_to(handler, size)
        if wait:
            handler.server.gate.wait(60)

    return act


def serve_when_told(size: int) -> Act:
    """The same, but after the archive's first bytes the rest waits for the gate."""

    def act(handler: Handler) -> None:
        _serve_up_to(handler, size)
        handler.server.gate.wait(60)
        handler.body(ARCHIVE[size:])

    return act


def _serve_up_to(handler: Handler, end: int) -> None:
    wanted = handler.request_seen.range
    start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
    if start >= len(ARCHIVE):
        handler.head(416, Content_Range=f"bytes */{len(ARCHIVE)}", Content_Length=0)
        return
    length = len(ARCHIVE) - start
    if wanted:
        content_range = f"bytes {start}-{len(ARCHIVE) - 1}/{len(ARCHIVE)}"
        handler.head(206, Content_Length=length, Content_Range=content_range)
    else:
        handler.head(200, Content_Length=length)
    handler.body(ARCHIVE[start:end])


def answer(status: int, content: bytes = b"", **headers: object) -> Act:
    """Just this, whatever is asked for; its length is told unless the headers say another."""

    def act(handler: Handler) -> None:
        handler.head(status, **{"Content_Length": len(content), **headers})
        handler.body(content)

    return act
