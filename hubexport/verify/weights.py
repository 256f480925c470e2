"""Checks of a module's values, without running it."""

import numpy as np

from hubexport.verify.check import Finding, Group, NotApplicable, nothing_wrong
from hubexport.verify.evidence import Evidence

GROUP = Group("weights")


@GROUP.check
def equal(evidence: Evidence) -> Finding:
    """Every variable is equal to the checkpoint's, bit for bit."""
    if evidence.trained is None:
        raise NotApplicable("no checkpoint was named (--checkpoint)")
    values, stored = evidence.trained.values, evidence.stored
    different = [name for name in values if name not in stored or values[name].tobytes() != stored[name].tobytes()]
    if different and _equals_other(evidence, different[0]):
        different[0] += " (it has the other value: averaged instead of raw, or raw instead of averaged)"
    explanation = f"{len(values)} variables are those of {evidence.trained.shown_as}"
    return nothing_wrong((f"{name} differs" for name in different), explanation, "variables")


def _equals_other(evidence: Evidence, name: str) -> bool:
    assert evidence.trained is not None, "without a checkpoint there is nothing to differ from"
    others = evidence.trained.other.values()
    return any(
        name in one and name in evidence.stored and np.array_equal(one[name], evidence.stored[name]) for one in others
    )


@GROUP.check
def sound(evidence: Evidence) -> Finding:
    """No value is infinite or not a number, and no moving variance is negative."""
    problems = []
    for name, value in evidence.stored.items():
        if not np.isfinite(value).all():
            problems.append(f"{name} has values that are not finite")
        elif name.endswith("/moving_variance") and value.min() < 0:
            problems.append(f"{name} has negative values")
    count = sum(value.size for value in evidence.stored.values())
    return nothing_wrong(problems, f"{count:,} values", "variables")
