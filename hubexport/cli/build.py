"""Builds modules from checkpoints and prints their paths."""

import argparse
from collections.abc import Sequence
import sys
import time
from typing import TYPE_CHECKING

from hubexport.cli.arguments import (
    add_config_dir,
    add_download_arguments,
    add_jobs,
    add_modules,
    add_output_dir,
    add_quiet,
    add_scope,
    add_variants,
    add_weights,
    downloads_of,
    positive,
)
from hubexport.cli.deployment_flags import add_deployment, requested_deployments
from hubexport.cli.error_lines import print_errors
from hubexport.cli.progress_display import ShownProgress, shown_progress
from hubexport.cli.text_tables import Column, print_table
from hubexport.errors import HubexportError, UsageError

if TYPE_CHECKING:
    from hubexport.batch import BuildOutcome
    from hubexport.variants import ModuleSpec, Variant

    _Modules = Sequence[tuple[Variant, Sequence[ModuleSpec]]]

SUMMARY = "build modules from checkpoints"

# What only --name takes: a variant's config says the rest.
_WITH_NAME = ("publisher", "labels", "image_size", "network", "depth_multiplier", "print_config")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport build`."""
    add_variants(parser, "the variants to build")
    add_modules(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="a published archive (.tgz), a directory with one checkpoint, a prefix like model.ckpt, any other source "
        "that `hubexport convert` reads, or synthetic[:SEED] for made-up weights. For several variants: a directory of "
        "archives, each named like the published one or its variant; or {variant} for the name (default: download the "
        "archives that the configs name)",
    )
    add_weights(parser)
    add_scope(parser)
    add_output_dir(parser, "modules", "write modules to DIR/PUBLISHER/COLLECTION/NAME/KIND/VERSION")
    parser.add_argument("--overwrite", action="store_true", help="replace existing modules")
    add_jobs(parser)
    add_download_arguments(parser)
    add_config_dir(parser)
    add_quiet(parser)
    _add_name_arguments(parser)
    add_deployment(parser, "also write each module for use without TensorFlow, below DIR/deployments")


def _add_name_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("without a config")
    group.add_argument(
        "--name",
        metavar="NAME",
        help="in place of --variant: build what --checkpoint holds, recognized, and call the modules "
        "PUBLISHER/models/NAME/KIND/VERSION; the config that this stands for is printed to stderr",
    )
    group.add_argument("--publisher", metavar="NAME", help="the publisher in handles (default: local)")
    group.add_argument(
        "--labels",
        metavar="FILE",
        help="a text file with one class name per line (default: the names that come with the checkpoint)",
    )
    group.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="the height and width of the images (default: what the checkpoint says)",
    )
    group.add_argument("--network", metavar="NAME", help="the network, where the checkpoint fits several")
    group.add_argument(
        "--depth-multiplier",
        type=float,
        metavar="N",
        help="the depth multiplier of a MobileNet, if it is not a published one",
    )
    group.add_argument(
        "--print-config",
        action="store_true",
        help="build nothing, and print the config to stdout; to be saved as NAME.yaml for --config-dir",
    )


def run(args: argparse.Namespace) -> int:
    """Builds modules, prints the path of each, and returns the exit status."""
    _check_flags(args)
    started = time.monotonic()
    with shown_progress(args.quiet) as progress:
        if args.name is not None:
            variant, config = _recognized_variant(args, progress)
            if args.print_config:
                progress.result(config)
                return 0
            how = "to save it, repeat the command with --print-config, and send stdout to that file"
            progress.note(f"# {variant.name}.yaml: the config that --name stands for; {how}\n{config}")
            modules: "_Modules" = ((variant, variant.modules),)
        else:
            modules = _selected_modules(args, progress)
        outcomes = _build(modules, args, progress)
    for outcome in outcomes:
        if not isinstance(outcome.result, HubexportError):
            print(outcome.result)
    status = print_errors(outcome.result for outcome in outcomes if isinstance(outcome.result, HubexportError))
    if len(outcomes) > 1 and not args.quiet:
        _print_table(outcomes, time.monotonic() - started)
    return status


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that contradict each other, and those without which others mean nothing."""
    if args.name is None:
        for name in _WITH_NAME:
            flag = name.replace("_", "-")
            if getattr(args, name) not in (None, False):
                raise UsageError(
                    f"--{flag} needs --name",
                    why="without it, the config of the variant says what to build",
                    fix=f"build what is in a checkpoint with --name, or leave out --{flag}",
                )
        if not args.variant:
            raise UsageError(
                "hubexport build: no --variant and no --name",
                why="one of them says what to build",
                fix="write `hubexport build --variant NAME` with a name from `hubexport list`, or "
                "`hubexport build --name NAME --checkpoint SOURCE`",
            )
        return
    for name in ("variant", "config_dir"):
        flag = name.replace("_", "-")
        if getattr(args, name):
            raise UsageError(
                f"--name {args.name} and --{flag} exclude each other",
                why="--name makes the variant of the checkpoint itself, not of a config",
                fix="leave out one of them",
            )
    if args.checkpoint is None:
        raise UsageError(
            f"--name {args.name} needs --checkpoint",
            why="what to build is recognized in a checkpoint",
            fix="add --checkpoint SOURCE, or name a published --variant",
        )


def _recognized_variant(args: argparse.Namespace, progress: ShownProgress) -> "tuple[Variant, str]":
    """Returns the variant that the checkpoint holds, and its config."""
    from hubexport.checkpoint_variant import DEFAULT_PUBLISHER, recognize_variant
    from hubexport.checkpoints.checkpoint_choice import VARIANT_PLACEHOLDER
    from hubexport.config_writing import variant_yaml

    variant = recognize_variant(
        args.checkpoint.replace(VARIANT_PLACEHOLDER, args.name),
        args.name,
        publisher=DEFAULT_PUBLISHER if args.publisher is None else args.publisher,
        labels=args.labels,
        image_size=args.image_size,
        network=args.network,
        depth_multiplier=args.depth_multiplier,
        modules=args.module,
        scope=args.scope,
        progress=progress,
    )
    return variant, variant_yaml(variant).rstrip()


def _selected_modules(args: argparse.Namespace, progress: ShownProgress) -> "_Modules":
    """Returns the variants with configs, and notes which of them are skipped."""
    from hubexport.selection import select_modules

    selection = select_modules(args.variant, args.module, args.config_dir, published_only=args.checkpoint is None)
    for line in selection.skipped:
        progress.note(line)
    return selection.modules


def _build(modules: "_Modules", args: argparse.Namespace, progress: ShownProgress) -> "list[BuildOutcome]":
    from hubexport.batch import build_batch  # Imports NumPy, which errors need not wait for.
    from hubexport.build import BuildOptions, BuildOrder
    from hubexport.deployment_spec import with_deployments

    requests = requested_deployments(args, "hubexport build")
    orders = [BuildOrder(variant, with_deployments(variant, specs, requests)) for variant, specs in modules]
    options = BuildOptions(
        args.checkpoint, args.weights, args.output_dir, args.overwrite, downloads_of(args), args.scope
    )
    return build_batch(orders, options, jobs=args.jobs, progress=progress)


def _print_table(outcomes: "Sequence[BuildOutcome]", seconds: float) -> None:
    failed = sum(isinstance(outcome.result, HubexportError) for outcome in outcomes)
    columns = [
        Column("module", [outcome.handle for outcome in outcomes]),
        Column("seconds", [f"{one.seconds:.2f}" if one.seconds else "-" for one in outcomes], 1, kind="figure"),
        Column("result", [_result(outcome) for outcome in outcomes], kind="sentence"),
    ]
    print_table(columns, sys.stderr, everything="a wider terminal shows all")
    print(f"{len(outcomes) - failed} built, {failed} failed, in {seconds:.2f} s", file=sys.stderr)


def _result(outcome: "BuildOutcome") -> str:
    return f"FAILED: {outcome.result.what}" if isinstance(outcome.result, HubexportError) else "built"
