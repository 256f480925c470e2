"""Classifies images with a module, and prints the most probable classes of each."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

from hubexport.cli.arguments import positive
from hubexport.cli.images import add_image_arguments, interface_of
from hubexport.cli.progress import shown_progress
from hubexport.errors import ImageError, printable
from hubexport.extras import require_extras
from hubexport.images.image_files import find_images

if TYPE_CHECKING:
    from hubexport.images.classification import Classification

SUMMARY = "print the most probable classes of images"

_CSV_HEADINGS = ("file", "rank", "index", "label", "probability")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `hubexport classify` takes."""
    add_image_arguments(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="a text file with one class name per line (default: the module's assets/labels.txt)",
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="how many classes to print for each image (default: 5)"
    )
    parser.add_argument(
        "--format", choices=("text", "csv", "json"), default="text", help="the output format (default: text)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the most probable classes of each image, and returns 0 if any image could be read."""
    require_extras("hubexport classify", "tensorflow")
    images = find_images(args.images)
    from hubexport.images.classification import classify  # NumPy and Pillow: not worth waiting for before an error.

    found: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    failure = None
    with shown_progress() as progress:
        results = classify(
            args.module,
            images,
            labels=args.labels,
            top=args.top,
            batch_size=args.batch_size,
            **interface_of(args),
            unreadable=lambda path, error: skipped.append({"file": str(path), "why": error.why}),
            progress=progress,
        )
        if args.format == "csv":
            progress.result(_csv([_CSV_HEADINGS]))
        try:
            for one in results:
                if args.format == "json":
                    found.append(_as_json(one))
                else:
                    progress.result(_as_text(one) if args.format == "text" else _csv(_rows(one)))
        except ImageError as error:
            failure = error  # None of the images can be read; JSON lists them all the same.
        if args.format == "json":
            progress.result(json.dumps({"images": found, "skipped": skipped}, indent=2))
        if failure:
            raise failure
    return 0


def _as_text(one: "Classification") -> str:
    lines = [printable(str(one.path))]
    for score in one.top:
        lines.append(f"  {score.probability:.4f} {score.index:5}  {printable(score.label or '')}".rstrip())
    return "\n".join(lines)


def _as_json(one: "Classification") -> dict[str, Any]:
    return {"file": str(one.path), "top": [dataclasses.asdict(score) for score in one.top]}


def _rows(one: "Classification") -> Iterator[Sequence[object]]:
    for rank, score in enumerate(one.top, start=1):
        label = printable(score.label or "")
        yield printable(str(one.path)), rank, score.index, label, f"{score.probability:.6g}"


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")
