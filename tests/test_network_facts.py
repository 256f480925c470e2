"""Networks have the variables, endpoints and costs of TF-Slim's own graphs, as `shared/data/networks` lists them."""

import json

import pytest

from hubexport.networks.costs import multiply_adds, published_parameters
from hubexport.networks.registry import FAMILIES
from tests.data import DATA, needs_data

_FACTS = DATA / "networks"
_NUM_CLASSES = 1001


def _listed(folder, name):
    lines = (_FACTS / folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def _cases():
    sizes = (224, 192, 160, 128)
    for multiplier in FAMILIES["mobilenet_v1"].published_parameters:
        for size in sizes:
            yield f"mobilenet_v1_{round(multiplier.depth_multiplier * 100):03}_{size}", "mobilenet_v1", multiplier, size
    for layers in (50, 101, 152):
        for size, suffix in ((224, ""), (299, "__299")):
            family = FAMILIES[f"resnet_v2_{layers}"]
            yield f"{family.name}{suffix}", family.name, family.published_parameters[0], size


_EACH = pytest.mark.parametrize(
    ("listing", "family", "parameters", "size"), [pytest.param(*case, id=case[0]) for case in _cases()]
)


def _network(family, parameters, size, version, num_classes=_NUM_CLASSES):
    return FAMILIES[family].network(parameters, size, num_classes, version)


@needs_data
@_EACH
def test_variables_are_those_of_tf_slim(listing, family, parameters, size):
    """Names, shapes, what is trained, and the weight decay of each."""
    wanted = {}
    for name, shape, trainable, _, _, with_features, decay in _listed("variables", listing):
        scales = [0.0] if decay == "None" else json.loads(decay)
        wanted[name] = (
            tuple(json.loads(shape)),
            trainable == "True",
            pytest.approx(scales[0]),
            with_features == "True",
        )
    features = {one.name for one in _network(family, parameters, size, 3, None).variables}
    found = {
        one.name: (one.shape, one.trainable, one.weight_decay, one.name in features)
        for one in _network(family, parameters, size, 3).variables
    }
    assert found == wanted


@needs_data
@_EACH
def test_endpoints_are_those_of_tf_slim(listing, family, parameters, size):
    """Keys and shapes; TF-Slim's scope comes first where its own key lacks it, as in tfhub.dev's modules."""
    network = _network(family, parameters, size, 1)
    root = network.endpoints and next(iter(network.endpoints)).partition("/")[0]
    wanted = {}
    for key, shape, *_ in _listed("endpoints", listing):
        key = "global_pool" if key == "AvgPool_1a" else key  # The name that it has with global_pool=True.
        if "/" in shape or not shape.startswith("(?"):
            continue
        wanted[key if key.startswith(f"{root}/") else f"{root}/{key}"] = shape
    found = {key: str(("?", *network.shapes[op])).replace("'", "") for key, op in network.endpoints.items()}
    assert found == wanted


@needs_data
@_EACH
def test_costs_are_those_of_tf_slim(listing, family, parameters, size):
    """Multiply-adds and parameters, with and without classifier."""
    totals = json.loads((_FACTS / "totals.json").read_text(encoding="utf-8"))[listing]
    network, features = (_network(family, parameters, size, 3, classes) for classes in (_NUM_CLASSES, None))
    assert sum(multiply_adds(network).values()) == totals["macs_infer"]
    assert sum(multiply_adds(features).values()) == totals["macs_feature"]
    assert sum(one.size for one in network.variables) == totals["params_infer"]
    assert sum(one.size for one in features.variables) == totals["params_feature"]
    assert published_parameters(network) == totals["params_no_bn_infer"]
    assert sum(bool(one.weight_decay) for one in network.variables) == totals["reg_losses"]
