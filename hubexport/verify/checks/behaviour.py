"""Checks of what a module does when it is applied and trained.

Gradients and batch statistics are compared with the float64 network of `hubexport.networks.numpy_forward`.
"""

from collections.abc import Iterator, Sequence
import math

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.numpy_forward import Floats
from hubexport.networks.ops import Dropout, DropPath
from hubexport.runtime.trainable_module import MainOutput, TrainingPass, TrainingStep, loss_weights
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import LEARNING_RATE, VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong, within
from hubexport.verify.gradient_errors import GradientBatch, gradient_errors, have_effect
from hubexport.verify.layer_errors import LIMIT_IN_FLOORS, layer_difference, op_shown_by

GROUP = CheckGroup("behaviour", proof="computation", needs_runtime=True)

# Up to version 2, modules have TF-Slim's momentum. Later ones have that of the modules on tfhub.dev.
_MOMENTUM = 0.99
_FIRST_WITH_MOMENTUM = 3
# Differs from both defaults.
_OTHER_MOMENTUM = 0.5
_PIECE = 1 << 20
# The error of a batch statistic. Each layer before it takes batch statistics itself, and adds its own float32 error.
_STATISTICS_LIMIT_IN_FLOORS = 10

# The error of a float32 gradient, relative to the gradient's length. Errors up to 1e-3 were seen. One activation in a
# hundred thousand causes them, if rounding moves it across a corner of ReLU6.
GRADIENT_LIMIT = 1e-2
_TRAINING_GRADIENT_LIMIT = 5e-2
# The error of a single gradient: 0.5 if it is doubled, 1 if it is halved, 2 if it is turned. What rounding adds nearly
# cancels out; up to 0.09 was seen in inference, and in training 0.42.
_SINGLE_GRADIENT_LIMIT = 0.3
_SINGLE_TRAINING_GRADIENT_LIMIT = 1.2
# The unit of a figure that was divided by its limit.
PARTS_OF_LIMIT = "parts of the limit"
_SEED = 1

# The relative error of a float32 sum of up to a million squares.
LOSS_LIMIT = 1e-5

# The variance of the logits over a few passes is itself random. A simulation gives its standard deviation, and a false
# alarm takes five of them. Keeping 0.5 of the features instead of 0.8 quadruples the variance; no dropout makes it 0.
# Where dropout drops next to nothing, it takes more passes to see enough of it.
_DROPOUT_PASSES = 6
_DROPPED_FEATURES = 100
_SIMULATIONS = 50
_DEVIATIONS = 5
LARGEST_DROPOUT_LIMIT = float(np.log(3.5))


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
    network = context.network
    trained = [variable.name for variable in network.variables if variable.trainable]
    moving = [variable.name for variable in network.variables if not variable.trainable]
    problems = [
        problem for step in context.training_steps for problem in _step_problems(context, step, trained, moving)
    ]
    ways = ", ".join(step.way for step in context.training_steps)
    return nothing_wrong(
        problems, f"{ways}: {len(trained)} trained variables, {len(moving)} moving averages", "variables"
    )


def _step_problems(
    context: VerificationContext, step: TrainingStep, trained: Sequence[str], moving: Sequence[str]
) -> Iterator[str]:
    gradients, before = step.gradients.values, context.values_before_training
    idle = [name for name in trained if name not in gradients or not gradients[name].any()]
    # A beta has no effect before another batch norm, and its gradient may be exactly 0.
    if idle and have_effect(_training_batch(context), idle):
        yield from (f"{name} gets no gradient" for name in idle)
    yield from (f"the gradient of {name} is not finite" for name in gradients if not np.isfinite(gradients[name]).all())
    yield from (f"{name} should not be trained" for name in gradients if name not in trained)
    for name, after in step.after.items():
        moved = not np.array_equal(before[name], after)
        if name in gradients:
            if not _followed(gradients[name], before[name], after):
                yield f"{name} did not move by its gradient"
        elif moved != (name in moving):
            yield f"{name} {'moved' if moved else 'did not move'}"


def _followed(gradient: Array, before: Array, after: Array) -> bool:
    """Tells whether a variable moved by its gradient. It looks at some numbers at a time: all may take gigabytes."""
    flat = gradient.ravel(), before.ravel(), after.ravel()
    pieces = (tuple(array[start : start + _PIECE] for array in flat) for start in range(0, gradient.size, _PIECE))
    return all(
        np.allclose(moved, old - np.float32(LEARNING_RATE) * slope, rtol=1e-6, atol=1e-7)
        for slope, old, moved in pieces
    )


