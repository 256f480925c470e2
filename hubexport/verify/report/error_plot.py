"""The plot of layer errors: how far each layer's output is from the exact one, beside float32's own rounding."""

from collections.abc import Iterator, Sequence
import dataclasses
import math
from typing import TYPE_CHECKING, TypeGuard

from hubexport.errors import printable
from hubexport.plots.drawing import add_marker, add_plain_axes, draw_svg
from hubexport.plots.inline_svg import CLASS, Circle, Mark, inline_svg
from hubexport.verify.report.figures import power_of_ten, readable_figure
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
# Values without a logarithm have rows of their own, above or below the log scale by this share of it.
_ROW = 0.09

# Colours where the style sheet does not apply.
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
    marks: dict[str, Mark] = {}
    svg = draw_svg(_WIDTH, _HEIGHT, lambda figure: marks.update(_draw(figure, layers, scale)), font_size=_FONT_SIZE)
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
        exponents = [math.log10(value) for value in measured if _has_logarithm(value)]
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

    def place(self, value: float) -> float:
        """Returns the place of a value."""
        if _has_logarithm(value):
            return math.log10(value)
        return self.lowest - self._row if math.isfinite(value) else self.highest + self._row

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yields places with their labels."""
        step = -(-(self.highest - self.lowest) // _MAX_POWER_LABELS)
        for exponent in range(self.lowest, self.highest + 1, step):
            yield exponent, power_of_ten(exponent)
        if self.has_zero:
            yield self.place(0.0), "0"
        if self.has_non_finite:
            yield self.place(math.inf), "∞, NaN"


def _draw(figure: "Figure", layers: Sequence[LayerError], scale: _LogScale) -> dict[str, Mark]:
    """Draws the plot; returns its dots and the layers' columns, which have tooltips, by name."""
    axes = add_plain_axes(figure, _LEFT, _TOP, _RIGHT, _BOTTOM, grid=f"{CLASS}grid")
    _set_scales(axes, len(layers), scale)
    numbers = range(1, len(layers) + 1)
    edges = [number - 0.5 for number in range(1, len(layers) + 2)]
    floors = [scale.place(layer.floor) if layer.floor > 0 else math.nan for layer in layers]
    errors = [scale.place(layer.error) if _has_logarithm(layer.error) else math.nan for layer in layers]
    bottom, top = scale.limits
    axes.stairs(floors, edges, baseline=bottom, fill=True, color=_FLOOR_AREA, gid=f"{CLASS}floor-area")
    axes.stairs(floors, edges, baseline=None, color=_FLOOR, linewidth=1.5, zorder=2, gid=f"{CLASS}floor")
    axes.plot(numbers, errors, color=_ERROR, linewidth=1.5, gid=f"{CLASS}error")
    # Over everything else, for the pointer.
    columns = axes.bar(numbers, top - bottom, width=1, bottom=bottom, color="none", zorder=4)
    marks = {}
    for number, layer, column in zip(numbers, layers, columns):
        column.set_gid(f"{CLASS}column-{number}")
        marks[f"{CLASS}column-{number}"] = Mark(f"{CLASS}column", label=_tooltip(number, layer))
        if layer.error is not None:
            add_marker(axes, number, scale.place(layer.error), f"{CLASS}dot-{number}", zorder=3)
            marks[f"{CLASS}dot-{number}"] = _dot(layer.error)
    return marks


def _dot(error: float) -> Mark:
    if not math.isfinite(error):
        return Mark(f"{CLASS}dot {CLASS}not-finite", Circle(_FAIL, _DOT_RADIUS))
    return Mark(f"{CLASS}dot" + ("" if error > 0 else f" {CLASS}zero"), Circle(_ERROR, _DOT_RADIUS))


def _tooltip(number: int, layer: LayerError) -> str:
    difference = "not shown" if layer.error is None else f"difference {readable_figure(layer.error)}"
    return printable(
        f"{number} {layer.name}, {layer.operation}: {difference}, float32 floor {readable_figure(layer.floor)}, "
        f"largest value {readable_figure(layer.largest)}"
    )


def _has_logarithm(value: float | None) -> TypeGuard[float]:
    return value is not None and 0 < value < math.inf


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
