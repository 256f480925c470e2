"""What uvicorn leaves open about one connection: how long a client may take, and how much it may send."""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# For a request's first line and headers; programs need a few hundred bytes, browsers with cookies some thousands.
MAX_HEAD_BYTES = 32 << 10
# From the first byte (of a connection: from its start) to the end of the headers, and to the end of the body.
HEAD_SECONDS = 10.0
BODY_SECONDS = 60.0
# How long a client may take nothing of what it asked for.
STALL_SECONDS = 30.0

_TCP_CORK: int = getattr(socket, "TCP_CORK", 0)

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, for clients that dawdle, stall, or send more than they should.

    uvicorn's own time limit holds between two requests alone: a client that sends a byte a minute, or takes one, would
    keep its connection for ever.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True
        self._head_bytes = 0
        self._arrival: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop: the first request has to come soon."""
        super().connection_made(transport)
        self._expect_within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._expect_within(None)
        self._unstall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by the loop; what is too much is refused before it is looked at."""
        if self._in_head:
            if self._arrival is None:
                self._expect_within(HEAD_SECONDS)
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Called by the parser: the body has to come soon, if there is one."""
        self._in_head = False
        # What came in one piece with the end of the head was not held against it before.
        lines = sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers)
        if len(self.url) + lines > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        self._expect_within(BODY_SECONDS)
        super().on_headers_complete()
        self._cork(1)

    def on_message_complete(self) -> None:
        """Called by the parser: all of the request is there."""
        self._expect_within(None)
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called by uvicorn: all of an answer is written."""
        self._cork(0)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Called by the transport: the client takes less than it is sent."""
        super().pause_writing()
        self._unstall()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Called by the transport: the client has taken nearly all."""
        self._unstall()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is no HTTP, and for what the parser's callbacks refuse."""
        if self._head_is_too_large():
            self._refuse_head()
        elif not self.transport.is_closing():
            super().send_400_response(msg)

    def _head_is_too_large(self) -> bool:
        return self._head_bytes > MAX_HEAD_BYTES

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _cork(self, corked: int) -> None:
        """Lets an answer's headers wait for its body: a packet of their own takes longer than what is in it."""
        # What is posted may wait for `100 Continue`.
        if _TCP_CORK and not self.transport.is_closing() and self.scope["method"] != "POST":
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_CORK, corked)

    def _expect_within(self, seconds: float | None) -> None:
        if self._arrival is not None:
            self._arrival.cancel()
        self._arrival = self.loop.call_later(seconds, self.transport.abort) if seconds else None

    def _unstall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
