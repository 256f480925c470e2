"""Downloads from a server on this machine: what arrives is checked before it has a name."""

import contextlib
import hashlib
import http.server
import socket
import threading

import pytest

from hubexport.checkpoints import download
from hubexport.checkpoints.download import fetch
from hubexport.errors import DownloadError
from hubexport.progress import Progress
from hubexport.variants import PublishedCheckpoint

_ARCHIVE = bytes(range(256)) * 3000
_SHA256 = hashlib.sha256(_ARCHIVE).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        status, body, announced = {
            "/good.tgz": (200, _ARCHIVE, len(_ARCHIVE)),
            "/wrong.tgz": (200, b"something else", 14),
            "/short.tgz": (200, _ARCHIVE[:1000], len(_ARCHIVE)),
            "/odd.tgz": (200, _ARCHIVE, "many"),
            "/gone.tgz": (404, b"", 0),
            "/busy.tgz": (503, b"", 0),
        }[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server, and an empty cache."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _published(server, name, sha256=_SHA256):
    url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    return PublishedCheckpoint(url=url, sha256=sha256, name="model.ckpt")


def _cached_files(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_an_archive_is_downloaded_once(server, tmp_path):
    """The second time it comes from the cache."""
    first = fetch(_published(server, "good.tgz"), Progress())
    assert first.read_bytes() == _ARCHIVE
    assert first.name == "good.tgz"
    assert fetch(_published(server, "good.tgz"), Progress()) == first
    assert server.requests == ["/good.tgz"]


def test_progress_is_told_in_bytes(server):
    """Up to the announced length."""
    heard = []

    class Ear(Progress):
        def advance(self, done, total):
            heard.append((done, total))

    fetch(_published(server, "good.tgz"), Ear())
    assert heard[-1] == (len(_ARCHIVE), len(_ARCHIVE))
    assert heard == sorted(heard)


def test_a_length_that_is_no_number_is_not_believed(server):
    """What counts is the digest."""
    assert fetch(_published(server, "odd.tgz"), Progress()).read_bytes() == _ARCHIVE


def test_a_damaged_file_in_the_cache_is_downloaded_again(server):
    """Its digest is checked each time."""
    path = fetch(_published(server, "good.tgz"), Progress())
    path.write_bytes(b"damaged")
    assert fetch(_published(server, "good.tgz"), Progress()).read_bytes() == _ARCHIVE
    assert len(server.requests) == 2


def test_a_wrong_digest_shows_both_and_leaves_nothing(server, tmp_path):
    """What came is not what was published."""
    with pytest.raises(DownloadError, match="is not the published archive") as caught:
        fetch(_published(server, "wrong.tgz"), Progress())
    assert _SHA256 in caught.value.why
    assert hashlib.sha256(b"something else").hexdigest() in caught.value.why
    assert _cached_files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [("gone.tgz", "404"), ("busy.tgz", "503"), ("short.tgz", "1000")],
    ids=["404", "503", "short"],
)
def test_failures_of_the_server_leave_nothing(server, tmp_path, name, why):
    """And say what went wrong."""
    with pytest.raises(DownloadError, match="cannot download") as caught:
        fetch(_published(server, name), Progress())
    assert why in caught.value.why
    assert "--checkpoint" in caught.value.fix
    assert _cached_files(tmp_path) == []


def test_a_download_without_end_is_cut(server, tmp_path, monkeypatch):
    """The disk has one."""
    monkeypatch.setattr(download, "_MAX_BYTES", 1000)
    with pytest.raises(DownloadError) as caught:
        fetch(_published(server, "good.tgz"), Progress())
    assert "larger than" in caught.value.why
    assert _cached_files(tmp_path) == []


def test_no_network(tmp_path, monkeypatch):
    """The error says what to do instead."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as reserved:
        port = reserved.getsockname()[1]
    published = PublishedCheckpoint(url=f"http://127.0.0.1:{port}/x.tgz", sha256=_SHA256, name="x.ckpt")
    with pytest.raises(DownloadError) as caught:
        fetch(published, Progress())
    assert "refused" in caught.value.why
    assert "name it with --checkpoint" in caught.value.fix
