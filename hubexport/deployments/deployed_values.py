"""The numbers that deployments hold, whoever wrote them: float32, by the names of the constants."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hubexport.arrays import Array
from hubexport.errors import ModuleError
from hubexport.system.damage import DamageError
from hubexport.system.proto_wire import PartOfFile
from hubexport.system.regular_files import open_regular_file

# What TFLite's writers append to the name of a value in float16, which an operator makes float32.
_HALF = "/float16"


def deployed_values(format_: str, path: Path) -> dict[str, Array]:
    """Reads the numbers of a deployment; integers that stand for others become those. All are in memory at once.

    Args:
        format_: its name in `DEPLOYMENTS`.
        path: its file, or a folder with the files of TF.js.
    Raises:
        MissingExtraError: a package that its reader needs is missing.
        ModuleError: it is damaged, or cannot be read.
    """
    try:
        return dict(_READERS[format_](path))
    except (DamageError, ValueError) as error:
        raise ModuleError(
            f"cannot read the values of {path}", why=str(error), fix="convert, export or fetch it again"
        ) from error
    except OSError as error:
        raise ModuleError(
            f"cannot read {path}", why=error.strerror or str(error), fix="use a file that you may read"
        ) from error


def _onnx_values(path: Path) -> Iterator[tuple[str, Array]]:
    from hubexport.deployments.onnx_file import read_onnx

    with open_regular_file(path) as file:
        data = PartOfFile(file, 0, path.stat().st_size)
        for tensor in read_onnx(data).graph.tensors:
            if tensor.dtype == "float32" and tensor.raw is not None:
                content = bytes(data[tensor.raw.start : tensor.raw.stop])
                yield tensor.name, np.frombuffer(content, "<f4").reshape(tensor.shape)


def _tfjs_values(path: Path) -> Iterator[tuple[str, Array]]:
    from hubexport.deployments.tfjs_files import read_tfjs_model

    model = read_tfjs_model(path)
    for weight in model.weights:
        if weight.dtype == "float32":
            yield weight.name, model.values(weight)


def _tflite_values(path: Path) -> Iterator[tuple[str, Array]]:
    from hubexport.extras import require_extras

    require_extras("reading TFLite models", "tflite")
    from hubexport.deployments.tflite_file import read_tflite

    with open_regular_file(path) as file:
        data = PartOfFile(file, 0, path.stat().st_size)
        for tensor in read_tflite(data).graphs[0].tensors:
            if tensor.data is None or not (tensor.dtype in ("float32", "float16") or tensor.scales.size):
                continue
            start, length = tensor.data
            shape = [length or 0 for length in tensor.shape]
            numbers = np.frombuffer(bytes(data[start : start + length]), tensor.dtype).reshape(shape)
            if tensor.scales.size:
                several = tensor.scales.size > 1
                places = [-1 if several and axis == tensor.axis else 1 for axis in range(len(shape))]
                zeros = tensor.zero_points.reshape(places) if tensor.zero_points.size else 0
                numbers = (numbers.astype(np.float64) - zeros) * tensor.scales.reshape(places)
            yield tensor.name.removesuffix(_HALF), numbers.astype(np.float32)


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Array]]]] = {
    "onnx": _onnx_values,
    "tfjs": _tfjs_values,
    "tflite": _tflite_values,
}
