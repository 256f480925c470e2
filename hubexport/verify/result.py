"""What `hubexport verify` found: one result per check, and what the report shows beside them."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any, Literal, get_args

from hubexport.networks.ops import TensorShape

Status = Literal["pass", "fail", "not applicable"]
# What proves a promise: building the module again; computing what it should hold and do, without the code that writes
# modules; or a program that loads it.
Proof = Literal["rebuild", "computation", "program"]
Subject = Literal["module", "deployment"]
_STATUS_WORDS = {"pass": "passed", "fail": "failed", "not applicable": "not applicable"}


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: the check's name, like `numbers.random`.
        status: `not applicable` if there was nothing for the check to look at.
        explanation: what was found, or why there was nothing to check, in one line.
        measured: the figure that was compared with the limit; None if there is none.
        limit: the largest figure that passes; None if there is none.
        unit: the unit of both, in the plural, like `files`. Empty for differences of outputs.
        details: further findings, one per line.
        seconds: how long the check took.
        proof: what the check proves its promise by.
    """

    check: str
    status: Status
    explanation: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""
    details: tuple[str, ...] = ()
    seconds: float = 0.0
    proof: Proof = "computation"


@dataclasses.dataclass(frozen=True)
class LayerError:
    """A layer, and how far its output is from the exact one, over all images that checks measured.

    Attributes:
        name: the layer's name.
        operation: what the layer computes, like `Conv2D 3×3, stride 2`.
        shape: the shape of its output, without the batch.
        parameters: the number of its values, moving averages included.
        multiply_adds: the multiply-adds for one image. Only convolutions count.
        largest: the largest absolute value of the exact output.
        error: the largest absolute error of the module's output; None if the module does not show the layer.
        floor: the largest absolute error of plain float32 arithmetic in NumPy.
    """

    name: str
    operation: str
    shape: TensorShape
    parameters: int
    multiply_adds: int
    largest: float
    error: float | None
    floor: float


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A photograph with the classes that a classification module finds in it.

    Attributes:
        name: the name of its file.
        jpeg: the image as the module saw it, as a JPEG.
        classes: the best classes, best first: index, label (None if there are no labels), probability in [0, 1].
    """

    name: str
    jpeg: bytes = dataclasses.field(repr=False)
    classes: tuple[tuple[int, str | None, float], ...]


@dataclasses.dataclass(frozen=True)
class Verification:
    """Everything that was found out about one module.

    Attributes:
        path: the module, as the user named it.
        checkpoint: the checkpoint that it was compared with, as the user named it; None if it was compared with its own
            values.
        facts: the contents of `hubexport.json` (see `hubexport.formats.manifest`); empty if the module has none.
        results: one per check, in the order in which they ran.
        layers: the layers in the order of the network; empty if no check measured them.
        photographs: the user's photographs with their classes; empty for feature vectors.
        versions: the versions of the software that took part, like `{"TensorFlow": "2.15.1"}`.
        seconds: how long the whole verification took.
        not_selected: the names of the checks that the user did not select, which did not run.
    """

    path: str
    checkpoint: str | None
    facts: Mapping[str, Any]
    results: tuple[CheckResult, ...]
    layers: tuple[LayerError, ...]
    photographs: tuple[Photograph, ...]
    versions: Mapping[str, str]
    seconds: float
    not_selected: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.status == "fail")

    @property
    def passed(self) -> bool:
        """Whether no check failed, and at least one passed."""
        return not self.failed and any(result.status == "pass" for result in self.results)

    @property
    def summary(self) -> str:
        """The verdict and the number of checks by status, and of those that were not selected, in one line."""
        counts = {status: sum(result.status == status for result in self.results) for status in get_args(Status)}
        by_status = ", ".join(f"{count} {_STATUS_WORDS[status]}" for status, count in counts.items() if count)
        # Whoever wrote a deployment may say anything in it.
        unproved = self.passed and self.checkpoint is None and self.facts.get("deployment")
        advice = "; what it computes was NOT compared: give --checkpoint" if unproved else ""
        others = len(self.not_selected)
        left_out = f"; {others} other check{' was' if others == 1 else 's were'} not selected" if others else ""
        return f"{'PASSED' if self.passed else 'FAILED'}: {by_status}, in {self.seconds:.1f} s{left_out}{advice}"

    def as_json(self) -> dict[str, Any]:
        """Returns the verification for `json.dumps`, always with the same keys. NaN and infinity become None."""
        described = dataclasses.asdict(self)
        for photograph in described["photographs"]:
            del photograph["jpeg"]
        return {"passed": self.passed, **_finite(described)}


def _finite(value: Any) -> Any:
    """Replaces the numbers in a structure that JSON cannot express."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, tuple | list) else value
