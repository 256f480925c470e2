"""Runs TFLite models on images, in LiteRT or else in TensorFlow's own interpreter."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
import functools
import importlib.metadata
import importlib.util
import os
from typing import TYPE_CHECKING, Any
import warnings

import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.errors import MissingExtraError, ModuleError
from hubexport.modules.deployment_interface import DeploymentInterface
from hubexport.modules.graph_version_report import DEFAULT
from hubexport.progress import stderr_hidden, tensorflow_hushed
from hubexport.runtime.model_input import as_input, channels_last, in_batches

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


class TfliteModule:
    """A TFLite model that is loaded for inference; an `ImageModule`.

    Args:
        interface: how it is run.
    Raises:
        MissingExtraError: there is no interpreter.
        ModuleError: the interpreter refuses the model.
    """

    def __init__(self, interface: DeploymentInterface) -> None:
        self.interface: DeploymentInterface = interface
        make, self.engine = _interpreter()
        try:
            # It tells of XNNPACK, once.
            with stderr_hidden(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._interpreter = make(model_path=str(interface.path), num_threads=os.cpu_count())
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise self._error("load", error) from error
        self._has_steps = interface.output_kind == "probabilities" and any(
            one.quantization for one in interface.report.outputs if one.name == interface.output
        )
        [self._images] = self._interpreter.get_input_details()
        names = [output.name for output in interface.report.outputs]
        self._outputs = dict(zip(names, self._interpreter.get_output_details(), strict=True))

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        names = {key: self.interface.output if key == DEFAULT else key for key in outputs}
        for name in names.values():
            if name not in self._outputs:
                raise ModuleError(
                    f"{self.interface.shown_as} has no output {name}",
                    why=f"it gives {', '.join(self._outputs)}",
                    fix="use one of these",
                )
        given = _quantized(as_input(images, self.interface), self._images)
        found = in_batches(given, self.interface.batch, functools.partial(self._run, [*names.values()]))
        if self._has_steps and self.interface.output in found:
            # The steps of integers are large: their probabilities need not sum to 1.
            found[self.interface.output] /= found[self.interface.output].sum(axis=-1, keepdims=True)
        return {key: channels_last(found[name], self.interface.layout) for key, name in names.items()}

    def features(self, images: Array) -> Array:
        output = self.interface.features_from or DEFAULT
        features = self.run(images, [output])[output]
        return features.reshape(len(features), -1)

    def _run(self, names: Sequence[str], images: npt.NDArray[Any]) -> dict[str, Array]:
        index = self._images["index"]
        try:
            if self._interpreter.get_input_details()[0]["shape"].tolist() != list(images.shape):
                self._interpreter.resize_tensor_input(index, images.shape)
                self._interpreter.allocate_tensors()
            self._interpreter.set_tensor(index, images)
            self._interpreter.invoke()
            tensors = {name: self._interpreter.get_tensor(self._outputs[name]["index"]) for name in names}
        except (RuntimeError, ValueError) as error:
            raise self._error("run", error) from error
        return {name: _floats(tensor, self._outputs[name]) for name, tensor in tensors.items()}

    def _error(self, verb: str, error: Exception) -> ModuleError:
        return ModuleError(
            f"cannot {verb} {self.interface.shown_as}",
            why=f"{self.engine}: {' '.join(str(error).split()) or type(error).__name__}",
            fix="`hubexport inspect` shows what is in it; if it is damaged, convert, export or fetch it again",
        )


def opened_tflite(interface: DeploymentInterface) -> "AbstractContextManager[ImageModule]":
    """Loads a TFLite file into LiteRT, or into TensorFlow's interpreter if LiteRT is not installed.

    Raises:
        MissingExtraError: neither is installed.
        ModuleError: the interpreter refuses it.
    """
    return nullcontext(TfliteModule(interface))


def _interpreter() -> tuple[Callable[..., Any], str]:
    """Returns the class of the interpreter, and what it is called."""
    if importlib.util.find_spec("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
    if not importlib.util.find_spec("tensorflow"):
        raise MissingExtraError(
            "running TFLite models needs LiteRT or TensorFlow",
            why="not installed: ai_edge_litert, tensorflow",
            fix="run pip install ai-edge-litert",
        )
    with tensorflow_hushed():
        import tensorflow as tf

    return tf.lite.Interpreter, f"TensorFlow Lite {tf.__version__}"


def _quantized(images: npt.NDArray[Any], details: Any) -> npt.NDArray[Any]:
    """Returns floats as the integers that an input takes in their place."""
    dtype, (scale, zero) = details["dtype"], details["quantization"]
    if images.dtype == dtype or not scale:
        return images
    limits = np.iinfo(dtype)
    return np.clip(np.rint(images / scale + zero), limits.min, limits.max).astype(dtype)


def _floats(tensor: npt.NDArray[Any], details: Any) -> Array:
    """Returns an output as the floats that its integers stand for."""
    scale, zero = details["quantization"]
    if not scale or np.issubdtype(tensor.dtype, np.floating):
        return tensor
    return (tensor.astype(np.float32) - zero) * np.float32(scale)
