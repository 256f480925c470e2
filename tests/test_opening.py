"""Modules opened from directories, archives and servers, and the errors where there is none."""

import gzip
from pathlib import Path
import socket
import tempfile

import pytest

from hubexport import ModuleSpec, build_modules
from hubexport.config_files import load_variant
from hubexport.description import describe
from hubexport.errors import ModuleError, TemporaryFileError
from hubexport.modules.opening import opened_module_directory
from hubexport.progress import Progress
from hubexport.system import http_download
from tests.archives import CONTENT, member, tgz
from tests.servers import answer, running_server

_FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/labels.txt": b"one\ntwo\n"}
_PACKED = tgz(*(member(f"./{name}", content) for name, content in _FILES.items()))


class _Ear(Progress):
    def __init__(self):
        self.heard = []

    def step(self, message):
        self.heard.append(message)

    def advance(self, done, total):
        self.heard.append((done, total))


@pytest.fixture
def server():
    """A server that has the packed module."""
    with running_server() as running:
        running.acts = [answer(200, _PACKED, Content_Type="application/x-gzip")]
        yield running


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def _read(directory):
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def _opened(text, progress=None):
    with opened_module_directory(str(text), progress or Progress()) as opened:
        return _read(opened.directory), str(opened.shown_as)


def _refusal(text):
    with pytest.raises(ModuleError) as raised:
        _opened(text)
    return raised.value


def test_a_directory_is_opened_where_it_is(tmp_path):
    """It is not copied."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"graph")
    with opened_module_directory(str(tmp_path / "m"), Progress()) as opened:
        assert opened.directory == opened.shown_as == tmp_path / "m"


@pytest.mark.parametrize("folder", ["", "./", "module/", "a/b/"])
def test_an_archive_is_unpacked_while_it_is_open(tmp_path, temporary, folder):
    """The name of the archive and the folder of the module inside do not matter."""
    packed = tgz(*(member(folder + name, content) for name, content in _FILES.items()))
    (tmp_path / "packed").write_bytes(packed)
    assert _opened(tmp_path / "packed") == (_FILES, str(tmp_path / "packed"))
    assert list(temporary.iterdir()) == []


def test_a_hub_server_is_asked_for_the_compressed_module(server, temporary):
    """The request is tensorflow_hub's, and keeps the query of the address."""
    ear = _Ear()
    url = f"{server.address}/google/imagenet/net/classification/3"
    assert _opened(url, ear) == (_FILES, url)
    _opened(f"{url}?key=1")
    asked = [request.path.partition("?")[2] for request in server.requests]
    assert asked == ["tf-hub-format=compressed", "key=1&tf-hub-format=compressed"]
    assert ear.heard == [f"downloading {url}", (len(_PACKED), len(_PACKED))]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["net.tar.gz", "net.TGZ", "net.tgz?key=1"])
def test_the_address_of_an_archive_is_requested_unchanged(server, name):
    """Its suffix shows that it is one."""
    assert _opened(f"{server.address}/{name}")[0] == _FILES
    assert [request.path for request in server.requests] == [f"/{name}"]


def test_redirections_are_followed(server):
    """Hub servers redirect to where the archive is stored."""
    server.acts = [answer(302, Location=f"{server.address}/storage/net.tar.gz"), *server.acts]
    assert _opened(f"{server.address}/net/3")[0] == _FILES


def test_an_archive_is_not_unzipped_on_the_way(server):
    """Many servers send a Content-Encoding that would have it unzipped."""
    server.acts = [answer(200, _PACKED, Content_Encoding="gzip", Content_Type="application/x-tar")]
    assert _opened(f"{server.address}/net/3")[0] == _FILES


def test_passwords_are_not_shown(server):
    """Neither in progress nor in errors."""
    url = server.address.replace("//", "//me:secret@")
    ear = _Ear()
    assert _opened(f"{url}/net/3", ear)[1] == f"{server.address}/net/3"
    server.acts = [answer(404)]
    assert "secret" not in f"{ear.heard} {_refusal(f'{url}/net/3')} {_refusal('http://me:secret@')}"


_NO_TAR = gzip.compress(b"no tar", mtime=0)


