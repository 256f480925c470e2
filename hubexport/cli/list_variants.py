"""Lists the variants, group by group, with their modules and figures."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import itertools
import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from hubexport.cli.arguments import add_config_dir, add_format_argument
from hubexport.cli.text_tables import Column, print_table, print_text

if TYPE_CHECKING:
    from hubexport.network_figures import NetworkFigures
    from hubexport.networks.family import Family
    from hubexport.variants import Variant

SUMMARY = "list variants, their modules and published figures"

# Follows figures that are not published.
_COUNTED = "*"
# Columns that a heading stands for if all its variants have the same value.
_IF_SHARED = {
    "pixels": "images of {0} x {0} pixels",
    "classes": "{0} class{es}",
    "versions": "module version{s} {0}",
}

# Which columns narrow terminals show: those of a family's parameters, like a depth multiplier, are the most important.
_IMPORTANCE = {
    "versions": 1,
    "Pixel 1 ms": 2,
    "top-5 %": 3,
    "params (M)": 4,
    "MACs (M)": 5,
    "top-1 %": 6,
    "classes": 7,
    "pixels": 8,
}
_OF_PARAMETERS = 9
_KINDS: dict[str, Literal["name", "words"]] = {"variant": "name", "versions": "words"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport list`."""
    parser.add_argument(
        "patterns",
        nargs="*",
        default=["all"],
        metavar="PATTERN",
        help="which variants to list: names or patterns of names like 'mobilenet_v2_*_96' (default: all)",
    )
    add_format_argument(parser, "text", "json")
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the variants that the patterns match, and returns the exit status."""
    from hubexport.config_files import select_variants
    from hubexport.network_figures import network_figures, network_order

    variants = sorted(select_variants(args.patterns, args.config_dir), key=lambda one: (*network_order(one), one.name))
    listed = [(variant, network_figures(variant, variant.published, variant.image_size)) for variant in variants]
    if args.format == "json":
        print(json.dumps([_described(variant, figures) for variant, figures in listed], indent=2))
    else:
        for _, group in itertools.groupby(listed, key=lambda one: one[0].family.group_title):
            _print_group(list(group))
        if any(figures.counted for _, figures in listed):
            print_text(f"{_COUNTED} counted by hubexport: the publishers give no figure", sys.stdout)
    return 0


def _described(variant: "Variant", figures: "NetworkFigures") -> dict[str, Any]:
    return variant.model_dump(mode="json") | {
        "modules": [variant.handle(spec) for spec in variant.modules],
        "counted": {name: getattr(figures, name) for name in figures.counted},
    }


def _print_group(listed: "Sequence[tuple[Variant, NetworkFigures]]") -> None:
    """Prints a heading and a table. Columns without any figure are left out; what all rows share is in the heading."""
    rows = [_row(variant, figures) for variant, figures in listed]
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    columns = {heading: [row.get(heading, "") for row in rows] for heading in headings}
    shared = {heading: columns[heading][0] for heading in _IF_SHARED if len(set(columns[heading])) == 1}
    print_text("\n".join(_heading([variant for variant, _ in listed], shared)), sys.stdout)
    table = [
        Column(heading, [cell or "-" for cell in cells], _importance(heading), _KINDS.get(heading, "figure"))
        for heading, cells in columns.items()
        if any(cells) and heading not in shared
    ]
    print_table(table, sys.stdout)


def _importance(heading: str) -> int | None:
    return None if heading == "variant" else _IMPORTANCE.get(heading, _OF_PARAMETERS)


def _heading(variants: "Sequence[Variant]", shared: Mapping[str, str]) -> Iterator[str]:
    """Yields the lines above a group's table."""
    families = {variant.network: variant.family for variant in variants}
    group = variants[0].family.group
    counted = f"{len(variants)} variant{'s' * (len(variants) != 1)}"
    facts = [
        _IF_SHARED[heading].format(text, s="s" * ("," in text), es="es" * (text != "1"))
        for heading, text in shared.items()
    ]
    yield ", ".join([f"{variants[0].family.group_title}: {counted}", *facts])
    if group:
        yield f"{group.summary[0].upper()}{group.summary[1:]}."
    sizes: dict[str, list[str]] = {}
    for family in families.values():
        sizes.setdefault(_sizes(family), []).append(family.title)
    for text, titles in sizes.items():
        yield f"{text}." if len(sizes) == 1 else f"{', '.join(titles)}: {text[0].lower()}{text[1:]}."
    if unpublished := [variant.name for variant in variants if variant.checkpoint is None]:
        yield f"No checkpoint to download; build from your own: {', '.join(unpublished)}."


def _sizes(family: "Family") -> str:
    """Says which images a family's modules take."""
    if family.open_from_version is None:
        return "Modules take images of their variant's size alone"
    smallest = "" if family.smallest_size == 1 else f" of at least {family.smallest_size} pixels"
    return f"From version {family.open_from_version} on, modules take images of any size{smallest}"


def _row(variant: "Variant", figures: "NetworkFigures") -> dict[str, str]:
    """Returns a variant's cells by their columns' headings; empty for what is not known."""
    published = variant.published
    elsewhere = f" at {published.accuracy_image_size} px" if published and published.accuracy_image_size else ""

    def counts(name: str, decimals: int) -> str:
        figure = getattr(figures, name)
        return f"{figure:.{decimals}f}{_COUNTED}" if name in figures.counted else f"{figure} "

    def measured(name: str, remark: str = "") -> str:
        figure = getattr(published, name, None)
        return "" if figure is None else f"{figure}{remark}"

    return {
        "variant": variant.name,
        **{name.replace("_", " "): str(value) for name, value in variant.family_parameters},
        "pixels": str(variant.image_size),
        "classes": str(variant.num_classes),
        "MACs (M)": counts("macs_millions", 0),
        "params (M)": counts("parameters_millions", 2),
        "top-1 %": measured("top1_percent", elsewhere),
        "top-5 %": measured("top5_percent", elsewhere),
        "Pixel 1 ms": measured("pixel1_cpu_ms"),
        "versions": _versions(variant),
    }


def _versions(variant: "Variant") -> str:
    """Lists the versions of the configured modules, with the kind where one of the two is not configured."""
    from hubexport.variants import KINDS

    kinds: dict[int, list[str]] = {}
    for spec in variant.modules:
        kinds.setdefault(spec.version, []).append(spec.kind)
    return ", ".join(
        str(version) if len(found) == len(KINDS) else f"{version} ({found[0]})" for version, found in kinds.items()
    )
