"""Our checkpoint reader and writer, against TensorFlow's and against damage."""

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from hubexport.checkpoints import leveldb_table, v2_bundle
from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.protos import BundleEntryProto, BundleHeaderProto
from hubexport.system.crc32c import masked_crc32c
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import encode_varint
from tests.checkpoints import network_values, training_values, write_v2

_SUFFIXES = (".index", ".data-00000-of-00001")


def _entries(content: bytes) -> list[tuple[bytes, bytes]]:
    return list(LeveldbTable(io.BytesIO(content)).entries(1 << 24))


def _files(prefix: Path) -> list[bytes]:
    return [Path(f"{prefix}{suffix}").read_bytes() for suffix in _SUFFIXES]


def test_writes_the_bytes_that_tensorflow_writes(tmp_path):
    """Table, blocks, restarts and checksums included. Like Saver, the test gives SaveV2 sorted names."""
    values = network_values(depth_multiplier=0.35)
    write_bundle(tmp_path / "ours", values)
    write_v2(tmp_path / "theirs", {name: values[name] for name in sorted(values)})
    assert _files(tmp_path / "ours") == _files(tmp_path / "theirs")


_NAMES = st.text("abz/_\u00e9\U0001f600", min_size=1, max_size=30)
_SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@settings(deadline=None, max_examples=60)
@given(shapes=st.dictionaries(_NAMES, _SHAPES, min_size=1, max_size=40))
def test_any_names_and_shapes_have_the_bytes_that_tensorflow_writes(tmp_path_factory, shapes):
    """Scalars, empty arrays, and names that share much or nothing."""
    folder = tmp_path_factory.mktemp("bundle")
    values = {name: np.full(shape, number, np.float32) for number, (name, shape) in enumerate(shapes.items())}
    write_bundle(folder / "ours", values)
    write_v2(folder / "theirs", {name: values[name] for name in sorted(values)})
    assert _files(folder / "ours") == _files(folder / "theirs")
    reader = BundleReader(folder / "ours")
    assert reader.shapes == {name: value.shape for name, value in values.items()}
    for name, value in values.items():
        np.testing.assert_array_equal(reader.read(name), value)


@settings(deadline=None, max_examples=40)
@given(strings=st.dictionaries(_NAMES, st.binary(max_size=300), min_size=1, max_size=5), long=st.integers(0, 70_000))
def test_strings_have_the_bytes_that_tensorflow_writes(tmp_path_factory, strings, long):
    """Strings whose length takes one, two or three bytes, empty ones, and arrays beside them."""
    folder = tmp_path_factory.mktemp("bundle")
    values = {"array": np.float32([1, 2]), "long": bytes(long), **strings}
    write_bundle(folder / "ours", values)
    write_v2(folder / "theirs", {name: values[name] for name in sorted(values)})
    assert _files(folder / "ours") == _files(folder / "theirs")
    reader = BundleReader(folder / "ours")
    assert reader.dtype("long") == "string"
    for name in values.keys() - {"array"}:
        assert reader.read_text(name) == values[name]


@pytest.mark.parametrize("position", [0, 2, 10], ids=["length", "checksum of the length", "string"])
def test_a_damaged_string_is_refused(tmp_path, position):
    """Every byte matters."""
    write_bundle(tmp_path / "m", {"x": b"some words"})
    data = Path(f"{tmp_path / 'm'}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[position] ^= 1
    data.write_bytes(content)
    with pytest.raises(DamageError, match="checksum is wrong|other lengths|no end"):
        BundleReader(tmp_path / "m").read_text("x")


def test_only_strings_are_read_as_strings(tmp_path):
    """Numbers are not read as strings, nor strings as numbers."""
    write_bundle(tmp_path / "m", {"x": np.zeros([4], np.float32), "empty": np.zeros([0], np.float32), "s": b"words"})
    reader = BundleReader(tmp_path / "m")
    for name in ("x", "empty"):
        with pytest.raises(DamageError, match="not a string"):
            reader.read_text(name)
    with pytest.raises(DamageError, match="cannot be read as numbers"):
        reader.read("s")


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "int16", "int32", "int64", "uint8", "bool", "float32"])
def test_numbers_of_every_kind_are_read(tmp_path, dtype):
    """The values are those that TensorFlow wrote."""
    value = np.arange(-3, 3).astype(dtype).reshape(2, 3)
    write_v2(tmp_path / "m", {"x": value})
    reader = BundleReader(tmp_path / "m")
    assert reader.dtype("x") == dtype
    np.testing.assert_array_equal(reader.read("x"), value)
    assert reader.read("x").dtype == value.dtype


def test_reads_what_tensorflow_wrote(tmp_path):
    """All names, shapes and dtypes."""
    values = training_values()
    write_v2(tmp_path / "model.ckpt", values)
    reader = BundleReader(tmp_path / "model.ckpt")
    assert reader.shapes == {name: np.shape(value) for name, value in values.items()}
    assert reader.dtype("global_step") == "int64"
    for name, value in values.items():
        if name != "global_step":
            assert reader.dtype(name) == "float32"
            np.testing.assert_array_equal(reader.read(name), value)


