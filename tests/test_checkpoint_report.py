"""`hubexport inspect` on files of values, against TensorFlow's reader and NumPy."""

import io
import json

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.conversion import convert
from hubexport.description import describe
from hubexport.errors import CheckpointError, HubexportError
from hubexport.protos import BundleEntryProto
from hubexport.variants import ModuleSpec
from tests.archives import member, tgz
from tests.checkpoints import MOBILENET_V2_MULTIPLIERS, network_values, training_values, write_v1, write_v2
from tests.command import hubexport
from tests.data import REAL_ARCHIVE, needs_data
from tests.test_dtypes import write_safetensors_bits


def _describe(path):
    return describe(str(path))


@pytest.mark.parametrize(("write", "container"), [(write_v1, "V1 checkpoint"), (write_v2, "V2 checkpoint")])
def test_a_training_checkpoint(tmp_path, write, container):
    """Names and shapes give the network, classes, step, averages and slots."""
    values = training_values()
    values["MobilenetV2/Conv/weights/Momentum"] = np.zeros([3, 3, 3, 16], np.float32)
    write(tmp_path / "model.ckpt", values)
    report = _describe(tmp_path / "model.ckpt")
    count = len(network_values())
    assert (report.container, report.packed, report.layout) == (container, False, "TF-Slim")
    assert (report.network, report.family_parameters.depth_multiplier, report.num_classes) == ("mobilenet_v2", 0.35, 7)
    assert (report.num_features, report.step, report.averaged_copies) == (1280, 12345, count)
    assert report.optimizer_slots == {"Momentum": 1, "RMSProp": count}
    assert report.parameters == sum(value.size for value in network_values().values())


def test_the_figures_of_every_variable(tmp_path):
    """NumPy computes the same from values that TensorFlow reads. NaN and infinity are counted and left out."""
    values = training_values()
    values["MobilenetV2/Conv/weights"].flat[:5] = [np.nan, np.nan, np.inf, -np.inf, 50]
    values["large"] = np.float32([3e30, 4e30])
    values["words"] = np.array([b"a", b"b"])
    values["empty"] = np.zeros([0, 3], np.float32)
    write_v2(tmp_path / "model.ckpt", values)
    report = _describe(tmp_path / "model.ckpt")
    stored = tf.train.load_checkpoint(str(tmp_path / "model.ckpt"))
    shapes = stored.get_variable_to_shape_map()
    assert [variable.name for variable in report.variables] == sorted(shapes)
    for variable in report.variables:
        value = np.asarray(stored.get_tensor(variable.name))
        assert variable.shape == value.shape
        if variable.name in ("words", "empty"):
            assert (variable.norm, variable.minimum, variable.maximum) == (None, None, None)
            assert variable.nan_count == (None if variable.name == "words" else 0) == variable.infinite_count
            continue
        finite = value[np.isfinite(value)]
        assert variable.dtype == value.dtype.name
        assert variable.norm == pytest.approx(np.sqrt(np.sum(finite.astype(np.float64) ** 2)))
        assert (variable.minimum, variable.maximum) == (finite.min(), finite.max())
        broken = (2, 2) if variable.name == "MobilenetV2/Conv/weights" else (0, 0)
        assert (variable.nan_count, variable.infinite_count) == broken
    assert (report.nan_count, report.infinite_count) == (2, 2)
    assert {variable.name: variable.dtype for variable in report.variables}["words"] == "string"
    assert report.not_read == {"string": 1}


def _bfloat16(values):
    """The values in bfloat16, with one NaN."""
    values = {name: value.astype(ml_dtypes.bfloat16) for name, value in values.items()}
    values["MobilenetV2/Conv/weights"].flat[3] = np.nan
    return values


def _write_bfloat16_safetensors(path, values):
    write_safetensors_bits(path, {name: ("BF16", value.shape, value.tobytes()) for name, value in values.items()})


@pytest.mark.parametrize("write", [write_v2, _write_bfloat16_safetensors], ids=["V2", "safetensors"])
def test_bfloat16_is_read(tmp_path, write):
    """Its NaN is counted, and the figures are those of ml_dtypes."""
    values = _bfloat16(network_values())
    write(tmp_path / "c", values)
    report = _describe(tmp_path / "c")
    assert (report.network, report.nan_count, report.not_read) == ("mobilenet_v2", 1, {})
    for variable in report.variables:
        float64_values = values[variable.name].astype(np.float64)
        assert (variable.dtype, variable.minimum, variable.maximum) == (
            "bfloat16",
            np.nanmin(float64_values),
            np.nanmax(float64_values),
        )
    done = hubexport("inspect", tmp_path / "c")
    assert f"{len(values)}, 1 NaN and 0 infinite numbers in MobilenetV2/Conv/weights\n" in done.stdout
    done = hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "slim", "--weights", "raw")
    assert done.returncode == 1 and "MobilenetV2/Conv/weights: 1 NaN, 0 infinite of 432" in done.stderr


