"""Arguments that several commands have."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.errors import UsageError

if TYPE_CHECKING:
    from hubexport.beam.options import Beam
    from hubexport.checkpoints.download_cache import Downloads


def comma_separated(text: str) -> list[str]:
    """Parses the value of a flag that takes several, for argparse; see `add_list`."""
    values = text.split(",")
    if not all(values):
        raise argparse.ArgumentTypeError(f"{text}: must be a value, or several with commas between them")
    return values


def add_list(parser: argparse._ActionsContainer, flag: str, *, metavar: str, help: str) -> None:
    """Adds a flag that takes several values: after commas, or with the flag repeated.

    Args:
        parser: the command's parser.
        flag: the flag.
        metavar: what one value is called.
        help: the help text.
    """
    parser.add_argument(flag, action="extend", type=comma_separated, default=[], metavar=f"{metavar}[,...]", help=help)


def add_variants(parser: argparse.ArgumentParser, what: str, default: str | None = None) -> None:
    """Adds the flag that selects variants.

    Args:
        parser: the command's parser.
        what: what the command does with them, like `the variants to build`.
        default: the variants without the flag, for its help; None if there are none.
    """
    add_list(
        parser,
        "--variant",
        metavar="NAME",
        help=f"{what}: names from `hubexport list`, patterns like 'mobilenet_v2_*_96', or all. Patterns and all skip "
        f"variants without a published checkpoint{f' (default: {default})' if default else ''}",
    )


def add_modules(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that selects the modules of variants."""
    add_list(
        parser,
        "--module",
        metavar="KIND[/VERSION]",
        help="their modules: the kind feature_vector or classification, alone or with a version from 1 to 5 (default: "
        "those in each variant's config)",
    )


def add_checks(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the flag that selects checks.

    Args:
        parser: the command's parser.
        default: the checks without the flag, for its help.
    """
    add_list(
        parser,
        "--checks",
        metavar="NAME",
        help="run only these checks: names or groups from `hubexport verify --list-checks`, or '*' for all (default: "
        f"{default})",
    )


def add_output_dir(parser: argparse.ArgumentParser, default: str, help: str) -> None:
    """Adds the folder that a command writes to."""
    parser.add_argument("-o", "--output-dir", default=default, metavar="DIR", help=f"{help} (default: {default})")


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Adds the number of processes."""
    parser.add_argument("-j", "--jobs", type=positive, default=1, metavar="N", help="work in N processes (default: 1)")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Adds the flag that silences progress."""
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print no progress and no notes, only results, warnings and errors"
    )


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Adds the folder of the user's own configs."""
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with YAML files for your own variants")


def add_format_argument(parser: argparse.ArgumentParser, *formats: str) -> None:
    """Adds the choice of the output format. The first format is the default."""
    parser.add_argument(
        "--format", choices=formats, default=formats[0], help=f"the output format (default: {formats[0]})"
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Adds the choice between averaged and raw values of a checkpoint."""
    parser.add_argument(
        "--weights",
        choices=("auto", "averaged", "raw"),
        default="auto",
        help="averaged: the moving averages of the trained values, which gave the published accuracy; raw: the plain "
        "values; auto: averaged where the checkpoint has averages, else raw (default: auto)",
    )


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Adds the scope of the network's variables in a checkpoint."""
    parser.add_argument(
        "--scope",
        metavar="PREFIX",
        help="what the names of the network's variables begin with in the checkpoint, like module/MobilenetV2 "
        "(default: TF-Slim's own root scope, or else the only scope that holds a whole network)",
    )


def add_download_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where published archives are kept, and where they are downloaded from."""
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where to keep downloaded archives (default: $HUBEXPORT_CACHE_DIR, or hubexport in your cache folder)",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="download URL/FILE instead of the address in the config; its SHA-256 must still match the config",
    )
    parser.add_argument("--offline", action="store_true", help="use the cache only, and download nothing")


def downloads_of(args: argparse.Namespace) -> "Downloads":
    """Returns the values of `add_download_arguments`' flags.

    Raises:
        UsageError: the mirror is not an address.
    """
    from hubexport.checkpoints.download_cache import Downloads

    return Downloads(Path(args.cache_dir) if args.cache_dir else None, args.mirror, args.offline)


def add_beam_option(parser: argparse.ArgumentParser) -> None:
    """Adds the options for Apache Beam. Each command adds its own flag for the runner."""
    parser.add_argument(
        "--beam-option",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="an option for Beam or the runner, like flink_master=localhost:8081. Repeat the flag for more",
    )


def beam_of(runner: str | None, options: Sequence[str]) -> "Beam | None":
    """Returns the Beam runner that does the work; None means this process.

    Args:
        runner: the name of one of Beam's runners; None if Beam is not used.
        options: the values of `--beam-option`.
    Raises:
        UsageError: there are options for Beam, but it is not used.
    """
    from hubexport.beam.options import Beam

    if runner is None:
        if options:
            raise UsageError(
                f"--beam-option {options[0]} needs --runner",
                why="without --runner, Apache Beam is not used",
                fix="add --runner, or remove --beam-option",
            )
        return None
    return Beam(runner, tuple(options))


def positive(text: str) -> int:
    """Parses a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number, at least 1")
    return int(text)


def base_url(text: str) -> str:
    """Returns the value of `--url` without a slash at the end.

    Raises:
        UsageError: `text` is not the address of a server or of a folder on it.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"--url {text}: not a valid address",
            why="--url takes the http or https address of a server, or of a folder on it",
            fix="use an address like --url https://models.example.org/hub",
        )
    return text.rstrip("/")


def add_tfjs(parser: argparse.ArgumentParser) -> None:
    """Adds the flag for the TF.js that pages load."""
    parser.add_argument(
        "--tfjs",
        metavar="PATH",
        help="the npm package @tensorflow/tfjs, or its tf.es2017.min.js: with it, visitors' own browsers classify "
        "photographs on the pages of modules that have a deployment for TF.js",
    )


def tfjs_of(args: argparse.Namespace) -> bytes | None:
    """Returns the content of `--tfjs`; None if it is not given.

    Raises:
        UsageError: the file cannot be read, or is another one.
    """
    from hubexport.site.tfjs_runtime import read_tfjs_runtime

    return read_tfjs_runtime(Path(args.tfjs)) if args.tfjs else None
