"""The gains of made-up values follow from the ops, and keep activations from growing or fading with the depth."""

import dataclasses
import math

import numpy as np
import pytest

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.image_size import ImageSize
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from hubexport.verify.sample_images import random_images

_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-3, weight_decay=0.0)
_RECTIFIED = pytest.approx(math.sqrt(2 / 1.4))


def _gains(network):
    return {variable.name: variable.gain for variable in network.variables if variable.gain != 1}


@pytest.mark.parametrize(("units", "is_rectified", "gain"), [(9, False, 1), (11, False, 10 / 12), (11, True, 3 / 12)])
def test_what_ends_a_branch_gets_smaller_with_the_number_of_branches(units, is_rectified, gain):
    """A shortcut may take every second pixel. A sum of two convolutions of one input has no shortcut."""
    b = Builder("n", ImageSize(8, 8), _DEFAULTS)
    net = b.conv("stem", b.images, 4)
    for unit in range(units):
        branch = b.conv(f"{unit}/narrow", net, 2)
        net = b.add(f"{unit}/add", net, b.conv(f"{unit}/widen", branch, 4, batch_norm=False, activation=None))
        net = b.activation(f"{unit}/Relu", net, "relu") if is_rectified else net
    branch = b.conv("last/widen", net, 4, stride=2, activation=None)
    net = b.add("last/add", branch, b.max_pool("last/pool", net, 1, stride=2))
    net = b.activation("last/Relu", net, "relu") if is_rectified else net
    net = b.add("both", *(b.conv(scope, net, 4, activation=None) for scope in ("left", "right")))
    network = b.network(features=b.features(b.mean("pool", net)), logits=None)
    plain = [f"n/{unit}/widen/{name}" for unit in range(units) for name in ("weights", "biases")]
    normalized = [f"n/last/widen/BatchNorm/{name}" for name in ("beta", "gamma")]
    wanted = {} if gain == 1 else dict.fromkeys(plain + normalized, pytest.approx(math.sqrt(gain)))
    assert _gains(network) == wanted


def test_kernels_that_take_images_make_up_for_their_range():
    """Explicit padding lies between. Later kernels take images no more."""
    b = Builder("n", ImageSize(8, 8), _DEFAULTS)
    net = b.conv("later", b.conv("first", b.images, 4, kernel=3, stride=2, padding="explicit"), 4)
    network = b.network(features=b.features(b.mean("pool", net)), logits=None, input_range=(0.0, 255.0))
    assert _gains(network) == {"n/first/weights": pytest.approx(1 / 127.5)}


def test_rectified_kernels_keep_the_mean_square():
    """Where no gamma scales them. Linear layers, and kernels below a gamma, have no gain; gates are made up for."""
    b = Builder("n", ImageSize(8, 8), _DEFAULTS)
    net = b.conv("gamma", b.images, 4)
    net = b.conv("biased", net, 4, batch_norm=False)
    gate = b.conv("gate", net, 4, batch_norm=False, activation="hard_sigmoid")
    net = b.conv("gated", b.multiply("mul", net, gate), 4, batch_norm=False, activation=None)
    network = b.network(features=b.features(b.mean("pool", net)), logits=None)
    assert _gains(network) == {"n/biased/weights": _RECTIFIED, "n/gated/weights": 2}
    no_gamma = dataclasses.replace(_DEFAULTS, batch_norm_scale=False)
    b = Builder("n", ImageSize(8, 8), no_gamma)
    net = b.conv("linear", b.conv("first", b.images, 4), 4, activation=None)
    network = b.network(features=b.features(b.mean("pool", net)), logits=None)
    assert _gains(network) == {"n/first/weights": _RECTIFIED}


@pytest.mark.parametrize(
    ("name", "branches"),
    [("mobilenet_v1", 0), ("mobilenet_v2", 0), ("resnet_v2_50", 12), ("resnet_v2_101", 29), ("resnet_v2_152", 46)],
)
def test_gains_of_the_oldest_families(name, branches):
    """Their made-up values stay: those of MobileNets have no gain, ResNet V2 has one for each unit with a shortcut."""
    family = FAMILIES[name]
    for classes in (None, 7):
        gains = _gains(family.network(family.published_parameters[-1], 96, classes)).values()
        assert (set(gains), len(gains)) == ({math.sqrt(10 / branches)} if branches else set(), 2 * branches)


def _marks(name):
    if name.startswith("mobilenet"):
        return ()
    return pytest.mark.prove if name.startswith(("vgg_", "resnet_v1_1", "resnet_v2_1")) else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(name, marks=_marks(name)) for name in FAMILIES])
def test_activations_neither_die_nor_explode(name):
    """Made-up values give features of about the same size, however deep the network is, that tell images apart.

    Where the last image has one pixel, a ReLU leaves half of them.
    """
    family = FAMILIES[name]
    size = max(64, family.smallest_size)
    network = family.network(family.published_parameters[-1], size, 7)
    values = {variable.name: synthetic_value(variable, 0) for variable in network.variables}
    features = Forward(network, values, random_images(size, size).images, dtype=np.float32).run()[network.features]
    assert 0.1 < features.std() < 10
    assert np.mean(features != 0) > 0.4
    assert np.abs(features[0] - features[1]).mean() > 1e-3 * features.std()