def _quantized(name):
    return tf.quantization.quantize(tf.constant([0.5, -1.0]), -1.0, 1.0, getattr(tf, name))[0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"x": np.float32(1)}, "1, all numbers finite"),
        (
            {"x": np.float32(1), "s": np.array(b"x"), "t": np.array([b"y"])},
            "3, 1 read: all numbers finite; not read: 2 (string)",
        ),
        (
            {"x": np.float32([np.nan]), "s": np.array(b"x"), "q": _quantized("qint8")},
            "3, 1 read: 1 NaN and 0 infinite numbers in x; not read: 2 (1 qint8, 1 string)",
        ),
        ({"s": np.array(b"x")}, "1, not read: 1 (string)"),
    ],
)
def test_nothing_is_said_of_what_was_not_read(tmp_path, values, expected):
    """The report says only how many values were not read, and their dtypes."""
    write_v2(tmp_path / "c", values)
    lines = [" ".join(line.split()) for line in hubexport("inspect", tmp_path / "c", "--variables").stdout.splitlines()]
    assert f"values {expected}" in lines
    if "s" in values:
        assert lines[-1].startswith("x") or "s [] string - - - - -" in lines
    described = json.loads(hubexport("inspect", tmp_path / "c", "--variables", "--format", "json").stdout)
    unread = [variable["dtype"] for variable in described["variables"] if variable["nan_count"] is None]
    assert described["not_read"] == {dtype: unread.count(dtype) for dtype in unread}
    assert len(unread) == len(values) - ("x" in values)


def test_an_unknown_dtype_is_not_read(tmp_path):
    """A future TensorFlow may write one."""
    write_bundle(tmp_path / "c", {"x": np.float32(1), "y": np.float32(2)})
    index = tmp_path / "c.index"
    entries = dict(LeveldbTable(io.BytesIO(index.read_bytes())).entries(1 << 20))
    entry = BundleEntryProto.FromString(entries[b"x"])
    entry.dtype = 77
    index.write_bytes(table_bytes(sorted({**entries, b"x": entry.SerializeToString()}.items())))
    assert "2, 1 read: all numbers finite; not read: 1 (dtype 77)" in hubexport("inspect", tmp_path / "c").stdout


def test_figures_of_odd_numbers(tmp_path):
    """Complex numbers have no minimum, a norm that overflows is None, and JSON cannot express infinity."""
    values = {
        "c": np.complex64([3 + 4j, np.nan]),
        "large": np.float64([1e200, -1e200]),
        "flag": np.array([True, False]),
    }
    values |= {"unsigned": np.uint64([1, 1 << 63])}
    write_v2(tmp_path / "c", values)
    found = {
        variable.name: (variable.norm, variable.minimum, variable.maximum, variable.nan_count)
        for variable in _describe(tmp_path / "c").variables
    }
    assert found == {
        "c": (5.0, None, None, 1),
        "large": (None, -1e200, 1e200, 0),
        "flag": (1.0, 0.0, 1.0, 0),
        "unsigned": (2.0**63, 1.0, 2.0**63, 0),
    }
    json.loads(
        hubexport("inspect", tmp_path / "c", "--variables", "--format", "json").stdout, parse_constant=pytest.fail
    )


@pytest.mark.parametrize("write", [write_v1, write_v2], ids=["V1", "V2"])
@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (np.int64(7), 7),
        (np.int32(7), 7),
        (np.int64([7]), 7),
        (np.int64(-7), -7),
        (np.int64([7, 8]), None),
        (np.zeros([0], np.int64), None),
        (np.float32(7), None),
        (np.array(b"7"), None),
        (np.array(True), None),
    ],
    ids=str,
)
def test_steps_of_odd_shapes_and_dtypes(tmp_path, write, step, expected):
    """Only a single whole number is a step."""
    write(tmp_path / "c", {"global_step": step, "x": np.float32(1)})
    assert _describe(tmp_path / "c").step == expected
    assert hubexport("inspect", tmp_path / "c").returncode == 0


@pytest.mark.parametrize("multiplier", MOBILENET_V2_MULTIPLIERS)
@pytest.mark.parametrize(
    ("to", "name", "container"),
    [
        ("slim", "c", "V2 checkpoint"),
        ("tf2", "c", "object-based checkpoint"),
        ("keras", "c.h5", "HDF5 file"),
        ("keras", "c.weights.h5", "HDF5 file"),
        ("safetensors", "anything", "safetensors file"),
        ("huggingface", "c", "safetensors file"),
    ],
)
@pytest.mark.slow
def test_every_format_and_depth_multiplier_is_recognized(tmp_path, multiplier, to, name, container):
    """From content alone."""
    write_v2(tmp_path / "model.ckpt", network_values(multiplier, num_classes=3))
    path = convert(str(tmp_path / "model.ckpt"), tmp_path / "to" / name, to, weights="raw")
    report = _describe(path)
    found = report.family_parameters.depth_multiplier
    assert (report.container, found, report.num_classes) == (container, multiplier, 3)


