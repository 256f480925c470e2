"""Checks of what a module does when it is applied and trained.

Gradients and batch statistics are compared with the float64 network of `hubexport.networks.numpy_forward`.
"""

from collections.abc import Iterator, Mapping
import math
from typing import Any

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Floats, Forward, batch_statistics
from hubexport.networks.ops import Dropout, DropPath, Variable
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong, within

GROUP = CheckGroup("behaviour", proof="computation", needs_tensorflow=True)

# Up to version 2, modules have TF-Slim's momentum. Later ones have that of the modules on tfhub.dev.
_MOMENTUM = 0.99
_FIRST_WITH_MOMENTUM = 3
# Differs from both defaults.
_OTHER_MOMENTUM = 0.5
_LEARNING_RATE = 1e-3
_PIECE = 1 << 20
# A path that is dropped with probability 0.4 is dropped for all four images in one of 39 steps.
_FURTHER_STEPS = 5
# The error of a batch statistic. Each layer before it takes batch statistics itself, and adds its own float32 error.
_STATISTICS_LIMIT_IN_FLOORS = 10

# The error of a float32 gradient, relative to the gradient's length. Errors up to 1e-3 were seen. One activation in a
# hundred thousand causes them, if rounding moves it across a corner of ReLU6.
_GRADIENT_LIMIT = 1e-2
_GRADIENT_VARIABLES = 6
# The step of finite differences, relative to the variable's length. With it, differences of float64 losses are right to
# nine digits.
_STEP = 1e-6
_SEED = 1

# The relative error of a float32 sum of up to a million squares.
_LOSS_LIMIT = 1e-5

# The variance of the logits over a few passes is itself random. A simulation gives its standard deviation, and a false
# alarm takes five of them. Keeping 0.5 of the features instead of 0.8 quadruples the variance; no dropout makes it 0.
# Where dropout drops next to nothing, it takes more passes to see enough of it.
_DROPOUT_PASSES = 6
_DROPPED_FEATURES = 100
_SIMULATIONS = 50
_DEVIATIONS = 5
_LARGEST_DROPOUT_LIMIT = float(np.log(3.5))


@GROUP.check
def inference(context: VerificationContext) -> Finding:
    """After inference, every variable in TensorFlow still has its value from the files."""
    context.inference.run(context.random_images.images)
    values, stored = context.inference.values(), context.stored_values
    changed = [name for name in stored if name not in values or not np.array_equal(values[name], stored[name])]
    return nothing_wrong((f"{name} changed" for name in changed), f"{len(values)} variables unchanged", "variables")


@GROUP.check
def training_step(context: VerificationContext) -> Finding:
    """A gradient descent step moves trained variables by their gradients, and otherwise only moving averages."""
    network, before = context.network, context.stored_values
    step = context.training.train(context.training_images, context.cotangent, _LEARNING_RATE)
    context.training.reset()
    trained = [variable.name for variable in network.variables if variable.trainable]
    moving = [variable.name for variable in network.variables if not variable.trainable]
    idle = _without_gradient(context, [name for name, gradient in step.gradients.items() if not gradient.any()])
    problems = [f"{name} gets no gradient" for name in trained if name in idle or name not in step.gradients]
    problems += [
        f"the gradient of {name} is not finite"
        for name in step.gradients
        if not np.isfinite(step.gradients[name]).all()
    ]
    problems += [f"{name} should not be trained" for name in step.gradients if name not in trained]
    for name, after in step.after.items():
        moved = not np.array_equal(before[name], after)
        if name in step.gradients:
            if not _followed(step.gradients[name], before[name], after):
                problems.append(f"{name} did not move by its gradient")
        elif moved != (name in moving):
            problems.append(f"{name} {'moved' if moved else 'did not move'}")
    return nothing_wrong(problems, f"{len(trained)} trained variables, {len(moving)} moving averages", "variables")


def _without_gradient(context: VerificationContext, idle: list[str]) -> list[str]:
    """Returns those of the variables without gradient that have none in further steps either.

    One step may drop the path of a variable for all images.
    """
    drops_paths = any(isinstance(op, DropPath) for op in context.network.ops)
    for _ in range(_FURTHER_STEPS if drops_paths else 0):
        if idle:
            step = context.training.train(context.training_images, context.cotangent, _LEARNING_RATE)
            context.training.reset()
            idle = [name for name in idle if not step.gradients[name].any()]
    return idle


def _followed(gradient: Array, before: Array, after: Array) -> bool:
    """Tells whether a variable moved by its gradient. It looks at some numbers at a time: all may take gigabytes."""
    flat = gradient.ravel(), before.ravel(), after.ravel()
    pieces = (tuple(array[start : start + _PIECE] for array in flat) for start in range(0, gradient.size, _PIECE))
    return all(
        np.allclose(moved, old - np.float32(_LEARNING_RATE) * slope, rtol=1e-6, atol=1e-7)
        for slope, old, moved in pieces
    )


