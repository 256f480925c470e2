"""Charts of accuracy over cost, as in the MobileNet V2 paper.

Families of one group have a colour. Lines join networks that differ in their image size alone. Points link to modules;
those of modules that have the figures are solid, all others hollow.
`assets/chart.css` sets the colours by class: the pages' policy allows no inline styles.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

from hubexport.plots.drawing import add_marker, add_plain_axes, draw_svg
from hubexport.plots.inline_svg import CLASS, Circle, Mark, inline_svg
from hubexport.plots.text_boxes import TextBox, dots_along
from hubexport.site.accuracy_points import AccuracyPoint, Cost, Presence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours in `assets/chart.css`, for readers without style sheets. A chart of more groups repeats them: labels,
# tooltips and lines still tell its networks apart.
_COLOURS = (
    *("#882200", "#0000ff", "#119966", "#ff5511", "#660099"),
    *("#bb66ff", "#dd66bb", "#000033", "#330000"),
)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How large a chart is on a screen that shows it in its own size, and where its parts are, in pixels.

    Attributes:
        width: of the chart.
        plot_height: of the plot, without the labels of its axes.
        left, right: the edges of the plot.
        keys_left: where keys begin. In a narrow chart, their titles are above them, not beside.
        key_width: the distance of keys in a row; three fit.
        radius: of a point with a million parameters.
    """

    width: int
    plot_height: int
    left: int
    right: int
    keys_left: int
    key_width: int
    radius: float


# Pages show each where its text is at least 11 pixels high: the narrow one on phones.
_WIDE = _Layout(width=576, plot_height=400, left=56, right=556, keys_left=196, key_width=122, radius=4.2)
_NARROW = _Layout(width=358, plot_height=400, left=48, right=348, keys_left=12, key_width=116, radius=3.4)
_TOP = 14
_AXIS_TITLE = 64
_TEXT = 14
_SMALL_TEXT = 12
# Above and below the key of sizes.
_SIZES_ROW = 34
_KEY_ROW = 20
_KEYS_IN_ROW = 3
# Millions of parameters in the key of sizes.
_SIZES = (1, 5, 25, 125)
_SIZE_WIDTH = 70
_KEY_RADIUS = 6.0
# Width and height of a digit, about the same in any font; letters are not wider on average.
_DIGIT = (7.2, 11.0)
# The ticks of the cost axis in each decade, best first: the first are taken whose labels do not touch.
_TICKS = ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))
_TICK_DIGIT = 8.0
_GAP = 3.0
# Places for a label beside its point, as steps to the right and up, best first. Lines go to the upper right.
_SIDES = ((-0.7, 0.7), (0.0, 1.0), (-1.0, 0.0), (0.7, -0.7), (0.0, -1.0), (1.0, 0.0), (0.7, 0.7), (-0.7, -0.7))


@dataclasses.dataclass(frozen=True)
class _CostTexts:
    """The texts of a chart that depend on its cost: title, horizontal axis, and a point's figure."""

    title: str
    axis: str
    figure: str


_COST_TEXTS: Mapping[Cost, _CostTexts] = {
    "multiply_adds": _CostTexts(
        "Top-1 accuracy vs. multiply-adds", "Multiply-adds (millions)", "{:,.10g} million multiply-adds"
    ),
    "latency": _CostTexts(
        "Top-1 accuracy vs. latency", "Latency (ms, Pixel 1 CPU)", "latency {:g} ms on a Pixel 1 CPU"
    ),
}
# What a point's tooltip says of its module on this hub, after the network's figures.
_PRESENCE_TEXTS: Mapping[Presence, str] = {
    "here": "",
    "untrained": "; untrained on this hub",
    "other values": "; on this hub with other values",
    "absent": "; not on this hub",
}


def chart_title(cost: Cost) -> str:
    """Returns what a chart shows, in a few words."""
    return _COST_TEXTS[cost].title


def accuracy_chart(points: Sequence[AccuracyPoint], cost: Cost, *, narrow: bool = False) -> str:
    """Draws a chart of accuracy over the cost of one image.

    Args:
        points: the networks. Those without this cost are left out.
        cost: `multiply_adds` or `latency`.
        narrow: whether the chart is for phones.
    Returns:
        An `<svg>` element for a page, the same for the same points; see `inline_svg`. Empty if no point has this cost.
    """
    if all(point.cost(cost) is None for point in points):
        return ""
    layout = _NARROW if narrow else _WIDE
    chart = _Chart(points, cost, layout)
    svg = draw_svg(layout.width, chart.height, chart.draw, font_size=_TEXT)
    name = cost.replace("_", "-") + "-narrow" * narrow
    return inline_svg(svg, chart.marks, name, chart_title(cost), chart.description)


