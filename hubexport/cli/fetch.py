"""Downloads published archives into the cache and prints their paths, or lists what the cache holds."""

import argparse
from collections.abc import Iterator, Sequence
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from hubexport.cli.arguments import add_config_dir, add_download_arguments, add_quiet, add_variants, downloads_of
from hubexport.cli.error_lines import print_errors
from hubexport.cli.progress_display import ShownProgress, shown_progress
from hubexport.cli.text_tables import Column, print_table
from hubexport.errors import CheckpointError, HubexportError, UsageError

if TYPE_CHECKING:
    from hubexport.checkpoints.download_cache import CachedArchive, Downloads
    from hubexport.progress import Progress
    from hubexport.variants import PublishedCheckpoint, Variant

    # The path of an archive and whether the cache held it already, or why it could not be downloaded.
    Outcome = tuple[Path, bool] | HubexportError

SUMMARY = "download published archives, or list what the cache holds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport fetch`."""
    add_variants(parser, "the variants whose archives to download")
    add_download_arguments(parser)
    parser.add_argument(
        "--list",
        action="store_true",
        help="download nothing; list the archives with their sizes, and whether the cache holds them intact",
    )
    parser.add_argument("--format", choices=("text", "json"), help="the output format of --list (default: text)")
    add_config_dir(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Downloads archives and prints their paths, or lists them. Returns the exit status."""
    from hubexport.config_files import list_variants, select_variants

    downloads = downloads_of(args)
    if args.list:
        variants = select_variants(args.variant, args.config_dir) if args.variant else list_variants(args.config_dir)
        _list(variants, downloads, args.format)
        return 0
    if not args.variant:
        raise UsageError(
            "hubexport fetch: no --variant",
            why="it says which archives to download",
            fix="write `hubexport fetch --variant NAME` with a name from `hubexport list`, or all; or add --list",
        )
    if args.format:
        raise UsageError(
            f"--format {args.format} needs --list",
            why="only --list has a choice of formats",
            fix="add --list, or remove --format",
        )
    from hubexport.selection import select_modules

    selection = select_modules(args.variant, config_dir=args.config_dir)
    with shown_progress(args.quiet) as progress:
        for line in selection.skipped:
            progress.note(line)
        return _fetch([variant for variant, _ in selection.modules], downloads, progress)


def _fetch(variants: "Sequence[Variant]", downloads: "Downloads", progress: ShownProgress) -> int:
    outcomes = list(_outcomes(variants, downloads, progress))
    archives = [outcome for outcome in outcomes if not isinstance(outcome, HubexportError)]
    for path, was_cached in archives:
        if was_cached:
            progress.note(f"already in the cache: {path}")
    for path, _ in archives:
        progress.result(str(path))
    return print_errors(outcome for outcome in outcomes if isinstance(outcome, HubexportError))


def _outcomes(variants: "Sequence[Variant]", downloads: "Downloads", progress: "Progress") -> "Iterator[Outcome]":
    """Yields the outcome for each archive. Variants that share an archive get one outcome."""
    from hubexport.checkpoints.download_cache import look_up

    seen = set()
    for variant in variants:
        published = variant.checkpoint
        if published is None:
            yield CheckpointError(
                f"no published archive for {variant.name}",
                why="its config does not say where one is published",
                fix="leave it out, and pass your own checkpoint to `hubexport build` with --checkpoint",
            )
        elif (published.url, published.sha256) not in seen:
            seen.add((published.url, published.sha256))
            archive = look_up(published, downloads)
            yield (archive.path, True) if archive.state == "intact" else _download(published, downloads, progress)


def _download(published: "PublishedCheckpoint", downloads: "Downloads", progress: "Progress") -> "Outcome":
    from hubexport.checkpoints.download import fetch  # Imports an HTTP library, which cached archives do not need.

    try:
        return fetch(published, progress, downloads), False
    except HubexportError as error:
        return error


def _list(variants: "Sequence[Variant]", downloads: "Downloads", form: str | None) -> None:
    from hubexport.checkpoints.download_cache import look_up

    listed = [(each, look_up(each.checkpoint, downloads) if each.checkpoint else None) for each in variants]
    if form == "json":
        print(json.dumps([_as_json(variant, archive) for variant, archive in listed], indent=2))
    else:
        _print_table(listed)


def _as_json(variant: "Variant", archive: "CachedArchive | None") -> dict[str, Any]:
    if variant.checkpoint is None or archive is None:
        return {"variant": variant.name, "state": "not published"}
    return {
        "variant": variant.name,
        "url": variant.checkpoint.url,
        "sha256": variant.checkpoint.sha256 or archive.remembered,
        "pinned": variant.checkpoint.sha256 is not None,
        "path": str(archive.path),
        "size_bytes": archive.size,
        "state": archive.state,
        "set_aside": [str(path) for path in archive.set_aside],
    }


def _print_table(listed: "Sequence[tuple[Variant, CachedArchive | None]]") -> None:
    rows = [_row(variant, archive) for variant, archive in listed]
    files, sizes, states, paths = zip(*rows, strict=True)
    columns = [
        Column("variant", [variant.name for variant, _ in listed]),
        Column("file", files, importance=2),
        Column("size (MB)", sizes, importance=3, kind="figure"),
        Column("state", states, importance=4, kind="words"),
        Column("path", paths, importance=1),
    ]
    print_table(columns, sys.stdout)


def _row(variant: "Variant", archive: "CachedArchive | None") -> tuple[str, str, str, str]:
    """Returns the archive's name, size, state and path."""
    from hubexport.checkpoints.download_cache import file_name

    if variant.checkpoint is None or archive is None:
        return "-", "-", "not published", "-"
    size = f"{archive.size / 1e6:.1f}" if archive.size else "-"
    unpinned = ", not pinned" * (variant.checkpoint.sha256 is None)
    state = "".join([archive.state, unpinned, *(f", set aside: {path.name}" for path in archive.set_aside)])
    return file_name(variant.checkpoint.url), size, state, str(archive.path)
