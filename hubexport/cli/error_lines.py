"""Errors as the command line shows them."""

from collections.abc import Iterable
import sys

from hubexport.errors import HubexportError, MissingExtraError, UsageError

_FAILED, _MISUSED = 1, 2


def print_errors(errors: Iterable[HubexportError]) -> int:
    """Prints errors to stderr, each text once, and returns the exit status.

    Returns:
        0 without errors; 2 if only the command line is at fault; else 1.
    """
    printed = {str(error): error for error in errors}
    for text in printed:
        print(f"ERROR {text}", file=sys.stderr)
    if not printed:
        return 0
    return _MISUSED if all(map(_is_misuse, printed.values())) else _FAILED


def _is_misuse(error: HubexportError) -> bool:
    # Packages that are missing are no mistake in the command line.
    return isinstance(error, UsageError) and not isinstance(error, MissingExtraError)
