"""Sites on static hosts: nginx and a CDN's worker speak the hosting protocol, and tensorflow_hub loads modules."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.client
import http.server
import json
from pathlib import Path
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest

from hubexport.site.http_headers import SECURITY
from hubexport.site.static_site import write_site
from tests.command import environment
from tests.data import REPOSITORY

_HOSTING = REPOSITORY / "scripts/hosting"
_BUCKET = "gs://models.example/hub"
_VECTOR = "google/imagenet/small/feature_vector"
_CLASSES = "google/imagenet/small/classification"
_BYTES = "application/octet-stream"
# On Debian, it is not on every user's path.
_NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
_NODE = shutil.which("node")
_SECONDS = 20

# Debian's settings around it, for users who may not write to /var or listen on port 80.
_AROUND = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    types_hash_max_size 2048;
    include {mime_types};
    gzip on;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include hub.conf;
}}
"""

# Serves the worker with Node. ASSETS come from another server.
_AROUND_WORKER = """\
import { createServer } from "node:http";
import { Readable } from "node:stream";
import worker from "./worker.mjs";

const [files, root, bucket] = process.argv.slice(2);
const assets = (request) => {
  const { pathname } = new URL(request.url);
  return fetch(files + pathname, { method: request.method, headers: request.headers, redirect: "manual" });
};
const env = { ASSETS: { fetch: assets }, ROOT: root, BUCKET: bucket };

const server = createServer(async (asked, answer) => {
  const headers = Object.entries(asked.headers).filter(([name]) => name !== "connection");
  const request = new Request(`http://${asked.headers.host}${asked.url}`, { method: asked.method, headers });
  const { status, headers: told, body } = await worker.fetch(request, env);
  answer.writeHead(status, Object.fromEntries(told));
  body ? Readable.fromWeb(body).pipe(answer) : answer.end();
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


@dataclasses.dataclass
class Answer:
    """A response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclasses.dataclass
class Host:
    """A host that serves a site.

    Attributes:
        port: its port on this machine.
        root: the path that its addresses begin with.
        site: the site's folder.
        log: the server's error log.
    """

    port: int
    root: str
    site: Path
    log: Path

    @property
    def url(self) -> str:
        """The address that handles are appended to."""
        return f"http://127.0.0.1:{self.port}{self.root}"

    def get(self, target: str, method: str = "GET", **headers: str) -> Answer:
        """Requests a target below the root, without following redirects."""
        return ask(self.port, f"{self.root}{target}", method, **headers)


def ask(port: int, target: str, method: str = "GET", **headers: str) -> Answer:
    """Requests a target exactly as given; `_` in names of headers means `-`."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as connection:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    with process:
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def _nginx(site: Path, root: str, folder: Path, bucket: str = _BUCKET) -> Iterator[Host]:
    """Starts nginx with the example's settings, changed where the example says so."""
    if not _NGINX:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    changes = {
        'default ""; # CHANGE: the path': f'default "{root}"; # the path',
        "listen 80;": f"listen 127.0.0.1:{port};",
        "include /srv/hub/hub.map;": f"include {site}/hub.map;",
        "include /srv/hub/models.map;": f"include {site}/models.map;",
        "root /srv/hub;": f"root {str(site).removesuffix(root)};",
        'default ""; # CHANGE: like gs://': f'default "{bucket}"; # gs://',
    }
    settings = (_HOSTING / "nginx.conf").read_text()
    for old, new in changes.items():
        assert settings.count(old) == 1, old
        settings = settings.replace(old, new)
    (folder / "hub.conf").write_text(settings)
    (folder / "mime.types").write_text("types { text/html html htm; application/octet-stream gz; }")
    (folder / "nginx.conf").write_text(_AROUND.format(mime_types=folder / "mime.types"))
    command = [_NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    process = subprocess.Popen(command, text=True)
    with _ended(process):
        while process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.02)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield Host(port, root, site, folder / "error.log")
        assert not (folder / "error.log").read_text()


