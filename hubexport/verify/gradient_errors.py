"""Compares gradients with finite differences of the float64 network, all variables and the images at once.

The float64 network takes a step in which every variable moves, each so far along its own gradient that the loss should
change by as much as by any other. What the loss changes by more or less is the sum of all errors. A gradient that is
stopped, halved or doubled on its way has an error in every variable that it passes.

Rounding errs in the same direction in all variables, and in their sum would hide what is wrong with a single one. So
there is a second step, in which each moves forwards or backwards by chance: there rounding cancels out, and the error
of one variable stays.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Floats, Forward

if TYPE_CHECKING:
    from hubexport.runtime.trainable_module import Cotangents, Gradients, MainOutput

_SEED = 1
# Beside the names of variables, none of which is empty.
_IMAGES = ""
# What no variable moves more by, relative to its length. Differences of float64 losses then err by less than 1e-4.
_STEP = 1e-6
# What a variable moves by that may have no effect, and the part of the loss by which that then changes at most.
_NOTICEABLE_STEP = 1e-3
_NO_EFFECT = 1e-9
# Gradients of next to nothing are noise, such as that by a beta before another batch norm. Variables count less in
# which a change of a given part changes the loss by less than this part of what it does in half of all variables.
_SMALLEST_EFFECT = 0.05
# Beside its gradient a variable moves at random, which shows errors across the gradient.
_ACROSS = 0.5
# The length of a variable that is all 0, relative to one that is all 1.
_SHORTEST = 1e-3


@dataclasses.dataclass(frozen=True)
class GradientBatch:
    """What gradients were computed for.

    Attributes:
        network: the network that the module should compute.
        values: the values of all its variables, by name.
        images: float32 [batch, height, width, 3] in [0, 1].
        training: whether batch norm takes the batch's statistics.
        cotangents: the cotangent of each main output.
        layers: the op of each main output.
        outputs: float64, the main outputs of the network with these values, by op.
    """

    network: Network
    values: Mapping[str, Array]
    images: Array
    training: bool
    cotangents: "Cotangents"
    layers: "Mapping[MainOutput, str]"
    outputs: Mapping[str, Floats]


@dataclasses.dataclass(frozen=True)
class GradientErrors:
    """The errors of gradients, relative to a gradient's length.

    Attributes:
        mean: the mean error by all variables and the images.
        alternating: the absolute value of the sum of all errors with signs by chance. If a single gradient is wrong, it
            is the error of that one.
    """

    mean: float
    alternating: float


def gradient_errors(batch: GradientBatch, ways: Sequence["Gradients"]) -> dict[str, GradientErrors]:
    """Returns the errors of the gradients by all trained variables and the images, by way.

    Args:
        batch: what the gradients were computed for.
        ways: gradients of the same loss, or of some of its products, by the ways to apply the module.
    """
    moved = [*(variable.name for variable in batch.network.variables if variable.trainable), _IMAGES]
    gradients = {
        found.way: found.values if found.images is None else {**found.values, _IMAGES: found.images} for found in ways
    }
    if missing := [way for way, found in gradients.items() if not found.keys() >= {*moved}]:
        return dict.fromkeys(missing, GradientErrors(float("inf"), float("inf")))
    first = gradients[ways[0].way]
    forwards = _direction(batch, {name: first[name] for name in moved})
    signs = np.random.Generator(np.random.PCG64(_SEED)).choice([-1, 1], len(moved))
    either = {name: sign * forwards[name] for name, sign in zip(moved, signs, strict=True)}
    directions = (forwards, either)
    with ThreadPoolExecutor(len(directions)) as pool:
        changes = [*pool.map(lambda direction: _changes(batch, direction, _STEP), directions)]
    errors = {}
    for way in ways:
        found, sums = gradients[way.way], []
        for direction, change in zip(directions, changes, strict=True):
            predicted = sum(_product(found[name], direction[name]) for name in moved)
            error = abs(predicted - sum(change[output] for output in way.outputs))
            sums.append(error if np.isfinite(error) else float("inf"))
        errors[way.way] = GradientErrors(sums[0] / len(moved), sums[1])
    return errors


def have_effect(batch: GradientBatch, variables: Sequence[str]) -> bool:
    """Tells whether the loss depends on any of some variables, in the float64 network."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    direction = {name: generator.standard_normal(batch.values[name].shape) for name in variables}
    change = sum(_changes(batch, direction, _NOTICEABLE_STEP).values())
    usual = sum(float(np.abs(batch.outputs[layer] * batch.cotangents[o]).sum()) for o, layer in batch.layers.items())
    return abs(change) > _NO_EFFECT * usual


def _direction(batch: GradientBatch, gradients: Mapping[str, Array]) -> dict[str, Floats]:
    """Returns a direction for each variable and the images, along which the gradient's product is about 1."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    norms = {name: float(np.linalg.norm(gradient.astype(np.float64))) for name, gradient in gradients.items()}
    lengths = {name: _length(_position(batch, name)) for name in gradients}
    usual = float(np.median([norms[name] * lengths[name] for name in gradients]))
    directions = {}
    for name, gradient in gradients.items():
        across = generator.standard_normal(gradient.shape, np.float32).astype(np.float64)
        across *= _ACROSS / np.linalg.norm(across)
        least = max(norms[name], _SMALLEST_EFFECT * usual / lengths[name])
        directions[name] = (gradient / (norms[name] or 1) + across) / least
    return directions


def _position(batch: GradientBatch, name: str) -> Array:
    """Returns what a gradient is taken at."""
    return batch.images if name == _IMAGES else batch.values[name]


def _length(value: Array) -> float:
    return max(float(np.linalg.norm(value)), _SHORTEST * float(np.sqrt(value.size)))


def _changes(batch: GradientBatch, direction: Mapping[str, Floats], largest: float) -> "dict[MainOutput, float]":
    """Returns the derivative of the product with each main output's cotangent along a direction.

    Args:
        batch: what the network is computed for.
        direction: the direction, by variable, and that of the images.
        largest: what no variable moves more by, relative to its length.
    """
    longest = max(float(np.linalg.norm(along)) / _length(_position(batch, name)) for name, along in direction.items())
    step = largest / longest
    moved = {name: _position(batch, name) + step * along for name, along in direction.items()}
    images = moved.pop(_IMAGES, batch.images)
    forward = Forward(batch.network, {**batch.values, **moved}, images, training=batch.training)
    outputs = forward.run({*batch.layers.values()})
    return {
        output: float(((outputs[layer] - batch.outputs[layer]) * batch.cotangents[output]).sum()) / step
        for output, layer in batch.layers.items()
    }


def _product(gradient: Array, direction: Floats) -> float:
    return float((gradient.astype(np.float64) * direction).sum())
