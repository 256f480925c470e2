"""The server's responses, according to RFC 9110 and the protocol of TensorFlow Hub."""

import base64
from collections.abc import Iterator
import gzip
import hashlib
from pathlib import Path

import pytest

from tests.serving import Server, serving

VECTOR = "/google/imagenet/small/feature_vector"
CLASSES = "/google/imagenet/small/classification"
BUCKET = "gs://models.example/hub"


@pytest.fixture(scope="module", name="server")
def _server(small_release: Path) -> Iterator[Server]:
    with serving(small_release, "--bucket", BUCKET, "--url", "https://models.example/hub") as server:
        yield server


@pytest.fixture(name="archive")
def _archive(small_release: Path) -> bytes:
    return (small_release / f"{VECTOR[1:]}/2.tar.gz").read_bytes()


def test_programs_get_the_archive_at_the_handle(server, archive):
    """With the query that tensorflow_hub sends."""
    answer = server.get(f"{VECTOR}/2?tf-hub-format=compressed")
    digest = hashlib.sha256(archive)
    assert (answer.status, answer.body) == (200, archive)
    assert answer.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(archive))
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-disposition"] == 'attachment; filename="small-feature_vector-2.tar.gz"'


def test_people_get_a_page_at_the_same_address(server):
    """Without that query."""
    answer = server.get(f"{VECTOR}/2", accept="text/html")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<!doctype html>" in answer.text.casefold()[:20]
    assert "google/imagenet/small/feature_vector/2" in answer.text


def test_every_listed_file_is_served_unchanged(server, small_release):
    """The index, the digests, and all files that they list."""
    names = [line.partition("  ")[2] for line in (small_release / "SHA256SUMS").read_text().splitlines()]
    assert len(names) == 5 * 6 + 2
    for name in [*names, "index.json", "SHA256SUMS"]:
        answer = server.get(f"/{name}")
        assert (answer.status, answer.body) == (200, (small_release / name).read_bytes()), name


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".md", "text/markdown; charset=utf-8"),
        (".card.md", "text/markdown; charset=utf-8"),
        (".verify.json", "application/json"),
        (".json", "application/json"),
    ],
)
def test_files_have_media_types(server, suffix, kind):
    """And browsers must not guess others."""
    answer = server.get(f"{VECTOR}/2{suffix}")
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("requested", "start", "stop"),
    [
        ("0-0", 0, 1),
        ("10-19", 10, 20),
        ("100-", 100, None),
        ("-7", -7, None),
        ("5-99999999999", 5, None),
        ("-99999999999", None, None),
    ],
)
def test_ranges_of_archives(server, archive, requested, start, stop):
    """For downloads that resume."""
    answer = server.get(f"{VECTOR}/2.tar.gz", range=f"bytes={requested}")
    begin, end, _ = slice(start, stop).indices(len(archive))
    assert (answer.status, answer.body) == (206, archive[begin:end])
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(archive)}"
    assert answer.headers["content-length"] == str(end - begin)


