"""Compares two checkpoints, weights files or modules, variable by variable."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_format_argument, add_quiet, add_weights
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import cell, new_table, print_table

if TYPE_CHECKING:
    from hubexport.comparison import Comparison

SUMMARY = "compare two checkpoints, weights files or modules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport diff`."""
    parser.add_argument("a", metavar="A", help="any source that `hubexport convert` reads")
    parser.add_argument("b", metavar="B", help="the source to compare it with")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.0,
        metavar="N",
        help="exit with status 0 if no numbers differ by more than N (default: 0)",
    )
    add_weights(parser)
    add_format_argument(parser, "text", "json")
    add_quiet(parser)


def _tolerance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a number, at least 0")
    return number


def run(args: argparse.Namespace) -> int:
    """Prints the differences. Returns 0 if there are none beyond the tolerance, else 1."""
    from hubexport.deployment_comparison import compare

    with shown_progress(args.quiet) as progress:
        comparison = compare(args.a, args.b, weights=args.weights, progress=progress)
    if args.format == "json":
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        _print(comparison)
    return 0 if comparison.within(args.tolerance) else 1


def _print(comparison: "Comparison") -> None:
    if comparison.differences:
        table = new_table()
        for heading in ("variable", "differs in", "A", "B"):
            table.add_column(heading, no_wrap=True)
        for heading in ("numbers", "largest difference", "relative"):
            table.add_column(heading, justify="right")
        for variable in comparison.differences:
            count = "-" if variable.differing is None else f"{variable.differing:,}"
            sizes = (variable.largest_absolute, variable.largest_relative)
            figures = ("-" if size is None else f"{size:.3g}" for size in sizes)
            table.add_row(cell(variable.name), variable.problem, variable.a or "-", variable.b or "-", count, *figures)
        print_table(table, sys.stdout)
    print(comparison.summary)