@contextlib.contextmanager
def _files(folder: Path) -> Iterator[int]:
    """Starts a plain file server, and yields its port."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _worker(site: Path, root: str, folder: Path, bucket: str = _BUCKET) -> Iterator[Host]:
    if not _NODE:
        pytest.skip("node is not installed")
    shutil.copy(_HOSTING / "worker.js", folder / "worker.mjs")
    (folder / "server.mjs").write_text(_AROUND_WORKER)
    with _files(Path(str(site).removesuffix(root))) as port:
        command = [_NODE, str(folder / "server.mjs"), f"http://127.0.0.1:{port}", root, bucket]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with _ended(process):
            assert process.stdout
            yield Host(int(process.stdout.readline()), root, site, folder / "error.log")


_HOSTS: Mapping[str, Callable[..., contextlib.AbstractContextManager[Host]]] = {"nginx": _nginx, "worker": _worker}


@pytest.fixture(name="sites", scope="module")
def _sites(deployed_release, tmp_path_factory) -> Mapping[str, Path]:
    """Two sites of one release, by their root path."""
    folder = tmp_path_factory.mktemp("sites")
    sites = {"": folder / "hub", "/models": folder / "below/models"}
    for root, site in sites.items():
        write_site(deployed_release, site, f"http://127.0.0.1{root}")
    return sites


@pytest.fixture(name="host", scope="module", params=[(name, root) for name in _HOSTS for root in ("", "/models")])
def _host(request, sites, tmp_path_factory) -> Iterator[Host]:
    name, root = request.param
    with _HOSTS[name](sites[root], root, tmp_path_factory.mktemp(name)) as host:
        yield host


@pytest.fixture(name="nginx", scope="module")
def _nginx_alone(sites, tmp_path_factory) -> Iterator[Host]:
    with _nginx(sites[""], "", tmp_path_factory.mktemp("nginx")) as host:
        yield host


@pytest.fixture(name="worker", scope="module")
def _worker_alone(sites, tmp_path_factory) -> Iterator[Host]:
    with _worker(sites[""], "", tmp_path_factory.mktemp("worker")) as host:
        yield host


@pytest.mark.parametrize(
    "target",
    [
        f"/{_VECTOR}/2?tf-hub-format=compressed",
        f"/{_VECTOR}/2/?tf-hub-format=compressed",
        f"/{_VECTOR}/2?a=b&tf-hub-format=compressed",
        f"/{_VECTOR}/2.tar.gz?tf-hub-format=compressed",
        f"/{_VECTOR}/2.tar.gz",
    ],
)
def test_programs_get_the_archive(host, small_release, target):
    """With the bytes that the release lists, without any encoding, although the client accepts gzip."""
    answer = host.get(target, accept_encoding="gzip")
    assert answer.status == 200
    assert answer.body == (small_release / f"{_VECTOR}/2.tar.gz").read_bytes()
    assert "content-encoding" not in answer.headers
    if "tf-hub-format" in target and ".tar.gz" not in target:
        assert answer.headers["content-type"] == "application/gzip"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("target", "file", "media_type"),
    [
        (f"{_CLASSES}/5/model.json?tfjs-format=file", "tfjs/model.json", "application/json"),
        (f"{_CLASSES}/5/group1-shard2of2.bin?tfjs-format=file", "tfjs/group1-shard2of2.bin", _BYTES),
        (
            f"deployments/{_CLASSES}/5/tfjs-float16/model.json?tfjs-format=file",
            "tfjs-float16/model.json",
            "application/json",
        ),
        (f"{_CLASSES}/5?lite-format=tflite", "tflite-float16/model.tflite", _BYTES),
        (f"{_CLASSES}/5/?a=b&lite-format=tflite", "tflite-float16/model.tflite", _BYTES),
        (f"deployments/{_CLASSES}/5/tflite-dynamic?lite-format=tflite", "tflite-dynamic/model.tflite", _BYTES),
    ],
)
def test_programs_get_models_where_tfhub_dev_had_them(host, deployed_release, target, file, media_type):
    """The most precise one of the module, or the one that they name; and pages of other sites may load them."""
    answer = host.get(f"/{target}", origin="https://elsewhere.example")
    assert (answer.status, answer.body) == (200, (deployed_release / f"deployments/{_CLASSES}/5/{file}").read_bytes())
    assert answer.headers["content-type"] == media_type
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        f"{_CLASSES}/3?lite-format=tflite",
        f"{_CLASSES}/3/model.json?tfjs-format=file",
        f"{_CLASSES}/5/group1-shard3of2.bin?tfjs-format=file",
        f"{_CLASSES}/5/tfjs/model.json?tfjs-format=file",
        f"deployments/{_CLASSES}/5/tfjs?lite-format=tflite",
    ],
)
def test_programs_get_404_without_a_model(host, target):
    """Not another module's, and no page."""
    assert host.get(f"/{target}").status == 404


