"""The largest limits that checks set, by which a reader of a report can tell that somebody raised one."""

import math

from hubexport.verify.checks.behaviour import GRADIENT_LIMIT, LARGEST_DROPOUT_LIMIT, LOSS_LIMIT, PARTS_OF_LIMIT
from hubexport.verify.layer_errors import LIMIT_IN_FLOORS

# The checks of these groups count problems: a module that passes has none.
_COUNTING_GROUPS = ("rebuild", "structure", "weights", "consumers")
# Some of this one do, too; the others measure floors.
_DEPLOYMENT_COUNTS = ("deployment.digests", "deployment.manifest", "deployment.rebuild", "deployment.interface")
# So do all figures in other units than these.
_BY_UNIT = {"": math.inf, "float32 floors": LIMIT_IN_FLOORS, "floors": LIMIT_IN_FLOORS, PARTS_OF_LIMIT: 1}
# Figures without a unit are differences, which are compared with fixed limits, or with a number of float32 floors. A
# floor depends on the network and the images. The largest that were seen are a thousandth of this.
_LARGEST_DIFFERENCE = 0.1
_BY_CHECK = {
    "behaviour.moving_averages": 1.0,
    "behaviour.dropout": LARGEST_DROPOUT_LIMIT,
    "behaviour.regularization": LOSS_LIMIT,
    "behaviour.shared_variables": GRADIENT_LIMIT,
}


def counts_problems(check: str) -> bool:
    """Tells whether a check, by its name, passes only if it counts no problem."""
    return check.partition(".")[0] in _COUNTING_GROUPS or check in _DEPLOYMENT_COUNTS


def highest_limit(check: str, unit: str) -> float:
    """Returns the largest limit of any module.

    Args:
        check: the check's name.
        unit: the unit of its figure.
    """
    if counts_problems(check):
        return 0
    return min(_BY_UNIT.get(unit, 0), _BY_CHECK.get(check, _LARGEST_DIFFERENCE if unit == "" else math.inf))
