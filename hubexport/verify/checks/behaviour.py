"""Checks of what a module does when it is applied and trained.

Gradients and batch statistics are held against the float64 network, see `hubexport.networks.numpy_forward`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.layers import Dropout, Variable
from hubexport.networks.numpy_forward import Floats, Forward
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import LEARNING_RATE, VerificationContext
from hubexport.verify.finding import Finding, nothing_wrong, within

GROUP = CheckGroup("behaviour", needs_tensorflow=True)

# What a step keeps of a moving average: TF-Slim's default up to version 2, then that of tfhub.dev's modules.
_MOMENTUM_OF_VERSIONS_1_AND_2 = 0.997
_MOMENTUM = 0.99
_FIRST_WITH_MOMENTUM = 3
# Any other than the defaults.
_OTHER_MOMENTUM = 0.5
# Batch statistics go through all layers before theirs, each of which takes statistics itself.
_LIMIT_IN_FLOORS = 10

# Of gradients in float32, relative to the length of the gradient; up to 1e-3 was seen. One activation of a hundred
# thousand that rounding puts on the other side of ReLU6's corner does that.
_GRADIENT_LIMIT = 1e-2
_GRADIENT_VARIABLES = 6
# Relative to the length of the variable: in float64 a difference of losses is right to nine digits with it.
_STEP = 1e-6
_SEED = 1

# A sum of up to a million squares in float32.
_LOSS_LIMIT = 1e-5

# The logits' variance in so many passes is itself random; by how much is simulated. A false alarm takes five times
# that. To keep 0.5 of the features instead of 0.8 makes the variance four times as large, and no dropout makes it 0.
_DROPOUT_PASSES = 6
_SIMULATIONS = 50
_SPREADS = 5
_LARGEST_DROPOUT_LIMIT = float(np.log(3.5))


@GROUP.check
def inference(evidence: VerificationContext) -> Finding:
    """After inference, every variable in TensorFlow still has its value from the files."""
    evidence.module.run(evidence.random.images)
    found, stored = evidence.module.values(), evidence.stored
    changed = [name for name in stored if name not in found or not np.array_equal(found[name], stored[name])]
    return nothing_wrong((f"{name} changed" for name in changed), f"{len(found)} variables unchanged", "variables")


@GROUP.check
def training_step(evidence: VerificationContext) -> Finding:
    """A gradient descent step moves trained variables by their gradients, and otherwise only moving averages."""
    network, step = evidence.network, evidence.training_step
    trained = [variable.name for variable in network.variables if variable.trainable]
    moving = [variable.name for variable in network.variables if not variable.trainable]
    problems = [f"{name} gets no gradient" for name in trained if not _is_gradient(step.gradients.get(name))]
    problems += [f"{name} should not be trained" for name in step.gradients if name not in trained]
    for name in step.before:
        moved = not np.array_equal(step.before[name], step.after[name])
        if name in step.gradients:
            wanted = step.before[name] - np.float32(LEARNING_RATE) * step.gradients[name]
            if not np.allclose(step.after[name], wanted, rtol=1e-6, atol=1e-7):
                problems.append(f"{name} did not move by its gradient")
        elif moved != (name in moving):
            problems.append(f"{name} {'moved' if moved else 'did not move'}")
    return nothing_wrong(problems, f"{len(trained)} trained variables, {len(moving)} moving averages", "variables")


def _is_gradient(gradient: Array | None) -> bool:
    return gradient is not None and bool(np.isfinite(gradient).all() and np.abs(gradient).max() > 0)


@GROUP.check
def moving_averages(evidence: VerificationContext) -> Finding:
    """A training step moves each moving average by 1 - momentum of its distance to the batch statistic."""
    version = evidence.subject.spec.version
    default = _MOMENTUM if version >= _FIRST_WITH_MOMENTUM else _MOMENTUM_OF_VERSIONS_1_AND_2
    step = evidence.training_step
    trials = {default: (step.before, step.after)}
    if version >= _FIRST_WITH_MOMENTUM:
        evidence.training.update(evidence.training_pictures, _OTHER_MOMENTUM)
        trials[_OTHER_MOMENTUM] = (step.before, evidence.training.values())
        evidence.training.reset()
    exact = _batch_statistics(evidence, np.float64)
    rounded = _batch_statistics(evidence, np.float32)
    floor = max(_relative_error(rounded[name], statistic, step.before[name]) for name, statistic in exact.items())
    errors = {
        f"{name} with momentum {momentum}": _update_error(before[name], after[name], statistic, momentum)
        for momentum, (before, after) in trials.items()
        for name, statistic in exact.items()
    }
    worst = max(errors, key=lambda name: errors[name])
    explanation = f"momentum {' and '.join(map(str, trials))}; float32 floor {floor:.1e}; the worst is {worst}"
    return within(errors[worst], _LIMIT_IN_FLOORS * floor, explanation)


def _batch_statistics(evidence: VerificationContext, dtype: type[np.floating[Any]]) -> Mapping[str, Floats]:
    forward = Forward(evidence.network, evidence.values, evidence.training_pictures, dtype=dtype, training=True)
    forward.run()
    return forward.batch_statistics


def _update_error(before: Array, after: Array, statistic: Floats, momentum: float) -> float:
    """Returns how far a step is from `(1 - momentum) * (statistic - before)`, relative to its largest part."""
    found = before + (after.astype(np.float64) - before) / (1 - momentum)
    return _relative_error(found, statistic, before)


def _relative_error(found: Floats, statistic: Floats, before: Array) -> float:
    error = np.abs(found - statistic).max() / np.abs(statistic - before).max()
    return float(error) if np.isfinite(error) else float("inf")


@GROUP.check
def dropout(evidence: VerificationContext) -> Finding:
    """In training, features repeat from pass to pass, and logits vary as dropout with its keep probability should."""
    images = evidence.training_pictures
    passes = [evidence.training.update(images) for _ in range(_DROPOUT_PASSES)]
    evidence.training.reset()
    features = passes[0].features
    if not all(np.array_equal(one.features, features) for one in passes):
        return Finding(False, "repeated passes over the same images give different features")
    if evidence.network.logits is None:
        return Finding(True, "repeated passes over the same images give the same features")
    found = _variance(np.stack([one.default for one in passes]))
    wanted, spread = _simulated_variance(evidence, features)
    error = abs(np.log(found) - wanted) if found > 0 else float("inf")
    explanation = f"features repeat; error of the logits' log variance over {_DROPOUT_PASSES} passes"
    return within(float(error), min(_SPREADS * spread, _LARGEST_DROPOUT_LIMIT), explanation)


def _variance(logits: Floats) -> float:
    """Returns the mean variance over passes: [passes, batch, classes]."""
    return float(logits.var(axis=0, ddof=1).mean())


def _simulated_variance(evidence: VerificationContext, features: Array) -> tuple[float, float]:
    """Returns the logarithm of the variance that passes have by simulation, and that logarithm's standard deviation."""
    [layer] = [layer for layer in evidence.network.layers if isinstance(layer, Dropout)]
    [kernel] = [value for name, value in evidence.values.items() if name.endswith("Conv2d_1c_1x1/weights")]
    generator = np.random.Generator(np.random.PCG64(_SEED))
    variances = []
    for _ in range(_SIMULATIONS):
        kept = generator.random((_DROPOUT_PASSES, *features.shape), np.float32) < layer.keep_prob
        variances.append(_variance(kept * features / np.float32(layer.keep_prob) @ kernel[0, 0]))
    logarithms = np.log(variances)
    return float(logarithms.mean()), float(logarithms.std())