@pytest.mark.parametrize("requested", ["bytes=5-2", "bytes=a-b", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes 0-5"])
def test_invalid_ranges_get_the_whole_file(server, archive, requested):
    """RFC 9110 lets a server ignore them, and several ranges at once."""
    answer = server.get(f"{VECTOR}/2.tar.gz", range=requested)
    assert (answer.status, answer.body) == (200, archive)


@pytest.mark.parametrize("requested", ["bytes=99999999999-", "bytes=-0"])
def test_ranges_outside_the_file(server, archive, requested):
    """The response says how long the file is."""
    answer = server.get(f"{VECTOR}/2.tar.gz", range=requested)
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{len(archive)}")


def test_a_range_of_a_changed_file_gets_the_whole_file(server, archive):
    """If-Range: a client must not combine parts of two files."""
    etag = f'"{hashlib.sha256(archive).hexdigest()}"'
    assert server.get(f"{VECTOR}/2.tar.gz", range="bytes=5-9", if_range=etag).body == archive[5:10]
    assert server.get(f"{VECTOR}/2.tar.gz", range="bytes=5-9", if_range='"other"').body == archive


@pytest.mark.parametrize("path", ["/", f"{VECTOR}/2", f"{VECTOR}/2.tar.gz", f"{VECTOR}/2.md", "/index.json", "/google"])
def test_what_a_client_already_has_is_not_sent_again(server, path):
    """Each encoding has its own entity tag."""
    for encoding in ("identity", "gzip"):
        first = server.get(path, accept_encoding=encoding)
        tags = f'W/"else", {first.headers["etag"]}'
        again = server.get(path, accept_encoding=encoding, if_none_match=tags)
        assert (first.status, again.status, again.body) == (200, 304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert server.get(path, accept_encoding=encoding, if_none_match='"other"').status == 200


@pytest.mark.parametrize("path", ["/", f"{VECTOR}/2", f"{VECTOR}/2?tf-hub-format=compressed", f"{VECTOR}", "/nothing"])
def test_head_is_get_without_a_body(server, path):
    """The same status and headers."""
    head, get = server.get(path, "HEAD"), server.get(path)
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}
    assert (head.status, head.body) == (get.status, b"")


def test_pages_are_compressed_for_clients_that_accept_it(server):
    """With an entity tag of their own."""
    plain = server.get("/")
    compressed = server.get("/", accept_encoding="gzip, br")
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.body) == plain.body
    assert compressed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert compressed.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip ; Q=0.000", False),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("*;q=0, gzip", True),
        ("identity", False),
        ("", False),
        ("notgzip", False),
        ("gzip;q=x", False),
    ],
)
def test_pages_are_compressed_only_if_clients_accept_it(server, accepted, compressed):
    """As RFC 9110 defines Accept-Encoding."""
    answer = server.get("/", accept_encoding=accepted)
    assert (answer.headers.get("content-encoding") == "gzip") == compressed


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param("GET /healthz HTTP/1.1\r\n", 400, id="no host"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, id="two hosts"),
        pytest.param("GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400, id="two hosts in an old request"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost: a b\r\n", 400, id="no name"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost: a/b@c\r\n", 400, id="an address"),
        pytest.param("GET /healthz HTTP/1.0\r\n", 200, id="an old request"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost:\r\n", 200, id="empty host"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost: [::1]:8500\r\n", 200, id="a number"),
        pytest.param("GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n", 411, id="a chunked body"),
    ],
)
def test_requests_name_one_host(server, head, status):
    """RFC 9112 asks servers to refuse others."""
    answer = server.exchange(f"{head}Connection: close\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize("requests", [1, 3])
def test_a_client_that_stops_sending_gets_its_answers(server, archive, requests):
    """It has closed its half of the connection."""
    request = f"GET {VECTOR}/2.tar.gz HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    answer = server.exchange(request * requests, half_close=True)
    assert answer.count(archive) == requests


def test_a_bad_request_does_not_mix_with_the_answer_before_it(server, archive):
    """Or its client would take the error for a part of the archive."""
    request = f"GET {VECTOR}/2.tar.gz HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    head, _, rest = server.exchange(request + b"nonsense\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest[: len(archive)] == archive and rest[len(archive) :].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        (VECTOR, f"{VECTOR}/5"),
        (f"{VECTOR}?tf-hub-format=compressed", f"{VECTOR}/5?tf-hub-format=compressed"),
        (f"{VECTOR}?format=hub&tf-hub-format=compressed", f"{VECTOR}/2?tf-hub-format=compressed"),
        (f"{CLASSES}?format=saved_model_2", f"{CLASSES}/5"),
        (f"{VECTOR}/2/?tf-hub-format=compressed", f"{VECTOR}/2?tf-hub-format=compressed"),
        ("/google/imagenet/small", "/?q=google%2Fimagenet%2Fsmall%2F"),
        ("/google/imagenet/", "/?q=google%2Fimagenet%2F"),
        ("/google/", "/google"),
    ],
)
def test_redirects(server, target, location):
    """They include the path of the public address, which the proxy in front of the server removes from requests."""
    answer = server.get(target)
    assert answer.status in (301, 302)
    assert answer.headers["location"] == f"/hub{location}"