def test_a_handle_without_a_version_leads_to_the_newest_model(host):
    """The redirect keeps the query."""
    answer = host.get(f"/{_CLASSES}?lite-format=tflite")
    location = answer.headers["location"].removeprefix(f"http://127.0.0.1:{host.port}")
    assert (answer.status, location) == (302, f"{host.root}/{_CLASSES}/5?lite-format=tflite")


@pytest.mark.parametrize("file", ["onnx/model.onnx", "tfjs/model.json", "tflite-dynamic/model.tflite"])
def test_nginx_opens_models_to_pages_of_other_sites(nginx, file):
    """At their own addresses, too. Nothing else is open."""
    answer = nginx.get(f"/deployments/{_CLASSES}/5/{file}")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert "immutable" in answer.headers["cache-control"]
    for path in ("", "index.json", f"deployments/{_CLASSES}/5/onnx/", f"{_CLASSES}/5.json", f"{_CLASSES}/5.tar.gz"):
        assert "access-control-allow-origin" not in nginx.get(f"/{path}").headers


def test_head_describes_the_archive(host, small_release):
    """HEAD sends no body."""
    answer = host.get(f"/{_VECTOR}/2?tf-hub-format=compressed", "HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == (small_release / f"{_VECTOR}/2.tar.gz").stat().st_size


@pytest.mark.parametrize("slash", ["", "/"])
def test_programs_learn_where_the_unpacked_module_is(host, slash):
    """By status 303 and a body that is the address and nothing else."""
    answer = host.get(f"/{_VECTOR}/2{slash}?tf-hub-format=uncompressed")
    assert (answer.status, answer.body.decode()) == (303, f"{_BUCKET}/{_VECTOR}/2")
    assert answer.headers["location"] == f"{_BUCKET}/{_VECTOR}/2"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("handle", "query", "newest"),
    [
        (_VECTOR, "", 5),
        (_VECTOR, "?tf-hub-format=compressed", 5),
        (_VECTOR, "?format=hub&tf-hub-format=compressed", 2),
        (_CLASSES, "?tf-hub-format=uncompressed&format=hub", 3),
        (_CLASSES, "?format=saved_model_2&x=%20%2F", 5),
        (f"{_CLASSES}/", "?a", 5),
    ],
)
def test_a_handle_without_a_version_leads_to_the_newest(host, handle, query, newest):
    """In the requested format; the redirect keeps the query."""
    answer = host.get(f"/{handle}{query}")
    assert answer.status == 302
    location = answer.headers["location"].removeprefix(f"http://127.0.0.1:{host.port}")
    assert location == f"{host.root}/{handle.rstrip('/')}/{newest}{query}"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("wanted", ["compressed", "uncompressed"])
@pytest.mark.parametrize(
    "path",
    [f"/{_VECTOR}/4", f"/{_VECTOR}/2/2", "/google", "/", "/hub.json", "/__proto__/2", "/x%0d%0aA:b", "/%ff", "//"],
)
def test_programs_get_404_without_a_module(host, path, wanted):
    """Whichever way they ask. No request can inject a header into the response."""
    answer = host.get(f"{path}?tf-hub-format={wanted}")
    assert answer.status == 404
    assert "location" not in answer.headers and "a" not in answer.headers
    assert "immutable" not in answer.headers.get("cache-control", "")


