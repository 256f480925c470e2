"""All checks, in the order in which they run: the rebuild first, which tells the most, and then the cheap ones."""

from collections.abc import Iterable, Sequence
import fnmatch

from hubexport.errors import UsageError, check_list, guess
from hubexport.verify.check import Check
from hubexport.verify.checks import behaviour, consumers, deployment, numbers, rebuild, structure, weights
from hubexport.verify.result import Subject

CHECKS: tuple[Check, ...] = tuple(
    check for group in (rebuild, structure, weights, numbers, behaviour, consumers) for check in group.GROUP.checks
)
DEPLOYMENT_CHECKS: tuple[Check, ...] = (*deployment.REBUILD.checks, *deployment.GROUP.checks)


def select_checks(
    patterns: Iterable[Check | str], flag: str = "checks", subject: Subject = "module"
) -> tuple[Check, ...]:
    """Returns the selected checks of modules or deployments, in the order in which they run.

    Args:
        patterns: checks, names, groups like `weights`, or patterns like `numbers.*`. Empty selects all checks.
        flag: what messages call `patterns`.
        subject: what is to be checked.
    Returns:
        None of them if the patterns match checks of the other subject alone.
    Raises:
        UsageError: a pattern matches no check, or `patterns` is a string.
    """
    check_list(checks=patterns)
    selected: set[str] = set()
    names = [check.name for check in (*CHECKS, *DEPLOYMENT_CHECKS)]
    for pattern in (item.name if isinstance(item, Check) else str(item) for item in patterns):
        matches = {name for name in names if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
        if not matches:
            raise UsageError(
                f"{flag} {pattern}: no such check{guess(pattern, names)}",
                why=f"the checks are {', '.join(names)}",
                fix="use one of these, or a group like weights",
            )
        selected |= matches
    checks = CHECKS if subject == "module" else DEPLOYMENT_CHECKS
    return tuple(check for check in checks if check.name in selected) if selected else checks


def needs_tensorflow(checks: Sequence[Check]) -> bool:
    """Tells whether any of these checks runs something in the installed TensorFlow."""
    return any(check.needs_tensorflow for check in checks)
