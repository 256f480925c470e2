"""Runs the MobileNet V2 of Keras itself, with weights from a file or random ones, and saves it.

    python run_keras.py TASK.json ANSWER.json

It needs only a TensorFlow from 2.4 on with its Keras, which may be Keras 2 or 3, so it is written for Python 3.8. It
makes no judgements: tests do.

TASK.json: {"modules": [{
    "keras": the module to import, like `keras`, `tf_keras` or `tensorflow.keras`,
    "alpha", "image_size", "classes", "include_top": arguments of the network,
    "weights": the file to load, or null,
    "seed": the seed of random weights if there is no file,
    "by_name": whether to match layers by name, optional,
    "images": npz with `images`, float32 [batch, height, width, 3] in [0, 1],
    "outputs": where to write `outputs`, npz: logits, or pooled features without the top,
    "save_weights", "save_model": paths to save to, optional}, ...]}
ANSWER.json: {"tensorflow", "modules": [{"keras": its version, "layers": the names of layers with weights}, ...]}
"""

import importlib
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

tf.get_logger().setLevel("ERROR")


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    answer = {"tensorflow": tf.__version__, "modules": [run(task) for task in tasks]}
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def run(task):
    keras = importlib.import_module(task["keras"])
    # Without this, the second model's layers would be called `..._1`, also in the files that it saves.
    keras.backend.clear_session()
    model = build(keras, task)
    if task["weights"]:
        # Keras 3 refuses `by_name` for its own files even if it is false.
        model.load_weights(task["weights"], **({"by_name": True} if task.get("by_name") else {}))
    else:
        randomize(model, task["seed"])
    with np.load(task["images"]) as inputs:
        outputs = model.predict(inputs["images"] * 2 - 1, verbose=0)
    np.savez(task["outputs"], outputs=outputs)
    for path in task.get("save_weights", []):
        model.save_weights(path)
    for path in task.get("save_model", []):
        model.save(path)
    # `tensorflow.keras` has no version of its own.
    version = getattr(keras, "__version__", tf.__version__)
    return {"keras": version, "layers": [layer.name for layer in model.layers if layer.weights]}


def build(keras, task):
    top = {"classes": task["classes"], "classifier_activation": None} if task["include_top"] else {"pooling": "avg"}
    shape = (task["image_size"], task["image_size"], 3)
    return keras.applications.MobileNetV2(
        input_shape=shape, alpha=task["alpha"], include_top=task["include_top"], weights=None, **top
    )


def randomize(model, seed):
    """Gives all weights, moving averages included, random values with which signals neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        layer.set_weights([random_value(rng, variable) for variable in layer.weights])


def random_value(rng, variable):
    shape = tuple(variable.shape)
    # Keras 2 says `bn_Conv1/gamma:0`, Keras 3 says `gamma`.
    if variable.name.rpartition("/")[2].startswith(("gamma", "moving_variance")):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) == 1:
        return rng.normal(0, 0.1, shape)
    # The last axis is the outputs', except in depthwise kernels, [height, width, channels, 1].
    inputs = np.prod(shape[:-1] if shape[-1] > 1 else shape[:2])
    return rng.normal(0, np.sqrt(2 / inputs), shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