@pytest.mark.parametrize(
    ("act", "what", "why"),
    [
        pytest.param(answer(404), "there is no module at", "answered 404 Not Found", id="404"),
        pytest.param(answer(403), "cannot download", "answered 403 Forbidden", id="403"),
        pytest.param(answer(503), "cannot download", "answered 503", id="503"),
        pytest.param(
            answer(200, b"<html>", Content_Type="text/html"), "is not a packed module", "sent text/html", id="HTML"
        ),
        pytest.param(answer(200, b""), "is not a packed module", "sent nothing", id="nothing"),
        pytest.param(
            answer(200, _PACKED, Content_Length=5 << 30), "is not a packed module", "larger than 4 GiB", id="huge"
        ),
        pytest.param(
            answer(200, _PACKED, Content_Length=len(_PACKED) + 1), "cannot download", "", id="connection-breaks"
        ),
        pytest.param(answer(200, _PACKED[:-20]), "cannot unpack", "damaged", id="truncated"),
        pytest.param(answer(200, _NO_TAR), "cannot unpack", "damaged", id="no-tar"),
        pytest.param(answer(302, Location="file:///etc/passwd"), "cannot download", "file", id="file"),
        pytest.param(answer(302, Location="/"), "cannot download", "redirects", id="circle"),
    ],
)
def test_other_answers_than_a_module_are_refused(server, temporary, act, what, why):
    """The error names the address, and nothing is left behind."""
    server.acts = [act]
    error = _refusal(f"{server.address}/net/3")
    assert what in error.what and f"{server.address}/net/3" in error.what
    assert why in error.why and str(temporary) not in str(error)
    assert list(temporary.iterdir()) == []


def test_endless_content_is_refused(server, temporary, monkeypatch):
    """Also if the server does not announce its length."""
    monkeypatch.setattr(http_download, "_MAX_BYTES", 100)

    def act(handler):
        handler.head(200)
        handler.body(_PACKED)

    server.acts = [act]
    assert "larger" in _refusal(f"{server.address}/net/3").why


def test_addresses_where_nobody_answers_are_refused():
    """The port is bound, so no other server can start to listen there meanwhile."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net"
        error = _refusal(url)
    assert error.what == f"cannot download module {url}" and error.why


@pytest.mark.parametrize("url", ["http://", "https://[", "http://a..b/net", "HTTP://\u00ad/"])
def test_malformed_addresses_are_refused(url):
    """Whichever library notices."""
    error = _refusal(url)
    assert error.what == f"cannot download module {url}" and error.why


@pytest.mark.parametrize(
    ("content", "what", "why"),
    [
        pytest.param(None, "is not a module", "no such file", id="nothing"),
        pytest.param(b"text", "is not a module", "neither a directory", id="text"),
        pytest.param(tgz(member("model.ckpt.index")), "does not hold exactly one module", "in 0", id="checkpoint"),
        pytest.param(
            tgz(member("b/saved_model.pb"), member("a/saved_model.pb")),
            "does not hold exactly one module",
            "in 2 of its folders: a, b",
            id="two",
        ),
        pytest.param(_PACKED[:-20], "cannot unpack", "damaged", id="damaged"),
        pytest.param(tgz(member("../saved_model.pb")), "cannot unpack", "points outside", id="hostile"),
    ],
)
def test_paths_that_hold_no_module_are_refused(tmp_path, temporary, content, what, why):
    """The error names the path, and nothing is left behind."""
    if content is not None:
        (tmp_path / "given").write_bytes(content)
    error = _refusal(tmp_path / "given")
    assert what in error.what and f"{tmp_path}/given" in error.what
    assert why in error.why
    assert list(temporary.iterdir()) == []


def test_a_directory_without_a_module_is_refused(tmp_path):
    """The error says what is missing."""
    assert "neither a directory with saved_model.pb" in _refusal(tmp_path).why


def test_errors_inside_the_context_pass_through(tmp_path, temporary):
    """They are not reported as failures to open the module, and the copy is removed all the same."""
    (tmp_path / "packed").write_bytes(_PACKED)
    with pytest.raises(OSError, match="^mine$"):
        with opened_module_directory(str(tmp_path / "packed"), Progress()):
            raise OSError("mine")
    assert list(temporary.iterdir()) == []


def test_lack_of_room_to_unpack_is_reported(tmp_path, monkeypatch):
    """The error says what to do about it."""
    (tmp_path / "packed").write_bytes(_PACKED)
    (tmp_path / "file").write_bytes(CONTENT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(TemporaryFileError) as caught:
        _opened(tmp_path / "packed")
    assert "TMPDIR" in caught.value.fix


def test_inspect_describes_a_module_on_a_server(tmp_path, server):
    """The report is that of the directory, except for the path."""
    [built] = build_modules(
        load_variant("mobilenet_v2_035_96"),
        [ModuleSpec.parse("feature_vector/3")],
        checkpoint="synthetic:1",
        output_dir=tmp_path,
    )
    server.acts = [answer(200, tgz(*(member(name, content) for name, content in _read(built).items())))]
    url = f"{server.address}/net/3"
    assert describe(url).as_json() == {**describe(str(built)).as_json(), "path": url}
