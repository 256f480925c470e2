"""Writes modules as other programs do: TensorFlow, tensorflow_hub and Keras, with today's graph builder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
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
    """Writes a SavedModel of two MetaGraphs, both with tags, with an optimizer's slots and 3 * 2 parameters."""
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


def keras_2() -> Any:
    """Returns the Keras that saves models as directories: TensorFlow's own, or the package tf_keras."""
    return pytest.importorskip("tf_keras") if hasattr(tf.keras, "ops") else tf.keras


def write_keras_classifier(path: Path, how: str, *, softmax: bool = True) -> Any:
    """Saves a Keras classifier of three classes that takes images in [-1, 1], and returns the model.

    Args:
        path: the directory to be written.
        how: `save` or `export` for the model's method, `saved_model` for `tf.saved_model.save`, or `subclass` for the
            method `save` of a subclass of `keras.Model`.
        softmax: whether the model ends in probabilities. Otherwise it ends in logits.
    """
    keras = keras_2()
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 3)),
        keras.layers.GlobalAveragePooling2D(),
        # Its weights are so large that the range of the images matters.
        keras.layers.Dense(3, "softmax" if softmax else None, kernel_initializer=keras.initializers.RandomNormal(0, 5)),
    ]
    model = keras.Sequential(layers)
    if how == "subclass":
        inner = model

        class Subclass(keras.Model):
            def call(self, inputs):
                return inner(inputs)

        model = Subclass()
        model.inner = inner
        model(tf.zeros([1, 8, 8, 3]))
    if how == "saved_model":
        tf.saved_model.save(model, str(path))
    else:
        (model.export if how == "export" else model.save)(str(path))
    return model


class _Reusable(tf.train.Checkpoint):
    """A Reusable SavedModel, as tfhub.dev has them for images."""

    def __init__(self, activation, served_as):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal([192, 4], [1, 2]), name="kernel")
        self.variables = self.trainable_variables = [self.kernel]
        self.regularization_losses = []
        self._activation = activation
        self.served = {"serving_default": self._serve(served_as)} if served_as else {}

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
    def __call__(self, images):
        return self._activation(tf.reshape(images, [-1, 192]) @ self.kernel)

    def _serve(self, name):
        spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="inputs")
        return tf.function(lambda inputs: {name: self(inputs)}).get_concrete_function(spec)


def write_reusable_saved_model(path: Path, activation: Any = tf.identity, *, served_as: str | None = None) -> Any:
    """Writes a Reusable SavedModel as other programs do, and returns the module.

    Args:
        path: the directory to be written.
        activation: the activation of its one layer, which has four outputs.
        served_as: the name of its output in `serving_default`; None writes no signature.
    """
    module = _Reusable(activation, served_as)
    tf.saved_model.save(module, str(path), module.served)
    return module


def write_keras_model(path: Path) -> Any:
    """Writes a trained Keras 2 model, with its optimizer and metrics, as Keras 2 itself does, and returns the model."""
    keras = keras_2()
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


def write_frozen_graph(path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Freezes a graph with these variables, as TensorFlow 1's freeze_graph does, and writes its GraphDef."""
    with tf.Graph().as_default(), v1.Session() as session:
        variables = [v1.get_variable(name, initializer=value, use_resource=False) for name, value in values.items()]
        v1.placeholder(tf.float32, [None], name="input")
        tf.add_n([tf.reduce_sum(variable) for variable in variables], name="output")
        session.run(v1.global_variables_initializer())
        graph = v1.graph_util.convert_variables_to_constants(session, session.graph_def, ["output"])
    path.write_bytes(graph.SerializeToString())


def write_frozen_saved_model(path: Path) -> None:
    """Writes a SavedModel of constants, with an empty folder `variables`, as those of the detection zoo are."""
    builder = v1.saved_model.Builder(str(path))
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        y = tf.matmul(x, tf.constant(np.ones([3, 2], np.float32), name="weights"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
