"""What a reference gives: the tensors and ops of a network in the current graph."""

import dataclasses

import tensorflow.compat.v1 as tf


@dataclasses.dataclass(frozen=True)
class Reference:
    """TF-Slim's network in the current graph.

    Attributes:
        features: the pooled features, float32 `[batch, num_features]`.
        logits: the logits, float32 `[batch, num_classes]`; None without a classifier.
        endpoints: the intermediate results, by the names that modules give them, like `resnet_v2_50/block1`.
        update_ops: the batch norm updates, in the order of the layers.
        regularization_losses: a scalar for each regularized variable, in the order of the layers.
    """

    features: tf.Tensor
    logits: tf.Tensor | None
    endpoints: dict[str, tf.Tensor]
    update_ops: list[tf.Operation]
    regularization_losses: list[tf.Tensor]
