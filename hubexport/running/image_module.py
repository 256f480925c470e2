"""One way to run image modules of both formats."""

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path
from typing import Protocol

import tensorflow as tf

from hubexport.arrays import Array
from hubexport.errors import ModuleError
from hubexport.inspection.module import ModuleReport, describe_module
from hubexport.inspection.signatures import GraphVersion, Tensor
from hubexport.running.tf1 import graph_version
from hubexport.running.tf2 import FEATURES_ENDPOINT, LoadedSavedModel

DEFAULT = "default"
# What `describe_module` calls the result of a call that is a tensor, not a dictionary.
_ONLY_OUTPUT = "output"
# Batch, height, width, channels.
_IMAGE_RANK = 4
_CHANNELS = 3
# Of the signature that gives feature vectors, whatever the kind of the module.
_FEATURES_SIGNATURE = "image_feature_vector"


class ImageModule(Protocol):
    """A module, in its graph version for inference.

    Attributes:
        directory: the folder with its files.
        report: its description.
        image_shape: height, width and channels of the images that it takes.
        default_shape: of one image's default output: `(num_features,)` or `(num_classes,)`.
    """

    directory: Path
    report: ModuleReport
    image_shape: tuple[int, int, int]
    default_shape: tuple[int, ...]

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        """Applies the module.

        Args:
            images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
            outputs: `default`, and names of endpoints.
        Returns:
            Float32 [batch, ...] by output.
        """
        ...

    def features(self, images: Array) -> Array:
        """Returns feature vectors, float32 [batch, num_features], also of a classification module."""
        ...

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables as they are now, by name."""
        ...

    def run_signatures(self, images: Array) -> dict[str, Array]:
        """Returns the main output of each signature of the graph version, by the signature's name."""
        ...


@contextlib.contextmanager
def opened_image_module(directory: Path, shown_as: Path | str | None = None) -> Iterator[ImageModule]:
    """Loads a module into TensorFlow, for as long as the context lasts.

    Args:
        directory: the module's.
        shown_as: what errors call it, where it is the copy of something else.
    Raises:
        ModuleError: it is damaged, or takes no images of one fixed size.
    """
    shown_as = shown_as or directory
    report = describe_module(directory, shown_as)
    with contextlib.ExitStack() as stack:
        with _failures_reported("load", shown_as):
            if report.format == "TF1 Hub module":
                module: ImageModule = _Tf1Module(report, directory, stack)
            else:
                module = _Tf2Module(report, directory)
        yield module


class _Tf1Module:
    def __init__(self, report: ModuleReport, directory: Path, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.report = report
        signatures = {signature.name: signature for signature in _inference(report).signatures}
        if DEFAULT not in signatures:
            raise _no_image_module(report, "it has no signature `default`")
        [images, *_] = [*signatures[DEFAULT].inputs, None]
        self.image_shape = _image_shape(report, images)
        self.default_shape = _shape_of(signatures[DEFAULT].outputs, DEFAULT)
        self._signatures = [*signatures]
        self._features_signature = _FEATURES_SIGNATURE if _FEATURES_SIGNATURE in signatures else DEFAULT
        self._graph = stack.enter_context(graph_version(directory))

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.report.path):
            return self._graph.run(images, outputs)

    def features(self, images: Array) -> Array:
        with _failures_reported("run", self.report.path):
            return self._graph.run(images, [DEFAULT], self._features_signature)[DEFAULT]

    def values(self) -> dict[str, Array]:
        return self._graph.values()

    def run_signatures(self, images: Array) -> dict[str, Array]:
        return {name: self._graph.run(images, [DEFAULT], name)[DEFAULT] for name in self._signatures}


class _Tf2Module:
    def __init__(self, report: ModuleReport, directory: Path) -> None:
        self.directory = directory
        self.report = report
        call = _inference(report).call
        if call is None:
            raise _no_image_module(report, "its object cannot be called")
        [images, *_] = [*call.inputs, None]
        self.image_shape = _image_shape(report, images)
        self.default_shape = _shape_of(call.outputs, _ONLY_OUTPUT)
        self._has_features = any(endpoint.name == FEATURES_ENDPOINT for endpoint in _inference(report).endpoints)
        self._module = LoadedSavedModel(directory)

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.report.path):
            return self._module.run(images, outputs)

    def features(self, images: Array) -> Array:
        if not self._has_features:
            return self.run(images)[DEFAULT]
        pooled = self.run(images, [FEATURES_ENDPOINT])[FEATURES_ENDPOINT]
        return pooled.reshape(len(pooled), -1)

    def values(self) -> dict[str, Array]:
        return self._module.values()

    def run_signatures(self, images: Array) -> dict[str, Array]:
        return self._module.run_signatures(images)


def _inference(report: ModuleReport) -> GraphVersion:
    """Returns the graph version for inference: without tags in TF1, the only one in TF2."""
    return next((one for one in report.graph_versions if not one.tags), report.graph_versions[0])


def _image_shape(report: ModuleReport, images: Tensor | None) -> tuple[int, int, int]:
    shape = images.shape if images else None
    if shape is None or len(shape) != _IMAGE_RANK or None in shape[1:] or shape[-1] != _CHANNELS:
        raise _no_image_module(report, "its input is not a batch of RGB images of one fixed size")
    _, height, width, channels = shape
    return height or 0, width or 0, channels or 0


def _shape_of(outputs: Sequence[Tensor], name: str) -> tuple[int, ...]:
    found = next((output.shape for output in outputs if output.name == name), None)
    return tuple(length or 0 for length in (found or ())[1:])


def _no_image_module(report: ModuleReport, why: str) -> ModuleError:
    return ModuleError(
        f"cannot run {report.path} on images", why=why, fix="use a module with the common signatures for images"
    )


@contextlib.contextmanager
def _failures_reported(verb: str, shown_as: Path | str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise ModuleError(
            f"cannot {verb} module {shown_as}",
            why=f"TensorFlow {tf.__version__}: {str(error).splitlines()[0]}",
            fix="`hubexport inspect` shows what it needs; if it is damaged, build, export or fetch it again",
        ) from error
