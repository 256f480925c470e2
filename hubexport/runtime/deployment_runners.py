"""Opens deployments in the runtimes of their formats."""

from collections.abc import Iterator, Sequence
import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from hubexport.arrays import Array


class _Onnx:
    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_outputs()]
        self._nchw = self._session.get_modelmeta().custom_metadata_map.get("input_layout") == "nchw"
        self._uint8 = self._session.get_inputs()[0].type == "tensor(uint8)"

    def run(self, images: Array, outputs: Sequence[str] = ("default",)) -> dict[str, Array]:
        """Applies it."""
        given: Any = images.transpose(0, 3, 1, 2) if self._nchw else images
        if self._uint8:
            given = np.round(given * 255).astype(np.uint8)
        names = [self._names[0] if name == "default" else name for name in outputs]
        found = self._session.run(names, {"images": given})
        return {
            name: value.transpose(0, 2, 3, 1) if self._nchw and value.ndim == 4 else value
            for name, value in zip(outputs, found, strict=True)
        }


@contextlib.contextmanager
def opened_deployment(path: Path) -> Iterator[Any]:
    """Opens an ONNX model."""
    yield _Onnx(path)
