"""ResNet V2: TF-Slim's own network, `tf_slim.nets.resnet_v2`."""

import tensorflow.compat.v1 as tf

from hubexport.reference.reference import Reference
from hubexport.reference.resnet import reference_resnet


def reference_resnet_v2(
    images: tf.Tensor,
    num_layers: int,
    num_classes: int | None,
    *,
    is_training: bool = False,
    batch_norm_decay: float = 0.997,
    weight_decay: float = 1e-4,
) -> Reference:
    """Builds the network into the current graph, with variables under `resnet_v2_50/` and the like.

    Args:
        images: float32 `[batch, height, width, 3]`, intensities in [0, 1].
        num_layers: 50, 101 or 152.
        num_classes: None leaves the classifier out.
        is_training: whether batch norm takes the batch's statistics.
        batch_norm_decay: of the moving averages.
        weight_decay: scale of the L2 losses.
    """
    from tf_slim.nets import resnet_v2

    return reference_resnet(
        getattr(resnet_v2, f"resnet_v2_{num_layers}"),
        images * 2.0 - 1.0,
        num_classes,
        is_training=is_training,
        batch_norm_decay=batch_norm_decay,
        weight_decay=weight_decay,
    )
