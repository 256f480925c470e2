"""The server's log for people, and when it is theirs."""

import io
import json
import logging
import re
import sys

import pytest

from hubexport.serve.log import ACCESS_LOG, LOG, log_on_stderr
from tests.serving import serving

_FACTS = {
    **{"client": "127.0.0.1", "method": "GET", "path": "/a/b/1", "query": "tf-hub-format=compressed", "status": 200},
    **{"bytes": 6328880, "seconds": 0.0187, "what": "archive", "agent": "x"},
}


def _lines(monkeypatch, form, log, *, terminal=False):
    """Returns what is on stderr, without the time, after `log` has logged."""
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    with log_on_stderr(form):
        log()
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in stream.getvalue().splitlines()]


def test_a_request_is_a_line_for_people(monkeypatch):
    """Status, method, path, bytes and milliseconds."""
    [line] = _lines(monkeypatch, "text", lambda: ACCESS_LOG.info("request", extra={"facts": _FACTS}))
    assert line == "200 GET /a/b/1?tf-hub-format=compressed  6,328,880 bytes in 18.7 ms"


def test_events_say_what_they_are_about(monkeypatch):
    """Errors say that they are errors. Failures that nobody foresaw have their traceback."""

    def log():
        LOG.info("serving a new index", extra={"facts": {"modules": 4}})
        logging.getLogger("uvicorn").info("of no interest")
        LOG.error("a file does not match the index", extra={"facts": {"why": "x.tar.gz has other bytes"}})
        try:
            raise ValueError("unforeseen")
        except ValueError:
            LOG.exception("a request failed", extra={"facts": {"path": "/x"}})

    lines = _lines(monkeypatch, "text", log)
    assert lines[:3] == [
        "serving a new index; modules: 4",
        "ERROR a file does not match the index; why: x.tar.gz has other bytes",
        "ERROR a request failed; path: /x",
    ]
    assert lines[3] == "Traceback (most recent call last):" and lines[-1] == "ValueError: unforeseen"


@pytest.mark.parametrize("key", ["method", "path", "query"])
def test_clients_can_neither_forge_lines_nor_control_the_terminal(monkeypatch, key):
    """What they send is escaped."""
    facts = {**_FACTS, key: "/x\n12:00:00 500 GET /forged\x1b[31m"}
    [line] = _lines(monkeypatch, "text", lambda: ACCESS_LOG.info("request", extra={"facts": facts}))
    assert line.isprintable() and "\\n" in line
    assert len(_lines(monkeypatch, "text", lambda: LOG.warning("a\nb"))) == 1


@pytest.mark.parametrize(
    ("form", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("text", False, False), ("json", True, True)],
)
def test_people_get_lines_on_a_terminal_and_programs_json(monkeypatch, form, terminal, is_json):
    """Unless the flag says otherwise."""
    [line] = _lines(monkeypatch, form, lambda: LOG.info("an event"), terminal=terminal)
    assert (json.loads(line)["event"] if is_json else line) == "an event"


def test_the_command_logs_for_people(small_release):
    """With --log-format text, although stderr is a file here."""
    with serving(small_release, "--log-format", "text") as server:
        assert server.get("/nothing/here").status == 404
        server.stop()
        lines = server.log_path.read_text().splitlines()
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d 404 GET /nothing/here  [\d,]+ bytes in [\d.]+ ms", line) for line in lines)
