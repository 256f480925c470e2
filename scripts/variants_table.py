"""Writes the tables of the built-in variants into docs/variants.md, from their configs.

    python scripts/variants_table.py [--print]

With `--print`, it prints the page instead. `tests/test_docs.py` fails while the page has other tables.
"""

from collections.abc import Iterator
import itertools
from pathlib import Path
import re
import sys

from hubexport import Variant, list_variants
from hubexport.network_figures import network_figures, network_order

PAGE = Path(__file__).parents[1] / "docs" / "variants.md"
_BEGIN, _END = "<!-- scripts/variants_table.py writes these tables. -->\n", "<!-- end of tables -->\n"
_DIGITS_OF_SHA256 = 8
_COLUMNS = ("Variant", "Archive of the checkpoint", "SHA-256", "Pixels", "Features", "Parameters", "Multiply-adds")


def with_tables(page: str) -> str:
    """Returns the text of a page with the tables between its two comments."""
    tables = "".join(f"\n{line}" if line.startswith("#") else line for line in _lines())
    return re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: f"{_BEGIN}{tables}\n{_END}", page, flags=re.S)


def _lines() -> Iterator[str]:
    variants = sorted(list_variants(), key=network_order)
    for title, group in itertools.groupby(variants, key=lambda variant: variant.family.group_title):
        yield f"### {title}\n\n"
        columns = [*_COLUMNS, "Top-1 %", "Top-5 %"]
        yield f"| {' | '.join(columns)} |\n| {' | '.join('---' for _ in columns)} |\n"
        for variant in group:
            yield f"| {' | '.join(_cells(variant))} |\n"


def _cells(variant: Variant) -> Iterator[str]:
    yield f"`{variant.name}`"
    checkpoint, published = variant.checkpoint, variant.published
    yield f"[{checkpoint.url.rpartition('/')[2]}]({checkpoint.url})" if checkpoint else "–"
    yield f"`{checkpoint.sha256[:_DIGITS_OF_SHA256]}…`" if checkpoint and checkpoint.sha256 else "–"
    yield str(variant.image_size)
    yield str(variant.network_for("feature_vector").num_features)
    figures = network_figures(variant, published, variant.image_size)
    counted = {name: r"\*" * (name in figures.counted) for name in ("parameters_millions", "macs_millions")}
    yield f"{figures.parameters_millions:.2f} M{counted['parameters_millions']}"
    yield f"{figures.macs_millions:,} M{counted['macs_millions']}"
    elsewhere = f" at {published.accuracy_image_size}" if published and published.accuracy_image_size else ""
    for accuracy in (published and published.top1_percent, published and published.top5_percent):
        yield "–" if accuracy is None else f"{accuracy:.1f}{elsewhere}"


if __name__ == "__main__":
    page = with_tables(PAGE.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--print"]:
        print(page, end="")
    else:
        PAGE.write_text(page, encoding="utf-8")
