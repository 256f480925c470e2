"""Where things are in the report's drawings: bars of figures over their limits, and the plot of the layers' errors."""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import math
from typing import Literal

from hubexport.verify.result import LayerError

# Of the bars: a thousandth of the limit is at the left end, ten times the limit at the right one.
_BAR_LOWEST = -3
_BAR_HIGHEST = 1
# Narrower bars cannot be seen.
_MIN_BAR_PERCENT = 1.5

# Of the plot, in the units of its view box, which are pixels on a wide screen.
_WIDTH = 1040
_HEIGHT = 380
_LEFT, _RIGHT = 58, 1030
_TOP, _BOTTOM = 14, 330
# What has no logarithm has a row of its own: not finite above the scale, zero below it.
_ROW = 26
_MAX_POWER_LABELS = 8
_MAX_NUMBER_LABELS = 14
# Where nothing says what powers of ten to show: those around float32's rounding.
_DEFAULT_POWERS = (-8, -4)

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(exponent: int) -> str:
    """Returns a power of ten as people write it, like `10⁻⁵`."""
    return str(10**exponent) if exponent in (0, 1) else f"10{str(exponent).translate(_SUPERSCRIPTS)}"


@dataclasses.dataclass(frozen=True)
class Bar:
    """A figure over its limit, on a log scale.

    Attributes:
        percent: its length, in percent of the whole scale.
        label: what it shows, for those who do not see it.
    """

    percent: float
    label: str


LIMIT_PERCENT = 100 * -_BAR_LOWEST / (_BAR_HIGHEST - _BAR_LOWEST)


def limit_bar(measured: float | None, limit: float | None) -> Bar | None:
    """Returns the bar of a figure over its limit; None if there is no figure, or no limit that it can be divided by."""
    if measured is None or limit is None or not 0 < limit < math.inf:
        return None
    if measured <= 0:
        return Bar(0, "zero")
    # The quotient itself may be too large for a float; what is no number is above every limit.
    exponent = math.log10(measured) - math.log10(limit) if measured < math.inf else math.inf
    share = (min(exponent, _BAR_HIGHEST) - _BAR_LOWEST) / (_BAR_HIGHEST - _BAR_LOWEST)
    ratio = f"{10**exponent:.2g} times" if exponent <= _BAR_HIGHEST else "more than ten times"
    return Bar(round(max(100 * share, _MIN_BAR_PERCENT), 2), f"{ratio} the limit")


@dataclasses.dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    position: float
    label: str


ErrorKind = Literal["measured", "missing", "zero", "not-finite"]


@dataclasses.dataclass(frozen=True)
class Column:
    """Where one layer is in the plot.

    Attributes:
        number: its place in the network, from 1.
        layer: what is shown.
        left: of its share of the width.
        width: of the same.
        error: the height of its error; None where there is none.
        kind: where that is: on the log scale, or in one of the rows for what is not.
    """

    number: int
    layer: LayerError
    left: float
    width: float
    error: float | None
    kind: ErrorKind

    @property
    def middle(self) -> float:
        """Where its error is drawn."""
        return round(self.left + self.width / 2, 2)


@dataclasses.dataclass(frozen=True)
class ErrorPlot:
    """The errors of layers along a network, ready to be drawn.

    Attributes:
        powers: ticks of the log scale, and of the rows for what is not on it.
        numbers: ticks of the layers.
        columns: one a layer.
        error_line: the path through the errors, interrupted where one is missing or not on the scale.
        floor_line: the path along the floors, a step a layer.
        floor_area: the same, closed at the bottom.
    """

    powers: tuple[Tick, ...]
    numbers: tuple[Tick, ...]
    columns: tuple[Column, ...]
    error_line: str
    floor_line: str
    floor_area: str
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


