"""Short programs that load a module, one for each library."""

import dataclasses
import json

from hubexport.release.index import ArtifactRecord

# What each kind of module returns, and its shape.
_RESULTS = {
    "classification": ("logits", "[batch_size, num_classes]"),
    "feature_vector": ("features", "[batch_size, num_features]"),
}


@dataclasses.dataclass(frozen=True)
class Snippet:
    """How one library loads a module.

    Attributes:
        title: the library's name.
        code: a program.
        remark: the versions that it works with, and its limits; or what it needs.
        language: of the program.
    """

    title: str
    code: str
    remark: str
    language: str = "python"


def snippets(record: ArtifactRecord, address: str) -> list[Snippet]:
    """Returns the programs that load a module. Its format decides what works.

    Args:
        record: the module.
        address: the module's URL.
    """
    make_snippets = _for_hub_format if record.format == "hub" else _for_saved_model
    return make_snippets(record, json.dumps(address, ensure_ascii=False))


def _for_hub_format(record: ArtifactRecord, address: str) -> list[Snippet]:
    result, shape = _RESULTS[record.kind]
    tf1 = f"""\
import tensorflow.compat.v1 as tf  # TensorFlow 1.7 to 1.12: import tensorflow as tf
import tensorflow_hub as hub

tf.disable_eager_execution()  # TensorFlow 2 only
module = hub.Module({address})
height, width = hub.get_expected_image_size(module)
images = tf.placeholder(tf.float32, [None, height, width, 3])
{result} = module(images)  # {shape}
"""
    tf2 = f"""\
import tensorflow as tf
import tensorflow_hub as hub

module = hub.load({address})
images = {_images(record)}
{result} = module.signatures["default"](images=images)["default"]  # {shape}
"""
    return [
        Snippet("TensorFlow 1", tf1, "hub.Module, in TensorFlow 1.7 to 2.15 with tensorflow-hub up to 0.15."),
        Snippet("TensorFlow 2", tf2, "hub.load, for inference only: training this format needs hub.Module."),
        Snippet("Keras", _keras(record, address), _KERAS_REMARK + " In this format, its weights cannot be trained."),
    ]


def _for_saved_model(record: ArtifactRecord, address: str) -> list[Snippet]:
    result, shape = _RESULTS[record.kind]
    tf1 = f"""\
import tensorflow as tf  # TensorFlow 1.15 only
import tensorflow_hub as hub

tf.compat.v1.enable_v2_behavior()
module = hub.load({address})
{result} = module({_images(record)})  # {shape}
"""
    tf2 = f"""\
import tensorflow as tf
import tensorflow_hub as hub

module = hub.load({address})
images = {_images(record)}
{result} = module(images)  # {shape}
"""
    return [
        Snippet(
            "TensorFlow 1",
            tf1,
            "hub.Module cannot load this format, but hub.load in TensorFlow 1.15 can. hub.Module needs version 3 or "
            "older.",
        ),
        Snippet("TensorFlow 2", tf2, "hub.load, in TensorFlow 2.4 to 2.21."),
        Snippet("Keras", _keras(record, address), _KERAS_REMARK + " Set trainable=True to fine-tune it."),
    ]


_KERAS_REMARK = "hub.KerasLayer, with tf.keras up to TensorFlow 2.15 and the tf_keras package after that."


def _keras(record: ArtifactRecord, address: str) -> str:
    result, shape = _RESULTS[record.kind]
    return f"""\
import tensorflow as tf  # TensorFlow 2.16 and newer: import tf_keras, and write tf_keras for tf.keras
import tensorflow_hub as hub

layer = hub.KerasLayer({address})
model = tf.keras.Sequential([layer])
model.build([None, {record.image_size}, {record.image_size}, 3])
{result} = model({_images(record)})  # {shape}
"""


def _images(record: ArtifactRecord) -> str:
    return f"tf.zeros([1, {record.image_size}, {record.image_size}, 3])"
