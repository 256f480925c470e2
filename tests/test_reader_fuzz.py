"""Damaged files of every kind are read or refused, in bounded time."""

import gzip
import io
from pathlib import Path
import resource
import time
import zipfile

import h5py
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from hubexport.checkpoints import hdf5, leveldb_table
from hubexport.checkpoints.containers import container_of
from hubexport.checkpoints.dtypes import holds_numbers
from hubexport.checkpoints.hdf5 import read_hdf5
from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.safetensors_file import SafetensorsReader
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.v1_checkpoint import V1Reader
from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.errors import CheckpointError
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.progress import Progress
from hubexport.protos import TrackableObjectGraph
from hubexport.system.crc32c import masked_crc32c
from hubexport.system.damage import DamageError

pytestmark = pytest.mark.fuzz

_VALUES = {"a/kernel": np.ones([3, 4], np.float32), "a/bias": np.ones([4], np.float32), "n": np.array(7, np.int64)}


def _edits(length):
    """Strategy: bytes to overwrite, and where to cut the file, if at all."""
    edit = st.tuples(st.integers(0, length - 1), st.integers(0, 255))
    return st.lists(edit, max_size=4), st.none() | st.integers(0, length)


def _edited(content, edits, end):
    content = bytearray(content)
    for position, byte in edits:
        content[position] = byte
    return bytes(content[:end])


def _read_all(stored):
    for name in stored.shapes:
        if holds_numbers(stored.dtype(name)):
            stored.read(name)
        b"".join(stored.stored_chunks(name) or ())


_SAFETENSORS = safetensors.numpy.save(_VALUES, {"format": "pt"})


