"""Numbers as people read them."""

from collections.abc import Sequence
import math
import re

# Largest first: the smallest count for a unit, the unit, and its name. Networks are compared in millions.
_COUNTS = ((10**9, 10**9, "bn"), (10**5, 10**6, "M"))
_BYTES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def short_count(count: int) -> str:
    """Returns a count, a large one in two or three digits.

    Example:
        >>> short_count(1692489), short_count(299_521_984), short_count(410_208), short_count(1001)
        ('1.69 M', '300 M', '0.41 M', '1,001')
    """
    for least, unit, name in _COUNTS:
        if count >= least:
            return f"{_three_digits(count / unit)} {name}"
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Returns a count with its noun, which takes an s for more than one.

    Example:
        >>> counted(1, "output"), counted(1200, "image")
        ('1 output', '1,200 images')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def short_bytes(count: int) -> str:
    """Returns the size of a file in decimal units.

    Example:
        >>> short_bytes(6328880), short_bytes(51_715_160), short_bytes(2563), short_bytes(2)
        ('6.33 MB', '51.7 MB', '2.56 kB', '2 bytes')
    """
    for unit, name in _BYTES:
        if count >= unit:
            return f"{_three_digits(count / unit)} {name}"
    return f"{count} bytes"


def two_decimals(number: float) -> str:
    """Returns a number with two decimals, or with more if it has more, as tables show depth multipliers.

    Example:
        >>> two_decimals(1.0), two_decimals(0.35), two_decimals(0.125)
        ('1.00', '0.35', '0.125')
    """
    return f"{number:.2f}" if round(number, 2) == number else f"{number:g}"


def readable_shape(lengths: Sequence[int | None] | None) -> str:
    """Returns a tensor's shape as TensorFlow prints it; None is an unknown length, or an unknown shape.

    Example:
        >>> readable_shape((None, 96, 96, 3)), readable_shape(()), readable_shape(None)
        ('[None, 96, 96, 3]', '[]', 'any')
    """
    return "any" if lengths is None else f"[{', '.join(map(str, lengths))}]"


def figure(value: float | None) -> str:
    """Returns what a check measured, or its limit, in three digits unless it is whole.

    Example:
        >>> figure(0.0), figure(12345.0), figure(1.3113e-06), figure(None)
        ('0', '12,345', '1.31e-06', '–')
    """
    if value is None:
        return "–"
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return f"{int(value):,}" if whole else f"{value:.3g}"


def percent(share: float) -> str:
    """Returns a probability in percent.

    Example:
        >>> percent(0.8314), percent(0.0002), percent(0.0)
        ('83.1%', '< 0.1%', '0.0%')
    """
    return "< 0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def natural_key(name: str) -> list[tuple[int, str]]:
    """Returns a sort key by which numbers in names are compared by value.

    Example:
        >>> sorted(["layer_10", "layer_2"], key=natural_key)
        ['layer_2', 'layer_10']
    """
    # Python refuses to convert very long numbers. Of two numbers, the one with more digits is the larger.
    return [(len(part), part) if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]


def _three_digits(value: float) -> str:
    return f"{value:,.{max(0, 2 - int(math.log10(max(value, 1))))}f}"