@GROUP.check
def regularization(evidence: VerificationContext) -> Finding:
    """Each convolution except depthwise ones has a regularization loss: 4e-5 times half its sum of squares."""
    network = evidence.network
    found = sorted(evidence.training.regularization_losses())
    regularized = [evidence.values[variable.name] for variable in network.variables if variable.regularized]
    wanted = sorted(
        network.weight_decay / 2 * float(np.square(value.astype(np.float64)).sum()) for value in regularized
    )
    if len(found) != len(wanted):
        return Finding(False, f"{len(found)} regularization losses, not {len(wanted)}")
    error = max(abs(one - other) / other for one, other in zip(found, wanted, strict=True))
    return within(error, _LOSS_LIMIT, f"relative error of {len(found)} losses; their sum is {sum(found):.6g}")


@GROUP.check
def shared_variables(evidence: VerificationContext) -> Finding:
    """Two applications share their variables: the gradient of their sum equals the sum of their gradients."""
    name = [variable.name for variable in evidence.network.variables if variable.regularized][-1]
    images, cotangent = evidence.training_pictures, evidence.cotangent
    pairs = [(images[:1], cotangent[:1]), (images[1:2], cotangent[:1])]
    separate = [evidence.training.gradients(*pair, [name]).get(name) for pair in pairs]
    joint = evidence.training.joint_gradient(pairs[0][0], pairs[1][0], cotangent[:1], name)
    if joint is None or separate[0] is None or separate[1] is None:
        return Finding(False, f"{name} gets no gradient")
    error = float(np.abs(joint - separate[0] - separate[1]).max() / np.abs(joint).max())
    return within(error, _GRADIENT_LIMIT, f"relative error of the gradient of {name}")


