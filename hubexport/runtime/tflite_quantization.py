"""Quantizes TFLite models to int8, with the parts of TensorFlow's converter that do so: its calibrator and quantizer.

The converter itself would take a graph of TensorFlow; ours is a TFLite model already.
"""

from collections.abc import Iterable, Mapping
import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize
from tensorflow.lite.python.optimize.calibrator import Calibrator
from tensorflow.lite.python.util import modify_model_io_type
from tensorflow.lite.tools import flatbuffer_utils
import tflite

from hubexport.arrays import Array
from hubexport.deployments.flatbuffer_tables import Table, packed
from hubexport.deployments.options import Pixels
from hubexport.progress import stderr_hidden

_IDENTIFIER = b"TFL3"
_WHITE = {"float": 1.0, "uint8": 255.0}


@dataclasses.dataclass(frozen=True)
class QuantizedModel:
    """A TFLite model of int8.

    Attributes:
        content: its file.
        ranges: the lowest and the highest value of each intermediate result while it was calibrated, by the tensor's
            name.
    """

    content: bytes
    ranges: Mapping[str, tuple[float, float]]


def quantized_model(content: bytes, images: Iterable[Array], pixels: Pixels) -> QuantizedModel:
    """Quantizes a model to int8.

    Args:
        content: the file of a float32 model with one input.
        images: float32 [height, width, 3] each, RGB, intensities in [0, 1].
        pixels: of the quantized model's images. Those of the given one are float32, as bright. Outputs are float32.
    """
    white = _WHITE[pixels]
    calibrator = Calibrator(content)
    measured = calibrator.calibrate(lambda: ([image[np.newaxis] * np.float32(white)] for image in images))
    model = flatbuffer_utils.convert_bytearray_to_object(measured)
    [graph] = model.subgraphs
    [given] = (graph.tensors[index] for index in graph.inputs)
    # Photographs need not show black and white; the model takes both.
    given.quantization.min, given.quantization.max = [0.0], [white]
    ranges = {tensor.name.decode(): _range(tensor) for tensor in graph.tensors if _is_measured(tensor)}
    with stderr_hidden():
        quantized = mlir_quantize(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    quantized = modify_model_io_type(quantized, tf.uint8 if pixels == "uint8" else tf.float32, tf.float32)
    result = flatbuffer_utils.convert_bytearray_to_object(bytearray(quantized))
    result.description = model.description
    _keep_metadata(result, model)
    # TensorFlow's writer does not align the values.
    return QuantizedModel(bytes(packed(_table(result), tflite, _IDENTIFIER, len(content))), ranges)


def _is_measured(tensor: Any) -> bool:
    quantization = tensor.quantization
    return quantization is not None and quantization.min is not None and len(quantization.min) == 1


def _range(tensor: Any) -> tuple[float, float]:
    [lowest], [highest] = tensor.quantization.min, tensor.quantization.max
    return float(lowest), float(highest)


def _keep_metadata(result: Any, original: Any) -> None:
    """Adds what an older quantizer leaves out."""
    kept = {entry.name for entry in result.metadata or []}
    for entry in original.metadata:
        if entry.name not in kept:
            result.buffers.append(original.buffers[entry.buffer])
            entry.buffer = len(result.buffers) - 1
            result.metadata.append(entry)


def _table(value: Any) -> Any:
    """Returns an object of TensorFlow's schema classes, such as a `ModelT`, as a table; anything else as a field."""
    match value:
        case None | int() | float() | str():
            return value
        case bytes():
            return value.decode()
        case np.ndarray():
            return value
        case list() if value and isinstance(value[0], (int, float)):
            return np.asarray(value, np.float32 if isinstance(value[0], float) else np.int32)
        case list():
            return [_table(item) for item in value]
    kind = type(value).__name__.removesuffix("T")
    fields = {name[0].upper() + name[1:]: _table(field) for name, field in vars(value).items()}
    if kind == "Buffer" and fields["Data"] is not None:
        fields["Data"] = np.asarray(fields["Data"], np.uint8).tobytes()
    # Fields that are newer than the schema's package are empty here.
    return Table(kind, **{name: field for name, field in fields.items() if hasattr(tflite, f"{kind}Add{name}")})
