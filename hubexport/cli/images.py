"""What the commands that run a module on images share."""

import argparse

from hubexport.cli.arguments import positive


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
