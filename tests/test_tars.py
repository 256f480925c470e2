"""Archives from strangers: which members are unpacked, and which archives are refused."""

import gzip
from pathlib import Path
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from hubexport.checkpoints.archives import unpack_checkpoints
from hubexport.errors import CheckpointError
from hubexport.system import tars
from tests.archives import CONTENT, member, tgz

_GOOD = [member("./m.ckpt.index"), member("./m.ckpt.data-00000-of-00001"), member("./m_frozen.pb")]


def _unpack(tmp_path: Path, data: bytes) -> list[str]:
    (tmp_path / "a.tgz").write_bytes(data)
    (tmp_path / "into").mkdir()
    unpack_checkpoints(tmp_path / "a.tgz", tmp_path / "into")
    return sorted(str(path.relative_to(tmp_path / "into")) for path in (tmp_path / "into").rglob("*.*"))


def test_unpacks_the_checkpoint_and_nothing_else(tmp_path):
    """Graphs and TFLite files in the published archives stay packed."""
    assert _unpack(tmp_path, tgz(*_GOOD)) == ["m.ckpt.data-00000-of-00001", "m.ckpt.index"]
    assert (tmp_path / "into" / "m.ckpt.index").read_bytes() == CONTENT


def test_unpacks_v1_checkpoints_and_folders(tmp_path):
    """Older TF-Slim archives hold one file, in a folder or not."""
    assert _unpack(tmp_path, tgz(member("inception/inception_v3.ckpt"))) == ["inception/inception_v3.ckpt"]


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        pytest.param(member("/etc/m.ckpt.index"), "points outside", id="absolute"),
        pytest.param(member("../m.ckpt.index"), "points outside", id="parent"),
        pytest.param(member("a/../../m.ckpt.index"), "points outside", id="inner parent"),
        pytest.param(member("..\\m.ckpt.index"), "points outside", id="backslash"),
        pytest.param(member("m.ckpt.index", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "link", id="symlink"),
        pytest.param(member("m.ckpt.index", b"", type=tarfile.LNKTYPE, linkname="x"), "link", id="hard link"),
        pytest.param(member("m.ckpt.index", b"", type=tarfile.FIFOTYPE), "a device", id="fifo"),
        pytest.param(member("m.ckpt.index", b"", type=tarfile.CHRTYPE), "a device", id="device"),
        pytest.param(member("m.ckpt.index"), "two files named 'm.ckpt.index'", id="same path twice"),
    ],
)
def test_refuses_members_that_no_checkpoint_has(tmp_path, hostile, reason):
    """Even beside a good checkpoint; nothing is written outside the folder."""
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(CheckpointError, match="refusing to unpack") as caught:
        _unpack(tmp_path, tgz(_GOOD[0], hostile, *_GOOD[1:]))
    assert reason in caught.value.why
    assert set(tmp_path.parent.iterdir()) == before
    assert all(path.is_file() and not path.is_symlink() for path in (tmp_path / "into").iterdir())


def test_refuses_sparse_files_whose_holes_would_fill_the_disk(tmp_path):
    """A PAX header says 1 TB; the stream has a few bytes."""
    info, content = member("m.ckpt.data-00000-of-00001", b"0\n")
    info.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1"}
    with pytest.raises(CheckpointError) as caught:
        _unpack(tmp_path, tgz((info, content), format=tarfile.PAX_FORMAT))
    assert "sparse" in caught.value.why


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"GNU.sparse.map": "x,y", "GNU.sparse.size": "5"}, id="sparse map"),
        pytest.param({"GNU.sparse.map": "0,1", "GNU.sparse.size": "abc"}, id="sparse size"),
        pytest.param({"size": "-5"}, id="negative size"),
        pytest.param({"size": "-1024"}, id="back to its own header"),
        pytest.param({"size": "9" * 30}, id="huge size"),
    ],
)
def test_invalid_numbers_in_extended_headers_are_errors(tmp_path, headers):
    """tarfile does not check them."""
    info, content = member("m.ckpt.meta")
    info.pax_headers = headers
    with pytest.raises(CheckpointError):
        _unpack(tmp_path, tgz(_GOOD[0], (info, content), _GOOD[1], format=tarfile.PAX_FORMAT))


