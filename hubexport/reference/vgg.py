"""VGG: TF-Slim's own network, `tf_slim.nets.vgg`."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.slim import caffe_images, slim


def reference_vgg(
    images: tf.Tensor,
    num_layers: int,
    num_classes: int | None,
    *,
    is_training: bool = False,
    weight_decay: float = 5e-4,
    dropout_keep_prob: float = 0.5,
) -> Reference:
    """Builds the network into the current graph, with variables under `vgg_16/` or `vgg_19/`.

    In images of more than 224 pixels, features and logits are means over the image.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        num_layers: 16 or 19.
        num_classes: None leaves the classifier out.
        is_training: whether dropout is active.
        weight_decay: scale of the L2 losses.
        dropout_keep_prob: 1.0 is no dropout.
    """
    from tf_slim.nets import vgg

    name = f"vgg_{num_layers}"
    with tf.variable_scope(tf.get_variable_scope(), use_resource=True), slim.arg_scope(
        vgg.vgg_arg_scope(weight_decay=weight_decay)
    ):
        net, endpoints = getattr(vgg, name)(
            caffe_images(images),
            num_classes or 1,
            is_training=is_training,
            dropout_keep_prob=dropout_keep_prob,
            spatial_squeeze=False,
        )
    if num_classes is None:
        del endpoints[f"{name}/fc8"]
        _forget_classifier(f"{name}/fc8/")
    else:
        endpoints[f"{name}/fc8"] = tf.reduce_mean(net, [1, 2])
    return Reference(
        tf.reduce_mean(endpoints[f"{name}/fc7"], [1, 2]),
        endpoints.get(f"{name}/fc8"),
        endpoints,
        [],
        tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES),
    )


def _forget_classifier(scope: str) -> None:
    """Takes the classifier, without which tf_slim builds no VGG, out of the graph's collections."""
    keys = tf.GraphKeys
    for key in (
        keys.GLOBAL_VARIABLES,
        keys.TRAINABLE_VARIABLES,
        keys.MODEL_VARIABLES,
        keys.REGULARIZATION_LOSSES,
    ):
        kept = [one for one in tf.get_collection(key) if not one.op.name.startswith(scope)]
        tf.get_collection_ref(key)[:] = kept
