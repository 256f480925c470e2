"""Compares what a consumer observed of a module with the module's contract; each violation becomes a line of text.

The programs in `hubexport/consumers/programs` record the facts. The contract follows from the network, except for the
expected outputs, which the caller computes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.errors import printable
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward, batch_statistics
from hubexport.networks.ops import Dropout, DropPath

DEFAULT = "default"
# What programs call the default output for images of another size.
_OTHER_SIZE = f"other_size:{DEFAULT}"
# What programs call a variable after so many updates of the moving averages.
_AFTER_UPDATES = "after_{}_updates:"
# Allowed between two runs of the same graph or functions on one TensorFlow.
REPEAT_TOLERANCE = 1e-6
# Allowed in a step of the moving averages, relative to it, beside what rounding explains.
_STEP_TOLERANCE = 1e-3
_EPSILON = float(np.finfo(np.float32).eps)
# The batch statistics come after many float32 layers, each of which normalizes by statistics of its own. Their error is
# about as large as that of the same computation in NumPy's float32, but not equal to it.
_STATISTICS_TOLERANCE_IN_FLOORS = 10
_TRAINING_IMAGES = 4
# Differs from all defaults.
_OTHER_MOMENTUM = 0.6
# Modules of later versions than 2 take a momentum, and all have the same default, not their network's.
_MOMENTUM_FROM_VERSION = 3
_DEFAULT_MOMENTUM = 0.99
# What training drops at random is tried so often that seeing nothing of it would be a chance of one in a million.
# Dropout is tried on so many images.
_DROPOUT_IMAGES = 2
_LOG_OF_CHANCE = math.log(1e6)
# TensorFlow derives gradients of gradients for a persistent tape. In each mode that takes half a minute with the 207
# ops of MobileNet V2, and over three minutes with the 914 of NASNet-A (mobile). Networks of more ops do without.
_PERSISTENT_TAPES_UP_TO = 400
# The second size of images: this part of the height less, and of the width more. 224 x 224 becomes 192 x 256.
_PART_OF_SIZE = 7
# How many missing or unexpected names a problem lists.
_SHOWN_NAMES = 3

AnyArray = npt.NDArray[Any]
# What a program recorded of a module.
Facts = Mapping[str, Any]
Predictions = Mapping[str, AnyArray]
# Name, output (None if it is missing), and expected output.
Comparison = tuple[str, AnyArray | None, AnyArray]


@dataclasses.dataclass(frozen=True)
class Update:
    """One update of the moving averages, by a training step.

    Attributes:
        batch: the index of the step's images in `ModuleContract.training_batches`.
        momentum: the momentum that the program gives; None for the module's default.
    """

    batch: int
    momentum: float | None


@dataclasses.dataclass(frozen=True)
class ModuleContract:
    """What a module must contain and compute.

    Attributes:
        version: the module's version: 1 to 3 in the TF1 Hub format, 4 and 5 as a TF2 SavedModel.
        network: the module's network, with a classifier if and only if the module has one.
        images: float32 [batch, height, width, 3], RGB, intensities in [0, 1], of the network's default size; what the
            consumer gets.
        values: the values of all variables, by name.
        expected_outputs: float32 or float64 [batch, ...], computed independently for the images, by name: `default`,
            endpoints, and in the TF1 Hub format signatures, which stand for their `default` output.
        tolerance: the largest difference allowed between an output and the expected one.
    """

    version: int
    network: Network
    images: Array
    values: Mapping[str, Array]
    expected_outputs: Mapping[str, AnyArray]
    tolerance: float

    @property
    def takes_momentum(self) -> bool:
        """Whether programs can give a momentum."""
        return self.version >= _MOMENTUM_FROM_VERSION

    @property
    def momentum(self) -> float:
        """The default momentum."""
        return _DEFAULT_MOMENTUM if self.takes_momentum else self.network.momentum

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
        return [variable.name for variable in self.network.variables if not variable.trainable]

    @property
    def certain_statistics(self) -> list[str]:
        """Those of the moving averages that training updates by the images alone, and nothing at random."""
        certain = [op for op in self.network.ops if op.name not in self.network.random_ops]
        return [variable.name for op in certain for variable in op.variables if not variable.trainable]

    @property
    def weight_decay(self) -> dict[str, float]:
        """The factors of the variables with weight decay."""
        return {variable.name: variable.weight_decay for variable in self.network.variables if variable.weight_decay}

    def output_ops(self, default: str | None = None) -> dict[str, str]:
        """Returns the op of each output: of `default`, and of the endpoints.

        Args:
            default: the op of the default output; defaults to the module's.
        """
        return {DEFAULT: default or self.network.logits or self.network.features, **self.network.endpoints}

    def output_shapes(self, default: str | None = None) -> dict[str, list[int | None]]:
        """Returns the shapes of the endpoints and of `default`, with None for the batch size and for open lengths."""
        return {key: [None, *self.network.shapes[op]] for key, op in self.output_ops(default).items()}

    @functools.cached_property
    def other_images(self) -> Array | None:
        """Two images of another size, lower and wider: float32 [2, height, width, 3]; None for a module of one size."""
        if self.network.image_shape[0] is not None:
            return None
        height, width = (length // _PART_OF_SIZE for length in self.images.shape[1:3])
        return np.pad(self.images[:2, height:], [(0, 0), (0, 0), (0, width), (0, 0)], "reflect")

    @functools.cached_property
    def expected_for_other_images(self) -> AnyArray | None:
        """The default output for them, float64 [2, ...]; None for a module of one size."""
        if self.other_images is None:
            return None
        default = self.output_ops()[DEFAULT]
        return Forward(self.network, self.values, self.other_images).run([default])[default]

    @property
    def training_batches(self) -> tuple[Array, Array]:
        """Two batches of training images whose statistics differ: the images, and their negatives."""
        images = self.images[:_TRAINING_IMAGES]
        return images, 1 - images

    @property
    def updates(self) -> tuple[Update, ...]:
        """The updates of the moving averages that programs try, in order; the last has the default momentum."""
        if self.takes_momentum:
            return Update(0, _OTHER_MOMENTUM), Update(1, _OTHER_MOMENTUM), Update(0, None)
        return Update(0, None), Update(1, None)

    @functools.cached_property
    def batch_statistics(self) -> tuple[dict[str, tuple[AnyArray, float]], ...]:
        """Per training batch what it moves each moving average towards, float64, and the largest error of float32."""
        described = []
        for images in self.training_batches:
            exact, rounded = (
                batch_statistics(self.network, self.values, images, dtype) for dtype in (np.float64, np.float32)
            )
            described.append({name: (exact[name], largest_difference(rounded[name], exact[name])) for name in exact})
        return tuple(described)

    @property
    def gradient_runs(self) -> int:
        """How many runs in training mode it takes to see that each variable has a gradient: one may drop its path.

        The gradients are those of a batch of `training_batches`.
        """
        rates = [
            -len(self.training_batches[0]) * math.log(1 - op.keep_prob)
            for op in self.network.ops
            if isinstance(op, DropPath) and op.keep_prob < 1
        ]
        return math.ceil((_LOG_OF_CHANCE + math.log(len(rates))) / min(rates)) if rates else 1

    @property
    def persistent_modes(self) -> tuple[bool, ...]:
        """The values of `training` to try under a persistent tape: both, or none for a network of many ops."""
        return (False, True) if len(self.network.ops) <= _PERSISTENT_TAPES_UP_TO else ()

    @functools.cached_property
    def _random_rates(self) -> dict[str, float]:
        """For each output that training makes random, the negative logarithm of the chance that it drops nothing."""
        rates: dict[str, dict[str, float]] = {}  # By op, and by the random op that it depends on.
        for op in self.network.ops:
            rates[op.name] = {name: rate for source in op.inputs for name, rate in rates[source].items()}
            if isinstance(op, (Dropout, DropPath)) and op.keep_prob < 1:
                lengths = self.network.shapes[op.name] if isinstance(op, Dropout) else ()
                count = _DROPOUT_IMAGES * math.prod(length or 1 for length in lengths)
                rates[op.name][op.name] = -count * math.log(op.keep_prob)
        outputs = {key: sum(rates[op].values()) for key, op in self.output_ops().items()}
        return {key: rate for key, rate in outputs.items() if rate}

    @property
    def random_outputs(self) -> list[str]:
        """The outputs that differ from run to run in training mode: those that come after dropout."""
        return list(self._random_rates)

    @property
    def dropout_runs(self) -> int:
        """How many runs in training mode it takes to see that they differ: at least two."""
        return 1 + max([1, *(math.ceil(_LOG_OF_CHANCE / rate) for rate in self._random_rates.values())])


@dataclasses.dataclass(frozen=True)
class Application:
    """What came of applying a module to batches of images, and then to one of them again, by one API.

    Attributes:
        outputs: the default output for each batch.
        variables: the number of the module's variables after the first and after the last application.
    """

    outputs: Sequence[Array]
    variables: tuple[int, int]


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


def judge_application(api: str, application: Application, contract: ModuleContract) -> Judgement:
    """Judges what came of applying a module by one API, to the contract's images and then to its other ones."""
    expected = [contract.expected_outputs[DEFAULT], contract.expected_for_other_images]
    batches = zip((api, f"{api} at another size"), application.outputs, expected, strict=False)
    comparisons = [(name, output, exact) for name, output, exact in batches if exact is not None]
    largest_error, problems = compare_outputs(comparisons, contract.tolerance)
    first, last = application.variables
    problems += check_equal(f"variables with {api}", first, len(contract.variables))
    problems += check_equal(f"variables after a second application with {api}", last, first)
    return Judgement(largest_error, tuple(problems))


