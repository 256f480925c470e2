"""Writes the feature vectors that a module makes of images.

FILE ends in .npy, for a NumPy array of float32 with a row an image, and the names of the images go to FILE.names.txt,
one a line in the order of the rows; or in .parquet, for a table with the columns `file` and `features`.
"""

import argparse

from hubexport.cli.images import add_image_arguments
from hubexport.cli.progress import shown_progress
from hubexport.images.files import find_images

SUMMARY = "write the feature vectors that a module makes of images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `hubexport features` takes."""
    add_image_arguments(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="where they go: ….npy or ….parquet")
    parser.add_argument("--overwrite", action="store_true", help="replace what stands at FILE")


def run(args: argparse.Namespace) -> int:
    """Writes feature vectors, prints where they are, and returns 0 if any image could be read."""
    images = find_images(args.images)
    from hubexport.feature_extraction import (  # NumPy and Pillow: not worth waiting for before an error.
        extract_features,
    )

    with shown_progress() as progress:
        written = extract_features(
            args.module,
            images,
            args.output,
            batch_size=args.batch_size,
            overwrite=args.overwrite,
            progress=progress,
        )
    for path in written:
        print(path)
    return 0