def test_refuses_to_unpack_more_than_the_bound(tmp_path, monkeypatch):
    """A bomb: a few kilobytes that unpack to many."""
    monkeypatch.setattr(tars, "MAX_UNPACKED_BYTES", 1 << 20)
    bomb = tgz(_GOOD[0], member("m.ckpt.data-00000-of-00001", bytes(8 << 20)))
    assert len(bomb) < 20_000
    with pytest.raises(CheckpointError) as caught:
        _unpack(tmp_path, bomb)
    assert caught.value.why == "it unpacks to more than 1,048,576 bytes"
    written = sum(path.stat().st_size for path in (tmp_path / "into").iterdir())
    assert written <= 3 << 20


def test_refuses_members_that_are_skipped_past_the_bound(tmp_path, monkeypatch):
    """Content that is not unpacked is unzipped all the same."""
    monkeypatch.setattr(tars, "MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(CheckpointError, match="refuses"):
        _unpack(tmp_path, tgz(member("readme.txt", bytes(8 << 20)), *_GOOD))


def test_refuses_headers_that_would_fill_the_memory(tmp_path):
    """tarfile reads a long name in one piece, whatever its length."""
    with pytest.raises(CheckpointError) as caught:
        _unpack(tmp_path, tgz(member("a" * (2 << 20)), *_GOOD))
    assert "header is larger than 1 MiB" in caught.value.why


def test_refuses_more_members_than_any_archive_has(tmp_path, monkeypatch):
    """Each costs a header."""
    monkeypatch.setattr(tars, "MAX_MEMBERS", 2)
    with pytest.raises(CheckpointError) as caught:
        _unpack(tmp_path, tgz(*_GOOD))
    assert "more than 2 members" in caught.value.why


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tgz(*_GOOD)[:-100], id="truncated"),
        pytest.param(tgz(*_GOOD)[:15], id="header only"),
        pytest.param(b"\x1f\x8b" + b"no gzip" * 50, id="no gzip"),
        pytest.param(gzip.compress(b"no tar" * 1000), id="no tar"),
        pytest.param(tgz(*_GOOD)[:-8] + bytes(8), id="wrong checksum"),
    ],
)
def test_damaged_archives_are_errors(tmp_path, data):
    """The checksum also covers what follows the last member."""
    with pytest.raises(CheckpointError, match="cannot unpack"):
        _unpack(tmp_path, data)


@pytest.mark.fuzz
@settings(deadline=None, max_examples=300)
@given(
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    headers=st.dictionaries(
        st.sampled_from(["size", "path", "linkpath", "mtime", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major"]),
        st.text("0123456789-,.x/", min_size=1, max_size=8),
        max_size=3,
    ),
    data=st.data(),
)
def test_no_damage_makes_it_write_elsewhere_or_raise_anything_else(tmp_path_factory, format, headers, data):
    """Extended headers say anything, and bytes of the tar inside are changed at random."""
    info, content = member("./m.ckpt.data-00000-of-00001")
    info.pax_headers = headers
    packed = bytearray(gzip.decompress(tgz(_GOOD[0], (info, content), _GOOD[2], format=format)))
    positions = st.integers(0, len(packed) - 1)
    for position, value in data.draw(st.lists(st.tuples(positions, st.integers(0, 255)), max_size=8)):
        packed[position] = value
    folder = tmp_path_factory.mktemp("archive")
    try:
        _unpack(folder, gzip.compress(bytes(packed)))
    except CheckpointError:
        pass
    assert {path.name for path in folder.iterdir()} == {"a.tgz", "into"}
    assert sum(path.stat().st_size for path in (folder / "into").iterdir()) <= len(packed)