def other_outputs(predictions: Predictions, contract: ModuleContract) -> list[Comparison]:
    """Returns the outputs for images of another size, for `compare_outputs`; none for a module of one size."""
    expected = contract.expected_for_other_images
    return [] if expected is None else [(_OTHER_SIZE, predictions.get(_OTHER_SIZE), expected)]


def compare_outputs(outputs: Iterable[Comparison], tolerance: float) -> tuple[float, list[str]]:
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


def check_static_shapes(
    where: str, found: Mapping[str, Sequence[int | None]], contract: ModuleContract
) -> Iterator[str]:
    """Yields a problem unless the endpoints and their shapes are as expected for the contract's images.

    A length that depends on the size of the images may also be unknown: TensorFlows differ in what they infer.
    """
    declared = contract.output_shapes()
    exact = dataclasses.replace(contract, network=contract.network.at_default_size()).output_shapes()
    yield from check_names(f"endpoints in {where}", list(found), declared)
    for key in (key for key in declared if key in found):
        if list(found[key]) not in (declared[key], exact[key]):
            yield from check_equal(f"shape of endpoint {key} in {where}", found[key], exact[key])


def check_loss_falls(what: str, losses: Sequence[float]) -> Iterator[str]:
    """Yields a problem if a few steps of training have not lowered the loss by 2%."""
    if not losses[-1] < 0.98 * losses[0]:
        yield f"{what}: the loss does not fall: it goes from {losses[0]:.4g} to {losses[-1]:.4g}"


