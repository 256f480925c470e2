"""Limits on a connection that uvicorn lacks: how long a client may take, and how much it may send."""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of a request's first line and headers. Programs send a few hundred bytes, browsers with cookies a few thousand.
MAX_HEAD_BYTES = 32 << 10
# From the first byte of a request (on a new connection: from its start) to the end of the headers; and from there to
# the end of the body.
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
# How long a client may leave a response unread.
STALL_SECONDS = 30.0

_TCP_CORK: int = getattr(socket, "TCP_CORK", 0)

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, guarded against clients that dawdle, stall, or send too much.

    uvicorn limits only the time between two requests: a client that sends or reads one byte a minute would keep its
    connection forever.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._head_bytes = 0
        self._arrival_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop: the first request must arrive in time."""
        super().connection_made(transport)
        self._limit_arrival(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._limit_arrival(None)
        self._cancel_stall_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: refuses a head that is too large, even if it never ends."""
        if self._in_head:
            if self._arrival_timer is None:
                self._limit_arrival(HEAD_SECONDS)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Called by the parser: the body, if there is one, must arrive in time."""
        self._in_head = False
        # data_received does not check the piece that completes the head.
        header_bytes = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        if len(self.url) + header_bytes > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        self._limit_arrival(BODY_SECONDS)
        super().on_headers_complete()
        self._cork(1)

    def on_message_complete(self) -> None:
        """Called by the parser: the request is complete."""
        self._limit_arrival(None)
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called by uvicorn: the response is complete."""
        self._cork(0)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Called by the transport: the client reads more slowly than we send."""
        super().pause_writing()
        self._cancel_stall_timer()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Called by the transport: the client has caught up."""
        self._cancel_stall_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for requests that are not HTTP, and for those that a callback of the parser refuses."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _cork(self, corked: int) -> None:
        """Holds the headers back until they can share a packet with the body, which makes small responses faster."""
        # Not for POST: the client may be waiting for `100 Continue`.
        if _TCP_CORK and not self.transport.is_closing() and self.scope["method"] != "POST":
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_CORK, corked)

    def _limit_arrival(self, seconds: float | None) -> None:
        if self._arrival_timer is not None:
            self._arrival_timer.cancel()
        self._arrival_timer = self.loop.call_later(seconds, self.transport.abort) if seconds else None

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
