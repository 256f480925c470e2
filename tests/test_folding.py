"""Networks for inference: with fewer ops, NumPy computes in float64 what it computes of the originals."""

import numpy as np
import pytest

from hubexport.arrays import streamed
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks import ops
from hubexport.networks.folding import FOLDED, fold
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.ops import Variable
from hubexport.networks.registry import FAMILIES

_CLASSES = 7
_CHEAP = ("mobilenet_v1", "mobilenet_v2", "inception_v1")
# The scales and shifts that remain: ResNet V2's batch norms come before the convolutions, and some of NASNet's and
# PNASNet's follow a concatenation.
_REMAINING = {"resnet_v2_50": 17, "nasnet_mobile": 4, "mobilenet_v2": 0, "inception_v2": 0}


def _network(name):
    family = FAMILIES[name]
    size = -(-max(64, family.smallest_size) // family.size_multiple) * family.size_multiple
    return family.network(family.published_parameters[0], size, _CLASSES)


def _values(network):
    return {variable.name: synthetic_value(variable, 1) for variable in network.variables}


def _images(network, count=1):
    return np.random.default_rng(3).uniform(size=(count, *network.image_shape))


def _assert_close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in _CHEAP else pytest.mark.slow) for n in FAMILIES])
def test_a_folded_network_computes_what_it_did(name):
    """Of every family; only values are rounded to float32."""
    network = _network(name)
    values, images = _values(network), _images(network)
    folded = fold(network, values)
    assert not [op for op in folded.network.ops if isinstance(op, FOLDED)]
    assert len(folded.network.ops) < len(network.ops)
    assert folded.network.endpoints == {}
    assert {value.dtype for value in folded.values.values()} == {np.dtype(np.float32)}
    found = Forward(folded.network, folded.values, images).run()
    wanted = Forward(network, values, images).run([network.features, network.logits])
    for name_, folded_name in ((network.features, folded.network.features), (network.logits, folded.network.logits)):
        _assert_close(found[folded_name], wanted[name_])


@pytest.mark.parametrize("name", _REMAINING)
def test_batch_norms_without_a_convolution_before_them_stay_as_scales_and_shifts(name):
    """All others are gone."""
    folded = fold(_network(name), _values(_network(name))).network
    remaining = [op for op in folded.ops if isinstance(op, ops.DepthwiseConv) and op.kernel.shape[:2] == (1, 1)]
    assert len(remaining) == _REMAINING[name]


@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v1", pytest.param("resnet_v2_50", marks=pytest.mark.slow)])
def test_endpoints_that_are_asked_for_stay_what_they_were(name):
    """All of them, also where they lie between a convolution and its batch norm."""
    network = _network(name)
    values, images = _values(network), _images(network)
    folded = fold(network, values, endpoints=tuple(network.endpoints))
    found = Forward(folded.network, folded.values, images).run()
    wanted = Forward(network, values, images).run()
    assert folded.network.endpoints.keys() == network.endpoints.keys()
    for key, op in network.endpoints.items():
        _assert_close(found[folded.network.endpoints[key]], wanted[op])


# By hand: two channels, a batch norm that multiplies them by 2 and 3 and adds 10 and 20.


def _variable(name, *shape, role="kernel"):
    return Variable(name, shape, role)


def _batch_norm(source):
    beta, gamma, mean, variance = (
        _variable(role, 2, role=role) for role in ("beta", "gamma", "moving_mean", "moving_variance")
    )
    return ops.BatchNorm(
        "bn", (source,), "a", beta=beta, gamma=gamma, moving_mean=mean, moving_variance=variance, epsilon=0.5
    )


_STATISTICS = {
    "gamma": np.float32([4, 3]),
    "moving_variance": np.float32([3.5, 0.5]),
    "moving_mean": np.float32([1, 2]),
    "beta": np.float32([12, 26]),
}


def _small(*sequence, endpoints=None, **more):
    images = ops.Input("in", (), "in", shape=(5, 5, 3))
    more = {"input_range": (0.0, 1.0), **more}
    return Network((images, *sequence), endpoints or {}, sequence[-1].name, None, (5, 5), **more)


def _conv(padding="SAME", source="in", kernel=(1, 1), **more):
    weights = _variable("kernel", *kernel, 3, 2)
    return ops.Conv("conv", (source,), "a", kernel=weights, padding=padding, **more)


def test_a_batch_norm_goes_into_the_convolution_before_it():
    """Kernel and bias are those worked out by hand, and the convolution has the batch norm's name."""
    kernel = np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
    folded = fold(
        _small(_conv(bias=_variable("bias", 2, role="bias")), _batch_norm("conv")),
        {"kernel": streamed(kernel), "bias": np.float32([7, 9]), **_STATISTICS},
    )
    [_, conv] = folded.network.ops
    assert (conv.name, folded.network.features, conv.bias.name) == ("bn", "bn", "bias")
    assert folded.values.keys() == {"kernel", "bias"}
    np.testing.assert_array_equal(folded.values["kernel"], kernel * [2, 3])
    np.testing.assert_array_equal(folded.values["bias"], [7 * 2 + 10, 9 * 3 + 20])


