"""Checks from its files alone whether a release is complete and correct.

It trusts nothing in the folder, works offline, and needs neither checkpoints nor TensorFlow.
"""

import argparse
import dataclasses
import json
from pathlib import Path
import sys

from hubexport.cli.arguments import add_format_argument, add_quiet
from hubexport.cli.progress_display import shown_progress
from hubexport.errors import printable
from hubexport.extras import require_extras

SUMMARY = "check that a release is complete and correct"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport check`."""
    parser.add_argument("directory", metavar="DIR", help="the release's folder, made by `hubexport release`")
    add_format_argument(parser, "text", "json")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the problems of a release. Returns 0 if there are none, else 1."""
    require_extras("hubexport check", "release")
    from hubexport.release.check import check_release

    directory = Path(args.directory)
    with shown_progress(args.quiet) as progress:
        checked = check_release(directory, progress)
    if args.format == "json":
        print(json.dumps(dataclasses.asdict(checked), indent=2))
        return 1 if checked.problems else 0
    for problem in checked.problems:
        print(printable(f"{problem.path}: {problem.what}"))
    for item in checked.unproven:
        print(printable(f"{item.path}: unproven: {item.what}"), file=sys.stderr)
    for path in [] if args.quiet else checked.stray:
        print(printable(f"{path}: not published: the index does not list it"), file=sys.stderr)
    verdict = _number(len(checked.problems), "problem") if checked.problems else "complete and correct"
    sizes = f"{_number(checked.artifacts, 'artifact')}, {checked.files} files, {checked.bytes / 1e6:.1f} MB"
    if checked.unproven:
        verdict += f", but {_number(len(checked.unproven), 'file')} by another hubexport cannot be proven"
    print(f"{directory}: {verdict}: {sizes}")
    return 1 if checked.problems else 0


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
