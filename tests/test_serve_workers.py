"""A server with several processes: to its clients and operator it is one."""

from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from hubexport.serve.connection_limit import ConnectionLimit
from tests.command import environment, hubexport
from tests.serving import Server, serving

_HANDLE = "google/imagenet/small/feature_vector/2"
_DEADLINE = 20


@pytest.fixture(scope="module", name="server")
def _server(small_release: Path) -> Iterator[Server]:
    with _two_workers(small_release, "--max-connections", "20") as server:
        yield server


@contextlib.contextmanager
def _two_workers(release: Path, *arguments: str) -> Iterator[Server]:
    """Ends as servers should, so that temporary files do not stay."""
    with serving(release, "--workers", "2", *arguments) as server:
        yield server
        if server.process.poll() is None:
            server.stop()


def _workers(server: Server) -> list[int]:
    return [int(word) for word in _children(server).read_text().split()]


def _children(server: Server) -> Path:
    return Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")


def _wait(condition):
    end = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _processor_time(process: int) -> int:
    """Returns the time in which a process computed, in the system's units."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_metrics_count_what_all_workers_do(server):
    """Whichever of them is asked."""
    before = [_processor_time(worker) for worker in _workers(server)]
    for _ in range(200):
        assert server.get("/").status == 200
    spent = [_processor_time(worker) - old for worker, old in zip(_workers(server), before, strict=True)]
    assert len(spent) == 2 and min(spent) > 0, "both answer"
    expected = {
        'hubexport_requests_total{method="GET",status="200",what="catalogue"} 200.0',
        'hubexport_request_seconds_count{what="catalogue"} 200.0',
        "hubexport_requests_in_progress 1.0",
        "hubexport_modules 5.0",
    }
    # A worker counts a request shortly after it has answered.
    for _ in range(5):
        _wait(lambda: expected <= set(server.get("/metrics").text.splitlines()))
    assert len([line for line in server.log() if line.get("what") == "catalogue"]) == 200


def test_the_limit_of_connections_holds_for_all_together(server):
    """Until others are closed."""
    with contextlib.ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(server.connection())
        time.sleep(0.3)
        assert [server.get("/healthz").status for _ in range(4)] == [503] * 4
    _wait(lambda: [server.get("/healthz").status for _ in range(4)] == [200] * 4)
    with contextlib.ExitStack() as stack:
        # One worker might refuse more than its share.
        connections = [stack.enter_context(server.connection()) for _ in range(18)]
        for connection in connections:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_the_connections_of_a_worker_that_has_ended_count_no_more():
    """Whatever it noted last."""
    limit = ConnectionLimit(3, workers=2)
    limit.note(4)
    limit.worker = 1
    assert limit.is_exceeded
    limit.forget(0)
    assert not limit.is_exceeded
    limit.note(4)
    assert limit.is_exceeded


def test_another_server_cannot_share_the_port(server, small_release):
    """Although the workers share it."""
    for workers in "1", "2":
        done = hubexport("serve", small_release, "--port", str(server.port), "--workers", workers)
        assert done.returncode == 1 and "Address already in use" in done.stderr


def test_ctrl_c_reaches_the_workers_only_once(server):
    """From the first process. A terminal sends it to the whole group, and a second one would cut off downloads."""
    groups = {os.getpgid(process) for process in (server.process.pid, *_workers(server))}
    assert len(groups) == 3


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(small_release):
    """Nothing of it counts any more: neither its connections nor its downloads."""
    with _two_workers(small_release, "--max-connections", "20") as server, contextlib.ExitStack() as stack:
        killed, other = _workers(server)
        for _ in range(16):
            _begin_download(server, stack)
        os.kill(killed, signal.SIGKILL)
        assert server.logged(level="error")["status"] == -signal.SIGKILL
        _wait(lambda: len(_workers(server)) == 2)
        stack.close()
        _wait(lambda: [_status(server) for _ in range(8)] == [200] * 8)
        for _ in range(18):
            stack.enter_context(server.connection())
        time.sleep(0.3)
        assert server.get("/healthz").status == 200
        assert other in _workers(server)
        _wait(lambda: "hubexport_requests_in_progress 1.0" in server.get("/metrics").text)


def _begin_download(server: Server, stack: contextlib.ExitStack) -> tuple[socket.socket, bytes]:
    """Returns a connection from which little of the answer has been read, and that little."""
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(_DEADLINE)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(f"GET /{_HANDLE}.tar.gz HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return connection, connection.recv(1000)


def _status(server: Server) -> int:
    with contextlib.suppress(ConnectionError):
        return server.get("/healthz").status
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_downloads_in_progress_are_finished_when_it_is_told_to_stop(small_release, sent):
    """By all workers. New connections are refused meanwhile, and the exit status is 0."""
    with _two_workers(small_release) as server, contextlib.ExitStack() as stack:
        connections = [_begin_download(server, stack) for _ in range(16)]
        workers = _workers(server)
        server.process.send_signal(sent)
        _wait(server.refuses)
        assert _workers(server) == workers, "all have something to finish"
        for connection, got in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            while chunk := connection.recv(1 << 16):
                got += chunk
            assert got.partition(b"\r\n\r\n")[2] == (small_release / f"{_HANDLE}.tar.gz").read_bytes()
        assert server.process.wait(_DEADLINE) == 0
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
        assert not [line for line in server.log() if line["event"] != "request"]


@pytest.mark.slow
def test_workers_end_when_the_first_process_is_killed(small_release):
    """Nobody else would tell them to."""
    with serving(small_release, "--workers", "3") as server:
        workers = _workers(server)
        server.process.kill()
        _wait(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
        assert len(workers) == 3 and server.refuses()


@pytest.mark.slow
def test_a_new_index_reaches_all_workers(small_release, tmp_path):
    """Each notices it by itself."""
    dist = shutil.copytree(small_release, tmp_path / "dist")
    facts = json.loads((dist / "index.json").read_bytes())
    facts["artifacts"] = [artifact for artifact in facts["artifacts"] if artifact["version"] != 2]
    with _two_workers(dist) as server:
        assert {server.get(f"/{_HANDLE}").status for _ in range(20)} == {200}
        (dist / "new").write_text(json.dumps(facts))
        (dist / "new").rename(dist / "index.json")
        _wait(lambda: 'hubexport_reloads_total{result="loaded"} 2.0' in server.get("/metrics").text)
        assert {server.get(f"/{_HANDLE}").status for _ in range(20)} == {404}
        assert "hubexport_modules 4.0" in server.get("/metrics").text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["{dist}", "--workers", "2", "--enable-try"], 2, "--enable-try and --workers 2 exclude each other"),
        (["{dist}", "--workers", "0"], 2, "--workers"),
        (["{nothing}", "--workers", "2"], 1, "it has no index.json"),
    ],
)
def test_a_server_that_cannot_start_says_why(small_release, tmp_path, arguments, status, words):
    """In three lines, and once."""
    places = {"dist": small_release, "nothing": tmp_path}
    done = hubexport("serve", *(argument.format(**places) for argument in arguments))
    assert done.returncode == status and done.stdout == ""
    assert words in done.stderr and len(done.stderr.splitlines()) == 3


def test_workers_do_not_tear_each_others_lines_apart():
    """A pipe takes only short ones whole."""
    program = """if True:
        import os
        from hubexport.serve.log import LOG, log_on_stderr

        with log_on_stderr(shared=True):
            os.fork()
            os.fork()
            for _ in range(50):
                LOG.info("request", extra={"facts": {"path": "a" * 50_000}})
    """
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), stderr=subprocess.PIPE, text=True, check=True
    )
    paths = [json.loads(line)["path"] for line in done.stderr.splitlines()]
    assert paths == ["a" * 50_000] * 200


def test_a_worker_that_ends_at_its_start_is_an_error(small_release):
    """The log says why, the error says where to look; the other workers stop."""
    program = """if True:
        import time
        from hubexport.cli.main import run
        from hubexport.serve import server

        def serve_or_fail(_, worker, ready):
            if worker == 1:
                raise RuntimeError("no luck")
            ready()
            time.sleep(1000)

        server._Process.serve = serve_or_fail
        run()
    """
    command = [sys.executable, "-c", program, "serve", str(small_release), "--port", "0", "--workers", "2"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=_DEADLINE)
    assert done.returncode == 1 and done.stdout == ""
    log, what, why, fix = done.stderr.splitlines()
    assert "RuntimeError: no luck" in json.loads(log)["traceback"]
    assert what == "ERROR a worker of the server ended at its start" and "log" in why and "--workers 1" in fix
