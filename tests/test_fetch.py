"""`hubexport fetch` as users see it: paths on stdout, everything else on stderr."""

import contextlib
import hashlib
import json
import random
import signal
import subprocess
import time

import pytest

from hubexport import list_variants
from tests.archives import member, tgz
from tests.command import command, environment, hubexport
from tests.servers import ARCHIVE, SHA256, answer, running_server, serve, serve_when_told

_HALF = 300_000
_WRONG = hashlib.sha256(b"wrong").hexdigest()
_NO_CHECKPOINT = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: 7
dataset: made up
modules: [feature_vector/2]
"""
_CONFIG = _NO_CHECKPOINT + "checkpoint: {{url: {url}, sha256: {sha256}, name: model.ckpt}}\n"
_UNPINNED_CONFIG = _CONFIG.replace(" sha256: {sha256},", "")
# Only a gzipped tar is accepted without a SHA-256.
_TAR = tgz(member("model.ckpt.index", random.Random(1).randbytes(400_000)))
_TAR_SHA256 = hashlib.sha256(_TAR).hexdigest()


class _Place:
    """A server, a folder of configs that name its archives, and an empty cache."""

    def __init__(self, server, folder):
        self.server = server
        self.configs = folder / "configs"
        self.cache = folder / "cache"
        self.folder = self.cache / "checkpoints" / SHA256[:16]
        self.configs.mkdir()
        self.add("one", "one.tgz")

    def add(self, name, file, sha256=SHA256):
        config = (_CONFIG if sha256 else _UNPINNED_CONFIG).format(url=f"{self.server.address}/{file}", sha256=sha256)
        (self.configs / f"{name}.yaml").write_text(config)

    def keep(self, file, content):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / file).write_bytes(content)

    def arguments(self, *arguments):
        return ("fetch", *arguments, "--config-dir", self.configs, "--cache-dir", self.cache)

    def fetch(self, *arguments, env=None):
        return hubexport(*self.arguments(*arguments), env={"NO_PROXY": "*", **(env or {})})

    def start(self, *arguments):
        return subprocess.Popen(
            command(*self.arguments(*arguments)),
            env=environment({"NO_PROXY": "*"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def listed(self, *arguments):
        """What --list tells of all variants but the built-in ones."""
        done = self.fetch("--list", "--format", "json", *arguments)
        assert done.returncode == 0, done.stderr
        built_in = {variant.name for variant in list_variants()}
        return [archive for archive in json.loads(done.stdout) if archive["variant"] not in built_in]


@pytest.fixture
def place(tmp_path):
    """A server and configs from which one variant, `one`, can be fetched."""
    with running_server() as server:
        yield _Place(server, tmp_path)


def test_fetch_prints_the_path_and_says_what_it_does(place):
    """Only the path is on stdout."""
    done = place.fetch("--variant", "one")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert done.stderr == f"downloading {place.server.address}/one.tgz\n"
    assert done.returncode == 0
    assert (place.folder / "one.tgz").read_bytes() == ARCHIVE


def test_fetch_says_what_is_already_there(place):
    """It does not ask the server."""
    place.keep("one.tgz", ARCHIVE)
    done = place.fetch("--variant", "one")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert done.stderr == f"already in the cache: {place.folder / 'one.tgz'}\n"
    assert done.returncode == 0
    assert place.server.requests == []


def test_fetch_goes_on_after_a_failed_variant(place):
    """The errors come last."""
    place.add("three", "three.tgz", sha256=_WRONG)
    place.add("two", "two.tgz")
    place.keep("two.tgz", ARCHIVE)
    place.server.acts = [answer(404), serve]
    done = place.fetch("--variant", "three", "--variant", "t*", "--variant", "one")
    assert done.stdout == f"{place.folder / 'two.tgz'}\n{place.folder / 'one.tgz'}\n"
    assert done.stderr.splitlines() == [
        f"downloading {place.server.address}/three.tgz",
        f"downloading {place.server.address}/one.tgz",
        f"already in the cache: {place.folder / 'two.tgz'}",
        f"ERROR cannot download {place.server.address}/three.tgz",
        "  why: the server answered 404 Not Found",
        f"  fix: check the network and proxy settings, or download {place.server.address}/three.tgz elsewhere and pass "
        "it as --checkpoint FILE; --checkpoint synthetic builds without trained values",
    ]
    assert done.returncode == 1


def test_an_archive_that_variants_share_is_fetched_once(place):
    """Its path is printed once."""
    place.add("two", "one.tgz")
    done = place.fetch("--variant", "one", "--variant", "two")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert done.stderr.count("one.tgz") == 1


def test_a_variant_without_an_archive_is_an_error(place):
    """The other variants are fetched all the same."""
    (place.configs / "none.yaml").write_text(_NO_CHECKPOINT)
    done = place.fetch("--variant", "none", "--variant", "one")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert done.stderr.splitlines()[1:] == [
        "ERROR no published archive for none",
        "  why: its config does not say where one is published",
        "  fix: leave it out, and pass your own checkpoint to `hubexport build` with --checkpoint",
    ]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(
            [],
            [
                "ERROR hubexport fetch: no --variant",
                "  why: it says which archives to download",
                "  fix: write `hubexport fetch --variant NAME` with a name from `hubexport list`, or all; or add "
                "--list",
            ],
            id="no variant",
        ),
        pytest.param(
            ["--variant", "one", "--mirror", "ftp://example.org"],
            [
                "ERROR --mirror ftp://example.org: not a valid address",
                "  why: --mirror takes an http or https address",
                "  fix: use an address like --mirror https://example.org/checkpoints",
            ],
            id="mirror",
        ),
        pytest.param(
            ["--variant", "one", "--format", "json"],
            [
                "ERROR --format json needs --list",
                "  why: only --list has a choice of formats",
                "  fix: add --list, or remove --format",
            ],
            id="format",
        ),
    ],
)
def test_errors_are_what_why_and_fix(place, arguments, lines):
    """The server is not asked."""
    done = place.fetch(*arguments)
    assert done.stderr.splitlines() == lines
    assert done.stdout == ""
    assert done.returncode == 2
    assert place.server.requests == []


def test_wrong_bytes_are_kept_aside_and_listed(place):
    """The error shows both digests and the file."""
    place.server.acts = [answer(200, b"wrong")]
    done = place.fetch("--variant", "one")
    aside = place.folder / f"one.tgz.wrong-{_WRONG[:8]}"
    assert done.stderr.splitlines()[1:] == [
        f"ERROR {place.server.address}/one.tgz is not the published archive",
        f"  why: its SHA-256 is {_WRONG}, but the config says {SHA256}",
        f"  fix: do not use the file, which is kept as {aside}; correct the config only if you know why it changed",
    ]
    assert done.returncode == 1
    assert aside.read_bytes() == b"wrong"
    [listed] = place.listed()
    assert listed["state"] == "not cached"
    assert listed["set_aside"] == [str(aside)]


def test_offline_takes_the_cache_and_nothing_else(place):
    """One archive is there and one is not."""
    place.add("two", "two.tgz")
    place.keep("one.tgz", ARCHIVE)
    done = place.fetch("--variant", "one", "--variant", "two", "--offline")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert "ERROR two.tgz is not in the cache" in done.stderr
    assert done.returncode == 1
    assert place.server.requests == []


def test_a_mirror_is_asked_instead(place):
    """For the file's name."""
    config = _CONFIG.format(url="http://example.invalid/one.tgz", sha256=SHA256)
    (place.configs / "one.yaml").write_text(config)
    done = place.fetch("--variant", "one", "--mirror", f"{place.server.address}/copies")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert [request.path for request in place.server.requests] == ["/copies/one.tgz"]


