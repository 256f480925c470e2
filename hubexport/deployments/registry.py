"""The formats of deployments, and what each needs; writers are imported when they write."""

from collections.abc import Callable
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hubexport.deployments.options import DeploymentOptions, OnnxOptions, TfliteOptions

if TYPE_CHECKING:
    from hubexport.deployments.inference_model import InferenceModel
    from hubexport.progress import Progress

DeploymentFormat = Literal["onnx", "tflite"]
DEPLOYMENT_FORMATS: tuple[DeploymentFormat, ...] = get_args(DeploymentFormat)


@dataclasses.dataclass(frozen=True)
class Deployment:
    """What a format is.

    Attributes:
        title: what people call it.
        file: the name of its file in a folder of its own; for a format of several files, the one that names the others.
        suffix: what programs want the name of its file to end in; None for a format whose target is a folder.
        readers: programs that go by this suffix.
        options: what users can choose.
        extra: the packages that its writer needs; None if it needs none.
        write: writes a model to a path that does not exist: a file, or a folder. Its progress receives what is worth
            knowing of long work.
    """

    title: str
    file: str
    suffix: str | None
    readers: str
    options: type[DeploymentOptions]
    extra: str | None
    write: Callable[[Path, "InferenceModel", Any, "Progress"], None]


def _write_onnx(path: Path, model: "InferenceModel", options: OnnxOptions, progress: "Progress") -> None:
    from hubexport.deployments.onnx_model import write_onnx_model

    write_onnx_model(path, model, options)


def _write_tflite(path: Path, model: "InferenceModel", options: TfliteOptions, progress: "Progress") -> None:
    from hubexport.deployments.tflite_model import write_tflite_model

    write_tflite_model(path, model, options, progress)


# By each of `DEPLOYMENT_FORMATS`; text, so that any name can be looked up.
DEPLOYMENTS: dict[str, Deployment] = {
    "onnx": Deployment("ONNX", "model.onnx", ".onnx", "OpenCV", OnnxOptions, "onnx", _write_onnx),
    "tflite": Deployment("TFLite", "model.tflite", ".tflite", "MediaPipe", TfliteOptions, "tflite", _write_tflite),
}
