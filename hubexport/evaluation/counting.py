"""How often a module was right, and how sure a reader can be of it."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from hubexport.arrays import Array

_BEST = 5


@dataclasses.dataclass(frozen=True)
class Counts:
    """What came of some images; counts of different images add up.

    Attributes:
        images: that were classified.
        top1: of these, how many got the right class.
        top5: of these, how many have the right class among the best five.
        skipped: a line for each image that cannot be read, which is not in `images`.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0
    skipped: tuple[str, ...] = ()

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.images + other.images,
            self.top1 + other.top1,
            self.top5 + other.top5,
            tuple(sorted(self.skipped + other.skipped)),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the counts as `json.dumps` takes them."""
        return {**dataclasses.asdict(self), "skipped": list(self.skipped)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Counts":
        """Returns what `as_json` gave.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        images, top1, top5 = (int(stored[key]) for key in ("images", "top1", "top5"))
        return cls(images, top1, top5, tuple(map(str, stored["skipped"])))


def count(scores: Array, labels: Sequence[int]) -> Counts:
    """Counts how often the right class is the best, and among the best five.

    Of classes with equal scores the first is the better one, as for `argmax`. What is not a number is better than any
    other and never right.

    Args:
        scores: float32 [images, classes].
        labels: the right class of each image.
    """
    right = np.asarray(labels)[:, np.newaxis]
    of_right = np.take_along_axis(scores, right, axis=1)
    earlier = np.arange(scores.shape[1]) < right
    better = np.count_nonzero(~(scores <= of_right) | (earlier & (scores == of_right)), axis=1)
    return Counts(len(labels), int(np.count_nonzero(better < 1)), int(np.count_nonzero(better < _BEST)))


def percent(right: int, images: int) -> float | None:
    """Returns an accuracy in percent; None without images."""
    return 100 * right / images if images else None


def standard_error_percent(right: int, images: int) -> float | None:
    """Returns the standard error of an accuracy, in percent, if each image is right or wrong by itself (binomial).

    None where all or none are right: so few images tell nothing about it.
    """
    if not 0 < right < images:
        return None
    share = right / images
    return 100 * math.sqrt(share * (1 - share) / images)
