"""Measures the accuracy of a classification module on labelled images, and puts the published accuracy beside it.

The images are in a folder for each class, named by its number or its label, or in TFRecords like those of TF-Slim's
ImageNet. Interrupted, the same command goes on where it was.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_beam_option, add_config_dir, beam_of, positive
from hubexport.cli.progress import shown_progress
from hubexport.errors import printable

if TYPE_CHECKING:
    from hubexport.evaluation.result import Evaluation

SUMMARY = "measure a module's accuracy on labelled images"

# Those of hubexport.evaluation.preprocessing, which takes a while to import.
_PREPROCESSINGS = ("central_crop", "whole")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `hubexport evaluate` takes."""
    parser.add_argument(
        "module", metavar="MODULE", help="a classification module: a directory, a .tar.gz, or an address"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR|TFRECORDS",
        help="a folder with a folder of images for each class; or TFRecords: a file, a folder, or a pattern like "
        "'imagenet/validation-*-of-00128'",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="the classes' labels that folders may be named by, one a line (default: the module's own)",
    )
    parser.add_argument(
        "--labels_offset",
        type=int,
        default=0,
        metavar="N",
        help="what to subtract from the data's numbers to get the module's: 1 where the data have a background class "
        "0 and the module has none, -1 the other way round (default: 0)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="no more than N images: an even spread of folders, the first of TFRecords (default: all)",
    )
    parser.add_argument(
        "--preprocessing",
        choices=_PREPROCESSINGS,
        default=_PREPROCESSINGS[0],
        help="the middle of each image (0.875 of height and width), resized as TensorFlow 1 does, with which the "
        "published accuracy was measured; or the whole image, resized as `hubexport classify` does (default: "
        "central_crop)",
    )
    parser.add_argument("--batch_size", type=positive, default=64, metavar="N", help="(default: 64)")
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="where results are kept until the evaluation is finished; with --runner, one that all workers have "
        "(default: a folder in the cache folder)",
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="let Apache Beam do it: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner or another of its runners",
    )
    add_beam_option(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluates, prints the accuracy, and returns the exit status."""
    beam = beam_of(args.runner, args.beam_option)
    from hubexport.evaluation.evaluation import evaluate  # NumPy and Pillow: not worth waiting for before an error.

    with shown_progress() as progress:

        def report(evaluation: "Evaluation") -> None:
            progress.result(json.dumps(evaluation.as_json(), indent=2) if args.format == "json" else _text(evaluation))
            # Only what has been told may be forgotten.
            sys.stdout.flush()

        evaluate(
            args.module,
            args.data,
            labels=args.labels,
            labels_offset=args.labels_offset,
            limit=args.limit,
            preprocessing=args.preprocessing,
            batch_size=args.batch_size,
            state=args.state,
            beam=beam,
            config_dir=args.config_dir,
            report=report,
            progress=progress,
        )
    return 0


def _text(evaluation: "Evaluation") -> str:
    counts, speed = evaluation.counts, evaluation.images_per_second
    skipped = f", {len(counts.skipped):,} more skipped" if counts.skipped else ""
    lines = [
        printable(evaluation.module),
        f"  data            {printable(evaluation.data)}",
        f"  images          {counts.images:,}{skipped}",
        f"  preprocessing   {evaluation.preprocessing}",
        f"  values          {evaluation.values or 'of unknown origin'}",
        f"  speed           {f'{speed:.1f} images/s' if speed else '-'}",
        "",
        f"  {'':6}{'measured':>10}{'standard error':>17}{'published':>12}{'difference':>13}",
    ]
    for name, accuracy in (("top 1", evaluation.top1), ("top 5", evaluation.top5)):
        measured, published = _figure(accuracy.percent, ".2f", " %"), _figure(accuracy.published_percent, ".1f", " %")
        error, difference = _figure(accuracy.standard_error, ".2f"), _figure(accuracy.difference, "+.2f")
        lines.append(f"  {name:6}{measured:>10}{error:>17}{published:>12}{difference:>13}")
    return "\n".join(lines)


def _figure(number: float | None, form: str, unit: str = "") -> str:
    return "-" if number is None else f"{number:{form}}{unit}"
