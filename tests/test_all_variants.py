"""Every published variant in both formats: it loads, it matches the published tables, and the formats agree."""

import csv
import json
import math
import shutil

import numpy as np
import pytest
import tensorflow as tf

from hubexport import ModuleSpec, build_modules, list_variants, verify_module
from hubexport.networks.registry import FAMILIES
from hubexport.variants import KINDS
from hubexport.verify.checks.registry import select_checks
from tests.command import hubexport
from tests.data import DATA, needs_data, network_table, published_table
from tests.graphs import checkpoint_values, imported, read_saved_model

# Relative to the largest output, where this is above 1.
_FORMATS_AGREE = 1e-5
_VARIANTS = {variant.name: variant for variant in list_variants()}
# Values of this many bytes take seconds to make up, to write and to compare. So do the many variables of NASNet.
_LARGE = 50_000_000
_MANY = 700


def _num_values(variant):
    return sum(variable.size for variable in variant.network_for("classification").variables)


def _smallest(family):
    """Returns the name of the family's variant that computes least."""
    variants = [variant for variant in _VARIANTS.values() if variant.network == family]
    return min(variants, key=lambda one: (one.image_size, _num_values(one))).name


def _is_slow(variant):
    return 4 * _num_values(variant) <= _LARGE and len(variant.network_for("classification").variables) <= _MANY


_SMALLEST = {family: _smallest(family) for family in FAMILIES}
_QUICK = [_SMALLEST[family] for family in ("mobilenet_v1", "mobilenet_v2")]
_SLOW = [name for name in _SMALLEST.values() if _is_slow(_VARIANTS[name])]


def _marks(name):
    """Returns marks for a test of a variant: `make prove` tries those that the others are like, and large ones."""
    return () if name in _QUICK else pytest.mark.slow if name in _SLOW else pytest.mark.prove


def _module_names(variant):
    """Returns a classification module, in the TF1 Hub format if the family has it, and the features' TF2 module."""
    versions = variant.family.versions
    return f"classification/{max((v for v in versions if v <= 3), default=versions[-1])}", "feature_vector/5"


@pytest.fixture(scope="module", params=[pytest.param(name, marks=_marks(name)) for name in _VARIANTS])
def variant(request):
    """Each variant."""
    return _VARIANTS[request.param]


@pytest.fixture(scope="module")
def modules(variant, tmp_path_factory):
    """The paths of two modules of the variant, which together take up to a gigabyte."""
    folder = tmp_path_factory.mktemp("modules")
    specs = [ModuleSpec.parse(name) for name in _module_names(variant)]
    yield build_modules(variant, specs, checkpoint="synthetic", output_dir=folder)
    shutil.rmtree(folder)


def _published(variant):
    """Returns what tables say of a variant: image size, length of features, number of classes, and of parameters.

    The number is the published one of millions, without batch norm, or the one that was measured in TF-Slim's network.
    """
    if variant.name in network_table():
        row = network_table()[variant.name]
        auxiliary = sum(
            math.prod(json.loads(shape)) for name, shape in _listed_variables(row) if variant.family.unused(name)
        )
        parameters = int(row["parameters_measured"]) - auxiliary
        return int(row["image_size"]), int(row["num_features"]), int(row["num_classes"]), parameters
    [row] = (row for row in published_table() if row["variant"] == variant.name)
    features = {1.3: 1664, 1.4: 1792}.get(float(row["depth_multiplier"]), 1280)
    return int(row["image_size"]), features, 1001, float(row["parameters_millions"])


def _listed_variables(row):
    """Yields name and shape of the variables of a row's network in inference, which the row counts; for any classes."""
    path = DATA / "networks" / "variables" / f"{row['variant'].removesuffix('_caffe')}.txt"
    with path.open(newline="", encoding="utf-8") as file:
        for name, shape, _, _, in_inference, *_ in csv.reader(file, delimiter="\t"):
            if in_inference == "True":
                yield name, shape


def _computed(path, network, images):
    """Returns features, logits and endpoints that a classification module computes, and the values of its variables."""
    if int(path.name) <= 3:
        graph, values = read_saved_model((path / "saved_model.pb").read_bytes())[()], checkpoint_values(path)
        with imported(graph, values) as tf1:
            endpoints = tf1.run("image_feature_vector", images)
            logits = tf1.run("image_classification", images)["default"]
        return endpoints.pop("default"), logits, endpoints, values
    module = tf.saved_model.load(str(path))
    endpoints = {key: value.numpy() for key, value in module(images, return_endpoints=True).items()}
    logits = endpoints.pop("default")
    return endpoints[network.features_endpoint].reshape(len(images), -1), logits, endpoints, _values(module)


