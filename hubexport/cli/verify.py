"""Proves that a module is right. Separate checks cover its files, weights, numbers and behaviour."""

import argparse
from contextlib import AbstractContextManager
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_checks, add_config_dir, add_format_argument, add_list, add_quiet, add_scope
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import Column, print_table, print_text
from hubexport.errors import UsageError, printable
from hubexport.extras import require_extras

if TYPE_CHECKING:
    from hubexport.verify.result import CheckResult, Verification

SUMMARY = "prove that a module is right"

_STYLES = {"pass": "green", "FAIL": "bold red", "not applicable": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport verify`."""
    parser.add_argument(
        "module",
        nargs="?",
        metavar="MODULE",
        help="a module: a directory, a .tar.gz, or an http or https address on a hub server",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="the checkpoint it was built from, as for `hubexport build` (default: the module's own values)",
    )
    add_scope(parser)
    parser.add_argument(
        "--images",
        action="append",
        default=[],
        metavar="PATH",
        help="photographs to run the module on: a file, a folder or a pattern. Repeat the flag for more",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="a text file with one class name per line (default: the module's assets/labels.txt)",
    )
    parser.add_argument("--report", metavar="FILE", help="also write an HTML report to FILE")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing report")
    add_format_argument(parser, "text", "json")
    add_checks(parser, "all")
    parser.add_argument("--list-checks", action="store_true", help="print what each check promises, and exit")
    add_list(
        parser,
        "--consumers",
        metavar="NAME",
        help="also try the module in these TensorFlows (see `hubexport consumers list`); takes minutes",
    )
    parser.add_argument("--variant", metavar="NAME", help="the variant it should be (default: as in hubexport.json)")
    parser.add_argument(
        "--module",
        dest="spec",
        metavar="KIND/VERSION",
        help="the kind and version it should be (default: as in hubexport.json)",
    )
    add_config_dir(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Checks a module and prints the findings. Returns 0 if it passed, else 1."""
    from hubexport.config_files import load_variant
    from hubexport.consumers.registry import select_consumers
    from hubexport.system.destinations import check_destination
    from hubexport.variants import module_spec
    from hubexport.verify.checks.registry import select_checks

    checks = select_checks(args.checks, "--checks")
    if args.list_checks:
        listed = (*checks, *select_checks(args.checks, "--checks", "deployment"))
        names, promises = [check.name for check in listed], [check.promise for check in listed]
        print_table([Column("check", names), Column("promise", promises, kind="sentence")], sys.stdout)
        return 0
    if args.module is None:
        raise UsageError(
            "hubexport verify: no module", why="MODULE is required", fix="give its directory, file or address"
        )
    if args.report:
        require_extras("hubexport verify --report", "tensorflow")
    variant = load_variant(args.variant, args.config_dir) if args.variant else None
    spec = None if args.spec is None else module_spec(args.spec)
    consumers = select_consumers(args.consumers)
    for consumer in consumers:
        consumer.interpreter()  # Fails now if the consumer is not set up, not after the other checks.
    report = None if args.report is None else Path(args.report)
    if report:
        with _write_failures_reported(report):
            check_destination(report, overwrite=args.overwrite)
    from hubexport.verify.verify_module import verify_module

    with shown_progress(args.quiet) as progress:
        verification = verify_module(
            args.module,
            checkpoint=args.checkpoint,
            scope=args.scope,
            images=args.images,
            labels=args.labels,
            variant=variant,
            spec=spec,
            checks=args.checks or None,
            consumers=consumers,
            progress=progress,
        )
    if report:
        _write_report(verification, report, overwrite=args.overwrite)
    if args.format == "json":
        print(json.dumps(verification.as_json(), indent=2, allow_nan=False))
    else:
        _print(verification)
    return 0 if verification.passed else 1


def _write_report(verification: "Verification", path: Path, *, overwrite: bool) -> None:
    from hubexport.system.atomic_output import publish_file, scratch_directory
    from hubexport.verify.report.html import render

    page = render(verification)
    with _write_failures_reported(path), scratch_directory(path.parent) as scratch:
        (scratch / path.name).write_text(page, encoding="utf-8")
        publish_file(scratch / path.name, path, overwrite=overwrite)


def _write_failures_reported(path: Path) -> AbstractContextManager[None]:
    from hubexport.system.atomic_output import write_failures_reported

    return write_failures_reported(f"cannot write {path}", path, "choose another --report")


def _print(verification: "Verification") -> None:
    results = verification.results
    columns = [
        Column("check", [result.check for result in results]),
        Column("proof", [result.proof for result in results], importance=1),
        Column("result", [_status(result) for result in results], styles=_STYLES),
        Column("measured", [_figure(result.measured) for result in results], importance=3, kind="figure"),
        Column("limit", [_figure(result.limit) for result in results], importance=2, kind="figure"),
        Column("what was found", [result.explanation for result in results], kind="sentence"),
    ]
    print_table(columns, sys.stdout)
    for result in verification.failed:
        for detail in result.details:
            print(f"{result.check}: {printable(detail)}")
    print_text(verification.summary, sys.stdout)


def _status(result: "CheckResult") -> str:
    return result.status.upper() if result.status == "fail" else result.status


def _figure(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3g}"
