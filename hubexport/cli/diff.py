"""Compares two checkpoints, weights files or modules, variable by variable."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_weights
from hubexport.cli.progress import shown_progress
from hubexport.cli.tables import cell, table_console

if TYPE_CHECKING:
    from hubexport.comparison import Comparison

SUMMARY = "compare two checkpoints, weights files or modules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `hubexport diff` takes."""
    parser.add_argument("a", metavar="A", help="any source that `hubexport convert` reads")
    parser.add_argument("b", metavar="B", help="the source to compare it with")
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        default=0.0,
        metavar="X",
        help="exit with status 0 if no numbers differ by more than X (default: 0)",
    )
    add_weights(parser)
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="the output format (default: table)"
    )


def _tolerance(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: must be a number, at least 0")
    return number


def run(args: argparse.Namespace) -> int:
    """Prints what differs, and returns 0 if nothing does, else 1."""
    from hubexport.comparison import compare

    with shown_progress() as progress:
        comparison = compare(args.a, args.b, weights=args.weights, progress=progress)
    if args.format == "json":
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        _print(comparison)
    return 0 if comparison.within(args.tolerance) else 1


def _print(comparison: "Comparison") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    if comparison.differences:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("variable", "differs in", "A", "B"):
            table.add_column(heading, no_wrap=True)
        for heading in ("numbers", "largest difference", "relative"):
            table.add_column(heading, justify="right")
        for one in comparison.differences:
            count = "-" if one.differing is None else f"{one.differing:,}"
            figures = ("-" if size is None else f"{size:.3g}" for size in (one.largest_absolute, one.largest_relative))
            table.add_row(cell(one.name), one.problem, one.a or "-", one.b or "-", count, *figures)
        table_console(sys.stdout).print(table)
    print(comparison.summary)
