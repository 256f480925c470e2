"""Checks of a module's values, without running it."""

import numpy as np

from hubexport.errors import printable
from hubexport.modules.values import open_stored_values
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong

GROUP = CheckGroup("weights")


@GROUP.check
def equal(evidence: VerificationContext) -> Finding:
    """Every variable equals the checkpoint's, bit for bit."""
    if evidence.trained is None:
        raise NotApplicable("no checkpoint was given (--checkpoint)")
    values, stored = evidence.trained.values, evidence.stored
    different = [name for name in values if name not in stored or values[name].tobytes() != stored[name].tobytes()]
    problems = [f"{name} differs" for name in different]
    if different and (other := _equals_other(evidence, different[0])):
        problems[0] += f" (it has the {other} value, not the {evidence.trained.weights} one)"
    explanation = f"{len(values)} variables equal those of {evidence.trained.shown_as}"
    return nothing_wrong(problems, explanation, "variables")


def _equals_other(evidence: VerificationContext, name: str) -> str | None:
    assert evidence.trained is not None, "without a checkpoint there is nothing to differ from"
    for other, values in evidence.trained.other.items():
        if name in values and name in evidence.stored and np.array_equal(values[name], evidence.stored[name]):
            return other
    return None


@GROUP.check
def sound(evidence: VerificationContext) -> Finding:
    """No value is NaN or infinite, and no moving variance is negative."""
    stored = evidence.stored
    names = open_stored_values(evidence.subject).shapes
    problems = [f"{printable(name)} was not read" for name in names if name not in stored]
    for name, value in stored.items():
        if not np.isfinite(value).all():
            problems.append(f"{name} has NaN or infinite values")
        elif name.endswith("/moving_variance") and value.min() < 0:
            problems.append(f"{name} has negative values")
    count = sum(value.size for value in stored.values())
    return nothing_wrong(problems, f"{count:,} values", "variables")