def test_a_proxy_is_asked_instead(place):
    """The environment names it."""
    config = _CONFIG.format(url="http://example.invalid/one.tgz", sha256=SHA256)
    (place.configs / "one.yaml").write_text(config)
    proxies = {"http_proxy": place.server.address, "NO_PROXY": "", "no_proxy": ""}
    done = place.fetch("--variant", "one", env=proxies)
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert [request.path for request in place.server.requests] == ["http://example.invalid/one.tgz"]


def test_a_cache_that_cannot_be_written_is_a_clean_error(place):
    """A file is in the place of its folder."""
    place.cache.write_text("x")
    done = place.fetch("--variant", "one")
    assert done.stderr.startswith("ERROR cannot store one.tgz in the cache\n")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_a_broken_download_is_resumed_in_the_same_run(place):
    """After a short wait."""

    def break_off(handler):
        handler.head(200, Content_Length=len(ARCHIVE))
        handler.body(ARCHIVE[:_HALF])

    place.server.acts = [break_off, serve]
    done = place.fetch("--variant", "one")
    assert done.stdout == f"{place.folder / 'one.tgz'}\n"
    assert "WARNING one.tgz: the connection ended after " in done.stderr
    assert done.stderr.endswith("attempt 2 of 5 in 1 s\n")
    assert place.server.requests[1].sent < len(ARCHIVE)


def test_of_two_processes_one_downloads(place):
    """The other one waits, and takes the archive from the cache."""
    place.server.acts = [serve_when_told(_HALF)]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(place.start("--variant", "one")) for _ in range(2)]
        first, second = sorted(process.stderr.readline() for process in processes)
        assert first == f"downloading {place.server.address}/one.tgz\n"
        assert second.startswith("waiting for another process to download one.tgz: process ")
        place.server.gate.set()
        for process in processes:
            assert process.stdout.read() == f"{place.folder / 'one.tgz'}\n"
            assert process.stderr.read() == ""
            assert process.wait() == 0
    assert [request.sent for request in place.server.requests] == [len(ARCHIVE)]
    assert (place.folder / "one.tgz").read_bytes() == ARCHIVE


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.faults
def test_what_a_killed_process_had_is_resumed(place, sig):
    """Meanwhile no file has the archive's name, and there is no traceback."""
    place.server.acts = [serve_when_told(_HALF), serve]
    partial = place.folder / "one.tgz.part"
    with place.start("--variant", "one") as process:
        while not (partial.exists() and partial.stat().st_size > _HALF // 2):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(sig)
        assert process.stderr.read() == f"downloading {place.server.address}/one.tgz\n"
    place.server.gate.set()
    assert not (place.folder / "one.tgz").exists()
    there = partial.stat().st_size
    done = place.fetch("--variant", "one")
    assert done.returncode == 0, done.stderr
    assert place.server.requests[1].range == f"bytes={there}-"
    assert place.server.requests[1].sent == len(ARCHIVE) - there
    assert (place.folder / "one.tgz").read_bytes() == ARCHIVE
    assert not partial.exists()


def test_an_archive_without_a_digest_is_accepted_once(place):
    """The warning shows what --list shows later. Then the archive comes from the cache, without a warning."""
    place.add("one", "one.tgz", sha256=None)
    place.server.content = _TAR
    path = place.cache / "checkpoints" / _TAR_SHA256[:16] / "one.tgz"
    [listed] = place.listed()
    assert (listed["state"], listed["sha256"], listed["pinned"]) == ("not cached", None, False)
    done = place.fetch("--variant", "one")
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
    assert done.stderr.splitlines() == [
        f"downloading {place.server.address}/one.tgz",
        "checking one.tgz",
        "WARNING one.tgz: its config has no SHA-256 to compare it with. This download is accepted, and later ones "
        f"must be the same: SHA-256 {_TAR_SHA256}",
    ]
    done = place.fetch("--variant", "one", "--offline")
    assert (done.stdout, done.stderr) == (f"{path}\n", f"already in the cache: {path}\n")
    assert len(place.server.requests) == 1
    [listed] = place.listed()
    assert (listed["state"], listed["sha256"], listed["pinned"]) == ("intact", _TAR_SHA256, False)
    [line] = [line.split() for line in place.fetch("--list").stdout.splitlines() if line.split()[:1] == ["one"]]
    assert line == ["one", "one.tgz", "0.4", "intact,", "not", "pinned", str(path)]


def test_a_changed_archive_without_a_digest_is_an_error(place):
    """With both digests, the file, and the way to accept it; and this way works."""
    place.add("one", "one.tgz", sha256=None)
    place.server.content = _TAR
    path = place.cache / "checkpoints" / _TAR_SHA256[:16] / "one.tgz"
    place.fetch("--variant", "one")
    path.unlink()
    place.server.content = tgz(member("model.ckpt.index", b"changed"))
    changed = hashlib.sha256(place.server.content).hexdigest()
    for _ in range(2):
        done = place.fetch("--variant", "one", "--mirror", place.server.address)
        assert done.stderr.splitlines()[1:] == [
            f"ERROR {place.server.address}/one.tgz is not the published archive",
            f"  why: its SHA-256 is {changed}, but it was {_TAR_SHA256} when it was first downloaded",
            f"  fix: do not use the file, which is kept as {path}.wrong-{changed[:8]}; only if you know why it "
            f"changed, accept it with `sha256: {changed}` in the config",
        ]
        assert (done.returncode, done.stdout) == (1, "")
    [listed] = place.listed()
    assert listed["set_aside"] == [f"{path}.wrong-{changed[:8]}"]
    place.add("one", "one.tgz", sha256=changed)
    done = place.fetch("--variant", "one")
    assert (done.returncode, done.stdout) == (0, f"{place.cache / 'checkpoints' / changed[:16] / 'one.tgz'}\n")
    assert "WARNING" not in done.stderr


def test_of_two_processes_one_accepts_an_archive_without_a_digest(place):
    """So there is one warning."""
    place.add("one", "one.tgz", sha256=None)
    place.server.content = _TAR
    place.server.acts = [serve_when_told(_HALF)]
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(place.start("--variant", "one")) for _ in range(2)]
        first = sorted(process.stderr.readline() for process in processes)
        assert first[1].startswith("waiting for another process to download one.tgz: process ")
        place.server.gate.set()
        rest = "".join(process.stderr.read() for process in processes)
        paths = {process.stdout.read() for process in processes}
    assert rest.count("WARNING") == 1
    assert paths == {f"{place.cache / 'checkpoints' / _TAR_SHA256[:16] / 'one.tgz'}\n"}
    assert len(place.server.requests) == 1


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.faults
def test_what_a_killed_process_had_of_an_archive_without_a_digest_is_resumed(place, sig):
    """Nothing is accepted before all of it is there."""
    place.add("one", "one.tgz", sha256=None)
    place.server.content = _TAR
    place.server.acts = [serve_when_told(_HALF), serve]
    with place.start("--variant", "one") as process:
        while not [path for path in place.cache.rglob("one.tgz.part") if path.stat().st_size > _HALF // 2]:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(sig)
        process.communicate()
    place.server.gate.set()
    assert not list(place.cache.rglob("one.tgz"))
    [listed] = place.listed()
    assert (listed["state"], listed["sha256"]) == ("partial", None)
    done = place.fetch("--variant", "one")
    assert (done.returncode, done.stderr.count(f"must be the same: SHA-256 {_TAR_SHA256}")) == (0, 1)
    assert place.server.requests[1].range
    assert place.server.requests[1].sent < len(_TAR)


def test_a_pattern_skips_variants_without_an_archive(place):
    """It says so. A pattern that leaves nothing is an error."""
    (place.configs / "none.yaml").write_text(_NO_CHECKPOINT)
    done = place.fetch("--variant", "*one")
    assert (done.returncode, done.stdout) == (0, f"{place.folder / 'one.tgz'}\n")
    assert done.stderr.startswith("skipping 1 variant without a published checkpoint: none\n")
    done = place.fetch("--variant", "one", "--variant", "no*")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "ERROR 'no*' leaves nothing to do",
        "  why: it matches 1 variant without a published checkpoint: none",
        "  fix: pass your own checkpoint to `hubexport build` with --checkpoint",
    ]


