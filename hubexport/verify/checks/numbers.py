"""Checks of what a module computes, against computations that do not share its code.

All limits but one are a number of float32 floors, see `hubexport.verify.layer_errors`.
"""

from collections.abc import Sequence

import numpy as np

from hubexport.networks.numpy_forward import Forward
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong, within
from hubexport.verify.layer_errors import LIMIT_IN_FLOORS, PictureErrors, layer_difference, worst_in_floors
from hubexport.verify.sample_images import Pictures

GROUP = CheckGroup("numbers", needs_tensorflow=True)

# In the frozen graphs of the published archives.
_FROZEN_OUTPUTS = {"features": "MobilenetV2/Logits/AvgPool:0", "probabilities": "MobilenetV2/Predictions/Reshape_1:0"}
_FROZEN_PICTURES = 2
_POOLED = "MobilenetV2/global_pool"
_PREDICTIONS = "MobilenetV2/Predictions"
_ODD_BATCH = 3


@GROUP.check
def random(evidence: VerificationContext) -> Finding:
    """On noise and soft clouds, outputs match the float64 reference."""
    return _default_output(evidence, evidence.errors_on_random)


@GROUP.check
def extremes(evidence: VerificationContext) -> Finding:
    """On images of all 0 and all 1, outputs match the float64 reference."""
    return _default_output(evidence, evidence.errors_on_extremes)


@GROUP.check
def photographs(evidence: VerificationContext) -> Finding:
    """On photographs, outputs match the float64 reference."""
    return _default_output(evidence, evidence.errors_on_photographs)


def _default_output(evidence: VerificationContext, measured: Sequence[PictureErrors]) -> Finding:
    error, floor = worst_in_floors(measured, evidence.default_layer)
    what = _output_name(evidence)
    explanation = f"{what} of {len(measured)} images against float64; float32 floor {floor:.1e}"
    return within(error, LIMIT_IN_FLOORS * floor, explanation)


def _output_name(evidence: VerificationContext) -> str:
    return "logits" if evidence.network.logits else "features"


@GROUP.check
def layers(evidence: VerificationContext) -> Finding:
    """Every endpoint matches its layer in the float64 reference."""
    measured = [*evidence.errors_on_random, *evidence.errors_on_extremes]
    shown = [name for name, error in measured[0].layers.items() if error.error is not None]
    ratios = {name: error / floor for name in shown for error, floor in [worst_in_floors(measured, name)]}
    ranked = sorted(ratios, key=lambda name: -ratios[name])
    wrong = [f"{name}: {ratios[name]:.3g} floors" for name in ranked if not ratios[name] <= LIMIT_IN_FLOORS]
    explanation = f"{ranked[0]} is the worst of {len(shown)} layers"
    return within(ratios[ranked[0]], LIMIT_IN_FLOORS, explanation, "float32 floors", wrong)


@GROUP.check
def batches(evidence: VerificationContext) -> Finding:
    """An image's output does not depend on its batch: alone, with 2 others, or with all others."""
    measured = [*evidence.errors_on_random, *evidence.errors_on_extremes]
    images = np.concatenate([evidence.random.images, evidence.extremes.images])
    alone = np.stack([one.output for one in measured])
    found = [evidence.module.run(images[:count])["default"] for count in (_ODD_BATCH, len(images))]
    error = max(layer_difference(one, alone[: len(one)]) for one in found)
    _, floor = worst_in_floors(measured, evidence.default_layer)
    return within(error, LIMIT_IN_FLOORS * floor, f"batches of 1, {_ODD_BATCH} and {len(images)} compared")


@GROUP.check
def signatures(evidence: VerificationContext) -> Finding:
    """Every inference signature returns the default output or the pooled features, bit for bit."""
    images = evidence.random.images[:1]
    found = evidence.module.run_signatures(images)
    if not found:
        raise NotApplicable("version 4 has no signatures, only __call__")
    wanted = evidence.module.run(images, ["default", _POOLED])
    differing = [
        name
        for name, output in found.items()
        if not np.array_equal(output.ravel(), wanted[_POOLED if "feature_vector" in name else "default"].ravel())
    ]
    return nothing_wrong((f"{name} differs" for name in differing), ", ".join(sorted(found)), "signatures")


@GROUP.check
def slim(evidence: VerificationContext) -> Finding:
    """Outputs match the network that TF-Slim itself builds from the same values."""
    module = evidence.module
    from hubexport.reference.inference import slim_output

    measured = [*evidence.errors_on_random, *evidence.errors_on_extremes]
    images = np.concatenate([evidence.random.images, evidence.extremes.images])
    variant = evidence.subject.variant
    wanted = slim_output(evidence.values, images, variant.depth_multiplier, evidence.network.num_classes)
    error = layer_difference(module.run(images)["default"], wanted)
    _, floor = worst_in_floors(measured, evidence.default_layer)
    # Both are off by some floors, maybe in opposite directions.
    return within(
        error, 2 * LIMIT_IN_FLOORS * floor, f"{_output_name(evidence)} of {len(images)} images against TF-Slim"
    )


@GROUP.check
def frozen_graph(evidence: VerificationContext) -> Finding:
    """Outputs match the publisher's frozen graph, if it was frozen from the same weights (averaged or raw)."""
    trained = evidence.trained
    serialized = trained.frozen_graph() if trained else None
    if trained is None or serialized is None:
        raise NotApplicable("no archive with a frozen graph was given (--checkpoint)")
    pictures, measured = _clearest(evidence)
    from hubexport.runtime.frozen_graph import run_frozen_graph

    key = "probabilities" if evidence.network.logits else "features"
    layer = evidence.network.endpoints[_PREDICTIONS] if evidence.network.logits else evidence.network.features
    low, high = evidence.network.input_range
    found = run_frozen_graph(serialized, pictures.images * (high - low) + low, _FROZEN_OUTPUTS)
    if key not in found:
        raise NotApplicable(f"the frozen graph has no {_FROZEN_OUTPUTS[key]}")
    exact = {trained.weights: np.stack([one.exact[layer] for one in measured])}
    for weights, values in trained.other.items():
        exact[weights] = Forward(evidence.network, values, pictures.images).run()[layer]
    errors = {weights: layer_difference(found[key], outputs) for weights, outputs in exact.items()}
    frozen_from = min(errors, key=lambda weights: errors[weights])
    told = ", ".join(f"{weights}: off by {error:.1e}" for weights, error in errors.items())
    if frozen_from != trained.weights:
        raise NotApplicable(
            f"it was frozen from {frozen_from} weights, but the module has {trained.weights} ones ({told})"
        )
    endpoint = _PREDICTIONS if evidence.network.logits else _POOLED
    mine = evidence.module.run(pictures.images, [endpoint])[endpoint].reshape(len(pictures.images), -1)
    _, floor = worst_in_floors(measured, layer)
    explanation = f"{key} of {len(measured)} images; the graph was frozen from {frozen_from} weights ({told})"
    return within(layer_difference(mine, found[key]), 2 * LIMIT_IN_FLOORS * floor, explanation)


def _clearest(evidence: VerificationContext) -> tuple[Pictures, list[PictureErrors]]:
    """Returns two photographs, on which classes are clear, or without any the made-up pictures."""
    try:
        pictures, measured = evidence.photographs, evidence.errors_on_photographs
    except NotApplicable:
        pictures, measured = evidence.random, evidence.errors_on_random
    few = Pictures(pictures.names[:_FROZEN_PICTURES], pictures.images[:_FROZEN_PICTURES])
    return few, measured[:_FROZEN_PICTURES]
