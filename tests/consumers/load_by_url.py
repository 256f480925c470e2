"""Loads modules by URL, and records their predictions. Written for Python 3.6.

    python load_by_url.py TASK.json ANSWER.json

TASK.json: {"modules": [{
    "url",
    "api": "Module", "load", "KerasLayer", or "resolve" to only download the module,
    "cache": an empty folder,
    "format": TFHUB_MODEL_LOAD_FORMAT, optional,
    "inputs": npz with `images`,
    "outputs": where to write the predictions, npy,
    "token": a token for the server, or null, optional}, ...]}
ANSWER.json: {"tensorflow", "tensorflow_hub", "modules": [{
    "path": the directory of the downloaded module; null if it was also loaded}, ...]}
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


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    answer = {
        "tensorflow": tensorflow.__version__,
        "tensorflow_hub": hub.__version__,
        "modules": [load(task) for task in tasks],
    }
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def load(task):
    os.environ["TFHUB_CACHE_DIR"] = task["cache"]
    os.environ["TFHUB_MODEL_LOAD_FORMAT"] = task.get("format", "COMPRESSED")
    if task.get("token"):
        add_to_requests("Authorization", "Bearer " + task["token"])
    if task["api"] == "resolve":
        return {"path": hub.resolve(task["url"])}
    with np.load(task["inputs"]) as inputs:
        images = inputs["images"]
    predict = {"Module": with_hub_module, "load": with_load, "KerasLayer": with_keras_layer}
    np.save(task["outputs"], predict[task["api"]](task["url"], images))
    return {"path": None}


def add_to_requests(name, value):
    """Adds a header to the requests of tensorflow_hub, which cannot send a token, as docs/serving.md shows."""
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