def test_unpacked_modules_are_in_the_bucket(server):
    """tensorflow_hub takes the whole body as the address."""
    answer = server.get(f"{VECTOR}/2?tf-hub-format=uncompressed")
    assert (answer.status, answer.text) == (303, f"{BUCKET}{VECTOR}/2")
    assert answer.headers["location"] == answer.text


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        (f"{VECTOR}/2?tf-hub-format=zip", 400, "compressed or uncompressed"),
        (f"{VECTOR}/2?tfjs-format=file", 404, "not available for TensorFlow.js"),
        (f"{VECTOR}/2?lite-format=tflite", 404, "not available for TensorFlow Lite"),
        (f"{VECTOR}/3?tf-hub-format=compressed", 404, "has no version 3 here. Available versions: 5, 2, 1"),
        (f"{VECTOR}?format=zip", 400, "hub or saved_model_2"),
        ("/google/imagenet/other/feature_vector/2?tf-hub-format=compressed", 404, "Nothing with this name"),
    ],
)
def test_errors_explain_themselves(server, target, status, words):
    """To programs in a line of text, to people on a page."""
    line, page = server.get(target), server.get(target, accept="text/html,*/*")
    assert (line.status, page.status) == (status, status)
    assert words in line.text and line.headers["content-type"].startswith("text/plain")
    assert words in page.text and page.headers["content-type"].startswith("text/html")
    assert line.headers["cache-control"] == page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    "path", ["/", f"{VECTOR}/2", f"{VECTOR}/2.tar.gz", "/-/try/google/imagenet/small/classification/5"]
)
def test_other_methods_are_not_allowed(server, method, path):
    """Nor is POST for trying modules, unless that is enabled."""
    answer = server.get(path, method)
    assert answer.status == 405
    assert sorted(answer.headers["allow"].replace(" ", "").split(",")) == ["GET", "HEAD"]


def test_assets_may_be_cached_forever(server):
    """A changed asset gets another name."""
    page = server.get("/").text
    names = {word for word in page.split('"') if word.startswith("/hub/-/")}
    assert {Path(name).suffix for name in names} >= {".css", ".js"}
    for name in names:
        answer = server.get(name.removeprefix("/hub"))
        assert answer.status == 200 and "immutable" in answer.headers["cache-control"], name
    assert server.get("/-/nothing.css").status == 404


def test_health_and_metrics(server):
    """Only complete downloads count as downloads."""
    assert server.get("/healthz").text == "ok\n"
    before = _metric(server, 'hubexport_downloads_total{handle="google/imagenet/small/classification/3"}')
    server.get(f"{CLASSES}/3?tf-hub-format=compressed")
    server.get(f"{CLASSES}/3?tf-hub-format=compressed", "HEAD")
    server.get(f"{CLASSES}/3?tf-hub-format=compressed", range="bytes=0-4")
    after = _metric(server, 'hubexport_downloads_total{handle="google/imagenet/small/classification/3"}')
    assert after - before == 1
    assert _metric(server, "hubexport_modules") == 5
    assert _metric(server, 'hubexport_requests_total{method="HEAD",status="200",what="archive"}') >= 1


def _metric(server: Server, name: str) -> float:
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rpartition(" ")[2])
    return 0


def test_each_request_is_one_line_in_the_log(server):
    """JSON, in which clients cannot forge another line."""
    server.get("/nothing?a=%0A{}", user_agent='x"} \\n')
    line = server.logged(event="request", path="/nothing", query="a=%0A{}", status=404)
    assert line["agent"] == 'x"} \\n'
    assert line["client"] == "127.0.0.1"
    assert line["bytes"] == len(server.get("/nothing").body)


@pytest.mark.parametrize("path", ["/", f"{VECTOR}/2", f"{VECTOR}/2.md", "/nothing", "/healthz", f"{VECTOR}/2.tar.gz"])
def test_every_response_has_security_headers(server, path):
    """No foreign code, no frames, no guessed media types."""
    headers = server.get(path, accept="text/html").headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers
