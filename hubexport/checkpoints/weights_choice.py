"""What `hubexport.json` says of a module's values: averaged, raw, how many of each, or that there was no choice."""

from collections import Counter
from collections.abc import Iterable
import re

from hubexport.checkpoints.sources import Weights

# Of a source that holds one value a variable.
ONLY = "only"

_BOTH = re.compile(r"[1-9][0-9]* averaged, [1-9][0-9]* raw")


def told(taken: Iterable[Weights]) -> str:
    """Returns what the manifest says.

    Args:
        taken: of each variable, which of its values was taken.
    Example:
        >>> told(["raw", "averaged", "averaged"])
        '2 averaged, 1 raw'
        >>> told(["raw", "raw"])
        'raw'
    """
    counts = Counter(taken)
    return ", ".join(f"{counts[one]} {one}" for one in sorted(counts)) if len(counts) > 1 else next(iter(counts))


def may_come_of(asked: str, told_weights: str | None) -> bool:
    """Returns whether a manifest may say this of a build that was asked for `averaged` or for `raw` values.

    Variables without an average have their raw values among averaged ones, and a source may have no averages at all
    of those that a module needs.

    Example:
        >>> may_come_of("averaged", "2 averaged, 1 raw"), may_come_of("raw", "2 averaged, 1 raw")
        (True, False)
    """
    if told_weights in (asked, ONLY):
        return True
    return (
        asked == "averaged"
        and told_weights is not None
        and (told_weights == "raw" or bool(_BOTH.fullmatch(told_weights)))
    )
