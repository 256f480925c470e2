"""Short programs that load a module, one for each library that can."""

from collections.abc import Iterator
import dataclasses
import json
import re
import shlex

from hubexport.labels import MODULE_LABELS
from hubexport.release.index import ArtifactRecord

# What each kind of module returns, and its shape.
_RESULTS = {
    "classification": ("logits", "[batch_size, num_classes]"),
    "feature_vector": ("features", "[batch_size, num_features]"),
}
_SERVING_OUTPUTS = {"classification": "logits", "feature_vector": "feature_vector"}
_KERAS_2 = "hub.KerasLayer, with tf.keras up to TensorFlow 2.15 and the tf_keras package after that."


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

    @property
    def anchor(self) -> str:
        """The id of its place in a page, like `use-tensorflow-2`."""
        return f"use-{re.sub(r'[^a-z0-9]+', '-', self.title.lower())}"


def snippets(record: ArtifactRecord, address: str, *, has_labels: bool = False) -> list[Snippet]:
    """Returns the programs that load a module, that of the module's own format first.

    That one reads a photograph, and so do those of Keras.

    Args:
        record: the module.
        address: the module's URL.
        has_labels: whether the module contains the names of its classes.
    """
    make_snippets = _for_hub_format if record.format == "hub" else _for_saved_model
    return list(make_snippets(_Module(record, address, has_labels and record.kind == "classification")))


@dataclasses.dataclass(frozen=True)
class _Module:
    """What programs need to know of a module.

    Attributes:
        record: the module.
        url: the module's URL.
        has_labels: whether it contains the names of its classes.
    """

    record: ArtifactRecord
    url: str
    has_labels: bool

    @property
    def address(self) -> str:
        """The URL as a string in Python."""
        return json.dumps(self.url, ensure_ascii=False)

    @property
    def size(self) -> int:
        return self.record.image_size

    @property
    def result(self) -> str:
        return _RESULTS[self.record.kind][0]

    @property
    def shape(self) -> str:
        return _RESULTS[self.record.kind][1]

    @property
    def is_classifier(self) -> bool:
        return self.record.kind == "classification"

    @property
    def images(self) -> str:
        """A black image in TensorFlow."""
        return f"tf.zeros([1, {self.size}, {self.size}, 3])"


def _for_hub_format(module: _Module) -> Iterator[Snippet]:
    yield Snippet(
        "TensorFlow 1", _hub_module(module), "hub.Module, in TensorFlow 1.7 to 2.15 with tensorflow-hub up to 0.15."
    )
    yield Snippet(
        "TensorFlow 2",
        f"""\
import tensorflow as tf
import tensorflow_hub as hub

module = hub.load({module.address})
images = {module.images}
{module.result} = module.signatures["default"](images=images)["default"]  # {module.shape}
""",
        "hub.load, in TensorFlow 2.4 to 2.21, for inference only: training this format needs hub.Module.",
    )
    yield Snippet("Keras 2", _keras_2(module), f"{_KERAS_2} In this format, its weights cannot be trained.")


def _for_saved_model(module: _Module) -> Iterator[Snippet]:
    yield Snippet("TensorFlow 2", _hub_load(module), "hub.load, in TensorFlow 2.4 to 2.21.")
    yield Snippet("Keras 2", _keras_2(module), f"{_KERAS_2} Set trainable=True to fine-tune it.")
    if module.record.version >= 5:
        yield Snippet(
            "Keras 3",
            _keras_3(module),
            "In TensorFlow 2.16 and newer. Keras 3 has no hub.KerasLayer; its TFSMLayer runs modules for inference, "
            "with TensorFlow as backend.",
        )
    yield Snippet(
        "TensorFlow 1",
        f"""\
import tensorflow as tf  # TensorFlow 1.15 only
import tensorflow_hub as hub

tf.compat.v1.enable_v2_behavior()
module = hub.load({module.address})
{module.result} = module({module.images})  # {module.shape}
""",
        "hub.Module cannot load this format, but hub.load in TensorFlow 1.15 can. hub.Module needs version 3 or older.",
    )
    if module.record.version >= 5:
        yield Snippet(
            "TensorFlow Serving",
            _serving(module),
            "The last lines ask for the results of a black image. The 1 in the paths is Serving's own version.",
            "bash",
        )


