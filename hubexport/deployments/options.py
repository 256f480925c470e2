"""What a user can choose of a deployment, apart from the writers so that a command line can be parsed without NumPy."""

import dataclasses
from typing import Literal, get_args

from hubexport.errors import UsageError, check_choice

Pixels = Literal["float", "uint8"]
PIXELS: tuple[Pixels, ...] = get_args(Pixels)
Layout = Literal["nhwc", "nchw"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
# How weights are stored.
TfjsQuantization = Literal["none", "float16", "uint16", "uint8"]
TFJS_QUANTIZATIONS: tuple[TfjsQuantization, ...] = get_args(TfjsQuantization)
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
