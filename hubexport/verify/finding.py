"""What a check finds: whether the module passes, the figure that the check measured, and its limit."""

from collections.abc import Iterable
import dataclasses
import math

# A damaged module may have thousands of problems.
_MAX_DETAILS = 20


class NotApplicable(Exception):
    """A check has nothing to look at. The message says why in a few words."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check says of a module. `hubexport.verify.result.CheckResult` describes the fields."""

    passed: bool
    explanation: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""
    details: tuple[str, ...] = ()


def nothing_wrong(problems: Iterable[str], explanation: str, unit: str = "problems") -> Finding:
    """Returns a finding that passes if there are no problems.

    Args:
        problems: one line each.
        explanation: what a passed check says that it looked at.
        unit: what is counted, in the plural.
    """
    problems = list(problems)
    if not problems:
        return Finding(True, explanation, 0, 0, unit)
    if len(problems) == 1:
        return Finding(False, problems[0], 1, 0, unit)
    details = problems[:_MAX_DETAILS]
    if len(problems) > len(details):
        details.append(f"and {len(problems) - len(details)} more")
    return Finding(False, f"{problems[0]}, and {len(problems) - 1} more", len(problems), 0, unit, tuple(details))


def within(measured: float, limit: float, explanation: str, unit: str = "", details: Iterable[str] = ()) -> Finding:
    """Returns a finding that passes if a figure is at most its limit. NaN and infinity fail."""
    passed = math.isfinite(measured) and measured <= limit
    return Finding(passed, explanation, measured, limit, unit, tuple(details)[:_MAX_DETAILS])