def test_results_are_rounded_once():
    """Not at each step, as in float32."""
    generator = np.random.default_rng(1)
    values = {name: generator.uniform(1, 2, 2).astype(np.float32) for name in _STATISTICS}
    values["kernel"] = generator.normal(size=(1, 1, 3, 2)).astype(np.float32)
    network = _small(_conv(), _batch_norm("conv"), input_range=(-1.0, 2.0))
    exact = {name: value.astype(np.longdouble) for name, value in values.items()}
    wanted = 3 * exact["kernel"] * exact["gamma"] / np.sqrt(exact["moving_variance"] + 0.5)
    np.testing.assert_array_equal(fold(network, values).values["kernel"], wanted.astype(np.float32))


@pytest.mark.parametrize("needed", ["by an op", "from outside"])
def test_a_convolution_whose_output_is_needed_stays(needed):
    """The batch norm becomes a scale and a shift."""
    add = [ops.Add("sum", ("conv", "bn"), "a")] if needed == "by an op" else []
    endpoints = {"key": "conv"} if needed == "from outside" else {}
    network = _small(_conv(), _batch_norm("conv"), *add, endpoints=endpoints)
    kernel = np.ones((1, 1, 3, 2), np.float32)
    folded = fold(network, {"kernel": kernel, **_STATISTICS}, endpoints=endpoints)
    _, conv, scale, *_ = folded.network.ops
    assert (conv, scale.name, scale.inputs) == (network.ops[1], "bn", ("conv",))
    np.testing.assert_array_equal(folded.values["kernel"], kernel)
    np.testing.assert_array_equal(folded.values[scale.kernel.name].ravel(), [2, 3])
    np.testing.assert_array_equal(folded.values[scale.bias.name], [10, 20])


_MEANS = (10.0, 20.0, 30.0)
_PAD = ops.Pad("pad", ("in",), "a", before=(1, 1), after=(1, 1))


@pytest.mark.parametrize(
    ("sequence", "means", "left"),
    [
        ([_conv("VALID", kernel=(3, 3))], _MEANS, (1.0, None)),
        ([_conv("SAME", kernel=(1, 1))], _MEANS, (1.0, None)),
        ([_conv("SAME", kernel=(3, 3))], _MEANS, (1.0, tuple(mean / 255 for mean in _MEANS))),
        ([_conv("SAME", kernel=(3, 3), stride=(2, 2))], None, (1.0, None)),
        ([_PAD, _conv("VALID", "pad", (3, 3))], _MEANS, (1.0, tuple(mean / 255 for mean in _MEANS))),
        ([ops.Activation("relu", ("in",), "a", kind="relu"), _conv("VALID", "relu")], _MEANS, (255.0, _MEANS)),
        ([_conv("VALID"), ops.Mean("mean", ("in",), "b")], None, (255.0, None)),
    ],
    ids=["valid", "one pixel", "padded", "nothing to subtract", "explicit pad", "no convolution", "used twice"],
)
@pytest.mark.parametrize("white", [1.0, 255.0])
def test_the_input_mapping_goes_as_far_as_padding_lets_it(sequence, means, left, white):
    """Zeros around the mapped image are not black pixels: then the offset stays. The factor always goes."""
    network = _small(*sequence, input_range=(0.0, 255.0), channel_means=means)
    values = {"kernel": np.random.default_rng(5).normal(size=network.variables[0].shape).astype(np.float32)}
    folded = fold(network, values, white=white)
    scale, offset = left
    if scale == 255:
        scale /= white
    elif offset is not None:
        offset = tuple(one * white for one in offset)
    assert folded.network.input_scale == scale
    np.testing.assert_allclose(folded.network.input_offset, 0 if offset is None else offset, rtol=1e-15)
    images = _images(network, 2)
    found = Forward(folded.network, folded.values, images * white).run()[folded.network.features]
    _assert_close(found, Forward(network, values, images).run()[network.features])


def test_the_mapping_goes_into_a_depthwise_convolution_too():
    """Each output channel sees one input channel."""
    kernel = _variable("kernel", 2, 2, 3, 2, role="depthwise_kernel")
    network = _small(
        ops.DepthwiseConv("conv", ("in",), "a", kernel=kernel, padding="VALID"),
        input_range=(-1.0, 1.0),
        channel_means=(0.1, 0.2, 0.3),
    )
    values = {"kernel": np.random.default_rng(5).normal(size=kernel.shape).astype(np.float32)}
    folded = fold(network, values)
    assert folded.network.channel_means is None
    images = _images(network)
    _assert_close(
        Forward(folded.network, folded.values, images).run()["conv"], Forward(network, values, images).run()["conv"]
    )
