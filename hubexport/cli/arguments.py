"""Arguments that several commands take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubexport.checkpoints.cache import Downloads


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Declares where to look for configs beside the built-in ones."""
    parser.add_argument("--config_dir", metavar="DIR", help="a folder with YAML files of your own variants")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Declares which values of a training's checkpoint to take."""
    parser.add_argument(
        "--weights",
        choices=("averaged", "raw"),
        default="averaged",
        help="the moving averages of the trained values, with which the published accuracy was measured, or the "
        "plain values (default: averaged)",
    )


def add_download_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares where published archives are kept and fetched from."""
    parser.add_argument(
        "--cache_dir",
        metavar="DIR",
        help="where downloaded archives are kept (default: $HUBEXPORT_CACHE_DIR, or a folder of your cache folder)",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        help="download URL/FILE instead of what the config names; the SHA-256 stays that of the config",
    )
    parser.add_argument("--offline", action="store_true", help="take what is in the cache, and download nothing")


def downloads_of(args: argparse.Namespace) -> "Downloads":
    """Returns what `add_download_arguments` declared.

    Raises:
        UsageError: the mirror is no address.
    """
    from hubexport.checkpoints.cache import Downloads

    return Downloads(Path(args.cache_dir) if args.cache_dir else None, args.mirror, args.offline)


def positive(text: str) -> int:
    """Returns a number of things of which there must be one at least, for argparse."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number
