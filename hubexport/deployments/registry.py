"""The formats of deployments, and what each needs; writers are imported when they write."""

from collections.abc import Callable, Mapping
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from hubexport.deployments.options import DeploymentOptions, OnnxOptions, Pixels, TfjsOptions, TfliteOptions

if TYPE_CHECKING:
    from hubexport.deployments.inference_model import InferenceModel
    from hubexport.deployments.report import DeploymentReport
    from hubexport.progress import Progress

DeploymentFormat = Literal["onnx", "tfjs", "tflite"]
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
        packages: those whose versions may change its bytes.
        pixels: the dtype of images, in NumPy's words, by the option.
        write: writes a model to a path that does not exist: a file, or a folder. Its progress receives what is worth
            knowing of long work.
        recognizes: tells by the content of a file or folder whether it is one of this format, damaged or not. Raises
            OSError if it cannot be read.
        report: describes such a file or folder, whoever wrote it. Raises ModuleError if it is damaged.
    """

    title: str
    file: str
    suffix: str | None
    readers: str
    options: type[DeploymentOptions]
    extra: str | None
    packages: tuple[str, ...]
    pixels: Mapping[Pixels, str]
    write: Callable[[Path, "InferenceModel", Any, "Progress"], None]
    recognizes: Callable[[Path], bool]
    report: Callable[[Path], "DeploymentReport"]


def _write_onnx(path: Path, model: "InferenceModel", options: OnnxOptions, progress: "Progress") -> None:
    from hubexport.deployments.onnx_model import write_onnx_model

    write_onnx_model(path, model, options)


def _write_tflite(path: Path, model: "InferenceModel", options: TfliteOptions, progress: "Progress") -> None:
    from hubexport.deployments.tflite_model import write_tflite_model

    write_tflite_model(path, model, options, progress)


def _is_onnx(path: Path) -> bool:
    from hubexport.deployments.onnx_report import is_onnx

    return is_onnx(path)


def _onnx_report(path: Path) -> "DeploymentReport":
    from hubexport.deployments.onnx_report import onnx_report

    return onnx_report(path)


def _write_tfjs(path: Path, model: "InferenceModel", options: TfjsOptions, progress: "Progress") -> None:
    from hubexport.deployments.tfjs_model import write_tfjs_model

    write_tfjs_model(path, model, options)


def _is_tfjs(path: Path) -> bool:
    from hubexport.deployments.tfjs_files import is_tfjs_model

    return is_tfjs_model(path)


def _tfjs_report(path: Path) -> "DeploymentReport":
    from hubexport.deployments.tfjs_report import tfjs_report

    return tfjs_report(path)


def _is_tflite(path: Path) -> bool:
    from hubexport.deployments.tflite_report import is_tflite

    return is_tflite(path)


def _tflite_report(path: Path) -> "DeploymentReport":
    from hubexport.deployments.tflite_report import tflite_report

    return tflite_report(path)


# By each of `DEPLOYMENT_FORMATS`; text, so that any name can be looked up.
DEPLOYMENTS: dict[str, Deployment] = {
    "onnx": Deployment(
        title="ONNX",
        file="model.onnx",
        suffix=".onnx",
        readers="OpenCV",
        options=OnnxOptions,
        extra="onnx",
        packages=("onnx",),
        pixels={"float": "float32", "uint8": "uint8"},
        write=_write_onnx,
        recognizes=_is_onnx,
        report=_onnx_report,
    ),
    "tfjs": Deployment(
        title="TF.js",
        file="model.json",
        suffix=None,
        readers="TF.js",
        options=TfjsOptions,
        extra=None,
        packages=(),
        pixels={"float": "float32", "uint8": "uint8"},
        write=_write_tfjs,
        recognizes=_is_tfjs,
        report=_tfjs_report,
    ),
    "tflite": Deployment(
        title="TFLite",
        file="model.tflite",
        suffix=".tflite",
        readers="MediaPipe",
        options=TfliteOptions,
        extra="tflite",
        packages=("flatbuffers", "tflite"),
        pixels={"float": "float32", "uint8": "uint8"},
        write=_write_tflite,
        recognizes=_is_tflite,
        report=_tflite_report,
    ),
}


def deployment_in(directory: Path) -> str | None:
    """Returns the format of the deployment in a folder; None if there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    return next((name for name, one in DEPLOYMENTS.items() if (directory / one.file).is_file()), None)


def deployment_at(path: Path) -> tuple[Deployment, Path] | None:
    """Returns the format of what is at a path, and its file or folder; None if it is not a deployment.

    Args:
        path: a deployment's file or folder, or the folder of its own that it was written into.
    Raises:
        OSError: it cannot be read.
    """
    if (name := deployment_in(path)) is not None:
        path /= DEPLOYMENTS[name].file
    format_ = next((one for one in DEPLOYMENTS.values() if one.recognizes(path)), None)
    return (format_, path) if format_ else None