@dataclasses.dataclass(frozen=True)
class _LogScale:
    """From values to heights; powers of ten from `lowest` to `highest` lie between `bottom` and `top`."""

    lowest: int
    highest: int
    top: float
    bottom: float

    def height(self, value: float) -> float:
        if not math.isfinite(value):
            return self.top - _ROW
        if value <= 0:
            return self.bottom + _ROW
        share = (math.log10(value) - self.lowest) / (self.highest - self.lowest)
        return round(self.bottom - share * (self.bottom - self.top), 2)

    def ticks(self) -> Iterator[Tick]:
        step = -(-(self.highest - self.lowest) // _MAX_POWER_LABELS)
        for exponent in range(self.lowest, self.highest + 1, step):
            share = (exponent - self.lowest) / (self.highest - self.lowest)
            yield Tick(round(self.bottom - share * (self.bottom - self.top), 2), power_of_ten(exponent))


def _kind(value: float | None) -> ErrorKind:
    if value is None:
        return "missing"
    if not math.isfinite(value):
        return "not-finite"
    return "measured" if value > 0 else "zero"


def _log_scale(values: Sequence[float]) -> _LogScale:
    """Returns a scale of whole powers of ten, with room for what is not on it."""
    exponents = [math.log10(value) for value in values if _kind(value) == "measured"]
    lowest, highest = _DEFAULT_POWERS
    if exponents:
        lowest = math.floor(min(exponents))
        highest = max(math.ceil(max(exponents)), lowest + 1)
    kinds = {_kind(value) for value in values}
    return _LogScale(lowest, highest, _TOP + _ROW * ("not-finite" in kinds), _BOTTOM - _ROW * ("zero" in kinds))


def error_plot(layers: Sequence[LayerError]) -> ErrorPlot:
    """Lays the plot out.

    Args:
        layers: in the order of the network, at least one.
    """
    values = [layer.floor for layer in layers] + [layer.error for layer in layers if layer.error is not None]
    scale = _log_scale(values)
    columns = tuple(_columns(layers, scale))
    floors = [(column, scale.height(column.layer.floor)) for column in columns if column.layer.floor > 0]
    return ErrorPlot(
        powers=(*scale.ticks(), *_row_ticks(values)),
        numbers=tuple(_number_ticks(columns)),
        columns=columns,
        error_line=_line(columns),
        floor_line="".join(f"M{_steps(run)}" for run in _runs(floors)),
        floor_area="".join(_area(run) for run in _runs(floors)),
    )


def _columns(layers: Sequence[LayerError], scale: _LogScale) -> Iterator[Column]:
    width = (_RIGHT - _LEFT) / len(layers)
    for index, layer in enumerate(layers):
        yield Column(
            number=index + 1,
            layer=layer,
            left=round(_LEFT + index * width, 2),
            width=round(width, 2),
            error=None if layer.error is None else scale.height(layer.error),
            kind=_kind(layer.error),
        )


def _row_ticks(values: Iterable[float]) -> Iterator[Tick]:
    kinds = {_kind(value) for value in values}
    if "zero" in kinds:
        yield Tick(_BOTTOM, "0")
    if "not-finite" in kinds:
        yield Tick(_TOP, "∞, NaN")


def _number_ticks(columns: Sequence[Column]) -> Iterator[Tick]:
    """Yields the first layer, and every further one with a round number."""
    steps = (scale * 10**power for power in range(len(columns)) for scale in (1, 2, 5))
    step = next(step for step in steps if len(columns) <= step * _MAX_NUMBER_LABELS)
    for column in columns:
        if column.number == 1 or column.number % step == 0:
            yield Tick(column.middle, f"{column.number:,}")


def _line(columns: Iterable[Column]) -> str:
    line, joined = "", False
    for column in columns:
        on_scale = column.kind == "measured"
        if on_scale:
            line += f"{'L' if joined else 'M'}{column.middle},{column.error}"
        joined = on_scale
    return line


_Floor = tuple[Column, float]


def _runs(floors: Iterable[_Floor]) -> Iterator[list[_Floor]]:
    """Yields the floors of layers that follow one another without a gap."""
    run: list[_Floor] = []
    for column, height in floors:
        if run and column.number != run[-1][0].number + 1:
            yield run
            run = []
        run.append((column, height))
    if run:
        yield run


def _steps(run: Sequence[_Floor]) -> str:
    first, height = run[0]
    return f"{first.left},{height}" + "".join(f"V{height}H{_end(column)}" for column, height in run)


def _area(run: Sequence[_Floor]) -> str:
    return f"M{run[0][0].left},{_BOTTOM}L{_steps(run)}V{_BOTTOM}Z"


def _end(column: Column) -> float:
    return round(column.left + column.width, 2)
