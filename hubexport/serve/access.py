"""What happens to each request, whatever it asks for: permission, headers, log, metrics, and no word of failures."""

from collections.abc import Mapping
import json
import logging
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hubexport.serve.file_responses import ChangedError
from hubexport.serve.metrics import Metrics
from hubexport.serve.tokens import CHALLENGE, Tokens
from hubexport.site.http_headers import SECURITY, UNCHANGING

ACCESS_LOG = logging.getLogger("hubexport.serve.access")
LOG = logging.getLogger("hubexport.serve")

# What asks whether the server lives knows no token.
_OPEN_TO_ALL = "/healthz"
# A stranger chooses them, and metrics are kept for ever.
_METHODS = {"GET", "HEAD", "POST"}
_MAX_LOGGED = 1000


class Access:
    """Wraps the application.

    Args:
        app: the application.
        metrics: what is counted.
        tokens: who may ask; None: everybody.
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
        answer = _Answer(send, private=self._tokens is not None)
        scope["state"]["what"] = "other"
        with self._metrics.in_progress.track_inprogress():
            try:
                await self._admitted(scope, receive, answer)
            except ChangedError as error:
                LOG.error("a file does not match the index", extra={"facts": {"why": str(error)}})
            except Exception:
                LOG.exception("a request failed", extra={"facts": {"path": _cut(scope["path"])}})
            finally:
                self._note(scope, answer)

    async def _admitted(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        authorization = Headers(scope=scope).get("authorization", "")
        if self._tokens is None or scope["path"] == _OPEN_TO_ALL or self._tokens.admit(authorization):
            await self._app(scope, receive, answer.send)
            return
        headers = {"www-authenticate": CHALLENGE, "cache-control": "no-store"}
        refusal = PlainTextResponse("A token is required.\n", 401, headers)
        await refusal(scope, receive, answer.send)

    def _note(self, scope: Scope, answer: "_Answer") -> None:
        what, method = scope["state"]["what"], scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(what, method, answer.status).inc()
        self._metrics.seconds.labels(what).observe(answer.seconds)
        self._metrics.sent_bytes.labels(what).inc(answer.sent_bytes)
        ACCESS_LOG.info("request", extra={"facts": _facts(scope, answer)})


class _Answer:
    """What goes out for one request.

    Attributes:
        status: 0 until there is one: the client was gone before.
        sent_bytes: of the body.
    """

    def __init__(self, send: Send, *, private: bool) -> None:
        self._send = send
        self._private = private
        self._begin = time.perf_counter()
        self.status = 0
        self.sent_bytes = 0

    @property
    def seconds(self) -> float:
        """Since the request."""
        return time.perf_counter() - self._begin

    async def send(self, message: Message) -> None:
        """Sends on what the application sends."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY)
            if self._private and headers.get("cache-control") == UNCHANGING:
                headers["cache-control"] = UNCHANGING.replace("public", "private")
        await self._send(message)
        self.sent_bytes += len(message.get("body", b""))


def _facts(scope: Scope, answer: _Answer) -> dict[str, Any]:
    headers = Headers(scope=scope)
    client = scope.get("client")
    return {
        "client": client[0] if client else None,
        "method": _cut(scope["method"]),
        "path": _cut(scope["path"]),
        "query": _cut(scope["query_string"].decode("latin-1")),
        "status": answer.status,
        "bytes": answer.sent_bytes,
        "seconds": round(answer.seconds, 6),
        "what": scope["state"]["what"],
        "agent": _cut(headers.get("user-agent", "")),
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LOGGED else f"{text[:_MAX_LOGGED]}…"


class JsonLines(logging.Formatter):
    """Writes each record as one line of JSON, in which nothing that a client sent can look like another line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        told = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told)
