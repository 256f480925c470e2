"""The server's log: one line for each request and event, whoever reports it, as JSON or for people."""

from collections.abc import Iterator, Mapping
import contextlib
import json
import logging
import sys
import tempfile
import time
from typing import Any, Literal, TextIO, get_args

from hubexport.errors import printable
from hubexport.system.locks import turn_of_this_process
from hubexport.system.temporary import temporary_failures_reported

LogForm = Literal["auto", "text", "json"]
LOG_FORMS: tuple[LogForm, ...] = get_args(LogForm)

ACCESS_LOG = logging.getLogger("hubexport.serve.access")
LOG = logging.getLogger("hubexport.serve")

# So many warnings and errors of a kind are logged in so many seconds.
_MAX_LINES = 10
_SECONDS = 10.0


class JsonLines(logging.Formatter):
    """Formats each record as one line of JSON; its escapes keep clients from forging another line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """Formats each record for people: requests as time, status, method, path, bytes and milliseconds."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, and the traceback of a failure that nobody foresaw."""
        facts: dict[str, Any] = dict(getattr(record, "facts", {}))
        line = time.strftime("%H:%M:%S", time.localtime(record.created))
        if record.name == ACCESS_LOG.name:
            asked = "?".join(filter(None, (facts["path"], facts["query"])))
            sent = f"{facts['bytes']:,} bytes in {facts['seconds'] * 1000:.1f} ms"
            return f"{line} {facts['status']} {printable(facts['method'])} {printable(asked)}  {sent}"
        level = f"{record.levelname} " * (record.levelno > logging.INFO)
        details = "".join(f"; {name}: {value}" for name, value in facts.items())
        line = f"{line} {level}{printable(f'{record.getMessage()}{details}')}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class RateLimit(logging.Filter):
    """Lets a flood of the same warning or error not fill the disk: the next line says how many were left out.

    Warnings are of the same kind if the same line of a program logs them; their texts may come from clients.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, int], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether to log a record."""
        if record.levelno < logging.WARNING:
            return True
        kind = self._kinds.setdefault((record.pathname, record.lineno), _Kind())
        if record.created - kind.begin >= _SECONDS:
            kind.begin, kind.lines = record.created, 0
        kind.lines += 1
        if kind.lines > _MAX_LINES:
            kind.left_out += 1
            return False
        if kind.left_out:
            record.facts = {**getattr(record, "facts", {}), "left_out": kind.left_out}
            kind.left_out = 0
        return True


class _Kind:
    """Counts the lines of one kind since `begin`, and those left out since the last one that was logged."""

    begin = float("-inf")
    lines = left_out = 0


class _WholeLines(logging.StreamHandler[TextIO]):
    """Writes lines to the stderr of several processes, which could otherwise tear long ones apart.

    Raises:
        TemporaryFileError: the file for their lock cannot be made.
    """

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        # If a process is killed, the system takes its lock away.
        with temporary_failures_reported("cannot share the log"):
            self._locked = tempfile.TemporaryFile()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line when no other process does."""
        with turn_of_this_process(self._locked):
            super().emit(record)


@contextlib.contextmanager
def log_on_stderr(form: LogForm = "json", *, shared: bool = False) -> Iterator[None]:
    """Sends all that is logged to stderr, that of libraries included, until the context ends.

    Args:
        form: the form of its lines; `auto` is `text` on a terminal, and otherwise `json`.
        shared: whether processes that this one forks log, too.
    Raises:
        TemporaryFileError: the processes need a temporary file that cannot be made.
    """
    handler = _WholeLines() if shared else logging.StreamHandler(sys.stderr)
    is_text = sys.stderr.isatty() if form == "auto" else form == "text"
    handler.setFormatter(TextLines() if is_text else JsonLines())
    handler.addFilter(RateLimit())
    handlers, level = logging.root.handlers[:], logging.root.level
    # The information that libraries log is of no interest, their warnings are.
    logging.root.setLevel(logging.WARNING)
    logging.root.handlers[:] = [handler]
    LOG.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
