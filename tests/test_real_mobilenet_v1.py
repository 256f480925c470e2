"""MobileNet V1 with weights that were trained on ImageNet: what it recognizes, and that no conversion changes them."""

import json
from pathlib import Path
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from hubexport import build_modules, convert, load_variant
from tests.command import hubexport
from tests.data import DATA, REAL_MOBILENET_V1, REAL_MOBILENET_V1_TOP3, needs_data
from tests.graphs import checkpoint_values

pytestmark = [pytest.mark.slow, needs_data]

_MODULES = ("classification/3", "classification/5")
_AVERAGE = "/ExponentialMovingAverage"
_PHOTOGRAPHS = DATA / "images"


@pytest.fixture(scope="module")
def averages(tmp_path_factory) -> dict[str, np.ndarray]:
    """The averaged values in the archive, by variable, as TensorFlow reads them."""
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(REAL_MOBILENET_V1) as archive:
        archive.extractall(folder, filter="data")
    reader = tf.train.load_checkpoint(str(folder / "mobilenet_v1_1.0_224.ckpt"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith(_AVERAGE)]
    return {name.removesuffix(_AVERAGE): reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """A module in each format."""
    folder = tmp_path_factory.mktemp("modules")
    variant = load_variant("mobilenet_v1_100_224")
    paths = build_modules(variant, _MODULES, checkpoint=str(REAL_MOBILENET_V1), output_dir=folder)
    return dict(zip(_MODULES, paths, strict=True))


@pytest.mark.parametrize("module", _MODULES)
def test_photographs_get_the_classes_that_tf_slim_gives_them(modules, module):
    """The three best of each of the eight photographs."""
    options = ("--labels", DATA / "imagenet_labels.txt", "--top", 3, "--format", "json")
    done = hubexport("classify", modules[module], _PHOTOGRAPHS, *options)
    found = {Path(image["file"]).name: image["top"] for image in json.loads(done.stdout)["images"]}
    expected = json.loads(REAL_MOBILENET_V1_TOP3.read_text())
    assert found.keys() == expected.keys() and len(expected) == 8
    for name, top3 in expected.items():
        assert [(one["index"], one["label"]) for one in found[name]] == [(index, label) for index, label, _ in top3]
        # Given to four digits.
        probabilities = [one["probability"] for one in found[name]]
        np.testing.assert_allclose(probabilities, [one for _, _, one in top3], rtol=0, atol=0.5e-4 + 1e-5)


def _assert_same_bits(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].tobytes() == value.tobytes(), name


def test_the_smallest_variances_reach_the_modules(modules, averages):
    """Bit for bit, as all other values. Some are as small as 4e-35: those of channels that no image changes."""
    smallest = min(value.min() for name, value in averages.items() if name.endswith("/moving_variance"))
    assert 0 < smallest < 1e-34
    _assert_same_bits(checkpoint_values(modules["classification/3"]), averages)
    reader = tf.train.load_checkpoint(str(modules["classification/5"] / "variables" / "variables"))
    stored = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    found = sorted(value.tobytes() for name, value in stored.items() if not name.startswith("_CHECKPOINTABLE"))
    assert found == sorted(value.tobytes() for value in averages.values())


@pytest.mark.parametrize("to", ["slim", "safetensors", "tf2"])
def test_conversions_there_and_back_change_no_bit(tmp_path, averages, to):
    """From the archive to another format, and from there to TF-Slim's."""
    there = convert(REAL_MOBILENET_V1, tmp_path / ("c.safetensors" if to == "safetensors" else "c"), to)
    back = convert(there, tmp_path / "back.ckpt", "slim", weights="raw")
    reader = tf.train.load_checkpoint(str(back))
    _assert_same_bits({name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}, averages)
