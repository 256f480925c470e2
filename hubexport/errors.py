"""Errors for users: each says in three lines what failed, why, and what to do about it."""

from collections.abc import Iterable, Sequence
import difflib
import functools
import numbers
from typing import Any


class HubexportError(Exception):
    """A failure that is not a bug in hubexport; the command line prints it.

    Args:
        what: one line: what could not be done, and with which file or object.
        why: one line: what was found, and what was wanted.
        fix: one line: what to do about it.
        details: further findings, one per line, such as one for each variable.
    """

    def __init__(self, what: str, *, why: str, fix: str, details: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.details = tuple(details)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors are pickled to reach other processes; by default only `what` would be.
        return functools.partial(type(self), why=self.why, fix=self.fix, details=self.details), (self.what,)

    def __str__(self) -> str:
        details = (f"    - {detail}" for detail in self.details)
        return "\n".join(map(printable, (self.what, f"  why: {self.why}", *details, f"  fix: {self.fix}")))


class UsageError(HubexportError):
    """A command or a call asks for something that does not exist, or for things that contradict each other."""


class MissingExtraError(UsageError):
    """A command or a call needs packages that are not installed; `fix` has the pip command that installs them."""


class ConfigError(HubexportError):
    """A variant's YAML file breaks the strict format, or the variant does not exist."""


class CheckpointError(HubexportError):
    """A checkpoint cannot be found or opened, is not safe to read, or does not fit the network."""


class DownloadError(CheckpointError):
    """A published archive cannot be downloaded, or the server sent something else."""


class ModuleError(HubexportError):
    """A path or address does not lead to a module, or the module is damaged."""


class ImageError(HubexportError):
    """There are no images, or a file is not an image, damaged, or too large."""


class ConsumerError(HubexportError):
    """A consumer (a TensorFlow in its own environment) does not exist, cannot be set up, or crashes."""


class DataError(HubexportError):
    """Labelled images cannot be found or read, or their labels do not fit the module's classes."""


class ReleaseError(HubexportError):
    """A release cannot be made, would change what is published, or is incomplete or wrong."""


class ServerError(HubexportError):
    """A server cannot be started as requested."""


class OutputError(HubexportError):
    """Output cannot be written, or would replace something that exists."""


class TemporaryFileError(OutputError):
    """Temporary files have no room, or may not be written; the input is not at fault."""


def check_positive(**counts: object) -> None:
    """Refuses everything but whole numbers of at least 1.

    Args:
        counts: the values by the names of their parameters.
    Raises:
        UsageError: a value is below 1, or not a whole number.
    """
    for name, count in counts.items():
        if not isinstance(count, numbers.Integral) or count < 1:
            raise UsageError(
                f"{name} is {count!r}", why="it must be a whole number, at least 1", fix=f"pass {name}=1, or more"
            )


def check_list(**lists: object) -> None:
    """Refuses a string in place of a list of strings, where it would count as a list of its letters.

    Args:
        lists: the values by the names of their parameters.
    Raises:
        UsageError: a value is a string; `fix` shows the list to pass instead.
    """
    for name, value in lists.items():
        if isinstance(value, str):
            raise UsageError(
                f"{name} is the string {value!r}", why=f"it must be a list of {name}", fix=f"pass [{value!r}]"
            )


def check_choice(what: str, given: object, allowed: Sequence[str]) -> None:
    """Refuses a value that is not among the allowed ones.

    Args:
        what: what messages call the argument.
        given: the argument's value.
        allowed: the values that it may have.
    Raises:
        UsageError: the value is not allowed; the first line guesses which was meant.
    """
    if given not in allowed:
        raise UsageError(
            f"unknown {what} {given!r}{guess(given, allowed)}",
            why=f"it must be {either(allowed)}",
            fix="use one of these",
        )


def either(values: Sequence[object]) -> str:
    """Returns values as a list within a sentence.

    Example:
        >>> either([1, 2, 3])
        '1, 2 or 3'
    """
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last


def printable(text: str) -> str:
    r"""Returns untrusted text, with the characters that could control a terminal escaped.

    Example:
        >>> print(printable("red\x1b[31m"))
        red\x1b[31m
    """
    return text if text.isprintable() else repr(text)[1:-1]


def guess(found: object, allowed: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for a near miss, else the empty string.

    Example:
        >>> guess("image_sise", ["image_size", "network"])
        " (did you mean 'image_size'?)"
        >>> guess("zebra", ["image_size", "network"])
        ''
    """
    near = difflib.get_close_matches(str(found), list(allowed), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
