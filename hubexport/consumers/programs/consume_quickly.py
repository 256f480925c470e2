"""Loads modules with every API that suits them, applies each twice, and records facts and predictions.

    python consume_quickly.py TASK.json ANSWER.json

It tries only what takes seconds. Like `consume_tf1.py` it is written for Python 3.6 and makes no judgements:
`hubexport.consumers.judge` does that.

TASK.json: {"modules": [{
    "path",
    "is_tf1": whether the module is in the TF1 Hub format,
    "inputs": npz with `images`, float32 [batch, height, width, 3]; for a module that takes any size, `other_images` of
        another one,
    "outputs": where to write the predictions, npz, by API; for images of another size `other_size:` comes first},
    ...]}
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
        batches = {"": inputs["images"]}
        if "other_images" in inputs:
            batches["other_size:"] = inputs["other_images"]
    if not module["is_tf1"]:
        results = use_saved_model(module["path"], batches)
    elif hasattr(hub, "Module"):
        results = {"hub.Module": use_hub_module(module["path"], batches)}
    else:
        results = {"hub.load": use_signatures(module["path"], batches)}
    outputs = {prefix + api: value for api, (found, _) in results.items() for prefix, value in found.items()}
    np.savez(module["outputs"], **outputs)
    return {"apis": sorted(results), "variables": {api: counts for api, (_, counts) in results.items()}}


def use_hub_module(path, batches):
    with tf.Graph().as_default(), tf.Session() as session:
        instance = hub.Module(path)
        outputs, feed, counts = {}, {}, []
        for prefix, images in list(batches.items()) + [("again", batches[""])]:
            placeholder = tf.placeholder(tf.float32, [None] + list(images.shape[1:]))
            outputs[prefix] = instance(placeholder)
            feed[placeholder] = images
            counts.append(len(tf.global_variables()))
        session.run(tf.global_variables_initializer())
        del outputs["again"]
        return session.run(outputs, feed), [counts[0], counts[-1]]


def use_signatures(path, batches):
    """Uses a TF1 Hub module without hub.Module: as a function that shares the loaded object's variables."""
    loaded = hub.load(path)
    signature = loaded.signatures["default"]
    return apply_twice(lambda x: signature(images=x)["default"], signature, batches)


def use_saved_model(path, batches):
    loaded = hub.load(path)
    # Wraps the loaded object: loading it a second time would double the time.
    layer = hub.KerasLayer(loaded)
    return {"hub.load": apply_twice(loaded, loaded, batches), "hub.KerasLayer": apply_twice(layer, layer, batches)}


def apply_twice(function, owner, batches):
    """Returns predictions, and how many variables the owner has after the first and after the second application."""
    predictions, counts = {}, []
    for prefix, images in list(batches.items()) + [("again", batches[""][:1])]:
        predictions[prefix] = function(tensorflow.constant(images)).numpy()
        counts.append(len(owner.variables))
    del predictions["again"]
    return predictions, [counts[0], counts[-1]]


if __name__ == "__main__":
    main(*sys.argv[1:])
