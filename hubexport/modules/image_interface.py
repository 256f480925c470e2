"""How a module is to be run on images, from its files alone: the range that it takes, and what its output means.

A graph tells neither. TensorFlow Hub's common signatures for images agree on both: intensities in [0, 1], and logits or
feature vectors. Other SavedModels, such as Keras' own, are run only for callers who say it.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
import re

from hubexport.errors import ModuleError, either, printable
from hubexport.modules.interface_hints import OUTPUT_KINDS, InterfaceHints, OutputKind
from hubexport.modules.module_report import ModuleReport, describe_module, read_saved_model
from hubexport.modules.signatures import GraphVersionReport, SignatureReport, TensorReport
from hubexport.protos import Message

# In place of a signature: the `default` of a TF1 Hub module, or the call of a TF2 object.
CALL = ""
DEFAULT = "default"
IMAGES = "images"
# The endpoint of TF2 modules that has the features, with the image axes.
FEATURES_ENDPOINT = "MobilenetV2/global_pool"
_LOGITS_ENDPOINT = "MobilenetV2/Logits"
# Of the common signatures for images; classification modules of TF1 have both.
FEATURES_SIGNATURE = "image_feature_vector"
_CLASSES_SIGNATURE = "image_classification"
# What describe_module calls the result of a call that is a tensor, not a dictionary.
_ONLY_OUTPUT = "output"
_SERVING_SIGNATURE = "serving_default"
_SERVING_TAG = "serve"

_HUB_RANGE = (0.0, 1.0)
# Batch, height, width, channels.
_IMAGE_RANK = 4
_CHANNELS = 3

# The kind in a module's handle, which its folder, archive or address ends with.
_HANDLE = re.compile(r"(?:^|/)(classification|feature_vector)/[0-9]+(?:\.tar\.gz|\.tgz)?/?(?:[?#].*)?")
_OUTPUT_OF_KIND: dict[str | None, OutputKind] = {"classification": "logits", "feature_vector": "features"}
_OUTPUT_SERVED_AS: dict[str, OutputKind] = {"logits": "logits", "feature_vector": "features"}


@dataclasses.dataclass(frozen=True)
class ImageInterface:
    """How to run a module on images.

    Attributes:
        report: its description.
        directory: its files.
        signature: the name of the one to run; `CALL` for what hub modules of either format have in its place.
        tags: of the graph version.
        image_shape: height, width and channels of the images that it takes.
        input_range: the intensities that it takes for black and white.
        output_shape: of one image's output: `(num_features,)` or `(num_classes,)`.
        output_kind: what the output is; None if nothing tells.
        has_features: whether it gives feature vectors beside its main output.
        told: what the caller said.
    """

    report: ModuleReport
    directory: Path
    signature: str
    tags: tuple[str, ...]
    image_shape: tuple[int, int, int]
    input_range: tuple[float, float]
    output_shape: tuple[int, ...]
    output_kind: OutputKind | None
    has_features: bool = False
    told: InterfaceHints = InterfaceHints()


def image_interface(
    directory: Path, shown_as: Path | str | None = None, told: InterfaceHints = InterfaceHints()
) -> ImageInterface:
    """Finds out how to run a module on images, without TensorFlow.

    Args:
        directory: the module's.
        shown_as: what errors call it, where it is the copy of something else.
        told: what the caller says of it, which is believed.
    Raises:
        ModuleError: it is damaged, takes no images of one fixed size, or has none of the common signatures for images
            and the caller does not say both how it is to be run.
        UsageError: what the caller says cannot be.
    """
    told.check()
    report = describe_module(directory, shown_as)
    stranger = _stranger(report, read_saved_model(directory, report.path))
    if stranger is None:
        found = _hub_interface(report, directory)
        found = dataclasses.replace(
            found,
            input_range=told.input_range or found.input_range,
            output_kind=told.output_kind or found.output_kind,
            told=told,
        )
    elif told.input_range is None or told.output_kind is None:
        raise ModuleError(
            f"cannot tell how to run {report.path} on images",
            why=f"{stranger}; nothing in it says which range of intensities it takes, and what its output means",
            fix="say it with --input_range LOW HIGH and --output_kind KIND; Keras' MobileNetV2, for one, takes -1 1 "
            "and gives probabilities",
        )
    else:
        found = _foreign_interface(report, directory, told.input_range, told.output_kind)
    if len(found.output_shape) != 1 or not found.output_shape[0]:
        raise _no_image_module(report, "its output is not one float32 vector of a fixed length for each image")
    return found


def hub_interface(directory: Path, shown_as: Path | str | None = None) -> ImageInterface:
    """Returns how to run what should be a module with the common signatures, whatever else it looks like.

    Args:
        directory: the module's.
        shown_as: what errors call it.
    Raises:
        ModuleError: it is damaged, has no such interface, or takes no images of one fixed size.
    """
    return _hub_interface(describe_module(directory, shown_as), directory)


def _stranger(report: ModuleReport, saved_model: Message) -> str | None:
    """Returns what a SavedModel is that nobody made for tensorflow_hub; None for a module."""
    if report.format == "TF1 Hub module":
        return None
    if report.format == "TF1 SavedModel":
        return "this looks like a TF1 SavedModel for serving"
    [objects, *_] = [graph.object_graph_def.nodes for graph in saved_model.meta_graphs if graph.object_graph_def.nodes]
    identifier, children = objects[0].user_object.identifier, {child.local_name for child in objects[0].children}
    if identifier.startswith("_tf_keras") or "keras_api" in children:
        return f"this looks like a Keras SavedModel ({printable(identifier)})"
    if "_endpoint_names" in children:
        return "this looks like a Keras model that model.export wrote"
    if "__call__" not in children:
        return "this is a SavedModel whose object cannot be called"
    if "variables" not in children:
        return "this looks like a plain tf.Module, without the `variables` of a Reusable SavedModel"
    return None


def _hub_interface(report: ModuleReport, directory: Path) -> ImageInterface:
    graph = _inference(report)
    signatures = {signature.name: signature for signature in graph.signatures}
    if report.format == "TF1 Hub module":
        if DEFAULT not in signatures:
            raise _no_image_module(report, "it has no signature `default`")
        # Other inputs have defaults.
        images = next((one for one in signatures[DEFAULT].inputs if one.name == IMAGES), None)
        output = _named(signatures[DEFAULT].outputs, DEFAULT)
        features = FEATURES_SIGNATURE in signatures
    else:
        if graph.call is None:
            raise _no_image_module(report, "its object cannot be called")
        [images, *_] = [*graph.call.inputs, None]
        output = _named(graph.call.outputs, _ONLY_OUTPUT)
        features = FEATURES_ENDPOINT in (endpoint.name for endpoint in graph.endpoints)
    return ImageInterface(
        report,
        directory,
        CALL,
        graph.tags,
        _image_shape(report, images),
        _HUB_RANGE,
        _output_shape(output),
        _output_kind(report, signatures, output),
        features,
    )


def _foreign_interface(
    report: ModuleReport, directory: Path, input_range: tuple[float, float], output_kind: OutputKind
) -> ImageInterface:
    """Takes the signature for serving, or the only one there is; a tf.Module without any is called."""
    graphs = [graph for graph in report.graph_versions if _SERVING_TAG in graph.tags] or report.graph_versions
    graph = graphs[0]
    signatures = {signature.name: signature for signature in graph.signatures}
    if _SERVING_SIGNATURE in signatures:
        signatures = {_SERVING_SIGNATURE: signatures[_SERVING_SIGNATURE]}
    if not signatures and graph.call:
        signature = SignatureReport(CALL, graph.call.inputs, graph.call.outputs)
    elif len(signatures) == 1:
        [signature] = signatures.values()
    else:
        raise _no_image_module(report, f"it has {len(signatures)} signatures, and none is named {_SERVING_SIGNATURE}")
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        numbers = f"{len(signature.inputs)} inputs and {len(signature.outputs)} outputs"
        raise _no_image_module(report, f"what it serves has {numbers}, not one of each")
    return ImageInterface(
        report,
        directory,
        signature.name,
        graph.tags,
        _image_shape(report, signature.inputs[0]),
        input_range,
        _output_shape(signature.outputs[0]),
        output_kind,
        told=InterfaceHints(input_range, output_kind),
    )


def _output_kind(
    report: ModuleReport, signatures: dict[str, SignatureReport], output: TensorReport | None
) -> OutputKind | None:
    """Returns what a module's main output is, by what it calls its outputs, its manifest, or its handle."""
    if _CLASSES_SIGNATURE in signatures:
        return "logits"
    if FEATURES_SIGNATURE in signatures:
        return "features"
    # TF2 modules name what they serve.
    served = {one.name: one.shape for signature in signatures.values() for one in signature.outputs}
    for name, kind in _OUTPUT_SERVED_AS.items():
        if output and name in served and served[name] == output.shape:
            return kind
    endpoints = {endpoint.name for endpoint in _inference(report).endpoints}
    if endpoints & {_LOGITS_ENDPOINT, FEATURES_ENDPOINT}:
        return "logits" if _LOGITS_ENDPOINT in endpoints else "features"
    handle = _HANDLE.search(report.path)
    named = [report.manifest.kind if report.manifest else None, handle[1] if handle else None]
    return next((_OUTPUT_OF_KIND[kind] for kind in named if kind in _OUTPUT_OF_KIND), None)