@GROUP.check
def gradients(evidence: VerificationContext) -> Finding:
    """For a sample of variables, gradients match float64 finite differences along a random direction."""
    images, cotangent = evidence.training_pictures[:1], evidence.cotangent[:1]
    outputs = Forward(evidence.network, evidence.values, images).run()
    chosen = dict(_some_variables(evidence, outputs))
    found = evidence.training.gradients(images, cotangent, [variable.name for variable in chosen])
    errors = dict(_gradient_errors(evidence, images, cotangent, chosen, found))
    worst = max(errors, key=lambda name: errors[name])
    explanation = f"{len(errors)} variables, error relative to the gradient's length; the worst is {worst}"
    return within(errors[worst], _GRADIENT_LIMIT, explanation)


def _gradient_errors(
    evidence: VerificationContext,
    images: Array,
    cotangent: Array,
    chosen: Mapping[Variable, Mapping[str, Floats]],
    found: Mapping[str, Array],
) -> Iterator[tuple[str, float]]:
    """Yields variables and the relative errors of their gradients.

    Args:
        evidence: has the network and the values.
        images: one picture.
        cotangent: float32 [1, outputs].
        chosen: variables, each with the outputs of the layers before its own.
        found: the module's gradients.
    """
    generator = np.random.Generator(np.random.PCG64(_SEED))
    for variable, known in chosen.items():
        value = evidence.values[variable.name].astype(np.float64)
        direction = generator.standard_normal(variable.shape)
        direction *= np.linalg.norm(value) / np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            values = {**evidence.values, variable.name: value + sign * _STEP * direction}
            output = Forward(evidence.network, values, images, known=known).run()[evidence.default_layer]
            losses.append(float((output * cotangent).sum()))
        if variable.name not in found:
            yield variable.name, float("inf")
            continue
        gradient = found[variable.name].astype(np.float64)
        length = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        error = abs(float((gradient * direction).sum()) - (losses[0] - losses[1]) / (2 * _STEP)) / length
        yield variable.name, error if np.isfinite(error) else float("inf")


def _some_variables(
    evidence: VerificationContext, outputs: Mapping[str, Floats]
) -> Iterator[tuple[Variable, dict[str, Floats]]]:
    """Yields trained variables from all of the network, each with the outputs of the layers before its own."""
    network = evidence.network
    trained = [variable for variable in network.variables if variable.trainable]
    chosen = {round(index) for index in np.linspace(0, len(trained) - 1, _GRADIENT_VARIABLES)}
    names = {trained[index].name for index in chosen}
    known: dict[str, Floats] = {}
    for layer in network.layers:
        for variable in layer.variables(*network.input_shapes(layer)):
            if variable.name in names:
                yield variable, dict(known)
        known[layer.name] = outputs[layer.name]
