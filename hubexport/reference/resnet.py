"""What TF-Slim's two ResNets have in common: their argument scope, and how modules name what they give."""

from collections.abc import Callable

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, slim


def reference_resnet(
    build: Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]],
    images: tf.Tensor,
    num_classes: int | None,
    *,
    is_training: bool,
    batch_norm_decay: float,
    weight_decay: float,
) -> Reference:
    """Builds a network into the current graph, with variables below the name of the function that builds it.

    Args:
        build: a function of `tf_slim.nets`, like `resnet_v2.resnet_v2_50`.
        images: float32 `[batch, height, width, 3]`, in the network's range.
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
    """
    from tf_slim.nets import resnet_utils

    name = build.__name__
    batch_norm = {
        "decay": batch_norm_decay,
        "epsilon": 1e-5,
        "scale": True,
        "is_training": is_training,
        # tf_slim's own argument scope sets this to the collection that makes tf_slim fail; see `slim.py`.
        "updates_collections": UPDATES_COLLECTION,
    }
    with tf.variable_scope(tf.get_variable_scope(), use_resource=True), slim.arg_scope(
        resnet_utils.resnet_arg_scope(weight_decay=weight_decay, batch_norm_decay=batch_norm_decay)
    ), slim.arg_scope([slim.conv2d], normalizer_params=batch_norm), slim.arg_scope([slim.batch_norm], **batch_norm):
        net, endpoints = build(images, num_classes, is_training=is_training, global_pool=True)
    pooled = tf.get_default_graph().get_tensor_by_name(f"{name}/pool5:0")
    endpoints = {key if key.startswith(name) else f"{name}/{key}": tensor for key, tensor in endpoints.items()}
    endpoints[f"{name}/global_pool"] = pooled
    logits = None
    if num_classes is not None:
        logits = endpoints[f"{name}/spatial_squeeze"] = tf.squeeze(net, [1, 2])
        endpoints[f"{name}/predictions"] = tf.nn.softmax(logits)
    return Reference(
        tf.squeeze(pooled, [1, 2]),
        logits,
        endpoints,
        tf.get_collection(UPDATES_COLLECTION),
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )
