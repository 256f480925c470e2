"""Packed modules: the same files give the same bytes, and every reader of tars unpacks the same files."""

import gzip
import hashlib
import os
from pathlib import Path
import socket
import subprocess
import sys
import tarfile
import time

import pytest

from hubexport.errors import ModuleError, UsageError
from hubexport.release.packing import pack, source_date_epoch
from hubexport.system.digests import tree_files
from tests.command import environment

_LONG = "/".join(["folder" * 8] * 5) + "/" + "f" * 200
# Names and contents like a module's, and names that need more than the USTAR format of 1988.
_FILES = {
    "saved_model.pb": bytes(range(256)) * 300,
    "tfhub_module.pb": b"\x08\x03",
    "variables/variables.index": b"",
    "variables/variables.data-00000-of-00001": hashlib.sha256(b"values").digest() * 5000,
    "assets/labels.txt": "Gänseblümchen\n".encode(),
    "assets/später/名前.txt": b"unicode",
    _LONG: b"long",
}
_PLAIN = {name: content for name, content in _FILES.items() if name.isascii() and name != _LONG}
_MTIME = 1_577_836_800


def _written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _packed(directory: Path, mtime: int = _MTIME) -> Path:
    archive = directory.with_name(f"{directory.name}.tar.gz")
    pack(directory, archive, mtime=mtime)
    return archive


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in tree_files(directory)}


@pytest.fixture
def directory(tmp_path) -> Path:
    """Names of all sorts, and an empty folder."""
    (tmp_path / "module" / "empty").mkdir(parents=True)
    return _written(tmp_path / "module", _FILES)


def test_bytes_depend_on_names_and_contents_alone(directory, tmp_path):
    """Not on the order of creation, the umask, modes, owners, times or the time zone."""
    other = tmp_path / "other"
    before = os.umask(0o077)
    try:
        (other / "empty").mkdir(parents=True)
        _written(other, dict(reversed(_FILES.items())))
    finally:
        os.umask(before)
    for number, path in enumerate(sorted(other.rglob("*"), reverse=True)):
        path.chmod(0o500 if number % 2 else 0o700)
        os.utime(path, (number, number))
        if os.geteuid() == 0:
            os.chown(path, 1000 + number, 1000 + number)
    here = _packed(directory).read_bytes()
    program = (
        "import pathlib, sys; from hubexport.release.packing import pack; "
        f"pack(*map(pathlib.Path, sys.argv[1:]), mtime={_MTIME})"
    )
    env = environment({"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "5", "PYTHONUTF8": "0"})
    command = [sys.executable, "-c", program, other, tmp_path / "other.tar.gz"]
    subprocess.run(command, env=env, check=True)
    assert (tmp_path / "other.tar.gz").read_bytes() == here


@pytest.mark.parametrize("change", ["name", "content", "mtime", "folder"])
def test_bytes_depend_on_each_name_and_content(directory, change):
    """Each change alone gives a different archive."""
    before = _packed(directory).read_bytes()
    match change:
        case "name":
            (directory / "saved_model.pb").rename(directory / "saved_model.pbx")
        case "content":
            (directory / "tfhub_module.pb").write_bytes(b"\x08\x04")
        case "folder":
            (directory / "empty").rmdir()
    assert _packed(directory, mtime=_MTIME + (change == "mtime")).read_bytes() != before


@pytest.mark.parametrize(
    ("files", "tar_sha256", "sha256"),
    [
        pytest.param(
            _PLAIN,
            "b1e2a15c26594245a9e5a1c4e13a6add2291ef5ad54d3e62ababd0c634c70c4d",
            "8e232e9590f699bb0e2a16175f6c1a7f3972bbd43678b8efe9846f7d490de49a",
            id="plain",
        ),
        pytest.param(
            _FILES,
            "aa9accba8b8a9f77ca2cb05d7a5b6c40fa661490fa20c53843cb3fb6279c2a96",
            "ae38a2b00a98f0e4447b99eb14a6c95f6fc04e9fe1bc2050adf1642eb5ed3084",
            id="any",
        ),
    ],
)
def test_bytes_are_the_same_everywhere(tmp_path, files, tar_sha256, sha256):
    """On every supported Python and machine, the tar and the compressed archive have the known digests."""
    archive = _packed(_written(tmp_path / "module", files))
    assert hashlib.sha256(gzip.decompress(archive.read_bytes())).hexdigest() == tar_sha256
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == sha256


def test_members_are_what_a_module_server_expects(directory):
    """Plain relative names, folders before their files, no owners, and one time."""
    with tarfile.open(_packed(directory)) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert names == sorted(names) and set(_FILES) < set(names) and "empty" in names
    assert not any(name.startswith((".", "/")) for name in names)
    for index, name in enumerate(names):
        assert str(Path(name).parent) in [".", *names[:index]]
    assert {member.mode for member in members if member.isfile()} == {0o644}
    assert {member.mode for member in members if member.isdir()} == {0o755}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert {member.mtime for member in members} == {_MTIME}


def test_plain_names_need_no_extended_headers(tmp_path):
    """A reader of plain USTAR understands them: one header per member, with fields at the standard's offsets."""
    tar = gzip.decompress(_packed(_written(tmp_path / "module", _PLAIN)).read_bytes())
    seen, position = {}, 0
    while tar[position]:
        header = tar[position : position + 512]
        assert header[257:265] == b"ustar\x0000"
        assert int(header[148:156].strip(b" \0"), 8) == sum(header[:148]) + 8 * 32 + sum(header[156:])
        size = int(header[124:135], 8)
        seen[header[:100].rstrip(b"\0").decode()] = (header[156:157], tar[position + 512 : position + 512 + size])
        position += 512 + -(-size // 512) * 512
    assert {name: content for name, (kind, content) in seen.items() if kind == b"0"} == _PLAIN
    assert {name for name, (kind, _) in seen.items() if kind == b"5"} == {"assets/", "variables/"}
    assert len(seen) == len(_PLAIN) + 2


@pytest.mark.parametrize("mode", ["r|gz", "r:gz", "tar"])
def test_readers_unpack_what_was_packed(directory, tmp_path, mode):
    """Python's tarfile, from a stream (like tensorflow_hub) and from a file, and the system's tar."""
    archive, target = _packed(directory), tmp_path / "target"
    target.mkdir()
    if mode == "tar":
        subprocess.run(["tar", "xzf", archive, "-C", target], check=True)
    else:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode=mode) as tar:
            tar.extractall(target, filter="data")
    assert _contents(target) == _FILES
    assert (target / "empty").is_dir()


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.symlink_to("../saved_model.pb"), id="link"),
        pytest.param(lambda path: path.symlink_to("../variables"), id="link_to_a_folder"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="broken_link"),
        pytest.param(os.mkfifo, id="pipe"),
        pytest.param(_make_socket, id="socket"),
    ],
)
def test_only_files_and_folders_are_packed(tmp_path, make, monkeypatch):
    """Anything else is an error at any depth, and no archive is written."""
    directory = _written(tmp_path / "module", _PLAIN)
    monkeypatch.chdir(directory)  # A socket's path must be short.
    make(Path("assets/odd"))
    with pytest.raises(ModuleError, match=r"cannot pack .*/assets/odd") as caught:
        _packed(directory)
    assert "a link or a special file" in caught.value.why
    assert not directory.with_name("module.tar.gz").exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, 0), ("0", 0), ("1577836800", _MTIME), (str(2**33 - 1), 2**33 - 1)]
)
def test_the_time_comes_from_the_environment(monkeypatch, directory, text, seconds):
    """It is 0 by default. The largest time that fits a header needs no extended header."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if text is not None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert source_date_epoch() == seconds
    with tarfile.open(_packed(directory, mtime=seconds)) as tar:
        assert tar.getmember("saved_model.pb").mtime == seconds
        assert not tar.getmember("saved_model.pb").pax_headers


@pytest.mark.parametrize("text", ["", "-1", "1.5", "1e9", " 7", "7\n", "1_000", "٣", "now", str(2**33), "9" * 30])
def test_invalid_times_are_refused(monkeypatch, text):
    """The error says what is allowed."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is") as caught:
        source_date_epoch()
    assert "below 8589934592" in caught.value.why


def test_packing_needs_little_more_than_compression(tmp_path):
    """For a module of the usual size, 14 MB: a few seconds at most, and little more memory than two copies."""
    import tracemalloc

    directory = _written(tmp_path / "module", {"variables": os.urandom(1 << 20) * 14})
    tracemalloc.start()
    started = time.monotonic()
    _packed(directory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - started < 5
    assert peak < 14 * 2.6 * 2**20
