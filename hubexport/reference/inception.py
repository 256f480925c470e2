"""Inception V1 to V3: TF-Slim's own networks, `tf_slim.nets.inception`, with the heads that its later code has."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim

# Per version, scopes of the dropout and the last convolution; and whether the head makes the dropped features public.
_HEADS = {
    1: ("Dropout_0b", "Conv2d_0c_1x1", False),
    2: ("Dropout_1b", "Conv2d_1c_1x1", True),
    3: ("Dropout_1b", "Conv2d_1c_1x1", True),
}


def reference_inception(
    images: tf.Tensor,
    version: int,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.9997,
    weight_decay: float = 4e-5,
    dropout_keep_prob: float = 0.8,
) -> Reference:
    """Builds the network into the current graph, with variables under `InceptionV1/` and the like.

    tf_slim's heads have windows of fixed size in place of the mean, and V3's has an auxiliary one beside it. So only
    the network below the head is its own.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        version: 1, 2 or 3.
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics and dropout is active.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
        dropout_keep_prob: 1.0 is no dropout.
    """
    from tf_slim.nets import inception

    root = f"InceptionV{version}"
    base = getattr(inception, f"inception_v{version}_base")
    dropout, classifier, is_public = _HEADS[version]
    # The scope of V3 has the values of all three.
    with tf.variable_scope(tf.get_variable_scope(), use_resource=True), slim.arg_scope(
        inception.inception_v3_arg_scope(
            weight_decay, batch_norm_decay=batch_norm_decay, updates_collections=UPDATES_COLLECTION
        )
    ), slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training):
        net, endpoints = base(images * 2.0 - 1.0, scope=root)
        with tf.variable_scope(f"{root}/Logits"):
            pooled = endpoints["global_pool"] = tf.reduce_mean(net, [1, 2], keepdims=True)
            features = tf.squeeze(pooled, [1, 2])
            logits = None
            if num_classes is not None:
                net = slim.dropout(pooled, keep_prob=dropout_keep_prob, scope=dropout)
                if is_public:
                    endpoints["PreLogits"] = net
                net = slim.conv2d(net, num_classes, [1, 1], activation_fn=None, normalizer_fn=None, scope=classifier)
                logits = endpoints["Logits"] = tf.squeeze(net, [1, 2])
                endpoints["Predictions"] = slim.softmax(logits)
    return Reference(
        features,
        logits,
        {f"{root}/{name}": tensor for name, tensor in endpoints.items()},
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )
