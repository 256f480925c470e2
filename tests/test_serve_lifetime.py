"""A server's start and end, and requests while a new release is published."""

import contextlib
import errno
import http.client
import json
import logging
import os
from pathlib import Path
import resource
import shutil
import signal
import socket
import time
from unittest import mock

import anyio
import pytest

from hubexport.serve import release_watcher
from hubexport.serve.listener import Listener
from hubexport.serve.log import LOG, log_on_stderr
from hubexport.serve.metrics import Metrics
from hubexport.serve.release_watcher import ReleaseWatcher
from hubexport.serve.served_release import ServedRelease
from tests.command import hubexport
from tests.conftest import SMALL
from tests.serving import Server, serving

_HANDLE = "google/imagenet/small/feature_vector/2"
_DEADLINE = 20
_NUMBERS = ("NaN", "-Infinity", "1e999")


@pytest.fixture(name="dist")
def _dist(small_release: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small_release, tmp_path / "dist")


def _wait(condition):
    end = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_prints_its_address_and_listens_on_this_machine_only(dist):
    """The address on stdout tells scripts that the server is ready."""
    with serving(dist) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert f"{server.url}/{_HANDLE}" in server.get(f"/{_HANDLE}").text
        listening = Path(f"/proc/{server.process.pid}/net/tcp").read_text()
        assert f"0100007F:{server.port:04X}" in listening
        assert f"00000000:{server.port:04X}" not in listening


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_downloads_in_progress_are_finished_when_it_is_told_to_stop(dist, sent):
    """New connections are refused meanwhile, and the exit status is 0."""
    archive = dist / f"{_HANDLE}.tar.gz"
    with serving(dist) as server:
        with _slow_connection(server) as connection:
            connection.sendall(f"GET /{_HANDLE}.tar.gz HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            got = connection.recv(1000)
            server.process.send_signal(sent)
            _wait(server.refuses)
            while chunk := connection.recv(1 << 16):
                got += chunk
        assert got.partition(b"\r\n\r\n")[2] == archive.read_bytes()
        assert server.process.wait(_DEADLINE) == 0
        assert "Traceback" not in server.log_path.read_text()


@pytest.mark.slow
def test_downloads_that_take_too_long_are_cut_off(dist):
    """After --grace seconds."""
    with serving(dist, "--grace", "1") as server:
        with _slow_connection(server) as connection:
            connection.sendall(f"GET /{_HANDLE}.tar.gz HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 4)
            connection.recv(1000)
            begin = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begin < 6


def _slow_connection(server: Server) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(_DEADLINE)
    connection.connect(("127.0.0.1", server.port))
    return connection


@pytest.mark.slow
def test_a_new_release_is_served_and_old_downloads_are_finished(dist, tmp_path):
    """While `hubexport release` publishes it."""
    (tmp_path / "small.yaml").write_text(SMALL)
    with serving(dist) as server:
        assert server.get("/google/imagenet/small/classification/1").status == 404
        old = server.get("/index.json").body
        with _slow_connection(server) as connection:
            connection.sendall(b"GET /%s.tar.gz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % _HANDLE.encode())
            got = connection.recv(1000)
            arguments = ("--config-dir", tmp_path, "--variant", "small", "--checkpoint", "synthetic")
            modules = ("--module", "classification/1", "--checks", "structure.digests")
            done = hubexport("release", *arguments, *modules, "--output-dir", dist)
            assert done.returncode == 0, done.stderr
            _wait(lambda: server.get("/google/imagenet/small/classification/1").status == 200)
            while chunk := connection.recv(1 << 16):
                got += chunk
        assert got.partition(b"\r\n\r\n")[2] == (dist / f"{_HANDLE}.tar.gz").read_bytes()
        assert server.get("/index.json").body == (dist / "index.json").read_bytes() != old
        assert "classification/1" in server.get("/").text
        assert server.logged(event="serving a new index")["modules"] == 6


@pytest.mark.parametrize("damage", ["cut", "removed", "other"])
@pytest.mark.slow
def test_an_unreadable_index_changes_nothing(dist, damage):
    """Until there is a readable one again."""
    index = dist / "index.json"
    good = index.read_bytes()
    facts = json.loads(good)
    facts["artifacts"] = facts["artifacts"][:1]
    with serving(dist) as server:
        bad = {"cut": good[:-100], "removed": None, "other": b'{"format": 2}'}[damage]
        _replace(index, bad)
        assert server.logged(level="error")["event"].startswith("cannot read the release's new index")
        assert server.get(f"/{_HANDLE}").status == server.get("/healthz").status == 200
        # It is read again when it changes, not every second.
        time.sleep(2.5)
        assert 'hubexport_reloads_total{result="failed"} 1.0' in server.get("/metrics").text
        _replace(index, json.dumps(facts).encode())
        _wait(lambda: "hubexport_modules 1.0" in server.get("/metrics").text)
        assert server.get(f"/{_HANDLE}").status == 404


@pytest.mark.parametrize("number", ["NaN", "1e999"])
@pytest.mark.parametrize("command", ["serve", "site", "release"])
def test_an_index_with_a_number_that_is_not_finite_is_an_error(dist, tmp_path, command, number):
    """JSON has none, but Python reads them."""
    _replace(dist / "index.json", _index_with(dist, number))
    (tmp_path / "small.yaml").write_text(SMALL)
    arguments = {
        "serve": [dist, "--port", "0"],
        "site": [dist, "--output-dir", tmp_path / "site"],
        "release": ["--config-dir", tmp_path, "--variant", "small", "--checkpoint", "synthetic", "--output-dir", dist],
    }
    done = hubexport(command, *arguments[command])
    assert done.returncode == 1
    what, why, fix = done.stderr.splitlines()[-3:]
    assert what.startswith("ERROR cannot read ") and "index.json" in what
    assert "NaN or Infinity" in why and fix.startswith("  fix: ")


def _index_with(dist: Path, number: str) -> bytes:
    """Returns the index with this number among the published figures of the first module."""
    content = (dist / "index.json").read_bytes()
    assert b'"published": null' in content
    return content.replace(b'"published": null', b'"published": {"accuracy": %s}' % number.encode(), 1)


@pytest.mark.parametrize("damage", [*_NUMBERS, "cut", "removed", "a pipe", "a folder", "no memory"])
def test_a_watcher_survives_every_index(dist, damage, monkeypatch):
    """The old one goes on, and the next good one is served."""
    index, good = dist / "index.json", (dist / "index.json").read_bytes()
    bad = good[:-100] if damage == "cut" else _index_with(dist, damage) if damage in _NUMBERS else b"{}"
    metrics = Metrics()

    def load() -> ServedRelease:
        if damage == "no memory" and index.read_bytes() == bad:
            raise MemoryError
        return ServedRelease(dist, url="http://a", can_try=False)

    def count(result: str) -> bool:
        return f'hubexport_reloads_total{{result="{result}"}} 1.0' in metrics.text().decode()

    async def survive() -> None:
        watcher = ReleaseWatcher(dist, load, metrics)
        old = watcher.current
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watcher.watch)
            index.unlink()
            if damage == "a pipe":
                os.mkfifo(index)
            elif damage == "a folder":
                index.mkdir()
            elif damage != "removed":
                _replace(index, bad)
            with anyio.fail_after(5):
                while not count("failed"):
                    await anyio.sleep(0.01)
            assert watcher.current is old
            if damage == "a folder":
                index.rmdir()
            _replace(index, good)
            with anyio.fail_after(5):
                while not count("loaded"):
                    await anyio.sleep(0.01)
            assert watcher.current is not old
            tasks.cancel_scope.cancel()

    monkeypatch.setattr(release_watcher, "_INTERVAL_SECONDS", 0.02)
    anyio.run(survive)


def _replace(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
        return
    staged = path.with_name("staged")
    staged.write_bytes(content)
    staged.rename(path)


@pytest.mark.slow
def test_old_releases_are_closed(dist):
    """After the last request that needs them."""
    index = dist / "index.json"
    content = index.read_bytes()
    with serving(dist) as server:
        for number in range(1, 6):
            _replace(index, content + b"\n" * number)
            _wait(lambda: f'result="loaded"}} {number}.0' in server.get("/metrics").text)
            assert server.get("/").status == 200
        assert _open_files(server).count(str(dist)) == 1


def _open_files(server: Server) -> list[str]:
    names = []
    for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # A connection ends when it likes.
            names.append(os.readlink(descriptor))
    return names


def test_the_limit_of_open_files_is_raised(small_release):
    """As far as the system permits, and silently."""
    with serving(small_release, "--max-connections", "500", open_files=(128, 4096)) as server:
        soft, _ = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        assert soft > 1000
        assert server.log() == []


def test_connections_are_limited_to_what_the_system_permits(small_release):
    """The server says so at the start. Hundreds more connections do it no harm, and leave few lines in the log."""
    with serving(small_release, open_files=(300, 300)) as server, contextlib.ExitStack() as stack:
        fitted = server.logged(level="warning")["max_connections"]
        assert 20 < fitted < 100
        first = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_DEADLINE)
        stack.callback(first.close)
        first.connect()
        for _ in range(600):
            stack.enter_context(server.connection())
        time.sleep(0.3)
        first.request("GET", "/healthz")
        assert first.getresponse().read() == b"ok\n"
        descriptors = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        assert fitted < descriptors < 200
        stack.close()
        _wait(lambda: _status(server) == 200)
        assert len([line for line in server.log() if line["event"] != "request"]) < 30


def test_a_server_without_file_descriptors_waits_for_some(small_release):
    """Other programs may take all that the system has. The log stays short, and JSON."""
    with serving(small_release, "--max-connections", "100") as server, contextlib.ExitStack() as stack:
        _, hard = before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (5, hard))
        for _ in range(50):
            stack.enter_context(server.connection())
        time.sleep(0.5)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
        _wait(lambda: _status(server) == 200)
        assert len([line for line in server.log() if line["event"] != "request"]) < 20


def test_a_listener_without_file_descriptors_fails_once_in_a_row():
    """At an error, asyncio waits for a second, but first it goes on for thousands of connections that may wait."""
    with Listener(socket.AF_INET, 1) as listener:
        with mock.patch.object(socket.socket, "accept", side_effect=OSError(errno.EMFILE, "too many")):
            for _ in range(3):
                with pytest.raises(OSError, match="too many"):
                    listener.accept()
                with pytest.raises(BlockingIOError):
                    listener.accept()


def _status(server: Server) -> int:
    with contextlib.suppress(ConnectionError):
        return server.get("/healthz").status
    return 0


def test_too_few_open_files_are_an_error(small_release, monkeypatch):
    """Which says how many the server needs."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    done = hubexport("serve", small_release, "--port", "0")
    what, why, fix = done.stderr.splitlines()
    assert (done.returncode, what) == (1, "ERROR too few open files are permitted")
    assert "may have 100," in why and "ulimit -n 4224" in fix


def test_a_flood_of_warnings_leaves_few_lines(capsys):
    """Of each kind. The next line says how many were left out; information is never left out."""
    logger = logging.getLogger("any.library")

    def warn(created: float, text: str) -> None:
        record = logger.makeRecord("any.library", logging.WARNING, "a.py", 1, text, (), None)
        record.created = created
        logger.handle(record)

    with log_on_stderr():
        for number in range(1000):
            warn(number / 1000, f"text {number}")
            LOG.info("request")
        LOG.warning("of another kind")
        warn(11.0, "later")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len([line for line in lines if line["event"].startswith("text")]) == 10
    assert len([line for line in lines if line["event"] == "request"]) == 1000
    assert [line.get("left_out") for line in lines[-2:]] == [None, 990]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["{dist}", "--host", "203.0.113.7"], 1, "ERROR cannot listen on 203.0.113.7, port 8500"),
        (["{dist}", "--host", "no.such.host.invalid"], 1, "ERROR cannot listen on no.such.host.invalid"),
        (["{nothing}"], 1, "it has no index.json"),
        (["{dist}", "--port", "70000"], 2, "--port"),
        (["{dist}", "--url", "models.example"], 2, "--url models.example: not a valid address"),
        (["{dist}", "--bucket", "s3://models"], 2, "--bucket"),
        (["{dist}", "--labels", "names.txt"], 2, "add --enable-try"),
        (["{dist}", "--enable-try", "--labels", "{nothing}"], 2, "cannot read labels"),
        (["{dist}", "--token-file", "{nothing}"], 1, "cannot read tokens from"),
        (["{dist}", "--token-file", "{short}"], 1, "token 2 is shorter than 16 characters"),
        (["{dist}", "--token-file", "{empty}"], 1, "it contains no tokens"),
    ],
)
@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(dist, tmp_path, arguments, status, words):
    """In three lines; it does not listen."""
    (tmp_path / "short").write_text("0123456789abcdef\nshort\n")
    (tmp_path / "empty").write_text("# nothing\n\n")
    places = {name: tmp_path / name for name in ("dist", "nothing", "short", "empty")}
    done = hubexport("serve", *(argument.format(**places) for argument in arguments))
    assert done.returncode == status and done.stdout == ""
    what, why, fix = done.stderr.splitlines()
    assert words in done.stderr
    assert what.startswith("ERROR ") and why.startswith("  why: ") and fix.startswith("  fix: ")


@pytest.mark.slow
def test_a_port_in_use_is_an_error(dist):
    """Here, another server uses it."""
    with serving(dist) as server:
        done = hubexport("serve", dist, "--port", str(server.port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1, port {server.port}" in done.stderr and "in use" in done.stderr
