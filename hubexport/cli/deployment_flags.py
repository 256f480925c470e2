"""The flags of deployments, which `convert` and other commands share."""

import argparse
from collections.abc import Sequence
import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from hubexport.cli.arguments import add_list
from hubexport.deployments.options import (
    DEFAULT_OPSET,
    LAYOUTS,
    OLDEST_OPSET,
    PIXELS,
    TFJS_QUANTIZATIONS,
    TFLITE_QUANTIZATIONS,
    DeploymentOptions,
    TfliteOptions,
)
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.errors import UsageError, either
from hubexport.extras import require_extras

if TYPE_CHECKING:
    from hubexport.deployment_spec import DeploymentRequest

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
    _add_options(parser.add_argument_group("whole models"))


def _add_options(group: argparse._ArgumentGroup) -> None:
    add_list(
        group, "--outputs", metavar="KEY", help="give these intermediate results as well; all stands for each of them"
    )
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
        # Each format has some of these, and refuses the others.
        choices=tuple(dict.fromkeys((*TFJS_QUANTIZATIONS, *TFLITE_QUANTIZATIONS))),
        help="for tfjs and tflite: store weights in fewer bytes; tflite also computes with integers, where the "
        "interpreter can (dynamic), or everywhere (int8, with --calibration) (default: none)",
    )
    group.add_argument(
        "--calibration",
        metavar="DIR",
        help="for --quantize int8: a folder of some 100 photographs like those of later use, which tell the ranges of "
        "intermediate results",
    )


def add_deployment(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds the flag that asks for deployments, and those of their options.

    Args:
        parser: of a command that makes modules.
        what: what the flag does, for its help.
    """
    group = parser.add_argument_group("deployments")
    add_list(group, "--deployment", metavar="FORMAT", help=f"{what}: {', '.join(DEPLOYMENTS)}")
    _add_options(group)


def requested_deployments(args: argparse.Namespace, command: str) -> "tuple[DeploymentRequest, ...]":
    """Returns the deployments that the command line asks for.

    Args:
        args: the parsed command line.
        command: what errors call the command.
    Raises:
        MissingExtraError: packages that a format needs are missing.
        UsageError: there is no such format, option or choice.
    """
    from hubexport.deployment_spec import deployment_requests

    given = [_FLAGS[name] for name in _given(args)] + ["--outputs"] * bool(outputs_of(args))
    if given and not args.deployment:
        raise UsageError(
            f"{given[0]} needs --deployment",
            why="it says how to write a deployment, and modules have no such choice",
            fix=f"add --deployment {' or '.join(DEPLOYMENTS)}, or leave out {given[0]}",
        )
    requests = deployment_requests(args.deployment, _choices(args), outputs_of(args))
    for request in requests:
        _check_calibration(request.options)
    for extra in sorted({extra for one in requests if (extra := DEPLOYMENTS[one.format].extra)}):
        require_extras(f"{command} --deployment", extra)
    return requests


def _choices(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the options that the command line gives, by name, whatever formats have them.

    Raises:
        MissingExtraError: packages that calibration needs are missing.
    """
    chosen = {name: getattr(args, name) for name in _given(args)}
    if "calibration" in chosen:
        require_extras("--calibration", "tensorflow")
        from hubexport.images.calibration import Calibration

        chosen["calibration"] = Calibration(chosen["calibration"])
    return chosen


def _check_calibration(options: DeploymentOptions) -> None:
    """Fails if there are no photographs, before modules are built.

    Raises:
        ImageError: there are none, or one cannot be read.
    """
    if isinstance(options, TfliteOptions) and options.calibration is not None:
        options.calibration.record()


def _given(args: argparse.Namespace) -> list[str]:
    return [name for name in _FLAGS if getattr(args, name) is not None]


def outputs_of(args: argparse.Namespace) -> Sequence[str] | Literal["all"]:
    """Returns the keys of the intermediate results that the command line asks for, or `all`."""
    return "all" if "all" in args.outputs else args.outputs


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
    options = DEPLOYMENTS[to].options if to in DEPLOYMENTS else None
    for name in _given(args):
        if options is None or name not in _option_names(options):
            having = [one for one, format_ in DEPLOYMENTS.items() if name in _option_names(format_.options)]
            raise UsageError(
                f"{command} takes no {_FLAGS[name]}",
                why=f"only {either(having)} has this option",
                fix=f"leave {_FLAGS[name]} out",
            )
    if options is None:
        return None
    chosen = options(**_choices(args))
    _check_calibration(chosen)
    return chosen


def _option_names(options: type[DeploymentOptions]) -> set[str]:
    return {field.name for field in dataclasses.fields(options)}
