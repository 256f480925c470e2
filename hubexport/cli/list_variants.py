"""Lists the variants with their modules and the figures that their publishers measured."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_config_dir, add_format_argument
from hubexport.cli.text_tables import new_table, print_table

if TYPE_CHECKING:
    from hubexport.variants import Variant

SUMMARY = "list variants, their modules and published figures"

# The publishers' figures, by the headings of their columns.
_FIGURES = {
    "MACs (M)": "macs_millions",
    "parameters (M)": "parameters_millions",
    "top-1 %": "top1_percent",
    "top-5 %": "top5_percent",
    "Pixel 1 ms": "pixel1_cpu_ms",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport list`."""
    add_format_argument(parser, "table", "json")
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Prints all variants, and returns the exit status."""
    from hubexport.config_files import list_variants

    variants = list_variants(args.config_dir)
    if args.format == "json":
        described = [
            variant.model_dump(mode="json") | {"modules": [variant.handle(spec) for spec in variant.modules]}
            for variant in variants
        ]
        print(json.dumps(described, indent=2))
    else:
        _print_table(variants)
    return 0


def _print_table(variants: "list[Variant]") -> None:
    table = new_table()
    table.add_column("variant", no_wrap=True)
    table.add_column("modules")
    # Each family has parameters of its own, and leaves the columns of others empty.
    parameters = list(dict.fromkeys(name for variant in variants for name in dict(variant.family_parameters)))
    for heading in (*(name.replace("_", " ") for name in parameters), "pixels", "classes"):
        table.add_column(heading, justify="right")
    for heading in _FIGURES:
        table.add_column(heading, justify="right")
    for variant in variants:
        figures = [getattr(variant.published, name, None) for name in _FIGURES.values()]
        own = [getattr(variant.family_parameters, name, None) for name in parameters]
        numbers = [*own, variant.image_size, variant.num_classes, *figures]
        cells = ["-" if number is None else str(number) for number in numbers]
        table.add_row(variant.name, ", ".join(map(str, variant.modules)), *cells)
    print_table(table, sys.stdout)
