"""MobileNet V3, rewritten with tf_slim's layers as TF-Slim's `nets/mobilenet` has it; tf_slim itself lacks it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim


class _Block(NamedTuple):
    """An inverted residual: what it has inside, and whether its input is added to it."""

    factor: float  # Expanded channels over input channels.
    channels: int
    kernel: int
    stride: int
    squeezes: bool = False
    swishes: bool = False
    fused: bool = False  # The convolution that expands has the kernel; there is no depthwise one.
    residual: bool = True


# From tables 1 and 2 of Howard et al. (2019).
_LARGE = [
    _Block(1, 16, 3, 1),
    _Block(4, 24, 3, 2),
    _Block(3, 24, 3, 1),
    _Block(3, 40, 5, 2, squeezes=True),
    _Block(3, 40, 5, 1, squeezes=True),
    _Block(3, 40, 5, 1, squeezes=True),
    _Block(6, 80, 3, 2, swishes=True),
    _Block(200 / 80, 80, 3, 1, swishes=True),
    _Block(184 / 80, 80, 3, 1, swishes=True),
    _Block(184 / 80, 80, 3, 1, swishes=True),
    _Block(6, 112, 3, 1, squeezes=True, swishes=True),
    _Block(6, 112, 3, 1, squeezes=True, swishes=True),
    _Block(6, 160, 5, 2, squeezes=True, swishes=True),
    _Block(6, 160, 5, 1, squeezes=True, swishes=True),
    _Block(6, 160, 5, 1, squeezes=True, swishes=True),
]
_SMALL = [
    _Block(1, 16, 3, 2, squeezes=True),
    _Block(72 / 16, 24, 3, 2),
    _Block(88 / 24, 24, 3, 1),
    _Block(96 / 24, 40, 5, 2, squeezes=True, swishes=True),
    _Block(6, 40, 5, 1, squeezes=True, swishes=True),
    _Block(6, 40, 5, 1, squeezes=True, swishes=True),
    _Block(120 / 40, 48, 5, 1, squeezes=True, swishes=True),
    _Block(144 / 48, 48, 5, 1, squeezes=True, swishes=True),
    _Block(288 / 48, 96, 5, 2, squeezes=True, swishes=True),
    _Block(6, 96, 5, 1, squeezes=True, swishes=True),
    _Block(6, 96, 5, 1, squeezes=True, swishes=True),
]
_EDGETPU = [
    _Block(1, 16, 3, 1, fused=True),
    _Block(8, 32, 3, 2, fused=True),
    _Block(4, 32, 3, 1, fused=True),
    _Block(4, 32, 3, 1, fused=True),
    _Block(4, 32, 3, 1, fused=True),
    _Block(8, 48, 3, 2, fused=True),
    _Block(4, 48, 3, 1, fused=True),
    _Block(4, 48, 3, 1, fused=True),
    _Block(4, 48, 3, 1, fused=True),
    _Block(8, 96, 3, 2),
    _Block(4, 96, 3, 1),
    _Block(4, 96, 3, 1),
    _Block(4, 96, 3, 1),
    _Block(8, 96, 3, 1, residual=False),
    _Block(4, 96, 3, 1),
    _Block(4, 96, 3, 1),
    _Block(4, 96, 3, 1),
    _Block(8, 160, 5, 2),
    _Block(4, 160, 5, 1),
    _Block(4, 160, 5, 1),
    _Block(4, 160, 5, 1),
    _Block(8, 192, 3, 1),
]
# Channels of the first convolution, blocks, and channels of the last two convolutions, of which EdgeTPU has one.
_ARCHITECTURES: dict[str, tuple[int, list[_Block], int | None, int]] = {
    "large": (16, _LARGE, 960, 1280),
    "small": (16, _SMALL, 576, 1024),
    "edgetpu": (32, _EDGETPU, None, 1280),
}
_Activation = Callable[[tf.Tensor], tf.Tensor]


def reference_mobilenet_v3(
    images: tf.Tensor,
    architecture: str,
    depth_multiplier: float,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.997,
    weight_decay: float = 4e-5,
    dropout_keep_prob: float = 0.8,
) -> Reference:
    """Builds the network into the current graph, with variables under `MobilenetV3/` or `MobilenetEdgeTPU/`.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        architecture: `large`, `small`, `large_minimalistic`, `small_minimalistic` or `edgetpu`.
        depth_multiplier: scales the number of channels.
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
        dropout_keep_prob: 1.0 is no dropout.
    """
    name, _, is_minimalistic = architecture.partition("_")
    first, blocks, last, width = _ARCHITECTURES[name]
    root = "MobilenetEdgeTPU" if name == "edgetpu" else "MobilenetV3"
    swish: _Activation = tf.nn.relu if is_minimalistic or name == "edgetpu" else _hard_swish
    endpoints: dict[str, tf.Tensor] = {}

    def depth(channels: float) -> int:
        return _divisible(channels * depth_multiplier)

    with tf.variable_scope(root, use_resource=True), slim.arg_scope(
        _training_scope(is_training, batch_norm_decay, weight_decay)
    ):
        net = slim.conv2d(images * 2.0 - 1.0, depth(first), [3, 3], stride=2, activation_fn=swish, scope="Conv")
        endpoints["layer_1"] = net
        for index, block in enumerate(blocks):
            if is_minimalistic:
                block = block._replace(kernel=3, squeezes=False, swishes=False)
            scope = f"expanded_conv_{index}" if index else "expanded_conv"
            key = f"layer_{index + 2}"
            net = _expanded_conv(net, depth(block.channels), block, scope, key, endpoints)
            endpoints[key] = endpoints[f"{key}/output"] = net
        layer = len(blocks) + 2
        width = width if depth_multiplier < 1 else depth(width)
        if last is None:
            net = endpoints[f"layer_{layer}"] = slim.conv2d(net, width, [1, 1], scope="Conv_1")
        else:
            net = slim.conv2d(net, depth(last), [1, 1], activation_fn=swish, scope="Conv_1")
            endpoints[f"layer_{layer}"] = net
            net = endpoints[f"layer_{layer + 1}"] = _whole_average(net)
            net = slim.conv2d(net, width, [1, 1], normalizer_fn=None, activation_fn=swish, scope="Conv_2")
            endpoints[f"layer_{layer + 2}"] = net
        with tf.variable_scope("Logits"):
            net = endpoints["global_pool"] = _whole_average(net)
            features = tf.squeeze(net, [1, 2])
            logits = None
            if num_classes is not None:
                net = slim.dropout(net, dropout_keep_prob, is_training=is_training, scope="Dropout")
                net = slim.conv2d(
                    net, num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope="Conv2d_1c_1x1"
                )
                endpoints["Logits"] = logits = tf.squeeze(net, [1, 2])
                endpoints["Predictions"] = slim.softmax(logits)
    return Reference(
        features,
        logits,
        {f"{root}/{name}": tensor for name, tensor in endpoints.items()},
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )


def _training_scope(is_training: bool, batch_norm_decay: float, weight_decay: float) -> dict[str, object]:
    batch_norm = {
        "is_training": is_training,
        "center": True,
        "scale": True,
        "decay": batch_norm_decay,
        "updates_collections": UPDATES_COLLECTION,
    }
    with slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d],
        weights_initializer=tf.truncated_normal_initializer(stddev=0.09),
        normalizer_fn=slim.batch_norm,
        activation_fn=tf.nn.relu,
        padding="SAME",
    ), slim.arg_scope([slim.batch_norm], **batch_norm), slim.arg_scope(
        [slim.conv2d], weights_regularizer=slim.l2_regularizer(weight_decay)
    ), slim.arg_scope(
        [slim.separable_conv2d], weights_regularizer=None
    ) as scope:
        return scope


def _expanded_conv(
    inputs: tf.Tensor, outputs: int, block: _Block, scope: str, key: str, endpoints: dict[str, tf.Tensor]
) -> tf.Tensor:
    depth = int(inputs.shape[3])
    inner = _divisible(depth * block.factor)
    kernel = [block.kernel, block.kernel]
    activation = _hard_swish if block.swishes else tf.nn.relu
    net = inputs
    with tf.variable_scope(scope), slim.arg_scope([slim.conv2d, slim.separable_conv2d], activation_fn=activation):
        if inner > depth:
            size, stride = (kernel, block.stride) if block.fused else ([1, 1], 1)
            net = endpoints[f"{key}/expansion_output"] = slim.conv2d(net, inner, size, stride=stride, scope="expand")
        if not block.fused:
            net = slim.separable_conv2d(net, None, kernel, depth_multiplier=1, stride=block.stride, scope="depthwise")
            endpoints[f"{key}/depthwise_output"] = net
        if block.squeezes:
            net = net * _gate(net)
        net = slim.conv2d(net, outputs, [1, 1], activation_fn=tf.identity, scope="project")
    return net + inputs if block.residual and block.stride == 1 and depth == outputs else net


def _gate(net: tf.Tensor) -> tf.Tensor:
    """Squeezes the image into a gate for each channel. Its sixth is TF-Slim's."""
    channels = int(net.shape[3])
    with tf.variable_scope("squeeze_excite"), slim.arg_scope([slim.conv2d], normalizer_fn=None):
        gate = tf.reduce_mean(net, [1, 2], keepdims=True)
        gate = slim.conv2d(gate, _divisible(channels / 4), [1, 1], activation_fn=tf.nn.relu, scope="Conv")
        gate = slim.conv2d(gate, channels, [1, 1], activation_fn=None, scope="Conv_1")
        return tf.nn.relu6(gate + 3.0) * 0.16667


def _hard_swish(net: tf.Tensor) -> tf.Tensor:
    return net * tf.nn.relu6(net + 3.0) * np.float32(1 / 6)


def _whole_average(net: tf.Tensor) -> tf.Tensor:
    return tf.nn.avg_pool2d(net, net.shape[1:3].as_list(), strides=1, padding="VALID")


def _divisible(value: float) -> int:
    """TF-Slim's `make_divisible(value, divisor=8, min_value=8)`."""
    depth = max(8, int(value + 4) // 8 * 8)
    return depth + 8 if depth < 0.9 * value else depth
