"""Converts one of Keras' own networks to ONNX with tf2onnx; for `benchmark_deploy.py`, in the environment of tf2onnx.

    python keras_to_onnx.py TASK TARGET

TASK is JSON: `model` (the class in `tf.keras.applications`), `arguments`, `size`, `classes`, and the mapping of images
in [0, 1], `scale` and `offset`.
"""

import json
import sys

import tensorflow as tf
import tf2onnx


def main(task_text: str, target: str) -> None:
    """Writes the model with random weights."""
    task = json.loads(task_text)
    size = task["size"]
    network = getattr(tf.keras.applications, task["model"])(
        input_shape=(size, size, 3),
        weights=None,
        classes=task["classes"],
        classifier_activation=None,
        **task["arguments"],
    )
    images = tf.keras.Input((size, size, 3), name="images")
    model = tf.keras.Model(images, network(images * task["scale"] - tf.constant(task["offset"])))
    signature = (tf.TensorSpec((None, size, size, 3), tf.float32, name="images"),)
    tf2onnx.convert.from_keras(model, input_signature=signature, opset=17, output_path=target)


if __name__ == "__main__":
    main(*sys.argv[1:])
