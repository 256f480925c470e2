"""Inception-ResNet V2, rewritten with tf_slim's layers; tf_slim itself lacks it."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim

# (scope, filters, kernel) of the convolutions of each branch of a residual block.
_BLOCK_35 = [
    [("Conv2d_1x1", 32, [1, 1])],
    [("Conv2d_0a_1x1", 32, [1, 1]), ("Conv2d_0b_3x3", 32, [3, 3])],
    [("Conv2d_0a_1x1", 32, [1, 1]), ("Conv2d_0b_3x3", 48, [3, 3]), ("Conv2d_0c_3x3", 64, [3, 3])],
]
_BLOCK_17 = [
    [("Conv2d_1x1", 192, [1, 1])],
    [("Conv2d_0a_1x1", 128, [1, 1]), ("Conv2d_0b_1x7", 160, [1, 7]), ("Conv2d_0c_7x1", 192, [7, 1])],
]
_BLOCK_8 = [
    [("Conv2d_1x1", 192, [1, 1])],
    [("Conv2d_0a_1x1", 192, [1, 1]), ("Conv2d_0b_1x3", 224, [1, 3]), ("Conv2d_0c_3x1", 256, [3, 1])],
]
_Branches = list[list[tuple[str, int, list[int]]]]


def reference_inception_resnet_v2(
    images: tf.Tensor,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.9997,
    weight_decay: float = 4e-5,
    dropout_keep_prob: float = 0.8,
) -> Reference:
    """Builds the network into the current graph, with variables under `InceptionResnetV2/`.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses, of biases, too.
        dropout_keep_prob: 1.0 is no dropout.
    """
    endpoints: dict[str, tf.Tensor] = {}
    batch_norm = {
        "decay": batch_norm_decay,
        "epsilon": 0.001,
        "is_training": is_training,
        "updates_collections": UPDATES_COLLECTION,
    }
    decay = slim.l2_regularizer(weight_decay)
    with tf.variable_scope("InceptionResnetV2", use_resource=True), slim.arg_scope(
        [slim.conv2d, slim.fully_connected], weights_regularizer=decay, biases_regularizer=decay
    ), slim.arg_scope(
        [slim.conv2d], activation_fn=tf.nn.relu, normalizer_fn=slim.batch_norm, normalizer_params=batch_norm
    ), slim.arg_scope(
        [slim.conv2d, slim.max_pool2d, slim.avg_pool2d], stride=1, padding="SAME"
    ):
        net = _stem(images * 2.0 - 1.0, endpoints)
        for number in range(1, 11):
            net = _residual(net, f"Repeat/block35_{number}", _BLOCK_35, 0.17)
        net = endpoints["Mixed_6a"] = _mixed_6a(net)
        for number in range(1, 21):
            net = _residual(net, f"Repeat_1/block17_{number}", _BLOCK_17, 0.10)
        endpoints["PreAuxLogits"] = net
        net = endpoints["Mixed_7a"] = _mixed_7a(net)
        for number in range(1, 10):
            net = _residual(net, f"Repeat_2/block8_{number}", _BLOCK_8, 0.20)
        net = _residual(net, "Block8", _BLOCK_8, 1.0, rectify=False)
        net = endpoints["Conv2d_7b_1x1"] = slim.conv2d(net, 1536, [1, 1], scope="Conv2d_7b_1x1")
        with tf.variable_scope("Logits"):
            net = endpoints["global_pool"] = tf.reduce_mean(net, [1, 2], keepdims=True)
            features = net = slim.flatten(net)
            logits = None
            if num_classes is not None:
                net = slim.dropout(net, dropout_keep_prob, is_training=is_training, scope="Dropout")
                endpoints["PreLogitsFlatten"] = net
                logits = slim.fully_connected(net, num_classes, activation_fn=None, scope="Logits")
                endpoints["Logits"] = logits
                endpoints["Predictions"] = tf.nn.softmax(logits)
    return Reference(
        features,
        logits,
        {f"InceptionResnetV2/{name}": tensor for name, tensor in endpoints.items()},
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )


def _stem(net: tf.Tensor, endpoints: dict[str, tf.Tensor]) -> tf.Tensor:
    for scope, filters, size, stride, padding in [
        ("Conv2d_1a_3x3", 32, 3, 2, "VALID"),
        ("Conv2d_2a_3x3", 32, 3, 1, "VALID"),
        ("Conv2d_2b_3x3", 64, 3, 1, "SAME"),
        ("MaxPool_3a_3x3", None, 3, 2, "VALID"),
        ("Conv2d_3b_1x1", 80, 1, 1, "SAME"),
        ("Conv2d_4a_3x3", 192, 3, 1, "VALID"),
        ("MaxPool_5a_3x3", None, 3, 2, "VALID"),
    ]:
        options = {"kernel_size": [size, size], "stride": stride, "padding": padding, "scope": scope}
        net = slim.max_pool2d(net, **options) if filters is None else slim.conv2d(net, filters, **options)
        endpoints[scope] = net
    with tf.variable_scope("Mixed_5b"):
        with tf.variable_scope("Branch_0"):
            branch_0 = slim.conv2d(net, 96, [1, 1], scope="Conv2d_1x1")
        with tf.variable_scope("Branch_1"):
            branch_1 = slim.conv2d(net, 48, [1, 1], scope="Conv2d_0a_1x1")
            branch_1 = slim.conv2d(branch_1, 64, [5, 5], scope="Conv2d_0b_5x5")
        with tf.variable_scope("Branch_2"):
            branch_2 = slim.conv2d(net, 64, [1, 1], scope="Conv2d_0a_1x1")
            branch_2 = slim.conv2d(branch_2, 96, [3, 3], scope="Conv2d_0b_3x3")
            branch_2 = slim.conv2d(branch_2, 96, [3, 3], scope="Conv2d_0c_3x3")
        with tf.variable_scope("Branch_3"):
            branch_3 = slim.avg_pool2d(net, [3, 3], scope="AvgPool_0a_3x3")
            branch_3 = slim.conv2d(branch_3, 64, [1, 1], scope="Conv2d_0b_1x1")
        net = tf.concat([branch_0, branch_1, branch_2, branch_3], axis=3)
    endpoints["Mixed_5b"] = net
    return net


def _halved(net: tf.Tensor, filters: int) -> tf.Tensor:
    return slim.conv2d(net, filters, [3, 3], stride=2, padding="VALID", scope="Conv2d_1a_3x3")


def _mixed_6a(net: tf.Tensor) -> tf.Tensor:
    with tf.variable_scope("Mixed_6a"):
        with tf.variable_scope("Branch_0"):
            branch_0 = _halved(net, 384)
        with tf.variable_scope("Branch_1"):
            branch_1 = slim.conv2d(net, 256, [1, 1], scope="Conv2d_0a_1x1")
            branch_1 = slim.conv2d(branch_1, 256, [3, 3], scope="Conv2d_0b_3x3")
            branch_1 = _halved(branch_1, 384)
        with tf.variable_scope("Branch_2"):
            branch_2 = slim.max_pool2d(net, [3, 3], stride=2, padding="VALID", scope="MaxPool_1a_3x3")
        return tf.concat([branch_0, branch_1, branch_2], axis=3)


def _mixed_7a(net: tf.Tensor) -> tf.Tensor:
    with tf.variable_scope("Mixed_7a"):
        with tf.variable_scope("Branch_0"):
            branch_0 = _halved(slim.conv2d(net, 256, [1, 1], scope="Conv2d_0a_1x1"), 384)
        with tf.variable_scope("Branch_1"):
            branch_1 = _halved(slim.conv2d(net, 256, [1, 1], scope="Conv2d_0a_1x1"), 288)
        with tf.variable_scope("Branch_2"):
            branch_2 = slim.conv2d(net, 256, [1, 1], scope="Conv2d_0a_1x1")
            branch_2 = slim.conv2d(branch_2, 288, [3, 3], scope="Conv2d_0b_3x3")
            branch_2 = _halved(branch_2, 320)
        with tf.variable_scope("Branch_3"):
            branch_3 = slim.max_pool2d(net, [3, 3], stride=2, padding="VALID", scope="MaxPool_1a_3x3")
        return tf.concat([branch_0, branch_1, branch_2, branch_3], axis=3)


def _residual(net: tf.Tensor, scope: str, branches: _Branches, scale: float, *, rectify: bool = True) -> tf.Tensor:
    with tf.variable_scope(scope):
        ends = []
        for number, layers in enumerate(branches):
            end = net
            with tf.variable_scope(f"Branch_{number}"):
                for name, filters, kernel in layers:
                    end = slim.conv2d(end, filters, kernel, scope=name)
            ends.append(end)
        mixed = tf.concat(ends, axis=3)
        up = slim.conv2d(mixed, net.shape[3], [1, 1], normalizer_fn=None, activation_fn=None, scope="Conv2d_1x1")
        net = net + up * scale
        return tf.nn.relu(net) if rectify else net
