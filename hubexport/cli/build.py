"""Builds modules from checkpoints and prints their paths."""

import argparse
from collections.abc import Sequence
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import (
    add_config_dir,
    add_download_arguments,
    add_scope,
    add_weights,
    downloads_of,
    positive,
)
from hubexport.cli.error_lines import print_errors
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import new_table, print_table
from hubexport.errors import HubexportError

if TYPE_CHECKING:
    from hubexport.batch import BuildOutcome

SUMMARY = "build modules from checkpoints"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport build`."""
    parser.add_argument(
        "--variant",
        action="append",
        required=True,
        metavar="NAME",
        help="the variant to build: a name from `hubexport list`, a pattern like 'mobilenet_v2_*_96', or all. Patterns "
        "and all skip variants without a checkpoint, and modules that a variant lacks. Repeat the flag for more",
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
    add_scope(parser)
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
    """Builds modules, prints the path of each, and returns the exit status."""
    from hubexport.selection import select_modules

    selection = select_modules(args.variant, args.module, args.config_dir, published_only=args.checkpoint is None)
    for line in selection.skipped:
        print(line, file=sys.stderr)
    from hubexport.batch import build_batch  # Imports NumPy, which errors need not wait for.
    from hubexport.build import BuildOptions, BuildOrder

    orders = [BuildOrder(variant, specs) for variant, specs in selection.modules]
    options = BuildOptions(
        args.checkpoint, args.weights, args.output_dir, args.overwrite, downloads_of(args), args.scope
    )
    with shown_progress() as progress:
        outcomes = build_batch(orders, options, jobs=args.jobs, progress=progress)
    for outcome in outcomes:
        if not isinstance(outcome.result, HubexportError):
            print(outcome.result)
    status = print_errors(outcome.result for outcome in outcomes if isinstance(outcome.result, HubexportError))
    if len(outcomes) > 1:
        _print_table(outcomes)
    return status


def _print_table(outcomes: "Sequence[BuildOutcome]") -> None:
    failed = sum(isinstance(outcome.result, HubexportError) for outcome in outcomes)
    table = new_table(show_footer=True)
    table.add_column("module", no_wrap=True, footer=f"{len(outcomes) - failed} built, {failed} failed")
    table.add_column("result")
    table.add_column("seconds", justify="right", footer=f"{sum(outcome.seconds for outcome in outcomes):.2f}")
    for outcome in outcomes:
        result = f"FAILED: {outcome.result.what}" if isinstance(outcome.result, HubexportError) else "built"
        table.add_row(outcome.handle, result, f"{outcome.seconds:.2f}")
    print_table(table, sys.stderr)
