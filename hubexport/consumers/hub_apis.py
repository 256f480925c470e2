"""Applies a module as programs do: with every API of the installed tensorflow_hub that suits it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
import warnings

import tensorflow as tf
import tensorflow.compat.v1 as tf1

from hubexport.arrays import Array
from hubexport.consumers.judge import Application

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Up to 0.15 it imports pkg_resources, which is deprecated.
    import tensorflow_hub as hub


def apply_by_every_api(directory: Path, batches: Sequence[Array], *, is_tf1: bool) -> dict[str, Application]:
    """Loads a module, and applies it to batches of images, and then to an image of the first one again.

    Args:
        directory: the module's directory.
        batches: each float32 [batch, height, width, 3], RGB, intensities in [0, 1].
        is_tf1: whether the module is in the TF1 Hub format.
    Returns:
        What came of it by the API: `hub.Module`, `hub.load`, `hub.KerasLayer`.
    """
    path = str(directory)
    if not is_tf1:
        loaded = hub.load(path)
        # Wraps the loaded object: loading it a second time would double the time.
        layer = hub.KerasLayer(loaded)
        return {"hub.KerasLayer": _apply(layer, layer, batches), "hub.load": _apply(loaded, loaded, batches)}
    if hasattr(hub, "Module"):  # tensorflow_hub 0.16 dropped it.
        return {"hub.Module": _apply_hub_module(path, batches)}
    signature = hub.load(path).signatures["default"]
    return {"hub.load": _apply(lambda images: signature(images=images)["default"], signature, batches)}


def _apply(function: Callable[[tf.Tensor], tf.Tensor], owner: Any, batches: Sequence[Array]) -> Application:
    outputs, counts = [], []
    for images in (*batches, batches[0][:1]):
        outputs.append(function(tf.constant(images)).numpy())
        counts.append(len(owner.variables))
    return Application(outputs[:-1], (counts[0], counts[-1]))


def _apply_hub_module(path: str, batches: Sequence[Array]) -> Application:
    with tf1.Graph().as_default(), tf1.Session() as session:
        module = hub.Module(path)
        outputs, feed, counts = [], {}, []
        for images in (*batches, batches[0][:1]):
            placeholder = tf1.placeholder(tf.float32, [None, *images.shape[1:]])
            outputs.append(module(placeholder))
            feed[placeholder] = images
            counts.append(len(tf1.global_variables()))
        session.run(tf1.global_variables_initializer())
        return Application(session.run(outputs, feed)[:-1], (counts[0], counts[-1]))
