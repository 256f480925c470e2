"""Where the texts of a plot have room: whether they overlap points, lines and each other. All sizes are in pixels.

Lines and texts are tested for overlap as rows of circles.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import math

_DOTS_APART = 4

# x and y of the center, and the radius.
_Circle = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class TextBox:
    """The box of a text: its center and its size."""

    x: float
    y: float
    width: float
    height: float

    def touches(self, x: float, y: float, radius: float) -> bool:
        """Tells whether a circle overlaps the box."""
        apart_x = max(abs(self.x - x) - self.width / 2, 0)
        apart_y = max(abs(self.y - y) - self.height / 2, 0)
        return math.hypot(apart_x, apart_y) < radius

    def dots(self) -> Iterator[_Circle]:
        """Yields the box as a row of circles."""
        for offset in range(0, math.ceil(self.width), _DOTS_APART):
            yield self.x - self.width / 2 + offset, self.y, self.height / 2


def dots_along(corners: Sequence[tuple[float, float]]) -> Iterator[_Circle]:
    """Yields a line through corners as a row of circles."""
    for (x, y), (to_x, to_y) in itertools.pairwise(corners):
        dots = max(math.ceil(math.hypot(to_x - x, to_y - y) / _DOTS_APART), 1)
        for dot in range(dots):
            yield x + (to_x - x) * dot / dots, y + (to_y - y) * dot / dots, 1.0
