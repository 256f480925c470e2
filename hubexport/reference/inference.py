"""TF-Slim's own network, restored and run."""

from collections.abc import Mapping
import warnings

import tensorflow.compat.v1 as tf

from hubexport.arrays import Array
from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2


def slim_output(values: Mapping[str, Array], images: Array, depth_multiplier: float, num_classes: int | None) -> Array:
    """Returns what TF-Slim's MobileNet V2 computes in inference.

    Args:
        values: of all its variables, by name.
        images: float32 [batch, height, width, 3], intensities in [0, 1].
        depth_multiplier: scales the number of channels.
        num_classes: None leaves the classifier out.
    Returns:
        Float32 [batch, num_classes] logits, or [batch, num_features] without classifier.
    """
    with tf.Graph().as_default(), tf.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf_slim calls what TensorFlow advises against.
        placeholder = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        built = reference_mobilenet_v2(placeholder, depth_multiplier, num_classes)
        variables = {variable.op.name: variable for variable in tf.global_variables()}
        given = {name: tf.placeholder(tf.float32, variable.shape) for name, variable in variables.items()}
        restore = [tf.assign(variable, given[name]).op for name, variable in variables.items()]
        session.run(restore, {given[name]: values[name] for name in variables})
        output = built.features if built.logits is None else built.logits
        return session.run(output, {placeholder: images})
