"""Every published variant in both formats: it loads, it matches the published table, and the formats agree."""

import numpy as np
import pytest
import tensorflow as tf

from hubexport import list_variants, verify_module
from hubexport.verify.checks.registry import select_checks
from tests.command import hubexport
from tests.data import needs_data, published_table
from tests.graphs import checkpoint_values, imported, read_saved_model

_FORMATS_AGREE = 1e-5
_NAMES = [variant.name for variant in list_variants()]
# The smallest, one in between, and the largest.
_SOME = ("mobilenet_v2_035_96", "mobilenet_v2_075_160", "mobilenet_v2_140_224")
_KINDS = ("classification/3", "feature_vector/5")


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Builds all 44 modules with one command."""
    folder = tmp_path_factory.mktemp("modules")
    requested = ("--variant", "all", "--module", "feature_vector/5", "--module", "classification/3")
    done = hubexport("build", *requested, "--checkpoint", "synthetic", "--output_dir", folder, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 44
    assert "44 built, 0 failed" in done.stderr
    return folder / "google" / "imagenet"


@needs_data
@pytest.mark.parametrize(
    "name", [name if name == _SOME[0] else pytest.param(name, marks=pytest.mark.slow) for name in _NAMES]
)
def test_each_module_is_what_its_variant_promises(modules, name):
    """Shapes, keys and parameters are right, and both formats compute the same features and endpoints."""
    [row] = [row for row in published_table() if row["variant"] == name]
    size = int(row["image_size"])
    images = np.random.RandomState(0).uniform(size=(2, size, size, 3)).astype(np.float32)
    features = {1.3: 1664, 1.4: 1792}.get(float(row["depth_multiplier"]), 1280)

    classification = modules / name / "classification" / "3"
    graph = read_saved_model((classification / "saved_model.pb").read_bytes())[()]
    stored = checkpoint_values(classification)
    with imported(graph, stored) as tf1:
        vectors = tf1.run("image_feature_vector", images)
        logits = tf1.run("image_classification", images)
    assert vectors["default"].shape == (2, features)
    assert logits["default"].shape == (2, 1001)

    module = tf.saved_model.load(str(modules / name / "feature_vector" / "5"))
    endpoints = {key: value.numpy() for key, value in module(images, return_endpoints=True).items()}
    assert endpoints["default"].shape == (2, features)
    assert set(vectors) - set(endpoints) == {"MobilenetV2/Logits", "MobilenetV2/Predictions"}
    for key, value in endpoints.items():
        np.testing.assert_allclose(value, vectors[key], rtol=0, atol=_FORMATS_AGREE, err_msg=key)
    served = module.signatures["serving_default"](images=tf.constant(images))["feature_vector"]
    np.testing.assert_allclose(served, vectors["default"], rtol=0, atol=_FORMATS_AGREE)

    assert _published_millions(stored) == float(row["parameters_millions"])
    classifier = 1001 * (features + 1)
    of_features = {variable.name.removesuffix(":0"): variable.numpy() for variable in module.variables}
    assert _parameters(of_features) == _parameters(stored) - classifier
    for name, value in of_features.items():
        np.testing.assert_array_equal(value, stored[name], err_msg=name)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", _NAMES)
def test_each_module_has_the_right_structure_and_weights(modules, name, kind):
    """The cheap checks pass for every variant and format."""
    checks = select_checks(["structure", "weights"])
    verification = verify_module(str(modules / name / kind), checkpoint="synthetic", checks=checks)
    assert verification.passed, verification.failed


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", _SOME)
def test_some_modules_have_the_right_numbers(modules, name, kind):
    """For all variants, a test above compares the two formats with each other."""
    checks = select_checks(["numbers.extremes"])
    verification = verify_module(str(modules / name / kind), checkpoint="synthetic", checks=checks)
    assert verification.passed, verification.failed


def _parameters(values):
    """Counts the weights and biases of the convolutions, as the published table does, without batch norm."""
    return sum(value.size for name, value in values.items() if "BatchNorm" not in name)


def _published_millions(values):
    """Truncates to two digits, as the published table does."""
    return int(_parameters(values) / 1e4) / 100


@needs_data
def test_no_variant_of_the_table_is_missing():
    """There is no variant that the table lacks, either."""
    assert {variant.name for variant in list_variants()} == {row["variant"] for row in published_table()}
