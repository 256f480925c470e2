"""Attacks on a server: addresses of other files, requests that never end, and nonsense."""

import asyncio
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import random
import shutil
import socket
import struct
import time
from unittest import mock

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
import uvicorn
from uvicorn.server import ServerState

from hubexport.release.index import ReleaseFile
from hubexport.release.untrusted_folder import UntrustedFolder
from hubexport.serve import file_responses
from hubexport.serve.connection_limit import ConnectionLimit
from hubexport.serve.file_responses import ChangedError, OpenFiles, file_response
from hubexport.serve.protocol import GuardedProtocol
from tests.serving import Server, serving

_HANDLE = "google/imagenet/small/feature_vector/2"
_SECRET = "nobody shall read this"


@pytest.fixture(scope="module", name="server")
def _server(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    dist = folder / "dist"
    shutil.copytree(small_release, dist)
    # Beside the release, in its folder but not in its index, and behind links.
    (folder / "secret.txt").write_text(_SECRET)
    (dist / "secret.txt").write_text(_SECRET)
    (dist / "google" / "imagenet" / "secret.md").write_text(_SECRET)
    (dist / "google" / "link.txt").symlink_to(folder / "secret.txt")
    (dist / "google" / "parent").symlink_to(folder)
    with serving(dist) as server:
        yield server


_TRAVERSALS = [
    "/../secret.txt",
    "/google/../../secret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/%252e%252e%252fsecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/google/%2e%2e/%2e%2e/secret.txt",
    "/..%c0%afsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "//secret.txt",
    "/./secret.txt",
    "/secret.txt",
    "/secret.txt%00.md",
    "/google/link.txt",
    "/google/parent/secret.txt",
    "/google/imagenet/secret.md",
    "/-/../secret.txt",
    "/-/%2e%2e%2fsecret.txt",
    "/-/..%2f..%2f..%2fsecret.txt",
    "/file:///etc/passwd",
    "//etc/passwd",
    "/%2fetc%2fpasswd",
    f"/{_HANDLE}/../../../../../secret.txt",
    f"/{_HANDLE}.tar.gz/../../../../secret.txt",
    "/.hubexport-lock",
    "/google/imagenet/small/feature_vector/2.tar.gz%2f..%2f..",
]


@pytest.mark.parametrize("target", _TRAVERSALS)
def test_only_what_the_index_lists_is_served(server, target):
    """Not other files, inside or outside the folder."""
    answer = server.get(target)
    assert answer.status in (302, 400, 404)
    assert _SECRET.encode() not in answer.body and b"root:" not in answer.body


@pytest.mark.parametrize(
    "target",
    ["/%0a/", "/%0a", "/google/imagenet/%0a/", "/-/%0a/", "/-/a%0ab/", "/healthz/", "/metrics/", "/-/style.css/"]
    + [f"/{_HANDLE}/", "//elsewhere.example/google/", "/google/", "/google/imagenet", "/%2felsewhere.example/"],
)
def test_no_redirect_leads_to_another_host(server, target):
    """Whatever the client calls this one."""
    answer = server.get(target, host="elsewhere.example")
    location = answer.headers.get("location", "/google")
    assert answer.status in (200, 301, 302, 404)
    assert location.startswith("/google") or location.startswith("/?q=google")


@pytest.mark.parametrize("target", ["http://elsewhere.example/secret.txt", "*", "", "google", "\u00e9"])
def test_targets_that_are_not_paths(server, target):
    """Such as those for proxies, and none at all."""
    status = _raw(server, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert status in (400, 404)


def test_a_listed_file_behind_a_link_is_not_sent(small_release, tmp_path):
    """Whoever can write into the folder could otherwise make the server read any file."""
    dist = tmp_path / "dist"
    shutil.copytree(small_release, dist)
    page = dist / f"{_HANDLE}.card.md"
    (tmp_path / "secret").write_bytes(_SECRET.ljust(page.stat().st_size).encode())
    page.unlink()
    page.symlink_to(tmp_path / "secret")
    with serving(dist) as server:
        answer = server.get(f"/{_HANDLE}.card.md")
        assert answer.status == 500 and _SECRET.encode() not in answer.body
        assert "is a link" in server.logged(level="error")["why"]


def test_a_file_of_another_size_than_the_listed_one_is_not_sent(small_release, tmp_path):
    """Its digest would be wrong. The reason goes to the log, not to the client."""
    dist = tmp_path / "dist"
    shutil.copytree(small_release, dist)
    with serving(dist) as server:
        with (dist / f"{_HANDLE}.tar.gz").open("ab") as archive:
            archive.write(b"more")
        answer = server.get(f"/{_HANDLE}?tf-hub-format=compressed")
        assert answer.status == 500
        assert b"bytes" not in answer.body and b"Traceback" not in answer.body
        assert "bytes, not" in server.logged(level="error")["why"]
        (dist / f"{_HANDLE}.tar.gz").unlink()
        assert server.get(f"/{_HANDLE}.tar.gz").status == 500
        assert server.get("/healthz").status == 200


def _damage(path: Path) -> None:
    """Changes a byte in place; neither the size nor the time of the last change tells."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_damaged_file_is_not_served_until_it_is_repaired(small_release, tmp_path):
    """However it was damaged and repaired. The log says so once, not at each request."""
    dist = tmp_path / "dist"
    shutil.copytree(small_release, dist)
    archive = dist / f"{_HANDLE}.tar.gz"
    good = archive.read_bytes()
    target = f"/{_HANDLE}?tf-hub-format=compressed"
    _damage(archive)
    with serving(dist) as server:
        assert [server.get(target, method).status for method in ("GET", "HEAD", "GET")] == [500] * 3
        (tmp_path / "copy").write_bytes(good)
        (tmp_path / "copy").rename(archive)
        assert server.get(target).body == good
        _damage(archive)
        assert [server.get(target).status for _ in range(3)] == [500] * 3
        archive.write_bytes(good)
        assert server.get(target).body == good
        archive.unlink()
        assert [server.get(target).status for _ in range(3)] == [500] * 3
        archive.write_bytes(good)
        assert server.get(target).body == good
        errors = [line["why"] for line in server.log() if line["level"] == "error"]
    digest, again, missing = errors
    assert "SHA-256" in digest and "SHA-256" in again and "is missing" in missing


def _listed(release: Path) -> ReleaseFile:
    return ReleaseFile.of(release / f"{_HANDLE}.tar.gz", f"{_HANDLE}.tar.gz")


def test_a_digest_is_computed_once(small_release, monkeypatch):
    """For many requests at once, and for those that come later."""
    digests = []
    original = file_responses.sha256_of
    monkeypatch.setattr(file_responses, "sha256_of", lambda file: digests.append(file) or original(file))

    async def request_many() -> None:
        with UntrustedFolder(small_release) as folder:
            files = OpenFiles(folder)
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(files.open, _listed(small_release))
            await files.open(_listed(small_release))

    anyio.run(request_many)
    assert len(digests) == 1


def test_a_file_that_is_damaged_while_it_is_sent_is_not_sent_to_its_end(small_release, tmp_path):
    """The client sees that something is wrong."""
    dist = tmp_path / "dist"
    shutil.copytree(small_release, dist)
    listed, sent = _listed(dist), []

    async def receive() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Message) -> None:
        if message.get("body") and not sent:
            _damage(dist / listed.path)
        if message.get("body"):
            sent.append(message["body"])

    async def download() -> None:
        scope = {"type": "http", "method": "GET", "headers": []}
        with UntrustedFolder(dist) as folder:
            files = OpenFiles(folder)
            files.sending = 1000
            response = await file_response(Request(scope), listed, files, {})
            await response(scope, receive, send)

    with pytest.raises(ChangedError):
        anyio.run(download)
    assert 0 < sum(map(len, sent)) < listed.bytes


def _raw(server: Server, request: bytes) -> int:
    """Sends bytes, and returns the status; 0 if the server disconnects without a response."""
    with server.connection() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(request)
        answer = connection.recv(1000)
        return int(answer.split()[1]) if answer else 0
    return 0


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 40_000 + b"\r\n\r\n", (431,), id="one long header"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9_000 + b"\r\n", (431,), id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 40_000, (431,), id="a header without end"),
        pytest.param(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", (431,), id="long target"),
        pytest.param(b"GET /" + b"a" * 70_000, (431,), id="a target without end"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", (400,), id="TLS"),
        pytest.param(b"nonsense\r\n\r\n", (400,), id="nonsense"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", (400,), id="version"),
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\n\r\n", (400, 404, 405), id="connect"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (400,),
            id="two lengths",
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", (400,), id="negative length"),
    ],
)
def test_bad_requests_are_refused(server, request_bytes, statuses):
    """And the next client is served."""
    assert _raw(server, request_bytes) in statuses
    assert server.get("/healthz").status == 200


def test_pipelined_requests_are_answered_in_order(server):
    """Together, they are longer than one request may be."""
    last = b"GET /no HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    requests = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n" * 1500 + last
    with server.connection() as connection:
        connection.sendall(requests)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 1500
    assert answer.count(b"HTTP/1.1 404") == 1


@pytest.mark.parametrize("downloads", [1, 100, 128, 500, 2000])
def test_many_downloads_take_little_memory(small_release, downloads):
    """The more there are, the less is read ahead for each: slow clients occupy that memory for long."""
    with UntrustedFolder(small_release) as folder:
        files = OpenFiles(folder)
        files.sending = downloads
        assert downloads * files.chunk_bytes <= 128 << 20
        assert 64 << 10 <= files.chunk_bytes <= 1 << 20
        assert files.chunk_bytes == 1 << 20 or downloads > 128


def _connections(server: Server) -> int:
    """Counts the server's sockets."""
    count = 0
    for name in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(name).startswith("socket:")
    return count


@pytest.mark.slow
def test_too_many_connections_are_refused(small_release):
    """With 503, until others are closed."""
    with serving(small_release, "--max-connections", "20") as server:
        with contextlib.ExitStack() as stack:
            for _ in range(25):
                stack.enter_context(server.connection())
            time.sleep(0.5)
            assert server.get("/healthz").status == 503
        deadline = time.monotonic() + 10
        while server.get("/healthz").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


_SEGMENT = st.sampled_from(
    ["google", "imagenet", "small", "feature_vector", "classification", "2", "5", "-", "try", ".", "..", "", "%2e%2e"]
    + [
        "2.tar.gz",
        "2.md",
        "index.json",
        "%00",
        "%ff",
        "é",
        "a" * 300,
        "healthz",
        "style.css",
        "google.md",
        "\\",
        "?",
        "#",
    ]
)
_QUERY = st.sampled_from(
    ["", "tf-hub-format=compressed", "tf-hub-format=", "tf-hub-format=uncompressed", "tfjs-format=file", "format=hub"]
    + ["q=%00%ff", "page=-1", "page=9999999999999999999999", "size=x", "q=" + "a" * 3000, "&&==&%", "version=%f0%9f"]
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(_SEGMENT, max_size=7),
    _QUERY,
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.sampled_from(["*/*", "text/html"]),
)
@pytest.mark.slow
def test_no_address_makes_the_server_fail(server, segments, query, method, accept):
    """Random addresses: each response is an intended one, and reveals no internals."""
    target = "/" + "/".join(segments) + (f"?{query}" if query else "")
    with server.connection() as connection:
        request = f"{method} {target} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("utf-8"))
        answer = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert int(answer.split()[1]) in (200, 301, 302, 400, 404, 405, 431), target
    assert b"Traceback" not in answer and _SECRET.encode() not in answer


def test_random_bytes_do_no_harm(server):
    """The parser refuses them."""
    randomness = random.Random(5)
    for _ in range(150):
        start = randomness.choice(
            [b"", b"GET ", b"GET / HTTP/1.1\r\n", b"POST /-/try/ HTTP/1.1\r\nContent-Length: 9\r\n"]
        )
        assert _raw(server, start + randomness.randbytes(randomness.randrange(1, 300)) + b"\r\n\r\n") < 500
    assert server.get("/healthz").status == 200


def test_tokens(small_release, tmp_path):
    """Programs send them as Bearer, browsers as the password; only the health check is open to all."""
    (tmp_path / "tokens").write_text("# of the pipeline\n0123456789abcdef\n\nfedcba9876543210\n")
    with serving(small_release, "--token-file", str(tmp_path / "tokens")) as server:
        for path in ("/", f"/{_HANDLE}", f"/{_HANDLE}.tar.gz", "/index.json", "/metrics", "/nothing"):
            answer = server.get(path)
            assert answer.status == 401 and "Bearer" in answer.headers["www-authenticate"]
        assert server.get("/healthz").status == 200
        # Any name, and the token: c29tZWJvZHk6ZmVkY2JhOTg3NjU0MzIxMA== is somebody:fedcba9876543210.
        for good in (
            "Bearer 0123456789abcdef",
            "bearer fedcba9876543210",
            "Basic c29tZWJvZHk6ZmVkY2JhOTg3NjU0MzIxMA==",
        ):
            answer = server.get(f"/{_HANDLE}.tar.gz", authorization=good)
            assert answer.status == 200 and answer.headers["cache-control"].startswith("private")
        for bad in (
            "",
            "Bearer",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdefg",
            "Basic !!",
            "Basic YTpi",
            "0123456789abcdef",
        ):
            assert server.get("/", authorization=bad).status == 401, bad
        assert "0123456789abcdef" not in server.log_path.read_text()


# Limits that tests can wait for.
_SHORT = {"HEAD_SECONDS": 0.6, "BODY_SECONDS": 0.6, "STALL_SECONDS": 0.6, "IDLE_SECONDS": 0.6, "CHECK_SECONDS": 0.1}
_GET = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
_DOWNLOAD = f"GET /{_HANDLE}.tar.gz HTTP/1.1\r\nHost: a\r\n\r\n".encode()
_UNENDING = b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbody"


@pytest.fixture(scope="module", name="impatient")
def _impatient(small_release: Path) -> Iterator[Server]:
    with serving(small_release, "--max-connections", "50", limits=_SHORT) as server:
        yield server


@pytest.mark.parametrize(
    ("request_bytes", "answers"),
    [
        pytest.param(b"", 0, id="nothing"),
        pytest.param(b"\r\n\r\n", 0, id="empty lines"),
        pytest.param(b"G", 0, id="one byte"),
        pytest.param(_GET, 1, id="one request"),
        pytest.param(_GET + b"G", 1, id="and a byte"),
        pytest.param(_GET * 2 + b"G", 2, id="two and a byte"),
        pytest.param(_GET * 2 + _GET[:-2], 2, id="two and a half"),
        pytest.param(_GET * 20 + b"POST", 20, id="twenty and a word"),
        pytest.param(_GET + _UNENDING, 2, id="and an unending body"),
        pytest.param(_UNENDING, 1, id="an unending body"),
        pytest.param(_GET[:-2] + b"Connection: upgrade\r\nUpgrade: any\r\n\r\n" + _GET, 1, id="upgrade"),
    ],
)
def test_a_connection_ends_whatever_a_client_leaves_undone(impatient, request_bytes, answers):
    """Each whole request is answered, and the server closes the connection when nothing more comes."""
    with contextlib.suppress(ConnectionResetError):
        answer = b""
        with impatient.connection() as connection:
            connection.settimeout(5)
            connection.sendall(request_bytes)
            while chunk := connection.recv(1 << 16):
                answer += chunk
    assert answer.count(b"HTTP/1.1 200 OK") == answers


@pytest.mark.parametrize("request_bytes", [_DOWNLOAD * 100, _GET * 5000 + b"G"], ids=["downloads", "short answers"])
def test_clients_that_read_nothing_lose_their_connection(impatient, request_bytes):
    """Even if little waits in the server's memory, or the rest of the next request never comes."""
    before = _connections(impatient)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", impatient.port))
        connection.sendall(request_bytes)
        _wait(lambda: _connections(impatient) > before)
        _wait(lambda: _connections(impatient) == before)


def _protocol(app: ASGIApp) -> tuple[GuardedProtocol, mock.Mock]:
    """Returns a connection, and its transport to nowhere."""
    config = uvicorn.Config(app, log_config=None)
    protocol = GuardedProtocol(config=config, server_state=ServerState(), app_state={}, limit=ConnectionLimit(1))
    transport = mock.Mock(asyncio.Transport)
    transport.is_closing.return_value = False
    protocol.connection_made(transport)
    return protocol, transport


async def _answered_never(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def test_requests_that_wait_are_not_taken_apart():
    """Each would take kilobytes of memory, and a packet holds thousands."""

    async def receive_many() -> None:
        protocol, transport = _protocol(_answered_never)
        for _ in range(10):
            protocol.data_received(_GET * 1000)
        assert 0 < len(protocol.pipeline) < 100
        # As uvicorn does when the application asks for a request's body.
        protocol.flow.resume_reading()
        transport.pause_reading.assert_called_once()
        transport.resume_reading.assert_not_called()
        protocol.connection_lost(None)
        await asyncio.wait(protocol.tasks)

    asyncio.run(receive_many())


def test_a_lost_connection_ends_the_work_for_its_oldest_request():
    """The others were not begun."""

    async def lose() -> None:
        protocol, _ = _protocol(_answered_never)
        protocol.data_received(_GET * 3)
        [task] = protocol.tasks
        await asyncio.sleep(0)
        protocol.connection_lost(ConnectionResetError())
        done, _ = await asyncio.wait([task], timeout=1)
        assert done

    asyncio.run(lose())


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nA: ", _UNENDING, _GET * 2 + b"GET / HTTP/1.1\r\nA: "])
def test_clients_that_dawdle_lose_their_connection(impatient, start):
    """Each byte comes in time, but the whole does not."""
    with impatient.connection() as connection:
        connection.sendall(start)
        begin = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - begin < 5:
                connection.sendall(b"a")
                time.sleep(0.05)
    assert 0.3 < time.monotonic() - begin < 2


def test_a_slow_download_is_not_cut_off(impatient, small_release):
    """As long as the client takes a part of it in time."""
    expected = (small_release / f"{_HANDLE}.tar.gz").read_bytes()
    got = b""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        connection.connect(("127.0.0.1", impatient.port))
        connection.sendall(_DOWNLOAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        begin = time.monotonic()
        while chunk := connection.recv(1 << 15):
            got += chunk
            time.sleep(0.02)
    assert got.partition(b"\r\n\r\n")[2] == expected
    assert time.monotonic() - begin > 1, "it took longer than the limit"


def test_hostile_connections_do_not_shut_the_server(impatient):
    """As many as it serves at once, each of a hundred bytes; they end, and so does the shortage."""
    with contextlib.ExitStack() as stack:
        for _ in range(49):
            stack.enter_context(impatient.connection()).sendall(_GET * 2 + b"G")
        assert impatient.get("/healthz").status == 200
        _wait(lambda: impatient.get("/healthz").status == 200 and _connections(impatient) < 10)


def _wait(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_hostile_clients_leave_no_connection_behind(impatient):
    """Hundreds, each with a bad habit or several, while others are served.

    They send halves of requests, everything at once, a byte now and then in a head or a body, or what is no HTTP. They
    read nothing, close one half of the connection, or break it off.
    """
    randomness = random.Random(7)
    parts = [_GET, _DOWNLOAD, _UNENDING, b"G", b"\r\n", b"\x00\xff", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
    parts += [_GET[:-2], _GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", _GET[:-2] + b"Expect: 100-continue\r\n\r\n"]
    parts += [
        _DOWNLOAD * 50,
        _GET * 300,
        b"A: " + b"b" * 40_000,
        b"GET / HTTP/1.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ]
    dawdling: list[socket.socket] = []

    def dawdle() -> None:
        for connection in dawdling:
            with contextlib.suppress(OSError):
                connection.send(b"a")

    before = _connections(impatient)
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        while time.monotonic() - begin < 10:
            connection = stack.enter_context(socket.socket())
            if randomness.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", impatient.port))
            connection.setblocking(False)
            # Its buffer is full, or the server has ended the connection: to shut that down is an error of no own class.
            with contextlib.suppress(OSError):
                for part in randomness.choices(parts, k=randomness.randrange(4)):
                    connection.send(part)
                if randomness.random() < 0.3:
                    connection.shutdown(socket.SHUT_WR)
                elif randomness.random() < 0.5:
                    connection.send(randomness.choice([_GET[:-2] + b"A: ", _UNENDING, _GET * 2 + _GET[:-2] + b"A: "]))
                    dawdling.append(connection)
            if randomness.random() < 0.2:
                # The kernel sends RST.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
            time.sleep(0.02)
            dawdle()
            assert impatient.get("/healthz").status in (200, 503)
        _wait(lambda: dawdle() or _connections(impatient) == before)
    assert impatient.get("/healthz").status == 200
    assert not [line for line in impatient.log() if "traceback" in line]
