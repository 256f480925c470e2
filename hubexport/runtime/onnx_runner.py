"""Runs ONNX models on images in ONNX Runtime, without TensorFlow."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import onnxruntime

from hubexport.arrays import Array
from hubexport.deployments.options import Layout
from hubexport.errors import ModuleError
from hubexport.modules.deployment_interface import DeploymentInterface
from hubexport.modules.graph_version_report import DEFAULT
from hubexport.modules.image_interface import ImageInterface
from hubexport.runtime.model_input import as_input, channels_last, in_batches

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

_ERRORS_ALONE = 3


class OnnxModule:
    """An ONNX model that is loaded for inference; an `ImageModule`.

    Args:
        interface: how it is run.
        model: its file, or its bytes.
        outputs: the names of its outputs by those that callers use: `default`, and others.
        prepared: gives images as the model takes them.
        layout: the axes of its endpoints.
        batch: how many images it takes at once; None for any number.
    Raises:
        ModuleError: ONNX Runtime refuses it.
    """

    engine = f"ONNX Runtime {onnxruntime.__version__}"

    def __init__(
        self,
        interface: ImageInterface,
        model: Path | bytes,
        outputs: Mapping[str, str],
        prepared: Callable[[Array], npt.NDArray[Any]],
        layout: Layout = "nhwc",
        batch: int | None = None,
    ) -> None:
        self.interface = interface
        self._outputs = outputs
        self._prepared = prepared
        self._layout = layout
        self._batch = batch
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ALONE
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # Its exceptions have no other base.
            raise self._error("load", error) from error
        self._images = self._session.get_inputs()[0].name

    def run(self, images: Array, outputs: Sequence[str] = (DEFAULT,)) -> dict[str, Array]:
        for output in outputs:
            if output not in self._outputs:
                raise ModuleError(
                    f"{self.interface.shown_as} has no output {output}",
                    why=f"in ONNX Runtime it gives {', '.join(self._outputs)}",
                    fix="use one of these, or run a module in TensorFlow",
                )
        return in_batches(self._prepared(images), self._batch, functools.partial(self._run, outputs))

    def features(self, images: Array) -> Array:
        output = self.interface.features_from or DEFAULT
        features = self.run(images, [output])[output]
        return features.reshape(len(features), -1)

    def _run(self, outputs: Sequence[str], images: npt.NDArray[Any]) -> dict[str, Array]:
        names = [self._outputs[output] for output in outputs]
        try:
            found = self._session.run(names, {self._images: images})
        except Exception as error:
            raise self._error("run", error) from error
        return {key: channels_last(value, self._layout) for key, value in zip(outputs, found, strict=True)}

    def _error(self, verb: str, error: Exception) -> ModuleError:
        return ModuleError(
            f"cannot {verb} {self.interface.shown_as}",
            why=f"{self.engine}: {' '.join(str(error).split()) or type(error).__name__}",
            fix="`hubexport inspect` shows what is in it; if it is damaged, convert, export or fetch it again",
        )


def opened_onnx(interface: DeploymentInterface) -> "AbstractContextManager[ImageModule]":
    """Loads an ONNX file into ONNX Runtime.

    Raises:
        ModuleError: ONNX Runtime refuses it.
    """
    outputs = {DEFAULT: interface.output} | {one.name: one.name for one in interface.report.outputs}
    prepared = functools.partial(as_input, interface=interface)
    return nullcontext(OnnxModule(interface, interface.path, outputs, prepared, interface.layout, interface.batch))
