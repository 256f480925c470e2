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
DEPLOYMENT_CHECKS: tuple[Check, ...] = (
    *deployment.REBUILD.checks,
    *deployment.FILES.checks,
    *deployment.OUTPUTS.checks,
)


def select_checks(
    patterns: Iterable[Check | str], flag: str = "checks", subject: Subject = "module"
) -> tuple[Check, ...]:
    """Returns the selected checks of modules or deployments, in the order in which they run.

    Args:
        patterns: checks, names, groups like `weights`, or patterns like `numbers.*`. Empty selects all checks.
        flag: what messages call `patterns`.
        subject: what is to be checked.
    Returns:
        None of them if the patterns match checks of the other subject alone. A check of deployments is also selected by
        what selects its counterpart among the checks of modules: `numbers` selects `deployment.random`.
    Raises:
        UsageError: a pattern matches no check, or `patterns` is a string.
    """
    check_list(checks=patterns)
    checks = CHECKS if subject == "module" else DEPLOYMENT_CHECKS
    selected: set[str | None] = set()
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
    if not selected:
        return checks
    return tuple(check for check in checks if {check.name, check.counterpart} & selected)


def checks_to_run(
    patterns: Iterable[Check | str], shown_as: str, subject: Subject, flag: str = "checks"
) -> tuple[Check, ...]:
    """Returns the selected checks of one artifact, in the order in which they run.

    Args:
        patterns: as for `select_checks`.
        shown_as: what messages call the artifact.
        subject: what it is.
        flag: what messages call `patterns`.
    Raises:
        UsageError: as for `select_checks`; or all that is selected is of the other subject.
    """
    if selected := select_checks(patterns, flag, subject):
        return selected
    other, example = ("deployment", "weights") if subject == "module" else ("module", "deployment")
    raise UsageError(
        f"no checks to run on {shown_as}",
        why=f"it is a {subject}, and the selected checks are of {other}s",
        fix=f"add checks of {subject}s, like {example}, or leave the selection out",
    )


def need_runtime(checks: Sequence[Check]) -> bool:
    """Tells whether any of these checks runs something: a module in the installed TensorFlow, or a deployment."""
    return any(check.needs_runtime for check in checks)
