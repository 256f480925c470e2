"""Finds out how to run a SavedModel on images: which intensities it takes, and what its output means.

A graph tells neither. Modules for tensorflow_hub have its common signatures for images, which define both: intensities
in [0, 1], and logits or feature vectors. Any other SavedModel, such as one that Keras saved, runs only if the caller
gives both as `InterfaceHints`.

Some modules take images of any size. They run on the size that the caller gives, or else on the module's default one:
what it says to `hub.get_expected_image_size`, or what its manifest says.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
import re

from google.protobuf.message import DecodeError

from hubexport.errors import ModuleError, printable
from hubexport.formats.manifest import Manifest, read_manifest
from hubexport.labels import module_labels
from hubexport.modules.graph_version_report import (
    DEFAULT,
    ONLY_OUTPUT,
    GraphVersionReport,
    SignatureReport,
    TensorReport,
)
from hubexport.modules.identity import identify
from hubexport.modules.image_interface import (
    CLASSES_ENDPOINTS,
    FEATURES_ENDPOINT,
    ImageInterface,
    chosen_image_size,
    last_part,
    not_runnable_error,
)
from hubexport.modules.interface_hints import InterfaceHints, OutputKind, is_image_size
from hubexport.modules.module_report import ModuleReport, describe_module, read_saved_model
from hubexport.protos import ImageModuleInfo, Message, ModuleAttachment

# Stands for the `default` signature of a TF1 Hub module, and for the `__call__` of a TF2 object.
CALL = ""
IMAGES = "images"
# The common signatures for images. TF1 classification modules have both.
FEATURES_SIGNATURE = "image_feature_vector"
_LOGITS_SIGNATURE = "image_classification"
# Where a TF1 Hub module keeps its default image size.
_ATTACHMENTS, _IMAGE_INFO = "hub_module_attachments", "image_module_info"
_SERVING_SIGNATURE = "serving_default"
_SERVING_TAG = "serve"

_HUB_RANGE = (0.0, 1.0)

# The kind in a module's handle, with which its folder, archive or address ends.
_HANDLE = re.compile(r"(?:^|/)(classification|feature_vector)/[0-9]+(?:\.tar\.gz|\.tgz)?/?(?:[?#].*)?")
_OUTPUT_OF_KIND: dict[str | None, OutputKind] = {"classification": "logits", "feature_vector": "features"}
_OUTPUT_SERVED_AS: dict[str, OutputKind] = {"logits": "logits", "feature_vector": "features"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedModelInterface(ImageInterface):
    """How to run a SavedModel on images; `path` is its directory.

    Attributes:
        report: the SavedModel's description.
        signature: the name of the signature to run, or `CALL`.
        tags: the tags of the graph version to run.
    """

    report: ModuleReport
    signature: str
    tags: tuple[str, ...]

    def class_names(self) -> list[str] | None:
        return module_labels(self.path)

    def manifest(self) -> Manifest | None:
        return read_manifest(self.path)


def saved_model_interface(
    directory: Path, shown_as: Path | str | None = None, hints: InterfaceHints = InterfaceHints()
) -> SavedModelInterface:
    """Finds out how to run a SavedModel on images, without TensorFlow.

    Args:
        directory: the SavedModel's directory.
        shown_as: what errors call it, if the directory is a copy of something else.
        hints: what the caller knows about it; they override what the SavedModel says itself.
    Raises:
        ModuleError: it is damaged, does not take images, or not those of the hints' size, or takes those of any size
            and has no default size; or it has none of the common signatures for images, and the hints are not complete.
        UsageError: the hints are invalid.
    """
    hints.check()
    report = describe_module(directory, shown_as)
    look = _foreign_look(report, read_saved_model(directory, report.path))
    if look is None:
        interface = hub_interface(report, directory, hints)
    else:
        interface = _foreign_interface(report, directory, hints, look)
    if len(interface.output_shape) != 1 or not interface.output_shape[0]:
        raise not_runnable_error(report.path, "its output is not one float32 vector of a fixed length for each image")
    return interface


def _foreign_look(report: ModuleReport, saved_model: Message) -> str | None:
    """Returns what a SavedModel looks like that was not made for tensorflow_hub; None for one that was."""
    if report.format == "TF1 Hub module":
        return None
    if report.format == "TF1 SavedModel":
        return "this looks like a TF1 SavedModel for serving"
    objects = next(filter(None, (graph.object_graph_def.nodes for graph in saved_model.meta_graphs)))
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


def hub_interface(
    report: ModuleReport, directory: Path, hints: InterfaceHints = InterfaceHints()
) -> SavedModelInterface:
    """Returns how to run a SavedModel as a module with the common signatures, even if it looks like something else.

    Args:
        report: the SavedModel's description.
        directory: its directory.
        hints: what the caller knows about it; they override what the SavedModel says itself.
    Raises:
        ModuleError: it has no such interface, does not take images, or takes those of any size and has no default size.
    """
    graph = _inference(report)
    signatures = {signature.name: signature for signature in graph.signatures}
    if report.format == "TF1 Hub module":
        if DEFAULT not in signatures:
            raise not_runnable_error(report.path, "it has no signature `default`")
        # Other inputs have defaults.
        images = _named(signatures[DEFAULT].inputs, IMAGES)
        output = _named(signatures[DEFAULT].outputs, DEFAULT)
        features_from = FEATURES_SIGNATURE if FEATURES_SIGNATURE in signatures else None
    else:
        if graph.call is None:
            raise not_runnable_error(report.path, "its object cannot be called")
        images = graph.call.inputs[0] if graph.call.inputs else None
        output = _named(graph.call.outputs, ONLY_OUTPUT)
        features_from = _features_endpoint(report, directory)
    return SavedModelInterface(
        report=report,
        path=directory,
        shown_as=report.path,
        signature=CALL,
        tags=graph.tags,
        image_shape=_image_shape(report, directory, images, hints),
        input_range=hints.input_range or _HUB_RANGE,
        output_shape=_output_shape(output),
        output_kind=hints.output_kind or _output_kind(report, signatures, output),
        features_from=features_from,
        hints=hints,
    )


def _foreign_interface(report: ModuleReport, directory: Path, hints: InterfaceHints, look: str) -> SavedModelInterface:
    """Chooses the signature for serving or the only one there is; an object without signatures is called."""
    if hints.input_range is None or hints.output_kind is None:
        raise ModuleError(
            f"cannot tell how to run {report.path} on images",
            why=f"{look}; nothing in it says which range of intensities it takes, or what its output means",
            fix="give both with --input-range LOW HIGH and --output-kind KIND; Keras' MobileNetV2, for example, takes "
            "-1 1 and returns probabilities",
        )
    graph = next((graph for graph in report.graph_versions if _SERVING_TAG in graph.tags), report.graph_versions[0])
    served = [one for one in graph.signatures if one.name == _SERVING_SIGNATURE]
    signatures = served or graph.signatures
    if not signatures and graph.call:
        signature = SignatureReport(CALL, graph.call.inputs, graph.call.outputs)
    elif len(signatures) == 1:
        [signature] = signatures
    else:
        raise not_runnable_error(
            report.path, f"it has {len(signatures)} signatures, and none is named {_SERVING_SIGNATURE}"
        )
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        numbers = f"{len(signature.inputs)} inputs and {len(signature.outputs)} outputs"
        raise not_runnable_error(report.path, f"what it serves has {numbers}, not one of each")
    return SavedModelInterface(
        report=report,
        path=directory,
        shown_as=report.path,
        signature=signature.name,
        tags=graph.tags,
        image_shape=_image_shape(report, directory, signature.inputs[0], hints),
        input_range=hints.input_range,
        output_shape=_output_shape(signature.outputs[0]),
        output_kind=hints.output_kind,
        hints=hints,
    )


def _output_kind(
    report: ModuleReport, signatures: dict[str, SignatureReport], output: TensorReport | None
) -> OutputKind | None:
    """Returns what a module's main output means, by the names of its outputs, by its manifest, or by its handle."""
    if _LOGITS_SIGNATURE in signatures:
        return "logits"
    if FEATURES_SIGNATURE in signatures:
        return "features"
    # `serving_default` of a TF2 module names its output.
    served = {tensor.name: tensor.shape for signature in signatures.values() for tensor in signature.outputs}
    for name, kind in _OUTPUT_SERVED_AS.items():
        if output and name in served and served[name] == output.shape:
            return kind
    endpoints = {last_part(endpoint.name) for endpoint in _inference(report).endpoints}
    if endpoints.intersection(CLASSES_ENDPOINTS):
        return "logits"
    if FEATURES_ENDPOINT in endpoints:
        return "features"
    handle = _HANDLE.search(report.path)
    kinds = [report.manifest.kind if report.manifest else None, handle[1] if handle else None]
    return next((_OUTPUT_OF_KIND[kind] for kind in kinds if kind in _OUTPUT_OF_KIND), None)


