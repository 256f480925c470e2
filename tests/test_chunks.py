"""Values in chunks: the same bytes whatever stores them, damage that shows before the last one, and bounded memory."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import io
import os
from pathlib import Path
import struct
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
from safetensors.numpy import save, save_file
import tensorflow as tf

from hubexport.arrays import CHUNK_BYTES, StreamedValue, streamed
from hubexport.checkpoints import leveldb_table, synthetic
from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.container_readers import open_container
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.safetensors_file import write_safetensors
from hubexport.checkpoints.slices import boxes, join_pieces
from hubexport.checkpoints.snappy import unpacked_parts
from hubexport.checkpoints.stored_values import StoredValues, in_chunks
from hubexport.checkpoints.synthetic import SyntheticValues, synthetic_value
from hubexport.checkpoints.v1_checkpoint import V1Reader
from hubexport.checkpoints.v2_bundle import BundleReader, data_path, write_bundle
from hubexport.config_files import load_variant
from hubexport.networks.ops import Variable
from hubexport.system import proto_wire
from hubexport.system.crc32c import masked_crc32c
from hubexport.system.damage import DamageError
from tests.checkpoints import write_v1, write_v2

# Not a whole number of chunks.
_ROWS, _COLUMNS = 700, 1100


def _value(dtype: str = "float32") -> np.ndarray:
    random = np.random.default_rng(0)
    return np.frombuffer(random.bytes(_ROWS * _COLUMNS * np.dtype(dtype).itemsize), dtype).reshape(_ROWS, _COLUMNS)


def _slices(value: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """Cuts a value in pieces of unequal size along both axes."""
    cuts = [(rows, columns) for rows in ((0, 300), (300, 700)) for columns in ((0, 13), (13, 1100))]
    specs = [f"{_ROWS} {_COLUMNS} {a},{b - a}:{c},{d - c}" for (a, b), (c, d) in cuts]
    return specs, [value[a:b, c:d] for (a, b), (c, d) in cuts]


@contextlib.contextmanager
def _opened(path: Path, container: str) -> Iterator[StoredValues]:
    paths = (Path(f"{path}.index"), data_path(path, 0, 1)) if container == "V2" else (path,)
    with open_container(CheckpointFiles(path, paths, container), path) as stored:
        yield stored


def _write_v1_pieces(path: Path, values: Mapping[str, np.ndarray]) -> None:
    [(name, value)] = values.items()
    specs, pieces = _slices(value)
    tf.raw_ops.SaveSlices(
        filename=str(path), tensor_names=[name] * 4, shapes_and_slices=specs, data=[*map(tf.constant, pieces)]
    )


def _write_v2_pieces(path: Path, values: Mapping[str, np.ndarray]) -> None:
    [(name, value)] = values.items()
    specs, pieces = _slices(value)
    tf.raw_ops.SaveV2(
        prefix=str(path), tensor_names=[name] * 4, shape_and_slices=specs, tensors=[*map(tf.constant, pieces)]
    )


def _write_h5(path: Path, values: Mapping[str, np.ndarray], **options) -> None:
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file.create_dataset(name, data=value, **options)


_WRITERS: dict[str, tuple[str, Callable[[Path, Mapping[str, np.ndarray]], None]]] = {
    "V1": ("V1", write_v1),
    "V1 in pieces": ("V1", _write_v1_pieces),
    "V2": ("V2", write_v2),
    "V2 in pieces": ("V2", _write_v2_pieces),
    "safetensors": ("safetensors", lambda path, values: save_file(dict(values), path)),
    "HDF5": ("HDF5", _write_h5),
    "HDF5 compressed": ("HDF5", lambda path, values: _write_h5(path, values, compression="gzip")),
}


@pytest.mark.parametrize("written", _WRITERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_chunks_make_up_the_value(tmp_path, written, dtype):
    """Bit for bit, and with the same borders in every container."""
    value = _value(dtype)
    container, write = _WRITERS[written]
    write(tmp_path / "c", {"x": value})
    with _opened(tmp_path / "c", container) as stored:
        chunks = [*stored.chunks("x")]
        assert [chunk.nbytes for chunk in chunks[:-1]] == [CHUNK_BYTES] * (len(chunks) - 1) and len(chunks) > 1
        assert b"".join(chunk.tobytes() for chunk in chunks) == value.tobytes()
        assert [chunk.tobytes() for chunk in chunks] == [*stored.stored_chunks("x")]
        assert {chunk.dtype for chunk in chunks} == {value.dtype}
        assert stored.read("x").tobytes() == value.tobytes()
        # They can be read again.
        assert b"".join(stored.stored_chunks("x")) == value.tobytes()


@pytest.mark.parametrize("written", ["V1", "V1 in pieces", "V2", "V2 in pieces"])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_damage_shows_before_the_last_chunk(tmp_path, written, place):
    """Wherever it is: checksums cover whole values, pieces or blocks."""
    container, write = _WRITERS[written]
    write(tmp_path / "c", {"x": _value()})
    path = tmp_path / "c" if container == "V1" else data_path(tmp_path / "c", 0, 1)
    content = bytearray(path.read_bytes())
    # V1's index follows its values.
    content[int(place * (_ROWS * _COLUMNS * 4))] ^= 1
    path.write_bytes(content)
    received = 0
    with pytest.raises(DamageError, match="checksum is wrong"), _opened(tmp_path / "c", container) as stored:
        for chunk in stored.chunks("x"):
            received += chunk.nbytes
    assert received < _ROWS * _COLUMNS * 4


@pytest.mark.parametrize("written", ["V2", "safetensors"])
def test_a_file_that_is_cut_while_it_is_read(tmp_path, written):
    """Its end is missed, not made up."""
    container, write = _WRITERS[written]
    write(tmp_path / "c", {"x": _value()})
    path = data_path(tmp_path / "c", 0, 1) if container == "V2" else tmp_path / "c"
    with pytest.raises(DamageError, match="checksum|shorter"), _opened(tmp_path / "c", container) as stored:
        chunks = stored.chunks("x")
        next(chunks)
        os.truncate(path, CHUNK_BYTES + 100)
        list(chunks)


# Made-up values


def _as_before(variable: Variable, seed: int) -> np.ndarray:
    """Draws all numbers at once, as the first release did."""
    generator = np.random.RandomState((zlib.crc32(variable.name.encode()) + 7919 * seed) % 2**32)
    shape, kind = variable.shape, variable.name.rpartition("/")[2]
    if kind in ("gamma", "moving_variance"):
        spread = 0.3 if kind == "gamma" else 0.4
        return np.asarray(generator.uniform(1 - spread, 1 + spread, shape), np.float32)
    if kind in ("beta", "moving_mean", "biases"):
        return np.asarray(generator.normal(0, 0.2, shape), np.float32)
    fan_in = np.prod(shape[:2]) * (1 if kind == "depthwise_weights" else shape[2])
    return np.asarray(generator.normal(0, np.sqrt(1.4 / fan_in), shape), np.float32)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("a/weights", (3, 3, 5, 7)),
        ("a/depthwise_weights", (3, 3, 11, 1)),
        ("a/gamma", (333,)),
        ("a/moving_variance", (333,)),
        ("a/beta", (333,)),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [4, 28, 400, CHUNK_BYTES])
def test_made_up_values_do_not_depend_on_chunks(monkeypatch, name, shape, chunk_bytes):
    """Normal numbers come in pairs: a chunk may end between two."""
    monkeypatch.setattr(synthetic, "CHUNK_BYTES", chunk_bytes)
    variable = Variable(name, shape, "kernel")
    value = synthetic_value(variable, seed=3)
    assert value.dtype == np.float32 and value.shape == shape
    assert value.tobytes() == _as_before(variable, 3).tobytes()
    assert b"".join(SyntheticValues([variable], 3).stored_chunks(name)) == value.tobytes()


# Writers


@pytest.mark.parametrize("shape", [(_ROWS, _COLUMNS), (0, 3), (), (1,)])
def test_both_writers_take_streams_and_arrays(tmp_path, shape):
    """With the same bytes."""
    value = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for name, given in (("array", value), ("stream", StreamedValue(shape, streamed(value).chunks))):
        write_bundle(tmp_path / name, {"x": given, "y": value})
        write_safetensors(tmp_path / f"{name}.safetensors", {"x": given, "y": value}, {})
    for suffix in (".index", ".data-00000-of-00001", ".safetensors"):
        assert Path(f"{tmp_path}/array{suffix}").read_bytes() == Path(f"{tmp_path}/stream{suffix}").read_bytes()
    assert BundleReader(tmp_path / "stream").read("x").tobytes() == value.tobytes()


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"text": 'é\n\x01"'}])
def test_safetensors_files_have_the_packages_bytes(tmp_path, metadata):
    """For all dtypes and odd names: order, padding and escapes."""
    dtypes = ["bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32", "float64"]
    dtypes += ["int64", "uint64"]
    names = ["b", "a", 'é\n\x01\x7f"\\/\u2028']
    values = {f"{name}{dtype}": np.arange(n + 1).astype(dtype) for n, dtype in enumerate(dtypes) for name in names}
    values |= {"matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T, "none": np.zeros([0, 3], np.float32)}
    write_safetensors(tmp_path / "c", values, metadata)
    plain = {name: np.asarray(value, order="C") for name, value in values.items()}
    assert (tmp_path / "c").read_bytes() == save(plain, metadata)


# The parts


@pytest.mark.parametrize("shape", [(), (0, 4), (5,), (2, 3, 4), (7, 1, 9), (3, 100, 100)])
@pytest.mark.parametrize("chunk_bytes", [4, 16, 100, 4000])
def test_boxes_make_up_a_value_in_order(monkeypatch, shape, chunk_bytes):
    """Each is of the size of a chunk at most."""
    monkeypatch.setattr("hubexport.checkpoints.slices.CHUNK_BYTES", chunk_bytes)
    value = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    found = [value[box] for box in boxes(shape, 4)]
    assert [number for part in found for number in part.ravel()] == value.ravel().tolist()
    assert all(part.nbytes <= chunk_bytes for part in found)


def test_pieces_are_each_read_once_and_in_order(monkeypatch):
    """In parts of any size, and in chunks smaller than a row."""
    monkeypatch.setattr("hubexport.checkpoints.slices.CHUNK_BYTES", 12)
    value = np.arange(2 * 5 * 7, dtype=np.int32).reshape(2, 5, 7)
    where = [np.s_[0:2, 0:2, 0:7], np.s_[0:1, 2:5, 0:3], np.s_[0:1, 2:5, 3:7], np.s_[1:2, 2:5, 0:7]]
    contents = [value[region].tobytes() for region in where]
    for part_bytes in (1, 5, 1000):
        pieces = [iter([data[i : i + part_bytes] for i in range(0, len(data), part_bytes)]) for data in contents]
        assert b"".join(join_pieces(value.shape, 4, where, pieces)) == value.tobytes()


@pytest.mark.parametrize("sizes", [[], [0], [1], [CHUNK_BYTES], [CHUNK_BYTES, 5], [7, CHUNK_BYTES, 3 * CHUNK_BYTES, 9]])
def test_in_chunks(sizes):
    """All but the last are of one size."""
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    chunks = [*in_chunks(parts)]
    assert b"".join(chunks) == b"".join(parts)
    assert all(len(chunk) == CHUNK_BYTES for chunk in chunks[:-1]) and b"" not in chunks


def _packed_literals(data: bytes, literal_bytes: int) -> bytes:
    packed = bytearray(proto_wire.encode_varint(len(data)))
    for start in range(0, len(data), literal_bytes):
        literal = data[start : start + literal_bytes]
        packed += bytes([63 << 2]) + struct.pack("<I", len(literal) - 1) + literal
    return bytes(packed)


@pytest.mark.parametrize("literal_bytes", [1 << 16, 1 << 30])
def test_a_large_compressed_block_of_v1(tmp_path, literal_bytes):
    """It is unpacked into a file, whether its literals are as short as Snappy's or as long as the format allows."""
    value = np.frombuffer(np.random.default_rng(0).bytes(5 << 20), np.float32)
    write_v1(tmp_path / "plain", {"x": value})
    entries = list(leveldb_table.LeveldbTable(io.BytesIO((tmp_path / "plain").read_bytes())).entries(1 << 30))
    block = leveldb_table._encode_block(entries, 16)
    packed = _packed_literals(block, literal_bytes)
    parts = [*unpacked_parts(packed)]
    assert b"".join(parts) == block and max(map(len, parts)) <= 3 * CHUNK_BYTES
    table = packed + b"\1" + struct.pack("<I", masked_crc32c(packed, b"\1"))
    handle = proto_wire.encode_varint(0) + proto_wire.encode_varint(len(packed))
    table, meta = leveldb_table._append_block(table, leveldb_table._encode_block([], 16))
    table, index = leveldb_table._append_block(table, leveldb_table._encode_block([(entries[-1][0], handle)], 1))
    table += (meta + index).ljust(40, b"\0") + leveldb_table.FOOTER_MAGIC
    assert V1Reader(io.BytesIO(table)).read("x").tobytes() == value.tobytes()
    damaged = table[:100_000] + b"~" + table[100_001:]
    with pytest.raises(DamageError, match="checksum"):
        V1Reader(io.BytesIO(damaged)).read("x")