def _values(module):
    return {variable.name.removesuffix(":0"): variable.numpy() for variable in module.variables}


@needs_data
def test_each_module_is_what_its_variant_promises(variant, modules):
    """Shapes, keys and parameters are right, and both modules compute the same features and endpoints."""
    size, num_features, num_classes, parameters = _published(variant)
    images = np.random.RandomState(0).uniform(size=(2, size, size, 3)).astype(np.float32)

    classification, feature_vector = modules
    network = variant.network_for("classification")
    features, logits, vectors, stored = _computed(classification, network, images)
    assert features.shape == (2, num_features)
    assert logits.shape == (2, num_classes)

    module = tf.saved_model.load(str(feature_vector))
    endpoints = {key: value.numpy() for key, value in module(images, return_endpoints=True).items()}
    _assert_equal(endpoints.pop("default"), features, "default")
    for key in set(vectors) - set(endpoints):  # Those of the classifier, and what dropout makes of features.
        assert vectors[key].shape[0] == 2 and vectors[key].size in (2 * num_classes, 2 * num_features), key
    for key, value in endpoints.items():
        _assert_equal(value, vectors[key], key)
    served = module.signatures["serving_default"](images=tf.constant(images))["feature_vector"]
    _assert_equal(served, features, "serving_default")

    if isinstance(parameters, int):
        assert sum(value.size for value in stored.values()) == parameters
    else:
        assert int(_parameters(stored) / 1e4) / 100 == parameters
    classifier = num_classes * (num_features + 1)
    of_features = _values(module)
    assert _parameters(of_features) == _parameters(stored) - classifier
    for key, value in of_features.items():
        np.testing.assert_array_equal(value, stored[key], err_msg=key)


def _assert_equal(value, wanted, key):
    assert value.shape == wanted.shape, key
    tolerance = _FORMATS_AGREE * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance, err_msg=key)


def _parameters(values):
    """Counts the weights and biases of the convolutions, as the published tables do, without batch norm."""
    return sum(value.size for name, value in values.items() if name.endswith(("weights", "biases")))


def test_each_module_has_the_right_structure_and_weights(modules):
    """The cheap checks pass for every variant and format."""
    checks = select_checks(["structure", "weights"])
    for module in modules:
        verification = verify_module(str(module), checkpoint="synthetic", checks=checks)
        assert verification.passed, verification.failed


def _checked_thoroughly():
    """Returns the smallest variant of each family with all its modules; most of them are for `make prove`."""
    for name in _SMALLEST.values():
        variant = _VARIANTS[name]
        for kind in KINDS:
            for version in variant.family.versions:
                module = f"{kind}/{version}"
                is_often_tried = name in _QUICK and module in _module_names(variant)
                yield pytest.param(name, module, marks=pytest.mark.slow if is_often_tried else pytest.mark.prove)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "module"), [*_checked_thoroughly()])
def test_all_checks_pass_for_one_variant_of_each_family(tmp_path, name, module):
    """The smallest one passes in both kinds and all versions."""
    [path] = build_modules(_VARIANTS[name], [ModuleSpec.parse(module)], checkpoint="synthetic", output_dir=tmp_path)
    verification = verify_module(str(path), checkpoint="synthetic")
    assert verification.passed, verification.failed


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", _SMALLEST.values())
def test_one_variant_of_each_family_is_released(tmp_path, name):
    """With all modules of its config, and the release that is written passes its check."""
    options = ("--checkpoint", "synthetic", "--checks", "structure,weights", "--output-dir", tmp_path / "dist")
    done = hubexport("release", "--variant", name, *options)
    assert done.returncode == 0, done.stderr
    for module in _VARIANTS[name].modules:
        assert (tmp_path / "dist" / "google" / "imagenet" / name / f"{module}.tar.gz").is_file()
    checked = hubexport("check", tmp_path / "dist")
    assert checked.returncode == 0, checked.stdout
    shutil.rmtree(tmp_path / "dist")


@needs_data
def test_no_variant_of_the_tables_is_missing():
    """We have none that the tables lack, and all but the copies made to simulate quantization."""
    wanted = {row["variant"] for row in published_table()}
    wanted |= {name for name in network_table() if "/quantops" not in name}
    assert set(_VARIANTS) == wanted
