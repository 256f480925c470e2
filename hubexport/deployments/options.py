"""What a user can choose of a deployment, apart from the writers so that a command line can be parsed without NumPy."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Literal, Protocol, get_args

from hubexport.errors import UsageError, check_choice
from hubexport.progress import Progress

Pixels = Literal["float", "uint8"]
PIXELS: tuple[Pixels, ...] = get_args(Pixels)
Layout = Literal["nhwc", "nchw"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
# How weights are stored.
TfjsQuantization = Literal["none", "float16", "uint16", "uint8"]
TFJS_QUANTIZATIONS: tuple[TfjsQuantization, ...] = get_args(TfjsQuantization)
TfliteQuantization = Literal["none", "float16", "dynamic", "int8"]
TFLITE_QUANTIZATIONS: tuple[TfliteQuantization, ...] = get_args(TfliteQuantization)
# The first one in which all ops take the inputs and attributes that the writer gives them.
OLDEST_OPSET = 13
DEFAULT_OPSET = 17


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """How to write a model of any deployment format.

    Attributes:
        pixels: of the images: `float` is float32 in [0, 1], `uint8` is 0 to 255.
        softmax: give the probabilities of the classes instead of the logits.
    """

    pixels: Pixels = "float"
    softmax: bool = False

    @property
    def suffix(self) -> str:
        """What tells deployments of one module and format apart, in their names: like `-float16`, or nothing."""
        return ""

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose versions may change the bytes, besides those of the format itself."""
        return ()

    @property
    def missing(self) -> str | None:
        """What a model cannot be written again without, in the plural, as part of a sentence; None for nothing."""
        return None

    def without_calibration(self) -> "DeploymentOptions":
        """Returns what can be written without photographs, with the same values before they are rounded."""
        return self

    def as_json(self) -> dict[str, Any]:
        """Returns all choices, as values that JSON has."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> "DeploymentOptions":
        """Returns what `as_json` described.

        Raises:
            UsageError: there is no such choice.
        """
        return cls(**document)

    def __post_init__(self) -> None:
        """Checks the choices.

        Raises:
            UsageError: there is no such choice.
        """
        check_choice("input", self.pixels, PIXELS)

    def check_writable(self) -> None:
        """Checks what only the packages of the writer can tell.

        Raises:
            UsageError: the packages that are installed cannot write it.
        """


def no_probabilities_error() -> UsageError:
    """Returns the error for the probabilities of a network without a classifier."""
    return UsageError(
        "cannot write probabilities",
        why="the network has no classifier",
        fix="leave the softmax out, or use a network with a classifier",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnnxOptions(DeploymentOptions):
    """How to write an ONNX model; see also `DeploymentOptions`.

    Attributes:
        opset: the version of ONNX's standard operators, at least 13.
        layout: the axes of images, and of intermediate results: `nhwc` is [batch, height, width, channels], `nchw`
            [batch, channels, height, width].
    """

    opset: int = DEFAULT_OPSET
    layout: Layout = "nhwc"

    def __post_init__(self) -> None:
        """Checks the choices.

        Raises:
            UsageError: there is no such choice.
        """
        super().__post_init__()
        check_choice("layout", self.layout, LAYOUTS)
        if not isinstance(self.opset, int) or self.opset < OLDEST_OPSET:
            raise UsageError(
                f"cannot write ONNX models of opset {self.opset}",
                why="older opsets have other ops",
                fix=f"use an opset from {OLDEST_OPSET}; ONNX Runtime reads {DEFAULT_OPSET} from version 1.12 on",
            )

    def check_writable(self) -> None:
        """Checks that the installed onnx knows the opset.

        Raises:
            UsageError: it does not.
        """
        import onnx

        newest = onnx.defs.onnx_opset_version()
        if self.opset > newest:
            raise UsageError(
                f"cannot write ONNX models of opset {self.opset}",
                why=f"the newest one that the installed onnx {onnx.__version__} knows is {newest}",
                fix=f"use an opset up to {newest}, or upgrade onnx",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfjsOptions(DeploymentOptions):
    """How to write a graph model of TF.js; see also `DeploymentOptions`.

    Attributes:
        quantize: how weights are stored. TF.js computes in float32 whatever they are: `none` is float32, `float16` and
            `uint16` take half of the bytes, `uint8` a quarter.
    """

    quantize: TfjsQuantization = "none"

    @property
    def suffix(self) -> str:
        return "" if self.quantize == "none" else f"-{self.quantize}"

    def __post_init__(self) -> None:
        """Checks the choices.

        Raises:
            UsageError: there is no such choice.
        """
        super().__post_init__()
        check_choice("quantization of TF.js models", self.quantize, TFJS_QUANTIZATIONS)


class Calibration(Protocol):
    """Finds out which values a network computes, and quantizes it by them; see `hubexport.images.calibration`."""

    def quantized(
        self, content: bytes, *, image_size: tuple[int, int], pixels: Pixels, outputs: Sequence[str], progress: Progress
    ) -> bytes:
        """Quantizes a TFLite model to int8.

        Args:
            content: the file of a float32 model. Its images are float32, with intensities as in `pixels`.
            image_size: height and width of the images to calibrate with, in pixels.
            pixels: of the quantized model's images; its outputs are float32.
            outputs: the names of the outputs.
            progress: receives the steps, and the ranges of the outputs.
        Returns:
            The file of the quantized model.
        """

    def record(self) -> "CalibrationRecord":
        """Returns what identifies the images, wherever they are."""


@dataclasses.dataclass(frozen=True)
class CalibrationRecord:
    """What a manifest says of a calibration; the images are elsewhere.

    Attributes:
        images: how many there were.
        sha256: of the SHA-256 of each, in order.
    """

    images: int
    sha256: str

    def quantized(
        self, content: bytes, *, image_size: tuple[int, int], pixels: Pixels, outputs: Sequence[str], progress: Progress
    ) -> bytes:
        """Refuses to quantize anything.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "cannot quantize to int8 again",
            why=f"the {self.images:,} photographs that it was calibrated with are not there",
            fix="pass them as --calibration to a new build",
        )

    def record(self) -> "CalibrationRecord":
        """Returns itself."""
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfliteOptions(DeploymentOptions):
    """How to write a TFLite model; see also `DeploymentOptions`.

    Attributes:
        quantize: `float16` stores weights in half the bytes. `dynamic` stores them as int8, and computes with int8
            where the interpreter can. `int8` does so with everything between the model's input and its outputs, which
            takes a calibration. `none` stores float32.
        calibration: for `int8`: how to find out the ranges of intermediate results, like
            `hubexport.Calibration("photographs")`.
    """

    quantize: TfliteQuantization = "none"
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        """Checks the choices.

        Raises:
            UsageError: there is no such choice, or choices do not go together.
        """
        super().__post_init__()
        check_choice("quantization", self.quantize, TFLITE_QUANTIZATIONS)
        if self.quantize == "int8" and self.calibration is None:
            raise UsageError(
                "quantization to int8 needs photographs to calibrate with",
                why="the range of each intermediate result has to be known, and images tell it",
                fix="pass a folder of some 100 photographs like those of later use with --calibration (in Python "
                "calibration=hubexport.Calibration(folder)), or choose dynamic, which needs none",
            )
        if self.quantize != "int8" and self.calibration is not None:
            raise UsageError(
                f"quantization {self.quantize} takes no calibration",
                why="only int8 depends on the ranges of intermediate results",
                fix="leave the calibration out, or choose int8",
            )

    @property
    def suffix(self) -> str:
        """What tells deployments of one module apart, in their names."""
        return "" if self.quantize == "none" else f"-{self.quantize}"

    @property
    def packages(self) -> tuple[str, ...]:
        """TensorFlow's own quantizer makes integers."""
        return ("tensorflow",) if self.quantize == "int8" else ()

    @property
    def missing(self) -> str | None:
        """The photographs of a calibration that a manifest tells of."""
        record = self.calibration
        return f"{record.images:,} photographs" if isinstance(record, CalibrationRecord) else None

    def without_calibration(self) -> "TfliteOptions":
        """Returns these options for floats, if they are for int8."""
        return self if self.calibration is None else dataclasses.replace(self, quantize="none", calibration=None)

    def as_json(self) -> dict[str, Any]:
        """Returns all choices; the images of a calibration are those of any folder."""
        record = self.calibration and dataclasses.asdict(self.calibration.record())
        fields = dataclasses.asdict(dataclasses.replace(self, quantize="none", calibration=None))
        return fields | {"quantize": self.quantize, "calibration": record}

    @classmethod
    def of_json(cls, document: Mapping[str, Any]) -> "TfliteOptions":
        """Returns what `as_json` described, with a calibration that knows its images no more."""
        record = document["calibration"] and CalibrationRecord(**document["calibration"])
        return cls(**{**document, "calibration": record})
