"""How often a module is right, and the uncertainty of that figure."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import numpy as np

from hubexport.arrays import Array

_TOP_N = 5


@dataclasses.dataclass(frozen=True)
class AccuracyCounts:
    """The numbers of images that a module classified and got right. Counts of different images add up.

    Attributes:
        images: the number of images classified.
        top1: how many of these got the right class.
        top5: how many of these have the right class among the best five.
        skipped: a line for each image that cannot be read. `images` does not include these.
    """

    images: int = 0
    top1: int = 0
    top5: int = 0
    skipped: tuple[str, ...] = ()

    def __add__(self, other: "AccuracyCounts") -> "AccuracyCounts":
        return AccuracyCounts(
            self.images + other.images,
            self.top1 + other.top1,
            self.top5 + other.top5,
            tuple(sorted(self.skipped + other.skipped)),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the counts in a form that `json.dumps` accepts."""
        return {**dataclasses.asdict(self), "skipped": list(self.skipped)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "AccuracyCounts":
        """Restores counts from the result of `as_json`.

        Raises:
            KeyError, TypeError, ValueError: `stored` is something else.
        """
        images, top1, top5 = (int(stored[key]) for key in ("images", "top1", "top5"))
        return cls(images, top1, top5, tuple(map(str, stored["skipped"])))


def count_correct(scores: Array, labels: Sequence[int]) -> AccuracyCounts:
    """Counts how often the right class is the best one, and how often it is among the best five.

    Classes with equal scores rank by their index, as with `argmax`. A class whose score is NaN ranks above all others
    and is never right.

    Args:
        scores: float32 [images, classes].
        labels: the index of the right class of each image.
    """
    right = np.asarray(labels)[:, np.newaxis]
    of_right = np.take_along_axis(scores, right, axis=1)
    earlier = np.arange(scores.shape[1]) < right
    better = np.count_nonzero(~(scores <= of_right) | (earlier & (scores == of_right)), axis=1)
    return AccuracyCounts(len(labels), int(np.count_nonzero(better < 1)), int(np.count_nonzero(better < _TOP_N)))


def percent(right: int, images: int) -> float | None:
    """Returns an accuracy in percent; None without images."""
    return 100 * right / images if images else None


def standard_error_percent(right: int, images: int) -> float | None:
    """Returns the binomial standard error of an accuracy, in percent.

    None if all images are right, or none: the formula would give 0, which few images do not justify.
    """
    if not 0 < right < images:
        return None
    share = right / images
    return 100 * math.sqrt(share * (1 - share) / images)
