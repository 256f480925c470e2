"""Makes a release: builds, verifies, packs and documents modules, and publishes them together in one index.

It leaves published modules alone if they would come out the same. After an interruption, run the same command again
to continue.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from hubexport.cli.arguments import (
    add_beam_option,
    add_config_dir,
    add_download_arguments,
    add_format_argument,
    add_scope,
    add_weights,
    base_url,
    beam_of,
    downloads_of,
    positive,
)
from hubexport.cli.deployment_flags import add_deployment, requested_deployments
from hubexport.cli.error_lines import print_errors
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import cell, new_table, print_table
from hubexport.errors import HubexportError, printable
from hubexport.extras import require_extras

if TYPE_CHECKING:
    from hubexport.build import BuildOrder
    from hubexport.release.options import ReleaseOptions
    from hubexport.release.release_modules import ReleaseOutcome

SUMMARY = "make or check a release of many modules"

_LOCAL = "local"
# `--runner beam` runs Beam in this process.
_BEAM_RUNNERS = {_LOCAL: None, "beam": "DirectRunner"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport release`."""
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="the variants to release: names, or patterns like 'mobilenet_v2_*_96'. Patterns and all skip variants "
        "without a checkpoint, and modules that a variant lacks (default: all)",
    )
    parser.add_argument(
        "--modules",
        nargs="+",
        default=[],
        metavar="KIND[/VERSION]",
        help="feature_vector or classification, with or without a version (default: all in each variant's config)",
    )
    add_deployment(parser, "also release each module for use without TensorFlow")
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="a directory of archives, each named like the published one or its variant; synthetic[:SEED]; or "
        "anything else that `hubexport build` takes (default: download the archives named in the configs)",
    )
    add_weights(parser)
    add_scope(parser)
    parser.add_argument("--output_dir", default="dist", metavar="DIR", help="the release's folder (default: dist)")
    parser.add_argument(
        "--url",
        default="https://tfhub.dev",
        metavar="URL",
        help="where the release will be served; its pages tell users to load URL/HANDLE (default: https://tfhub.dev)",
    )
    parser.add_argument(
        "--measured",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="accuracies to publish: what `hubexport evaluate --format json` printed for modules of this release",
    )
    parser.add_argument(
        "--verify",
        nargs="+",
        default=[],
        metavar="CHECK",
        help="run these checks of `hubexport verify` for each module, or groups like weights, or '*' for all (default: "
        "rebuild, structure and weights for each module, and the others for one of each distinct graph)",
    )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="work in N processes (default: 1)")
    parser.add_argument(
        "--runner",
        default=_LOCAL,
        metavar="NAME",
        help="use Apache Beam: beam (in this process), or a runner like FlinkRunner (default: local, without Beam)",
    )
    add_beam_option(parser)
    failures = parser.add_mutually_exclusive_group()
    failures.add_argument(
        "--keep_going", action="store_true", help="publish what could be made, even if something failed (default)"
    )
    failures.add_argument("--fail_fast", action="store_true", help="stop at the first failure, and publish nothing")
    parser.add_argument("--dry_run", action="store_true", help="print what would be made and why, and exit")
    parser.add_argument(
        "--check", metavar="DIR", help="check from its files alone whether a release is complete and correct, and exit"
    )
    add_format_argument(parser, "text", "json")
    add_download_arguments(parser)
    parser.add_argument(
        "--accept_unpinned",
        action="store_true",
        help="also use published archives whose configs have no SHA-256; the first download counts, and later ones "
        "must be the same",
    )
    add_config_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Makes, plans or checks a release, prints the outcome for each artifact, and returns the exit status."""
    from hubexport.verify.checks.registry import needs_tensorflow, select_checks

    if args.check:
        require_extras("hubexport release --check", "release")
        return _check(Path(args.check), args.format)
    checks = select_checks(args.verify, "--verify")
    beam = beam_of(_BEAM_RUNNERS.get(args.runner, args.runner), args.beam_option)
    extras = {"tensorflow": needs_tensorflow(checks) and not args.dry_run, "beam": beam is not None}
    require_extras("hubexport release", "release", *(extra for extra, is_needed in extras.items() if is_needed))
    from hubexport.build import BuildOrder
    from hubexport.deployment_spec import with_deployments
    from hubexport.release.measurements import read_measurements
    from hubexport.release.options import ReleaseOptions
    from hubexport.release.packing import source_date_epoch
    from hubexport.selection import select_modules

    selection = select_modules(args.variants, args.modules, args.config_dir, published_only=args.checkpoint is None)
    for line in selection.skipped:
        print(line, file=sys.stderr)
    requests = requested_deployments(args, "hubexport release")
    orders = [BuildOrder(variant, with_deployments(variant, specs, requests)) for variant, specs in selection.modules]
    options = ReleaseOptions(
        checkpoint=args.checkpoint,
        weights=args.weights,
        url=base_url(args.url),
        checks=tuple(check.name for check in checks) if args.verify else (),
        source_date_epoch=source_date_epoch(),
        downloads=downloads_of(args),
        accept_unpinned=args.accept_unpinned,
        scope=args.scope,
        measured=read_measurements(args.measured),
    )
    directory = Path(args.output_dir)
    if args.dry_run:
        return _plan(orders, options, directory, args.format)
    from hubexport.release.release_modules import release_modules

    with shown_progress() as progress:
        outcomes = release_modules(
            orders, options, directory, jobs=args.jobs, fail_fast=args.fail_fast, beam=beam, progress=progress
        )
    return _print_outcomes(outcomes, directory, args.format)


def _plan(orders: "Sequence[BuildOrder]", options: "ReleaseOptions", directory: Path, output_format: str) -> int:
    """Prints what a release would do, and returns the exit status."""
    from hubexport.release.index import read_index
    from hubexport.release.plan import make_plan

    with shown_progress() as progress:
        plan = make_plan(orders, options, directory, read_index(directory), progress)
    if output_format == "json":
        planned = [{"handle": item.handle, "action": item.action, "why": item.why} for item in plan]
        print(json.dumps(planned, indent=2))
    else:
        _print_table(
            ["artifact", "action", "why"],
            [[artifact.handle, artifact.action, artifact.why] for artifact in plan],
            _counts([artifact.action for artifact in plan]),
            sys.stdout,
        )
    return print_errors(item.error for item in plan if item.error)


def _print_outcomes(outcomes: "Sequence[ReleaseOutcome]", directory: Path, output_format: str) -> int:
    """Prints what this run published to stdout, and a table of all artifacts to stderr."""
    from hubexport.release.page_facts import asset_path

    if output_format == "json":
        print(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        for outcome in outcomes:
            if outcome.record and outcome.result in ("made", "listed"):
                print(directory / asset_path(outcome.record.spec, outcome.record.handle))
    status = print_errors(outcome.result for outcome in outcomes if isinstance(outcome.result, HubexportError))
    rows = []
    for outcome in outcomes:
        result = f"FAILED: {outcome.result.what}" if isinstance(outcome.result, HubexportError) else outcome.result
        size = f"{outcome.record.bytes / 1e6:.1f}" if outcome.record else "-"
        checks = str(outcome.record.checks.passed) if outcome.record else "-"
        rows.append([outcome.artifact.handle, result, size, checks, f"{sum(outcome.seconds.values()):.1f}"])
    summary = _counts([result.partition(":")[0] for _, result, *_ in rows])
    _print_table(["artifact", "result", "MB", "checks passed", "seconds"], rows, summary, sys.stderr)
    return status


def _as_json(outcome: "ReleaseOutcome") -> dict[str, Any]:
    error = outcome.result if isinstance(outcome.result, HubexportError) else None
    archive = outcome.record.files.get("archive") if outcome.record else None
    return {
        "handle": outcome.artifact.handle,
        "result": "failed" if error else outcome.result,
        "why": error.why if error else outcome.artifact.why,
        "archive": archive.model_dump() if archive else None,
        "contents": [file.model_dump() for file in outcome.record.contents] if outcome.record else [],
        "seconds": {stage: round(seconds, 3) for stage, seconds in outcome.seconds.items()},
    }


def _counts(words: Sequence[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], summary: str, stream: Any) -> None:
    table = new_table()
    for column in columns:
        table.add_column(column, justify="right" if column in ("MB", "checks passed", "seconds") else "left")
    for row in rows:
        table.add_row(*map(cell, row))
    print_table(table, stream)
    print(summary, file=stream)


def _check(directory: Path, output_format: str) -> int:
    """Checks a finished release, prints the problems, and returns the exit status."""
    from hubexport.release.check import check_release

    with shown_progress() as progress:
        checked = check_release(directory, progress)
    if output_format == "json":
        print(json.dumps(dataclasses.asdict(checked), indent=2))
        return 1 if checked.problems else 0
    for problem in checked.problems:
        print(printable(f"{problem.path}: {problem.what}"))
    for item in checked.unproven:
        print(printable(f"{item.path}: unproven: {item.what}"), file=sys.stderr)
    for path in checked.stray:
        print(printable(f"{path}: not published: the index does not list it"), file=sys.stderr)
    verdict = _number(len(checked.problems), "problem") if checked.problems else "complete and correct"
    sizes = f"{_number(checked.artifacts, 'artifact')}, {checked.files} files, {checked.bytes / 1e6:.1f} MB"
    if checked.unproven:
        verdict += f", but {_number(len(checked.unproven), 'file')} by another hubexport cannot be proven"
    print(f"{directory}: {verdict}: {sizes}")
    return 1 if checked.problems else 0


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
