"""All checks, in the order in which they run: the cheap ones first, and what the others build on."""

from collections.abc import Iterable, Sequence
import fnmatch

from hubexport.errors import UsageError, check_list, guess
from hubexport.verify.check import Check
from hubexport.verify.checks import behaviour, consumers, numbers, structure, weights

CHECKS: tuple[Check, ...] = tuple(
    check for group in (structure, weights, numbers, behaviour, consumers) for check in group.GROUP.checks
)


def select_checks(patterns: Iterable[Check | str], flag: str = "checks") -> tuple[Check, ...]:
    """Returns the checks that are asked for, in their own order.

    Args:
        patterns: checks, names, groups like `weights`, or patterns like `numbers.*`; empty means all.
        flag: what messages call the choice.
    Raises:
        UsageError: a pattern fits no check, or `patterns` is one string.
    """
    check_list(checks=patterns)
    chosen: set[str] = set()
    names = [check.name for check in CHECKS]
    for pattern in (one.name if isinstance(one, Check) else str(one) for one in patterns):
        found = {name for name in names if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
        if not found:
            raise UsageError(
                f"{flag} {pattern}: no such check{guess(pattern, names)}",
                why=f"the checks are {', '.join(names)}",
                fix="use one of these, or a group like weights",
            )
        chosen |= found
    return tuple(check for check in CHECKS if check.name in chosen) if chosen else CHECKS


def needs_tensorflow(checks: Sequence[Check]) -> bool:
    """Tells whether any of these checks runs something in the installed TensorFlow."""
    return any(check.needs_tensorflow for check in checks)
