"""What a check is: a named, documented function of the evidence, with a finding."""

from collections.abc import Callable, Iterable
import dataclasses
import inspect
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubexport.verify.evidence import Evidence

# Of the lines that tell what is wrong; a damaged module may have thousands.
_MAX_DETAILS = 20


class NotApplicable(Exception):
    """There is nothing of what a check looks at; the message says why, in a few words."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check says; see `hubexport.verify.result.Result`."""

    passed: bool
    explanation: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""
    details: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise, and how it is looked at.

    Attributes:
        name: its group and its own name, like `structure.digests`.
        promise: one line: what holds of a module that passes.
        run: looks at the evidence; raises NotApplicable.
        needs_tensorflow: whether it runs the module, or something else, in the installed TensorFlow.
    """

    name: str
    promise: str
    run: Callable[["Evidence"], Finding]
    needs_tensorflow: bool = False


class Group:
    """The checks of one module of this package, in the order in which they are defined.

    Args:
        name: the first part of their names.
        needs_tensorflow: whether they run anything in the installed TensorFlow.
    """

    def __init__(self, name: str, *, needs_tensorflow: bool = False) -> None:
        self._name = name
        self._needs_tensorflow = needs_tensorflow
        self.checks: list[Check] = []

    def check(self, function: Callable[["Evidence"], Finding]) -> Callable[["Evidence"], Finding]:
        """Makes a function a check: its name is the check's, the first line of its docstring the promise."""
        promise = (inspect.getdoc(function) or "").partition("\n")[0]
        self.checks.append(Check(f"{self._name}.{function.__name__}", promise, function, self._needs_tensorflow))
        return function


def nothing_wrong(problems: Iterable[str], explanation: str, unit: str = "problems") -> Finding:
    """Returns a finding that passes if there are no problems.

    Args:
        problems: one line each.
        explanation: what was looked at, in a passed check.
        unit: what is counted.
    """
    found = list(problems)
    shown = found[:_MAX_DETAILS]
    if len(found) > len(shown):
        shown.append(f"and {len(found) - len(shown)} more")
    text = f"{found[0]}{f', and {len(found) - 1} more' if len(found) > 1 else ''}" if found else explanation
    return Finding(not found, text, len(found), 0, unit, tuple(shown) if len(found) > 1 else ())


def within(measured: float, limit: float, explanation: str, unit: str = "", details: Iterable[str] = ()) -> Finding:
    """Returns a finding that passes if a figure is not above its limit; one that is no number fails."""
    passed = math.isfinite(measured) and measured <= limit
    return Finding(passed, explanation, measured, limit, unit, tuple(details)[:_MAX_DETAILS])
