"""Checks of what a module computes, compared with computations that share no code with it.

All limits but one are a number of float32 floors; see `hubexport.verify.layer_errors`.
"""

from collections.abc import Sequence

import numpy as np

from hubexport.arrays import Array
from hubexport.networks.numpy_forward import Forward
from hubexport.readable_numbers import counted
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong, within
from hubexport.verify.layer_errors import (
    LIMIT_IN_FLOORS,
    ImageErrors,
    layer_difference,
    measure_layer_errors,
    op_shown_by,
    shown_outputs,
    worst_deviation,
)
from hubexport.verify.sample_images import SampleImages, random_images
from hubexport.verify.signature_problems import promised_signatures

GROUP = CheckGroup("numbers", proof="computation", needs_runtime=True)

# Two float32 networks may err in opposite directions.
_LIMIT_BETWEEN_MODULES_IN_FLOORS = 2 * LIMIT_IN_FLOORS
_FROZEN_IMAGES = 2
_ODD_BATCH = 3


@GROUP.check
def random(context: VerificationContext) -> Finding:
    """On noise and soft clouds, outputs match the float64 reference."""
    return _default_output(context, context.random_images)


@GROUP.check
def extremes(context: VerificationContext) -> Finding:
    """On images of all 0 and all 1, outputs match the float64 reference."""
    return _default_output(context, context.extreme_images)


@GROUP.check
def photographs(context: VerificationContext) -> Finding:
    """On photographs, outputs match the float64 reference."""
    return _default_output(context, context.photographs)


def _default_output(context: VerificationContext, samples: SampleImages) -> Finding:
    worst = worst_deviation(context.layer_errors(samples), context.default_layer)
    assert worst.error is not None, "every module shows its default output"
    name = _default_output_name(context)
    explanation = f"{name} of {counted(len(samples.names), 'image')} against float64; float32 floor {worst.floor:.1e}"
    return within(worst.error, LIMIT_IN_FLOORS * worst.floor, explanation)


def _default_output_name(context: VerificationContext) -> str:
    return "logits" if context.network.logits else "features"


@GROUP.check
def layers(context: VerificationContext) -> Finding:
    """Every endpoint matches its layer in the float64 reference."""
    _, errors = _made_up_images(context)
    return _all_outputs(context, errors, "")


