"""Prints a script with which a shell completes commands, flags, choices and names of variants.

The script knows this version of hubexport, and needs no Python while it completes: print it again after an update.
"""

import argparse

from hubexport.cli.command_words import command_words
from hubexport.cli.completion_scripts import SCRIPTS

SUMMARY = "print a script that completes commands in a shell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport completion`."""
    parser.add_argument(
        "shell",
        choices=tuple(SCRIPTS),
        metavar="SHELL",
        help='bash, zsh or fish. In bash and zsh, `eval "$(hubexport completion SHELL)"` uses the script; in fish, '
        "`hubexport completion fish | source`",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the script, and returns the exit status."""
    print(SCRIPTS[args.shell](command_words(args.parser.whole)), end="")
    return 0
