"""Builds models around Keras' own networks, as transfer learning does, saves them in every way, and runs them.

    python save_keras_transfer.py TASK.json ANSWER.json

It needs only a TensorFlow from 2.4 on with its Keras, which may be Keras 2 or 3, so it is written for Python 3.8. It
makes no judgements: tests do.

TASK.json: {"modules": [{
    "keras": the module to import, like `keras`, `tf_keras` or `tensorflow.keras`,
    "network": a class of `keras.applications`, and "settings", its arguments,
    "size": height and width of the images,
    "model": the name of a function below,
    "weights": an `.h5` file for the network's layers, by their names; null for random values,
    "images": npz with `images`, float32 [batch, size, size, 3] in [0, 1],
    "folder": where to save the model}, ...]}
ANSWER.json: {"tensorflow", "modules": [{
    "keras": its version,
    "files": the names in `folder` that were saved; `outputs.npz` beside them has `outputs`, and `features` that a layer
        before gives, [batch, length]}, ...]}
"""

import importlib
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

sys.path.append(os.path.dirname(os.path.abspath(__file__)))

import numpy as np  # noqa: E402
from run_keras import random_value  # noqa: E402
import tensorflow as tf  # noqa: E402

tf.get_logger().setLevel("ERROR")

CLASSES = 5


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    answer = {"tensorflow": tf.__version__, "modules": [run(task) for task in tasks]}
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def run(task):
    keras = importlib.import_module(task["keras"])
    keras.backend.clear_session()
    keras.utils.set_random_seed(1) if hasattr(keras.utils, "set_random_seed") else tf.random.set_seed(1)

    def network(**more):
        shape = (task["size"], task["size"], 3)
        made = getattr(keras.applications, task["network"])(
            input_shape=shape, weights=None, **{**task["settings"], **more}
        )
        rng = np.random.default_rng(1)
        for layer in made.layers:
            layer.set_weights([random_value(rng, variable) for variable in layer.weights])
        if task["weights"]:
            made.load_weights(task["weights"], by_name=True)
        return made

    model, features, in_bytes = globals()[task["model"]](keras, task, network)
    with np.load(task["images"]) as inputs:
        images = inputs["images"] * 255 if in_bytes else inputs["images"] * 2 - 1
    outputs = model.predict(images, verbose=0)
    np.savez(os.path.join(task["folder"], "outputs.npz"), outputs=outputs, features=features(images))
    # `tensorflow.keras` has no version of its own.
    version = getattr(keras, "__version__", tf.__version__)
    return {"keras": version, "files": save(keras, model, task["folder"])}


def save(keras, model, folder):
    """Saves a model in every way that its Keras has."""
    is_keras_3 = hasattr(keras, "ops")
    has_own_format = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 12)
    ways = {"whole.h5": model.save}
    if has_own_format:
        ways.update({"whole.keras": model.save, "c.weights.h5": model.save_weights})
    if is_keras_3:
        ways["saved_model"] = model.export
    else:
        ways.update({"saved_model": model.save, "c.h5": model.save_weights, "tensorflow": model.save_weights})
    for name, way in ways.items():
        path = os.path.join(folder, name)
        way(path, **({"verbose": False} if way == getattr(model, "export", None) and is_keras_3 else {}))
    return list(ways)


def tutorial(keras, task, network):
    """The shape of TensorFlow's tutorial on transfer learning; a network called as one layer, not trained."""
    layers = keras.layers
    base = network(include_top=False)
    base.trainable = False
    images = keras.Input((task["size"], task["size"], 3))
    # In Keras 2.4 these layers are elsewhere.
    random = getattr(layers, "RandomFlip", None) or layers.experimental.preprocessing.RandomFlip
    result = keras.Sequential([random("horizontal")])(images)
    result = result / 127.5 - 1.0
    result = base(result, training=False)
    pooled = layers.GlobalAveragePooling2D()(result)
    result = layers.Dropout(0.2)(pooled)
    model = keras.Model(images, layers.Dense(CLASSES)(result))
    model.compile("adam", "mse")
    return model, keras.Model(images, pooled).predict, True


def rescaled(keras, task, network):
    """A whole network with its own classifier behind a layer that scales."""
    layers = keras.layers
    scale = getattr(layers, "Rescaling", None) or layers.experimental.preprocessing.Rescaling
    whole = network(classes=CLASSES, classifier_activation=None)
    model = keras.Sequential([scale(1 / 127.5, offset=-1, input_shape=(task["size"], task["size"], 3)), whole])
    model.build((None, task["size"], task["size"], 3))
    return model, _features(keras, whole), True


def teachable_machine(keras, task, network):
    """What Teachable Machine exports: a model with two models in it; the second has a hidden layer."""
    layers = keras.layers
    features = keras.Sequential([network(include_top=False), layers.GlobalAveragePooling2D()])
    head = keras.Sequential([layers.Dense(100, "relu"), layers.Dense(CLASSES, "softmax", use_bias=False)])
    model = keras.Sequential([features, head])
    model.build((None, task["size"], task["size"], 3))
    return model, lambda images: features.predict(images, verbose=0), False


def nested_head(keras, task, network):
    """A network and a dense layer, each in a model of its own."""
    layers = keras.layers
    features = keras.Sequential([network(include_top=False), layers.GlobalAveragePooling2D()])
    model = keras.Sequential([features, keras.Sequential([layers.Dropout(0.5), layers.Dense(CLASSES)])])
    model.build((None, task["size"], task["size"], 3))
    return model, lambda images: features.predict(images, verbose=0), False


def flat(keras, task, network):
    """A network whose layers are the model's own."""
    layers = keras.layers
    base = network(include_top=False, pooling="avg")
    model = keras.Model(base.input, layers.Dense(CLASSES, name="flowers")(base.output))
    return model, base.predict, False


def alone(keras, task, network):
    """Keras' own network, as it is."""
    whole = network(classes=CLASSES, classifier_activation=None)
    return whole, lambda images: _features(keras, whole)(images * 127.5 + 127.5), False


def _features(keras, whole):
    pooled = [layer for layer in whole.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)][-1]
    model = keras.Model(whole.input, pooled.output)
    return lambda images: model.predict(images / 127.5 - 1, verbose=0).reshape(len(images), -1)


if __name__ == "__main__":
    main(*sys.argv[1:])