def test_reads_several_data_files(tmp_path):
    """Saver(sharded=True) writes them."""
    values = network_values()
    names = sorted(values)
    for shard, part in enumerate((names[:100], names[100:])):
        write_v2(tmp_path / f"part-{shard}", {name: values[name] for name in part})
    parts = [str(tmp_path / f"part-{shard}") for shard in range(2)]
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(tmp_path / "model.ckpt"))
    assert (tmp_path / "model.ckpt.data-00001-of-00002").is_file()
    reader = BundleReader(tmp_path / "model.ckpt")
    for name, value in values.items():
        np.testing.assert_array_equal(reader.read(name), value)


@settings(deadline=None, max_examples=60)
@given(entries=st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), min_size=1, max_size=60))
def test_a_table_holds_what_was_put_in(entries):
    """For any sorted keys and values."""
    wanted = sorted(entries.items())
    assert _entries(table_bytes(wanted)) == wanted
    found = {key: LeveldbTable(io.BytesIO(table_bytes(wanted))).find(key) for key in entries}
    assert {key: block[place.start : place.stop] for key, (block, place) in found.items()} == entries
    assert LeveldbTable(io.BytesIO(table_bytes(wanted))).find(b"nowhere" * 10) is None


def test_a_table_of_more_than_one_block_is_not_written():
    """TensorFlow would write it differently."""
    with pytest.raises(ValueError, match="do not fit"):
        table_bytes([(b"k", bytes(300_000))])


def _table_of_blocks(blocks, handles):
    """A table with any index: data blocks, then the offset and size of each entry of the index."""
    body, index_entries = b"", []
    for block in blocks:
        body, _ = leveldb_table._append_block(body, block)
    for number, (offset, size) in enumerate(handles):
        handle = encode_varint(offset) + encode_varint(size)
        index_entries.append((number.to_bytes(4, "big"), handle))
    body, index = leveldb_table._append_block(body, leveldb_table._encode_block(index_entries, restart_interval=1))
    return body + (b"\0\0" + index).ljust(40, b"\0") + leveldb_table.FOOTER_MAGIC


def test_an_index_that_names_a_block_again_and_again_is_refused():
    """Each reference would have the block read and checked again."""
    block = leveldb_table._encode_block([(b"k", bytes(50_000))], 16)
    once = _table_of_blocks([block], [(0, len(block))])
    assert [key for key, _ in _entries(once)] == [b"k"]
    with pytest.raises(DamageError, match="overlap"):
        _entries(_table_of_blocks([block], [(0, len(block))] * 1000))


@pytest.mark.slow
def test_keys_that_grow_without_bound_are_refused():
    """Each key shares all but one byte with the key before: 50 kB for 10,000 keys would become 50 MB."""
    entries = [(b"x" * length, b"") for length in range(1, 10_000)]
    small = leveldb_table._encode_block(entries, restart_interval=10_000)
    assert len(small) < 60_000
    with pytest.raises(DamageError, match="too long"):
        _entries(_table_of_blocks([small], [(0, len(small))]))


@pytest.mark.parametrize("keys", [[b"a", b"a"], [b"b", b"a"]], ids=["twice", "backwards"])
@pytest.mark.parametrize("across_blocks", [False, True])
def test_keys_out_of_order_are_refused(keys, across_blocks):
    """A repeated name would hide a value."""
    entries = [(key, b"") for key in keys]
    blocks = (
        [leveldb_table._encode_block([one], 16) for one in entries]
        if across_blocks
        else [leveldb_table._encode_block(entries, 16)]
    )
    starts = [0, len(blocks[0]) + 5]
    with pytest.raises(DamageError, match="not in order"):
        _entries(_table_of_blocks(blocks, [(start, len(block)) for start, block in zip(starts, blocks)]))


def test_tables_of_several_blocks_are_read(tmp_path):
    """Such as the index of ten thousand variables."""
    values = {f"variable/{number:05}/of/many": np.float32(number) for number in range(10_000)}
    write_v2(tmp_path / "model.ckpt", values)
    assert Path(f"{tmp_path}/model.ckpt.index").stat().st_size > leveldb_table._MAX_BLOCK_BYTES
    reader = BundleReader(tmp_path / "model.ckpt")
    assert len(reader.shapes) == 10_000
    assert reader.read("variable/09999/of/many") == 9999


def test_the_checksum_is_leveldbs():
    """The example of RFC 3720, 32 zero bytes: 0x8a9136aa, masked as in LevelDB's crc32c.h."""
    rotated = (0x8A9136AA >> 15 | 0x8A9136AA << 17) & 0xFFFFFFFF
    assert masked_crc32c(bytes(32)) == (rotated + 0xA282EAD8) & 0xFFFFFFFF


