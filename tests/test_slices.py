"""Values in pieces, and V1 checkpoints, against TensorFlow's reader and writer."""

import io
from pathlib import Path
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from hubexport.checkpoints import leveldb_table
from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.snappy import unpack_snappy
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.v1_checkpoint import V1Reader
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.progress import Progress
from hubexport.protos import BundleEntryProto, SavedTensorSlices
from hubexport.system import proto_wire
from hubexport.system.crc32c import masked_crc32c
from hubexport.system.damage import DamageError
from tests.checkpoints import write_partitioned, write_v1
from tests.data import DATA, needs_data

_SAVER = tf.compat.v1.train.SaverDef
_REAL_V1 = DATA / "real" / "inception_v3_256.tar.gz"


def _v1(path: Path) -> V1Reader:
    return V1Reader(io.BytesIO(path.read_bytes()))


def _same(found, wanted) -> bool:
    wanted = np.asarray(wanted)
    return (found.dtype, found.shape, found.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


def _restored_v1(path: Path, name: str, dtype: str) -> np.ndarray:
    """Reads a value with TensorFlow's restore op; `tf.train.load_checkpoint` refuses pieces and some dtypes of V1."""
    return tf.raw_ops.Restore(file_pattern=str(path), tensor_name=name, dt=tf.as_dtype(dtype)).numpy()


_DTYPES_OF_V1 = ["bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64"]
_DTYPES_OF_V1 += ["complex64", "complex128"]


@pytest.mark.parametrize("dtype", _DTYPES_OF_V1)
def test_v1_has_numbers_of_every_kind(tmp_path, dtype):
    """Bit for bit, NaN included: no numbers, one, and enough for several blocks."""
    random = np.random.default_rng(0)
    size = np.dtype(dtype).itemsize
    several = np.frombuffer(random.bytes(80_000 * size), dtype).reshape(4, 100, 200)
    values = {"several": several > 0 if dtype == "bool" else several, "one": np.ones([], dtype)}
    values |= {"none": np.zeros([0, 3], dtype), "more": values["several"][:3]}
    write_v1(tmp_path / "c", values)
    reader = _v1(tmp_path / "c")
    assert reader.shapes == {name: value.shape for name, value in values.items()}
    for name, value in values.items():
        assert reader.dtype(name) == dtype
        assert _same(reader.read(name), value)
        assert reader.read(name).tobytes() == _restored_v1(tmp_path / "c", name, dtype).tobytes()


@pytest.mark.parametrize("write_version", [_SAVER.V1, _SAVER.V2], ids=["V1", "V2"])
def test_partitioned_variables_are_put_together(tmp_path, write_version):
    """Along either axis, in unequal parts, beside whole values; TensorFlow reads the same."""
    random = np.random.default_rng(1)
    values = {
        "rows": (random.normal(size=[7, 400, 50]).astype(np.float32), [3, 1, 1]),
        "columns": (random.normal(size=[6, 9]).astype(np.float64), [1, 2]),
        "whole": (random.normal(size=[5]).astype(np.float32), [1]),
        "counts": (random.integers(-9, 9, [8]).astype(np.int64), [4]),
    }
    write_partitioned(tmp_path / "c", values, write_version)
    stored = tf.train.load_checkpoint(str(tmp_path / "c"))
    with open_checkpoint(resolve_source(tmp_path / "c", None, Progress()), Progress()) as opened:
        assert opened.container == ("V1" if write_version == _SAVER.V1 else "V2")
        shapes = {name: tuple(shape) for name, shape in stored.get_variable_to_shape_map().items()}
        assert opened.native.shapes == shapes
        for name, (value, _) in {**values, "global_step": (np.int64(0), [])}.items():
            found = opened.native.read(name)
            assert _same(found, value)
            if write_version == _SAVER.V1:
                assert _same(found, _restored_v1(tmp_path / "c", name, found.dtype.name))
            else:
                assert _same(found, stored.get_tensor(name))


_CUTS = st.lists(st.integers(0, 70_000), max_size=3).map(lambda cuts: sorted({0, *cuts}))


@settings(deadline=None, max_examples=60)
@given(name=st.text("a/_\0\x01é\U0001f600", min_size=1, max_size=12).filter(lambda name: name[0] != "\0"), cuts=_CUTS)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.slow
def test_any_name_and_any_piece_has_the_key_that_tensorflow_gives_it(tmp_path_factory, version, name, cuts):
    """Numbers of one to three bytes, and names with the bytes that separate the parts of a key."""
    folder = tmp_path_factory.mktemp("slices")
    value = np.arange(2 * 70_001, dtype=np.int32).reshape(2, -1)
    ends = [*cuts[1:], value.shape[1]]
    specs = [f"2 70001 -:{start},{end - start}" for start, end in zip(cuts, ends)]
    pieces = [tf.constant(value[:, start:end]) for start, end in zip(cuts, ends)]
    names, path = [name] * len(specs), str(folder / "c")
    if version == 1:
        tf.raw_ops.SaveSlices(filename=path, tensor_names=names, shapes_and_slices=specs, data=pieces)
        reader = _v1(folder / "c")
    else:
        tf.raw_ops.SaveV2(prefix=path, tensor_names=names, shape_and_slices=specs, tensors=pieces)
        reader = BundleReader(folder / "c")
    assert _same(reader.read(name), value)


def test_strings_of_v1_are_listed(tmp_path):
    """But cannot be read as numbers."""
    write_v1(tmp_path / "c", {"words": np.array([b"a", b"bc"]), "x": np.float32(1)})
    reader = _v1(tmp_path / "c")
    assert (reader.dtype("words"), reader.shapes["words"], reader.stored_chunks("words")) == ("string", (2,), None)
    with pytest.raises(DamageError, match="cannot be read as numbers"):
        reader.read("words")


@pytest.mark.parametrize("version", [1, 2])
def test_quantized_values_have_bytes_and_no_numbers(tmp_path, version):
    """The range that scales them is stored elsewhere. The bytes are TensorFlow's."""
    quantized = tf.quantization.quantize(tf.constant([0.5, -1.0]), -1.0, 1.0, tf.qint8)[0]
    if version == 1:
        tf.raw_ops.Save(filename=str(tmp_path / "c"), tensor_names=["q"], data=[quantized])
        reader = _v1(tmp_path / "c")
    else:
        tf.raw_ops.SaveV2(prefix=str(tmp_path / "c"), tensor_names=["q"], shape_and_slices=[""], tensors=[quantized])
        reader = BundleReader(tmp_path / "c")
    assert reader.dtype("q") == "qint8"
    assert b"".join(reader.stored_chunks("q")) == tf.bitcast(quantized, tf.int8).numpy().tobytes()
    with pytest.raises(DamageError, match="cannot be read as numbers"):
        reader.read("q")


@needs_data
@pytest.mark.slow
def test_a_really_trained_v1_checkpoint(tmp_path):
    """All values of an Inception V3, bit for bit as TensorFlow reads them."""
    source = resolve_source(_REAL_V1, None, Progress())
    with source.opened(None, Progress()) as (files, _), open_checkpoint(source, Progress()) as opened:
        stored = tf.train.load_checkpoint(str(files.paths[0]))
        assert opened.native.shapes.keys() == stored.get_variable_to_shape_map().keys()
        assert len(opened.native.shapes) == 389
        for name in opened.native.shapes:
            assert _same(opened.native.read(name), stored.get_tensor(name))


# Snappy


def _packed(data: bytes) -> bytes:
    """Packs data naively in Snappy's format: runs of eight equal bytes or more, and literals for the rest."""
    packed, position = bytearray(proto_wire.encode_varint(len(data))), 0
    while position < len(data):
        run = next((n for n in range(min(64, len(data) - position)) if data[position + n] != data[position]), 64)
        if run >= 8:
            length = min(run, len(data) - position) - 1
            packed += bytes([0, data[position], (length - 1) << 2 | 2]) + struct.pack("<H", 1)
            position += length + 1
            continue
        chunk = data[position : position + 70]
        packed += bytes([60 << 2, len(chunk) - 1]) + chunk if len(chunk) > 60 else bytes([len(chunk) - 1 << 2]) + chunk
        position += len(chunk)
    return bytes(packed)


def _with_snappy(content: bytes) -> bytes:
    """A table of one block, with that block and the index block compressed."""
    entries = list(LeveldbTable(io.BytesIO(content)).entries(1 << 24))
    body = b""
    handles = []
    for block in (leveldb_table._encode_block(entries, 16), None, leveldb_table._encode_block([], 16)):
        if block is None:
            block = leveldb_table._encode_block([(entries[-1][0], handles[0])], 1)
        packed = _packed(block)
        handles.append(proto_wire.encode_varint(len(body)) + proto_wire.encode_varint(len(packed)))
        body += packed + b"\1" + struct.pack("<I", masked_crc32c(packed, b"\1"))
    return body + (handles[2] + handles[1]).ljust(40, b"\0") + leveldb_table.FOOTER_MAGIC


def test_compressed_blocks_are_read(tmp_path):
    """Old TensorFlows wrote them. TensorFlow reads the same."""
    values = {"zeros": np.zeros([500], np.float32), "some": np.arange(300, dtype=np.float32), "step": np.int64(7)}
    write_v1(tmp_path / "plain", values)
    (tmp_path / "c").write_bytes(_with_snappy((tmp_path / "plain").read_bytes()))
    assert (tmp_path / "c").stat().st_size < (tmp_path / "plain").stat().st_size
    reader = _v1(tmp_path / "c")
    stored = tf.train.load_checkpoint(str(tmp_path / "c"))
    for name, value in values.items():
        assert _same(reader.read(name), value)
        assert _same(reader.read(name), stored.get_tensor(name))


@pytest.mark.parametrize(
    ("packed", "block"),
    [
        pytest.param("00", b"", id="nothing"),
        # The example of google/snappy's format_description.txt.
        pytest.param("07 08 78 61 62 0e 02 00", b"xababab", id="a copy that reaches into itself"),
        pytest.param("08 0c 61 62 63 64 01 04", b"abcdabcd", id="one byte of offset"),
        pytest.param("08 0c 61 62 63 64 0f 04 00 00 00", b"abcdabcd", id="four bytes of offset"),
        pytest.param("3d f0 3c" + "61" * 61, b"a" * 61, id="a long literal"),
        pytest.param("3d f4 3c 00" + "61" * 61, b"a" * 61, id="two bytes of length"),
    ],
)
def test_each_element_of_snappy(packed, block):
    """Worked out by hand from the format's description."""
    assert unpack_snappy(bytes.fromhex(packed)) == block


@pytest.mark.parametrize(
    "packed",
    ["", "80", "01", "02 00 61", "01 00 61 61", "04 00 61 01 02", "04 00 61 01 00", "05 10 61", "04 00 61 0e 01"]
    + ["80 80 80 80 10 00 61"],
)
def test_damaged_snappy(packed):
    """Cut, too short, too long, before its start, at offset 0, of four gigabytes."""
    with pytest.raises(DamageError):
        unpack_snappy(bytes.fromhex(packed))


@pytest.mark.fuzz
@settings(deadline=None, max_examples=3000)
@given(packed=st.binary(max_size=200))
def test_any_snappy_is_read_or_refused(packed):
    """And never unpacks to more than the format can."""
    try:
        assert len(unpack_snappy(packed)) <= len(packed) * 64 / 3
    except DamageError:
        pass


# Varints


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1)))
def test_numbers_are_read_as_protobuf_writes_them(numbers):
    """Negative numbers take ten bytes."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    message = TensorProto(int64_val=numbers).SerializeToString()
    for place in proto_wire.bytes_fields(message, range(len(message)), 10):
        for part_bytes in (1, 7, len(message)):
            parts = [message[start : start + part_bytes] for start in range(place.start, place.stop, part_bytes)]
            assert np.concatenate([*proto_wire.read_varints(parts)]).tolist() == numbers


@pytest.mark.parametrize("data", [b"\x80", b"\1\xff", b"\x80" * 10 + b"\1"])
def test_varints_without_end(data):
    """At the end of the data, or with too many bytes."""
    with pytest.raises(DamageError, match="no end"):
        list(proto_wire.read_varints([data]))
    with pytest.raises(DamageError, match="no end"):
        proto_wire.read_varint(data[data[0] == 1 :], 0)


# Lies


def _entries(content: bytes) -> dict[bytes, bytes]:
    return dict(LeveldbTable(io.BytesIO(content)).entries(1 << 24))


def _sliced_v2(prefix: Path) -> None:
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=["x", "x"],
        shape_and_slices=["4 2 0,2:-", "4 2 2,2:-"],
        tensors=[tf.zeros([2, 2]), tf.ones([2, 2])],
    )


def _sliced_v1(path: Path) -> None:
    tf.raw_ops.SaveSlices(
        filename=str(path),
        tensor_names=["x", "x"],
        shapes_and_slices=["4 2 0,2:-", "4 2 2,2:-"],
        data=[tf.zeros([2, 2]), tf.ones([2, 2])],
    )


def _overlap(slices) -> None:
    slices[1].extent[0].start = 1


def _gap(slices) -> None:
    slices[1].extent[0].length = 1


def _beyond(slices) -> None:
    slices[1].extent[0].start = 3


def _negative(slices) -> None:
    slices[1].extent[0].start = -2


def _other_rank(slices) -> None:
    del slices[1].extent[1]


def _twice(slices) -> None:
    slices[1].CopyFrom(slices[0])


def _none(slices) -> None:
    del slices[:]


_LIES = [
    pytest.param(_overlap, "a piece is missing|overlap|twice", id="overlap"),
    pytest.param(_gap, "do not cover it exactly", id="gap"),
    pytest.param(_beyond, "reaches out", id="beyond"),
    pytest.param(_negative, "reaches out", id="negative"),
    pytest.param(_other_rank, "dimensions", id="rank"),
    pytest.param(_twice, "overlap|twice", id="twice"),
    pytest.param(_none, "cover it exactly|do not fit", id="none"),
]


@pytest.mark.parametrize(("lie", "reason"), _LIES)
def test_a_list_of_pieces_that_lies_in_v2(tmp_path, lie, reason):
    """With correct checksums."""
    _sliced_v2(tmp_path / "c")
    index = tmp_path / "c.index"
    entries = _entries(index.read_bytes())
    entry = BundleEntryProto.FromString(entries[b"x"])
    lie(entry.slices)
    entries[b"x"] = entry.SerializeToString()
    index.write_bytes(table_bytes(sorted(entries.items())))
    with pytest.raises(DamageError, match=reason):
        BundleReader(tmp_path / "c").read("x")


@pytest.mark.parametrize(("lie", "reason"), _LIES)
def test_a_list_of_pieces_that_lies_in_v1(tmp_path, lie, reason):
    """With correct checksums."""
    _sliced_v1(tmp_path / "c")
    entries = _entries((tmp_path / "c").read_bytes())
    listed = SavedTensorSlices.FromString(entries[b""])
    lie(listed.meta.tensor[0].slice)
    entries[b""] = listed.SerializeToString()
    with pytest.raises(DamageError, match=reason):
        V1Reader(io.BytesIO(table_bytes(sorted(entries.items())))).read("x")


def test_stored_pieces_that_overlap(tmp_path):
    """They have as many elements as the value, so that the list alone does not show it."""
    specs = ["4 2 0,2:-", "4 2 1,2:-"]
    tf.raw_ops.SaveSlices(
        filename=str(tmp_path / "c"), tensor_names=["x", "y"], shapes_and_slices=specs, data=[tf.zeros([2, 2])] * 2
    )
    entries = _entries((tmp_path / "c").read_bytes())
    listed = SavedTensorSlices.FromString(entries[b""])
    keys = [key for key in entries if key]
    entries[keys[1].replace(b"y", b"x")] = entries.pop(keys[1])
    listed.meta.tensor[0].slice.append(listed.meta.tensor[1].slice[0])
    del listed.meta.tensor[1]
    entries[b""] = listed.SerializeToString()
    with pytest.raises(DamageError, match="x: its pieces overlap"):
        V1Reader(io.BytesIO(table_bytes(sorted(entries.items())))).read("x")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"offset": 1 << 40}, "beyond the end", id="offset"),
        pytest.param({"size": 1 << 40}, "overlap in their files", id="size"),
        pytest.param({"dtype": 3}, "another shape or type", id="dtype"),
        pytest.param({"crc32c": 1}, "checksum", id="checksum"),
    ],
)
def test_a_piece_that_lies(tmp_path, change, reason):
    """About itself, not about the whole value."""
    _sliced_v2(tmp_path / "c")
    entries = _entries((tmp_path / "c.index").read_bytes())
    key = max(key for key in entries if key.startswith(b"\0"))
    entry = BundleEntryProto.FromString(entries[key])
    for field, value in change.items():
        setattr(entry, field, value)
    entries[key] = entry.SerializeToString()
    (tmp_path / "c.index").write_bytes(table_bytes(sorted(entries.items())))
    with pytest.raises(DamageError, match=reason):
        BundleReader(tmp_path / "c").read("x")


def test_many_pieces_in_one_place_are_refused(tmp_path):
    """A kilobyte of file would become a kilobyte of value for each piece."""
    count = 500
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "c"),
        tensor_names=["x"] * count,
        shape_and_slices=[f"{count} 250 {row},1:-" for row in range(count)],
        tensors=[tf.zeros([1, 250])] * count,
    )
    entries = _entries((tmp_path / "c.index").read_bytes())
    first = min(BundleEntryProto.FromString(entries[key]).offset for key in entries if key.startswith(b"\0"))
    for key in [key for key in entries if key.startswith(b"\0")]:
        entry = BundleEntryProto.FromString(entries[key])
        entry.offset = first
        entries[key] = entry.SerializeToString()
    (tmp_path / "c.index").write_bytes(table_bytes(sorted(entries.items())))
    assert BundleReader(tmp_path / "c").read("x").shape == (count, 250)
    data = Path(f"{tmp_path}/c.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(DamageError, match="overlap in their files"):
        BundleReader(tmp_path / "c").read("x")


def _v1_listing(tmp_path, **changes) -> V1Reader:
    write_v1(tmp_path / "c", {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})
    entries = _entries((tmp_path / "c").read_bytes())
    listed = SavedTensorSlices.FromString(entries[b""])
    [tensor] = listed.meta.tensor
    for field, value in changes.items():
        if field == "shape":
            tensor.shape.CopyFrom(type(tensor.shape)(dim=[{"size": size} for size in value]))
        else:
            setattr(tensor, field, value)
    entries[b""] = listed.SerializeToString()
    return V1Reader(io.BytesIO(table_bytes(sorted(entries.items()))))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"type": 2}, "do not fit float64", id="another dtype"),
        pytest.param({"type": 9}, "do not fit int64", id="another field"),
        pytest.param({"type": 77}, "of type dtype 77 cannot be read", id="unknown dtype"),
        pytest.param({"type": 0}, "of type dtype 0 cannot be read", id="no dtype"),
        pytest.param({"shape": [2, 2]}, "do not fit", id="shape"),
        pytest.param({"shape": [1 << 20, 1 << 20]}, "do not fit", id="large shape"),
        pytest.param({"shape": [-2, -3]}, "impossible", id="negative shape"),
        pytest.param({"shape": [1 << 62, 1 << 62]}, "impossible", id="impossible shape"),
        pytest.param({"name": "y"}, "y: a piece is missing", id="name"),
    ],
)
def test_a_v1_file_that_lies_is_not_believed(tmp_path, changes, reason):
    """It costs neither memory nor time."""
    with pytest.raises(DamageError, match=reason):
        reader = _v1_listing(tmp_path, **changes)
        reader.read(next(iter(reader.shapes)))


def test_a_v1_file_without_a_list_or_with_a_name_twice(tmp_path):
    """TensorFlow writes neither."""
    listed = SavedTensorSlices(meta={"tensor": [{"name": "x"}, {"name": "x"}]}).SerializeToString()
    for entries, reason in (([(b"x", b"")], "no list"), ([(b"", listed)], "twice"), ([(b"", b"\xff")], "decoded")):
        with pytest.raises(DamageError, match=reason):
            V1Reader(io.BytesIO(table_bytes(entries)))


def test_one_block_at_a_time_is_in_memory(tmp_path, monkeypatch):
    """And values that are read in order cost one reading of their block."""
    values = {f"x{number:03}": np.full([50_000], number, np.float32) for number in range(20)}
    values |= {f"y{number:03}": np.float32(number) for number in range(100)}
    write_v1(tmp_path / "c", values)
    read, read_block = [], LeveldbTable._read_block
    monkeypatch.setattr(
        LeveldbTable, "_read_block", lambda self, *place: read.append(place) or read_block(self, *place)
    )
    reader = _v1(tmp_path / "c")
    for name in sorted(values):
        assert _same(reader.read(name), values[name])
    assert len(read) == len(set(read))
    assert max(size for _, size in read) < 2 * 262144
