"""Middleware around every request: access control, security headers, the access log, metrics, and failures."""

import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubexport.serve.file_responses import ChangedError
from hubexport.serve.log import ACCESS_LOG, LOG
from hubexport.serve.metrics import Metrics
from hubexport.serve.tokens import CHALLENGE, Tokens
from hubexport.site.http_headers import SECURITY, UNCHANGING

# Health checks carry no token.
_OPEN_TO_ALL = "/healthz"
# Prometheus keeps every label value forever, so clients must not be able to invent new ones.
_METHODS = {"GET", "HEAD", "POST"}
_MAX_LOGGED_CHARACTERS = 1000


class AccessMiddleware:
    """Wraps the application in what every request needs.

    Clients learn nothing about failures: details go to the log.

    Args:
        app: the application.
        metrics: counts the requests.
        tokens: the tokens that permit access; None admits everyone.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tokens: Tokens | None) -> None:
        self._app = app
        self._metrics = metrics
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response = _ObservedResponse(send, private=self._tokens is not None)
        scope["state"]["what"] = "other"
        with self._metrics.in_progress.track_inprogress():
            try:
                await self._answer_if_admitted(scope, receive, response)
            except ChangedError:
                pass  # The log says why, once.
            except Exception:
                LOG.exception("a request failed", extra={"facts": {"path": _truncated(scope["path"])}})
            finally:
                self._record(scope, response)

    async def _answer_if_admitted(self, scope: Scope, receive: Receive, response: "_ObservedResponse") -> None:
        authorization = Headers(scope=scope).get("authorization", "")
        if self._tokens is None or scope["path"] == _OPEN_TO_ALL or self._tokens.admit(authorization):
            await self._app(scope, receive, response.send)
            return
        headers = {"www-authenticate": CHALLENGE, "cache-control": "no-store"}
        refusal = PlainTextResponse("A token is required.\n", 401, headers)
        await refusal(scope, receive, response.send)

    def _record(self, scope: Scope, response: "_ObservedResponse") -> None:
        what, method = scope["state"]["what"], scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(what, method, response.status).inc()
        self._metrics.seconds.labels(what).observe(response.seconds)
        self._metrics.sent_bytes.labels(what).inc(response.sent_bytes)
        client = scope.get("client")
        facts = {
            "client": client[0] if client else None,
            "method": _truncated(scope["method"]),
            "path": _truncated(scope["path"]),
            "query": _truncated(scope["query_string"].decode("latin-1")),
            "status": response.status,
            "bytes": response.sent_bytes,
            "seconds": round(response.seconds, 6),
            "what": what,
            "agent": _truncated(Headers(scope=scope).get("user-agent", "")),
        }
        ACCESS_LOG.info("request", extra={"facts": facts})


class _ObservedResponse:
    """Adds the headers of every response, and observes what is sent.

    Attributes:
        status: the HTTP status; 0 until the response starts, and for clients that disconnect before that.
        sent_bytes: how many bytes of the body were sent.
    """

    def __init__(self, send: Send, *, private: bool) -> None:
        self._send = send
        self._private = private
        self._begin = time.perf_counter()
        self.status = 0
        self.sent_bytes = 0

    @property
    def seconds(self) -> float:
        """The seconds since the request arrived."""
        return time.perf_counter() - self._begin

    async def send(self, message: Message) -> None:
        """Forwards a message of the application to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY)
            if self._private and headers.get("cache-control") == UNCHANGING:
                headers["cache-control"] = UNCHANGING.replace("public", "private")
        await self._send(message)
        self.sent_bytes += len(message.get("body", b""))


def _truncated(text: str) -> str:
    return text if len(text) <= _MAX_LOGGED_CHARACTERS else f"{text[:_MAX_LOGGED_CHARACTERS]}…"
