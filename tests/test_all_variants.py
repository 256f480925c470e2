"""Every published variant in both formats: it loads, it matches the published tables, and the formats agree."""

import csv

import numpy as np
import pytest
import tensorflow as tf

from hubexport import ModuleSpec, build_modules, list_variants, verify_module
from hubexport.networks.registry import FAMILIES
from hubexport.verify.checks.registry import select_checks
from tests.command import hubexport
from tests.data import DATA, needs_data, published_table
from tests.graphs import checkpoint_values, imported, read_saved_model

# Relative to the largest output, where this is above 1.
_FORMATS_AGREE = 1e-5
_VARIANTS = {variant.name: variant for variant in list_variants()}
_KINDS = ("classification/3", "feature_vector/5")
# Values of this many bytes take seconds to make up, to write and to compare.
_LARGE = 50_000_000


def _is_large(variant):
    return 4 * sum(variable.size for variable in variant.network_for("classification").variables) > _LARGE


def _smallest(family):
    """Returns the name of the family's variant that computes least."""
    variants = [variant for variant in _VARIANTS.values() if variant.network == family]
    return min(
        variants, key=lambda one: (one.image_size, sum(v.size for v in one.network_for("classification").variables))
    ).name


_SMALLEST = [_smallest(family) for family in FAMILIES]
_SMALL = [name for name, variant in _VARIANTS.items() if not _is_large(variant)]
# Of the small ones, the first, one in between, and the last.
_SOME = (_SMALL[0], _SMALL[len(_SMALL) // 2], _SMALL[-1])


@pytest.fixture(scope="module")
def small_modules(tmp_path_factory):
    """Builds two modules of each variant that is not large with one command."""
    folder = tmp_path_factory.mktemp("modules")
    requested = [argument for name in _SMALL for argument in ("--variant", name)]
    requested += [argument for kind in _KINDS for argument in ("--module", kind)]
    done = hubexport("build", *requested, "--checkpoint", "synthetic", "--output_dir", folder, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 * len(_SMALL)
    assert f"{2 * len(_SMALL)} built, 0 failed" in done.stderr
    return folder / "google" / "imagenet"


@pytest.fixture(scope="module")
def large_modules(tmp_path_factory):
    """Builds the same modules of a large variant, when a test first asks for it."""
    folder = tmp_path_factory.mktemp("large_modules")

    def build(name):
        path = folder / "google" / "imagenet" / name
        if not path.exists():
            specs = [ModuleSpec.parse(kind) for kind in _KINDS]
            build_modules(_VARIANTS[name], specs, checkpoint="synthetic", output_dir=folder)
        return path

    return build


@pytest.fixture
def modules(request, name):
    """The folder with the modules of the variant `name`."""
    if name in _SMALL:
        return request.getfixturevalue("small_modules") / name
    return request.getfixturevalue("large_modules")(name)


def _marked(quick):
    """Returns all variants; those that `quick` does not list are for `make test-long`."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in _VARIANTS]


def _published():
    """Returns facts of each variant: image size, length of features, and the number of parameters.

    The number is the published one of millions, without batch norm, or the one that was measured in TF-Slim's network.
    """
    facts = {}
    with (DATA / "networks" / "imagenet_models.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            facts[row["variant"]] = (int(row["image_size"]), int(row["num_features"]), int(row["parameters_measured"]))
    for row in published_table():
        features = {1.3: 1664, 1.4: 1792}.get(float(row["depth_multiplier"]), 1280)
        facts[row["variant"]] = (int(row["image_size"]), features, float(row["parameters_millions"]))
    return facts


@needs_data
@pytest.mark.parametrize("name", _marked(_SMALLEST[:2]))
def test_each_module_is_what_its_variant_promises(modules, name):
    """Shapes, keys and parameters are right, and both formats compute the same features and endpoints."""
    size, features, parameters = _published()[name]
    images = np.random.RandomState(0).uniform(size=(2, size, size, 3)).astype(np.float32)

    classification = modules / "classification" / "3"
    graph = read_saved_model((classification / "saved_model.pb").read_bytes())[()]
    stored = checkpoint_values(classification)
    with imported(graph, stored) as tf1:
        vectors = tf1.run("image_feature_vector", images)
        logits = tf1.run("image_classification", images)
    assert vectors["default"].shape == (2, features)
    assert logits["default"].shape == (2, 1001)

    module = tf.saved_model.load(str(modules / "feature_vector" / "5"))
    endpoints = {key: value.numpy() for key, value in module(images, return_endpoints=True).items()}
    assert endpoints["default"].shape == (2, features)
    for key in set(vectors) - set(endpoints):  # Those of the classifier.
        assert vectors[key].shape in [(2, 1001), (2, 1, 1, 1001)], key
    for key, value in endpoints.items():
        _assert_equal(value, vectors[key], key)
    served = module.signatures["serving_default"](images=tf.constant(images))["feature_vector"]
    _assert_equal(served, vectors["default"], "serving_default")

    if isinstance(parameters, int):
        assert sum(value.size for value in stored.values()) == parameters
    else:
        assert int(_parameters(stored) / 1e4) / 100 == parameters
    classifier = 1001 * (features + 1)
    of_features = {variable.name.removesuffix(":0"): variable.numpy() for variable in module.variables}
    assert _parameters(of_features) == _parameters(stored) - classifier
    for key, value in of_features.items():
        np.testing.assert_array_equal(value, stored[key], err_msg=key)


def _assert_equal(value, wanted, key):
    tolerance = _FORMATS_AGREE * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(value, wanted, rtol=0, atol=tolerance, err_msg=key)


def _parameters(values):
    """Counts the weights and biases of the convolutions, as the published tables do, without batch norm."""
    return sum(value.size for name, value in values.items() if name.endswith(("weights", "biases")))


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", _marked(_SMALL))
def test_each_module_has_the_right_structure_and_weights(modules, name, kind):
    """The cheap checks pass for every variant and format."""
    checks = select_checks(["structure", "weights"])
    verification = verify_module(str(modules / kind), checkpoint="synthetic", checks=checks)
    assert verification.passed, verification.failed


@pytest.mark.slow
@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("name", _SOME)
def test_some_modules_have_the_right_numbers(modules, name, kind):
    """For all variants, a test above compares the two formats with each other."""
    checks = select_checks(["numbers.extremes"])
    verification = verify_module(str(modules / kind), checkpoint="synthetic", checks=checks)
    assert verification.passed, verification.failed


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", [1, 3, 4, 5])
@pytest.mark.parametrize("kind", ["classification", "feature_vector"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in _SMALL else pytest.mark.prove) for name in _SMALLEST]
)
def test_all_checks_pass_for_one_variant_of_each_family(tmp_path, name, kind, version):
    """In every version; the smallest variant does."""
    spec = ModuleSpec(kind=kind, version=version)
    [path] = build_modules(_VARIANTS[name], [spec], checkpoint="synthetic", output_dir=tmp_path)
    verification = verify_module(str(path), checkpoint="synthetic")
    assert verification.passed, verification.failed


@needs_data
def test_no_variant_of_the_tables_is_missing():
    """Of the families that are there, no table has a variant that we lack, and we have none that the tables lack."""
    with (DATA / "networks" / "imagenet_models.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    wanted = {row["variant"] for row in rows if row["network"] in FAMILIES and row["num_classes"] == "1001"}
    assert set(_VARIANTS) == wanted | {row["variant"] for row in published_table()}
