"""Uploading photographs over HTTP, in good and bad forms."""

from collections.abc import Iterator
import io
import json
from pathlib import Path
import shutil
import socket
import time

from PIL import Image
import anyio
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from hubexport.modules.identity import identify
from hubexport.modules.values import network_values, read_stored_values
from hubexport.networks.numpy_forward import Forward
from hubexport.serve.metrics import Metrics
from hubexport.serve.release_watcher import ReleaseWatcher
from hubexport.serve.served_release import ServedRelease
from hubexport.serve.trial_endpoint import TrialEndpoint
from hubexport.serve.trials import Trials
from hubexport.system.tars import unpack_archive
from tests.serving import Answer, Server, serving

_MODULE = "google/imagenet/small/classification/5"
_ADDRESS = f"/-/try/{_MODULE}"
_LABELS = ["tench", "<b>shark</b>", "hen", "owl", "newt", "crab", "bee"]
_BOUNDARY = "x" * 20
_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"
_HEAD = f"POST {_ADDRESS} HTTP/1.1\r\nHost: a\r\nContent-Type: {_TYPE}\r\n"
_TEXT_PART = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--{_BOUNDARY}--\r\n'


@pytest.fixture(scope="module", name="server")
def _server(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("labels")
    labels = folder / "labels.txt"
    labels.write_text("\n".join(_LABELS) + "\n")
    with serving(small_release, "--enable-try", "--labels", str(labels)) as server:
        yield server


def _picture(size: int = 96) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (size, size, 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).save(written, "PNG")
    return written.getvalue()


def _form(content: bytes, field: str = "image") -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="p.png"\r\n\r\n'
    return head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _upload(server: Server, content: bytes, address: str = _ADDRESS, **headers: str) -> Answer:
    headers = {"content_type": _TYPE, "accept": "application/json"} | headers
    return server.get(address, "POST", body=content, **headers)


def test_the_probabilities_are_those_of_the_network(server, small_release, tmp_path):
    """Which NumPy computes in float64. The picture has the module's size, so it is not resized."""
    unpack_archive(small_release / f"{_MODULE}.tar.gz", tmp_path)
    subject = identify(tmp_path, "5.tar.gz")
    image = np.asarray(Image.open(io.BytesIO(_picture()))) / 255
    values = network_values(subject, read_stored_values(subject))
    [logits] = Forward(subject.network, values, image[np.newaxis]).run()[subject.network.logits]
    exponentials = np.exp(logits)
    expected = exponentials / exponentials.sum()
    answer = _upload(server, _form(_picture()))
    top = json.loads(answer.body)["top"]
    assert answer.status == 200
    assert [score["index"] for score in top] == list(np.argsort(-expected)[:5])
    assert [score["label"] for score in top] == [_LABELS[score["index"]] for score in top]
    np.testing.assert_allclose([score["probability"] for score in top], np.sort(expected)[:-6:-1], atol=1e-5)


def test_browsers_without_scripts_get_a_page(server):
    """In which labels are text, never markup."""
    answer = _upload(server, _form(_picture()), accept="text/html")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    assert sum(label.replace("<b>shark</b>", "&lt;b&gt;shark") in answer.text for label in _LABELS) == 5
    assert "<b>shark" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_an_archive_without_the_listed_digest_classifies_nothing(small_release, tmp_path):
    """It is a sound module, but another one. The person who uploads the photograph sees no path."""
    dist = shutil.copytree(small_release, tmp_path / "dist")
    archive = dist / f"{_MODULE}.tar.gz"
    good = archive.read_bytes()
    archive.write_bytes((dist / "google/imagenet/small/classification/3.tar.gz").read_bytes())
    with serving(dist, "--enable-try") as server:
        refused = _upload(server, _form(_picture()))
        assert refused.status == 500 and "/" not in refused.text
        assert "classification/5.tar.gz has " in server.logged(level="error")["why"]
        archive.write_bytes(good)
        assert _upload(server, _form(_picture())).status == 200


def test_what_an_archive_says_that_changes_meanwhile_is_not_shown(small_release, tmp_path):
    """Nobody knows whether it was read before or after the change."""
    dist = shutil.copytree(small_release, tmp_path / "dist")
    metrics, form = Metrics(), _form(_picture())

    class ChangingTrials(Trials):
        async def classify(self, archive, image):
            archive.write_bytes(b"another")
            return ()

    async def receive() -> Message:
        return {"type": "http.request", "body": form, "more_body": False}

    async def answer() -> Response:
        watcher = ReleaseWatcher(dist, lambda: ServedRelease(dist, url="http://a", can_try=True), metrics)
        endpoint = TrialEndpoint(watcher, dist, ChangingTrials(), metrics, "http://a")
        headers = {"content-type": _TYPE, "content-length": str(len(form)), "accept": "application/json"}
        scope = {"type": "http", "method": "POST", "path_params": {"handle": _MODULE}}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers.items()]
        return await endpoint.answer(Request(scope, receive))

    answered = anyio.run(answer)
    assert answered.status_code == 500
    assert b"not with the image" in answered.body
    assert b'hubexport_trials_total{result="failed"} 1.0' in metrics.text()


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_file_that_is_not_an_image_is_an_error(server, accept):
    """Which says what to do."""
    answer = _upload(server, _form(b"no image at all"), accept=accept)
    assert answer.status == 422
    assert "choose an undamaged JPEG, PNG, WebP, GIF or BMP image" in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("body", "address", "headers", "status"),
    [
        pytest.param(b"", _ADDRESS, {}, 400, id="nothing"),
        pytest.param(_form(b"x", field="other"), _ADDRESS, {}, 400, id="another field"),
        pytest.param(_TEXT_PART.encode(), _ADDRESS, {}, 400, id="no file"),
        pytest.param(_form(b"x")[:-30], _ADDRESS, {}, 400, id="cut"),
        pytest.param(_form(b"x") * 3, _ADDRESS, {"content_type": "multipart/form-data"}, 400, id="no boundary"),
        pytest.param(_form(b"x"), _ADDRESS, {"content_type": "image/png"}, 415, id="no form"),
        pytest.param(_form(b"x"), _ADDRESS, {"sec_fetch_site": "cross-site"}, 403, id="from another site"),
        pytest.param(_form(b"x"), "/-/try/google/imagenet/small/feature_vector/5", {}, 404, id="feature vectors"),
        pytest.param(_form(b"x"), "/-/try/google/imagenet/small/classification/4", {}, 404, id="no module"),
        pytest.param(_form(b"x"), "/-/try/../../etc/passwd", {}, 404, id="no handle"),
        pytest.param(_form(bytes(11 << 20)), _ADDRESS, {}, 413, id="too large"),
        pytest.param(_form(b"x"), _ADDRESS, {"origin": "https://elsewhere.example"}, 403, id="from another origin"),
        pytest.param(_form(b"x"), _ADDRESS, {"origin": "null"}, 403, id="from a frame without an origin"),
        pytest.param(_form(b"x"), _ADDRESS, {"origin": "http://a", "host": "a"}, 422, id="from its own origin"),
        pytest.param(_form(b"x"), _ADDRESS, {"content_type": _TYPE.upper().replace("X", "x")}, 422, id="capitals"),
        pytest.param(_TEXT_PART.encode(), _ADDRESS, {"content_type": f"{_TYPE}; charset=idna"}, 400, id="idna"),
        pytest.param(_TEXT_PART.encode(), _ADDRESS, {"content_type": f"{_TYPE}; charset=undefined"}, 400, id="charset"),
        pytest.param(_form(b"x"), _ADDRESS, {"content_type": f"{_TYPE}; charset=undefined"}, 422, id="file charset"),
        pytest.param(_form(b"x"), _ADDRESS, {"content_type": 'multipart/form-data; boundary="'}, 400, id="quote"),
        pytest.param(_form(b"x"), _ADDRESS, {"content_type": "multipart/form-data; boundary=\xe9"}, 400, id="accent"),
        pytest.param(
            b"".join(_form(b"x")[: -len(_BOUNDARY) - 6] for _ in range(9)) + _form(b"x"), _ADDRESS, {}, 400, id="files"
        ),
    ],
)
def test_bad_forms_are_refused(server, body, address, headers, status):
    """Before anything is computed, and without a traceback. Status 422 says that the form was fine, but the file is
    not an image."""
    assert _upload(server, body, address, **headers).status == status
    assert server.get("/healthz").status == 200
    assert "Traceback" not in server.log_path.read_text()


