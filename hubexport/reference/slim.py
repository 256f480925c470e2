"""Imports tf_slim, patched so that its last release, 1.1.0, works on today's TensorFlow.

Import tf_slim only from here: `from hubexport.reference.slim import slim`.
"""

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import ops, tensor

# TensorFlow 2.15 moved this class, but tf_slim's layers still look for it in its old place.
if not hasattr(ops, "Tensor"):
    ops.Tensor = tensor.Tensor

import tf_slim as slim  # noqa: E402  The patch comes first.

__all__ = ["UPDATES_COLLECTION", "caffe_images", "slim"]

# If its updates go to tf.GraphKeys.UPDATE_OPS, slim.batch_norm uses Keras's legacy layers, which TensorFlow 2.14 and
# later do not have. For any other collection it uses its own fused batch norm, which also accepts a tensor as decay.
UPDATES_COLLECTION = "reference_update_ops"


def caffe_images(images: tf.Tensor) -> tf.Tensor:
    """Maps images in [0, 1] to what networks converted from Caffe take: up to 255, without the mean of each channel."""
    return images * 255.0 - tf.constant([123.68, 116.78, 103.94])
