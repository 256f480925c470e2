"""HTTP/1.1 as uvicorn speaks it, with the limits that uvicorn lacks: on a client's time, and on what it may send."""

import asyncio
from collections import deque
import http
import re
import socket
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl, service_unavailable
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hubexport.serve.connection_limit import ConnectionLimit
from hubexport.serve.log import LOG

# Of a request's first line and headers. Programs send a few hundred bytes, browsers with cookies a few thousand.
MAX_HEAD_BYTES = 32 << 10
# From the first byte of a request (on a new connection: from its start) to the end of the headers; and from there to
# the end of the body.
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
# How long a client may leave a part of a response unread, and how large such a part is.
STALL_SECONDS = 30.0
_STALL_BYTES = 64 << 10
# About as long as people stay on a page before they open the next one; after that, browsers connect again.
IDLE_SECONDS = 15.0
# How often the server compares its connections with these limits.
CHECK_SECONDS = 1.0

# What the parser gets at once. Clients may send requests before they have the answers to earlier ones; those that fit
# into one piece are taken apart, the others wait as bytes, which take a hundredth of the memory.
_PIECE_BYTES = 2 << 10
_HOST = re.compile(rb"[\w.~!$&'()*+,;=%:\[\]-]*", re.ASCII)

_TCP_CORK: int = getattr(socket, "TCP_CORK", 0)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, guarded against clients that dawdle, stall, or send too much.

    uvicorn limits only the time between two requests. A client that sends or reads one byte a minute would keep its
    connection forever. Here, `check` compares what a connection waits for with what it waited for before. So no order
    of events can leave a connection without a limit.

    Args:
        limit: how many connections are served at once; requests on others are answered with 503.
    """

    def __init__(self, *args: Any, limit: ConnectionLimit, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limit = limit
        self._unparsed = bytearray()
        self._in_head, self._in_body = True, False
        self._head_bytes = 0
        # Requests whose responses are not complete, the oldest first. Only that one is being answered.
        self._open_requests: deque[RequestResponseCycle] = deque()
        # The error to send after these responses.
        self._refusal: bytes | None = None
        # Counted so that `check` can tell one wait from the next.
        self._requests = self._responses = self._times_caught_up = 0
        self._arrival, self._departure = _Wait(), _Wait()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        self.flow = self._flow = _HeldFlow(transport)
        self._limit.note(len(self.connections))
        if self._limit.is_exceeded:
            self.app = service_unavailable
            LOG.warning("too many connections", extra={"facts": {"max_connections": self._limit.max_connections}})

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        # uvicorn tells only the newest one.
        for request in self._open_requests:
            request.disconnected = True
            request.message_event.set()
        super().connection_lost(exc)
        self._limit.note(len(self.connections))

    def check(self, now: float) -> None:
        """Ends the connection if the client has kept it waiting for too long.

        Args:
            now: the time in seconds, on any clock that never goes back.
        """
        unsent = self.transport.get_write_buffer_size()
        departing = (self._responses, self._times_caught_up, unsent // _STALL_BYTES) if unsent else None
        arriving, seconds = self._awaited()
        too_late = self._arrival.lasts(arriving, seconds, now)
        if self._departure.lasts(departing, STALL_SECONDS, now) or too_late:
            self.transport.abort()

    def _awaited(self) -> tuple[object, float]:
        """Returns what must arrive next, None if nothing must, and within how many seconds."""
        if self._in_body and len(self._open_requests) <= 1:
            return ("body", self._requests), BODY_SECONDS
        if self._open_requests:
            return None, 0.0
        if self._in_head:
            return ("head", self._requests), HEAD_SECONDS
        return ("request", self._requests), IDLE_SECONDS

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._unparsed += data
        self._parse()

    def _parse(self) -> None:
        """Parses what has arrived, as long as no complete request waits for its turn."""
        while self._unparsed and self._refusal is None and not (self.pipeline or self.transport.is_closing()):
            piece = bytes(self._unparsed[:_PIECE_BYTES])
            del self._unparsed[:_PIECE_BYTES]
            if self._in_head:
                self._head_bytes += len(piece)
            super().data_received(piece)
            if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._refusal is not None:
            self._unparsed.clear()
        self._flow.hold(bool(self._unparsed or self.pipeline))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Called by the event loop: the client sends nothing more, but may wait for answers."""
        if self._in_body and self._open_requests and not self.cycle.response_started:
            self._open_requests.pop()
            if self.pipeline:
                self.pipeline.popleft()
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._refuse(http.HTTPStatus.BAD_REQUEST)
        elif self._open_requests:
            self.cycle.keep_alive = False
        return bool(self._open_requests)

    def on_message_begin(self) -> None:
        """Called by the parser: a request begins."""
        self._requests += 1
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser: the request is answered, or waits until the earlier ones are."""
        self._in_head, self._in_body = False, True
        if refused := self._fault():
            # Ends the parsing, and calls send_400_response.
            self._refuse(refused)
            raise ValueError(refused.phrase)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # Nobody knows what language follows.
            self.cycle.keep_alive = False
        self._open_requests.append(self.cycle)
        if len(self._open_requests) == 1:
            self._cork(self.cycle)

    def _fault(self) -> http.HTTPStatus | None:
        """Returns what is wrong with the headers."""
        # The last piece of a head is not counted before it is parsed.
        header_bytes = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        if len(self.url) + header_bytes > MAX_HEAD_BYTES:
            return http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        hosts = [value for name, value in self.headers if name == b"host"]
        is_old = self.parser.get_http_version() == "1.0"
        if len(hosts) > 1 or not (hosts or is_old) or not all(map(_HOST.fullmatch, hosts)):
            return http.HTTPStatus.BAD_REQUEST
        if any(name == b"transfer-encoding" for name, _ in self.headers):
            # Nothing limits how much surrounds the data of a chunked body, and nobody needs one here.
            return http.HTTPStatus.LENGTH_REQUIRED
        return None

    def on_message_complete(self) -> None:
        """Called by the parser: the request is complete."""
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called by uvicorn: the oldest request is answered."""
        self._responses += 1
        self._uncork()
        if self._open_requests:
            self._open_requests.popleft()
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._open_requests:
            self._cork(self._open_requests[0])
        elif self._refusal is not None:
            self._close_with(self._refusal)
        self._parse()

    def resume_writing(self) -> None:
        """Called by the transport: the client has caught up."""
        self._times_caught_up += 1
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for requests that are not HTTP, and for those that a callback of the parser refuses."""
        if self._refusal is None:
            is_large = self._head_bytes > MAX_HEAD_BYTES
            status = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_large else http.HTTPStatus.BAD_REQUEST
            self._refuse(status)

    def _unsupported_upgrade_warning(self) -> None:
        """Called by uvicorn. Clients may offer other protocols; it is no reason to recommend packages."""

    def _refuse(self, status: http.HTTPStatus) -> None:
        """Answers with an error, after the responses in progress, and closes the connection."""
        self._in_body = False
        text = f"{status.phrase}\n"
        self._refusal = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}"
        ).encode()
        if not self._open_requests:
            self._close_with(self._refusal)

    def _close_with(self, response: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(response)
            self.transport.close()

    def _cork(self, request: RequestResponseCycle) -> None:
        """Holds the headers back until they can share a packet with the body, which makes small responses faster."""
        # Not for POST: the client may be waiting for `100 Continue`.
        if _TCP_CORK and request.scope["method"] != "POST" and not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_CORK, 1)

    def _uncork(self) -> None:
        if _TCP_CORK and not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_CORK, 0)


class _HeldFlow(FlowControl):
    """uvicorn's flow control, which reads no more while requests wait, whoever asks for more."""

    _is_held = False

    def hold(self, held: bool) -> None:
        """Stops reading until `hold(False)`."""
        if held == self._is_held:
            return
        self._is_held = held
        if held:
            self.pause_reading()
        else:
            self.resume_reading()

    def resume_reading(self) -> None:
        """Called by uvicorn."""
        if not self._is_held:
            super().resume_reading()


class _Wait:
    """Measures how long a connection has waited for the same thing."""

    def __init__(self) -> None:
        self._thing: object = None
        self._since = 0.0

    def lasts(self, thing: object, seconds: float, now: float) -> bool:
        """Returns whether the connection has waited for `thing` that long; None stands for no wait."""
        if thing != self._thing:
            self._thing, self._since = thing, now
        return thing is not None and now - self._since >= seconds
