"""Loads a hub module in the ways that a TensorFlow has, applies it twice, and writes down what it saw.

    python consume_quickly.py TASK.json SEEN.json

Like `consume_tf1.py` and `consume_tf2.py` it is written for Python 3.6, and judges nothing, but it looks only at what
takes next to no time: `hubexport.consumers.judge` compares the predictions.

TASK.json: {"modules": [{"path", "is_tf1": whether it is in the TF1 Hub format, "inputs": npz with `images` float32
[batch, height, width, 3], "outputs": where the predictions go (npz, by the way of loading)}]}
SEEN.json: {"tensorflow", "tensorflow_hub", "modules": [{"apis", "variables": by the way of loading, the number after
the first and after the second application}]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf = tensorflow.compat.v1 if hasattr(tensorflow.compat, "v1") else tensorflow


def main(task_file, seen_file):
    with open(task_file) as f:
        task = json.load(f)
    seen = {
        "tensorflow": tensorflow.__version__,
        "tensorflow_hub": hub.__version__,
        "modules": [see(module) for module in task["modules"]],
    }
    with open(seen_file, "w") as f:
        json.dump(seen, f)


def see(module):
    with np.load(module["inputs"]) as inputs:
        images = inputs["images"]
    if not module["is_tf1"]:
        ways = with_saved_model(module["path"], images)
    elif hasattr(hub, "Module"):
        ways = {"hub.Module": with_hub_module(module["path"], images)}
    else:
        ways = {"hub.load": with_signatures(module["path"], images)}
    np.savez(module["outputs"], **{api: predictions for api, (predictions, _) in ways.items()})
    return {"apis": sorted(ways), "variables": {api: counts for api, (_, counts) in ways.items()}}


def with_hub_module(path, images):
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None] + list(images.shape[1:]))
        instance = hub.Module(path)
        outputs = instance(placeholder)
        counts = [len(tf.global_variables())]
        instance(placeholder)
        counts.append(len(tf.global_variables()))
        session.run(tf.global_variables_initializer())
        return session.run(outputs, {placeholder: images}), counts


def with_signatures(path, images):
    """The TF1 Hub format where hub.Module is gone: a function, whose variables stay the loaded object's."""
    loaded = hub.load(path)
    apply = loaded.signatures["default"]
    predictions = apply(images=tensorflow.constant(images))["default"].numpy()
    counts = [len(apply.variables)]
    apply(images=tensorflow.constant(images[:1]))
    return predictions, counts + [len(apply.variables)]


def with_saved_model(path, images):
    loaded = hub.load(path)
    predictions = loaded(tensorflow.constant(images)).numpy()
    counts = [len(loaded.variables)]
    loaded(tensorflow.constant(images[:1]))
    counts.append(len(loaded.variables))
    # As a layer it is the same object: to load it twice would take half of all the time.
    layer = hub.KerasLayer(loaded)
    of_layer = layer(tensorflow.constant(images)).numpy()
    counts_of_layer = [len(layer.variables)]
    layer(tensorflow.constant(images[:1]))
    counts_of_layer.append(len(layer.variables))
    return {"hub.load": (predictions, counts), "hub.KerasLayer": (of_layer, counts_of_layer)}


if __name__ == "__main__":
    main(*sys.argv[1:])
