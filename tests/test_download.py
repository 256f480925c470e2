"""Downloads from a server on this machine: a file is checked before it gets its name."""

import contextlib
import hashlib
import os
import socket
import ssl
import stat
import threading
import time

import pytest
import requests

from hubexport.checkpoints import download as download_module
from hubexport.checkpoints import download_cache as cache_module
from hubexport.checkpoints.download import fetch
from hubexport.checkpoints.download_cache import (
    CachedArchive,
    Downloads,
    archive_path,
    look_up,
    memory_path,
    partial_path,
)
from hubexport.errors import CheckpointError, DownloadError, UsageError
from hubexport.progress import Progress
from hubexport.system import http_download, reachability
from hubexport.variants import PublishedCheckpoint
from tests.archives import member, tgz
from tests.servers import ARCHIVE, SHA256, answer, running_server, serve, serve_some, serve_when_told

# The server sends this many bytes before it fails. The last block may get lost.
_HALF = 300_000
_SHUFFLED = ARCHIVE[::-1]
# Only gzipped tars are accepted without a SHA-256.
_TAR = tgz(member("model.ckpt.index", ARCHIVE))
_OTHER_TAR = tgz(member("model.ckpt.index", _SHUFFLED))


class _Ear(Progress):
    def __init__(self):
        self.steps = []
        self.warnings = []
        self.bytes = []

    def step(self, message):
        self.steps.append(message)

    def advance(self, done, total):
        self.bytes.append((done, total))

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def server(monkeypatch):
    """A server, whose clients do not wait before they ask again."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http_download, "_FIRST_WAIT_S", 0)
    with running_server() as server:
        yield server


@pytest.fixture
def waits(monkeypatch):
    """The seconds that a download would wait; no time passes."""
    heard = []
    monkeypatch.setattr(http_download.time, "sleep", heard.append)
    return heard


@pytest.fixture
def cache(tmp_path):
    """An empty cache."""
    return Downloads(tmp_path / "cache")


@pytest.fixture
def ear():
    """Records all progress."""
    return _Ear()


def _files(cache):
    """The names of the files in the cache, without locks."""
    return sorted(path.name for path in cache.cache_dir.rglob("*") if path.is_file() and path.suffix != ".lock")


def _start(server, cache, content):
    """Writes what an interrupted download might have left."""
    partial = partial_path(archive_path(server.published(), cache))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content)


def test_an_archive_is_downloaded_once(server, cache):
    """The second time it comes from the cache."""
    path = fetch(server.published(), Progress(), cache)
    assert path == cache.cache_dir / "checkpoints" / SHA256[:16] / "net.tgz"
    assert path.read_bytes() == ARCHIVE
    assert fetch(server.published(), Progress(), cache) == path
    assert [request.path for request in server.requests] == ["/net.tgz"]
    assert _files(cache) == ["net.tgz"]


def test_the_cache_is_where_the_environment_says(server, tmp_path, monkeypatch):
    """Unless the caller names another folder."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "there"))
    assert fetch(server.published(), Progress()).is_relative_to(tmp_path / "there")


