"""Modules that other programs wrote: TensorFlow itself and tensorflow_hub, through the graph builder of today."""

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

v1 = tf.compat.v1


def write_hub_module(path: Path, *, resource_variables: bool) -> None:
    """Writes a TF1 Hub module of one convolution, with two graph versions, an endpoint and 27 * 4 + 4 parameters."""
    hub = pytest.importorskip("tensorflow_hub")
    if not hasattr(hub, "create_module_spec"):
        pytest.skip("this tensorflow_hub has no exporter")

    def module_fn(is_training):
        images = v1.placeholder(tf.float32, [None, 8, 8, 3], name="images")
        weights = v1.get_variable("weights", [3, 3, 3, 4], use_resource=resource_variables)
        mean = v1.get_variable("moving_mean", [4], use_resource=resource_variables, trainable=False)
        result = tf.nn.conv2d(images, weights, 1, "SAME") - mean
        features = tf.reduce_mean(tf.nn.dropout(result, 0.5) if is_training else result, [1, 2])
        hub.add_signature("default", {"images": images}, {"default": features, "block_1/output": result})

    spec = hub.create_module_spec(module_fn, [(set(), {"is_training": False}), ({"train"}, {"is_training": True})])
    with tf.Graph().as_default(), v1.Session() as session:
        module = hub.Module(spec)
        session.run(v1.global_variables_initializer())
        module.export(str(path), session)


def write_tf1_saved_model(path: Path) -> None:
    """Writes a SavedModel of two MetaGraphs, both with tags, with the slots of an optimizer and 3 * 2 parameters."""
    builder = v1.saved_model.Builder(str(path))
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        weights = v1.get_variable("layer/weights", [3, 2], use_resource=False)
        y = tf.matmul(x, weights)
        step = v1.train.get_or_create_global_step()
        v1.train.AdamOptimizer().minimize(tf.reduce_sum(y), step)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve", "gpu"], {"serving_default": signature})
        builder.add_meta_graph(["train"])
        builder.save()


class _Convolution(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(tf.ones([3, 3, 3, 4]))
        self.mean = tf.Variable(tf.zeros([4]), trainable=False)
        self.steps = tf.Variable(7, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
    def __call__(self, images):
        result = tf.nn.conv2d(images, self.weights, 1, "SAME") - self.mean
        return {"default": tf.reduce_mean(result, [1, 2]), "block_1/output": result, "block_10/output": result}


def write_tf2_saved_model(path: Path) -> None:
    """Writes a TF2 SavedModel of one convolution, with endpoints and 27 * 4 + 4 parameters."""
    module = _Convolution()
    tf.saved_model.save(module, str(path), {"serving_default": module.__call__})


def write_keras_model(path: Path) -> Any:
    """Writes a trained Keras model, with its optimizer and metrics, as Keras 2 itself saves it; Keras 3 does not."""
    keras = pytest.importorskip("tf_keras") if hasattr(tf.keras, "ops") else tf.keras
    model = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3)),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(tf.zeros([2, 8, 8, 3]), tf.zeros([2, 2]), verbose=0)
    model.save(str(path))
    return model