@GROUP.check
def moving_averages(context: VerificationContext) -> Finding:
    """A training step moves each moving average by 1 - momentum of its distance to the batch statistic."""
    if all(variable.trainable for variable in context.network.variables):
        raise NotApplicable("the network has no batch norm, and so no moving averages")
    version = context.module.spec.version
    default = _MOMENTUM if version >= _FIRST_WITH_MOMENTUM else context.module.variant.family.momentum
    before = context.stored_values
    after = {default: _updated(context, None)}
    if version >= _FIRST_WITH_MOMENTUM:
        after[_OTHER_MOMENTUM] = _updated(context, _OTHER_MOMENTUM)
    exact = _batch_statistics(context, np.float64)
    rounded = _batch_statistics(context, np.float32)
    floor = max(_relative_error(rounded[name], statistic, before[name]) for name, statistic in exact.items())
    errors = {}
    for momentum, values in after.items():
        for name, statistic in exact.items():
            step = values[name].astype(np.float64) - before[name]
            error = _relative_error(before[name] + step / (1 - momentum), statistic, before[name])
            rounding = _rounding(values[name], momentum, statistic, before[name])
            errors[f"{name} with momentum {momentum}"] = error - rounding
    worst = max(errors, key=lambda name: errors[name])
    explanation = f"momentum {' and '.join(map(str, after))}; float32 floor {floor:.1e}; the worst is {worst}"
    # What comes after dropped paths depends on chance.
    left_out = sum(not variable.trainable for variable in context.network.variables) - len(exact)
    if left_out:
        explanation += f"; {left_out} of {left_out + len(exact)} come after what training drops at random"
    return within(max(errors[worst], 0.0), _STATISTICS_LIMIT_IN_FLOORS * floor, explanation)


def _updated(context: VerificationContext, momentum: float | None) -> dict[str, Array]:
    """Returns the moving averages after a training step. The module gets its own values back."""
    context.training.update(context.training_images, momentum)
    values = context.training.values()
    context.training.reset()
    return {variable.name: values[variable.name] for variable in context.network.variables if not variable.trainable}


def _batch_statistics(context: VerificationContext, dtype: type[np.floating[Any]]) -> Mapping[str, Floats]:
    return batch_statistics(context.network, context.reference_values, context.training_images, dtype)


def _relative_error(approached: Floats, statistic: Floats, before: Array) -> float:
    """Returns how far a value is from a batch statistic, relative to the moving average's distance before the step."""
    error = np.abs(approached - statistic).max() / np.abs(statistic - before).max()
    return float(error) if np.isfinite(error) else float("inf")


def _rounding(after: Array, momentum: float, statistic: Floats, before: Array) -> float:
    """Returns what rounding may add to it: a step is small beside a float32 average, and 1 - momentum beside 1."""
    stored = np.spacing(np.abs(after)).max() / np.abs(statistic - before).max()
    rounding = float(stored + np.spacing(np.float32(1))) / (1 - momentum)
    return rounding if np.isfinite(rounding) else 0.0


@GROUP.check
def dropout(context: VerificationContext) -> Finding:
    """In training, outputs repeat from pass to pass, but logits vary as dropout, where there is one, makes them."""
    network, images = context.network, context.training_images
    before_features = [op for op in network.ops if isinstance(op, (Dropout, DropPath)) and op is not network.dropout]
    if before_features:
        raise NotApplicable(f"features vary in training: {before_features[0].name} comes before them")
    number = _dropout_passes(network.dropout, len(images) * network.num_features)
    passes = [context.training.update(images) for _ in range(number)]
    context.training.reset()
    features = passes[0].features
    if not all(np.array_equal(outputs.features, features) for outputs in passes):
        return Finding(False, "repeated passes over the same images give different features")
    if network.dropout is None:
        same = all(np.array_equal(outputs.default, passes[0].default) for outputs in passes)
        return Finding(same, f"repeated passes over the same images give {'the same' if same else 'different'} outputs")
    variance = _variance(np.stack([outputs.default for outputs in passes]))
    wanted, deviation = _simulated_log_variance(context, features, number)
    error = abs(np.log(variance) - wanted) if variance > 0 else float("inf")
    explanation = f"features repeat; error of the logits' log variance over {number} passes"
    return within(float(error), min(_DEVIATIONS * deviation, _LARGEST_DROPOUT_LIMIT), explanation)


def _dropout_passes(dropout_op: Dropout | None, num_features: int) -> int:
    """Returns the number of passes in which dropout should drop enough of this number of features."""
    dropped = num_features * (1 - dropout_op.keep_prob) if dropout_op else 0
    return max(_DROPOUT_PASSES, math.ceil(_DROPPED_FEATURES / dropped)) if dropped else _DROPOUT_PASSES


