"""Runs image modules in TensorFlow, in the same way for both formats and for other SavedModels that take images."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

from hubexport.arrays import Array
from hubexport.errors import ModuleError
from hubexport.modules.graph_version_report import DEFAULT
from hubexport.modules.image_interface import ImageInterface
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.modules.saved_model_interface import CALL, SavedModelInterface, saved_model_interface
from hubexport.runtime.model_input import in_range
from hubexport.runtime.tf1_graph import LoadedGraphVersion, opened_graph_version


class ImageModule(Protocol):
    """A module or a deployment that is loaded for inference."""

    @property
    def interface(self) -> ImageInterface:
        """How it is run."""

    @property
    def engine(self) -> str:
        """The program that runs it, and its version, like `TensorFlow 2.15.1`."""

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        """Applies the module.

        Args:
            images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
            outputs: `default`, or names of endpoints, or both.
        Returns:
            Float32 [batch, ...] by output.
        Raises:
            ModuleError: the engine fails, or there is no such output.
        """

    def features(self, images: Array) -> Array:
        """Returns feature vectors, float32 [batch, num_features]: the main output, unless the module has others."""


class HubModule(ImageModule, Protocol):
    """A loaded module with the interface of tensorflow_hub."""

    def values(self) -> dict[str, Array]:
        """Returns the current values of all variables, by name."""

    def run_signatures(self, images: Array) -> dict[str, dict[str, Array]]:
        """Returns all outputs of each signature, float32 [batch, ...], by the signature's name and the output's key."""

    def run_training(self, images: Array, features_from: str) -> tuple[Array, Array]:
        """Applies the module in training mode, and returns its main output and its features. No variable changes.

        Args:
            images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
            features_from: the signature (in the TF1 Hub format) or the endpoint that returns the features.
        """


def opened_image_module(
    directory: Path, shown_as: Path | str | None = None, hints: InterfaceHints = InterfaceHints()
) -> AbstractContextManager[ImageModule]:
    """Loads a SavedModel into TensorFlow, for as long as the context lasts.

    Args:
        directory: the SavedModel's directory.
        shown_as: what errors call it, if the directory is a copy of something else.
        hints: how to run it, if it is not made for tensorflow_hub.
    Raises:
        ModuleError: it is damaged, does not take images, or does not tell how to run it.
        UsageError: the hints are invalid.
    """
    return opened(saved_model_interface(directory, shown_as, hints))


def opened(interface: SavedModelInterface) -> AbstractContextManager[ImageModule]:
    """Loads a SavedModel into TensorFlow, to be run by an interface, for as long as the context lasts.

    Raises:
        ModuleError: it is damaged.
    """
    if interface.signature == CALL:
        return opened_hub_module(interface)
    with _failures_reported("load", interface):
        return contextlib.nullcontext(_ForeignModel(interface))


@contextlib.contextmanager
def opened_hub_module(
    interface: SavedModelInterface, *, optimized: bool = True, load: Callable[[str], Any] = tf.saved_model.load
) -> Iterator[HubModule]:
    """Loads a module with the interface of tensorflow_hub into TensorFlow, for as long as the context lasts.

    Args:
        interface: how the module is run.
        optimized: let sessions optimize its graphs; for functions, see `hubexport.runtime.graph_optimizer`.
        load: loads a TF2 SavedModel from its directory.
    Raises:
        ModuleError: it is damaged.
    """
    with contextlib.ExitStack() as stack:
        with _failures_reported("load", interface):
            is_tf1 = interface.report.format == "TF1 Hub module"
            module: HubModule = _Tf1Module(interface, stack, optimized) if is_tf1 else _Tf2Module(interface, load)
        yield module


_ENGINE = f"TensorFlow {tf.__version__}"


class _Tf1Module:
    engine = _ENGINE

    def __init__(self, interface: SavedModelInterface, stack: contextlib.ExitStack, optimized: bool) -> None:
        self.interface = interface
        self._stack = stack
        self._optimized = optimized
        self._graph = self._opened()
        self._training_graph: LoadedGraphVersion | None = None

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.interface):
            return self._graph.run(in_range(images, self.interface), outputs)

    def features(self, images: Array) -> Array:
        with _failures_reported("run", self.interface):
            signature = self.interface.features_from or DEFAULT
            return self._graph.run(in_range(images, self.interface), [DEFAULT], signature)[DEFAULT]

    def values(self) -> dict[str, Array]:
        return self._graph.values()

    def run_signatures(self, images: Array) -> dict[str, dict[str, Array]]:
        return self._graph.run_signatures(images)

    def run_training(self, images: Array, features_from: str) -> tuple[Array, Array]:
        if self._training_graph is None:
            self._training_graph = self._opened("train")
        # Without its update ops it moves nothing. Both outputs come from one run, and so from the same chance.
        tensors = [self._training_graph.output(name) for name in (DEFAULT, features_from)]
        default, pooled = self._training_graph.session.run(tensors, {self._training_graph.images(): images})
        return default, pooled

    def _opened(self, *tags: str) -> LoadedGraphVersion:
        version = opened_graph_version(self.interface.path, tags, optimized=self._optimized)
        return self._stack.enter_context(version)


class _Tf2Module:
    engine = _ENGINE

    def __init__(self, interface: SavedModelInterface, load: Callable[[str], Any]) -> None:
        self.interface = interface
        self._loaded = load(str(interface.path))

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.interface):
            tensor = tf.constant(in_range(images, self.interface))
            if tuple(outputs) == (DEFAULT,):
                return {DEFAULT: self._loaded(tensor).numpy()}
            results = self._loaded(tensor, return_endpoints=True)
            return {key: results[key].numpy() for key in outputs}

    def features(self, images: Array) -> Array:
        endpoint = self.interface.features_from or DEFAULT
        pooled = self.run(images, [endpoint])[endpoint]
        return pooled.reshape(len(pooled), -1)

    def values(self) -> dict[str, Array]:
        return {variable.name.removesuffix(":0"): variable.numpy() for variable in self._loaded.variables}

    def run_signatures(self, images: Array) -> dict[str, dict[str, Array]]:
        return {name: _run_signature(function, images) for name, function in self._loaded.signatures.items()}

    def run_training(self, images: Array, features_from: str) -> tuple[Array, Array]:
        before = [variable.read_value() for variable in self._loaded.variables]
        results = self._loaded(tf.constant(images), training=True, return_endpoints=True)
        for variable, value in zip(self._loaded.variables, before, strict=True):
            variable.assign(value)
        return results[DEFAULT].numpy(), results[features_from].numpy()


class _ForeignModel:
    """A SavedModel that is not made for tensorflow_hub, run by one of its signatures."""

    engine = _ENGINE

    def __init__(self, interface: SavedModelInterface) -> None:
        self.interface = interface
        # The object holds the variables: without it, its signatures do not run.
        self._loaded = tf.saved_model.load(str(interface.path), list(interface.tags))

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        with _failures_reported("run", self.interface):
            function = self._loaded.signatures[self.interface.signature]
            [output] = _run_signature(function, in_range(images, self.interface)).values()
            return {DEFAULT: output}

    def features(self, images: Array) -> Array:
        return self.run(images)[DEFAULT]


def _run_signature(function: Any, images: Array) -> dict[str, Array]:
    """Runs a signature with one input, and returns its outputs by key."""
    [argument] = function.structured_input_signature[1]
    return {key: output.numpy() for key, output in function(**{argument: tf.constant(images)}).items()}


@contextlib.contextmanager
def _failures_reported(verb: str, interface: ImageInterface) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise ModuleError(
            f"cannot {verb} module {interface.shown_as}",
            why=f"{_ENGINE}: {str(error).splitlines()[0]}",
            fix="`hubexport inspect` shows what it needs; if it is damaged, build, export or fetch it again",
        ) from error
