"""The plot of layer errors: how far each layer's output is from the exact one, beside float32's own rounding."""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import TYPE_CHECKING

from hubexport.errors import printable
from hubexport.plots.drawing import add_marker, add_plain_axes, draw_svg
from hubexport.plots.inline_svg import CLASS, Circle, Mark, inline_svg
from hubexport.verify.report.figures import figure, power_of_ten
from hubexport.verify.result import LayerError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# In pixels on a wide screen.
_WIDTH, _HEIGHT = 1040, 380
_LEFT, _RIGHT = 58, 1030
_TOP, _BOTTOM = 14, 330
_FONT_SIZE = 13
_DOT_RADIUS = 2.6
_MAX_POWER_LABELS = 8
_MAX_NUMBER_LABELS = 14
# Powers of ten around float32's rounding, for layers without any error on the log scale.
_DEFAULT_POWERS = (-8, -4)
# What has no logarithm has a row of its own, this share of the log scale above or below it.
_ROW = 0.09

# Without a style sheet.
_ERROR, _FAIL, _FLOOR, _FLOOR_AREA = "#0a5ca8", "#b3211a", "#77818b", "#eceef0"


def error_plot(layers: Sequence[LayerError]) -> str:
    """Draws the errors of layers, and what float32 arithmetic cannot avoid, on a log scale.

    A line joins the errors of consecutive layers. Infinite errors and NaN are drawn above the scale, zeros below it.

    Args:
        layers: in the network's order, at least one.
    Returns:
        An `<svg>` element, whose colours `templates/style.css` sets; the same for the same layers.
    """
    scale = _LogScale.of([layer.floor for layer in layers] + [layer.error for layer in layers])
    marks = dict(_marks(layers))
    svg = draw_svg(_WIDTH, _HEIGHT, lambda figure: _draw(figure, layers, scale), font_size=_FONT_SIZE)
    description = (
        f"A line shows the module’s difference at each of the {len(layers)} layers; behind it, an area shows the "
        "float32 floor. The network table has all figures."
    )
    return inline_svg(svg, marks, "errors", "Errors by layer, on a log scale", description, role="img")


@dataclasses.dataclass(frozen=True)
class _LogScale:
    """Places errors by their logarithm to base ten, from one whole power of ten to another.

    Attributes:
        lowest, highest: exponents.
        has_zero: whether zero has a row below the scale.
        has_non_finite: whether infinity and NaN have a row above the scale.
    """

    lowest: int
    highest: int
    has_zero: bool
    has_non_finite: bool

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "_LogScale":
        """Returns a scale with room for all values."""
        measured = [value for value in values if value is not None]
        exponents = [math.log10(value) for value in measured if 0 < value < math.inf]
        lowest, highest = _DEFAULT_POWERS
        if exponents:
            lowest = math.floor(min(exponents))
            highest = max(math.ceil(max(exponents)), lowest + 1)
        return cls(lowest, highest, any(value <= 0 for value in measured), not all(map(math.isfinite, measured)))

    @property
    def _row(self) -> float:
        return _ROW * (self.highest - self.lowest)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest place."""
        return self.lowest - self._row * self.has_zero, self.highest + self._row * self.has_non_finite

    def place(self, value: float | None) -> float:
        """Returns the place of a value; NaN if it is None."""
        if value is None:
            return math.nan
        if not math.isfinite(value):
            return self.highest + self._row
        return math.log10(value) if value > 0 else self.lowest - self._row

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yields places with their labels."""
        step = -(-(self.highest - self.lowest) // _MAX_POWER_LABELS)
        for exponent in range(self.lowest, self.highest + 1, step):
            yield exponent, power_of_ten(exponent)
        if self.has_zero:
            yield self.place(0.0), "0"
        if self.has_non_finite:
            yield self.place(math.inf), "∞, NaN"


def _marks(layers: Sequence[LayerError]) -> Iterator[tuple[str, Mark]]:
    """Yields what the page makes of each layer's column, a tooltip, and of its dot, by their names."""
    for number, layer in enumerate(layers, start=1):
        difference = "not shown" if layer.error is None else f"difference {figure(layer.error)}"
        label = (
            f"{number} {layer.name}, {layer.operation}: {difference}, float32 floor {figure(layer.floor)}, "
            f"largest value {figure(layer.largest)}"
        )
        yield _column_name(number), Mark(f"{CLASS}column", label=printable(label))
        if layer.error is not None:
            finite = math.isfinite(layer.error)
            kind = "" if layer.error > 0 and finite else f" {CLASS}zero" if finite else f" {CLASS}not-finite"
            yield _dot_name(number), Mark(f"{CLASS}dot{kind}", Circle(_ERROR if finite else _FAIL, _DOT_RADIUS))


def _column_name(number: int) -> str:
    return f"{CLASS}column-{number}"


def _dot_name(number: int) -> str:
    return f"{CLASS}dot-{number}"


def _draw(figure: "Figure", layers: Sequence[LayerError], scale: _LogScale) -> None:
    axes = add_plain_axes(figure, _LEFT, _TOP, _RIGHT, _BOTTOM, grid=f"{CLASS}grid")
    _set_scales(axes, len(layers), scale)
    bottom, top = scale.limits
    numbers = range(1, len(layers) + 1)
    edges = [number - 0.5 for number in range(1, len(layers) + 2)]
    floors = [scale.place(layer.floor) if layer.floor > 0 else math.nan for layer in layers]
    errors = [scale.place(layer.error) for layer in layers]
    on_scale = [
        place if layer.error is not None and 0 < layer.error < math.inf else math.nan
        for place, layer in zip(errors, layers)
    ]
    axes.stairs(floors, edges, baseline=bottom, fill=True, color=_FLOOR_AREA, gid=f"{CLASS}floor-area")
    axes.stairs(floors, edges, baseline=None, color=_FLOOR, linewidth=1.5, zorder=2, gid=f"{CLASS}floor")
    axes.plot(numbers, on_scale, color=_ERROR, linewidth=1.5, gid=f"{CLASS}error")
    for number, place in zip(numbers, errors):
        if not math.isnan(place):
            add_marker(axes, number, place, _dot_name(number), zorder=3)
    # Over everything else, for the pointer.
    columns = axes.bar(numbers, top - bottom, width=1, bottom=bottom, color="none", zorder=4)
    for number, column in zip(numbers, columns):
        column.set_gid(_column_name(number))


def _set_scales(axes: "Axes", count: int, scale: _LogScale) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_autoscale_on(False)
    axes.set_xlim(0.5, count + 0.5)
    axes.set_ylim(*scale.limits)
    places, labels = zip(*scale.ticks())
    axes.set_yticks(places, labels)
    round_numbers = MaxNLocator(_MAX_NUMBER_LABELS, steps=[1, 2, 5, 10], integer=True).tick_values(1, count)
    numbers = [1, *(int(number) for number in round_numbers if 1 < number <= count)]
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.set_xlabel("layer number, as in the network table", labelpad=8)
    axes.tick_params(axis="x", pad=9)
    axes.spines["bottom"].set(visible=True, color=_FLOOR, gid=f"{CLASS}axis")