@settings(deadline=None, max_examples=300)
@given(*_edits(len(_SAFETENSORS)))
def test_damaged_safetensors(tmp_path_factory, edits, end):
    """With any bytes in the header."""
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(_edited(_SAFETENSORS, edits, end))
    try:
        _read_all(SafetensorsReader(path))
    except DamageError:
        pass


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=40) | st.sampled_from([b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"]).map(lambda start: start + b"x" * 9)
)
def test_any_bytes_have_a_container_or_none(tmp_path_factory, content):
    """Recognition looks at a few bytes only."""
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(content)
    container_of(path)


# The time and memory that a small damaged file may take; hypothesis reports more as a failure.
_MOST_SECONDS = 2
_MOST_KILOBYTES = 500_000


def _open_and_read(path):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        if path.is_file():
            with path.open("rb") as file:
                _read_all(V1Reader(file))
        else:
            _read_all(BundleReader(path))
    except (DamageError, FileNotFoundError):  # A data file that does not exist.
        pass
    assert time.monotonic() - start < _MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_KILOBYTES


def _partitioned(folder, version):
    """The files of a checkpoint with one value in two pieces, by the ends of their names."""
    pieces = ["4 300 0,1:-", "4 300 1,3:-"]
    values = {"x": tf.ones([1, 300]), "x2": tf.zeros([3, 300]), "half": tf.ones([3], tf.float16), "n": tf.constant(-7)}
    values |= {"words": tf.constant([b"some", b"words"]), "complex": tf.constant(1j)}
    saved = {"tensor_names": [name.rstrip("2") for name in values]}
    specs = [*pieces, *[""] * 4]
    if version == "V1":
        tf.raw_ops.SaveSlices(filename=str(folder / "c"), shapes_and_slices=specs, data=list(values.values()), **saved)
    else:
        tf.raw_ops.SaveV2(prefix=str(folder / "c"), shape_and_slices=specs, tensors=list(values.values()), **saved)
    return {path.name.removeprefix("c"): path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module", params=["V1", "V2"])
def partitioned(request, tmp_path_factory):
    """Such files of V1 and V2."""
    return _partitioned(tmp_path_factory.mktemp("partitioned"), request.param)


@settings(deadline=None, max_examples=600)
@given(data=st.data())
def test_damaged_pieces(partitioned, tmp_path_factory, data):
    """In V1 and V2, in any file."""
    folder = tmp_path_factory.mktemp("fuzz")
    damaged = data.draw(st.sampled_from(sorted(partitioned)))
    for suffix, content in partitioned.items():
        if suffix == damaged:
            content = _edited(content, *data.draw(st.tuples(*_edits(len(content)))))
        (folder / f"c{suffix}").write_bytes(content)
    _open_and_read(folder / "c")


def _with_right_checksums(content, sound):
    """Damaged blocks with correct checksums."""
    footer = sound[-48:]
    places = [
        *LeveldbTable(io.BytesIO(sound))._handles,
        tuple(leveldb_table._varints(footer, 4)[2:]),
    ]
    content = bytearray(content)
    for offset, size in places:
        end = offset + size + 1
        content[end : end + 4] = masked_crc32c(bytes(content[offset:end])).to_bytes(4, "little")
    return bytes(content)


@settings(deadline=None, max_examples=600)
@given(data=st.data())
def test_damaged_blocks_whose_checksums_are_right(partitioned, tmp_path_factory, data):
    """Lengths, restarts, handles and compression may be anything. Most are near the end, like half of the damage."""
    folder = tmp_path_factory.mktemp("fuzz")
    for suffix, content in partitioned.items():
        if not suffix.startswith(".data"):
            near_the_end = st.integers(max(0, len(content) - 300), len(content) - 49)
            positions = st.integers(0, len(content) - 49) | near_the_end
            edits = data.draw(st.lists(st.tuples(positions, st.integers(0, 255)), min_size=1, max_size=4))
            content = _with_right_checksums(_edited(content, edits, None), content)
        (folder / f"c{suffix}").write_bytes(content)
    _open_and_read(folder / "c")


@settings(deadline=None, max_examples=600)
@given(data=st.data())
def test_entries_that_lie(partitioned, tmp_path_factory, data):
    """Any bytes of any entry changed, removed or added, in a sound table."""
    folder = tmp_path_factory.mktemp("fuzz")
    for suffix, content in partitioned.items():
        if not suffix.startswith(".data"):
            entries = dict(LeveldbTable(io.BytesIO(content)).entries(1 << 24))
            key = data.draw(st.sampled_from(sorted(entries)))
            edits, end = data.draw(st.tuples(*_edits(max(1, len(entries[key])))))
            entries[key] = _edited(entries[key] or b"x", edits, end) + data.draw(st.binary(max_size=4))
            content = table_bytes(sorted(entries.items()))
        (folder / f"c{suffix}").write_bytes(content)
    _open_and_read(folder / "c")


_GRAPHS = st.lists(
    st.builds(
        lambda key, name: {"attributes": [{"name": "VARIABLE_VALUE", "full_name": name, "checkpoint_key": key}]},
        st.sampled_from(["a/.ATTRIBUTES/VARIABLE_VALUE", "b/.ATTRIBUTES/VARIABLE_VALUE", "no such key"]),
        st.sampled_from(["", "a", "b", "x", OBJECT_GRAPH_KEY]),
    ),
    max_size=4,
).map(lambda nodes: TrackableObjectGraph(nodes=nodes).SerializeToString())


@settings(deadline=None, max_examples=200)
@given(graph=_GRAPHS | st.binary(max_size=60))
def test_any_graph_of_objects(tmp_path_factory, graph):
    """Its keys may be missing and its names repeated: every value is still found."""
    prefix = tmp_path_factory.mktemp("fuzz") / "c"
    values = {f"{name}/.ATTRIBUTES/VARIABLE_VALUE": np.float32(number) for number, name in enumerate("ab")}
    write_bundle(prefix, {**values, OBJECT_GRAPH_KEY: graph})
    try:
        with open_checkpoint(resolve_source(str(prefix), None, Progress()), Progress()) as opened:
            found = [opened.native.read(name) for name in opened.native.shapes if opened.native.dtype(name) != "string"]
    except CheckpointError as error:
        assert "object graph" in error.why
    else:
        assert sorted(found) == [0, 1]


def _hdf5():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["layer_names"] = [b"a", b"b"]
        for layer, weights in (("a", ["a/kernel:0"]), ("b", ["b/gamma:0", "b/beta:0"])):
            group = file.create_group(layer)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight in weights:
                group[weight] = np.ones([3, 4], np.float32)
    return content.getvalue()


_HDF5 = _hdf5()


# Each example starts a process.
@settings(deadline=None, max_examples=25)
@given(*_edits(len(_HDF5)))
def test_damaged_hdf5(tmp_path_factory, edits, end):
    """HDF5's library may do anything with it."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "x").write_bytes(_edited(_HDF5, edits, end))
    try:
        _read_all(read_hdf5(folder / "x", folder))
    except DamageError:
        pass


_ENDLESS = sorted(Path(__file__).with_name("cases").glob("endless_*.h5.gz"))


@pytest.mark.parametrize("case", _ENDLESS, ids=lambda path: path.name)
def test_hdf5_files_from_which_the_library_never_returns(tmp_path, monkeypatch, case):
    """Found by changing one to three bytes of a good file. The reading process is stopped."""
    monkeypatch.setattr(hdf5, "_CPU_SECONDS", 2)
    (tmp_path / "x").write_bytes(gzip.decompress(case.read_bytes()))
    with pytest.raises(DamageError, match="did not finish"):
        read_hdf5(tmp_path / "x", tmp_path)


def _keras_archive():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", _HDF5)
    return content.getvalue()


_KERAS = _keras_archive()


@settings(deadline=None, max_examples=25)
@given(*_edits(len(_KERAS)))
def test_damaged_keras_archives(tmp_path_factory, edits, end):
    """Sizes, checksums, names, flags and compression may be anything."""
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(_edited(_KERAS, edits, end))
    try:
        with open_checkpoint(resolve_source(str(path), None, Progress()), Progress()) as opened:
            _read_all(opened.native)
    except CheckpointError:
        pass
