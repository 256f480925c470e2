"""Figures as the report shows them: in words, and as bars that compare them with their limits."""

import dataclasses
import math

from hubexport import readable_numbers

# A bar's scale, in powers of ten of the limit.
_BAR_LOWEST = -3
_BAR_HIGHEST = 1
# Narrower bars cannot be seen.
_MIN_BAR_PERCENT = 1.5
# Where the limit is on that scale.
LIMIT_PERCENT = 100 * -_BAR_LOWEST / (_BAR_HIGHEST - _BAR_LOWEST)

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power_of_ten(exponent: int) -> str:
    """Returns a power of ten as people write it, like `10⁻⁵`."""
    return str(10**exponent) if exponent in (0, 1) else f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def readable_figure(value: float) -> str:
    """Returns a number as people write it, like `1.31 × 10⁻⁵`: in three digits unless it is whole."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.3g}'):,g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    power = power_of_ten(int(exponent))
    return power if float(mantissa) == 1 else f"{float(mantissa):g} × {power}"


def percent(probability: float) -> str:
    """Returns a probability in percent, like `83.1%`; a broken module's may be infinite or NaN."""
    return readable_numbers.percent(probability) if math.isfinite(probability) else readable_figure(probability)


def seconds(duration: float) -> str:
    """Returns a duration like `1.5 s` or `20 ms`."""
    if duration >= 1:
        return f"{duration:.1f} s"
    return f"{1000 * duration:.0f} ms" if duration >= 0.001 else "< 1 ms"


def probability_percent(probability: float) -> float:
    """Returns the length of a probability's bar, from 0 to 100, whatever a broken module says."""
    return round(100 * min(max(probability, 0.0), 1.0), 2) if math.isfinite(probability) else 0.0


@dataclasses.dataclass(frozen=True)
class LimitBar:
    """A figure compared with its limit on a log scale, from a thousandth of the limit to ten times the limit.

    Attributes:
        percent: the bar's length, in percent of the whole scale.
        label: what it shows, for screen readers.
    """

    percent: float
    label: str


def limit_bar(measured: float | None, limit: float | None) -> LimitBar | None:
    """Returns the bar of a figure and its limit; None without a figure, or without a finite limit above zero."""
    if measured is None or limit is None or not 0 < limit < math.inf:
        return None
    if measured <= 0:
        return LimitBar(0, "zero")
    # The quotient itself may overflow. NaN is above every limit.
    exponent = math.log10(measured) - math.log10(limit) if measured < math.inf else math.inf
    share = (min(exponent, _BAR_HIGHEST) - _BAR_LOWEST) / (_BAR_HIGHEST - _BAR_LOWEST)
    ratio = f"{10**exponent:.2g} times" if exponent <= _BAR_HIGHEST else "more than ten times"
    return LimitBar(round(max(100 * share, _MIN_BAR_PERCENT), 2), f"{ratio} the limit")
