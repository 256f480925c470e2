"""Compares what a consumer observed of a module with the module's contract; each violation becomes a line of text.

The programs in `hubexport/consumers/programs` record the facts. The contract follows from the network, except for the
expected outputs, which the caller computes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.errors import printable
from hubexport.networks.network import Network

DEFAULT = "default"
# Allowed between two runs of the same graph or functions on one TensorFlow.
REPEAT_TOLERANCE = 1e-6
# Allowed in a step of the moving averages, relative to it: the averages are float32, and much larger than the step.
STEP_TOLERANCE = 1e-3
# How many missing or unexpected names a problem lists.
_SHOWN_NAMES = 3
_BATCH_NORM_STATISTICS = ("moving_mean", "moving_variance")

AnyArray = npt.NDArray[Any]
# What a program recorded of a module.
Facts = Mapping[str, Any]
Predictions = Mapping[str, AnyArray]


@dataclasses.dataclass(frozen=True)
class ModuleContract:
    """What a module must contain and compute.

    Attributes:
        version: the module's version: 1 to 3 in the TF1 Hub format, 4 and 5 as a TF2 SavedModel.
        network: the module's network, with a classifier if and only if the module has one.
        expected_outputs: float32 or float64 [batch, ...], computed independently for the images that the consumer gets,
            by name: `default`, endpoints, and in the TF1 Hub format signatures, which stand for their `default` output.
        tolerance: the largest difference allowed between an output and the expected one.
    """

    version: int
    network: Network
    expected_outputs: Mapping[str, AnyArray]
    tolerance: float

    @property
    def is_classification(self) -> bool:
        """Whether the default output holds logits."""
        return self.network.logits is not None

    @property
    def variables(self) -> list[str]:
        """The names of all variables."""
        return [variable.name for variable in self.network.variables]

    @property
    def trainable(self) -> list[str]:
        """The names of the variables that gradients change."""
        return [variable.name for variable in self.network.variables if variable.trainable]

    @property
    def statistics(self) -> list[str]:
        """The names of the moving averages, which training updates."""
        return [name for name in self.variables if name.rpartition("/")[2] in _BATCH_NORM_STATISTICS]

    @property
    def num_regularized(self) -> int:
        """The number of variables with weight decay."""
        return sum(bool(variable.weight_decay) for variable in self.network.variables)

    def output_shapes(self, default: str | None = None) -> dict[str, list[int | None]]:
        """Returns the shapes of the endpoints and of `default`, with None for the batch size.

        Args:
            default: the layer of the default output; defaults to the module's.
        """
        layers = {DEFAULT: default or self.network.logits or self.network.features, **self.network.endpoints}
        return {key: [None, *self.network.shapes[layer]] for key, layer in layers.items()}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """Whether a module keeps its contract.

    Attributes:
        largest_error: the largest difference between an output and the expected one; NaN if an output holds NaN or has
            another shape.
        problems: the violations, one per line.
    """

    largest_error: float
    problems: tuple[str, ...]


def judge_quick_use(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Judgement:
    """Judges what `consume_quickly.py` recorded."""
    expected = contract.expected_outputs[DEFAULT]
    outputs = ((api, predictions[api], expected) for api in facts["apis"])
    largest_error, problems = compare_outputs(outputs, contract.tolerance)
    for api, (first, second) in facts["variables"].items():
        problems += check_equal(f"variables with {api}", first, len(contract.variables))
        problems += check_equal(f"variables after a second application with {api}", second, first)
    return Judgement(largest_error, tuple(problems))


def compare_outputs(
    outputs: Iterable[tuple[str, AnyArray | None, AnyArray]], tolerance: float
) -> tuple[float, list[str]]:
    """Compares outputs with the expected ones.

    Args:
        outputs: name, output (of all images or of the first ones; None if it is missing), and expected output.
        tolerance: the largest difference allowed.
    Returns:
        The largest difference, and the problems.
    """
    errors, problems = [0.0], []
    for name, output, expected in outputs:
        if output is None:
            problems.append(f"output {printable(name)} is missing")
            continue
        error = largest_difference(output, expected[: len(output)])
        errors.append(error)
        problems += check_error(f"predictions of {printable(name)}", error, tolerance)
    return float(np.max(errors)), problems


def largest_difference(output: AnyArray, expected: AnyArray) -> float:
    """Returns the largest difference between two arrays; NaN if they are empty or their shapes differ."""
    if output.shape != expected.shape or not output.size:
        return float("nan")
    return float(np.abs(output.astype(np.float64) - expected).max())


def check_error(what: str, error: float, limit: float) -> Iterator[str]:
    """Yields a problem if an error is NaN or above its limit."""
    if not error <= limit:
        yield f"{what}: off by {error:.3g}, limit {limit:.3g}"


def check_equal(what: str, found: object, expected: object) -> Iterator[str]:
    """Yields a problem if two values differ."""
    if found != expected:
        yield f"{what}: {printable(str(found))}, expected {printable(str(expected))}"


def problem_unless(condition: bool, problem: str) -> Iterator[str]:
    """Yields the problem unless the condition holds."""
    if not condition:
        yield problem


def check_names(what: str, found: Sequence[str], expected: Collection[str]) -> Iterator[str]:
    """Yields a problem if names are missing, and one if names are unexpected or occur twice."""
    missing = [name for name in expected if name not in set(found)]
    unexpected = sorted({name for name in found if name not in expected or found.count(name) > 1})
    for problem, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            yield f"{what}: {problem} {printable(', '.join(names[:_SHOWN_NAMES]))}{more}"


def check_loss_falls(what: str, losses: Sequence[float]) -> Iterator[str]:
    """Yields a problem if a few steps of training have not lowered the loss by 2%."""
    if not losses[-1] < 0.98 * losses[0]:
        yield f"{what}: the loss does not fall: it goes from {losses[0]:.4g} to {losses[-1]:.4g}"


def check_regularization(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """Yields a problem unless weight decay covers all convolution weights except depthwise ones."""
    yield from check_equal("regularization losses", facts["regularization_losses"], contract.num_regularized)
    error = abs(facts["regularization_loss"] / facts["regularization_loss_by_hand"] - 1)
    yield from check_error("sum of the regularization losses, relative to the sum by hand", error, 1e-5)


def check_dropout(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """Yields a problem unless dropout comes before the logits, and nowhere else."""
    yield from problem_unless(facts["features_repeat"], "features differ between two runs in training mode")
    if contract.is_classification:
        problem = "logits are the same in two runs in training mode: there is no dropout"
        yield from problem_unless(not facts["default_repeats"], problem)
    else:
        problem = "the default output differs between two runs in training mode"
        yield from problem_unless(facts["default_repeats"], problem)
