"""Gradients against one step of the float64 network: what is right passes, and what is wrong in one variable shows."""

import numpy as np
import pytest

from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.image_size import ImageSize
from hubexport.networks.numpy_forward import Forward
from hubexport.runtime.trainable_module import Gradients, loss_weights
from hubexport.verify.gradient_errors import GradientBatch, gradient_errors, have_effect

_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-3, weight_decay=1e-3)


def _network():
    b = Builder("Tiny", ImageSize(6, 6), _DEFAULTS)
    net = b.conv("first", b.images, 2, kernel=3, stride=2, activation=None)
    net = b.conv("second", b.conv("linear", net, 3, activation=None), 2)
    features = b.features(b.endpoint("Tiny/pool", b.mean("pool", net)))
    return b.network(features=features, logits=None)


@pytest.fixture(scope="module")
def batch():
    """A network of a few weights in training, with a loss."""
    generator, network = np.random.default_rng(0), _network()
    values = {v.name: generator.uniform(0.5, 1.5, v.shape).astype(np.float32) for v in network.variables}
    for variable in network.variables:
        if variable.role == "kernel":
            values[variable.name] -= 1
    images = generator.random((3, 6, 6, 3), np.float32)
    outputs = Forward(network, values, images, training=True).run()
    cotangent = generator.standard_normal((3, network.num_features), np.float32)
    layers = {"default": network.features}
    return GradientBatch(network, values, images, True, {"default": cotangent}, layers, outputs)


@pytest.fixture(scope="module")
def exact(batch):
    """The gradients, element by element."""

    def loss(values):
        outputs = Forward(batch.network, values, batch.images, training=True).run()
        return float((outputs[batch.network.features] * batch.cotangents["default"]).sum())

    found = {}
    for variable in batch.network.variables:
        if variable.trainable:
            found[variable.name] = np.zeros(variable.shape)
            for index in np.ndindex(*variable.shape):
                losses = []
                for sign in (1, -1):
                    moved = {name: value.astype(np.float64) for name, value in batch.values.items()}
                    moved[variable.name][index] += sign * 1e-5
                    losses.append(loss(moved))
                found[variable.name][index] = (losses[0] - losses[1]) / 2e-5
    return found


def _error(batch, values):
    [error] = gradient_errors(batch, [Gradients("way", ("default",), values)]).values()
    return error


def test_right_gradients_pass(batch, exact):
    """The mean over all variables is right to a few digits."""
    assert _error(batch, exact) < 1e-4


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize(
    "damage", [lambda g: g / 2, lambda g: 2 * g, lambda g: -g, np.flip], ids=["halved", "doubled", "turned", "shuffled"]
)
def test_a_wrong_gradient_by_one_variable_shows(batch, exact, layer, damage):
    """There are nine variables, of which two have hardly any effect."""
    name = f"Tiny/{layer}/weights"
    assert _error(batch, {**exact, name: damage(exact[name])}) > 1e-2


def test_a_gradient_that_is_missing_or_not_a_number_shows(batch, exact):
    """Both are errors beyond any limit."""
    name = "Tiny/second/weights"
    assert _error(batch, {key: value for key, value in exact.items() if key != name}) == float("inf")
    assert _error(batch, {**exact, name: exact[name] * np.nan}) == float("inf")


def test_a_beta_before_another_batch_norm_has_no_effect(batch):
    """Its gradient may be exactly 0, unlike that of any other variable."""
    before = ["Tiny/first/BatchNorm/beta", "Tiny/linear/BatchNorm/beta"]
    assert not have_effect(batch, before)
    assert have_effect(batch, [*before, "Tiny/second/BatchNorm/beta"])


def test_the_weights_of_losses_tell_them_apart():
    """None of them is 0."""
    weights = loss_weights(100)
    assert len({round(weight, 6) for weight in weights}) == 100 and min(weights) >= 1
