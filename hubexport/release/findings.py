"""What a check of a release finds, and how texts differ, in words."""

from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, TypeVar

import pydantic

from hubexport.release.index import as_json
from hubexport.release.untrusted_folder import UntrustedFileError, parsed

_Result = TypeVar("_Result")

# Longer lines would hide the rest of a report.
_MAX_LINE = 100
_FENCE = "```"


class Finding(NamedTuple):
    """Something that a check found out about a file.

    Attributes:
        path: the file's path in the release.
        what: one line, like `is missing`.
        is_problem: whether it is wrong. If not, only another version of hubexport can tell.
    """

    path: str
    what: str
    is_problem: bool = True


class _Document(pydantic.RootModel[dict[str, Any]]):
    """Any JSON object."""


def collected(
    path: str, check: Callable[..., Generator[str, None, _Result]], *arguments: object
) -> tuple[list[Finding], _Result | None]:
    """Runs a check of one file.

    Args:
        path: the file's path in the release.
        check: yields what is wrong with the file, and returns what it read there.
        arguments: the check's.
    Returns:
        The problems, including the error if the check refuses the file; and the check's result, None if it refuses.
    """
    problems: list[Finding] = []
    running = check(*arguments)
    try:
        while True:
            problems.append(Finding(path, next(running)))
    except StopIteration as finished:
        return problems, finished.value
    except UntrustedFileError as error:
        return [*problems, Finding(path, str(error))], None


def findings_about(path: str, check: Callable[..., Iterable[str] | None], *arguments: object) -> list[Finding]:
    """Returns what a check finds wrong with a file, including the error if the check refuses the file."""

    def run() -> Generator[str, None, None]:
        yield from check(*arguments) or ()

    return collected(path, run)[0]


def json_document(text: str) -> Generator[str, None, dict[str, Any]]:
    """Parses a JSON object, and yields a problem unless it is written as hubexport writes JSON.

    Raises:
        UntrustedFileError: the text is not a JSON object, or has more than 20,000 values.
    """
    document = parsed(_Document, text).root
    try:
        written = as_json(document).decode()
    except ValueError:  # NaN, Infinity, and numbers of thousands of digits.
        yield "holds a number that JSON does not have"
    else:
        if written != text:
            yield f"is reformatted, or repeats a key: {first_difference(written, text)}"
    return document


def first_difference(expected: str, found: str) -> str:
    """Says where two different texts begin to differ.

    Example:
        >>> first_difference("a\\nb\\n", "a\\nc\\n")
        "line 2 is 'c', not 'b'"
    """
    expected_lines, found_lines = expected.split("\n"), found.split("\n")
    pairs = zip(expected_lines, found_lines, strict=False)
    differing = [number for number, (line, other) in enumerate(pairs) if line != other]
    if not differing:
        return f"it ends with line {len(found_lines)}, not {len(expected_lines)}"
    # In JSON, a value that was added also adds a comma to the line before.
    telling = (number for number in differing if expected_lines[number].rstrip(",") != found_lines[number].rstrip(","))
    same = next(telling, differing[0])
    is_code = sum(line.startswith(_FENCE) for line in expected_lines[:same]) % 2 == 1
    line, other = (_cut(lines[same]) for lines in (expected_lines, found_lines))
    if line == other:
        return f"line {same + 1} differs after {_MAX_LINE} characters"
    return f"line {same + 1}{', in a program,' if is_code else ''} is {other!r}, not {line!r}"


def _cut(line: str) -> str:
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}…"
