"""Makes a release: builds, verifies, packs and documents modules, and publishes them together in one index.

It leaves published modules alone if they would come out the same. After an interruption, run the same command again
to continue.
"""

import argparse
from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from hubexport.cli.arguments import (
    add_beam_option,
    add_checks,
    add_config_dir,
    add_download_arguments,
    add_format_argument,
    add_jobs,
    add_modules,
    add_output_dir,
    add_quiet,
    add_scope,
    add_variants,
    add_weights,
    base_url,
    beam_of,
    downloads_of,
)
from hubexport.cli.deployment_flags import add_deployment, requested_deployments
from hubexport.cli.error_lines import print_errors
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import Column, print_table
from hubexport.errors import HubexportError
from hubexport.extras import require_extras

if TYPE_CHECKING:
    from hubexport.build import BuildOrder
    from hubexport.release.options import ReleaseOptions
    from hubexport.release.release_modules import ReleaseOutcome

SUMMARY = "make a release of many modules"

_LOCAL = "local"
# `--runner beam` runs Beam in this process.
_BEAM_RUNNERS = {_LOCAL: None, "beam": "DirectRunner"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport release`."""
    add_variants(parser, "the variants to release", "all")
    add_modules(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="a directory of archives, each named like the published one or its variant; synthetic[:SEED]; or "
        "anything else that `hubexport build` takes (default: download the archives named in the configs)",
    )
    add_weights(parser)
    add_scope(parser)
    add_output_dir(parser, "dist", "the release's folder")
    parser.add_argument(
        "--url",
        metavar="URL",
        help="where the release will be served; its pages tell users to load URL/HANDLE (default: https://YOUR_HUB, "
        "for users to replace)",
    )
    parser.add_argument(
        "--measured",
        action="append",
        default=[],
        metavar="FILE",
        help="an accuracy to publish: what `hubexport evaluate --format json` printed for a module of this release. "
        "Repeat the flag for more",
    )
    parser.add_argument(
        "--sample",
        action="append",
        default=[],
        metavar="FILE",
        help="a result to show on a page: what `hubexport classify --format json` printed for one photograph and a "
        "module of this release. Repeat the flag for more",
    )
    add_checks(
        parser,
        "rebuild, structure and weights for each module, the others for one of each distinct graph, and all for each "
        "deployment",
    )
    add_jobs(parser)
    parser.add_argument(
        "--runner",
        default=_LOCAL,
        metavar="NAME",
        help="use Apache Beam: beam (in this process), or a runner like FlinkRunner (default: local, without Beam)",
    )
    add_beam_option(parser)
    failures = parser.add_mutually_exclusive_group()
    failures.add_argument(
        "--keep-going", action="store_true", help="publish what could be made, even if something failed (default)"
    )
    failures.add_argument("--fail-fast", action="store_true", help="stop at the first failure, and publish nothing")
    parser.add_argument("--dry-run", action="store_true", help="print what would be made and why, and exit")
    add_format_argument(parser, "text", "json")
    add_download_arguments(parser)
    parser.add_argument(
        "--accept-unpinned",
        action="store_true",
        help="also use published archives whose configs have no SHA-256; the first download counts, and later ones "
        "must be the same",
    )
    add_config_dir(parser)
    add_quiet(parser)
    add_deployment(parser, "also release each module for use without TensorFlow")


def run(args: argparse.Namespace) -> int:
    """Makes or plans a release, prints the outcome for each artifact, and returns the exit status."""
    from hubexport.verify.checks.registry import need_runtime, select_checks

    checks = select_checks(args.checks, "--checks")
    beam = beam_of(_BEAM_RUNNERS.get(args.runner, args.runner), args.beam_option)
    extras = {"tensorflow": need_runtime(checks) and not args.dry_run, "beam": beam is not None}
    require_extras("hubexport release", "release", *(extra for extra, is_needed in extras.items() if is_needed))
    from hubexport.build import BuildOrder
    from hubexport.deployment_spec import with_deployments
    from hubexport.release.measurements import MEASUREMENTS
    from hubexport.release.options import ReleaseOptions
    from hubexport.release.packing import source_date_epoch
    from hubexport.release.result_files import read_results
    from hubexport.release.samples import SAMPLES
    from hubexport.runtime.deployment_runners import RUNNERS
    from hubexport.selection import select_modules

    selection = select_modules(
        args.variant or ["all"], args.module, args.config_dir, published_only=args.checkpoint is None
    )
    if not args.quiet:
        for line in selection.skipped:
            print(line, file=sys.stderr)
    requests = requested_deployments(args, "hubexport release")
    if not args.dry_run and need_runtime(select_checks(args.checks, "--checks", "deployment")):
        runtimes = {RUNNERS[request.format].extra for request in requests}
        require_extras("hubexport release --deployment", *filter(None, runtimes))
    orders = [BuildOrder(variant, with_deployments(variant, specs, requests)) for variant, specs in selection.modules]
    options = ReleaseOptions(
        checkpoint=args.checkpoint,
        weights=args.weights,
        url=base_url(args.url) if args.url is not None else ReleaseOptions.url,
        checks=tuple(args.checks),
        source_date_epoch=source_date_epoch(),
        downloads=downloads_of(args),
        accept_unpinned=args.accept_unpinned,
        scope=args.scope,
        measured=read_results(MEASUREMENTS, args.measured),
        sample=read_results(SAMPLES, args.sample),
    )
    directory = Path(args.output_dir)
    if args.dry_run:
        return _plan(orders, options, directory, args)
    from hubexport.release.release_modules import release_modules

    with shown_progress(args.quiet) as progress:
        outcomes = release_modules(
            orders, options, directory, jobs=args.jobs, fail_fast=args.fail_fast, beam=beam, progress=progress
        )
    return _print_outcomes(outcomes, directory, args)


def _plan(orders: "Sequence[BuildOrder]", options: "ReleaseOptions", directory: Path, args: argparse.Namespace) -> int:
    """Prints what a release would do, and returns the exit status."""
    from hubexport.release.index import read_index
    from hubexport.release.plan import make_plan

    with shown_progress(args.quiet) as progress:
        plan = make_plan(orders, options, directory, read_index(directory), progress)
    if args.format == "json":
        planned = [{"handle": item.handle, "action": item.action, "why": item.why} for item in plan]
        print(json.dumps(planned, indent=2))
    else:
        columns = [
            Column("artifact", [artifact.handle for artifact in plan]),
            Column("action", [artifact.action for artifact in plan]),
            Column("why", [artifact.why for artifact in plan], kind="sentence"),
        ]
        print_table(columns, sys.stdout)
        print(_counts([artifact.action for artifact in plan]))
    return print_errors(item.error for item in plan if item.error)


def _print_outcomes(outcomes: "Sequence[ReleaseOutcome]", directory: Path, args: argparse.Namespace) -> int:
    """Prints what this run published to stdout, and a table of all artifacts to stderr."""
    from hubexport.release.page_facts import asset_path

    if args.format == "json":
        print(json.dumps([_as_json(outcome) for outcome in outcomes], indent=2))
    else:
        for outcome in outcomes:
            if outcome.record and outcome.result in ("made", "listed"):
                print(directory / asset_path(outcome.record.spec, outcome.record.handle))
    status = print_errors(outcome.result for outcome in outcomes if isinstance(outcome.result, HubexportError))
    if args.quiet:
        return status
    records = [outcome.record for outcome in outcomes]
    results = [_result(outcome) for outcome in outcomes]
    seconds = [f"{sum(outcome.seconds.values()):.1f}" for outcome in outcomes]
    columns = [
        Column("artifact", [outcome.artifact.handle for outcome in outcomes]),
        Column("MB", [f"{one.bytes / 1e6:.1f}" if one else "-" for one in records], importance=2, kind="figure"),
        Column("checks passed", [str(one.checks.passed) if one else "-" for one in records], 3, kind="figure"),
        Column("seconds", seconds, importance=1, kind="figure"),
        Column("result", results, kind="sentence"),
    ]
    print_table(columns, sys.stderr)
    print(_counts([result.partition(":")[0] for result in results]), file=sys.stderr)
    return status


def _result(outcome: "ReleaseOutcome") -> str:
    """Returns what became of an artifact, as the table shows it: a word, and after a colon what explains it."""
    if isinstance(outcome.result, HubexportError):
        return f"FAILED: {outcome.result.what}"
    return f"kept: {outcome.artifact.why}" if outcome.result == "kept" else outcome.result


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
