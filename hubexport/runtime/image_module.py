"""One way to run image modules of both formats, and other SavedModels that take images."""

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

from hubexport.arrays import Array
from hubexport.errors import ModuleError
from hubexport.modules.image_interface import (
    CALL,
    DEFAULT,
    FEATURES_ENDPOINT,
    FEATURES_SIGNATURE,
    ImageInterface,
    image_interface,
)
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.runtime.tf1_graph import graph_version
from hubexport.runtime.tf2_module import LoadedSavedModel, run_signature


class ImageModule(Protocol):
    """A module, in its graph version for inference.

    Attributes:
        interface: how it is run.
    """

    interface: ImageInterface

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
        """Returns feature vectors, float32 [batch, num_features], also of a classification module that has them."""
        ...


class HubModule(ImageModule, Protocol):
    """A module with the interface of tensorflow_hub."""

    def values(self) -> dict[str, Array]:
        """Returns the values of all variables as they are now, by name."""
        ...

    def run_signatures(self, images: Array) -> dict[str, Array]:
        """Returns the main output of each signature of the graph version, by the signature's name."""
        ...


@contextlib.contextmanager
def opened_image_module(
    directory: Path, shown_as: Path | str | None = None, told: InterfaceHints = InterfaceHints()
) -> Iterator[ImageModule]:
    """Loads a module into TensorFlow, for as long as the context lasts.

    Args:
        directory: the module's.
        shown_as: what errors call it, where it is the copy of something else.
        told: what the caller says of it: how to run a SavedModel that is no module.
    Raises:
        ModuleError: it is damaged, takes no images of one fixed size, or does not tell how to run it.
        UsageError: what the caller says cannot be.
    """
    with opened(image_interface(directory, shown_as, told)) as module:
        yield module


@contextlib.contextmanager
def opened(interface: ImageInterface) -> Iterator[ImageModule]:
    """Loads what has an interface into TensorFlow, for as long as the context lasts.

    Raises:
        ModuleError: it is damaged.
    """
    if interface.signature == CALL:
        with opened_hub_module(interface) as hub_module:
            yield hub_module
        return
    with _failures_reported("load", interface):
        module = _ForeignModel(interface)
    yield module


@contextlib.contextmanager
def opened_hub_module(interface: ImageInterface) -> Iterator[HubModule]:
    """Loads a module into TensorFlow by the interface of tensorflow_hub, for as long as the context lasts.

    Raises:
        ModuleError: it is damaged.
    """
    with contextlib.ExitStack() as stack:
        with _failures_reported("load", interface):
            if interface.report.format == "TF1 Hub module":
                module: HubModule = _Tf1Module(interface, stack)
            else:
                module = _Tf2Module(interface)
        yield module


class _Tf1Module:
    def __init__(self, interface: ImageInterface, stack: contextlib.ExitStack) -> None:
        self.interface = interface
        self._graph = stack.enter_context(graph_version(interface.directory))

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.interface):
            return self._graph.run(_in_range(images, self.interface), outputs)

    def features(self, images: Array) -> Array:
        with _failures_reported("run", self.interface):
            signature = FEATURES_SIGNATURE if self.interface.has_features else DEFAULT
            return self._graph.run(_in_range(images, self.interface), [DEFAULT], signature)[DEFAULT]

    def values(self) -> dict[str, Array]:
        return self._graph.values()

    def run_signatures(self, images: Array) -> dict[str, Array]:
        [version] = [version for version in self.interface.report.graph_versions if not version.tags]
        return {one.name: self._graph.run(images, [DEFAULT], one.name)[DEFAULT] for one in version.signatures}


class _Tf2Module:
    def __init__(self, interface: ImageInterface) -> None:
        self.interface = interface
        self._module = LoadedSavedModel(interface.directory)

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.interface):
            return self._module.run(_in_range(images, self.interface), outputs)

    def features(self, images: Array) -> Array:
        if not self.interface.has_features:
            return self.run(images)[DEFAULT]
        pooled = self.run(images, [FEATURES_ENDPOINT])[FEATURES_ENDPOINT]
        return pooled.reshape(len(pooled), -1)

    def values(self) -> dict[str, Array]:
        return self._module.values()

    def run_signatures(self, images: Array) -> dict[str, Array]:
        return self._module.run_signatures(images)


class _ForeignModel:
    """What is no module, run as its caller says."""

    def __init__(self, interface: ImageInterface) -> None:
        self.interface = interface
        # Each loaded function needs the object that holds its variables.
        self._loaded = tf.saved_model.load(str(interface.directory), list(interface.tags))

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.interface):
            function = self._loaded.signatures[self.interface.signature]
            return {DEFAULT: run_signature(function, _in_range(images, self.interface))}

    def features(self, images: Array) -> Array:
        return self.run(images)[DEFAULT]


def _in_range(images: Array, interface: ImageInterface) -> Array:
    """Returns images with intensities in [0, 1] as the module takes them."""
    low, high = interface.input_range
    return images if (low, high) == (0, 1) else images * np.float32(high - low) + np.float32(low)


@contextlib.contextmanager
def _failures_reported(verb: str, interface: ImageInterface) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise ModuleError(
            f"cannot {verb} module {interface.report.path}",
            why=f"TensorFlow {tf.__version__}: {str(error).splitlines()[0]}",
            fix="`hubexport inspect` shows what it needs; if it is damaged, build, export or fetch it again",
        ) from error
