"""Loads modules with every API that suits them, applies each twice, and records facts and predictions.

    python consume_quickly.py TASK.json ANSWER.json

It tries only what takes seconds. Like `consume_tf1.py` it is written for Python 3.6 and makes no judgements:
`hubexport.consumers.judge` does that.

TASK.json: {"modules": [{
    "path",
    "is_tf1": whether the module is in the TF1 Hub format,
    "inputs": npz with `images`, float32 [batch, height, width, 3],
    "outputs": where to write the predictions, npz, by API}, ...]}
ANSWER.json: {"tensorflow", "tensorflow_hub", "modules": [{
    "apis",
    "variables": by API, their number after the first and after the second application}, ...]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf = tensorflow.compat.v1 if hasattr(tensorflow.compat, "v1") else tensorflow


def main(task_file, answer_file):
    with open(task_file) as f:
        task = json.load(f)
    answer = {
        "tensorflow": tensorflow.__version__,
        "tensorflow_hub": hub.__version__,
        "modules": [use(module) for module in task["modules"]],
    }
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def use(module):
    with np.load(module["inputs"]) as inputs:
        images = inputs["images"]
    if not module["is_tf1"]:
        results = use_saved_model(module["path"], images)
    elif hasattr(hub, "Module"):
        results = {"hub.Module": use_hub_module(module["path"], images)}
    else:
        results = {"hub.load": use_signatures(module["path"], images)}
    np.savez(module["outputs"], **{api: predictions for api, (predictions, _) in results.items()})
    return {"apis": sorted(results), "variables": {api: counts for api, (_, counts) in results.items()}}


def use_hub_module(path, images):
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None] + list(images.shape[1:]))
        instance = hub.Module(path)
        outputs = instance(placeholder)
        counts = [len(tf.global_variables())]
        instance(placeholder)
        counts.append(len(tf.global_variables()))
        session.run(tf.global_variables_initializer())
        return session.run(outputs, {placeholder: images}), counts


def use_signatures(path, images):
    """Uses a TF1 Hub module without hub.Module: as a function that shares the loaded object's variables."""
    loaded = hub.load(path)
    signature = loaded.signatures["default"]
    return apply_twice(lambda x: signature(images=x)["default"], signature, images)


def use_saved_model(path, images):
    loaded = hub.load(path)
    # Wraps the loaded object: loading it a second time would double the time.
    layer = hub.KerasLayer(loaded)
    return {"hub.load": apply_twice(loaded, loaded, images), "hub.KerasLayer": apply_twice(layer, layer, images)}


def apply_twice(function, owner, images):
    """Returns predictions, and how many variables the owner has after the first and after the second application."""
    predictions = function(tensorflow.constant(images)).numpy()
    counts = [len(owner.variables)]
    function(tensorflow.constant(images[:1]))
    return predictions, counts + [len(owner.variables)]


if __name__ == "__main__":
    main(*sys.argv[1:])
