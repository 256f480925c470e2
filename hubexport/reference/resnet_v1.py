"""ResNet V1: TF-Slim's own network, `tf_slim.nets.resnet_v1`."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.resnet import reference_resnet
from hubexport.reference.slim import caffe_images


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
    from tf_slim.nets import resnet_v1

    return reference_resnet(
        getattr(resnet_v1, f"resnet_v1_{num_layers}"),
        caffe_images(images) if from_caffe else images * 2.0 - 1.0,
        num_classes,
        is_training=is_training,
        batch_norm_decay=batch_norm_decay,
        weight_decay=weight_decay,
    )
