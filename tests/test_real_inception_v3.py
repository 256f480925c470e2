"""Inception V3 with really trained convolutions and 256 outputs, in an archive of one V1 file, as a user's variant."""

import json
from pathlib import Path
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from hubexport import build_modules, convert, load_variant
from tests.command import hubexport
from tests.data import REAL_INCEPTION_V3, REAL_INCEPTION_V3_OUTPUTS, needs_data
from tests.graphs import checkpoint_values, imported, read_saved_model

pytestmark = needs_data

_CONFIG = """\
network: inception_v3
image_size: 299
num_classes: 256
dataset: images of the classifier that it is from
publisher: me
collection: images
modules:
  - classification/3
  - feature_vector/5
  - classification/5
"""
# TF-Slim's own graph computed the outputs, in float32, too.
_TOLERANCE = 1e-5
_PHOTOGRAPHS = 4


@pytest.fixture(scope="module")
def values(tmp_path_factory) -> dict[str, np.ndarray]:
    """The values of the network in the archive, without the auxiliary head, as TensorFlow reads them."""
    folder = tmp_path_factory.mktemp("archive")
    with tarfile.open(REAL_INCEPTION_V3) as archive:
        archive.extractall(folder, filter="data")
    reader = tf.train.load_checkpoint(str(folder / "inception_v3.ckpt"))
    names = [name for name in reader.get_variable_to_shape_map() if "/AuxLogits/" not in name and name != "global_step"]
    return {name: reader.get_tensor(name) for name in names}


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """Its modules, built with a config as users write it."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "images_299.yaml").write_text(_CONFIG)
    variant = load_variant("images_299", folder)
    built = build_modules(variant, checkpoint=REAL_INCEPTION_V3, output_dir=folder)
    return dict(zip(map(str, variant.modules), built, strict=True))


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    """The first photographs, [0, 1], and what TF-Slim computed for them."""
    with np.load(REAL_INCEPTION_V3_OUTPUTS) as arrays:
        first = {name: arrays[name][:_PHOTOGRAPHS] for name in arrays.files}
    return {"images": first["images_uint8"].astype(np.float32) / 255, **first}


def _assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=_TOLERANCE * np.abs(wanted).max())


@pytest.mark.slow
def test_inspect_recognizes_it():
    """By its names and shapes, with the auxiliary head that modules leave out."""
    done = hubexport("inspect", REAL_INCEPTION_V3, "--format", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["container"], report["packed"]) == (0, "V1 checkpoint", True)
    assert (report["network"], report["other_networks"], report["num_classes"]) == ("inception_v3", [], 256)
    assert (report["not_exported"], report["averaged_copies"]) == ({"auxiliary head": 10}, 0)


@pytest.mark.slow
def test_features_and_logits_are_those_of_tf_slim(modules, outputs):
    """In both formats."""
    path = modules["classification/3"]
    with imported(read_saved_model((path / "saved_model.pb").read_bytes())[()], checkpoint_values(path)) as graph:
        found = graph.run("image_classification", outputs["images"])
    _assert_close(found["default"], outputs["logits"])
    _assert_close(found["InceptionV3/global_pool"][:, 0, 0], outputs["features"])
    _assert_close(found["InceptionV3/Predictions"], outputs["probabilities"])
    loaded = {kind: tf.saved_model.load(str(modules[f"{kind}/5"])) for kind in ("classification", "feature_vector")}
    _assert_close(loaded["classification"](outputs["images"]), outputs["logits"])
    _assert_close(loaded["feature_vector"](outputs["images"]), outputs["features"])


@pytest.mark.prove
@pytest.mark.parametrize("to", ["slim", "safetensors", "tf2"])
def test_conversions_there_and_back_change_no_bit(tmp_path, values, to):
    """From the archive to another format, and from there to TF-Slim's."""
    there = convert(REAL_INCEPTION_V3, tmp_path / ("c.safetensors" if to == "safetensors" else "c"), to)
    reader = tf.train.load_checkpoint(str(convert(there, tmp_path / "back.ckpt", "slim")))
    found = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    assert found.keys() == values.keys()
    for name, value in values.items():
        assert found[name].tobytes() == value.tobytes(), name
