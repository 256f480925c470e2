"""Runs TF-Slim's own network with given values."""

from collections.abc import Mapping
import warnings

import tensorflow.compat.v1 as tf

from hubexport.arrays import Array
from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2


def slim_output(values: Mapping[str, Array], images: Array, depth_multiplier: float, num_classes: int | None) -> Array:
    """Computes the output of TF-Slim's MobileNet V2 in inference.

    Args:
        values: float32 arrays for all of its variables, by name.
        images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
        depth_multiplier: scales the number of channels.
        num_classes: the number of classes; None leaves the classifier out.
    Returns:
        The logits, float32 [batch, num_classes], or without a classifier the features, float32 [batch, num_features].
    """
    with tf.Graph().as_default(), tf.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf_slim calls deprecated functions of TensorFlow.
        images_tensor = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        network = reference_mobilenet_v2(images_tensor, depth_multiplier, num_classes)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        placeholders = {name: tf.placeholder(tf.float32, variable.shape) for name, variable in variables.items()}
        assignments = [tf.assign(variable, placeholders[name]).op for name, variable in variables.items()]
        session.run(assignments, {placeholders[name]: values[name] for name in variables})
        output = network.features if network.logits is None else network.logits
        return session.run(output, {images_tensor: images})
