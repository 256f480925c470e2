"""Computes the feature vectors of images and writes them to FILE.

A FILE that ends in .npy becomes a float32 NumPy array with one row per image; FILE.names.txt lists the images' names in
the same order. A FILE that ends in .parquet becomes a table with the columns `file` and `features`.
"""

import argparse

from hubexport.cli.arguments import add_quiet
from hubexport.cli.image_arguments import add_image_arguments, run_arguments
from hubexport.cli.progress_display import shown_progress
from hubexport.engines import usable_engine
from hubexport.images.image_files import find_images

SUMMARY = "compute feature vectors of images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport features`."""
    add_image_arguments(parser)
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the file to write: ….npy or ….parquet")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Writes feature vectors, prints the paths of the files, and returns the exit status."""
    usable_engine(args.engine, "hubexport features", *(["parquet"] if args.output.endswith(".parquet") else []))
    images = find_images(args.images)
    from hubexport.images.feature_extraction import extract_features  # Imports NumPy, which errors need not wait for.

    with shown_progress(args.quiet) as progress:
        written = extract_features(
            args.module,
            images,
            args.output,
            **run_arguments(args),
            overwrite=args.overwrite,
            progress=progress,
        )
    for path in written:
        print(path)
    return 0
