"""Networks have the variables, endpoints and costs of TF-Slim's own graphs, as `shared/data/networks` lists them."""

import json
import math

import pytest

from hubexport import list_variants
from hubexport.networks.costs import multiply_adds, published_parameters
from tests.data import DATA, needs_data

_FACTS = DATA / "networks"
# What TF-Slim's graphs have beside our networks: auxiliary heads. Their multiply-adds are in the totals.
_AUXILIARY_MULTIPLY_ADDS = {"inception_v3": 5_683_968, "inception_v4": 6_503_168, "inception_resnet_v2": 6_707_968}
_BATCH_NORM_ROLES = ("beta", "gamma", "moving_mean", "moving_variance")


def _listed(folder, name):
    lines = (_FACTS / folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def _cases():
    """Yields the name of a list, and its variant, which has the size of the list's graph."""
    for variant in list_variants():
        if variant.network == "mobilenet_v2":  # test_networks.py has its table.
            continue
        listing = variant.name
        if listing.startswith("resnet_v1"):  # Caffe's are the published ones; the others have another class.
            is_caffe = listing.endswith("_caffe")
            listing = listing.removesuffix("_caffe") if is_caffe else f"{listing}__1001"
        yield listing, variant
        if listing.startswith("resnet_v2"):
            yield f"{listing}__299", variant.model_copy(update={"image_size": 299})


_EACH = pytest.mark.parametrize(("listing", "variant"), [pytest.param(*case, id=case[0]) for case in _cases()])


def _first_version(variant):
    return variant.family.versions[0]


def _listed_variables(listing, variant):
    """Returns the lines about variables that are the network's, and those about the auxiliary head's."""
    ours, auxiliary = [], []
    for line in _listed("variables", listing):
        if not line[0].endswith("global_step"):  # TF-Slim scales the probabilities of dropped paths with it.
            (auxiliary if variant.family.unused(line[0]) else ours).append(line)
    return ours, auxiliary


@needs_data
def test_every_list_is_tried():
    """Or a list would say nothing."""
    assert {listing for listing, _ in _cases()} == {path.stem for path in (_FACTS / "variables").glob("*.txt")}


@needs_data
@_EACH
def test_variables_are_those_of_tf_slim(listing, variant):
    """Names, shapes, what is trained, and the weight decay of each."""
    wanted = {}
    for name, shape, trainable, _, _, with_features, decay in _listed_variables(listing, variant)[0]:
        scales = [0.0] if decay == "None" else json.loads(decay)
        wanted[name] = (
            tuple(json.loads(shape)),
            trainable == "True",
            pytest.approx(scales[0]),
            with_features == "True",
        )
    features = {one.name for one in variant.network_for("feature_vector", 5).variables}
    found = {
        one.name: (one.shape, one.trainable, one.weight_decay, one.name in features)
        for one in variant.network_for("classification", 5).variables
    }
    assert found == wanted


@needs_data
@pytest.mark.parametrize(
    ("listing", "scope", "count"),
    [
        ("inception_v3", "InceptionV3/AuxLogits", 10),
        ("inception_v4", "InceptionV4/AuxLogits", 10),
        ("inception_resnet_v2", "InceptionResnetV2/AuxLogits", 10),
        ("nasnet_mobile", "aux_7/aux_logits", 12),
        ("nasnet_large", "aux_11/aux_logits", 12),
        ("pnasnet_mobile", "aux_5/aux_logits", 12),
        ("pnasnet_large", "aux_7/aux_logits", 12),
    ],
)
def test_auxiliary_heads_are_known_by_name(listing, scope, count):
    """All of their variables, and nothing else."""
    [variant] = (variant for name, variant in _cases() if name == listing)
    _, auxiliary = _listed_variables(listing, variant)
    assert len(auxiliary) == count
    assert all(name.startswith(f"{scope}/") for name, *_ in auxiliary)
    assert {variant.family.unused(name).title for name, *_ in auxiliary} == {"auxiliary head"}


@needs_data
@_EACH
def test_endpoints_are_those_of_tf_slim(listing, variant):
    """Keys and shapes; TF-Slim's scope comes first where its own key lacks it, as in tfhub.dev's modules."""
    network = variant.network_for("classification", _first_version(variant)).at_default_size()
    scope, slash, _ = next(iter(network.endpoints)).partition("/")
    root = scope + slash if slash else ""  # Some networks have no scope.
    wanted = {}
    for key, shape, *_ in _listed("endpoints", listing):
        if key in ("AvgPool_1a", "AvgPool_0a_7x7"):
            key = "global_pool"  # The name that it has with global_pool=True.
        if key != "AuxLogits":
            wanted[key if key.startswith(root) else f"{root}{key}"] = shape
    found = {key: str(("?", *network.shapes[op])).replace("'", "") for key, op in network.endpoints.items()}
    assert found == wanted


@needs_data
@_EACH
def test_costs_are_those_of_tf_slim(listing, variant):
    """Multiply-adds and parameters, with and without classifier."""
    totals = json.loads((_FACTS / "totals.json").read_text(encoding="utf-8"))[listing]
    network, features = (variant.network_for(kind, 5) for kind in ("classification", "feature_vector"))
    _, auxiliary = _listed_variables(listing, variant)
    # The head of some networks is there in training alone.
    sizes = {
        name: math.prod(json.loads(shape))
        for name, shape, _, _, in_inference, *_ in auxiliary
        if in_inference == "True"
    }
    without_batch_norm = sum(size for name, size in sizes.items() if "/BatchNorm/" not in name)
    auxiliary_losses = sum(decay != "None" for *_, decay in auxiliary)
    assert sum(multiply_adds(network).values()) + _AUXILIARY_MULTIPLY_ADDS.get(listing, 0) == totals["macs_infer"]
    assert sum(multiply_adds(features).values()) == totals["macs_feature"]
    assert sum(one.size for one in network.variables) + sum(sizes.values()) == totals["params_infer"]
    assert sum(one.size for one in features.variables) == totals["params_feature"]
    published = published_parameters(network)
    if published == sum(one.size for one in network.variables):  # Their publishers count everything.
        assert variant.published.parameters_millions in (None, published // 100_000 / 10)
        published -= sum(one.size for one in network.variables if one.role in _BATCH_NORM_ROLES)
    assert published + without_batch_norm == totals["params_no_bn_infer"]
    assert sum(bool(one.weight_decay) for one in network.variables) + auxiliary_losses == totals["reg_losses"]
