"""Comparisons of values, against NumPy."""

import json

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.conversion import convert
from hubexport.deployment_comparison import compare
from hubexport.errors import CheckpointError
from hubexport.variants import ModuleSpec
from tests.checkpoints import network_values, training_values, write_v1, write_v2
from tests.command import hubexport


def _compare(a, b, weights="averaged"):
    return compare(str(a), str(b), weights=weights)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as TF-Slim's training writes it."""
    write_v2(tmp_path / "model.ckpt", training_values(averaged_seed=1, raw_seed=2))
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("slim", "c"),
        ("tf2", "c"),
        ("keras", "c.h5"),
        ("keras", "c.weights.h5"),
        ("safetensors", "c"),
        ("huggingface", "c"),
    ],
)
@pytest.mark.parametrize("weights", ["averaged", "raw"])
@pytest.mark.slow
def test_converted_values_are_equal(tmp_path, checkpoint, to, name, weights):
    """By TF-Slim's names. The other kind of values, averaged or raw, differs."""
    path = convert(str(checkpoint), tmp_path / "to" / name, to, weights=weights)
    count = len(network_values())
    comparison = _compare(checkpoint, path, weights)
    assert (comparison.compared, comparison.equal, comparison.differences) == (weights, count, ())
    other = _compare(path, checkpoint, {"averaged": "raw", "raw": "averaged"}[weights])
    assert (other.equal, len(other.differences)) == (0, count)
    assert not other.within(1e-3)


def test_a_module_equals_the_checkpoint_that_it_was_built_from(small, tmp_path, checkpoint):
    """In both formats."""
    specs = [ModuleSpec.parse("classification/3"), ModuleSpec.parse("classification/5")]
    modules = build_modules(small, specs, checkpoint=str(checkpoint), output_dir=tmp_path)
    assert _compare(modules[0], checkpoint).differences == ()
    assert _compare(*modules).differences == ()
    [headless] = build_modules(
        small, [ModuleSpec.parse("feature_vector/3")], checkpoint=str(checkpoint), output_dir=tmp_path
    )
    missing = _compare(headless, checkpoint).differences
    assert {(one.name, one.problem) for one in missing} == {
        ("MobilenetV2/Logits/Conv2d_1c_1x1/biases", "missing in A"),
        ("MobilenetV2/Logits/Conv2d_1c_1x1/weights", "missing in A"),
    }


def test_all_values_of_two_checkpoints_of_one_kind_are_compared(tmp_path):
    """Slots, steps and averages, too. Each kind of difference is reported."""
    a = {"same": np.float32([1, -0.0]), "zero": np.float32([0.0, 1]), "off": np.float32([1, 2, -3])}
    b = {"same": np.float32([1, -0.0]), "zero": np.float32([-0.0, 1]), "off": np.float32([1, 2.5, -3.25])}
    a |= {"a": np.float32(1), "shape": np.float32([1]), "dtype": np.float32(1), "nan": np.float32([np.nan, 1])}
    b |= {"b": np.float32(1), "shape": np.float32([[1]]), "dtype": np.int64(1), "nan": np.float32([np.nan, 2])}
    write_v2(tmp_path / "a", a | {"words": np.array(b"x")})
    write_v2(tmp_path / "b", b | {"words": np.array(b"y")})
    comparison = _compare(tmp_path / "a", tmp_path / "b")
    assert (comparison.compared, comparison.equal) == ("all", 1)
    found = {
        one.name: (one.problem, one.differing, one.largest_absolute, one.largest_relative)
        for one in comparison.differences
    }
    assert found == {
        "a": ("missing in B", None, None, None),
        "b": ("missing in A", None, None, None),
        "shape": ("shape", None, None, None),
        "dtype": ("dtype", None, None, None),
        "nan": ("values", 1, None, None),
        "zero": ("values", 0, 0.0, 0.0),
        "off": ("values", 2, 0.5, 0.2),
        "words": ("values", None, None, None),
    }


@pytest.mark.parametrize(("write_a", "write_b"), [(write_v2, write_v2), (write_v1, write_v2), (write_v1, write_v1)])
def test_values_that_are_not_numbers_are_compared_by_their_bytes(tmp_path, write_a, write_b):
    """Values whose bytes are not known are reported as not compared, and not as equal."""
    quantized = [tf.quantization.quantize(tf.constant([0.5, x]), -1.0, 1.0, tf.quint8)[0] for x in (-1.0, 1.0)]
    words = {"words": np.array([b"some", b"words"])}
    write_a(tmp_path / "a", {"q": quantized[0], "same": quantized[0], **words})
    write_b(tmp_path / "b", {"q": quantized[1], "same": quantized[0], **words})
    comparison = _compare(tmp_path / "a", tmp_path / "b")
    found = {one.name: (one.problem, one.differing, one.largest_absolute) for one in comparison.differences}
    strings = {} if write_a == write_b == write_v2 else {"words": ("not compared", None, None)}
    assert found == {"q": ("values", None, None), **strings}
    done = hubexport("diff", tmp_path / "a", tmp_path / "b", "--tolerance", "9")
    counted = f"{3 - len(strings)} values compared: {2 - len(strings)} equal bit for bit, 1 different"
    assert done.stdout.splitlines()[-1] == counted + "; 1 not compared" * len(strings)
    assert done.returncode == 1
    done = hubexport("diff", tmp_path / "a", tmp_path / "a", "--tolerance", "9")
    assert done.returncode == (write_a is write_v1)


def test_bfloat16_is_compared_as_numbers(tmp_path):
    """With other bfloat16 values. Compared with float32, the dtype differs."""
    a, b = (np.float32([1, 2, third]).astype(ml_dtypes.bfloat16) for third in (3, 3.5))
    write_v2(tmp_path / "a", {"x": a, "wide": a, "same": a})
    write_v2(tmp_path / "b", {"x": b, "wide": a.astype(np.float32), "same": a})
    comparison = _compare(tmp_path / "a", tmp_path / "b")
    found = {one.name: (one.problem, one.differing, one.largest_absolute) for one in comparison.differences}
    assert (comparison.equal, found) == (1, {"x": ("values", 1, 0.5), "wide": ("dtype", None, None)})


@pytest.mark.parametrize(
    ("a", "b", "figures"),
    [
        pytest.param(np.int64([1 << 60]), np.int64([(1 << 60) + 1]), (1, 1.0), id="large integers"),
        pytest.param(np.uint64([(1 << 64) - 1]), np.uint64([0]), (1, 2.0**64), id="unsigned"),
        pytest.param(np.int64([-(1 << 63)]), np.int64([(1 << 63) - 1]), (1, 2.0**64), id="signed"),
        pytest.param(np.complex64([1 + 1j]), np.complex64([1 - 1j]), (1, 2.0), id="complex"),
        pytest.param(np.array([True]), np.array([False]), (1, 1.0), id="bool"),
        pytest.param(np.float64([1.7e308]), np.float64([-1.7e308]), (1, None), id="beyond float64"),
    ],
)
def test_differences_of_odd_numbers_are_exact(tmp_path, a, b, figures):
    """No difference is lost to rounding."""
    write_v2(tmp_path / "a", {"x": a})
    write_v2(tmp_path / "b", {"x": b})
    [one] = _compare(tmp_path / "a", tmp_path / "b").differences
    assert (one.differing, one.largest_absolute) == figures
    assert hubexport("diff", tmp_path / "a", tmp_path / "b").returncode == 1


@pytest.mark.parametrize(("tolerance", "status"), [("0", 1), ("0.4", 1), ("0.5", 0)])
def test_the_exit_status_tells_whether_values_are_equal(tmp_path, tolerance, status):
    """Or equal within the given tolerance."""
    write_bundle(tmp_path / "a", {"x": np.float32([1, 2]), "y": np.float32([1])})
    write_bundle(tmp_path / "b", {"x": np.float32([1, 2.5]), "y": np.float32([1])})
    done = hubexport("diff", tmp_path / "a", tmp_path / "b", "--tolerance", tolerance)
    assert done.returncode == status
    [row] = [line.split() for line in done.stdout.splitlines() if line.startswith(" x")]
    assert row == ["x", "values", "float32", "[2]", "float32", "[2]", "1", "0.5", "0.2"]
    assert done.stdout.splitlines()[-1] == "2 values compared: 1 equal bit for bit, 1 different"


def test_the_command_prints_json(tmp_path):
    """It has the same facts as the table."""
    write_bundle(tmp_path / "a", {"x": np.float32([1, 2])})
    done = hubexport("diff", tmp_path / "a", tmp_path / "a", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"compared": "all", "equal": 1, "differences": []})


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "x"])
def test_an_invalid_tolerance_is_refused(tolerance):
    """It must be a number of 0 or more."""
    done = hubexport("diff", "a", "b", "--tolerance", tolerance)
    assert done.returncode == 2 and "--tolerance" in done.stderr


def test_the_error_names_the_damaged_checkpoint(tmp_path):
    """It does not name the other one."""
    for name in "ab":
        write_bundle(tmp_path / name, {"x": np.float32([1, 2])})
    (tmp_path / "a.data-00000-of-00001").write_bytes(bytes(8))
    with pytest.raises(CheckpointError) as caught:
        _compare(tmp_path / "a", tmp_path / "b")
    assert caught.value.what == f"cannot read checkpoint {tmp_path / 'a'}"


def test_synthetic_values_cannot_be_compared(checkpoint):
    """They fit any network."""
    with pytest.raises(CheckpointError, match="cannot be compared"):
        _compare(checkpoint, "synthetic")
