"""Runs MobileNet V2 as Keras itself builds it, on weights from a file or on random ones, and saves it again.

    python run_keras.py TASK.json SEEN.json

It needs nothing but some TensorFlow from 2.4 on with its Keras, which may be Keras 2 or 3, so it is written for
Python 3.8. It judges nothing: that is left to the test that reads what was seen.

TASK.json: {"modules": [{"keras": module name, like `keras`, `tf_keras` or `tensorflow.keras`, "alpha", "image_size",
"classes", "include_top", "weights": the file to load, or null, "seed": of random weights if there is no file,
"by_name": whether layers are matched by their names (optional), "images": npz with `images` float32 [batch, height,
width, 3] in [0, 1], "outputs": where `outputs` go (npz), which are logits, or pooled features if there is no top,
"save_weights" and "save_model": paths (optional)}, ...]}
SEEN.json: {"tensorflow", "modules": [{"keras": its version, "layers": the names of those with weights}, ...]}
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


def main(task_file, seen_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    seen = {"tensorflow": tf.__version__, "modules": [see(task) for task in tasks]}
    with open(seen_file, "w") as f:
        json.dump(seen, f)


def see(task):
    keras = importlib.import_module(task["keras"])
    # Or the second model's layers are called `..._1`, and the files it saves are not like those of the first.
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
    # TensorFlow's own name for Keras has no version.
    version = getattr(keras, "__version__", tf.__version__)
    return {"keras": version, "layers": [layer.name for layer in model.layers if layer.weights]}


def build(keras, task):
    top = {"classes": task["classes"], "classifier_activation": None} if task["include_top"] else {"pooling": "avg"}
    shape = (task["image_size"], task["image_size"], 3)
    return keras.applications.MobileNetV2(
        input_shape=shape, alpha=task["alpha"], include_top=task["include_top"], weights=None, **top
    )


def randomize(model, seed):
    """Gives every weight other values, moving averages too, such that signals neither vanish nor explode."""
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
    # The last axis is that of the outputs, except for depthwise kernels, [height, width, channels, 1].
    inputs = np.prod(shape[:-1] if shape[-1] > 1 else shape[:2])
    return rng.normal(0, np.sqrt(2 / inputs), shape)


if __name__ == "__main__":
    main(*sys.argv[1:])