def test_a_copy_from_too_far_back_is_refused():
    """No packer of Snappy's format makes one; what it refers to is no longer in memory."""
    packed = bytearray(_packed_literals(bytes(range(256)) * (4 * CHUNK_BYTES // 256), 1 << 30))
    length = 4 * CHUNK_BYTES + 4
    assert len(proto_wire.encode_varint(length)) == len(proto_wire.encode_varint(4 * CHUNK_BYTES))
    packed[: len(proto_wire.encode_varint(length))] = proto_wire.encode_varint(length)
    near = bytes(packed) + bytes([3 << 2 | 3]) + struct.pack("<I", 65536)
    assert b"".join(unpacked_parts(near))[-4:] == bytes(range(4))
    with pytest.raises(DamageError, match="cannot be unpacked"):
        list(unpacked_parts(bytes(packed) + bytes([3 << 2 | 3]) + struct.pack("<I", 4 * CHUNK_BYTES)))


# Memory

# VGG's largest variable.
_VGG_SHAPE = (7, 7, 512, 4096)

# Reads a checkpoint's value in every way, and prints the most memory that this process ever had, in MiB. `ru_maxrss`
# would include the memory of the process that started it.
_PASS_ON = """
import sys
from pathlib import Path
from hubexport.arrays import StreamedValue
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.checkpoint_report import describe_checkpoint
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.safetensors_file import write_safetensors
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.deployment_comparison import compare
from hubexport.progress import Progress
source, folder = map(Path, sys.argv[1:])
with open_checkpoint(resolve_source(source, None, Progress()), Progress()) as opened:
    native = opened.native
    values = {name: StreamedValue(native.shapes[name], lambda name=name: native.chunks(name)) for name in native.shapes}
    write_bundle(folder / "v2", values)
    write_safetensors(folder / "s", values, {})
    report = describe_checkpoint(opened)
assert report.nan_count == 0 and report.variables[-1].maximum > 1e8
assert compare(source, folder / "v2").differences == compare(folder / "s", folder / "v2").differences == ()
[peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak) >> 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("written", ["V1", "V1 in pieces", "V2"])
def test_a_variable_of_411_mb_takes_little_memory(tmp_path, written):
    """Python and its packages included; and the bytes are TensorFlow's."""
    value = np.arange(np.prod(_VGG_SHAPE), dtype=np.float32).reshape(_VGG_SHAPE)
    folder = tmp_path / "of_tensorflow"
    folder.mkdir()
    if written == "V1 in pieces":
        shape = " ".join(map(str, _VGG_SHAPE))
        specs = [f"{shape} -:-:-:{start},2048" for start in (0, 2048)]
        tf.raw_ops.SaveSlices(
            filename=str(folder / "c"),
            tensor_names=["x", "x"],
            shapes_and_slices=specs,
            data=[tf.constant(value[..., start : start + 2048]) for start in (0, 2048)],
        )
    else:
        (write_v2 if written == "V2" else write_v1)(folder / "c", {"x": value})
    command = [sys.executable, "-c", _PASS_ON, folder / "c", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150
    assert BundleReader(tmp_path / "v2").read("x").tobytes() == value.tobytes()


_BUILD = """
import sys
from pathlib import Path
import hubexport
variant, checkpoint, folder, *modules = sys.argv[1:]
hubexport.build_modules(hubexport.load_variant(variant), modules, checkpoint=checkpoint, output_dir=folder)
[peak] = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak) >> 10)
"""


@pytest.mark.slow
def test_the_largest_network_is_built_within_200_mib(tmp_path):
    """Its values take 240 MB, made up or from a checkpoint of averages."""
    variant = load_variant("resnet_v2_152")
    stored = SyntheticValues(variant.network_for("classification").variables, 1)
    values = {
        name: StreamedValue(shape, functools.partial(stored.chunks, name)) for name, shape in stored.shapes.items()
    }
    write_bundle(tmp_path / "c", {f"{name}{AVERAGED_SUFFIX}": value for name, value in values.items()})
    for source in (tmp_path / "c", "synthetic:1"):
        modules = ["feature_vector/3", "classification/5"]
        command = [sys.executable, "-c", _BUILD, variant.name, source, tmp_path / f"from_{Path(source).name}", *modules]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) < 200