def _features_endpoint(report: ModuleReport, directory: Path) -> str | None:
    """Returns the endpoint with the features: that of the manifest's network, or else one named as in TF-Slim."""
    endpoints = [endpoint.name for endpoint in _inference(report).endpoints]
    if report.manifest:
        try:
            ours = identify(directory, report.path).network.features_endpoint
        except ModuleError:  # The manifest describes a network that is unknown here.
            ours = None
        if ours in endpoints:
            return ours
    return next((name for name in endpoints if last_part(name) == FEATURES_ENDPOINT), None)


def _inference(report: ModuleReport) -> GraphVersionReport:
    """Returns the graph version for inference: in TF1 the one without tags, in TF2 the only one."""
    return next((graph for graph in report.graph_versions if not graph.tags), report.graph_versions[0])


def _named(tensors: Sequence[TensorReport], name: str) -> TensorReport | None:
    return next((tensor for tensor in tensors if tensor.name == name), None)


def _image_shape(
    report: ModuleReport, directory: Path, images: TensorReport | None, hints: InterfaceHints
) -> tuple[int, int, int]:
    """Returns the size of the images to run a module on: the one that it takes, the caller's, or its default one."""
    match images:
        case TensorReport(dtype="float32", shape=(_, height, width, 3)):
            taken = (height, width)
        case _:
            raise not_runnable_error(report.path, "its input is not a float32 batch of RGB images")
    default = (None, None) if None not in taken else _default_size(report, directory)
    smallest = report.manifest.smallest_image_size if report.manifest else None
    return (*chosen_image_size(report.path, taken, hints, default=default, smallest=smallest), 3)


def _default_size(report: ModuleReport, directory: Path) -> tuple[int | None, int | None]:
    """Returns the height and width that a module was made for; None if it does not say, or names an impossible one."""
    found = [(size.height, size.width) for size in _attached_sizes(read_saved_model(directory, report.path))]
    if report.manifest:
        found.append((report.manifest.input_height_px or 0, report.manifest.input_width_px or 0))
    return next((size for size in found if is_image_size(size)), (None, None))


def _attached_sizes(saved_model: Message) -> Iterator[Message]:
    for meta_graph in saved_model.meta_graphs:
        if _ATTACHMENTS in meta_graph.collection_def:
            for content in meta_graph.collection_def[_ATTACHMENTS].bytes_list.value:
                with contextlib.suppress(DecodeError):
                    attachment = ModuleAttachment.FromString(content)
                    if attachment.key == _IMAGE_INFO:
                        yield ImageModuleInfo.FromString(attachment.value).default_image_size


def _output_shape(output: TensorReport | None) -> tuple[int, ...]:
    shape = output.shape if output and output.dtype == "float32" else None
    return tuple(length or 0 for length in (shape or ())[1:])
