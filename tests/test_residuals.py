"""Residual branches are found by the ops, and made-up values keep their sum from growing with the depth."""

import numpy as np
import pytest

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.image_size import ImageSize
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from hubexport.verify.sample_images import random_images

_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-3, weight_decay=0.0)


def _branches(network):
    return {variable.name: variable.branches for variable in network.variables if variable.branches > 1}


def test_the_variables_that_end_a_branch_know_how_many_there_are():
    """A shortcut may take every second pixel. A sum of two convolutions of one input has no shortcut."""
    b = Builder("n", ImageSize(8, 8), _DEFAULTS)
    net = b.conv("stem", b.images, 4)
    for scope in ("first", "second"):
        branch = b.conv(f"{scope}/narrow", net, 2)
        net = b.add(f"{scope}/add", net, b.conv(f"{scope}/widen", branch, 4, batch_norm=False, activation=None))
    branch = b.conv("third/widen", net, 4, stride=2, activation=None)
    net = b.add("third/add", branch, b.max_pool("third/pool", net, 1, stride=2))
    net = b.add("both", *(b.conv(scope, net, 4, activation=None) for scope in ("left", "right")))
    network = b.network(features=b.features(b.mean("pool", net)), logits=None)
    plain = [f"n/{scope}/widen/{name}" for scope in ("first", "second") for name in ("weights", "biases")]
    normalized = [f"n/third/widen/BatchNorm/{name}" for name in ("beta", "gamma")]
    assert _branches(network) == dict.fromkeys(plain + normalized, 3)


@pytest.mark.parametrize(
    ("name", "number"),
    [("mobilenet_v1", 0), ("mobilenet_v2", 10), ("resnet_v2_50", 12), ("resnet_v2_101", 29), ("resnet_v2_152", 46)],
)
def test_branches_of_the_families(name, number):
    """One for each unit whose input and output have the same number of channels."""
    family = FAMILIES[name]
    for classes in (None, 7):
        counts = _branches(family.network(family.published_parameters[-1], 96, classes)).values()
        assert (set(counts), len(counts)) == ({number} if number else set(), 2 * number)


@pytest.mark.parametrize(
    "name", [name if name.startswith("mobilenet") else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_activations_neither_die_nor_explode(name):
    """Made-up values give features of about the same size, however deep the network is."""
    family = FAMILIES[name]
    size = max(64, family.smallest_size)
    network = family.network(family.published_parameters[-1], size, 7)
    values = {variable.name: synthetic_value(variable, 0) for variable in network.variables}
    features = Forward(network, values, random_images(size, size).images, dtype=np.float32).run()[network.features]
    assert 0.1 < features.std() < 10
    assert np.mean(features != 0) > 0.5