def test_an_unknown_format_has_no_newest_version(host):
    """Nor does a module that does not have the format."""
    assert host.get(f"/{_VECTOR}?format=tflite").status == 404
    assert host.get(f"/{_VECTOR}?format=constructor").status == 404


@pytest.mark.parametrize("path", [f"{_VECTOR}/2", f"{_CLASSES}/5", "google"])
def test_nginx_adds_the_slash_that_links_on_pages_need(nginx, path):
    """They lead from folder to folder. Only a folder with a page gets it."""
    answer = nginx.get(f"/{path}?a=b")
    assert (answer.status, answer.headers["location"]) == (301, f"/{path}/?a=b")
    assert nginx.get("/google/imagenet").status == nginx.get("/google/imagenet/").status == 404


@pytest.mark.parametrize("path", ["", f"{_VECTOR}/2/", f"{_CLASSES}/5/", "google/"])
def test_people_get_pages(host, path):
    """Even where programs get modules. Other parameters change nothing."""
    answer = host.get(f"/{path}?tf-hub-formats=compressed")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body == (host.site / path / "index.html").read_bytes()


@pytest.mark.parametrize("path", [f"{_VECTOR}/2.md", f"{_VECTOR}/2.json", "index.json", "SHA256SUMS"])
def test_the_releases_files_are_there(host, path):
    """Unchanged."""
    answer = host.get(f"/{path}")
    assert (answer.status, answer.body) == (200, (host.site / path).read_bytes())


def test_without_a_bucket_nothing_is_unpacked(sites, tmp_path):
    """Nobody is redirected."""
    for name, start in _HOSTS.items():
        (tmp_path / name).mkdir()
        with start(sites[""], "", tmp_path / name, bucket="") as host:
            assert host.get(f"/{_VECTOR}/2?tf-hub-format=uncompressed").status == 404
            assert host.get(f"/{_VECTOR}/2?tf-hub-format=compressed").status == 200


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/nothing", 404), (f"/{_VECTOR}/2.tar.gz", 200), (f"/{_VECTOR}", 302)]
)
def test_nginx_sends_the_policy_with_everything(nginx, path, status):
    """The same policy as from `hubexport serve`."""
    answer = nginx.get(path)
    assert answer.status == status
    assert {name: answer.headers[name] for name in SECURITY} == SECURITY


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        (f"/{_VECTOR}/2/", "text/html; charset=utf-8"),
        (f"/{_VECTOR}/2.md", "text/markdown; charset=utf-8"),
        ("/index.json", "application/json"),
        ("/SHA256SUMS", "text/plain; charset=utf-8"),
    ],
)
def test_nginx_compresses_texts(nginx, path, media_type):
    """For clients that accept gzip. Clients must revalidate them."""
    packed = nginx.get(path, accept_encoding="gzip")
    assert (packed.status, packed.headers["content-type"]) == (200, media_type)
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == nginx.get(path).body
    assert packed.headers["cache-control"] == "no-cache"
    assert nginx.get(path, if_none_match=nginx.get(path).headers["etag"]).status == 304


def test_nginx_lets_browsers_cache_assets(nginx):
    """Their names change with their content."""
    [style] = [path for path in (nginx.site / "-").iterdir() if path.suffix == ".css"]
    answer = nginx.get(f"/-/{style.name}")
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]


def test_nginx_sends_parts_of_archives(nginx):
    """So that downloads can be resumed."""
    answer = nginx.get(f"/{_VECTOR}/2?tf-hub-format=compressed", range="bytes=10-19")
    archive = (nginx.site / f"{_VECTOR}/2.tar.gz").read_bytes()
    assert (answer.status, answer.body) == (206, archive[10:20])


def test_nginx_shows_our_page_for_missing_paths(nginx):
    """That page itself has no address."""
    page = (nginx.site / "404.html").read_bytes()
    for path in ("/nothing", "/404.html", f"/{_VECTOR}/2/2", f"/{_VECTOR}/4?tf-hub-format=uncompressed"):
        answer = nginx.get(path)
        assert (answer.status, answer.body) == (404, page)