@GROUP.check
def training_outputs(context: VerificationContext) -> Finding:
    """In training, all outputs of all signatures and functions match the float64 network with batch statistics."""
    in_floors: dict[str, float] = {}
    for found in context.training_passes:
        in_floors |= _errors_in_floors(context, found)
    worst = max(in_floors, key=lambda name: in_floors[name])
    wrong = [f"{name}: {error:.3g} floors" for name, error in in_floors.items() if not error <= LIMIT_IN_FLOORS]
    explanation = f"{worst} is the worst of {len(in_floors)} outputs; dropout keeps everything"
    return within(in_floors[worst], LIMIT_IN_FLOORS, explanation, "float32 floors", wrong)


def _errors_in_floors(context: VerificationContext, found: TrainingPass) -> dict[str, float]:
    """Returns the error of each output of an application by its key and its signature or function."""
    reference = context.training_reference
    ops = {
        (signature, key): op_shown_by(context.network, signature, key)
        for signature, outputs in found.outputs.items()
        for key in outputs
    }
    shown: dict[str, Array] = {}
    for (signature, key), op in ops.items():
        shown.setdefault(op, found.outputs[signature][key])
    if shown.keys() <= reference.exact.keys():
        errors = {op: layer_difference(shown[op], reference.exact[op]) / reference.floors[op] for op in shown}
    else:
        errors = reference.errors_in_floors(shown)
    return {
        # Signatures that show the same have the same array, unless each computes it.
        f"{key} of {signature}": errors[op] if _same(found.outputs[signature][key], shown[op]) else float("inf")
        for (signature, key), op in ops.items()
    }


def _same(first: Array, second: Array) -> bool:
    return first is second or np.array_equal(first, second)


@GROUP.check
def moving_averages(context: VerificationContext) -> Finding:
    """Each way to train moves each moving average by 1 - momentum of its distance to the batch statistic."""
    if all(variable.trainable for variable in context.network.variables):
        raise NotApplicable("the network has no batch norm, and so no moving averages")
    version = context.module.spec.version
    default = _MOMENTUM if version >= _FIRST_WITH_MOMENTUM else context.module.variant.family.momentum
    passes = {default: context.training_passes}
    if version >= _FIRST_WITH_MOMENTUM:
        passes[_OTHER_MOMENTUM] = [*context.training.passes(context.training_images, _OTHER_MOMENTUM)]
    reference, before = context.training_reference, context.values_before_training
    exact, rounded = reference.statistics, reference.rounded_statistics
    floor = max(_relative_error(rounded[name], statistic, before[name]) for name, statistic in exact.items())
    errors = {}
    for momentum, found in passes.items():
        for one in found:
            for name, statistic in exact.items():
                after = one.after[name]
                step = after.astype(np.float64) - before[name]
                error = _relative_error(before[name] + step / (1 - momentum), statistic, before[name])
                rounding = _rounding(after, momentum, statistic, before[name])
                errors[f"{name} with momentum {momentum} by {one.way}"] = error - rounding
    worst = max(errors, key=lambda name: errors[name])
    explanation = f"momentum {' and '.join(map(str, passes))}; float32 floor {floor:.1e}; the worst is {worst}"
    return within(max(errors[worst], 0.0), _STATISTICS_LIMIT_IN_FLOORS * floor, explanation)


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
    features_from = "image_feature_vector" if context.module.is_tf1 else network.features_endpoint
    passes = [context.inference.run_training(images, features_from) for _ in range(number)]
    default, features = passes[0]
    if not all(np.array_equal(repeated, features) for _, repeated in passes):
        return Finding(False, "repeated passes over the same images give different features")
    if network.dropout is None:
        same = all(np.array_equal(repeated, default) for repeated, _ in passes)
        return Finding(same, f"repeated passes over the same images give {'the same' if same else 'different'} outputs")
    variance = _variance(np.stack([repeated for repeated, _ in passes]))
    wanted, deviation = _simulated_log_variance(context, features.reshape(len(images), -1), number)
    error = abs(np.log(variance) - wanted) if variance > 0 else float("inf")
    explanation = f"features repeat; error of the logits' log variance over {number} passes"
    return within(float(error), min(_DEVIATIONS * deviation, LARGEST_DROPOUT_LIMIT), explanation)


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
    """Each variable with weight decay has a loss wherever there are any: the decay times half its sum of squares."""
    decays = {variable.name: variable.weight_decay for variable in context.network.variables if variable.weight_decay}
    values = {name: context.reference_values[name].astype(np.float64) for name in decays}
    errors: dict[str, float] = {}
    for losses in context.training.regularization_losses():
        if len(losses.values) != len(decays):
            return Finding(False, f"{losses.where}: {len(losses.values)} regularization losses, not {len(decays)}")
        if stray := [name for name, gradient in losses.gradients.items() if name not in decays and gradient.any()]:
            return Finding(False, f"{losses.where}: a regularization loss depends on {stray[0]}")
        weights = loss_weights(len(decays))
        owners: dict[int, str] = {}
        for name, decay in decays.items():
            # The gradient of a loss is the decay times its variable, times the weight, which tells which loss it is.
            wanted = decay * values[name]
            gradient = losses.gradients.get(name, np.zeros_like(wanted)).astype(np.float64)
            weight = float((gradient * wanted).sum() / np.square(wanted).sum())
            number = int(np.abs(np.array(weights) - weight).argmin())
            if number in owners:
                return Finding(False, f"{losses.where}: {name} has no regularization loss of its own")
            owners[number] = name
            exact = float((wanted * values[name]).sum()) / 2
            slope_error = float(np.linalg.norm(gradient / weights[number] - wanted) / np.linalg.norm(wanted))
            value_error = abs(losses.values[number] - exact) / exact
            errors[f"{name} in {losses.where}"] = max(slope_error, value_error)
    if not decays:
        raise NotApplicable("no variable has weight decay, and the module has no regularization losses")
    worst = max(errors, key=lambda name: errors[name] if np.isfinite(errors[name]) else np.inf)
    explanation = f"relative error of {len(errors)} losses and their gradients; the worst is that of {worst}"
    return within(errors[worst], LOSS_LIMIT, explanation)