def test_values_of_no_known_network(tmp_path):
    """They are described all the same."""
    write_v2(tmp_path / "c", {"x": np.float32([3, 4]), "x/Adam": np.float32([1, 1])})
    report = _describe(tmp_path / "c")
    assert (report.layout, report.network, report.num_classes, report.step) == (None, None, None, None)
    assert report.optimizer_slots == {"Adam": 1}
    assert report.variables[0].norm == 5.0
    done = hubexport("inspect", tmp_path / "c")
    assert "unknown" in done.stdout and done.returncode == 0


def test_damage_is_an_error(tmp_path):
    """All values are read, and with them all checksums."""
    write_v2(tmp_path / "c", training_values())
    data = tmp_path / "c.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        _describe(tmp_path / "c")
    assert "global_step: its checksum is wrong" in caught.value.why


@pytest.mark.parametrize("write", [lambda path: h5py.File(path, "w").close(), lambda path: save_file({}, path)])
def test_a_file_without_values_is_an_error(tmp_path, write):
    """Keras leaves such a file if saving fails. Without an error it would count as finite and equal to any other."""
    write(tmp_path / "nothing")
    for command in (["inspect", tmp_path / "nothing"], ["diff", tmp_path / "nothing", tmp_path / "nothing"]):
        done = hubexport(*command)
        assert done.returncode == 1 and "it holds no values" in done.stderr and not done.stdout


def test_synthetic_values_cannot_be_inspected():
    """They fit any network."""
    with pytest.raises(CheckpointError, match="cannot be inspected"):
        _describe("synthetic:1")


@needs_data
def test_the_command_describes_the_real_archive():
    """As text and as JSON."""
    done = hubexport("inspect", REAL_ARCHIVE)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        str(REAL_ARCHIVE),
        "format V2 checkpoint, in a gzipped tar",
        "names TF-Slim",
        "network mobilenet_v2, depth multiplier 1",
        "classes 1001",
        "parameters 3,540,265",
        "step 1,450,000",
        "averaged copies of 262 variables",
        "optimizer slots RMSProp of 158 variables, RMSProp_1 of 158 variables",
        "values 841, all numbers finite",
    ]
    described = json.loads(hubexport("inspect", REAL_ARCHIVE, "--format", "json").stdout)
    assert (described["network"], described["depth_multiplier"], described["packed"]) == ("mobilenet_v2", 1.0, True)
    assert "variables" not in described


def test_the_command_lists_variables(tmp_path):
    """One line each, and the variables that are not finite at the top."""
    values = {"x": np.float32([3, 4]), "y": np.float32([np.nan, 1])}
    write_v2(tmp_path / "c", values)
    done = hubexport("inspect", tmp_path / "c", "--variables")
    assert "1 NaN and 0 infinite numbers in y" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if line.startswith((" x", " y"))] == [
        ["x", "[2]", "float32", "5", "3", "4", "0", "0"],
        ["y", "[2]", "float32", "1", "1", "1", "1", "0"],
    ]
    described = json.loads(hubexport("inspect", tmp_path / "c", "--variables", "--format", "json").stdout)
    assert [variable["name"] for variable in described["variables"]] == ["x", "y"]


def test_names_from_strangers_are_shown_as_they_are(tmp_path):
    """Markup and control characters have no effect, not even in errors."""
    for name, number in (("a", 1), ("b", 2)):
        write_bundle(tmp_path / name, {"[red]x\x1b[31m": np.float32(number)})
    shown = r"[red]x\x1b[31m"
    assert f" {shown} " in hubexport("inspect", tmp_path / "a", "--variables").stdout
    assert f" {shown} " in hubexport("diff", tmp_path / "a", tmp_path / "b").stdout
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(4))
    assert f"why: {shown}: its checksum is wrong" in hubexport("inspect", tmp_path / "a").stderr


def test_a_packed_module_and_a_packed_checkpoint_are_told_apart(small, tmp_path):
    """By their contents."""
    [module] = build_modules(
        small, [ModuleSpec.parse("classification/3")], checkpoint="synthetic:1", output_dir=tmp_path
    )
    files = [path for path in sorted(module.rglob("*")) if path.is_file()]
    members = [member(f"./m/{path.relative_to(module)}", path.read_bytes()) for path in files]
    (tmp_path / "module.tar.gz").write_bytes(tgz(*members))
    packed, plain = _describe(tmp_path / "module.tar.gz"), _describe(module)
    assert packed.path == str(tmp_path / "module.tar.gz")
    assert packed.graph_versions == plain.graph_versions and packed.digest_problems == ()
    done = hubexport("inspect", tmp_path / "module.tar.gz")
    assert done.returncode == 0 and "TF1 Hub module" in done.stdout


def test_paths_and_archives_that_the_system_refuses(tmp_path):
    """A name that is too long, and a file in place of a folder in an archive, raise no traceback."""
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        _describe("x" * 5000)
    (tmp_path / "a.tgz").write_bytes(tgz(member("a/saved_model.pb"), member("a/b"), member("a/b/c")))
    with pytest.raises(HubexportError, match="a folder that is also a file"):
        _describe(tmp_path / "a.tgz")
