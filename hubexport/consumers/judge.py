"""Holds what a consumer saw of a module against what was promised; each broken promise becomes a line of words.

The facts are those that the programs in `hubexport/consumers/programs` write down. What is promised is derived from the
network; what it computes, the caller knows.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.errors import printable
from hubexport.networks.layers import Network

DEFAULT = "default"
# Of names that are missing or too many, as many are shown.
_SHOWN_NAMES = 3
_BATCH_NORM_STATISTICS = ("moving_mean", "moving_variance")

AnyArray = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Promise:
    """What a module should be and do.

    Attributes:
        version: of the module: 1 to 3 in the TF1 Hub format, 4 and 5 as a TF2 SavedModel.
        network: with classifier if and only if the module has one.
        expected: float32 or float64 [batch, ...], computed independently for the images that the consumer gets, by
            output: `default`, endpoints, and in the TF1 Hub format names of signatures, for their `default`.
        tolerance: the largest difference allowed of any number to what was expected.
    """

    version: int
    network: Network
    expected: Mapping[str, AnyArray]
    tolerance: float

    @property
    def is_classification(self) -> bool:
        """Whether its default output is class scores."""
        return self.network.logits is not None

    @property
    def variables(self) -> list[str]:
        """The names of all variables."""
        return [variable.name for variable in self.network.variables]

    @property
    def trainable(self) -> list[str]:
        """The names of those that gradients change."""
        return [variable.name for variable in self.network.variables if variable.trainable]

    @property
    def statistics(self) -> list[str]:
        """The names of the moving averages, which training updates."""
        return [name for name in self.variables if name.rpartition("/")[2] in _BATCH_NORM_STATISTICS]

    @property
    def num_regularized(self) -> int:
        """The number of variables with weight decay."""
        return sum(variable.regularized for variable in self.network.variables)

    def output_shapes(self, default: str | None = None) -> dict[str, list[int | None]]:
        """Returns the shapes of endpoints and `default`, with a batch of unknown size, as TensorFlow tells them.

        Args:
            default: the layer that is the default output; None means the module's own.
        """
        layers = {DEFAULT: default or self.network.logits or self.network.features, **self.network.endpoints}
        return {key: [None, *self.network.shapes[layer]] for key, layer in layers.items()}


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What became of the promises.

    Attributes:
        largest_error: the largest difference of any output to what was expected; NaN if one has another shape or no
            number somewhere.
        problems: the broken promises, one a line.
    """

    largest_error: float
    problems: tuple[str, ...]


def judge_quickly(facts: Mapping[str, Any], predictions: Mapping[str, AnyArray], promise: Promise) -> Judgement:
    """Judges what `consume_quickly.py` saw."""
    wanted = promise.expected[DEFAULT]
    largest, problems = compare_outputs(((api, predictions[api], wanted) for api in facts["apis"]), promise.tolerance)
    for api, (first, second) in facts["variables"].items():
        problems += unequal(f"variables with {api}", first, len(promise.variables))
        problems += unequal(f"variables after a second application with {api}", second, first)
    return Judgement(largest, tuple(problems))


def compare_outputs(
    outputs: Iterable[tuple[str, AnyArray | None, AnyArray]], tolerance: float
) -> tuple[float, list[str]]:
    """Compares outputs with what was expected of them.

    Args:
        outputs: for each a name, what was found (of the first images of the batch, or None), and what was expected.
        tolerance: the largest difference allowed.
    Returns:
        The largest difference of all, and the problems.
    """
    errors, problems = [0.0], []
    for name, found, wanted in outputs:
        if found is None:
            problems.append(f"output {printable(name)} is missing")
            continue
        error = largest_difference(found, wanted[: len(found)])
        errors.append(error)
        problems += beyond(f"predictions of {printable(name)}", error, tolerance)
    return float(np.max(errors)), problems


def largest_difference(found: AnyArray, wanted: AnyArray) -> float:
    """Returns the largest difference of two arrays; NaN if they cannot be compared."""
    if found.shape != wanted.shape or not found.size:
        return float("nan")
    return float(np.abs(found.astype(np.float64) - wanted).max())


def beyond(what: str, error: float, limit: float) -> Iterator[str]:
    """Yields a problem if an error is larger than its limit, or no number."""
    if not error <= limit:
        yield f"{what}: off by {error:.3g}, limit {limit:.3g}"


def unequal(what: str, found: object, wanted: object) -> Iterator[str]:
    """Yields a problem if something is not what it should be."""
    if found != wanted:
        yield f"{what}: {printable(str(found))}, expected {printable(str(wanted))}"


def broken(what: str, kept: bool) -> Iterator[str]:
    """Yields a problem if a promise is not kept."""
    if not kept:
        yield what


def other_names(what: str, found: Sequence[str], wanted: Collection[str]) -> Iterator[str]:
    """Yields a problem for names that are missing, and one for those that should not be there, or are there twice."""
    missing = [name for name in wanted if name not in set(found)]
    surplus = sorted({name for name in found if name not in wanted or found.count(name) > 1})
    for problem, names in (("missing", missing), ("unexpected", surplus)):
        if names:
            more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            yield f"{what}: {problem} {printable(', '.join(names[:_SHOWN_NAMES]))}{more}"


def not_falling(what: str, losses: Sequence[float]) -> Iterator[str]:
    """Yields a problem if a few steps of training have not lowered a loss by 2%."""
    if not losses[-1] < 0.98 * losses[0]:
        yield f"{what}: the loss does not fall: it goes from {losses[0]:.4g} to {losses[-1]:.4g}"


def other_regularization(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """Yields a problem if weight decay is not on all convolution weights but the depthwise ones."""
    yield from unequal("regularization losses", facts["regularization_losses"], promise.num_regularized)
    found, by_hand = facts["regularization_loss"], facts["regularization_loss_by_hand"]
    yield from beyond("sum of the regularization losses, relative to the sum by hand", abs(found / by_hand - 1), 1e-5)


def misplaced_dropout(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """Yields a problem if there is dropout elsewhere than before the logits."""
    yield from broken("features differ between two runs in training mode", facts["features_repeat"])
    if promise.is_classification:
        yield from broken(
            "logits are the same in two runs in training mode: there is no dropout", not facts["default_repeats"]
        )
    else:
        yield from broken("the default output differs between two runs in training mode", facts["default_repeats"])