def _inference(report: ModuleReport) -> GraphVersionReport:
    """Returns the graph version for inference: without tags in TF1, the only one in TF2."""
    return next((one for one in report.graph_versions if not one.tags), report.graph_versions[0])


def _named(tensors: Sequence[TensorReport], name: str) -> TensorReport | None:
    return next((tensor for tensor in tensors if tensor.name == name), None)


def _image_shape(report: ModuleReport, images: TensorReport | None) -> tuple[int, int, int]:
    shape = images.shape if images and images.dtype == "float32" else None
    if shape is None or len(shape) != _IMAGE_RANK or None in shape[1:] or shape[-1] != _CHANNELS:
        raise _no_image_module(report, "its input is not a float32 batch of RGB images of one fixed size")
    _, height, width, channels = shape
    return height or 0, width or 0, channels or 0


def _output_shape(output: TensorReport | None) -> tuple[int, ...]:
    shape = output.shape if output and output.dtype == "float32" else None
    return tuple(length or 0 for length in (shape or ())[1:])


def untold_output(what: str) -> ModuleError:
    """Returns the error for a module that does not tell what its output is.

    Args:
        what: cannot be done.
    """
    return ModuleError(
        what,
        why="nothing in the module says whether its output is logits, probabilities or features",
        fix=f"say it with --output_kind {either(OUTPUT_KINDS)}",
    )


def _no_image_module(report: ModuleReport, why: str) -> ModuleError:
    return ModuleError(
        f"cannot run {report.path} on images", why=why, fix="use a module with the common signatures for images"
    )
