"""Describes a file of trained values: its network, its state of training, and its problems."""

from collections import Counter
import dataclasses
import math
from typing import Any

import numpy as np

from hubexport.checkpoints.beside_network import constant_problems, unused_variables
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.dtypes import holds_numbers
from hubexport.checkpoints.huggingface_directory import CONFIG
from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, Recognition
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.networks.family import Parameters
from hubexport.networks.family_fields import spread_parameters
from hubexport.networks.ops import Shape

_STEP = "global_step"

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
        name: the value's name in the file; in object-based checkpoints the name of its variable.
        shape: its shape.
        dtype: the name of its dtype, like `float32`.
        norm: the L2 norm of the finite numbers, in float64; None without finite numbers, or if it overflows.
        minimum: the smallest finite number; None without finite numbers, or if they are complex.
        maximum: the largest, likewise.
        nan_count: the number of NaNs; None if the value was not read, because its dtype is not numeric.
        infinite_count: the number of infinities; None if the value was not read.
    """

    name: str
    shape: Shape
    dtype: str
    norm: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    nan_count: int | None = None
    infinite_count: int | None = None


@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """A file of trained values.

    Attributes:
        container: the file format, like `V2 checkpoint`.
        packed: whether the file is inside a gzipped tar.
        layout: the name of the layout that the values have; None if the network is not known.
        network: the name of the network; None if it is not known. Of several, it is the one whose published checkpoints
            have as many classes.
        foreign: what the values are, if they are of no known network and their names tell, like `a ResNet of Keras`.
        other_networks: the names of others that it may be as well, since they have the same variables.
        family_parameters: the parameters of the network's family; None if the network is not known.
        num_classes: the number of classes; None without classifier, or if the network is not known.
        num_features: the length of its feature vectors; None if the network is not known.
        parameters: how many numbers the network's variables have; None if the network is not known.
        step: the number of training steps; None if the file does not record it.
        averaged_copies: how many variables have a moving average beside them.
        not_exported: how many variables modules of the network leave out, by what they are, like `auxiliary head`, or
            like `Inception V3` for another network in the file.
        optimizer_slots: how many variables have each kind of optimizer slot.
        variables: all stored values, sorted by name.
        problems: NaN and infinite values, settings that the network does not support, and values that are not the
            constants that modules have in their place.
    """

    container: str
    packed: bool
    layout: str | None
    network: str | None
    foreign: str | None
    other_networks: tuple[str, ...]
    family_parameters: Parameters | None
    num_classes: int | None
    num_features: int | None
    parameters: int | None
    step: int | None
    averaged_copies: int
    not_exported: dict[str, int]
    optimizer_slots: dict[str, int]
    variables: tuple[VariableReport, ...]
    problems: tuple[str, ...]

    @property
    def has_problems(self) -> bool:
        """Whether there are any problems."""
        return bool(self.problems)

    @property
    def nan_count(self) -> int:
        """The number of NaNs in all values."""
        return sum(variable.nan_count or 0 for variable in self.variables)

    @property
    def infinite_count(self) -> int:
        """The number of infinities in all values."""
        return sum(variable.infinite_count or 0 for variable in self.variables)

    @property
    def not_read(self) -> dict[str, int]:
        """How many values of each dtype were not read, because hubexport cannot read them as numbers."""
        counts = Counter(variable.dtype for variable in self.variables if variable.nan_count is None)
        return dict(sorted(counts.items()))

    def as_json(self) -> dict[str, Any]:
        """Returns the report for `json.dumps`."""
        described = dataclasses.asdict(self)
        described = spread_parameters(described, described.pop("family_parameters"))
        counts = {"nan_count": self.nan_count, "infinite_count": self.infinite_count, "not_read": self.not_read}
        return {**described, **counts}


def describe_checkpoint(opened: OpenedCheckpoint) -> CheckpointReport:
    """Reads all numbers of an open checkpoint, which also checks their checksums where it has any.

    Raises:
        CheckpointError: a value is damaged.
    """
    stored, recognition = opened.native, opened.recognition
    network = recognition.network() if recognition else None
    families = recognition.likely_families if recognition else []
    # TensorFlow 1 stores what belongs to a variable below the variable's name.
    slots = Counter(
        slot for variable, _, slot in (name.rpartition("/") for name in stored.shapes) if variable in stored.shapes
    )
    variables = tuple(_describe_variable(stored, name) for name in sorted(stored.shapes))
    problems = [f"{CONFIG}: {problem}" for problem in opened.problems]
    if broken := sum(bool(variable.nan_count or variable.infinite_count) for variable in variables):
        problems.append(f"{broken} of {len(variables)} variables hold NaN or infinite values")
    if recognition:
        problems += constant_problems(opened.values, recognition.family)
    return CheckpointReport(
        container="object-based checkpoint" if opened.object_based else _CONTAINERS[opened.container],
        packed=opened.packed,
        layout=recognition.layout if recognition else None,
        network=families[0].name if families else None,
        foreign=opened.foreign,
        other_networks=tuple(family.name for family in families[1:]),
        family_parameters=recognition.parameters if recognition else None,
        num_classes=recognition.num_classes if recognition else None,
        num_features=network.num_features if network else None,
        parameters=sum(variable.size for variable in network.variables) if network else None,
        step=_training_step(stored),
        averaged_copies=slots.pop(AVERAGED_SUFFIX.strip("/"), 0),
        not_exported=_not_exported(opened.values, recognition) if recognition else {},
        optimizer_slots=dict(sorted(slots.items())),
        variables=variables,
        problems=tuple(problems),
    )


def _not_exported(stored: StoredValues, recognition: Recognition) -> dict[str, int]:
    others = {other.family.title: len(other.variable_layouts) for other in recognition.others}
    return {**unused_variables(stored, recognition.family), **others}


def _training_step(stored: StoredValues) -> int | None:
    shape = stored.shapes.get(_STEP)
    if shape is None or math.prod(shape) != 1 or stored.dtype(_STEP) not in ("int32", "int64"):
        return None
    return int(stored.read(_STEP).item())


def _describe_variable(stored: StoredValues, name: str) -> VariableReport:
    shape, dtype = stored.shapes[name], stored.dtype(name)
    if not holds_numbers(dtype):
        return VariableReport(name, shape, dtype)
    norm, lowest, highest = 0.0, math.inf, -math.inf
    count = nan_count = infinite_count = 0
    is_complex = False
    for chunk in stored.chunks(name):
        finite = chunk[np.isfinite(chunk)]
        nan_count += int(np.isnan(chunk).sum())
        infinite_count += int(np.isinf(chunk).sum())
        if not finite.size:
            continue
        count += finite.size
        is_complex = np.iscomplexobj(finite)
        with np.errstate(over="ignore"):
            wide = finite.astype(np.complex128 if is_complex else np.float64)
            norm = math.hypot(norm, float(np.linalg.norm(wide)))
        if not is_complex:
            lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
    return VariableReport(
        name,
        shape,
        dtype,
        norm if count and math.isfinite(norm) else None,
        lowest if count and not is_complex else None,
        highest if count and not is_complex else None,
        nan_count,
        infinite_count,
    )
