"""What hubexport says when it cannot go on: one root, three lines, a few kinds."""

from collections.abc import Iterable, Sequence
import difflib
import functools
import numbers
from typing import Any


class HubexportError(Exception):
    """A failure that is not a bug in hubexport; the command line prints it and exits with status 1.

    Args:
        what: one line, what could not be done and on which thing.
        why: one line, what was found and what was wanted.
        fix: one line, what to do about it.
        details: further findings, one a line, for failures that have many (one a variable, say).
    """

    def __init__(self, what: str, *, why: str, fix: str, details: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.details = tuple(details)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes; by default only `what` would.
        return functools.partial(type(self), why=self.why, fix=self.fix, details=self.details), (self.what,)

    def __str__(self) -> str:
        details = (f"    - {detail}" for detail in self.details)
        return "\n".join(map(printable, (self.what, f"  why: {self.why}", *details, f"  fix: {self.fix}")))


class UsageError(HubexportError):
    """A command or a call asks for something that does not exist or does not go together."""


class MissingExtraError(UsageError):
    """What is asked for needs packages that are not installed; `fix` is the pip command that installs them."""


class ConfigError(HubexportError):
    """A variant's YAML file is not what the strict format wants, or there is no such variant."""


class CheckpointError(HubexportError):
    """A checkpoint cannot be found, opened, trusted or fitted to the network."""


class DownloadError(CheckpointError):
    """A published archive cannot be fetched, or what came is not it."""


class ModuleError(HubexportError):
    """A directory is no module, or a damaged one."""


class ImageError(HubexportError):
    """There are no images, or one is damaged, too large, or none at all."""


class ConsumerError(HubexportError):
    """A TensorFlow of another environment is not known, cannot be set up, or breaks off."""


class DataError(HubexportError):
    """Labelled images cannot be found or read, or their labels do not fit the module."""


class ReleaseError(HubexportError):
    """A release cannot be made, would change what is published, or is not whole and right."""


class ServerError(HubexportError):
    """A release cannot be served as was asked."""


class OutputError(HubexportError):
    """Output cannot be written, or would replace what stands there already."""


class TemporaryFileError(OutputError):
    """There is no room for temporary files, or no permission to write them; what was read is not at fault."""


def check_positive(**counts: object) -> None:
    """Refuses anything but whole numbers of at least 1.

    Args:
        counts: each under the name of its parameter.
    Raises:
        UsageError: one of them is below 1, or no whole number.
    """
    for name, count in counts.items():
        if not isinstance(count, numbers.Integral) or count < 1:
            raise UsageError(
                f"{name} is {count!r}", why="it must be a whole number, at least 1", fix=f"pass {name}=1, or more"
            )


def check_list(**lists: object) -> None:
    """Refuses one string where a list of strings is wanted: it would be taken for a list of its letters.

    Args:
        lists: each under the name of its parameter.
    Raises:
        UsageError: one of them is a string; `fix` shows the list that is wanted.
    """
    for name, given in lists.items():
        if isinstance(given, str):
            raise UsageError(
                f"{name} is the string {given!r}", why=f"it must be a list of {name}", fix=f"pass [{given!r}]"
            )


def check_choice(what: str, given: object, allowed: Sequence[str]) -> None:
    """Refuses anything but the texts that an argument may be.

    Args:
        what: what messages call the argument.
        given: its value.
        allowed: the texts.
    Raises:
        UsageError: the value is none of them; `what` guesses which was meant.
    """
    if given not in allowed:
        raise UsageError(
            f"unknown {what} {given!r}{guess(given, allowed)}",
            why=f"it must be {either(allowed)}",
            fix="use one of these",
        )


def either(values: Sequence[object]) -> str:
    """Returns values as a sentence lists them.

    Example:
        >>> either([1, 2, 3])
        '1, 2 or 3'
    """
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last


def printable(text: str) -> str:
    r"""Returns a stranger's text with escapes for what a terminal would obey.

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
