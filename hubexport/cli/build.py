"""Builds modules of one variant from a checkpoint, and prints their paths."""

import argparse

from hubexport.cli.progress import shown_progress

SUMMARY = "build modules of a variant"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `hubexport build` takes."""
    parser.add_argument("--variant", required=True, metavar="NAME", help="which; `hubexport list` lists them")
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="KIND[/VERSION]",
        help="feature_vector or classification, in version 1, 2 or 3; may be given several times "
        "(default: all of the variant's config)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="a published archive (.tgz), a directory with one checkpoint, a prefix like model.ckpt, or "
        "synthetic[:SEED] for made-up weights (default: download the archive that the config names)",
    )
    parser.add_argument(
        "--weights",
        choices=("averaged", "raw"),
        default="averaged",
        help="the moving averages of the trained values, with which the published accuracy was measured, or the "
        "plain values (default: averaged)",
    )
    parser.add_argument(
        "--output_dir",
        default="modules",
        metavar="DIR",
        help="modules go to DIR/google/imagenet/NAME/KIND/VERSION (default: modules)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace modules that stand there already")
    add_config_dir(parser)


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Declares where to look for configs beside the built-in ones."""
    parser.add_argument("--config_dir", metavar="DIR", help="a folder with YAML files of your own variants")


def run(args: argparse.Namespace) -> None:
    """Builds, and prints one path a module."""
    from hubexport.config_files import load_variant

    variant = load_variant(args.variant, args.config_dir)
    modules = variant.select_modules(args.module)
    from hubexport.build import build_modules  # NumPy and the messages: not worth waiting for before an error.

    with shown_progress() as progress:
        paths = build_modules(
            variant,
            modules,
            checkpoint=args.checkpoint,
            weights=args.weights,
            output_dir=args.output_dir,
            overwrite=args.overwrite,
            progress=progress,
        )
    for path in paths:
        print(path)
