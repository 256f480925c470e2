"""What `hubexport verify` found: a result a check, and what a person wants to see around them."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any, Literal, get_args

Status = Literal["pass", "fail", "not applicable"]
_SAID = {"pass": "passed", "fail": "failed", "not applicable": "not applicable"}


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What became of one check.

    Attributes:
        check: its name, like `numbers.float64`.
        status: `not applicable` where the module, or what was given with it, has nothing of the kind.
        explanation: one line: what was found, or why there was nothing to check.
        measured: the figure that was held against the limit; None where there is none.
        limit: passed as long as the figure is not above it; None where there is none.
        unit: of both, in the plural, like `files`; empty for plain differences of numbers.
        details: further findings, one a line.
        seconds: how long it took.
    """

    check: str
    status: Status
    explanation: str
    measured: float | None = None
    limit: float | None = None
    unit: str = ""
    details: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class LayerError:
    """How far one layer's output is from the exact one, over all images that were tried.

    Attributes:
        name: of the layer.
        operation: what it computes, like `Conv2D 3×3, stride 2`.
        shape: of its output, without the batch.
        parameters: the number of values that it learns or keeps.
        multiply_adds: for one image; convolutions only.
        largest: the largest absolute value of the exact output.
        error: the largest difference of the module's output to the exact one; None where the module does not show it.
        floor: the largest difference of plain float32 arithmetic in NumPy to the exact one.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    largest: float
    error: float | None
    floor: float


@dataclasses.dataclass(frozen=True)
class Photograph:
    """What a classification module says of a photograph.

    Attributes:
        name: of its file.
        jpeg: the picture as the module saw it, encoded to be shown.
        classes: the best classes, best first: index, label (None where there are no labels), probability.
    """

    name: str
    jpeg: bytes = dataclasses.field(repr=False)
    classes: tuple[tuple[int, str | None, float], ...]


@dataclasses.dataclass(frozen=True)
class Verification:
    """All that was found out about one module.

    Attributes:
        path: the module, as the user named it.
        checkpoint: what it was held against, as the user named it; None if only against itself.
        facts: what `hubexport.json` says of it (see `hubexport.formats.manifest`); empty if there is none.
        results: one a check, in the order of `hubexport.verify.checks.registry`.
        layers: in the order of the network; empty if no check computed them.
        photographs: those that were given, of classification modules.
        versions: what computed, by name, like `{"TensorFlow": "2.15.1"}`.
        seconds: the whole verification.
    """

    path: str
    checkpoint: str | None
    facts: Mapping[str, Any]
    results: tuple[CheckResult, ...]
    layers: tuple[LayerError, ...]
    photographs: tuple[Photograph, ...]
    versions: Mapping[str, str]
    seconds: float

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
        """One line for people."""
        counts = {status: sum(result.status == status for result in self.results) for status in get_args(Status)}
        told = ", ".join(f"{count} {_SAID[status]}" for status, count in counts.items() if count)
        return f"{'PASSED' if self.passed else 'FAILED'}: {told}, in {self.seconds:.1f} s"

    def as_json(self) -> dict[str, Any]:
        """Returns the verification as `json.dumps` takes it, always with the same keys; infinities become None."""
        described = dataclasses.asdict(self)
        for photograph in described["photographs"]:
            del photograph["jpeg"]
        return {"passed": self.passed, **_finite(described)}


def _finite(value: Any) -> Any:
    """Returns a structure without the numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, tuple | list) else value