def _variance(logits: Floats) -> float:
    """Returns the variance over passes, averaged over the batch and the classes, of logits [passes, batch, classes]."""
    return float(logits.var(axis=0, ddof=1).mean())


def _simulated_log_variance(context: VerificationContext, features: Array, passes: int) -> tuple[float, float]:
    """Simulates dropout, and returns the mean and the standard deviation of the logarithm of `_variance`."""
    dropout_op, classifier = context.network.dropout, context.network.classifier
    assert dropout_op and classifier, "the check is for networks with both"
    kernel = context.reference_values[classifier.variables[0].name]
    generator = np.random.Generator(np.random.PCG64(_SEED))
    variances = []
    for _ in range(_SIMULATIONS):
        kept = generator.random((passes, *features.shape), np.float32) < dropout_op.keep_prob
        variances.append(
            _variance(kept * features / np.float32(dropout_op.keep_prob) @ kernel.reshape(kernel.shape[-2:]))
        )
    logarithms = np.log(variances)
    return float(logarithms.mean()), float(logarithms.std())


@GROUP.check
def regularization(context: VerificationContext) -> Finding:
    """Each variable with weight decay has a regularization loss: the decay times half its sum of squares."""
    network = context.network
    losses = sorted(context.training.regularization_losses())
    wanted = sorted(
        variable.weight_decay / 2 * float(np.square(context.reference_values[variable.name].astype(np.float64)).sum())
        for variable in network.variables
        if variable.weight_decay
    )
    if len(losses) != len(wanted):
        return Finding(False, f"{len(losses)} regularization losses, not {len(wanted)}")
    if not wanted:
        raise NotApplicable("no variable has weight decay, and the module has no regularization losses")
    error = max(abs(loss - exact) / exact for loss, exact in zip(losses, wanted, strict=True))
    return within(error, _LOSS_LIMIT, f"relative error of {len(losses)} losses; their sum is {sum(losses):.6g}")


@GROUP.check
def shared_variables(context: VerificationContext) -> Finding:
    """Two applications share their variables: the gradient of their sum equals the sum of their gradients."""
    name = [variable.name for variable in context.network.variables if variable.role.endswith("kernel")][-1]
    first, second, cotangent = context.training_images[:1], context.training_images[1:2], context.cotangent[:1]
    separate = [context.training.gradients(images, cotangent, [name]).get(name) for images in (first, second)]
    joint = context.training.joint_gradient(first, second, cotangent, name)
    if joint is None or separate[0] is None or separate[1] is None:
        return Finding(False, f"{name} gets no gradient")
    error = float(np.abs(joint - separate[0] - separate[1]).max() / np.abs(joint).max())
    return within(error, _GRADIENT_LIMIT, f"relative error of the gradient of {name}")


@GROUP.check
def gradients(context: VerificationContext) -> Finding:
    """For a sample of variables, gradients match float64 finite differences along a random direction."""
    network, values, layer = context.network, context.reference_values, context.default_layer
    images, cotangent = context.training_images[:1], context.cotangent[:1]
    sample = dict(_sampled_variables(network, Forward(network, values, images).run()))
    gradients_by_name = context.training.gradients(images, cotangent, [variable.name for variable in sample])
    generator = np.random.Generator(np.random.PCG64(_SEED))
    errors = {}
    for variable, known in sample.items():
        value = values[variable.name].astype(np.float64)
        direction = generator.standard_normal(variable.shape)
        direction *= np.linalg.norm(value) / np.linalg.norm(direction)
        losses = []
        for sign in (1, -1):
            moved = {**values, variable.name: value + sign * _STEP * direction}
            output = Forward(network, moved, images, known=known).run([layer])[layer]
            losses.append(float((output * cotangent).sum()))
        gradient = gradients_by_name.get(variable.name, np.full_like(direction, np.nan)).astype(np.float64)
        length = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        error = abs(float((gradient * direction).sum()) - (losses[0] - losses[1]) / (2 * _STEP)) / length
        errors[variable.name] = error if np.isfinite(error) else float("inf")
    worst = max(errors, key=lambda name: errors[name])
    explanation = f"{len(errors)} variables, error relative to the gradient's length; the worst is {worst}"
    return within(errors[worst], _GRADIENT_LIMIT, explanation)


def _sampled_variables(network: Network, outputs: Mapping[str, Floats]) -> Iterator[tuple[Variable, dict[str, Floats]]]:
    """Yields trained variables from all over the network, each with the outputs of the layers before its own.

    These outputs do not depend on the variable, and need not be computed again.
    """
    trained = [variable for variable in network.variables if variable.trainable]
    names = {trained[round(index)].name for index in np.linspace(0, len(trained) - 1, _GRADIENT_VARIABLES)}
    known: dict[str, Floats] = {}
    for op in network.ops:
        for variable in op.variables:
            if variable.name in names:
                yield variable, dict(known)
        known[op.name] = outputs[op.name]
