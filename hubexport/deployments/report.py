"""What is in a deployment's files, whoever wrote them: the result of `hubexport inspect`."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class DeployedTensor:
    """An input or an output of a deployment.

    Attributes:
        name: what programs call it.
        dtype: in NumPy's words, like `float32`.
        shape: its lengths; None for an open one. None if it may have any, or is no tensor.
        quantization: how integers stand for numbers, as people read it; None for floats.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    quantization: str | None = None


@dataclasses.dataclass(frozen=True)
class DeploymentReport:
    """What is in a deployment.

    Attributes:
        format: its name in `DEPLOYMENTS`.
        version: of the format, as people read it, like `opset 17`.
        written_by: the program that wrote it; None if it does not say.
        size: of all its files, in bytes.
        inputs: what it takes.
        outputs: what it gives.
        ops: how often it has each op, by the format's own names.
        weights: how many numbers of each dtype its constants hold.
        metadata: what it says of itself, as values that JSON has.
        problems: what is wrong with it, a sentence each.
        files: the names of its files, which are in one folder, if there are several.
    """

    format: str
    version: str
    written_by: str | None
    size: int
    inputs: Sequence[DeployedTensor]
    outputs: Sequence[DeployedTensor]
    ops: Mapping[str, int]
    weights: Mapping[str, int]
    metadata: Mapping[str, Any]
    problems: Sequence[str] = ()
    files: Sequence[str] = ()

    @property
    def has_problems(self) -> bool:
        """Whether anything is wrong with it."""
        return bool(self.problems)

    def as_json(self) -> dict[str, Any]:
        """Returns everything, as JSON has it."""
        return dataclasses.asdict(self)
