"""TFLite metadata: what a model's images and outputs mean, for MediaPipe, Android Studio and others.

The layout is that of metadata_schema.fbs, version 1.0.0: a flatbuffer in a buffer of the model that `Model.metadata`
names, and files, such as that of the class names, in a zip archive after the model. Readers look into the archive in
place, so nothing in it is compressed.
"""

from collections.abc import Callable, Sequence
import io
import itertools
from types import SimpleNamespace
from typing import Any
import zipfile

import flatbuffers
import numpy as np

from hubexport.deployments.flatbuffer_reader import Flatbuffer
from hubexport.deployments.flatbuffer_tables import Table, packed
from hubexport.deployments.inference_model import FEATURES, INPUT, LOGITS, PROBABILITIES, InferenceModel

METADATA = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
IDENTIFIER = b"M001"
_PARSER_VERSION = "1.0.0"
_TENSOR_AXIS_LABELS = 2
_IMAGE_PROPERTIES = 2
_RGB = 1
_NORMALIZATION = 1
_FEATURE_PROPERTIES = 1
_WHITE = 255.0

# The fields of each table that is written, in the schema's order; None is one that is not. Readers go by it, too.
FIELDS: dict[str, tuple[str | None, ...]] = {
    "ModelMetadata": ("Name", "Description", "Version", "SubgraphMetadata", None, None, None, "MinParserVersion"),
    "SubGraphMetadata": ("Name", None, "InputTensorMetadata", "OutputTensorMetadata"),
    "TensorMetadata": ("Name", "Description", None, "Content", "ProcessUnits", "Stats", "AssociatedFiles"),
    "Content": ("ContentPropertiesType", "ContentProperties"),
    "FeatureProperties": (),
    "ImageProperties": ("ColorSpace", "DefaultSize"),
    "ImageSize": ("Width", "Height"),
    "ProcessUnit": ("OptionsType", "Options"),
    "NormalizationOptions": ("Mean", "Std"),
    "Stats": ("Max", "Min"),
    "AssociatedFile": ("Name", "Description", "Type"),
}
_BYTES = ("ColorSpace", "Type")
_UNIONS = ("ContentPropertiesType", "OptionsType")
_COUNTS = ("Width", "Height")
_MEANINGS = {
    LOGITS: "Scores of the classes, before softmax.",
    PROBABILITIES: "Probabilities of the classes.",
    FEATURES: "Feature vector of the image.",
}


def tflite_metadata(model: InferenceModel, outputs: Sequence[str]) -> bytearray:
    """Returns the metadata of a model, as a flatbuffer.

    Args:
        model: what is written.
        outputs: the names of the graph's outputs, in its order.
    """
    graph = Table(
        "SubGraphMetadata",
        Name=model.name,
        InputTensorMetadata=[_images(model)],
        OutputTensorMetadata=[_output(name, model) for name in outputs],
    )
    root = Table(
        "ModelMetadata",
        Name=model.name,
        Description="An image network of TF-Slim, written by hubexport.",
        SubgraphMetadata=[graph],
        MinParserVersion=_PARSER_VERSION,
    )
    return packed(root, _schema(), IDENTIFIER)


def with_labels(content: bytes, model: InferenceModel) -> bytes:
    """Returns a TFLite file with the names of its classes after it, a line each."""
    if model.class_names is None:
        return content
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        # A `ZipInfo` is of 1980 unless told otherwise: the same bytes at any time.
        lines = "".join(f"{' '.join(name.splitlines())}\n" for name in model.class_names)
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), lines.encode())
    return stream.getvalue()