def test_a_form_needs_a_content_length(server):
    """Or it could go on forever."""
    with server.connection() as connection:
        connection.sendall(f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 411")


@pytest.mark.parametrize("zeros", [12, 5000])
def test_a_large_form_is_refused_however_its_length_is_written(server, zeros):
    """Before a byte of it arrives."""
    with server.connection() as connection:
        connection.settimeout(5)
        connection.sendall(f"{_HEAD}Content-Length: {'0' * zeros}{512 << 20}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("half_close", [True, False])
def test_a_form_that_breaks_off_is_a_bad_request(server, half_close):
    """A client that only stopped sending reads the answer."""
    head = f"{_HEAD}User-Agent: breaks off {half_close}\r\nContent-Length: 100000\r\n\r\n--{_BOUNDARY}\r\n"
    with server.connection() as connection:
        connection.sendall(head.encode())
        time.sleep(0.1)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
    assert server.logged(event="request", agent=f"breaks off {half_close}")["status"] == 400
    assert "Traceback" not in server.log_path.read_text()


@pytest.mark.slow
def test_an_unfinished_form_is_refused(server):
    """After half a minute, which is enough for ten megabytes."""
    begin = time.monotonic()
    with server.connection() as connection:
        connection.settimeout(45)
        connection.sendall(f"{_HEAD}Content-Length: 100000\r\n\r\n--{_BOUNDARY}\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert 25 < time.monotonic() - begin < 40


@pytest.mark.slow
def test_too_many_forms_at_once_are_refused(server):
    """Slow uploads count, too."""
    slow: list[socket.socket] = []
    try:
        for _ in range(16):
            connection = server.connection()
            connection.sendall(f"{_HEAD}Content-Length: 100000\r\n\r\n--{_BOUNDARY}\r\n".encode())
            slow.append(connection)
        time.sleep(0.5)
        answer = _upload(server, _form(_picture()))
        assert answer.status == 503 and int(answer.headers["retry-after"]) > 0
    finally:
        for connection in slow:
            connection.close()
    deadline = time.monotonic() + 10
    while _upload(server, _form(_picture())).status != 200:
        assert time.monotonic() < deadline


def test_the_public_address_is_an_origin_of_its_own(small_release):
    """Behind a proxy that names the server by another one."""
    with serving(small_release, "--enable-try", "--url", "https://Models.Example:443/hub") as server:
        for origin, status in (
            ("https://models.example", 422),
            ("https://models.example:8443", 403),
            ("https://elsewhere.example", 403),
        ):
            assert _upload(server, _form(b"no image"), origin=origin).status == status, origin


def test_trying_modules_must_be_enabled(small_release):
    """It is disabled by default."""
    with serving(small_release) as server:
        assert _upload(server, _form(_picture())).status == 405
        assert "/-/try/" not in server.get(f"/{_MODULE}").text


def test_pages_of_classification_modules_have_a_form(server):
    """Other pages have none."""
    assert f'action="{_ADDRESS}"' in server.get(f"/{_MODULE}").text
    assert (
        'action="/-/try/google/imagenet/small/feature_vector/5"'
        not in server.get("/google/imagenet/small/feature_vector/5").text
    )


def test_photographs_are_counted(server):
    """By result."""
    _upload(server, _form(b"no image"))
    assert 'hubexport_trials_total{result="refused"}' in server.get("/metrics").text
