"""Checks of a module's values, which do not run the module."""

from collections.abc import Mapping

import numpy as np

from hubexport.arrays import Array
from hubexport.errors import printable
from hubexport.modules.values import open_stored_values
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.expected_values import ExpectedValues
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong

GROUP = CheckGroup("weights", proof="computation")


@GROUP.check
def equal(context: VerificationContext) -> Finding:
    """Every variable equals the checkpoint's, bit for bit."""
    expected = context.expected
    if expected is None:
        raise NotApplicable("no checkpoint was given (--checkpoint)")
    values, stored = expected.values, context.stored_values
    different = [name for name in values if name not in stored or values[name].tobytes() != stored[name].tobytes()]
    problems = [f"{name} differs" for name in different]
    if different and (choice := _other_choice(different[0], expected, stored)):
        problems[0] += f" (it has the {choice} value, not the {expected.weights} one)"
    explanation = f"{len(values)} variables equal those of {expected.shown_as}"
    return nothing_wrong(problems, explanation, "variables")


def _other_choice(name: str, expected: ExpectedValues, stored: Mapping[str, Array]) -> str | None:
    """Returns which of the checkpoint's other values the module stores for a variable, if it stores one of them."""
    for choice, values in expected.other().items():
        if name in values and name in stored and np.array_equal(values[name], stored[name]):
            return choice
    return None


@GROUP.check
def sound(context: VerificationContext) -> Finding:
    """No value is NaN or infinite, and no moving variance is negative."""
    stored = context.stored_values
    variances = {variable.name for variable in context.network.variables if variable.role == "moving_variance"}
    names = open_stored_values(context.module).shapes
    problems = [f"{printable(name)} was not read" for name in names if name not in stored]
    for name, value in stored.items():
        if not np.isfinite(value).all():
            problems.append(f"{name} has NaN or infinite values")
        elif name in variances and value.min() < 0:
            problems.append(f"{name} has negative values")
    count = sum(value.size for value in stored.values())
    return nothing_wrong(problems, f"{count:,} values", "variables")
