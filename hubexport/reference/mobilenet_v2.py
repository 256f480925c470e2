"""MobileNet V2, which tf_slim lacks, rewritten with its layers in the idiom of TF-Slim's `nets/mobilenet`."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim

# (channels, stride, expansion) of each block, from table 2 of Sandler et al. (2018).
_BLOCKS = [
    (16, 1, 1),
    (24, 2, 6), (24, 1, 6),
    (32, 2, 6), (32, 1, 6), (32, 1, 6),
    (64, 2, 6), (64, 1, 6), (64, 1, 6), (64, 1, 6),
    (96, 1, 6), (96, 1, 6), (96, 1, 6),
    (160, 2, 6), (160, 1, 6), (160, 1, 6),
    (320, 1, 6),
]  # fmt: skip


def reference_mobilenet_v2(
    images: tf.Tensor,
    depth_multiplier: float,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.997,
    weight_decay: float = 4e-5,
    dropout_keep_prob: float = 0.8,
) -> Reference:
    """Builds the network into the current graph, with its variables under `MobilenetV2/`.

    The defaults are those of TF-Slim's training scope.

    Args:
        images: float32 `[batch, height, width, 3]`, RGB, intensities in [0, 1].
        depth_multiplier: scales the number of channels.
        num_classes: the number of classes; None leaves the classifier out.
        is_training: whether batch norm uses the batch's statistics and dropout is active.
        batch_norm_decay: how much of a moving average an update keeps, in [0, 1].
        weight_decay: the scale of the L2 losses.
        dropout_keep_prob: the probability that dropout keeps a feature, in (0, 1].
    """
    endpoints: dict[str, tf.Tensor] = {}
    with tf.variable_scope("MobilenetV2", use_resource=True), slim.arg_scope(
        _training_scope(is_training, batch_norm_decay, weight_decay, dropout_keep_prob)
    ):
        net = slim.conv2d(images * 2.0 - 1.0, _depth(32, depth_multiplier), [3, 3], stride=2, scope="Conv")
        endpoints["layer_1"] = net
        for index, (channels, stride, expansion) in enumerate(_BLOCKS):
            name = f"expanded_conv_{index}" if index else "expanded_conv"
            prefix = f"layer_{index + 2}"
            net = _expanded_conv(net, _depth(channels, depth_multiplier), stride, expansion, name, prefix, endpoints)
            endpoints[prefix] = endpoints[f"{prefix}/output"] = net
        last = 1280 if depth_multiplier < 1 else _depth(1280, depth_multiplier)
        net = slim.conv2d(net, last, [1, 1], scope="Conv_1")
        endpoints["layer_19"] = net
        with tf.variable_scope("Logits"):
            net = tf.nn.avg_pool2d(net, net.shape[1:3].as_list(), strides=1, padding="VALID")
            endpoints["global_pool"] = net
            features = tf.squeeze(net, [1, 2])
            logits = None
            if num_classes is not None:
                net = slim.dropout(net, scope="Dropout")
                net = slim.conv2d(
                    net, num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope="Conv2d_1c_1x1"
                )
                endpoints["Logits"] = logits = tf.squeeze(net, [1, 2])
                endpoints["Predictions"] = slim.softmax(logits)
    return Reference(
        features,
        logits,
        {f"MobilenetV2/{name}": tensor for name, tensor in endpoints.items()},
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )


def _training_scope(
    is_training: bool, batch_norm_decay: float, weight_decay: float, dropout_keep_prob: float
) -> dict[str, object]:
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
        activation_fn=tf.nn.relu6,
        padding="SAME",
    ), slim.arg_scope([slim.batch_norm], **batch_norm), slim.arg_scope(
        [slim.dropout], is_training=is_training, keep_prob=dropout_keep_prob
    ), slim.arg_scope(
        [slim.conv2d], weights_regularizer=slim.l2_regularizer(weight_decay)
    ), slim.arg_scope(
        [slim.separable_conv2d], weights_regularizer=None
    ) as scope:
        return scope


def _expanded_conv(
    inputs: tf.Tensor,
    outputs: int,
    stride: int,
    expansion: int,
    scope: str,
    prefix: str,
    endpoints: dict[str, tf.Tensor],
) -> tf.Tensor:
    depth = inputs.shape[3]
    net = inputs
    with tf.variable_scope(scope):
        if expansion > 1:
            net = slim.conv2d(net, depth * expansion, [1, 1], scope="expand")
            endpoints[f"{prefix}/expansion_output"] = net
        net = slim.separable_conv2d(net, None, [3, 3], depth_multiplier=1, stride=stride, scope="depthwise")
        endpoints[f"{prefix}/depthwise_output"] = net
        net = slim.conv2d(net, outputs, [1, 1], activation_fn=tf.identity, scope="project")
        return net + inputs if stride == 1 and depth == outputs else net


def _depth(channels: int, multiplier: float) -> int:
    """TF-Slim's `make_divisible(channels * multiplier, divisor=8, min_value=8)`."""
    value = channels * multiplier
    depth = max(8, int(value + 4) // 8 * 8)
    return depth + 8 if depth < 0.9 * value else depth