def test_progress_counts_bytes(server, cache, ear):
    """Up to the announced length."""
    fetch(server.published(), ear, cache)
    assert ear.steps == [f"downloading {server.address}/net.tgz"]
    assert ear.bytes[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert ear.bytes == sorted(ear.bytes)
    assert ear.warnings == []


def test_passwords_are_not_shown(server, cache, ear):
    """Neither in progress nor in errors."""
    server.acts = [answer(404)]
    mirror = server.address.replace("//", "//me:secret@")
    with pytest.raises(DownloadError) as caught:
        fetch(server.published(), ear, Downloads(cache.cache_dir, mirror))
    assert ear.steps == [f"downloading {server.address}/net.tgz"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("length", ["many", "-1", "9" * 5000], ids=["word", "negative", "endless"])
def test_a_malformed_length_is_ignored(server, cache, ear, length):
    """The digest decides."""
    server.acts = [answer(200, ARCHIVE, Content_Length=length)]
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert ear.bytes[-1] == (len(ARCHIVE), None)


def test_an_archive_that_is_called_a_gzipped_tar_is_not_unpacked(server, cache):
    """Many servers send such a Content-Encoding."""
    server.acts = [answer(200, ARCHIVE, Content_Encoding="x-gzip")]
    assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE
    assert server.requests[0].encoding == "identity"


def test_a_damaged_file_in_the_cache_is_replaced_when_the_new_one_is_right(server, cache):
    """Its digest is checked each time; a failed download leaves it alone."""
    path = archive_path(server.published(), cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    server.acts = [answer(404), answer(200, b"something else"), serve]
    for _ in range(2):
        with pytest.raises(DownloadError):
            fetch(server.published(), Progress(), cache)
        assert path.read_bytes() == b"damaged"
    assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE


def test_a_wrong_digest_shows_both_and_sets_the_file_aside(server, cache):
    """Each run asks once; of two equal wrong files, the newer replaces the older."""
    server.acts = [answer(200, b"something else")]
    wrong = hashlib.sha256(b"something else").hexdigest()
    kept = archive_path(server.published(), cache).with_name(f"net.tgz.wrong-{wrong[:8]}")
    for _ in range(2):
        with pytest.raises(DownloadError, match="is not the published archive") as caught:
            fetch(server.published(), Progress(), cache)
        assert SHA256 in caught.value.why
        assert wrong in caught.value.why
        assert str(kept) in caught.value.fix
        assert kept.read_bytes() == b"something else"
        assert _files(cache) == [kept.name]
    assert len(server.requests) == 2


def test_a_truncated_download_is_resumed(server, cache, ear):
    """Only the missing bytes are sent."""
    server.acts = [serve_some(_HALF), serve]
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    first, second = server.requests
    assert first.range is None
    start = int(second.range.removeprefix("bytes=").removesuffix("-"))
    assert _HALF - http_download._BLOCK_BYTES < start <= _HALF
    assert second.sent == len(ARCHIVE) - start
    assert ear.warnings == [
        f"net.tgz: the connection ended after {start} of {len(ARCHIVE)} bytes; attempt 2 of 5 in 0 s"
    ]
    assert ear.bytes == sorted(ear.bytes)
    assert ear.bytes[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert _files(cache) == ["net.tgz"]


def test_what_has_come_is_kept_for_the_next_run(server, cache, ear):
    """All attempts failed, but the next run resumes."""
    server.acts = [serve_some(_HALF)]
    with pytest.raises(DownloadError, match="cannot download") as caught:
        fetch(server.published(), Progress(), cache)
    assert "(attempt 5 of 5); the next attempt resumes after 0.3 MB" in caught.value.why
    assert _files(cache) == ["net.tgz.part"]
    assert len(server.requests) == 5
    server.acts = [serve]
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert ear.steps == [f"downloading {server.address}/net.tgz, resuming after 0.3 MB"]
    assert server.requests[-1].sent <= len(ARCHIVE) - _HALF + http_download._BLOCK_BYTES


def test_a_chunked_answer_that_breaks_off_is_resumed(server, cache):
    """Each chunk states its length, and the last one is marked."""

    def chunks(handler):
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, Transfer_Encoding="chunked")
        handler.body(b"%x\r\n%b\r\n" % (_HALF, ARCHIVE[:_HALF]))
        handler.close_connection = True

    server.acts = [chunks, serve]
    assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE
    assert server.requests[1].range


def test_a_stall_is_a_failure_too(server, cache, ear, monkeypatch):
    """The connection is open, but no data comes."""
    monkeypatch.setattr(http_download, "_TIMEOUT_S", 0.5)
    server.acts = [serve_some(_HALF, wait=True), lambda handler: handler.server.gate.wait(60), serve]
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert [warning.partition(";")[0] for warning in ear.warnings] == ["net.tgz: timed out"] * 2
    assert server.requests[2].sent <= len(ARCHIVE) - _HALF + http_download._BLOCK_BYTES


def test_a_missing_archive_is_requested_once(server, cache):
    """Another attempt would not find it either."""
    server.acts = [answer(404)]
    with pytest.raises(DownloadError, match="cannot download") as caught:
        fetch(server.published(), Progress(), cache)
    assert caught.value.why == "the server answered 404 Not Found"
    assert "--checkpoint" in caught.value.fix
    assert len(server.requests) == 1
    assert _files(cache) == []


def test_a_failure_leaves_what_had_come_before(server, cache):
    """An archive that is missing today may be back tomorrow."""
    _start(server, cache, ARCHIVE[:_HALF])
    server.acts = [answer(404), serve]
    with pytest.raises(DownloadError):
        fetch(server.published(), Progress(), cache)
    fetch(server.published(), Progress(), cache)
    assert server.requests[1].range == f"bytes={_HALF}-"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again(server, cache, ear, status):
    """A warning says why."""
    server.acts = [answer(status, b"busy"), serve]
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    [warning] = ear.warnings
    assert f"the server answered {status} " in warning


def test_a_server_that_is_busy_for_ever_is_given_up(server, cache, ear, waits, monkeypatch):
    """After waits that double."""
    monkeypatch.setattr(http_download, "_FIRST_WAIT_S", 1)
    server.acts = [answer(503)]
    with pytest.raises(DownloadError, match="cannot download") as caught:
        fetch(server.published(), ear, cache)
    assert caught.value.why == "the server answered 503 Service Unavailable (attempt 5 of 5)"
    assert waits == [1, 2, 4, 8]
    assert len(server.requests) == 5
    assert ear.warnings[0] == "net.tgz: the server answered 503 Service Unavailable; attempt 2 of 5 in 1 s"
    assert len(ear.warnings) == 4
    assert _files(cache) == []


@pytest.mark.parametrize(
    ("wanted", "waited"), [("30", 30), ("3600", 60), ("9" * 5000, 0), ("Fri, 31 Dec 2027 23:59:59 GMT", 0)]
)
def test_a_server_may_say_how_long_to_wait(server, cache, waits, wanted, waited):
    """Up to a limit."""
    server.acts = [answer(503, Retry_After=wanted), serve]
    fetch(server.published(), Progress(), cache)
    assert waits == [waited]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_followed(server, cache, status):
    """The request for the missing part is repeated."""
    _start(server, cache, ARCHIVE[:_HALF])
    server.acts = [answer(status, Location="/elsewhere"), serve]
    assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE
    assert [request.path for request in server.requests] == ["/net.tgz", "/elsewhere"]
    assert server.requests[1].sent == len(ARCHIVE) - _HALF


@pytest.mark.parametrize(
    ("to", "why"),
    [
        pytest.param("/net.tgz", "Exceeded 30 redirects", id="in a circle"),
        pytest.param("ftp://127.0.0.1/x", "No connection adapters", id="ftp"),
        pytest.param("http://a..b/x", "label empty", id="no name"),
        pytest.param("http://[::1/x", "IPv6", id="no address"),
    ],
)
def test_redirects_to_nowhere_are_errors(server, cache, ear, to, why):
    """Another attempt would not help."""
    server.acts = [answer(302, Location=to)]
    with pytest.raises(DownloadError) as caught:
        fetch(server.published(), ear, cache)
    assert why in caught.value.why
    assert ear.warnings == []


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param([answer(200, ARCHIVE)], id="all of it"),
        pytest.param([answer(416), serve], id="416"),
        pytest.param(
            [answer(206, ARCHIVE[_HALF - 9 :], Content_Range=f"bytes {_HALF - 9}-599999/600000"), serve],
            id="another part",
        ),
        pytest.param([answer(206, ARCHIVE[_HALF:]), serve], id="some part"),
    ],
)
def test_a_server_that_does_not_send_the_rest_sends_all(server, cache, ear, refusal):
    """Data that does not belong at the end of the file is not appended."""
    _start(server, cache, ARCHIVE[:_HALF])
    server.acts = list(refusal)
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert not any("does not fit" in warning for warning in ear.warnings)
    assert server.requests[0].range == f"bytes={_HALF}-"
    assert [request.range for request in server.requests[1:]] == [None] * (len(refusal) - 1)
    assert _files(cache) == ["net.tgz"]


def test_a_part_that_is_smaller_than_asked_for_is_followed_by_another(server, cache):
    """A server may send less than the whole rest."""
    _start(server, cache, ARCHIVE[:_HALF])
    part = answer(206, ARCHIVE[_HALF : _HALF + 1000], Content_Range=f"bytes {_HALF}-{_HALF + 999}/600000")
    server.acts = [part, serve]
    assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE
    assert server.requests[1].range == f"bytes={_HALF + 1000}-"


def test_a_rest_without_a_total_size_is_accepted(server, cache, ear):
    """A server need not know the size of its file."""
    _start(server, cache, ARCHIVE[:_HALF])
    server.acts = [answer(206, ARCHIVE[_HALF:], Content_Range=f"bytes {_HALF}-599999/*")]
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert len(server.requests) == 1
    assert ear.bytes[-1] == (600_000, 600_000)


def test_a_complete_partial_file_is_requested_again(server, cache):
    """Its process was killed before it could rename the file; the server has no further bytes."""
    _start(server, cache, ARCHIVE)
    assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE
    assert [request.range for request in server.requests] == [f"bytes={len(ARCHIVE)}-", None]


def test_a_rest_that_does_not_match_the_beginning_starts_over(server, cache, ear):
    """The beginning may belong to another file, so everything is downloaded again, once."""
    _start(server, cache, _SHUFFLED[:_HALF])
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert [request.range for request in server.requests] == [f"bytes={_HALF}-", None]
    assert ear.warnings == ["net.tgz: the rest does not match the part downloaded before; downloading all of it again"]
    assert _files(cache) == ["net.tgz"]


def test_a_wrong_file_is_downloaded_twice_at_most(server, cache):
    """Once to complete the beginning, once as a whole."""
    _start(server, cache, b"x" * 10)
    server.acts = [answer(206, b"y", Content_Range="bytes 10-10/11"), answer(200, b"z")]
    with pytest.raises(DownloadError, match="is not the published archive"):
        fetch(server.published(), Progress(), cache)
    assert len(server.requests) == 2
    assert _files(cache) == [f"net.tgz.wrong-{hashlib.sha256(b'z').hexdigest()[:8]}"]


@pytest.mark.parametrize("length", ["600000", "unknown"])
def test_an_endless_download_is_stopped(server, cache, monkeypatch, length):
    """It would fill the disk."""
    monkeypatch.setattr(http_download, "_MAX_BYTES", _HALF)
    server.acts = [answer(200, ARCHIVE, Content_Length=length)]
    with pytest.raises(DownloadError) as caught:
        fetch(server.published(), Progress(), cache)
    assert "larger than" in caught.value.why
    assert len(server.requests) == 1
    assert _files(cache) == []


def _unreachable(cache, url):
    """Asks for an archive, and returns the error and the seconds until it came."""
    started = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        fetch(PublishedCheckpoint(url=url, sha256=SHA256, name="x.ckpt"), Progress(), cache)
    return caught.value, time.monotonic() - started


@contextlib.contextmanager
def _closed_port():
    """A port that nobody else gets meanwhile, and that refuses connections."""
    with contextlib.closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def test_a_server_that_is_not_there_is_told_at_once(server, cache):
    """The error says what to do instead: nobody waits for five attempts."""
    with _closed_port() as port:
        error, seconds = _unreachable(cache, f"http://127.0.0.1:{port}/x.tgz")
    assert error.why == f"no connection to 127.0.0.1, port {port}: Connection refused"
    assert f"download http://127.0.0.1:{port}/x.tgz elsewhere and pass it as --checkpoint FILE" in error.fix
    assert "--checkpoint synthetic" in error.fix
    assert seconds < 1
    assert _files(cache) == []


def test_a_name_that_does_not_exist_is_told_at_once(server, cache, monkeypatch):
    """As on a machine without a network. The system's own look-up may fail late, or never."""
    error, seconds = _unreachable(cache, "http://nowhere.invalid/x.tgz")
    assert error.why.startswith("cannot look up nowhere.invalid: ")
    # Where names are looked up at all, the answer of the network is awaited.
    assert seconds < reachability._LIMIT_S + 1
    hanging = threading.Event()
    monkeypatch.setattr(reachability, "_LIMIT_S", 0.2)
    monkeypatch.setattr(reachability.socket, "getaddrinfo", lambda *_, **__: hanging.wait(60))
    error, seconds = _unreachable(cache, "http://nowhere.invalid/x.tgz")
    hanging.set()
    assert error.why == "cannot look up nowhere.invalid: no answer within 0.2 s"
    assert seconds < 1


def test_a_server_that_takes_no_connection_is_told_soon(server, cache, monkeypatch):
    """Its queue is full, so the system drops what asks for another connection, as where packets are lost."""
    monkeypatch.setattr(reachability, "_LIMIT_S", 0.2)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listening.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        error, seconds = _unreachable(cache, f"http://127.0.0.1:{address[1]}/x.tgz")
    assert error.why == f"no answer from 127.0.0.1, port {address[1]} within 0.2 s"
    assert seconds < 1


def test_a_proxy_that_is_not_there_is_told_at_once(server, cache, monkeypatch):
    """With or without a scheme. The name of the server is the proxy's to look up."""
    monkeypatch.setenv("NO_PROXY", "")
    with _closed_port() as port:
        for scheme in ("http://", ""):
            monkeypatch.setenv("HTTP_PROXY", f"{scheme}127.0.0.1:{port}")
            error, seconds = _unreachable(cache, "http://nowhere.invalid/x.tgz")
            assert error.why == f"no connection to the proxy 127.0.0.1, port {port}: Connection refused"
            assert seconds < 1


def test_a_server_that_vanishes_during_a_download_is_asked_again(server, cache, ear, monkeypatch):
    """It was there before."""
    server.acts = [serve_some(_HALF), serve]
    attempts = []

    def get(*args, **options):
        attempts.append(args)
        if len(attempts) == 2:
            raise requests.ConnectionError("Connection refused")
        return real_get(*args, **options)

    real_get = http_download.requests.get
    monkeypatch.setattr(http_download.requests, "get", get)
    assert fetch(server.published(), ear, cache).read_bytes() == ARCHIVE
    assert len(attempts) == 3 and len(ear.warnings) == 2


def test_an_untrusted_certificate_is_not_retried(server, cache, ear, monkeypatch):
    """It will not be trusted in four seconds either; requests wraps the error like this."""

    def get(*_, **__):
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")
        except ssl.SSLError as error:
            raise requests.exceptions.SSLError("Max retries exceeded") from error

    monkeypatch.setattr(http_download.requests, "get", get)
    with pytest.raises(DownloadError) as caught:
        fetch(server.published(), ear, cache)
    assert "self-signed certificate" in caught.value.why
    assert ear.warnings == []


def test_an_earlier_error_is_not_reported_as_the_cause(server, cache):
    """A download may start while another error is being handled."""
    server.acts = [answer(302, Location="/net.tgz")]
    with pytest.raises(DownloadError) as caught:
        try:
            raise CheckpointError("the other one", why="-", fix="-")
        except CheckpointError:
            fetch(server.published(), Progress(), cache)
    assert "redirects" in caught.value.why


def test_a_mirror_has_the_archives_by_their_names(server, cache):
    """The digest is still the config's."""
    published = PublishedCheckpoint(url="http://example.invalid/a/b/net.tgz", sha256=SHA256, name="x.ckpt")
    mirror = Downloads(cache.cache_dir, f"{server.address}/copies/")
    path = fetch(published, Progress(), mirror)
    assert path == archive_path(published, cache)
    assert [request.path for request in server.requests] == ["/copies/net.tgz"]


@pytest.mark.parametrize("mirror", ["ftp://example.org", "/home/me", "example.org", "http://", ""])
def test_a_mirror_is_an_address(mirror):
    """Everything else is refused at once."""
    with pytest.raises(UsageError, match="--mirror"):
        Downloads(mirror=mirror)


@pytest.mark.parametrize(
    ("content", "state"), [(None, "does not exist"), (b"damaged", "is damaged")], ids=["missing", "damaged"]
)
def test_offline_uses_no_network(server, cache, content, state):
    """The error says why the archive is unusable."""
    offline = Downloads(cache.cache_dir, offline=True)
    path = archive_path(server.published(), cache)
    if content:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    with pytest.raises(DownloadError, match="net.tgz is not in the cache") as caught:
        fetch(server.published(), Progress(), offline)
    assert caught.value.why == f"{path} {state}, and --offline forbids downloading it"
    assert "`hubexport fetch --variant NAME`" in caught.value.fix
    assert server.requests == []


def test_offline_takes_what_is_in_the_cache(server, cache):
    """Without the network."""
    path = fetch(server.published(), Progress(), cache)
    assert fetch(server.published(), Progress(), Downloads(cache.cache_dir, offline=True)) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_in_the_environment_is_used(server, cache, monkeypatch, name):
    """It gets the whole address."""
    for variable in ("NO_PROXY", "no_proxy", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, server.address)
    published = PublishedCheckpoint(url="http://example.invalid/net.tgz", sha256=SHA256, name="x.ckpt")
    assert fetch(published, Progress(), cache).read_bytes() == ARCHIVE
    assert [request.path for request in server.requests] == ["http://example.invalid/net.tgz"]


def test_a_second_download_waits_for_the_first(server, cache):
    """Then it takes the archive from the cache, without the server."""
    asked = threading.Event()
    paths = []

    def act(handler):
        asked.set()
        serve_when_told(_HALF)(handler)

    class Second(Progress):
        def step(self, message):
            assert message.startswith("waiting for another process to download net.tgz: process ")
            server.gate.set()

    first = threading.Thread(target=lambda: paths.append(fetch(server.published(), Progress(), cache)))
    server.acts = [act]
    first.start()
    asked.wait()
    paths.append(fetch(server.published(), Second(), cache))
    first.join()
    assert len(set(paths)) == 1
    assert len(server.requests) == 1


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/hubexport"])
def test_a_cache_that_cannot_be_written_is_a_clean_error(server, tmp_path, place):
    """Even root cannot write to /proc."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(DownloadError, match="cannot store net.tgz in the cache") as caught:
        fetch(server.published(), Progress(), Downloads(tmp_path / place))
    assert str(tmp_path / place) in caught.value.why
    assert "--cache-dir" in caught.value.fix
    assert server.requests == []


def test_a_full_disk_is_a_clean_error(server, cache):
    """The error does not blame the network."""
    partial = partial_path(archive_path(server.published(), cache))
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="cannot store net.tgz in the cache") as caught:
        fetch(server.published(), Progress(), cache)
    assert "No space left on device" in caught.value.why
    assert len(server.requests) == 1


def test_a_file_is_flushed_before_it_gets_its_name(server, cache, monkeypatch):
    """Otherwise a power cut could leave an empty file under that name."""
    synced = []
    fsync = os.fsync

    def spy(descriptor):
        fsync(descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            synced.append((status.st_size, _files(cache)))

    monkeypatch.setattr(os, "fsync", spy)
    fetch(server.published(), Progress(), cache)
    assert synced == [(len(ARCHIVE), ["net.tgz.part"])]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://example.invalid/a.tgz", "a.tgz"),
        ("http://example.invalid/", "archive"),
        ("http://example.invalid/..", "archive"),
        ("http://example.invalid/a.tgz?b=1&c=*", "a.tgz_b_1_c__"),
        ("http://example.invalid/a@b.tgz", "a_b.tgz"),
    ],
)
def test_an_archive_lies_in_its_folder_whatever_its_address(url, name, cache):
    """Under a valid file name."""
    path = archive_path(PublishedCheckpoint(url=url, sha256=SHA256, name="x.ckpt"), cache)
    assert path == cache.cache_dir / "checkpoints" / SHA256[:16] / name


def test_look_up_tells_the_state_of_the_cache(server, cache):
    """Without the network."""
    published = server.published()
    path = archive_path(published, cache)
    assert look_up(published, cache) == CachedArchive(path, 0, "not cached", ())
    _start(server, cache, b"some")
    assert look_up(published, cache) == CachedArchive(partial_path(path), 4, "partial", ())
    path.write_bytes(b"wrong")
    aside = path.with_name("net.tgz.wrong-01234567")
    aside.write_bytes(b"x")
    assert look_up(published, cache) == CachedArchive(path, 5, "damaged", (aside,))
    path.write_bytes(ARCHIVE)
    assert look_up(published, cache) == CachedArchive(path, len(ARCHIVE), "intact", (aside,))
    assert server.requests == []


def test_a_file_in_the_cache_that_cannot_be_read_is_replaced(server, cache, monkeypatch):
    """Replacing it takes permission for the folder only."""
    path = archive_path(server.published(), cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"secret")

    def refuse(_):
        raise PermissionError

    with monkeypatch.context() as context:
        context.setattr(cache_module, "file_sha256", refuse)
        assert look_up(server.published(), cache) == CachedArchive(path, 0, "unreadable", ())
        assert fetch(server.published(), Progress(), cache).read_bytes() == ARCHIVE


# Archives without a SHA-256 in the config


@pytest.fixture
def unpinned(server):
    """An archive whose config has no SHA-256; the server has it."""
    server.content = _TAR
    return server.published(sha256=None)


def _digest(content):
    return hashlib.sha256(content).hexdigest()


def _accepted(cache, content):
    """Where the cache keeps an archive that was accepted."""
    return cache.cache_dir / "checkpoints" / _digest(content)[:16] / "net.tgz"


def test_an_archive_of_unknown_digest_is_accepted_once(unpinned, server, cache, ear):
    """The cache remembers its digest, in the form of sha256sum."""
    for _ in range(2):
        assert fetch(unpinned, ear, cache) == _accepted(cache, _TAR)
    assert _accepted(cache, _TAR).read_bytes() == _TAR
    assert memory_path(unpinned, cache).read_text() == f"{_digest(_TAR)}  net.tgz\n"
    assert [_digest(_TAR) in warning for warning in ear.warnings] == [True]
    assert len(server.requests) == 1
    assert _files(cache) == ["net.tgz", "net.tgz.sha256"]
    assert look_up(unpinned, cache).remembered == _digest(_TAR)


def test_a_digest_in_the_config_finds_what_was_accepted_without(unpinned, server, cache):
    """Users who pin an archive download nothing again."""
    path = fetch(unpinned, Progress(), cache)
    pinned = server.published(sha256=_digest(_TAR))
    assert fetch(pinned, Progress(), Downloads(cache.cache_dir, offline=True)) == path


def test_a_damaged_archive_is_found_by_the_remembered_digest(unpinned, server, cache, ear):
    """It is replaced by the same archive, without a second warning."""
    path = fetch(unpinned, Progress(), cache)
    path.write_bytes(_OTHER_TAR)
    assert look_up(unpinned, cache).state == "damaged"
    with pytest.raises(DownloadError, match="not in the cache"):
        fetch(unpinned, Progress(), Downloads(cache.cache_dir, offline=True))
    assert fetch(unpinned, ear, cache).read_bytes() == _TAR
    assert ear.warnings == []


def test_another_archive_is_refused_after_the_first(unpinned, server, cache):
    """Whoever sends it: the server or a mirror. The error has both digests."""
    path = fetch(unpinned, Progress(), cache)
    path.unlink()
    server.content = _OTHER_TAR
    for downloads in (cache, Downloads(cache.cache_dir, f"{server.address}/copies")):
        with pytest.raises(DownloadError, match="is not the published archive") as caught:
            fetch(unpinned, Progress(), downloads)
        assert _digest(_TAR) in caught.value.why and _digest(_OTHER_TAR) in caught.value.why
        assert f"`sha256: {_digest(_OTHER_TAR)}` in the config" in caught.value.fix
        assert path.with_name(f"net.tgz.wrong-{_digest(_OTHER_TAR)[:8]}").read_bytes() == _OTHER_TAR
        assert not path.exists()
    server.content = _TAR
    assert fetch(unpinned, Progress(), cache).read_bytes() == _TAR


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Log in to this network</html>", _TAR[:-4], _TAR[: len(_TAR) // 2], ARCHIVE],
    ids=["nothing", "page", "no checksum", "half", "no tar"],
)
def test_only_a_whole_gzipped_tar_is_accepted(unpinned, server, cache, content):
    """A page of a hotel's network would be trusted for ever, and so would half an archive."""
    server.acts = [answer(200, content, Content_Length="unknown"), serve]
    with pytest.raises(DownloadError, match="is not an archive") as caught:
        fetch(unpinned, Progress(), cache)
    assert "not a gzipped tar" in caught.value.why
    kept = f"net.tgz.wrong-{_digest(content)[:8]}"
    assert kept in caught.value.fix
    assert _files(cache) == [kept]
    assert fetch(unpinned, Progress(), cache) == _accepted(cache, _TAR)


@pytest.mark.parametrize("start", [_OTHER_TAR[:_HALF], b"x" * 10], ids=["of another archive", "of anything"])
def test_a_rest_that_does_not_match_the_beginning_is_not_accepted(unpinned, server, cache, ear, start):
    """The server changed its file in between. Gzip's checksum tells, and all of it is downloaded again."""
    partial = partial_path(archive_path(unpinned, cache))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(start)
    assert look_up(unpinned, cache) == CachedArchive(partial, len(start), "partial", ())
    assert fetch(unpinned, ear, cache).read_bytes() == _TAR
    assert [request.range for request in server.requests] == [f"bytes={len(start)}-", None]
    assert ear.warnings[0].endswith("downloading all of it again")


def test_a_resumed_archive_of_unknown_digest_is_accepted(unpinned, server, cache):
    """If both parts belong together."""
    partial = partial_path(archive_path(unpinned, cache))
    partial.parent.mkdir(parents=True)
    partial.write_bytes(_TAR[:_HALF])
    assert fetch(unpinned, Progress(), cache).read_bytes() == _TAR
    assert [request.sent for request in server.requests] == [len(_TAR) - _HALF]


@pytest.mark.parametrize("moment", range(4))
def test_a_process_may_be_killed_at_any_moment(unpinned, server, cache, monkeypatch, moment):
    """Until the digest is remembered nothing counts as accepted; from then on the archive is in its place."""
    calls = []

    def at_moment(work):
        def deadly(*args, **kwargs):
            if len(calls) == moment:
                raise KeyboardInterrupt
            calls.append(work)
            done = work(*args, **kwargs)
            if moment == 3 and len(calls) == 3:
                raise KeyboardInterrupt
            return done

        return deadly

    with monkeypatch.context() as context:
        context.setattr(download_module, "publish_file", at_moment(download_module.publish_file))
        context.setattr(download_module, "memory_path", at_moment(download_module.memory_path))
        with pytest.raises(KeyboardInterrupt):
            fetch(unpinned, Progress(), cache)
    remembered = look_up(unpinned, cache).remembered
    assert remembered == (_digest(_TAR) if moment == 3 else None)
    if remembered:
        assert look_up(unpinned, cache).state == "intact"
    # The server changes its file before the next run.
    server.content = _OTHER_TAR
    assert fetch(unpinned, Progress(), cache).read_bytes() == (_TAR if remembered else _OTHER_TAR)


@pytest.mark.parametrize("memory", [b"", b"0123", b"\xff" * 80, b"x" * 10_000, None])
def test_a_damaged_memory_accepts_nothing(unpinned, server, cache, memory):
    """Not even the right file. The error says which file to remove."""
    fetch(unpinned, Progress(), cache)
    path = memory_path(unpinned, cache)
    path.unlink()
    path.mkdir() if memory is None else path.write_bytes(memory)
    with pytest.raises(DownloadError, match="cannot tell which archive was downloaded before") as caught:
        fetch(unpinned, Progress(), cache)
    assert str(path) in caught.value.what
    assert look_up(unpinned, cache).state == "unreadable"
    assert len(server.requests) == 1


def test_offline_without_a_remembered_digest(unpinned, server, cache):
    """Nothing in the cache can be trusted."""
    with pytest.raises(DownloadError, match="net.tgz is not in the cache") as caught:
        fetch(unpinned, Progress(), Downloads(cache.cache_dir, offline=True))
    assert caught.value.why == "it was not downloaded before, and --offline forbids downloading it"
    fetch(unpinned, Progress(), cache)
    assert fetch(unpinned, Progress(), Downloads(cache.cache_dir, offline=True)).read_bytes() == _TAR
    assert len(server.requests) == 1


def test_addresses_are_remembered_apart(server, cache):
    """Even if the files have the same name."""
    server.content = _TAR
    first = fetch(server.published("a/net.tgz", None), Progress(), cache)
    server.content = _OTHER_TAR
    second = fetch(server.published("b/net.tgz", None), Progress(), cache)
    assert (first.read_bytes(), second.read_bytes()) == (_TAR, _OTHER_TAR)
