"""What a caller says about a module that does not describe itself. Imports nothing heavy."""

from collections.abc import Sequence
import dataclasses
import math
from typing import Literal, get_args

from hubexport.errors import UsageError, check_choice

OutputKind = Literal["logits", "probabilities", "features"]
OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)


@dataclasses.dataclass(frozen=True)
class InterfaceHints:
    """How a module is to be run, according to the caller.

    Attributes:
        input_range: the intensities of black and white that the module takes, like `(-1, 1)`; None if not given.
        output_kind: what the module's output is: `logits`, `probabilities` or `features`; None if not given.
    """

    input_range: tuple[float, float] | None = None
    output_kind: OutputKind | None = None

    def check(self) -> None:
        """Refuses hints that no module could follow.

        Raises:
            UsageError: the range is not two finite numbers in ascending order, or there is no such kind of output.
        """
        if self.input_range is not None and not _is_range(self.input_range):
            raise UsageError(
                f"input_range is {self.input_range!r}",
                why="it must be two finite numbers, the intensity of black and a higher one for white",
                fix="pass the range that the network was trained with, like (-1, 1) or (0, 255)",
            )
        if self.output_kind is not None:
            check_choice("output_kind", self.output_kind, OUTPUT_KINDS)


def _is_range(numbers: Sequence[float]) -> bool:
    try:
        low, high = numbers
        return math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        return False
