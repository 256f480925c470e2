"""What the commands that run a module on images share."""

import argparse

from hubexport.cli.arguments import positive


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares which module is to run on which images."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="a module's directory, a packed one (.tar.gz), or its http or https address on a hub server",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="JPEG, PNG, BMP, GIF and WebP files, folders with such (also in subfolders), or patterns like "
        "'photos/**/*.jpg'",
    )
    parser.add_argument(
        "--batch_size", type=positive, default=32, metavar="N", help="how many images to compute at once (default: 32)"
    )