def test_an_index_with_a_flipped_bit_is_damaged(tmp_path):
    """In any of its blocks, even where the names would still be readable."""
    write_bundle(tmp_path / "m", {"variable": np.zeros(4, np.float32)})
    index = (tmp_path / "m.index").read_bytes()
    position = index.index(b"variable") + 3
    (tmp_path / "m.index").write_bytes(index[:position] + bytes([index[position] ^ 1]) + index[position + 1 :])
    with pytest.raises(DamageError, match="a checksum is wrong"):
        BundleReader(tmp_path / "m")


def _with_entry(prefix: Path, **changes) -> None:
    """Changes fields of the index entry of `x`, with correct checksums."""
    entries = dict(_entries(Path(f"{prefix}.index").read_bytes()))
    entry = BundleEntryProto.FromString(entries[b"x"])
    for field, value in changes.items():
        if field == "shape":
            del entry.shape.dim[:]
            for length in value:
                entry.shape.dim.add(size=length)
        else:
            setattr(entry, field, value)
    entries[b"x"] = entry.SerializeToString()
    Path(f"{prefix}.index").write_bytes(table_bytes(sorted(entries.items())))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"offset": 1000}, "points beyond the end", id="offset"),
        pytest.param({"offset": -8}, "points beyond the end", id="negative offset"),
        pytest.param({"shape": [1 << 40], "size": 1 << 42}, "points beyond the end", id="huge"),
        pytest.param({"size": 8}, "8 bytes do not fit float32 of shape [4]", id="size"),
        pytest.param({"shape": [-1, -4]}, "impossible shape", id="negative shape"),
        pytest.param({"shape": [1] * 40}, "impossible shape", id="dimensions"),
        pytest.param({"shape": [1 << 62] * 20_000}, "impossible shape", id="elements"),
        pytest.param({"dtype": 2}, "fit float64", id="dtype"),
        pytest.param({"crc32c": 7}, "its checksum is wrong", id="checksum"),
    ],
)
def test_an_index_that_lies_is_not_believed(tmp_path, changes, reason):
    """It costs neither memory nor time."""
    write_bundle(tmp_path / "m", {"x": np.arange(4, dtype=np.float32)})
    _with_entry(tmp_path / "m", **changes)
    with pytest.raises(DamageError) as caught:
        BundleReader(tmp_path / "m").read("x")
    assert reason in str(caught.value)


def test_a_shard_that_is_not_there(tmp_path):
    """The index determines the file of a value."""
    write_bundle(tmp_path / "m", {"x": np.arange(4, dtype=np.float32)})
    _with_entry(tmp_path / "m", shard_id=3)
    with pytest.raises(FileNotFoundError):
        BundleReader(tmp_path / "m").read("x")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        pytest.param(None, "it has no header", id="none"),
        pytest.param(b"\xff", "an entry cannot be decoded", id="junk"),
        pytest.param(BundleHeaderProto(num_shards=1, endianness=1).SerializeToString(), "big-endian", id="big-endian"),
    ],
)
def test_headers_that_are_not_understood(tmp_path, header, reason):
    """The header is the first entry of every index."""
    entries = [(b"", header)] * (header is not None) + [(b"x", BundleEntryProto(dtype=1).SerializeToString())]
    (tmp_path / "m.index").write_bytes(table_bytes(entries))
    with pytest.raises(DamageError) as caught:
        BundleReader(tmp_path / "m")
    assert reason in str(caught.value)


def test_an_implausibly_large_index_is_not_read(tmp_path, monkeypatch):
    """It would be held in memory."""
    monkeypatch.setattr(v2_bundle, "_MAX_INDEX_BYTES", 100)
    write_bundle(tmp_path / "m", {"x" * 200: np.zeros(4, np.float32)})
    with pytest.raises(DamageError, match="larger than"):
        BundleReader(tmp_path / "m")


@pytest.mark.fuzz
@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_no_damage_to_an_index_raises_anything_else(tmp_path_factory, data):
    """Bytes are changed, cut or added at random. The checksums of blocks are ignored so that damage gets further."""
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(folder / "m", {name: np.ones(3, np.float32) for name in ("a", "ab", "b")})
    index = bytearray((folder / "m.index").read_bytes())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(index) - 1), st.integers(0, 255)), max_size=6)
    ):
        index[position] = value
    cut = data.draw(st.integers(0, len(index)))
    (folder / "m.index").write_bytes(index[cut:] if data.draw(st.booleans()) else index[:cut] + data.draw(st.binary()))
    with pytest.MonkeyPatch.context() as patch:
        if data.draw(st.booleans()):
            patch.setattr(leveldb_table, "masked_crc32c", lambda *parts: int.from_bytes(index[-4:], "little"))
        try:
            reader = BundleReader(folder / "m")
            for name in reader.shapes:
                reader.read(name)
        except (DamageError, FileNotFoundError):
            pass


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=300))
def test_any_block_is_entries_or_an_error(data):
    """The innermost parser, without the checksums in front of it, yields only places within the block."""
    try:
        assert sum(stop - start for _, start, stop in leveldb_table._block_entries(data)) <= len(data)
    except DamageError:
        pass
