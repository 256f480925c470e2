"""Short programs that run a deployment, one for each format."""

from collections.abc import Callable, Mapping
import dataclasses
import json

from hubexport.release.index import ArtifactRecord
from hubexport.site.snippets import Snippet


@dataclasses.dataclass(frozen=True)
class _Model:
    """What programs need to know of a deployment.

    Attributes:
        url: the address of the file that programs load, as text in Python and JavaScript.
        size: height and width of images in pixels.
        output: the key of the output.
        pixels: `float` or `uint8`.
        nchw: whether images have their channels first.
        has_endpoints: whether there are further outputs.
    """

    url: str
    size: int
    output: str
    pixels: str
    nchw: bool
    has_endpoints: bool

    @property
    def numpy_images(self) -> str:
        """Lines that read a photograph into NumPy."""
        dtype, scale = ("uint8", "") if self.pixels == "uint8" else ("float32", " / 255")
        axes = ".transpose(2, 0, 1)" if self.nchw else ""
        return f"""\
photo = Image.open("photo.jpg").convert("RGB").resize(({self.size}, {self.size}))
images = np.asarray(photo, np.{dtype}){axes}[np.newaxis]{scale}"""


def output_key(record: ArtifactRecord) -> str:
    """Returns the name of a deployment's output that is not an intermediate result."""
    if record.kind != "classification":
        return record.kind
    return "probabilities" if record.deployment and record.deployment.options.get("softmax") else "logits"


def deployment_snippet(record: ArtifactRecord, url: str) -> Snippet | None:
    """Returns a program that runs a deployment; None for a format without one.

    Args:
        record: the deployment.
        url: the address of the file that programs load.
    """
    make_snippet = _SNIPPETS.get(record.format)
    if make_snippet is None or record.deployment is None:
        return None
    options = record.deployment.options
    model = _Model(
        url=json.dumps(url, ensure_ascii=False),
        size=record.image_size,
        output=output_key(record),
        pixels=str(options.get("pixels")),
        nchw=options.get("layout") == "nchw",
        has_endpoints=bool(record.deployment.endpoints),
    )
    return make_snippet(model)


def _onnx(model: _Model) -> Snippet:
    code = f"""\
import urllib.request

import numpy as np
import onnxruntime
from PIL import Image

path, _ = urllib.request.urlretrieve({model.url})
session = onnxruntime.InferenceSession(path)
{model.numpy_images}
[{model.output}] = session.run(["{model.output}"], {{"images": images}})
"""
    return Snippet("ONNX Runtime", code, "pip install onnxruntime numpy pillow")


def _tfjs(model: _Model) -> Snippet:
    images = "resized.round().toInt()" if model.pixels == "uint8" else "resized.div(255)"
    output = f"{{ {model.output} }}" if model.has_endpoints else model.output
    code = f"""\
import * as tf from "@tensorflow/tfjs";

const model = await tf.loadGraphModel({model.url});
const pixels = tf.browser.fromPixels(document.querySelector("img"));
const resized = tf.image.resizeBilinear(pixels, [{model.size}, {model.size}]).expandDims();
const {output} = model.predict({images});
"""
    return Snippet("TensorFlow.js", code, "npm install @tensorflow/tfjs", "javascript")


def _tflite(model: _Model) -> Snippet:
    code = f"""\
import urllib.request

from PIL import Image
from ai_edge_litert.interpreter import Interpreter
import numpy as np

path, _ = urllib.request.urlretrieve({model.url})
run = Interpreter(path).get_signature_runner("serving_default")
{model.numpy_images}
{model.output} = run(images=images)["{model.output}"]
"""
    return Snippet("LiteRT", code, "pip install ai-edge-litert numpy pillow")


_SNIPPETS: Mapping[str, Callable[[_Model], Snippet]] = {"onnx": _onnx, "tfjs": _tfjs, "tflite": _tflite}
