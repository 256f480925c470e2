"""Finds out how to run a deployment on images, by what it says of itself.

Those of hubexport name their output by what it means, and say in their metadata what they take. Others run if the
caller gives `InterfaceHints`.
"""

from collections.abc import Mapping
import dataclasses
from pathlib import Path
from typing import Any

from hubexport.deployments.options import LAYOUTS, Layout
from hubexport.deployments.registry import Deployment
from hubexport.deployments.report import DeployedTensor, DeploymentReport
from hubexport.errors import ModuleError
from hubexport.formats.manifest import MANIFEST, Manifest, ManifestError, changed_files, read_manifest
from hubexport.modules.image_interface import (
    FEATURES_ENDPOINT,
    ImageInterface,
    chosen_image_size,
    last_part,
    not_runnable_error,
)
from hubexport.modules.interface_hints import InterfaceHints, OutputKind

_OUTPUT_KINDS: dict[str, OutputKind] = {
    "logits": "logits",
    "probabilities": "probabilities",
    "feature_vector": "features",
}
_PIXELS = ("float32", "uint8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentInterface(ImageInterface):
    """How to run a deployment on images.

    Attributes:
        report: its description.
        images: its input.
        layout: the axes of its input.
        output: the name of its main output.
        names: the names of the classes; None if there are none.
    """

    report: DeploymentReport
    images: DeployedTensor
    layout: Layout
    output: str
    names: tuple[str, ...] | None

    def class_names(self) -> list[str] | None:
        return None if self.names is None else list(self.names)

    def manifest(self) -> Manifest | None:
        return _manifest_of(self.path)

    def files(self) -> Mapping[str, Path]:
        if not self.report.files:
            return super().files()
        folder = self.path if self.path.is_dir() else self.path.parent
        return {name: folder / name for name in self.report.files}

    @property
    def batch(self) -> int | None:
        """How many images it takes at once; None for any number."""
        return self.images.shape[0] if self.images.shape else None


def deployment_interface(
    path: Path, deployment: Deployment, hints: InterfaceHints = InterfaceHints(), shown_as: str | None = None
) -> DeploymentInterface:
    """Finds out how to run a deployment on images, without its engine.

    Args:
        path: its file or folder.
        deployment: its format.
        hints: what the caller knows about it; they override what it says itself.
        shown_as: what errors call it, if it is a copy of something else.
    Raises:
        ModuleError: it is damaged, does not take images, or not those of the hints' size, or takes those of any size
            and has no default size; or does not say what it takes, and the hints are not complete.
        UsageError: the hints are invalid.
    """
    hints.check()
    report, shown_as = deployment.report(path), shown_as or str(path)
    if len(report.inputs) != 1:
        raise not_runnable_error(shown_as, f"it has {len(report.inputs)} inputs, not one")
    [images] = report.inputs
    layout = _layout(images, report.metadata.get("input_layout"))
    if layout is None or not (images.dtype in _PIXELS or images.quantization):
        raise not_runnable_error(shown_as, "its input is not a batch of RGB images")
    output = _main_output(report, shown_as)
    kind = hints.output_kind or _OUTPUT_KINDS.get(output.name)
    input_range = hints.input_range or _range(report.metadata.get("input_range"))
    if input_range is None or kind is None:
        raise ModuleError(
            f"cannot tell how to run {shown_as} on images",
            why="nothing in it says which range of intensities it takes, or what its output means",
            fix="give both with --input-range LOW HIGH and --output-kind KIND",
        )
    lengths = images.shape or ()
    taken = lengths[1:3] if layout == "nhwc" else lengths[2:4]
    assert len(taken) == 2, "of every layout"
    manifest = _manifest_of(path)
    default = (manifest.input_height_px, manifest.input_width_px) if manifest else (None, None)
    return DeploymentInterface(
        path=path,
        shown_as=shown_as,
        image_shape=(*chosen_image_size(shown_as, taken, hints, default=default), 3),
        input_range=input_range,
        output_shape=_output_shape(output, shown_as),
        output_kind=kind,
        features_from=next((one.name for one in report.outputs if last_part(one.name) == FEATURES_ENDPOINT), None),
        hints=hints,
        report=report,
        images=images,
        layout=layout,
        output=output.name,
        names=_names(report.metadata.get("class_names")),
    )


def check_unchanged(path: Path, shown_as: str) -> None:
    """Checks that a deployment is what its manifest describes: results would be reported as of another one.

    Args:
        path: its file or folder.
        shown_as: what errors call it.
    Raises:
        ModuleError: it is not, or the manifest is damaged.
    """
    folder = path if path.is_dir() else path.parent
    try:
        manifest = _listing_manifest(path)
        listed = [folder / name for name in manifest.sha256 if (folder / name).is_file()] if manifest else []
        why = next(changed_files(folder, listed, manifest.sha256), None) if manifest else None
    except ManifestError as error:
        why = str(error)
    if why is not None:
        raise ModuleError(
            f"{shown_as} is not what its {MANIFEST} describes",
            why=why,
            fix=f"restore it from a copy, or move the model away from that {MANIFEST}",
        )


def _manifest_of(path: Path) -> Manifest | None:
    """Returns the manifest that lists a deployment's file or is in its folder; None if there is none to be read."""
    try:
        return _listing_manifest(path)
    except ManifestError:
        return None


def _listing_manifest(path: Path) -> Manifest | None:
    folder = path if path.is_dir() else path.parent
    manifest = read_manifest(folder)
    return manifest if manifest and (path == folder or path.name in manifest.sha256) else None


def _layout(images: DeployedTensor, named: Any) -> Layout | None:
    """Returns the axes of images: those that the metadata names, or those of which one has three channels."""
    channels = {"nhwc": 3, "nchw": 1}
    possible = [
        layout for layout in LAYOUTS if images.shape and len(images.shape) == 4 and images.shape[channels[layout]] == 3
    ]
    return named if named in possible else possible[0] if possible else None


def _main_output(report: DeploymentReport, shown_as: str) -> DeployedTensor:
    named = [one for one in report.outputs if one.name in _OUTPUT_KINDS]
    outputs = named or report.outputs
    if len(outputs) != 1:
        names = ", ".join(one.name for one in outputs) or "none"
        raise not_runnable_error(shown_as, f"it has several outputs or none, and none of a known name: {names}")
    return outputs[0]


def _output_shape(output: DeployedTensor, shown_as: str) -> tuple[int, ...]:
    shape = output.shape or ()
    if len(shape) != 2 or not shape[1] or not (output.dtype == "float32" or output.quantization):
        raise not_runnable_error(shown_as, "its output is not one vector of numbers of a fixed length for each image")
    return (shape[1],)


def _range(given: Any) -> tuple[float, float] | None:
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        return None
    return (low, high) if low < high else None


def _names(given: Any) -> tuple[str, ...] | None:
    return tuple(given) if isinstance(given, list) and given and all(isinstance(one, str) for one in given) else None
