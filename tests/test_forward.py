"""The network in NumPy, against PyTorch's outputs, TF-Slim's graph, and TensorFlow's own kernels."""

import numpy as np
import pytest
import tensorflow as tf

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.networks import ops
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward
from tests.data import needs_data, reference_outputs


def _values(network, seed=1):
    return {variable.name: synthetic_value(variable, seed) for variable in network.variables}


@needs_data
@pytest.mark.parametrize("name", ["mobilenet_v2_050_96", pytest.param("mobilenet_v2_075_192", marks=pytest.mark.slow)])
def test_computes_what_pytorch_computed(name):
    """In float32 both round; in float64 only PyTorch's float32 rounds."""
    network = load_variant(name).network_for("classification")
    known = reference_outputs(name)
    for dtype in (np.float64, np.float32):
        outputs = Forward(network, _values(network), known["images"], dtype=dtype).run()
        assert outputs[network.logits].dtype == dtype
        np.testing.assert_allclose(outputs[network.features], known["image_feature_vector"], rtol=0, atol=2e-5)
        np.testing.assert_allclose(outputs[network.logits], known["image_classification"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [7, 8, 32, 33])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("kind", [ops.Conv, ops.DepthwiseConv, ops.Pool])
def test_windows_are_tensorflows(kind, kernel_size, stride, size):
    """At odd and even sizes: SAME padding puts the odd pixel at the end."""
    generator = np.random.default_rng(1)
    images = generator.random((2, size, size, 4))
    square, strides = (kernel_size, kernel_size), (stride, stride)
    if kind is ops.Conv:
        more = {"kernel": ops.Variable("c/weights", (*square, 4, 5), "kernel")}
        more["bias"] = ops.Variable("c/biases", (5,), "bias")
    elif kind is ops.DepthwiseConv:
        more = {"kernel": ops.Variable("c/depthwise_weights", (*square, 4, 2), "depthwise_kernel")}
    else:
        more = {"kind": "average", "window": square}
    sequence = (ops.Input("x", (), "x", shape=(size, size, 4)), kind("c", ("x",), "c", stride=strides, **more))
    network = Network(sequence, {}, "c", None, (size, size), (0.0, 1.0))
    values = {variable.name: generator.normal(size=variable.shape) for variable in network.variables}
    found = Forward(network, values, images).run()["c"]
    if kind is ops.Conv:
        wanted = tf.nn.conv2d(images, values["c/weights"], stride, "SAME") + values["c/biases"]
    elif kind is ops.DepthwiseConv:
        wanted = tf.nn.depthwise_conv2d(images, values["c/depthwise_weights"], [1, stride, stride, 1], "SAME")
    else:
        wanted = tf.nn.avg_pool2d(images, kernel_size, stride, "SAME")
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_training_takes_the_statistics_of_the_batch():
    """Those of the first convolution equal TensorFlow's FusedBatchNorm, like the targets of its moving averages."""
    network = mobilenet_v2(0.35, 32, 3)
    values = _values(network)
    images = np.random.default_rng(1).random((3, 32, 32, 3), np.float32)
    forward = Forward(network, values, images, training=True)
    forward.run()
    scope = "MobilenetV2/Conv"
    convolved = tf.nn.conv2d(images * 2 - 1, values[f"{scope}/weights"], 2, "SAME")
    gamma, beta = (values[f"{scope}/BatchNorm/{name}"] for name in ("gamma", "beta"))
    normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=convolved, scale=gamma, offset=beta, mean=[], variance=[], epsilon=0.001, is_training=True
    )
    np.testing.assert_allclose(forward.outputs[f"{scope}/Relu6"], tf.nn.relu6(normalized), rtol=0, atol=1e-5)
    found = forward.batch_statistics
    np.testing.assert_allclose(found[f"{scope}/BatchNorm/moving_mean"], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[f"{scope}/BatchNorm/moving_variance"], variance, rtol=1e-4)
    assert len(found) == 2 * 52


def test_known_outputs_are_not_computed_again():
    """Later layers use the given outputs."""
    network = mobilenet_v2(0.35, 32, 3)
    images = np.zeros((1, 32, 32, 3))
    whole = Forward(network, _values(network), images).run()
    middle = "MobilenetV2/expanded_conv_10/output"
    before = {}
    for name, output in whole.items():
        before[name] = output
        if name == middle:
            break
    rest = Forward(network, _values(network), images, known=before).run()
    np.testing.assert_array_equal(rest[network.logits], whole[network.logits])
    other = Forward(network, _values(network), images, known={**before, middle: whole[middle] + 1}).run()
    assert not np.array_equal(other[network.logits], whole[network.logits])