@pytest.mark.parametrize(
    "path", ["/../hub.conf", "/%2e%2e/hub.conf", "/-/../../x", f"/{_VECTOR}/..%2f..%2f..%2f..%2f..%2f"]
)
def test_nginx_serves_nothing_outside_the_site(nginx, path):
    """Whatever the path."""
    assert nginx.get(path).status in (400, 404)


def test_nginx_follows_no_links(small_release, tmp_path):
    """Somebody may have put symbolic links into the folder."""
    write_site(small_release, tmp_path / "site", "http://127.0.0.1")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "site/link.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "nginx").mkdir()
    with _nginx(tmp_path / "site", "", tmp_path / "nginx") as host:
        assert host.get("/index.json").status == 200
        assert host.get("/link.json").status in (403, 404)
        host.log.write_text("")


@pytest.mark.slow
def test_nginx_limits_requests_of_one_client(nginx):
    """More than a hundred requests at once are too many."""
    statuses = {nginx.get("/robots.txt").status for _ in range(400)}
    assert statuses == {200, 429}
    # Until the following tests may send requests again.
    time.sleep(2)
    nginx.log.write_text("")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_get_and_head_are_allowed(host, method):
    """Other methods get 405."""
    assert host.get(f"/{_VECTOR}/2.json", method).status == 405


def test_the_worker_notices_a_new_site(sites, tmp_path):
    """It reads the index again after a while, not for each request."""
    shutil.copytree(sites[""], tmp_path / "site")
    (tmp_path / "worker").mkdir()
    with _worker(tmp_path / "site", "", tmp_path / "worker") as host:
        assert host.get(f"/{_VECTOR}").headers["location"].endswith("/5")
        (tmp_path / "site/hub.json").unlink()
        assert host.get(f"/{_VECTOR}").headers["location"].endswith("/5")


_PROGRAM = """
import hashlib, json, os, pathlib, sys
import numpy as np
import tensorflow_hub as hub
from tensorflow_hub.uncompressed_module_resolver import HttpUncompressedFileResolver

hosts, plain, handle = json.loads(sys.argv[1])
found = {}
for url in [f"{host}/{handle}{rest}" for host in hosts for rest in ("/2", "", "?format=hub")] + [plain]:
    path = pathlib.Path(hub.resolve(url))
    found[url] = hashlib.sha256((path / "saved_model.pb").read_bytes()).hexdigest()
resolver = HttpUncompressedFileResolver()
unpacked = [
    resolver._request_gcs_location(resolver._append_uncompressed_format_query(f"{host}/{handle}{rest}"))
    for host in hosts
    for rest in ("/2", "")
]
module = hub.load(f"{hosts[0]}/{handle}/5")
shape = module(np.zeros((2, 96, 96, 3), np.float32)).shape.as_list()
print(json.dumps({"found": found, "unpacked": unpacked, "shape": shape}))
"""


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_tensorflow_hub_loads_from_nginx_and_the_worker(nginx, worker, small_release, tmp_path):
    """By handles with and without version; and from any web server by the name of the archive."""
    with _files(nginx.site) as port:
        plain = f"http://127.0.0.1:{port}/{_VECTOR}/2.tar.gz"
        request = json.dumps([[nginx.url, worker.url], plain, _VECTOR])
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, request],
            env=environment({"TFHUB_CACHE_DIR": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    digests = {version: _saved_model(small_release / f"{_VECTOR}/{version}.tar.gz") for version in (2, 5)}
    assert digests[2] != digests[5]
    expected = {plain: digests[2]}
    for url in (nginx.url, worker.url):
        expected |= {
            f"{url}/{_VECTOR}{rest}": digests[version] for rest, version in (("/2", 2), ("", 5), ("?format=hub", 2))
        }
    assert told["found"] == expected
    assert told["unpacked"] == [f"{_BUCKET}/{_VECTOR}/{version}" for _ in range(2) for version in (2, 5)]
    assert told["shape"] == [2, 1280]


def _saved_model(archive: Path) -> str:
    listed = subprocess.run(["tar", "xzOf", archive, "saved_model.pb"], capture_output=True, check=True)
    return hashlib.sha256(listed.stdout).hexdigest()