@GROUP.check
def shared_variables(context: VerificationContext) -> Finding:
    """Two applications share their variables: the gradient of their sum equals the sum of their gradients."""
    name = [variable.name for variable in context.network.variables if variable.role.endswith("kernel")][-1]
    first, second, cotangents = context.training_images[:1], context.training_images[1:2], context.cotangents(1)
    ways = [context.training.gradients(images, cotangents, [name])[0] for images in (first, second)]
    separate = [found.values.get(name) for found in ways]
    joint = context.training.joint_gradient(first, second, cotangents["default"], name)
    if joint is None or separate[0] is None or separate[1] is None:
        return Finding(False, f"{name} gets no gradient")
    error = float(np.abs(joint - separate[0] - separate[1]).max() / np.abs(joint).max())
    return within(error, GRADIENT_LIMIT, f"relative error of the gradient of {name}")


@GROUP.check
def gradients(context: VerificationContext) -> Finding:
    """In inference and in training, by all signatures and functions, gradients match float64 finite differences."""
    trained = [variable.name for variable in context.network.variables if variable.trainable]
    images, cotangents = context.training_images[:1], context.cotangents(1)
    layers, exact = _main_layers(context), context.layer_errors(context.random_images)[0].exact
    alone = {layer: exact[layer][np.newaxis] for layer in layers.values()}
    inference = GradientBatch(context.network, context.reference_values, images, False, cotangents, layers, alone)
    in_inference = gradient_errors(inference, context.training.gradients(images, cotangents, trained))
    steps = [step.gradients for step in context.training_steps]
    in_training = gradient_errors(_training_batch(context), steps)
    parts = {
        way: max(error.mean / GRADIENT_LIMIT, error.alternating / _SINGLE_GRADIENT_LIMIT)
        for way, error in in_inference.items()
    } | {
        way: max(error.mean / _TRAINING_GRADIENT_LIMIT, error.alternating / _SINGLE_TRAINING_GRADIENT_LIMIT)
        for way, error in in_training.items()
    }
    worst = max(parts, key=lambda way: parts[way])
    explanation = f"by {len(trained)} variables and the images; {worst} is the worst of {len(parts)} ways"
    return within(parts[worst], 1, explanation, PARTS_OF_LIMIT)


def _training_batch(context: VerificationContext) -> GradientBatch:
    reference, layers = context.training_reference, _main_layers(context)
    return GradientBatch(
        reference.network, reference.values, reference.images, True, context.cotangents(), layers, reference.exact
    )


def _main_layers(context: VerificationContext) -> dict[MainOutput, str]:
    return {"default": context.default_layer, "features": context.network.features}
