"""Two files of trained values, or modules, variable by variable."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.checkpoints.dtypes import holds_numbers
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.slim_values import has_averages, stored_name
from hubexport.checkpoints.sources import resolve_source
from hubexport.checkpoints.stored_values import Renamed, StoredValues
from hubexport.checkpoints.weights_choice import Weights, check_weights
from hubexport.progress import Progress

_NOT_COMPARED = "not compared"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One variable that is not the same in both, or not known to be.

    Attributes:
        name: the variable.
        problem: `missing in A`, `missing in B`, `shape`, `dtype`, `values`, or `not compared`, where they have a dtype
            that hubexport cannot compare.
        a: its dtype and shape in A, like `float32 [32]`; None if it is missing there.
        b: the same in B.
        differing: how many numbers differ; None where there are no numbers.
        largest_absolute: the largest difference of two numbers; None where not both are finite everywhere.
        largest_relative: the largest difference divided by the greater magnitude of the two.
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
    """Two files of values.

    Attributes:
        compared: which values: `all`, or of a network's variables only the `averaged` or `raw` ones.
        equal: how many variables are the same bit for bit.
        differences: the others, by name.
    """

    compared: str
    equal: int
    differences: tuple[Difference, ...]

    @property
    def summary(self) -> str:
        """One line for people."""
        different = sum(one.problem != _NOT_COMPARED for one in self.differences)
        which = {"all": "values", "averaged": "averaged values", "raw": "plain values"}[self.compared]
        said = f"{self.equal + different} {which} compared: {self.equal} equal bit for bit, {different} different"
        unknown = len(self.differences) - different
        return f"{said}; {unknown} not compared" if unknown else said

    def as_json(self) -> dict[str, Any]:
        """Returns the comparison for `json.dumps`."""
        return dataclasses.asdict(self)

    def within(self, tolerance: float) -> bool:
        """Tells whether the same variables are in both, and no two numbers differ by more than `tolerance`."""
        return all(one.largest_absolute is not None and one.largest_absolute <= tolerance for one in self.differences)


def compare(
    a: str | Path, b: str | Path, *, weights: Weights = "averaged", progress: Progress | None = None
) -> Comparison:
    """Compares two files of values, or modules.

    Values with names of the same kind are compared all, by name. Otherwise, or if only one of the two has averaged
    copies, the variables of the network are compared, under TF-Slim's names.

    Args:
        a: one; see `hubexport.checkpoints.sources`.
        b: the other.
        weights: which values to take from a training's checkpoint, in the second case.
        progress: hears of each step.
    Raises:
        CheckpointError: one cannot be found, or is damaged.
        UsageError: `weights` does not exist.
    """
    check_weights(weights)
    progress = progress or Progress()
    sources = [resolve_source(path, None, progress) for path in (a, b)]
    for source in sources:
        source.check_stored("compared", fix="convert them with --variant, and compare the result")
    with open_checkpoint(sources[0], progress) as one, open_checkpoint(sources[1], progress) as other:
        return _compare_opened(one, other, weights)


def _compare_opened(a: OpenedCheckpoint, b: OpenedCheckpoint, weights: Weights) -> Comparison:
    averages = (has_averages(a.native), has_averages(b.native))
    if _layout(a) == _layout(b) and averages[0] == averages[1]:
        return _compare("all", a.native, b.native)
    return _compare(weights if any(averages) else "all", _model_values(a, weights), _model_values(b, weights))


def _layout(opened: OpenedCheckpoint) -> str | None:
    return opened.recognition.layout if opened.recognition else None


def _model_values(opened: OpenedCheckpoint, weights: Weights) -> StoredValues:
    """Returns the values of a network's variables; all, if it is not known which those are."""
    stored = opened.slim_values()
    if opened.recognition is None:
        return stored
    names = {v.name: stored_name(stored, v.name, weights) for v in opened.recognition.network().variables}
    return Renamed(stored, {name: native for name, native in names.items() if native in stored.shapes})


def _compare(compared: str, a: StoredValues, b: StoredValues) -> Comparison:
    names = sorted({*a.shapes, *b.shapes})
    differences = [one for name in names if (one := _difference(name, a, b))]
    return Comparison(compared, len(names) - len(differences), tuple(differences))


def _difference(name: str, a: StoredValues, b: StoredValues) -> Difference | None:
    in_a, in_b = _kind(a, name), _kind(b, name)
    if in_a is None or in_b is None:
        return Difference(name, f"missing in {'B' if in_a else 'A'}", in_a, in_b)
    if a.shapes[name] != b.shapes[name]:
        return Difference(name, "shape", in_a, in_b)
    if in_a != in_b:
        return Difference(name, "dtype", in_a, in_b)
    if not holds_numbers(a.dtype(name)):
        in_bytes = a.stored_bytes(name), b.stored_bytes(name)
        if None in in_bytes:
            return Difference(name, _NOT_COMPARED, in_a, in_b)
        return None if in_bytes[0] == in_bytes[1] else Difference(name, "values", in_a, in_b)
    one, other = a.read(name), b.read(name)
    if one.tobytes() == other.tobytes():
        return None
    return Difference(name, "values", in_a, in_b, *_figures(one, other))


def _kind(stored: StoredValues, name: str) -> str | None:
    return f"{stored.dtype(name)} {list(stored.shapes[name])}" if name in stored.shapes else None


def _figures(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[int, float | None, float | None]:
    """Returns how many numbers differ, by how much at most, and by what share of the greater of the two."""
    differing = int(np.count_nonzero((one != other) & ~(np.isnan(one) & np.isnan(other))))
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return differing, None, None
    wide = np.complex128 if np.iscomplexobj(one) else np.float64
    a, b = one.astype(wide), other.astype(wide)
    with np.errstate(over="ignore"):
        absolute = np.abs(a - b)
    if one.dtype.kind in "iu":
        # Large ones are rounded in float64, but their difference modulo 2**64 is exact.
        absolute = (np.maximum(one, other).astype("u8") - np.minimum(one, other).astype("u8")).astype(np.float64)
    if not np.isfinite(absolute).all():
        return differing, None, None
    greater = np.maximum(np.abs(a), np.abs(b))
    relative = np.divide(absolute, greater, out=np.zeros_like(absolute), where=greater > 0)
    return differing, float(absolute.max()), float(relative.max())
