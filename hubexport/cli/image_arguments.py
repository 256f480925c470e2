"""Arguments of the commands that run a module on images."""

import argparse
from typing import Any

from hubexport.cli.arguments import positive
from hubexport.engines import ENGINES
from hubexport.modules.interface_hints import OUTPUT_KINDS


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the module, the images and how to run the module on them."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="a module: a directory, a .tar.gz, or an http or https address on a hub server; or a deployment for ONNX, "
        "TF.js or TFLite",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="JPEG, PNG, BMP, GIF or WebP files, folders of them (with all subfolders), or patterns like "
        "'photos/**/*.jpg'",
    )
    add_run_arguments(parser, batch_size=32)


def add_run_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Adds the flags that say how to run a module on images.

    Args:
        parser: the command's parser.
        batch_size: the default batch size.
    """
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=batch_size,
        metavar="N",
        help=f"how many images to process at once (default: {batch_size})",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="what runs a module: tensorflow, or onnx for ONNX Runtime, which runs modules of hubexport and starts in "
        "a fraction of the time (default: tensorflow, or onnx if TensorFlow is not installed)",
    )
    parser.add_argument(
        "--input-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="the intensities of black and white that the module takes, like -1 1 or 0 255 (default: 0 1, as in the "
        "common signatures for images; other SavedModels, such as those of Keras, need this flag)",
    )
    parser.add_argument(
        "--output-kind",
        choices=OUTPUT_KINDS,
        help="what the module's output is (default: what the module tells; SavedModels without the common signatures "
        "for images need this flag)",
    )
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=positive,
        metavar=("HEIGHT", "WIDTH"),
        help="the size in pixels that images are resized to, for a module that takes any size (default: the size that "
        "the module was made for, if it names one)",
    )


def run_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the values of `add_run_arguments`' flags as keyword arguments of the Python functions."""
    return {
        "batch_size": args.batch_size,
        "input_range": args.input_range and tuple(args.input_range),
        "output_kind": args.output_kind,
        "image_size": args.image_size and tuple(args.image_size),
        "engine": args.engine,
    }
