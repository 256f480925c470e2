"""What a caller says about a module that does not describe itself. Imports nothing heavy."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Literal, get_args

from hubexport.errors import UsageError, check_choice

OutputKind = Literal["logits", "probabilities", "features"]
OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
# A larger image is a typing error, and would fill the memory.
_MAX_IMAGE_SIZE = 8192


@dataclasses.dataclass(frozen=True)
class InterfaceHints:
    """How a module is to be run, according to the caller.

    Attributes:
        input_range: the intensities of black and white that the module takes, like `(-1, 1)`; None if not given.
        output_kind: what the module's output is: `logits`, `probabilities` or `features`; None if not given.
        image_size: height and width of the images in pixels, for a module that takes any size; None if not given.
    """

    input_range: tuple[float, float] | None = None
    output_kind: OutputKind | None = None
    image_size: tuple[int, int] | None = None

    def check(self) -> None:
        """Refuses hints that no module could follow.

        Raises:
            UsageError: the range is not two finite numbers in ascending order, the size is not two positive whole
                numbers, or there is no such kind of output.
        """
        if self.input_range is not None and not _is_range(self.input_range):
            raise UsageError(
                f"input_range is {self.input_range!r}",
                why="it must be two finite numbers, the intensity of black and a higher one for white",
                fix="pass the range that the network was trained with, like (-1, 1) or (0, 255)",
            )
        if self.output_kind is not None:
            check_choice("output_kind", self.output_kind, OUTPUT_KINDS)
        if self.image_size is not None and not is_image_size(self.image_size):
            raise UsageError(
                f"image_size is {self.image_size!r}",
                why=f"it must be two whole numbers from 1 to {_MAX_IMAGE_SIZE}, the height and the width in pixels",
                fix="pass one like (224, 224)",
            )


def _is_range(numbers: Sequence[float]) -> bool:
    try:
        low, high = numbers
        return math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        return False


def is_image_size(numbers: Sequence[int]) -> bool:
    """Returns whether these are a height and a width that images can be resized to."""
    try:
        return len(numbers) == 2 and all(type(one) is int and 1 <= one <= _MAX_IMAGE_SIZE for one in numbers)
    except TypeError:
        return False
