"""Runs a SavedModel in a session, as TensorFlow Serving does: by its graph alone, without its objects."""

from pathlib import Path

import tensorflow.compat.v1 as tf

from hubexport.arrays import Array

_TAG = "serve"
# It holds the op that initializes a session, which loading runs.
_INITIALIZER = "__saved_model_init_op"


def run_served(directory: Path, images: Array) -> dict[str, dict[str, Array]]:
    """Restores the variables by the graph's own ops, and runs all of its signatures.

    Args:
        directory: the directory of a SavedModel whose signatures take images alone.
        images: float32 [batch, height, width, 3], RGB, in the signatures' range.
    Returns:
        Float32 [batch, ...] by the signature's name and the output's key.
    Raises:
        ValueError, tf.errors.OpError: the graph is damaged; this is TensorFlow's own error.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        signatures = tf.saved_model.load(session, [_TAG], str(directory)).signature_def
        results = {}
        for name in sorted(signatures):
            if name != _INITIALIZER:
                [images_info] = signatures[name].inputs.values()
                fetches = {key: output.name for key, output in signatures[name].outputs.items()}
                results[name] = session.run(fetches, {images_info.name: images})
        return results
