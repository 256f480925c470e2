"""Runs the reference of a network with given values."""

from collections.abc import Mapping
from typing import Any
import warnings

import tensorflow.compat.v1 as tf

from hubexport.arrays import Array
from hubexport.reference.registry import REFERENCES


def slim_output(
    network: str, parameters: Any, num_classes: int | None, values: Mapping[str, Array], images: Array
) -> Array:
    """Computes the output of a network built with TF-Slim in inference.

    Args:
        network: the name of the network's family.
        parameters: the family's, as attributes like `depth_multiplier`.
        num_classes: the number of classes; None leaves the classifier out.
        values: float32 arrays for all of its variables, by name.
        images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
    Returns:
        The logits, float32 [batch, num_classes], or without a classifier the features, float32 [batch, num_features].
    """
    with tf.Graph().as_default(), tf.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf_slim calls deprecated functions of TensorFlow.
        images_tensor = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        built = REFERENCES[network](images_tensor, parameters, num_classes)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        placeholders = {name: tf.placeholder(tf.float32, variable.shape) for name, variable in variables.items()}
        assignments = [tf.assign(variable, placeholders[name]).op for name, variable in variables.items()]
        session.run(assignments, {placeholders[name]: values[name] for name in variables})
        output = built.features if built.logits is None else built.logits
        return session.run(output, {images_tensor: images})