def test_list_tells_each_state(place):
    """In a table with a line for each variant, built-in ones too; nothing is downloaded."""
    for name in ("two", "three", "four"):
        place.add(name, f"{name}.tgz")
    (place.configs / "none.yaml").write_text(_NO_CHECKPOINT)
    place.keep("one.tgz", ARCHIVE)
    place.keep("two.tgz", b"x" * 250_000)
    place.keep("three.tgz.part", b"x" * 123_456)
    place.keep("four.tgz.wrong-01234567", b"x")
    done = place.fetch("--list")
    assert done.stderr == ""
    assert done.returncode == 0
    cells = {words[0]: words[1:] for words in map(str.split, done.stdout.splitlines()) if words}
    assert cells["variant"] == ["file", "size", "(MB)", "state", "path"]
    assert cells["one"] == ["one.tgz", "0.6", "intact", str(place.folder / "one.tgz")]
    assert cells["two"] == ["two.tgz", "0.2", "damaged", str(place.folder / "two.tgz")]
    assert cells["three"] == ["three.tgz", "0.1", "partial", str(place.folder / "three.tgz.part")]
    aside = ["not", "cached,", "set", "aside:", "four.tgz.wrong-01234567"]
    assert cells["four"] == ["four.tgz", "-", *aside, str(place.folder / "four.tgz")]
    assert cells["none"] == ["-", "-", "not", "published", "-"]
    assert cells["mobilenet_v2_075_192"][2:4] == ["not", "cached"]
    assert place.server.requests == []


