"""Errors as the command line shows them."""

from collections.abc import Iterable
import sys

from hubexport.errors import HubexportError


def print_errors(errors: Iterable[HubexportError]) -> int:
    """Prints errors to stderr, each text once, and returns the exit status: 1 if there are any, else 0."""
    texts = dict.fromkeys(map(str, errors))
    for text in texts:
        print(f"ERROR {text}", file=sys.stderr)
    return 1 if texts else 0
