"""What the commands that run a module on images share."""

import argparse
from typing import Any

from hubexport.cli.arguments import positive

# Those of hubexport.modules.image_interface, which takes a while to import.
_OUTPUT_KINDS = ("logits", "probabilities", "features")


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares which module is to run on which images."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="a module: a directory, a .tar.gz, or an http or https address on a hub server",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="JPEG, PNG, BMP, GIF or WebP files, folders of them (with all subfolders), or patterns like "
        "'photos/**/*.jpg'",
    )
    parser.add_argument(
        "--batch_size", type=positive, default=32, metavar="N", help="how many images to process at once (default: 32)"
    )
    add_interface_arguments(parser)


def add_interface_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares how a module is to be run that does not tell."""
    parser.add_argument(
        "--input_range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="the intensities of black and white that the module takes, like -1 1 or 0 255 (default: 0 1, as in the "
        "common signatures for images; other SavedModels, such as those of Keras, need this flag)",
    )
    parser.add_argument(
        "--output_kind",
        choices=_OUTPUT_KINDS,
        help="what the module's output is (default: what the module tells; SavedModels without the common signatures "
        "for images need this flag)",
    )


def interface_of(args: argparse.Namespace) -> dict[str, Any]:
    """Returns what `add_interface_arguments` declared, as the functions take it."""
    return {"input_range": args.input_range and tuple(args.input_range), "output_kind": args.output_kind}