def _hub_load(module: _Module) -> str:
    return f"""\
import tensorflow as tf
import tensorflow_hub as hub

path = hub.resolve({module.address})  # downloads it once
module = hub.load(path)
{_on_photograph(module, "module(images)")}"""


def _on_photograph(module: _Module, call: str) -> str:
    """Returns the lines that read a photograph in TensorFlow 2, call a module at `path`, and print its results."""
    start = f"""\
photo = tf.io.decode_image(tf.io.read_file("photo.jpg"), channels=3, expand_animations=False)
images = tf.image.resize(photo[tf.newaxis], [{module.size}, {module.size}], antialias=True) / 255  # in [0, 1]
{module.result} = {call}  # {module.shape}
"""
    if not module.is_classifier:
        return f"{start}print({module.result}.shape, {module.result}[0, :5].numpy())\n"
    return f"""\
{start}probabilities = tf.nn.softmax({module.result}[0]).numpy()
{_names(module)}for number in probabilities.argsort()[:-6:-1]:
    print(f"{{probabilities[number]:6.1%}}  {_name(module)}")
"""


def _hub_module(module: _Module) -> str:
    start = f"""\
import tensorflow.compat.v1 as tf  # TensorFlow 1.7 to 1.12: import tensorflow as tf
import tensorflow_hub as hub

tf.disable_eager_execution()  # TensorFlow 2 only
module = hub.Module({module.address})
height, width = hub.get_expected_image_size(module)
photo = tf.image.decode_jpeg(tf.read_file("photo.jpg"), channels=3)
images = tf.image.resize_images(tf.expand_dims(photo, 0), [height, width]) / 255  # in [0, 1]
{module.result} = module(images)  # {module.shape}
"""
    if not module.is_classifier:
        return f"""\
{start}
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    print(session.run({module.result})[0, :5])
"""
    names = _names(module, "  # tensorflow-hub 0.5 or newer")
    path = f"path = hub.resolve({module.address})" if module.has_labels else ""
    return f"""\
{start}probabilities = tf.nn.softmax({module.result})[0]
{path and path + chr(10)}{names}
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    values = session.run(probabilities)
for number in values.argsort()[:-6:-1]:
    print(f"{{values[number]:6.1%}}  {_name(module)}")
"""


def _names(module: _Module, remark: str = "") -> str:
    """Returns a line that reads the names of the classes from the module at `path`; nothing if it has none."""
    if not module.has_labels:
        return ""
    return f'names = open(f"{{path}}/{MODULE_LABELS.as_posix()}", encoding="utf-8").read().split("\\n"){remark}\n'


def _name(module: _Module) -> str:
    return "{names[number]}" if module.has_labels else "class {number}"


def _keras_2(module: _Module) -> str:
    return f"""\
import tensorflow as tf  # TensorFlow 2.16 and newer: import tf_keras, and write tf_keras for tf.keras
import tensorflow_hub as hub

path = hub.resolve({module.address})  # downloads it once
model = tf.keras.Sequential([hub.KerasLayer(path)])
model.build([None, {module.size}, {module.size}, 3])
{_on_photograph(module, "model(images)")}"""


def _keras_3(module: _Module) -> str:
    call = f'layer(images)["{_SERVING_OUTPUTS[module.record.kind]}"]'
    return f"""\
import keras
import tensorflow as tf
import tensorflow_hub as hub

path = hub.resolve({module.address})  # downloads it once
layer = keras.layers.TFSMLayer(path, call_endpoint="serving_default")
{_on_photograph(module, call)}"""


def _serving(module: _Module) -> str:
    # Of a handle, only the characters of paths are allowed.
    name = module.record.handle.split("/")[-3]
    image = f"[[[0.0] * 3] * {module.size}] * {module.size}"
    return f"""\
mkdir -p models/{name}/1
curl --fail --location {shlex.quote(f"{module.url}.tar.gz")} | tar --extract --gzip --directory models/{name}/1
docker run --detach --publish 8501:8501 --volume "$PWD/models:/models" --env MODEL_NAME={name} tensorflow/serving
python3 -c 'import json; print(json.dumps({{"instances": [{image}]}}))' |
  curl --data @- http://127.0.0.1:8501/v1/models/{name}:predict
"""