@GROUP.check
def sizes(context: VerificationContext) -> Finding:
    """On images of another size and shape, every endpoint matches the float64 reference, if the module takes them."""
    network = context.network
    if None not in network.image_shape:
        raise NotApplicable(f"it takes images of {_size_text(*network.default_image_size)} pixels alone")
    height, width = network.default_image_size
    # One even and one odd length: a padding may be right for one of them alone.
    size = (height * 3 // 8 * 2, width // 4 * 2 + 1)
    samples = random_images(*size)
    errors = measure_layer_errors(context.inference, network, context.reference_values, samples)
    return _all_outputs(context, errors, f" at {_size_text(*size)} pixels")


def _size_text(height: int, width: int) -> str:
    return f"{height} x {width}"


def _all_outputs(context: VerificationContext, errors: Sequence[ImageErrors], where: str) -> Finding:
    """Compares every endpoint and the default output, each by its own floor."""
    in_floors = {}
    for op, names in shown_outputs(context.network).items():
        worst = worst_deviation(errors, op)
        assert worst.error is not None, "every module shows these outputs"
        in_floors[names[0]] = worst.error / worst.floor
    ranked = sorted(in_floors, key=lambda name: -in_floors[name])
    wrong = [f"{name}: {in_floors[name]:.3g} floors" for name in ranked if not in_floors[name] <= LIMIT_IN_FLOORS]
    explanation = f"{ranked[0]} is the worst of {len(ranked)} outputs{where}"
    return within(in_floors[ranked[0]], LIMIT_IN_FLOORS, explanation, "float32 floors", wrong)


def _made_up_images(context: VerificationContext) -> tuple[Array, list[ImageErrors]]:
    """Returns the random and the extreme images in one batch, and the errors of all layers on them."""
    samples = (context.random_images, context.extreme_images)
    errors = [image for sample in samples for image in context.layer_errors(sample)]
    return np.concatenate([sample.images for sample in samples]), errors


@GROUP.check
def batches(context: VerificationContext) -> Finding:
    """An image's output does not depend on its batch: alone, with 2 others, or with all others."""
    images, errors = _made_up_images(context)
    alone = np.stack([image.output for image in errors])
    together = [context.inference.run(images[:count])["default"] for count in (_ODD_BATCH, len(images))]
    error = max(layer_difference(outputs, alone[: len(outputs)]) for outputs in together)
    limit = LIMIT_IN_FLOORS * worst_deviation(errors, context.default_layer).floor
    return within(error, limit, f"batches of 1, {_ODD_BATCH} and {len(images)} compared")


@GROUP.check
def signatures(context: VerificationContext) -> Finding:
    """Every output of every inference signature is the module's own output or endpoint, bit for bit."""
    images, network = context.random_images.images[:1], context.network
    outputs = context.inference.run_signatures(images)
    if not outputs:
        raise NotApplicable("version 4 has no signatures, only __call__")
    wanted = context.inference.run(images, ["default", *network.endpoints])
    by_op = {op: wanted[names[0]] for op, names in shown_outputs(network).items()}
    by_op.setdefault(network.features, wanted[network.features_endpoint])
    differing = [
        f"{key} of {name} differs"
        for name, found in outputs.items()
        for key, output in found.items()
        if not np.array_equal(output.ravel(), by_op[op_shown_by(network, name, key)].ravel())
    ]
    return nothing_wrong(differing, ", ".join(sorted(outputs)), "outputs")


@GROUP.check
def serving(context: VerificationContext) -> Finding:
    """Version 5: in a session, with its own restore and init ops, the serving graph matches the float64 reference."""
    if context.module.is_tf1 or not promised_signatures(context.module):
        raise NotApplicable("TensorFlow Serving runs modules from version 5 on")
    samples, directory = context.random_images, context.module.directory
    errors = context.layer_errors(samples)  # Starts TensorFlow.
    from hubexport.runtime.serving import run_served

    layer = context.default_layer
    exact = np.stack([image.exact[layer] for image in errors])
    differences = {
        f"{key} of {name}": layer_difference(output, exact)
        for name, outputs in run_served(directory, samples.images).items()
        for key, output in outputs.items()
    }
    worst = max(differences, key=lambda name: differences[name])
    limit = LIMIT_IN_FLOORS * worst_deviation(errors, layer).floor
    return within(differences[worst], limit, f"{worst} for {len(exact)} images against float64")


@GROUP.check
def slim(context: VerificationContext) -> Finding:
    """Outputs match the network that TF-Slim's layers make of the same values: its own if tf_slim ships it."""
    module = context.inference  # Starts TensorFlow, which the next import would start without a message.
    from hubexport.reference.inference import slim_output
    from hubexport.reference.registry import REFERENCES

    images, errors = _made_up_images(context)
    variant = context.module.variant
    wanted = slim_output(
        variant.network, variant.family_parameters, context.network.num_classes, context.reference_values, images
    )
    error = layer_difference(module.run(images)["default"], wanted)
    limit = _LIMIT_BETWEEN_MODULES_IN_FLOORS * worst_deviation(errors, context.default_layer).floor
    source = REFERENCES[variant.network].source
    return within(error, limit, f"{_default_output_name(context)} of {len(images)} images against {source}")


@GROUP.check
def frozen_graph(context: VerificationContext) -> Finding:
    """Outputs match the publisher's frozen graph, if it was frozen from the same weights (averaged or raw)."""
    expected, network = context.expected, context.network
    serialized = expected.frozen_graph() if expected else None
    if expected is None or serialized is None:
        raise NotApplicable("no archive with a frozen graph was given (--checkpoint)")
    images, errors = _clearest_images(context)
    from hubexport.runtime.frozen_graph import run_frozen_graph

    tensors = context.module.variant.family.frozen_tensors
    predictions = network.predictions_endpoint
    key, endpoint = ("probabilities", predictions) if predictions else ("features", network.features_endpoint)
    if key not in tensors:
        raise NotApplicable(f"nobody knows which tensor of the frozen graph has the {key}")
    layer = network.endpoints[predictions] if predictions else network.features
    low, high = network.input_range
    frozen = run_frozen_graph(serialized, images * (high - low) + low, tensors)
    if key not in frozen:
        raise NotApplicable(f"the frozen graph has no {tensors[key]}")
    exact = {expected.weights: np.stack([image.exact[layer] for image in errors])}
    for weights, values in expected.other().items():
        exact[weights] = Forward(network, values, images).run()[layer]
    differences = {weights: layer_difference(frozen[key], outputs) for weights, outputs in exact.items()}
    frozen_from = min(differences, key=lambda weights: differences[weights])
    comparison = ", ".join(f"{weights}: off by {difference:.1e}" for weights, difference in differences.items())
    if frozen_from != expected.weights:
        raise NotApplicable(
            f"it was frozen from {frozen_from} weights, but the module has {expected.weights} ones ({comparison})"
        )
    outputs = context.inference.run(images, [endpoint])[endpoint].reshape(len(images), -1)
    limit = _LIMIT_BETWEEN_MODULES_IN_FLOORS * worst_deviation(errors, layer).floor
    explanation = f"{key} of {len(images)} images; the graph was frozen from {frozen_from} weights ({comparison})"
    return within(layer_difference(outputs, frozen[key]), limit, explanation)


def _clearest_images(context: VerificationContext) -> tuple[Array, list[ImageErrors]]:
    """Returns two photographs, whose classes are clear, or else the random images, with the errors of all layers."""
    try:
        samples = context.photographs
    except NotApplicable:
        samples = context.random_images
    return samples.images[:_FROZEN_IMAGES], context.layer_errors(samples)[:_FROZEN_IMAGES]
