"""What is in a file of trained values: of which network, in what state of training, and whether it is sound."""

from collections import Counter
from collections.abc import Sequence
import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.dtypes import holds_numbers
from hubexport.checkpoints.huggingface_directory import CONFIG
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.networks.layers import Shape

_STEP = "global_step"
_STEP_DTYPES = ("int32", "int64")

_CONTAINERS: dict[Container | None, str] = {
    "V2": "V2 checkpoint",
    "V1": "V1 checkpoint",
    "HDF5": "HDF5 file",
    "Keras archive": "Keras archive",
    "safetensors": "safetensors file",
}


@dataclasses.dataclass(frozen=True)
class VariableReport:
    """One stored value.

    Attributes:
        name: in the file; in object-based checkpoints that of its variable.
        shape: its dimensions.
        dtype: like `float32`.
        norm: the square root of the sum of the squares of the finite numbers, in float64; None if there are none, or
            float64 cannot hold it.
        minimum: of the finite numbers; None if there are none, or they are complex.
        maximum: the same.
        nan_count: how many are no number; None if the value was not read, because its dtype holds none that hubexport
            knows.
        infinite_count: how many are infinite, or None.
    """

    name: str
    shape: Shape
    dtype: str
    norm: float | None
    minimum: float | None
    maximum: float | None
    nan_count: int | None
    infinite_count: int | None


@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """A file of trained values.

    Attributes:
        container: how the values are stored, like `V2 checkpoint`.
        packed: whether that is in a gzipped tar.
        layout: whose names and shapes the values have; None if they are of no known network.
        network: name of the network; None if it is not known.
        depth_multiplier: the network's.
        num_classes: the network's; None if it has no classifier.
        num_features: the length of its feature vectors.
        parameters: how many numbers the network's variables have.
        step: how long it was trained; None if it does not say.
        averaged_copies: how many variables have a moving average beside them.
        optimizer_slots: how many variables have each of the values that optimizers keep.
        variables: all stored values, by name.
        problems: what keeps the values from being used, or is wrong with them.
    """

    container: str
    packed: bool
    layout: str | None
    network: str | None
    depth_multiplier: float | None
    num_classes: int | None
    num_features: int | None
    parameters: int | None
    step: int | None
    averaged_copies: int
    optimizer_slots: dict[str, int]
    variables: tuple[VariableReport, ...]
    problems: tuple[str, ...]

    @property
    def has_problems(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.problems)

    @property
    def nan_count(self) -> int:
        """How many numbers in all are none."""
        return sum(variable.nan_count or 0 for variable in self.variables)

    @property
    def infinite_count(self) -> int:
        """How many numbers in all are infinite."""
        return sum(variable.infinite_count or 0 for variable in self.variables)

    @property
    def not_read(self) -> dict[str, int]:
        """How many values of each dtype were not read: nothing is known of what they hold."""
        counts = Counter(variable.dtype for variable in self.variables if variable.nan_count is None)
        return dict(sorted(counts.items()))

    def as_json(self) -> dict[str, Any]:
        """Returns the report for `json.dumps`."""
        described = dataclasses.asdict(self)
        counts = {"nan_count": self.nan_count, "infinite_count": self.infinite_count, "not_read": self.not_read}
        return {**described, **counts}


def describe_checkpoint(opened: OpenedCheckpoint) -> CheckpointReport:
    """Reads all numbers of an open checkpoint, and so checks their checksums where it has any.

    Raises:
        CheckpointError: a value is damaged.
    """
    stored, found = opened.native, opened.recognition
    network = found.network() if found else None
    slots = _slots(stored)
    variables = tuple(_describe(stored, name) for name in sorted(stored.shapes))
    return CheckpointReport(
        container="object-based checkpoint" if opened.object_based else _CONTAINERS[opened.container],
        packed=opened.packed,
        layout=found.layout if found else None,
        network=found.network_name if found else None,
        depth_multiplier=found.depth_multiplier if found else None,
        num_classes=found.num_classes if found else None,
        num_features=network.num_features if network else None,
        parameters=sum(variable.size for variable in network.variables) if network else None,
        step=_step(stored),
        averaged_copies=slots.pop(AVERAGED_SUFFIX.strip("/"), 0),
        optimizer_slots=dict(sorted(slots.items())),
        variables=variables,
        problems=tuple([f"{CONFIG}: {problem}" for problem in opened.problems] + _broken(variables)),
    )


def _broken(variables: Sequence[VariableReport]) -> list[str]:
    count = sum(bool(one.nan_count or one.infinite_count) for one in variables)
    return [f"{count} of {len(variables)} variables hold NaN or infinite values"] if count else []


def _slots(stored: StoredValues) -> Counter[str]:
    """Returns how often each name stands below the name of a variable: what TensorFlow 1 keeps beside variables."""
    return Counter(
        slot for variable, _, slot in (name.rpartition("/") for name in stored.shapes) if variable in stored.shapes
    )


def _step(stored: StoredValues) -> int | None:
    shape = stored.shapes.get(_STEP)
    if shape is None or math.prod(shape) != 1 or stored.dtype(_STEP) not in _STEP_DTYPES:
        return None
    return int(stored.read(_STEP).item())


def _describe(stored: StoredValues, name: str) -> VariableReport:
    shape, dtype = stored.shapes[name], stored.dtype(name)
    if not holds_numbers(dtype):
        return VariableReport(name, shape, dtype, None, None, None, None, None)
    value = stored.read(name)
    finite = value[np.isfinite(value)]
    norm, least, most = _figures(finite) if finite.size else (None, None, None)
    nan_count, infinite_count = int(np.isnan(value).sum()), int(np.isinf(value).sum())
    return VariableReport(name, shape, dtype, norm, least, most, nan_count, infinite_count)


def _figures(finite: npt.NDArray[Any]) -> tuple[float | None, float | None, float | None]:
    is_complex = np.iscomplexobj(finite)
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(finite.astype(np.complex128 if is_complex else np.float64)))
    extremes = (None, None) if is_complex else (float(finite.min()), float(finite.max()))
    return norm if math.isfinite(norm) else None, *extremes