def _images(model: InferenceModel) -> Table:
    height, width = model.network.default_image_size
    size = Table("ImageSize", Width=width, Height=height)
    # What programs do with intensities from 0 to 255 before the model takes them: (x - mean) / std.
    deviation = _WHITE if model.pixels == "float" else 1.0
    normalization = Table("NormalizationOptions", Mean=_floats(0.0), Std=_floats(deviation))
    return Table(
        "TensorMetadata",
        Name=INPUT,
        Description=f"RGB images, intensities from 0 to {'1' if model.pixels == 'float' else '255'}.",
        Content=Table(
            "Content",
            ContentPropertiesType=_IMAGE_PROPERTIES,
            ContentProperties=Table("ImageProperties", ColorSpace=_RGB, DefaultSize=size),
        ),
        ProcessUnits=[Table("ProcessUnit", OptionsType=_NORMALIZATION, Options=normalization)],
        Stats=Table("Stats", Max=_floats(_WHITE / deviation), Min=_floats(0.0)),
    )


def _output(name: str, model: InferenceModel) -> Table:
    labels = None
    if name in (LOGITS, PROBABILITIES) and model.class_names is not None:
        description = "Names of the classes."
        labels = [Table("AssociatedFile", Name=LABELS_FILE, Description=description, Type=_TENSOR_AXIS_LABELS)]
    return Table(
        "TensorMetadata",
        Name=name,
        Description=_MEANINGS.get(name, "Intermediate result."),
        Content=Table(
            "Content", ContentPropertiesType=_FEATURE_PROPERTIES, ContentProperties=Table("FeatureProperties")
        ),
        AssociatedFiles=labels,
    )


def _floats(*values: float) -> Any:
    return np.asarray(values, np.float32)


def _schema() -> SimpleNamespace:
    """Returns functions like those that flatbuffers' compiler makes of a schema."""
    functions: dict[str, Callable[..., Any]] = {}
    for kind, fields in FIELDS.items():
        functions[f"{kind}Start"] = _starter(len(fields))
        functions[f"{kind}End"] = flatbuffers.Builder.EndObject
        for slot, field in enumerate(fields):
            if field is not None:
                functions[f"{kind}Add{field}"] = _adder(slot, field)
    return SimpleNamespace(**functions)


def _starter(count: int) -> Callable[[flatbuffers.Builder], None]:
    return lambda builder: builder.StartObject(count)


def _adder(slot: int, field: str) -> Callable[[flatbuffers.Builder, Any], None]:
    if field in _BYTES:
        return lambda builder, value: builder.PrependInt8Slot(slot, value, 0)
    if field in _UNIONS:
        return lambda builder, value: builder.PrependUint8Slot(slot, value, 0)
    if field in _COUNTS:
        return lambda builder, value: builder.PrependUint32Slot(slot, value, 0)
    return lambda builder, value: builder.PrependUOffsetTRelativeSlot(slot, value, 0)


def read_metadata(content: bytes) -> dict[str, Any]:
    """Returns what metadata say of a model, whoever wrote them.

    Args:
        content: the flatbuffer.
    Returns:
        Some of `name`, `description`, `input_mean` and `input_deviation` (of intensities from 0 to 255: programs
        subtract the one, and divide by the other), and `labels`, the name of the file with the names of the classes.
    Raises:
        DamageError: they are damaged.
    """
    root = Flatbuffer(content, IDENTIFIER).root
    found: dict[str, Any] = {"name": root.text(0), "description": root.text(1)}
    for graph in itertools.islice(root.tables(_slot("ModelMetadata", "SubgraphMetadata")), 1):
        for images in itertools.islice(graph.tables(_slot("SubGraphMetadata", "InputTensorMetadata")), 1):
            for unit in images.tables(_slot("TensorMetadata", "ProcessUnits")):
                options = unit.table(1)
                if unit.number(0, "uint8") == _NORMALIZATION and options is not None:
                    found["input_mean"] = options.numbers(0, "float32").tolist()
                    found["input_deviation"] = options.numbers(1, "float32").tolist()
        for output in itertools.islice(graph.tables(_slot("SubGraphMetadata", "OutputTensorMetadata")), 1):
            for file in output.tables(_slot("TensorMetadata", "AssociatedFiles")):
                if file.number(2, "int8") == _TENSOR_AXIS_LABELS:
                    found["labels"] = file.text(0)
    return {key: value for key, value in found.items() if value is not None}


def _slot(kind: str, field: str) -> int:
    return FIELDS[kind].index(field)
