"""Gradients against one step of the float64 network: what is right passes, and what is wrong in one variable shows."""

import numpy as np
import pytest

from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.image_size import ImageSize
from hubexport.networks.numpy_forward import Forward
from hubexport.runtime.trainable_module import Gradients, loss_weights
from hubexport.verify.gradient_errors import GradientBatch, gradient_errors, have_effect

_IMAGES = "images"
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
        outputs = Forward(batch.network, values, values[_IMAGES], training=True).run()
        return float((outputs[batch.network.features] * batch.cotangents["default"]).sum())

    found = {}
    at = {**batch.values, _IMAGES: batch.images}
    for name in [*(variable.name for variable in batch.network.variables if variable.trainable), _IMAGES]:
        found[name] = np.zeros(at[name].shape)
        for index in np.ndindex(*at[name].shape):
            losses = []
            for sign in (1, -1):
                moved = {name: value.astype(np.float64) for name, value in at.items()}
                moved[name][index] += sign * 1e-5
                losses.append(loss(moved))
            found[name][index] = (losses[0] - losses[1]) / 2e-5
    return found


def _errors(batch, values):
    values = dict(values)
    by_images = values.pop(_IMAGES, None)
    [errors] = gradient_errors(batch, [Gradients("way", ("default",), values, by_images)]).values()
    return errors


def test_right_gradients_pass(batch, exact):
    """The mean over all variables is right to a few digits, and so is the sum with signs by chance."""
    errors = _errors(batch, exact)
    assert errors.mean < 1e-4 and errors.alternating < 1e-3


@pytest.mark.parametrize("name", ["Tiny/first/weights", "Tiny/second/weights", "images"])
@pytest.mark.parametrize(
    ("damage", "error"),
    [(lambda g: g / 2, 1), (lambda g: 2 * g, 0.5), (lambda g: -g, 2), (np.flip, None)],
    ids=["halved", "doubled", "turned", "shuffled"],
)
def test_a_wrong_gradient_by_one_of_them_shows(batch, exact, name, damage, error):
    """There are nine variables, of which two have hardly any effect."""
    errors = _errors(batch, {**exact, name: damage(exact[name])})
    assert errors.mean > 1e-2
    assert errors.alternating > 0.3
    if error is not None:
        assert errors.alternating == pytest.approx(error, rel=0.6)


def test_errors_of_rounding_cancel_out(batch, exact):
    """All gradients are a hundredth too long, as by rounding."""
    errors = _errors(batch, {name: gradient * 1.01 for name, gradient in exact.items()})
    assert errors.mean == pytest.approx(1e-2, rel=0.3)
    assert errors.alternating < 3e-2


def test_a_gradient_that_is_missing_or_not_a_number_shows(batch, exact):
    """Both are errors beyond any limit."""
    for name in ("Tiny/second/weights", _IMAGES):
        without = {key: value for key, value in exact.items() if key != name}
        assert _errors(batch, without).mean == float("inf")
        wrong = _errors(batch, {**exact, name: exact[name] * np.nan})
        assert wrong.mean == wrong.alternating == float("inf")


def test_a_beta_before_another_batch_norm_has_no_effect(batch):
    """Its gradient may be exactly 0, unlike that of any other variable."""
    before = ["Tiny/first/BatchNorm/beta", "Tiny/linear/BatchNorm/beta"]
    assert not have_effect(batch, before)
    assert have_effect(batch, [*before, "Tiny/second/BatchNorm/beta"])


def test_the_weights_of_losses_tell_them_apart():
    """None of them is 0."""
    weights = loss_weights(100)
    assert len({round(weight, 6) for weight in weights}) == 100 and min(weights) >= 1
