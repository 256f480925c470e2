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


def load_tf2(directory: Path) -> Any:
    """Returns what `hub.load` makes of a Reusable SavedModel."""
    return hub.load(str(directory))


def apply_tf2(loaded: Any, batches: Sequence[Array]) -> dict[str, Application]:
    """Applies a loaded Reusable SavedModel to batches of images, and then to an image of the first one again.

    Args:
        loaded: what `load_tf2` returned.
        batches: each float32 [batch, height, width, 3], RGB, intensities in [0, 1].
    Returns:
        What came of it by the API: `hub.load`, `hub.KerasLayer`.
    """
    layer = hub.KerasLayer(loaded)
    return {"hub.KerasLayer": _apply(layer, layer, batches), "hub.load": _apply(loaded, loaded, batches)}


def apply_tf1(directory: Path, batches: Sequence[Array]) -> dict[str, Application]:
    """Does the same with a TF1 Hub module, by `hub.Module`, or where tensorflow_hub has dropped it, by `hub.load`."""
    path = str(directory)
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