class _Chart:
    """Lays out a chart, and draws it in a figure of matplotlib's.

    Args:
        points: the networks, group by group; those without the cost are left out.
        cost: the horizontal axis.
        layout: the chart's size, and the places of its parts.
    Attributes:
        height: the chart's height in pixels.
        marks: the chart's circles, by the names of their markers; filled by `draw`.
        description: what the chart shows, in words.
    """

    def __init__(self, points: Sequence[AccuracyPoint], cost: Cost, layout: _Layout) -> None:
        self.marks: dict[str, Mark] = {}
        self._cost: Cost = cost
        self._layout = layout
        # A group has the same colour in all charts of these points.
        groups = dict.fromkeys(point.group for point in points)
        self._series = {group: number for number, group in enumerate(groups)}
        # Small points are drawn later, over large ones.
        drawn = [point for point in points if point.cost(cost) is not None]
        self._points = sorted(drawn, key=lambda point: -point.parameters_millions)
        self._groups = list(dict.fromkeys(point.group for point in drawn))
        self._lines: dict[tuple[str, str], list[AccuracyPoint]] = {}
        for point in sorted(drawn, key=self._place):
            self._lines.setdefault(point.series, []).append(point)
        self._titles_above = layout.keys_left < layout.left
        key_rows = math.ceil(len(self._groups) / _KEYS_IN_ROW)
        keys = _KEY_ROW * (key_rows + 2 * self._titles_above) + _SIZES_ROW
        self.height = _TOP + layout.plot_height + _AXIS_TITLE + keys
        accuracies = [point.top1_percent for point in drawn]
        self.description = (
            f"{len(drawn)} networks with top-1 accuracies from {min(accuracies):g}% to {max(accuracies):g}%. Larger "
            "points have more parameters. Lines join networks that differ in their image size alone. "
            f"{sum(point.presence == 'here' for point in drawn)} of the points are modules on this hub that have these "
            "figures."
        )

    def _tooltip(self, point: AccuracyPoint) -> str:
        figure = _COST_TEXTS[self._cost].figure.format(point.cost(self._cost))
        counted = f" ({' and '.join(point.counted)} counted)" if point.counted else ""
        return (
            f"{point.variant}: {point.top1_percent:g}% top-1, {figure}, {point.parameters_millions:g} million "
            f"parameters{counted}{_PRESENCE_TEXTS[point.presence]}"
        )

    def draw(self, figure: "Figure") -> None:
        """Draws the chart into an empty figure."""
        self._draw_plot(figure)
        self._draw_keys(figure)

    def _draw_plot(self, figure: "Figure") -> None:
        left, right, bottom = self._layout.left, self._layout.right, _TOP + self._layout.plot_height
        axes = add_plain_axes(figure, left, _TOP, right, bottom, grid=f"{CLASS}grid")
        self._set_scales(axes)
        for line in self._lines.values():
            series = self._series[line[0].group]
            name = f"{CLASS}line {_series(series)}"
            axes.plot(*zip(*map(self._place, line)), color=_colour(series), linewidth=1.5, gid=name)
        for point in self._points:
            series = self._series[point.group]
            classes = f"{CLASS}point {_series(series)}" + ("" if point.presence == "here" else f" {CLASS}hollow")
            circle = Circle(_colour(series), self._radius(point.parameters_millions))
            self._add_circle(axes, *self._place(point), Mark(classes, circle, self._tooltip(point), point.link))
        for (x, y), text in self._labels(axes):
            _text(figure, x, y, text, ha="center")

    def _place(self, point: AccuracyPoint) -> tuple[float, float]:
        cost = point.cost(self._cost)
        assert cost is not None, "points without it are left out"
        return cost, point.top1_percent

    def _set_scales(self, axes: "Axes") -> None:
        costs, accuracies = zip(*map(self._place, self._points))
        axes.set_xscale("log")
        lowest, highest = min(costs) / 1.2, max(costs) * 1.2
        axes.set_xlim(lowest, highest)
        axes.set_ylim(min(accuracies) - 4, max(accuracies) + 4)
        ticks = self._ticks(lowest, highest)
        axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(_COST_TEXTS[self._cost].axis)
        axes.set_ylabel("Top-1 accuracy (%)")

    def _ticks(self, lowest: float, highest: float) -> list[float]:
        """Returns the ticks of the cost axis: as many as have room for their labels."""
        from matplotlib.ticker import LogLocator

        width = (self._layout.right - self._layout.left) / math.log(highest / lowest)
        for subs in _TICKS:
            candidates = LogLocator(subs=subs, numticks=100).tick_values(lowest, highest)
            ticks = [float(tick) for tick in candidates if lowest <= tick <= highest]
            if all(width * math.log(b / a) >= _TICK_DIGIT * len(f"{b:,.10g}") for a, b in itertools.pairwise(ticks)):
                break
        return ticks

    def _radius(self, parameters_millions: float) -> float:
        """Returns a point's radius. Its area grows with the root of the parameters: networks differ a hundredfold."""
        return self._layout.radius * parameters_millions**0.25

    def _add_circle(self, where: "Axes | Figure", x: float, y: float, mark: Mark) -> None:
        name = f"{CLASS}mark-{len(self.marks)}"
        self.marks[name] = mark
        add_marker(where, x, y, name)

    def _labels(self, axes: "Axes") -> Iterator[tuple[tuple[float, float], str]]:
        """Yields the place and text of each point's label where it overlaps nothing, names of lines first."""
        circles = {
            point.variant: (
                *map(float, axes.transData.transform(self._place(point))),
                self._radius(point.parameters_millions),
            )
            for point in self._points
        }
        lines = [axes.transData.transform(line.get_xydata()).tolist() for line in axes.get_lines()]
        taken = [*circles.values(), *itertools.chain.from_iterable(map(dots_along, lines))]
        for point in sorted(self._points, key=lambda point: point is not self._lines[point.series][-1]):
            x, y, radius = circles[point.variant]
            away = radius + _GAP
            for text, (right, up) in itertools.product(self._label_texts(point), _SIDES):
                width, height = _DIGIT[0] * len(text), _DIGIT[1]
                box = TextBox(x + right * (away + width / 2), y + up * (away + height / 2), width, height)
                inside = self._layout.left <= box.x - width / 2 and box.x + width / 2 <= self._layout.right
                if inside and not any(box.touches(*circle) for circle in taken):
                    taken += box.dots()
                    yield (box.x, box.y), text
                    break

    def _label_texts(self, point: AccuracyPoint) -> list[str]:
        """Returns texts for a point, best first: its image size, at the end of a line with the line's name."""
        line = self._lines[point.series]
        if point is not line[-1]:
            return [str(point.image_size)]
        return [f"{point.network} ({point.image_size})", point.network] if point.network else [point.group]

    def _draw_keys(self, figure: "Figure") -> None:
        layout = self._layout
        titles_left = layout.keys_left - _KEY_RADIUS if self._titles_above else layout.left
        y = float(self.height - _TOP - layout.plot_height - _AXIS_TITLE)
        _text(figure, titles_left, y, "Family")
        y -= _KEY_ROW * self._titles_above
        for row in range(0, len(self._groups), _KEYS_IN_ROW):
            for column, group in enumerate(self._groups[row : row + _KEYS_IN_ROW]):
                x, series = layout.keys_left + column * layout.key_width, self._series[group]
                circle = Circle(_colour(series), _KEY_RADIUS)
                self._add_circle(figure, x, y, Mark(f"{CLASS}key {_series(series)}", circle))
                _text(figure, x + 12, y, group)
            y -= _KEY_ROW
        y -= _SIZES_ROW - _KEY_ROW
        _text(figure, titles_left, y, "Parameters (millions)")
        y -= _KEY_ROW * self._titles_above
        for column, millions in enumerate(_SIZES):
            x = layout.keys_left + column * _SIZE_WIDTH
            self._add_circle(figure, x, y, Mark(f"{CLASS}size", Circle("none", self._radius(millions))))
            _text(figure, x + self._radius(millions) + 6, y, str(millions))


def _series(index: int) -> str:
    return f"{CLASS}series-{index % len(_COLOURS)}"


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _text(figure: "Figure", x: float, y: float, text: str, **options: Any) -> None:
    from matplotlib.transforms import IdentityTransform

    # With parse_math, matplotlib would read dollar signs in a variant's name as formulas.
    options |= {"transform": IdentityTransform(), "fontsize": _SMALL_TEXT, "va": "center", "parse_math": False}
    figure.text(x, y, text, **options)
