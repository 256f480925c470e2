"""The flags of deployments, which `convert` and other commands share."""

import argparse
import dataclasses

from hubexport.deployments.options import (
    DEFAULT_OPSET,
    LAYOUTS,
    OLDEST_OPSET,
    PIXELS,
    TFLITE_QUANTIZATIONS,
    DeploymentOptions,
)
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.errors import UsageError
from hubexport.extras import require_extras

_FLAGS = {
    "opset": "--opset",
    "layout": "--layout",
    "pixels": "--input",
    "softmax": "--softmax",
    "quantize": "--quantize",
    "calibration": "--calibration",
}


def add_deployment_flags(parser: argparse.ArgumentParser) -> None:
    """Adds a flag for each option of each format."""
    group = parser.add_argument_group("deployments")
    group.add_argument(
        "--input",
        dest="pixels",
        choices=PIXELS,
        help="take images as float32 in [0, 1], or as uint8 from 0 to 255 (default: float)",
    )
    group.add_argument(
        "--softmax",
        action="store_true",
        default=None,
        help="give the probabilities of the classes instead of the logits",
    )
    group.add_argument(
        "--opset",
        type=int,
        metavar="N",
        help=f"for onnx: the version of ONNX's operators, {OLDEST_OPSET} or newer (default: {DEFAULT_OPSET})",
    )
    group.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="for onnx: the axes of images and endpoints, [batch, height, width, channels] or [batch, channels, "
        "height, width] (default: nhwc)",
    )
    group.add_argument(
        "--quantize",
        choices=TFLITE_QUANTIZATIONS,
        help="for tflite: store weights as float16, or as int8 and compute with these where the interpreter can "
        "(dynamic), or compute with int8 alone (int8, with --calibration) (default: none)",
    )
    group.add_argument(
        "--calibration",
        metavar="IMAGES",
        help="for --quantize int8: a folder of some 100 photographs like those of later use, which tell the ranges of "
        "intermediate results",
    )


def chosen_options(args: argparse.Namespace, command: str, to: str) -> DeploymentOptions | None:
    """Returns the options of a format that the command line gives; None for what is no deployment.

    Args:
        args: the parsed command line.
        command: what errors call the command, like `convert --to onnx`.
        to: the format.
    Raises:
        UsageError: the format has no such option, or the option has no such choice.
        MissingExtraError: packages that calibration needs are missing.
    """
    chosen = {name: getattr(args, name) for name in _FLAGS if getattr(args, name) is not None}
    options = DEPLOYMENTS[to].options if to in DEPLOYMENTS else None
    for name in chosen:
        if options is None or name not in _option_names(options):
            having = [one for one, format_ in DEPLOYMENTS.items() if name in _option_names(format_.options)]
            raise UsageError(
                f"{command} takes no {_FLAGS[name]}",
                why=f"only {' and '.join(having)} {'have' if len(having) > 1 else 'has'} this option",
                fix=f"leave {_FLAGS[name]} out",
            )
    if "calibration" in chosen:
        require_extras(f"{command} --calibration", "tensorflow")
        from hubexport.images.calibration import Calibration

        chosen["calibration"] = Calibration(chosen["calibration"])
    return options(**chosen) if options else None


def _option_names(options: type[DeploymentOptions]) -> set[str]:
    return {field.name for field in dataclasses.fields(options)}
