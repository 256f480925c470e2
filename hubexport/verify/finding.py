"""What a check finds: whether a module passes, the figure that it measured, and the limit."""

from collections.abc import Iterable
import dataclasses
import math

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
