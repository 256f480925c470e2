"""MobileNet V1, which tf_slim lacks, rewritten with its layers in the idiom of TF-Slim's `nets/mobilenet_v1`."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim

# Each pair: (channels, stride); Howard et al. (2017), table 1, written out.
_PAIRS = [
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
]  # fmt: skip


def reference_mobilenet_v1(
    images: tf.Tensor,
    depth_multiplier: float,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.9997,
    weight_decay: float = 4e-5,
    dropout_keep_prob: float = 0.999,
) -> Reference:
    """Builds the network into the current graph, with variables under `MobilenetV1/`.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        depth_multiplier: scales the number of channels.
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
        dropout_keep_prob: 1.0 is no dropout.
    """
    endpoints: dict[str, tf.Tensor] = {}

    def depth(channels: int) -> int:
        return max(int(channels * depth_multiplier), 8)

    batch_norm = {
        "is_training": is_training,
        "center": True,
        "scale": True,
        "decay": batch_norm_decay,
        "updates_collections": UPDATES_COLLECTION,
    }
    with tf.variable_scope("MobilenetV1", use_resource=True), slim.arg_scope(
        [slim.conv2d, slim.separable_conv2d],
        weights_initializer=tf.truncated_normal_initializer(stddev=0.09),
        activation_fn=tf.nn.relu6,
        normalizer_fn=slim.batch_norm,
        padding="SAME",
    ), slim.arg_scope([slim.batch_norm], **batch_norm), slim.arg_scope(
        [slim.conv2d], weights_regularizer=slim.l2_regularizer(weight_decay)
    ), slim.arg_scope(
        [slim.separable_conv2d], weights_regularizer=None
    ):
        net = slim.conv2d(images * 2.0 - 1.0, depth(32), [3, 3], stride=2, scope="Conv2d_0")
        endpoints["Conv2d_0"] = net
        for index, (channels, stride) in enumerate(_PAIRS, start=1):
            scope = f"Conv2d_{index}_depthwise"
            net = slim.separable_conv2d(net, None, [3, 3], depth_multiplier=1, stride=stride, scope=scope)
            endpoints[scope] = net
            scope = f"Conv2d_{index}_pointwise"
            net = slim.conv2d(net, depth(channels), [1, 1], scope=scope)
            endpoints[scope] = net
        with tf.variable_scope("Logits"):
            net = tf.reduce_mean(net, [1, 2], keepdims=True)
            endpoints["global_pool"] = net
            features = tf.squeeze(net, [1, 2])
            logits = None
            if num_classes is not None:
                net = slim.dropout(net, keep_prob=dropout_keep_prob, is_training=is_training, scope="Dropout_1b")
                net = slim.conv2d(
                    net, num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope="Conv2d_1c_1x1"
                )
                endpoints["Logits"] = logits = tf.squeeze(net, [1, 2])
                endpoints["Predictions"] = slim.softmax(logits)
    return Reference(
        features,
        logits,
        {f"MobilenetV1/{name}": tensor for name, tensor in endpoints.items()},
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )
