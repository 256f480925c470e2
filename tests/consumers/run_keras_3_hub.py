"""Tries to fine-tune a module in Keras 3 on TensorFlow, without converting it.

    python run_keras_3_hub.py TASK.json ANSWER.json

It needs only TensorFlow with Keras 3, and tensorflow_hub. It makes no judgements: tests do.

TASK.json: {"modules": [{
    "path": of a feature vector module of version 5,
    "image_size": of its images, in pixels}, ...]}
ANSWER.json: {"modules": [{
    "refusal": the error of a model with `hub.KerasLayer`; empty if it is none,
    and for `tfsm`, a `TFSMLayer`, and `own`, a layer around `hub.load`: {
        "losses": how many losses the layer adds,
        "moved_weights", "moved_averages": how many of the module's variables a training step changes}}, ...]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_hub as hub  # noqa: E402


class Own(keras.layers.Layer):
    def __init__(self, path):
        super().__init__()
        self.loaded = hub.load(path)

    def call(self, images, training=False):
        return self.loaded(images, training=training)


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    with open(answer_file, "w") as f:
        json.dump({"modules": [run(task) for task in tasks]}, f)


def run(task):
    path, images = task["path"], np.random.uniform(size=[8, task["image_size"], task["image_size"], 3])
    refusal = ""
    try:
        keras.Sequential([hub.KerasLayer(path, trainable=True), keras.layers.Dense(5)])
    except Exception as error:
        refusal = str(error)
    tfsm = keras.layers.TFSMLayer(path, call_endpoint="serving_default", call_training_endpoint="serving_default")
    own = Own(path)
    return {
        "refusal": refusal,
        "tfsm": train(tfsm, tfsm._reloaded_obj.variables, images, lambda outputs: outputs["feature_vector"]),
        "own": train(own, own.loaded.variables, images, lambda features: features),
    }


def train(layer, variables, images, features):
    inputs = keras.Input(images.shape[1:])
    model = keras.Model(inputs, keras.layers.Dense(5)(features(layer(inputs))))
    before = {variable.name: variable.numpy() for variable in variables}
    model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(tf.constant(images, tf.float32), np.arange(len(images)) % 5)
    moved = [one.name for one in variables if not np.array_equal(one.numpy(), before[one.name])]
    averages = [name for name in moved if "/moving_" in name]
    return {
        "losses": len(model.losses),
        "moved_weights": len(moved) - len(averages),
        "moved_averages": len(averages),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