def check_regularization(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """Yields a problem unless weight decay covers the variables that have it in the network, and no others."""
    yield from check_equal("regularization losses", facts["regularization_losses"], len(contract.weight_decay))
    error = abs(facts["regularization_loss"] / facts["regularization_loss_by_hand"] - 1)
    yield from check_error("sum of the regularization losses, relative to the sum by hand", error, 1e-5)


def check_dropout(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """Yields a problem unless the outputs that come after dropout differ from run to run, and no others."""
    what = "outputs that differ between runs in training mode"
    yield from check_names(what, facts["random_outputs"], contract.random_outputs)


def check_updates(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Iterator[str]:
    """Yields a problem unless each update moves each moving average by one minus the momentum of its distance.

    The distance is to the statistic of the update's own batch, as the float64 network has it.
    """
    for number, update in enumerate(contract.updates):
        momentum = contract.momentum if update.momentum is None else update.momentum
        what = f"update {number + 1}, with {'default' if update.momentum is None else 'given'} momentum"
        yield from check_names(f"variables changed by {what}", facts["changed_by_updates"][number], contract.statistics)
        for name, (statistic, floor) in contract.batch_statistics[update.batch].items():
            before, after = (predictions.get(_AFTER_UPDATES.format(count) + name) for count in (number, number + 1))
            if before is None or after is None:
                yield f"moving average {name} is missing in {what}"
                continue
            distance = statistic - before
            scale = (1 - momentum) * float(np.abs(distance).max())
            error = largest_difference(after - before.astype(np.float64), (1 - momentum) * distance)
            rounding = (1 - momentum) * _STATISTICS_TOLERANCE_IN_FLOORS * floor + _EPSILON * float(np.abs(before).max())
            limit = _STEP_TOLERANCE + rounding / scale
            yield from check_error(f"relative error in the step of {name} in {what}", error / scale, limit)
