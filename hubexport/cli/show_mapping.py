"""Prints each variable's name and shape in TF-Slim and in another framework."""

import argparse
import json
import sys
from typing import Any

from hubexport.cli.arguments import add_config_dir, add_format_argument
from hubexport.cli.text_tables import Column, print_table
from hubexport.layouts.conversion_targets import LAYOUT_TARGETS

SUMMARY = "print what another framework calls each variable"

_DEFAULT_VARIANT = "mobilenet_v2_100_224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport show-mapping`."""
    parser.add_argument(
        "--to", required=True, choices=LAYOUT_TARGETS, help="the other framework's format, as in `hubexport convert`"
    )
    parser.add_argument(
        "--variant",
        default=_DEFAULT_VARIANT,
        metavar="NAME",
        help=f"the variant whose variables to print; a family's variants share the names (default: {_DEFAULT_VARIANT})",
    )
    add_format_argument(parser, "text", "json")
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a row for each variable, and returns the exit status."""
    from hubexport.config_files import load_variant
    from hubexport.layouts.registry import target_layouts

    variant = load_variant(args.variant, args.config_dir)
    network, layouts = variant.network_for("classification"), target_layouts(args.to, variant.network)
    mappings = {heading: layout.of(network) for heading, layout in layouts.items()}
    by_variable = {
        heading: {entry.variable.name: {"name": entry.name, "shape": list(entry.shape)} for entry in entries}
        for heading, entries in mappings.items()
    }
    rows = [
        {"TF-Slim": {"name": variable.name, "shape": list(variable.shape)}}
        | {heading: named[variable.name] for heading, named in by_variable.items()}
        for variable in network.variables
    ]
    if args.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        _print_table(rows)
    return 0


def _print_table(rows: list[dict[str, dict[str, Any]]]) -> None:
    columns = []
    for heading in rows[0]:
        columns.append(Column(heading, [row[heading]["name"] for row in rows]))
        columns.append(Column(f"{heading} shape", [str(row[heading]["shape"]) for row in rows], importance=1))
    print_table(columns, sys.stdout)
