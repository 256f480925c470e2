"""Measures a classification module's accuracy on labelled images, and prints it beside the published accuracy.

The images come from a folder with one subfolder per class, named by the class's number or label, or from TFRecords in
the layout of TF-Slim's ImageNet. If interrupted, run the same command again to resume.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_beam_option, add_config_dir, add_format_argument, add_quiet, beam_of, positive
from hubexport.cli.image_arguments import add_run_arguments, run_arguments
from hubexport.cli.progress_display import shown_progress
from hubexport.engines import usable_engine
from hubexport.errors import printable
from hubexport.evaluation.evaluation_options import CENTRAL_CROP, PREPROCESSING_NAMES

if TYPE_CHECKING:
    from hubexport.evaluation.evaluation_result import Evaluation

SUMMARY = "measure a module's accuracy on labelled images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport evaluate`."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="a classification module: a directory, a .tar.gz, or an http or https address; or a deployment for ONNX, "
        "TF.js or TFLite",
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="a folder with one subfolder of images per class; or TFRecords: a file, a folder, or a pattern like "
        "'imagenet/validation-*-of-00128'",
    )
    parser.add_argument(
        "--data-name",
        metavar="NAME",
        help="what people call the data, like 'ImageNet, validation'; a release publishes it with the accuracy "
        "(default: the last part of --data)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="a text file with one label per line, for subfolders named by label (default: the module's own)",
    )
    parser.add_argument(
        "--labels-offset",
        type=int,
        default=0,
        metavar="N",
        help="subtract N from the data's class numbers to get the module's: 1 if only the data has a background class "
        "0, -1 if only the module has one (default: 0)",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="at most N images: evenly from all folders, or the first N of TFRecords (default: all)",
    )
    parser.add_argument(
        "--preprocessing",
        choices=PREPROCESSING_NAMES,
        default=CENTRAL_CROP,
        help="central_crop: the middle of each image (0.875 of its height and width), resized as TensorFlow 1 does, as "
        "for the published accuracy; whole: the whole image, resized as `hubexport classify` does (default: "
        "central_crop)",
    )
    add_run_arguments(parser, batch_size=64)
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="where to keep results until the evaluation is finished; with --runner, a folder that all workers share "
        "(default: a folder in the cache)",
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="run on Apache Beam: DirectRunner, FlinkRunner, SparkRunner, DataflowRunner or another of its runners",
    )
    add_beam_option(parser)
    add_format_argument(parser, "text", "json")
    add_config_dir(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluates a module, prints its accuracy, and returns the exit status."""
    usable_engine(args.engine, "hubexport evaluate", *(["beam"] if args.runner else []))
    beam = beam_of(args.runner, args.beam_option)
    from hubexport.evaluation.evaluate_module import (
        evaluate,  # Imports NumPy and Pillow; errors need not wait for them.
    )

    with shown_progress(args.quiet) as progress:

        def report(evaluation: "Evaluation") -> None:
            progress.result(json.dumps(evaluation.as_json(), indent=2) if args.format == "json" else _text(evaluation))
            # The kept results are removed next. This must fail first if stdout cannot be written.
            sys.stdout.flush()

        evaluate(
            args.module,
            args.data,
            labels=args.labels,
            labels_offset=args.labels_offset,
            limit=args.limit,
            preprocessing=args.preprocessing,
            **run_arguments(args),
            state=args.state,
            beam=beam,
            config_dir=args.config_dir,
            data_name=args.data_name,
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
        f"  engine          {evaluation.engine or '-'}",
        f"  values          {evaluation.values or 'unknown origin'}",
        f"  speed           {f'{speed:.1f} images/s' if speed else '-'}",
        "",
        f"  {'':6}{'measured':>10}{'standard error':>17}{'published':>12}{'difference':>13}",
    ]
    for name, accuracy in (("top 1", evaluation.top1), ("top 5", evaluation.top5)):
        measured, published = _figure(accuracy.percent, ".2f", " %"), _figure(accuracy.published_percent, ".1f", " %")
        error, difference = _figure(accuracy.standard_error, ".2f"), _figure(accuracy.difference, "+.2f")
        lines.append(f"  {name:6}{measured:>10}{error:>17}{published:>12}{difference:>13}")
    if evaluation.published and (size := evaluation.published.accuracy_image_size):
        lines += ["", f"  The published accuracy was measured on images of {size} x {size} pixels."]
    return "\n".join(lines)


def _figure(number: float | None, format_spec: str, unit: str = "") -> str:
    return "-" if number is None else f"{number:{format_spec}}{unit}"
