"""Builds modules from checkpoints and prints their paths."""

import argparse
from collections.abc import Sequence
import sys
import time
from typing import TYPE_CHECKING

from hubexport.cli.arguments import (
    add_config_dir,
    add_download_arguments,
    add_scope,
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
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME",
        help="the variant to build: a name from `hubexport list`, a pattern like 'mobilenet_v2_*_96', or all. Patterns "
        "and all skip variants without a checkpoint, and modules that a variant lacks. Repeat the flag for more",
    )
    _add_name_arguments(parser)
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="KIND[/VERSION]",
        help="the kind of module, feature_vector or classification, and its version, 1 to 5; a kind alone means the "
        "versions in the config. Repeat the flag for more (default: all modules in the config)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="SOURCE",
        help="a published archive (.tgz), a directory with one checkpoint, a prefix like model.ckpt, any other source "
        "that `hubexport convert` reads, or synthetic[:SEED] for made-up weights; {variant} in it stands for each "
        "variant's name (default: download the archive that the config names)",
    )
    add_deployment(parser, "also write each module for use without TensorFlow, below DIR/deployments")
    add_weights(parser)
    add_scope(parser)
    parser.add_argument(
        "--output_dir",
        default="modules",
        metavar="DIR",
        help="write modules to DIR/PUBLISHER/COLLECTION/NAME/KIND/VERSION (default: modules)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing modules")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="build variants in N processes at once (default: 1)",
    )
    add_download_arguments(parser)
    add_config_dir(parser)


def _add_name_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="in place of --variant: build modules of what --checkpoint holds, recognized, and call them "
        "PUBLISHER/models/NAME/KIND/VERSION; the config that this stands for is printed to stderr",
    )
    parser.add_argument("--publisher", metavar="NAME", help="with --name: the publisher in handles (default: local)")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="with --name: a text file with one class name per line (default: the names that come with the checkpoint)",
    )
    parser.add_argument(
        "--image_size",
        type=positive,
        metavar="PIXELS",
        help="with --name: the height and width of the images (default: what the checkpoint says)",
    )
    parser.add_argument(
        "--network", metavar="FAMILY", help="with --name: the network, where the checkpoint fits several"
    )
    parser.add_argument(
        "--depth_multiplier",
        type=float,
        metavar="X",
        help="with --name: the depth multiplier of a MobileNet, if it is not a published one",
    )
    parser.add_argument(
        "--print_config",
        action="store_true",
        help="with --name: build nothing, and print the config to stdout; to be saved as NAME.yaml for --config_dir",
    )


def run(args: argparse.Namespace) -> int:
    """Builds modules, prints the path of each, and returns the exit status."""
    _check_flags(args)
    started = time.monotonic()
    with shown_progress() as progress:
        if args.name is not None:
            variant, config = _recognized_variant(args, progress)
            if args.print_config:
                progress.result(config)
                return 0
            how = "to save it, repeat the command with --print_config, and send stdout to that file"
            progress.note(f"# {variant.name}.yaml: the config that --name stands for; {how}\n{config}")
            modules: "_Modules" = ((variant, variant.modules),)
        else:
            modules = _selected_modules(args)
        outcomes = _build(modules, args, progress)
    for outcome in outcomes:
        if not isinstance(outcome.result, HubexportError):
            print(outcome.result)
    status = print_errors(outcome.result for outcome in outcomes if isinstance(outcome.result, HubexportError))
    if len(outcomes) > 1:
        _print_table(outcomes, time.monotonic() - started)
    return status


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that contradict each other, and those without which others mean nothing."""
    if args.name is None:
        for flag in _WITH_NAME:
            if getattr(args, flag) not in (None, False):
                raise UsageError(
                    f"--{flag} needs --name",
                    why="without it, the config of the variant says what to build",
                    fix=f"build what is in a checkpoint with --name, or leave out --{flag}",
                )
        if not args.variant:
            args.parser.error("one of the arguments --variant and --name is required")
        return
    for flag in ("variant", "config_dir"):
        if getattr(args, flag):
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
    from hubexport.batch import VARIANT_PLACEHOLDER
    from hubexport.checkpoint_variant import DEFAULT_PUBLISHER, recognize_variant
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


def _selected_modules(args: argparse.Namespace) -> "_Modules":
    """Returns the variants with configs, and prints which of them are skipped."""
    from hubexport.selection import select_modules

    selection = select_modules(args.variant, args.module, args.config_dir, published_only=args.checkpoint is None)
    for line in selection.skipped:
        print(line, file=sys.stderr)
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
