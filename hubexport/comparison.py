"""Compares the trained values of two checkpoints or modules, variable by variable."""

from collections.abc import Mapping
import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hubexport.checkpoints.dtypes import holds_numbers
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.scopes import Scope
from hubexport.checkpoints.slim_values import has_averages, stored_name
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.stored_values import Renamed, StoredValues, equal_chunks
from hubexport.checkpoints.weights_choice import Weights, check_weights, summarize_weights
from hubexport.progress import Progress

_NOT_COMPARED = "not compared"
# What the summary calls what was compared.
_VALUES = {"all": "values", "averaged": "averaged values", "raw": "plain values", "folded": "folded values"}


@dataclasses.dataclass(frozen=True)
class Difference:
    """A variable that differs, or that cannot be compared.

    Attributes:
        name: the variable's name.
        problem: `missing in A`, `missing in B`, `shape`, `dtype`, `values`, or `not compared` for
            a dtype that hubexport cannot compare.
        a: its dtype and shape in A, like `float32 [32]`; None if it is missing there.
        b: its dtype and shape in B; None if it is missing there.
        differing: how many numbers differ; None if no numbers were compared.
        largest_absolute: the largest absolute difference; None if no numbers were compared, or not all are finite.
        largest_relative: the largest of the absolute differences, each divided by the greater magnitude of its two
            numbers; None like `largest_absolute`.
    """

    name: str
    problem: str
    a: str | None
    b: str | None
    differing: int | None = None
    largest_absolute: float | None = None
    largest_relative: float | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The result of comparing A and B.

    Attributes:
        compared: which values were compared: `all`; of a network's variables the `averaged` or `raw` ones, or how many
            of each, like `158 averaged, 104 raw`; or the `folded` ones of a deployment.
        equal: how many variables are the same bit for bit.
        differences: the other variables, sorted by name.
    """

    compared: str
    equal: int
    differences: tuple[Difference, ...]

    @property
    def summary(self) -> str:
        """The result in one line."""
        different = sum(difference.problem != _NOT_COMPARED for difference in self.differences)
        which = _VALUES.get(self.compared) or f"values ({self.compared})"
        text = f"{self.equal + different} {which} compared: {self.equal} equal bit for bit, {different} different"
        unknown = len(self.differences) - different
        return f"{text}; {unknown} not compared" if unknown else text

    def as_json(self) -> dict[str, Any]:
        """Returns the comparison for `json.dumps`."""
        return dataclasses.asdict(self)

    def within(self, tolerance: float) -> bool:
        """Returns whether both have the same variables, and no two numbers differ by more than `tolerance`."""
        largest = [difference.largest_absolute for difference in self.differences]
        return all(absolute is not None and absolute <= tolerance for absolute in largest)


def compare_checkpoints(
    a: str | Path, b: str | Path, *, weights: Weights = "auto", progress: Progress | None = None
) -> Comparison:
    """Compares the values of two checkpoints or modules.

    All values are compared by name if A and B use the same framework's names, and both or neither have moving averages.
    Otherwise only the variables of the network are compared, by TF-Slim's names.

    Args:
        a: A, see `hubexport.checkpoints.sources`.
        b: B, see `hubexport.checkpoints.sources`.
        weights: if only the network's variables are compared, which of their values: `averaged` or `raw`. Both `auto`
            and `averaged` take the raw value of a variable without an average.
        progress: is told of each step.
    Raises:
        CheckpointError: A or B cannot be found, or is damaged.
        UsageError: `weights` is none of `auto`, `averaged` and `raw`.
    """
    check_weights(weights)
    progress = progress or Progress()
    sources = [resolve_source(path, None, progress) for path in (a, b)]
    for source in sources:
        source.check_stored("compared", fix="convert them with --variant, and compare the result")
    with (
        open_checkpoint(sources[0], progress, accept_several=True) as opened_a,
        open_checkpoint(sources[1], progress, accept_several=True) as opened_b,
    ):
        averages = {has_averages(opened_a.native), has_averages(opened_b.native)}
        if _layout(opened_a) == _layout(opened_b) and len(averages) == 1:
            return compare_values("all", opened_a.native, opened_b.native)
        names_a, names_b = _network_names(opened_a, weights), _network_names(opened_b, weights)
        values_a, values_b = Renamed(opened_a.slim_values(), names_a), Renamed(opened_b.slim_values(), names_b)
        recognized = all(opened.recognition for opened in (opened_a, opened_b))
        compared = _choices(names_a, names_b) if any(averages) and recognized else "all"
        return compare_values(compared, values_a, values_b)


def _layout(opened: OpenedCheckpoint) -> tuple[str, Scope] | None:
    return (opened.recognition.layout, opened.scope) if opened.recognition else None


def _network_names(opened: OpenedCheckpoint, weights: Weights) -> Mapping[str, str]:
    """Returns where the values of the network's variables are stored, or of all values if the network is not known.

    Returns:
        The names in `opened.slim_values()`, by TF-Slim's names.
    """
    stored = opened.slim_values()
    if opened.recognition is None:
        return {name: name for name in stored.shapes}
    names = {v.name: stored_name(stored, v.name, weights) for v in opened.recognition.network().variables}
    return {name: native for name, native in names.items() if native in stored.shapes}


def _choices(names_a: Mapping[str, str], names_b: Mapping[str, str]) -> str:
    """Sums up which values are compared. One that is an average in A or B counts as averaged."""
    names = {**names_a, **names_b}
    return summarize_weights("averaged" if {names_a.get(n, n), names_b.get(n, n)} != {n} else "raw" for n in names)


def compare_values(compared: str, a: StoredValues, b: StoredValues) -> Comparison:
    """Compares values by name; `compared` says which they are, see `Comparison`."""
    names = sorted({*a.shapes, *b.shapes})
    differences = [difference for name in names if (difference := _difference(name, a, b))]
    return Comparison(compared, len(names) - len(differences), tuple(differences))


def _difference(name: str, a: StoredValues, b: StoredValues) -> Difference | None:
    in_a, in_b = _dtype_and_shape(a, name), _dtype_and_shape(b, name)
    if in_a is None or in_b is None:
        return Difference(name, f"missing in {'B' if in_a else 'A'}", in_a, in_b)
    if a.shapes[name] != b.shapes[name]:
        return Difference(name, "shape", in_a, in_b)
    if in_a != in_b:
        return Difference(name, "dtype", in_a, in_b)
    if not holds_numbers(a.dtype(name)):
        chunks_a, chunks_b = a.stored_chunks(name), b.stored_chunks(name)
        if chunks_a is None or chunks_b is None:
            return Difference(name, _NOT_COMPARED, in_a, in_b)
        return None if equal_chunks(chunks_a, chunks_b) else Difference(name, "values", in_a, in_b)
    figures = [*itertools.starmap(_figures, zip(a.chunks(name), b.chunks(name), strict=True))]
    if all(figure.equal for figure in figures):
        return None
    differing = sum(figure.differing for figure in figures)
    if None in (largest := [figure.largest for figure in figures]):
        return Difference(name, "values", in_a, in_b, differing)
    absolute, relative = map(max, zip(*(pair for pair in largest if pair is not None), strict=True))
    return Difference(name, "values", in_a, in_b, differing, absolute, relative)


def _dtype_and_shape(stored: StoredValues, name: str) -> str | None:
    return f"{stored.dtype(name)} {list(stored.shapes[name])}" if name in stored.shapes else None


class _Figures(NamedTuple):
    """The comparison of two chunks.

    Attributes:
        equal: whether they are the same bit for bit.
        differing: how many numbers differ.
        largest: the last two attributes of a `Difference`; None if not all numbers are finite.
    """

    equal: bool
    differing: int
    largest: tuple[float, float] | None


def _figures(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> _Figures:
    if a.tobytes() == b.tobytes():
        return _Figures(True, 0, (0.0, 0.0) if np.isfinite(a).all() else None)
    differing = int(np.count_nonzero((a != b) & ~(np.isnan(a) & np.isnan(b))))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return _Figures(False, differing, None)
    wide = np.complex128 if np.iscomplexobj(a) else np.float64
    wide_a, wide_b = a.astype(wide), b.astype(wide)
    with np.errstate(over="ignore"):
        absolute = np.abs(wide_a - wide_b)
    if a.dtype.kind in "iu":
        # Large integers are rounded in float64. Their difference modulo 2**64 is exact.
        absolute = (np.maximum(a, b).astype("u8") - np.minimum(a, b).astype("u8")).astype(np.float64)
    if not np.isfinite(absolute).all():
        return _Figures(False, differing, None)
    greater = np.maximum(np.abs(wide_a), np.abs(wide_b))
    relative = np.divide(absolute, greater, out=np.zeros_like(absolute), where=greater > 0)
    return _Figures(False, differing, (float(absolute.max()), float(relative.max())))
