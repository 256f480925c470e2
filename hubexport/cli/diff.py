"""Compares two checkpoints, weights files, modules or deployments, variable by variable."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_format_argument, add_quiet, add_weights
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import Column, print_table

if TYPE_CHECKING:
    from hubexport.comparison import Comparison

SUMMARY = "compare two checkpoints, weights files, modules or deployments"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport diff`."""
    parser.add_argument("a", metavar="A", help="any source that `hubexport convert` reads, or a deployment")
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
    if found := comparison.differences:
        columns = [
            Column("variable", [one.name for one in found]),
            Column("differs in", [one.problem for one in found], importance=5),
            Column("A", [one.a or "-" for one in found], importance=4),
            Column("B", [one.b or "-" for one in found], importance=4),
            Column("numbers", [_figure(one.differing, ",") for one in found], importance=2, kind="figure"),
            Column("largest difference", [_figure(one.largest_absolute) for one in found], importance=3, kind="figure"),
            Column("relative", [_figure(one.largest_relative) for one in found], importance=1, kind="figure"),
        ]
        print_table(columns, sys.stdout)
    print(comparison.summary)


def _figure(number: float | None, format_spec: str = ".3g") -> str:
    return "-" if number is None else f"{number:{format_spec}}"
