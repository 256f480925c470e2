"""Loads hub modules by URL in the ways that a TensorFlow has, from an empty cache, and writes down what they predict.

    python load_by_url.py TASK.json SEEN.json

Written for Python 3.6.

TASK.json: {"modules": [{"url", "way": "Module", "load", "KerasLayer", or "resolve" for the directory alone, "cache": an
empty folder, "format": of tensorflow_hub's requests, "inputs": npz with `images`, "outputs": where predictions go
(npy), "token": that the server wants, or null}]}
SEEN.json: {"tensorflow", "tensorflow_hub", "modules": [{"path": where the module came to be; null if it was loaded}]}
"""

import json
import os
import sys
import urllib.request

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf = tensorflow.compat.v1 if hasattr(tensorflow.compat, "v1") else tensorflow


def main(task_file, seen_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    seen = {
        "tensorflow": tensorflow.__version__,
        "tensorflow_hub": hub.__version__,
        "modules": [see(task) for task in tasks],
    }
    with open(seen_file, "w") as f:
        json.dump(seen, f)


def see(task):
    os.environ["TFHUB_CACHE_DIR"] = task["cache"]
    os.environ["TFHUB_MODEL_LOAD_FORMAT"] = task.get("format", "COMPRESSED")
    if task.get("token"):
        send_with_requests("Authorization", "Bearer " + task["token"])
    if task["way"] == "resolve":
        return {"path": hub.resolve(task["url"])}
    with np.load(task["inputs"]) as inputs:
        images = inputs["images"]
    ways = {"Module": with_hub_module, "load": with_load, "KerasLayer": with_keras_layer}
    np.save(task["outputs"], ways[task["way"]](task["url"], images))
    return {"path": None}


def send_with_requests(name, value):
    """As the docs say it: tensorflow_hub has no way of its own to send a token."""
    from tensorflow_hub import resolver

    def call_urlopen(self, request):
        request.add_header(name, value)
        return urllib.request.urlopen(request, context=self._context)

    resolver.HttpResolverBase._call_urlopen = call_urlopen


def with_hub_module(url, images):
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = hub.Module(url)(tf.constant(images))
        session.run(tf.global_variables_initializer())
        return session.run(outputs)


def with_load(url, images):
    loaded = hub.load(url)
    if callable(loaded):
        return loaded(tensorflow.constant(images)).numpy()
    return loaded.signatures["default"](images=tensorflow.constant(images))["default"].numpy()


def with_keras_layer(url, images):
    return hub.KerasLayer(url)(tensorflow.constant(images)).numpy()


if __name__ == "__main__":
    main(*sys.argv[1:])
