"""Classifies images with a module, and prints the most probable classes of each."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

from hubexport.cli.arguments import add_format_argument, add_quiet, positive
from hubexport.cli.image_arguments import add_image_arguments, run_arguments
from hubexport.cli.progress_display import shown_progress
from hubexport.engines import usable_engine
from hubexport.errors import ImageError, printable
from hubexport.formats.manifest import ManifestError, values_sha256
from hubexport.images.image_files import find_images

if TYPE_CHECKING:
    from hubexport.images.classification import Classification
    from hubexport.modules.image_interface import ImageInterface

SUMMARY = "print the most probable classes of images"

_CSV_HEADINGS = ("file", "rank", "index", "label", "probability")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport classify`."""
    add_image_arguments(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="a text file with one class name per line (default: the module's assets/labels.txt)",
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="how many classes to print for each image (default: 5)"
    )
    add_format_argument(parser, "text", "csv", "json")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the most probable classes of each image. Returns 0 if at least one image could be read."""
    usable_engine(args.engine, "hubexport classify")
    images = find_images(args.images)
    from hubexport.images.classification import classify  # Imports NumPy and Pillow, which errors need not wait for.

    subject: dict[str, str | None] = {}
    classified: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    failure = None
    with shown_progress(args.quiet) as progress:
        results = classify(
            args.module,
            images,
            labels=args.labels,
            top=args.top,
            **run_arguments(args),
            unreadable=lambda path, error: skipped.append({"file": str(path), "why": error.why}),
            progress=progress,
        )
        if args.format == "csv":
            progress.result(_csv([_CSV_HEADINGS]))
        if args.format == "json":
            subject = _subject(results.interface)
        try:
            for image in results:
                if args.format == "json":
                    top = [dataclasses.asdict(score) for score in image.top]
                    classified.append({"file": str(image.path), "top": top})
                else:
                    progress.result(_as_text(image) if args.format == "text" else _csv(_csv_rows(image)))
        except ImageError as error:
            failure = error  # No image can be read. JSON still lists the files.
        if args.format == "json":
            facts = {**subject, "engine": results.engine, "images": classified, "skipped": skipped}
            progress.result(json.dumps(facts, indent=2))
        if failure:
            raise failure
    return 0


def _subject(interface: "ImageInterface") -> dict[str, str | None]:
    """Returns which module it is: the handle that its manifest has, if any, and a digest of its values."""
    try:
        manifest = interface.manifest()
    except ManifestError:
        manifest = None
    return {
        "handle": manifest.handle if manifest else None,
        "values_sha256": values_sha256(interface.file_digests()),
    }


def _as_text(image: "Classification") -> str:
    lines = [printable(str(image.path))]
    for score in image.top:
        lines.append(f"  {score.probability:.4f} {score.index:5}  {printable(score.label or '')}".rstrip())
    return "\n".join(lines)


def _csv_rows(image: "Classification") -> Iterator[Sequence[object]]:
    for rank, score in enumerate(image.top, start=1):
        label = printable(score.label or "")
        yield printable(str(image.path)), rank, score.index, label, f"{score.probability:.6g}"


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().removesuffix("\n")
