"""Judges what `consume_tf1.py` saw of a module in the TF1 Hub format."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hubexport.consumers.judge import (
    DEFAULT,
    AnyArray,
    Judgement,
    Promise,
    beyond,
    broken,
    compare_outputs,
    misplaced_dropout,
    not_falling,
    other_names,
    other_regularization,
    unequal,
)

_FEATURES = "image_feature_vector"
_CLASSES = "image_classification"
_WITH_MOMENTUM = "_with_bn_hparams"
# Such signatures, and the attachment that tells the image size.
_MOMENTUM_FROM_VERSION = 3

# Of two programs that run the same graph on the same TensorFlow.
_REPEATED = 1e-6
# Of hub.load, whose functions are optimized otherwise, to hub.Module.
_OTHER_API = 2e-5
# Of a step of the moving averages, relative to the step, which is rounded to float32 at the averages' size.
_STEP = 1e-3


def judge_tf1(facts: Mapping[str, Any], predictions: Mapping[str, AnyArray], promise: Promise) -> Judgement:
    """Judges what a consumer saw with `hub.Module`, or with `hub.load` alone."""
    largest, problems = compare_outputs(_outputs(predictions, promise), promise.tolerance)
    problems += _signatures(facts, predictions, promise)
    if "hub.Module" in facts["apis"]:
        problems += _interface(facts, promise)
        problems += _inference(facts, promise)
        problems += _training_mode(facts, promise)
        problems += not_falling("fine-tuning", facts["losses"])
    return Judgement(largest, tuple(problems))


def signatures(promise: Promise) -> dict[str, str]:
    """Returns the layer that each signature's default output comes from."""
    network = promise.network
    layers = {_FEATURES: network.features}
    if network.logits:
        layers[_CLASSES] = network.logits
    with_momentum = {f"{name}{_WITH_MOMENTUM}": layer for name, layer in layers.items()}
    found = {DEFAULT: network.logits or network.features, **layers}
    return found | with_momentum if promise.version >= _MOMENTUM_FROM_VERSION else found


def _outputs(predictions: Mapping[str, AnyArray], promise: Promise) -> Iterator[tuple[str, AnyArray | None, AnyArray]]:
    for key, wanted in promise.expected.items():
        name = f"{key}:{DEFAULT}" if key in signatures(promise) else f"{DEFAULT}:{key}"
        yield name, predictions.get(name), wanted


def _signatures(facts: Mapping[str, Any], predictions: Mapping[str, AnyArray], promise: Promise) -> Iterator[str]:
    """`default` is the feature vector or the logits; those with a momentum give the same in inference."""
    wanted = signatures(promise)
    yield from other_names("signatures", facts["signatures"], wanted)
    prefix = f"{DEFAULT}:"
    found = [key.removeprefix(prefix) for key in predictions if key.startswith(prefix)]
    yield from other_names("outputs", found, promise.output_shapes())
    for name in (DEFAULT, *(name for name in wanted if name.endswith(_WITH_MOMENTUM))):
        twin = name.removesuffix(_WITH_MOMENTUM)
        if name == DEFAULT:
            twin = _CLASSES if promise.is_classification else _FEATURES
        one, other = predictions.get(f"{name}:{DEFAULT}"), predictions.get(f"{twin}:{DEFAULT}")
        if one is not None and other is not None:
            yield from broken(f"signatures {name} and {twin} predict differently", np.array_equal(one, other))


def _interface(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """What hub.Module's users ask a module before they apply it."""
    height, width, _ = promise.network.image_shape
    wanted = signatures(promise)
    yield from unequal("tags of the graph versions", facts["tags"], [[], ["train"]])
    yield from other_names("signatures of the graph version for training", facts["train_signatures"], wanted)
    yield from unequal(
        "image size that hub.get_expected_image_size returns", facts["expected_image_size"], [height, width]
    )
    attached = promise.version >= _MOMENTUM_FROM_VERSION and facts["knows_image_module_info"]
    yield from unequal("has an image_module_info", facts["image_module_info"], attached)
    for name, layer in wanted.items():
        inputs = {"images": [None, *promise.network.image_shape]}
        if name.endswith(_WITH_MOMENTUM):
            inputs["batch_norm_momentum"] = []
        yield from unequal(f"inputs of signature {name}", facts["inputs"].get(name), inputs)
        yield from _shapes(name, facts["outputs"].get(name, {}), promise.output_shapes(layer))


def _shapes(
    signature: str, found: Mapping[str, list[int | None]], wanted: Mapping[str, list[int | None]]
) -> Iterator[str]:
    yield from other_names(f"outputs of signature {signature}", list(found), wanted)
    for key in (key for key in wanted if key in found):
        yield from unequal(f"shape of output {key} of signature {signature}", found[key], wanted[key])


def _inference(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    yield from other_names("variables", facts["variables"], promise.variables)
    yield from other_names("trainable variables", facts["trainable_variables"], promise.trainable)
    yield from unequal("variables changed by inference", facts["changed_by_inference"], 0)
    yield from unequal("update ops in the graph version for inference", facts["update_ops_of_inference"], 0)
    yield from beyond("predictions of the module that Module.export wrote", facts["error_of_reexport"], _REPEATED)
    yield from beyond("predictions of hub.load against hub.Module", facts.get("error_of_load", 0.0), _OTHER_API)


def _training_mode(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """Both applications of a module update, each from its own batch: what the real version 1 did wrong."""
    moved = len(promise.statistics)
    yield from unequal("update ops of two applications", facts["update_ops"], [moved, moved])
    kinds = sorted({name.rpartition("/")[2] for name in promise.statistics})
    for number, error in enumerate(facts["errors_of_moving_averages"], start=1):
        yield from unequal(f"changed by the update ops of application {number}", error["changed"], kinds)
        what = f"relative error in the moving averages' step, application {number}"
        yield from beyond(what, error["largest"], _STEP)
    yield from other_regularization(facts, promise)
    yield from misplaced_dropout(facts, promise)
    yield from unequal("trainable variables in training", facts["trainable"], len(promise.trainable))
    yield from unequal("variables with a gradient", facts["gradients"], len(promise.trainable))
    yield from unequal("gradients that are finite and nonzero", facts["finite_gradients"], len(promise.trainable))
