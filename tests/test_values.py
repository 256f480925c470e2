"""Which values are restored from a checkpoint, and the errors when they do not fit."""

import re
import subprocess
import sys

import numpy as np
import pytest

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.restore import open_and_restore
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.conversion import convert
from hubexport.errors import CheckpointError
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.progress import Progress
from tests.checkpoints import network_values, training_values, write_v1, write_v2
from tests.data import MAKE_CHECKPOINT, needs_data
from tests.graphs import tf

_GAMMA = "MobilenetV2/Conv/BatchNorm/gamma"


def _read(source, variant, weights="averaged", kind="classification"):
    network = variant.network_for(kind)
    resolved = resolve_source(str(source), variant, Progress())
    with open_and_restore(resolved, network.variables, weights, variant, Progress()) as restored:
        restored.check_finite()
        return {name: value.read() for name, value in restored.values.items()}


def _read_written(tmp_path, tensors, variant, **options):
    write_v2(tmp_path / "model.ckpt", tensors)
    return _read(tmp_path / "model.ckpt", variant, **options)


def _equal(found, wanted):
    return found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("write", [write_v1, write_v2], ids=["V1", "V2"])
@pytest.mark.parametrize(("weights", "seed"), [("auto", 1), ("averaged", 1), ("raw", 2)])
def test_averaged_or_raw_values_of_every_variable(small, tmp_path, write, weights, seed):
    """Moving statistics included. Optimizer slots and global_step are ignored."""
    write(tmp_path / "model.ckpt", training_values(averaged_seed=1, raw_seed=2))
    assert _equal(_read(tmp_path / "model.ckpt", small, weights), network_values(seed=seed))


def test_variables_without_average_get_raw_values(small, tmp_path):
    """One public convention averages trained variables only."""
    tensors = training_values(averaged_seed=1, raw_seed=2)
    tensors = {name: value for name, value in tensors.items() if not ("moving_" in name and AVERAGED_SUFFIX in name)}
    found = _read_written(tmp_path, tensors, small)
    averaged, raw = network_values(seed=1), network_values(seed=2)
    assert _equal(found, {name: (raw if "moving_" in name else averaged)[name] for name in raw})


def test_a_feature_vector_needs_no_classifier(small, tmp_path):
    """The checkpoint may lack it, and it is not restored."""
    tensors = {name: value for name, value in network_values().items() if "Logits" not in name}
    found = _read_written(tmp_path, tensors, small, weights="raw", kind="feature_vector")
    assert _equal(found, tensors)


def test_no_averaged_values(small, tmp_path):
    """The fix is a flag."""
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, network_values(), small)
    assert caught.value.why == "there are no averaged values in this checkpoint"
    assert "--weights auto" in caught.value.fix


def test_the_fix_for_another_dtype_is_not_to_ask_for_averages(small, tmp_path):
    """Asking for averages would not help where there are none."""
    values = {name: value.astype(np.complex64) for name, value in network_values().items()}
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, values, small, weights="raw")
    assert caught.value.why == "262 of the network's 262 variables do not fit"
    assert "as float32, float16, bfloat16 or float64" in caught.value.fix and "averaged" not in caught.value.fix


def test_every_problem_is_listed(small, tmp_path):
    """With the stored and the wanted shape, or as missing."""
    tensors = network_values()
    del tensors["MobilenetV2/Conv_1/weights"]
    tensors[_GAMMA] = np.ones(3, np.float32)
    tensors["MobilenetV2/Conv_1/BatchNorm/beta"] = np.ones(1280, np.int64)
    with pytest.raises(CheckpointError, match="cannot restore small") as caught:
        _read_written(tmp_path, tensors, small, weights="raw")
    assert caught.value.details == (
        f"{_GAMMA}: stored shape [3], expected [16]",
        "MobilenetV2/Conv_1/weights: missing, expected shape [1, 1, 112, 1280]",
        "MobilenetV2/Conv_1/BatchNorm/beta: stored as int64, expected float32",
    )
    assert caught.value.why == "3 of the network's 262 variables do not fit"


@pytest.mark.parametrize(
    ("stored", "weights", "why", "fix"),
    [
        pytest.param({"num_classes": 17}, "raw", "trained with 17 outputs, not 7", "num_classes: 17", id="classes"),
        pytest.param(
            {"depth_multiplier": 0.5},
            "raw",
            "this is MobileNet V2, depth multiplier 0.5, not MobileNet V2, depth multiplier 0.35",
            "multiplier 0.5",
            id="depth",
        ),
        pytest.param(
            {"depth_multiplier": 1.4, "num_classes": 1001},
            "raw",
            "depth multiplier 1.4",
            "1.4",
            id="depth and classes",
        ),
    ],
)
def test_the_error_names_the_network_of_a_checkpoint_that_does_not_fit(small, tmp_path, stored, weights, why, fix):
    """From the network that the checkpoint holds."""
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, network_values(**stored), small, weights=weights)
    assert why in caught.value.why
    assert fix in caught.value.fix
    *shown, rest = caught.value.details
    assert len(shown) == 5 and re.fullmatch(r"and \d+ more", rest) or len(shown) == 1  # The classifier alone.


def test_a_few_variables_that_do_not_fit(small, tmp_path):
    """Five of them are listed, and the others counted."""
    tensors = network_values()
    for name in list(tensors)[:13]:
        del tensors[name]
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, tensors, small, weights="raw")
    assert caught.value.why == "13 of the network's 262 variables do not fit"
    *shown, rest = caught.value.details
    assert (len(shown), rest) == (5, "and 8 more") and all("missing, expected shape" in line for line in shown)


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        pytest.param(
            dict(list(network_values(depth_multiplier=0.5).items())[14:]),
            "the closest network is MobileNet V2, depth multiplier 0.5, of whose 260 variables 246 are there by their "
            "TF-Slim names and shapes; it has 248 values in all",
            id="another multiplier",
        ),
        pytest.param(
            {"a": np.ones(3, np.float32), "b": np.float32(1)},
            "none of its 2 values fits a variable of a network that hubexport has",
            id="nothing",
        ),
    ],
)
def test_values_of_no_network_have_a_closest_one(small, tmp_path, tensors, why):
    """Which is recognized by the names and shapes that are there."""
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, tensors, small, weights="raw")
    assert caught.value.why == why
    assert len(caught.value.details) == 6


@pytest.mark.parametrize(
    ("missing", "why", "details"),
    [
        (1, "1 of the 260 variables of MobileNet V2, depth multiplier 0.35 do not fit", 1),
        (14, "the closest network is MobileNet V2, depth multiplier 0.35, of whose 260 variables 246 are there", 6),
        (262, "none of its 1 values fits a variable of a network that hubexport has", 1),
    ],
)
def test_the_closest_network_without_a_variant(tmp_path, missing, why, details):
    """`convert` would take any network."""
    write_v2(tmp_path / "c", {**dict(list(network_values().items())[missing:]), "x": np.ones(3, np.float32)})
    with pytest.raises(CheckpointError, match="cannot identify the network") as caught:
        convert(tmp_path / "c", tmp_path / "d", "slim")
    assert why in caught.value.why and len(caught.value.details) == details


def test_a_checkpoint_without_classifier_is_recognized(small, tmp_path):
    """It can still give a feature vector."""
    tensors = {name: value for name, value in network_values().items() if "Logits" not in name}
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, tensors, small, weights="raw")
    assert caught.value.why == "this checkpoint has no classifier"


def test_a_checkpoint_of_averages_only_is_recognized(small, tmp_path):
    """The fix is the other flag."""
    tensors = {f"{name}{AVERAGED_SUFFIX}": value for name, value in network_values().items()}
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, tensors, small, weights="raw")
    assert "--weights averaged" in caught.value.fix


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(small, tmp_path, bad):
    """The error gives the counts for each variable."""
    tensors = network_values()
    tensors[_GAMMA][2:4] = bad
    with pytest.raises(CheckpointError) as caught:
        _read_written(tmp_path, tensors, small, weights="raw")
    count = "2 NaN, 0 infinite" if np.isnan(bad) else "0 NaN, 2 infinite"
    assert caught.value.details == (f"{_GAMMA}: {count} of 16",)


@pytest.mark.parametrize("damage", ["data", "index", "truncated data", "truncated index"])
def test_damaged_files(small, tmp_path, damage):
    """TensorFlow's checksums reveal the damage."""
    write_v2(tmp_path / "model.ckpt", network_values())
    which = "model.ckpt.index" if "index" in damage else "model.ckpt.data-00000-of-00001"
    data = bytearray((tmp_path / which).read_bytes())
    if damage.startswith("truncated"):
        data = data[: len(data) // 2]
    else:
        for position in range(0, len(data), 50):
            data[position] ^= 0xFF
    (tmp_path / which).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"cannot read checkpoint .*model\.ckpt"):
        _read(tmp_path / "model.ckpt", small, weights="raw")


def test_synthetic_values_depend_on_the_name_and_the_seed_alone():
    """Another number of classes changes no other variable, and another seed changes all."""
    seven_classes = {v.name: synthetic_value(v, 1) for v in mobilenet_v2(0.35, 96, 7).variables}
    other = {v.name: synthetic_value(v, 1) for v in mobilenet_v2(0.35, 224, None).variables}
    assert _equal({name: seven_classes[name] for name in other}, other)
    reseeded = {v.name: synthetic_value(v, 2) for v in mobilenet_v2(0.35, 96, 7).variables}
    assert not any(np.array_equal(seven_classes[name], reseeded[name]) for name in seven_classes)


@needs_data
@pytest.mark.slow
def test_synthetic_values_are_those_of_the_independent_script(tmp_path):
    """The reference outputs were computed from that script's checkpoints, so they are those of synthetic:1."""
    command = [sys.executable, MAKE_CHECKPOINT, "--depth_multiplier", "0.5", "--image_size", "96", tmp_path]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    with tf.Graph().as_default():
        subprocess.run(["tar", "xzf", str(tmp_path / "mobilenet_v2_0.5_96.tgz"), "-C", str(tmp_path)], check=True)
        reader = tf.train.load_checkpoint(str(tmp_path / "mobilenet_v2_0.5_96.ckpt"))
    variables = mobilenet_v2(0.5, 96, 1001).variables
    assert len(variables) == 262
    for variable in variables:
        stored = reader.get_tensor(f"{variable.name}{AVERAGED_SUFFIX}")
        np.testing.assert_array_equal(synthetic_value(variable, seed=1), stored)
