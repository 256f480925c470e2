"""The choice between averaged and raw values, and how `hubexport.json` records it."""

from collections import Counter
from collections.abc import Iterable
import re
from typing import Literal, get_args

from hubexport.errors import check_choice

# A variable's moving average, with which the published accuracy was measured, or its last value.
Choice = Literal["averaged", "raw"]
# What users ask for. With `auto`, variables get their averages as with `averaged`, but none of them needs one.
Weights = Literal["auto", "averaged", "raw"]

# Recorded for sources that store one value per variable.
ONLY = "only"

_BOTH = re.compile(r"[1-9][0-9]* averaged, [1-9][0-9]* raw")


def check_weights(weights: Weights) -> None:
    """Refuses weights that are none of `auto`, `averaged` and `raw`.

    Raises:
        UsageError: there are no such weights.
    """
    check_choice("weights", weights, get_args(Weights))


def summarize_weights(choices: Iterable[Choice]) -> str:
    """Sums up which value was restored for each variable, as the manifest records it.

    Example:
        >>> summarize_weights(["raw", "averaged", "averaged"])
        '2 averaged, 1 raw'
        >>> summarize_weights(["raw", "raw"])
        'raw'
    """
    counts = Counter(choices)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{counts[weights]} {weights}" for weights in sorted(counts))


def weights_match(requested: str, recorded: str | None) -> bool:
    """Tells whether a build with the requested weights can have recorded this summary.

    A variable without an average gets its raw value unless only raw values were requested. That can be all variables of
    a module.

    Example:
        >>> weights_match("averaged", "2 averaged, 1 raw"), weights_match("raw", "2 averaged, 1 raw")
        (True, False)
    """
    if recorded is None or requested not in get_args(Weights):
        return False
    if requested == "raw":
        return recorded in ("raw", ONLY)
    return recorded in (*get_args(Choice), ONLY) or bool(_BOTH.fullmatch(recorded))