def test_list_of_some_variants(place):
    """Only the named variants are listed."""
    lines = place.fetch("--list", "--variant", "one").stdout.splitlines()
    assert "one.tgz" in "".join(lines)
    assert "mobilenet" not in "".join(lines)


def test_list_as_json_has_everything(place):
    """For use by programs."""
    place.keep("one.tgz", ARCHIVE)
    (place.configs / "none.yaml").write_text(_NO_CHECKPOINT)
    assert place.listed() == [
        {"variant": "none", "state": "not published"},
        {
            "variant": "one",
            "url": f"{place.server.address}/one.tgz",
            "sha256": SHA256,
            "pinned": True,
            "path": str(place.folder / "one.tgz"),
            "size_bytes": len(ARCHIVE),
            "state": "intact",
            "set_aside": [],
        },
    ]


def test_list_shows_paths_as_they_are(place):
    """Brackets are not markup."""
    place.cache = place.cache.with_name("[bold]")
    for columns in (None, 1000):
        done = hubexport(*place.arguments("--list", "--variant", "one"), columns=columns)
        assert f"  {place.cache}/checkpoints/" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--list"], ["--variant", "one"], ["--variant", "one", "--mirror", "x"]],
    ids=["help", "list", "already there", "no mirror"],
)
def test_fetch_without_downloads_imports_no_heavy_library(place, arguments):
    """None of these downloads anything."""
    place.keep("one.tgz", ARCHIVE)
    code = (
        "import atexit, runpy, sys\n"
        "libraries = {'requests', 'tensorflow', 'numpy'}\n"
        "atexit.register(lambda: print('imported:', libraries & set(sys.modules), file=sys.stderr))\n"
        f"sys.argv[1:] = {[str(argument) for argument in place.arguments(*arguments)]}\n"
        "runpy.run_module('hubexport', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [command()[0], "-c", code], env=environment(), capture_output=True, text=True, check=False, cwd=place.configs
    )
    assert done.stderr.splitlines()[-1] == "imported: set()", done.stderr
