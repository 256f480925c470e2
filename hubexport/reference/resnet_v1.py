"""ResNet V1: TF-Slim's own network, `tf_slim.nets.resnet_v1`."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import UPDATES_COLLECTION, caffe_images, slim


def reference_resnet_v1(
    images: tf.Tensor,
    num_layers: int,
    num_classes: int | None,
    *,
    from_caffe: bool = False,
    is_training: bool = False,
    batch_norm_decay: float = 0.997,
    weight_decay: float = 1e-4,
) -> Reference:
    """Builds the network into the current graph, with variables under `resnet_v1_50/` and the like.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        num_layers: 50, 101 or 152.
        num_classes: None leaves the classifier out.
        from_caffe: whether it gets images as Caffe's networks do, or in [-1, 1].
        is_training: whether batch norm takes the batch's statistics.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
    """
    from tf_slim.nets import resnet_utils, resnet_v1

    name = f"resnet_v1_{num_layers}"
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
        net, endpoints = getattr(resnet_v1, name)(
            caffe_images(images) if from_caffe else images * 2.0 - 1.0,
            num_classes,
            is_training=is_training,
            global_pool=True,
        )
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
