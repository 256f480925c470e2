"""Builds modules from checkpoints and prints their paths."""

import argparse
from collections.abc import Sequence
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_config_dir, add_download_arguments, add_weights, downloads_of, positive
from hubexport.cli.progress import shown_progress
from hubexport.cli.tables import table_console
from hubexport.errors import HubexportError

if TYPE_CHECKING:
    from hubexport.batch import BuildOutcome

SUMMARY = "build modules from checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `hubexport build` takes."""
    parser.add_argument(
        "--variant",
        action="append",
        required=True,
        metavar="NAME",
        help="the variant to build: a name from `hubexport list`, a pattern like 'mobilenet_v2_*_96', or all. Repeat "
        "the flag for more",
    )
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="KIND[/VERSION]",
        help="the kind of module, feature_vector or classification, and its version, 1 to 5; a kind alone means the "
        "versions in the config. Repeat the flag for more (default: all modules in the config)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="a published archive (.tgz), a directory with one checkpoint, a prefix like model.ckpt, any other source "
        "that `hubexport convert` reads, or synthetic[:SEED] for made-up weights; {variant} in it stands for each "
        "variant's name (default: download the archive that the config names)",
    )
    add_weights(parser)
    parser.add_argument(
        "--output_dir",
        default="modules",
        metavar="DIR",
        help="write modules to DIR/PUBLISHER/COLLECTION/NAME/KIND/VERSION (default: modules)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing modules")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="build variants in N processes at once (default: 1)",
    )
    add_download_arguments(parser)
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Builds, prints one path a module, and returns the exit status."""
    from hubexport.config_files import select_variants

    variants = select_variants(args.variant, args.config_dir)
    modules = [variant.select_modules(args.module) for variant in variants]
    from hubexport.batch import build_batch  # NumPy: not worth waiting for before an error.
    from hubexport.build import BuildOptions, BuildOrder

    orders = [BuildOrder(variant, specs) for variant, specs in zip(variants, modules, strict=True)]
    options = BuildOptions(args.checkpoint, args.weights, args.output_dir, args.overwrite, downloads_of(args))
    with shown_progress() as progress:
        outcomes = build_batch(orders, options, jobs=args.jobs, progress=progress)
    return _report(outcomes)


def _report(outcomes: "Sequence[BuildOutcome]") -> int:
    for path in [outcome.result for outcome in outcomes if not isinstance(outcome.result, HubexportError)]:
        print(path)
    # The same error of several modules is said once.
    errors = {str(outcome.result): None for outcome in outcomes if isinstance(outcome.result, HubexportError)}
    for error in errors:
        print(f"ERROR {error}", file=sys.stderr)
    if len(outcomes) > 1:
        _print_table(outcomes)
    return 1 if errors else 0


def _print_table(outcomes: "Sequence[BuildOutcome]") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    failed = sum(isinstance(outcome.result, HubexportError) for outcome in outcomes)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("module", no_wrap=True, footer=f"{len(outcomes) - failed} built, {failed} failed")
    table.add_column("result")
    table.add_column("seconds", justify="right", footer=f"{sum(outcome.seconds for outcome in outcomes):.2f}")
    for outcome in outcomes:
        what = f"FAILED: {outcome.result.what}" if isinstance(outcome.result, HubexportError) else "built"
        table.add_row(outcome.handle, what, f"{outcome.seconds:.2f}")
    table_console(sys.stderr).print(table)
