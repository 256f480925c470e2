"""Judges what `consume_tf2.py` saw of a Reusable SavedModel."""

from collections.abc import Iterator, Mapping
from typing import Any

from hubexport.consumers.judge import (
    DEFAULT,
    AnyArray,
    Judgement,
    Promise,
    beyond,
    broken,
    compare_outputs,
    largest_difference,
    misplaced_dropout,
    not_falling,
    other_names,
    other_regularization,
    unequal,
)

_ENDPOINT = "endpoint:"
_SERVING = "serving_default"
_SERVED_FROM_VERSION = 5
# An endpoint whose shape Keras is asked for.
_KERAS_ENDPOINT = "MobilenetV2/layer_18"
_DEFAULT_MOMENTUM = 0.99

# Of two programs that run the same functions on the same TensorFlow.
_REPEATED = 1e-6
# Of one momentum, worked out from two steps of float32 averages.
_MOMENTUM_ERROR = 1e-5
# Of a step of the moving averages, relative to the step, which is rounded to float32 at the averages' size.
_STEP = 1e-3


def judge_tf2(facts: Mapping[str, Any], predictions: Mapping[str, AnyArray], promise: Promise) -> Judgement:
    """Judges what a consumer saw with `hub.load`, and with `hub.KerasLayer` if it fine-tuned."""
    largest, problems = compare_outputs(_outputs(predictions, promise), promise.tolerance)
    problems += _interface(facts, promise)
    problems += _inference(facts, predictions, promise)
    problems += _training_mode(facts, promise)
    problems += _gradients(facts, promise)
    if "hub.KerasLayer" in facts["apis"]:
        problems += _keras(facts, promise)
        problems += _replicas(facts)
    return Judgement(largest, tuple(problems))


def _outputs(predictions: Mapping[str, AnyArray], promise: Promise) -> Iterator[tuple[str, AnyArray | None, AnyArray]]:
    for key, wanted in promise.expected.items():
        yield key, predictions.get(DEFAULT if key == DEFAULT else f"{_ENDPOINT}{key}"), wanted


def _interface(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """Variables, losses, a signature from version 5 on, and no Keras object."""
    trainable = [f"{name}:0" for name in promise.trainable]
    yield from other_names("variables", facts["variables"], [f"{name}:0" for name in promise.variables])
    yield from other_names("trainable_variables", facts["trainable_variables"], trainable)
    yield from other_names("variables marked as trainable", facts["says_trainable"], trainable)
    yield from broken("it is a Keras object", not facts["is_keras"])
    signature = {
        "inputs": {"images": [None, *promise.network.image_shape]},
        "outputs": {_served_output(promise): promise.output_shapes()[DEFAULT]},
    }
    wanted = {_SERVING: signature} if promise.version >= _SERVED_FROM_VERSION else {}
    yield from unequal("signatures", facts["signatures"], wanted)
    yield from other_regularization(facts, promise)


def _served_output(promise: Promise) -> str:
    return "logits" if promise.is_classification else "feature_vector"


def _inference(facts: Mapping[str, Any], predictions: Mapping[str, AnyArray], promise: Promise) -> Iterator[str]:
    shapes = promise.output_shapes()
    found = [key.removeprefix(_ENDPOINT) for key in predictions if key.startswith(_ENDPOINT)]
    yield from other_names("endpoints", found, shapes)
    yield from other_names("endpoints in a tf.function", list(facts["static_shapes"]), shapes)
    for key in (key for key in shapes if key in facts["static_shapes"]):
        yield from unequal(f"shape of endpoint {key} in a tf.function", facts["static_shapes"][key], shapes[key])
    default = predictions[DEFAULT]
    if (served := predictions.get(f"{_SERVING}:{_served_output(promise)}")) is not None:
        yield from beyond("predictions of serving_default", largest_difference(served, default), _REPEATED)
    yield from beyond("predictions in a tf.function", facts["error_in_function"], _REPEATED)
    yield from broken("positional arguments give other predictions", facts["arguments_by_position"])
    yield from unequal("variables changed by inference", facts["changed_by_inference"], {"count": 0, "names": []})


def _training_mode(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """Moving averages move by one minus the momentum, of the difference from the batch's own statistics."""
    kinds = sorted({f"{name.rpartition('/')[2]}:0" for name in promise.statistics})
    changed = {"count": len(promise.statistics), "names": kinds}
    yield from unequal("variables changed by training", facts["changed_by_training"], changed)
    errors = facts["errors_of_moving_averages"]
    yield from other_names("moving averages", list(errors), [f"{name}:0" for name in promise.statistics])
    for name, error in errors.items():
        yield from beyond(f"relative error in the step of {name}", error, _STEP)
    yield from beyond("default momentum", abs(facts["default_momentum"] - _DEFAULT_MOMENTUM), _MOMENTUM_ERROR)
    yield from misplaced_dropout(facts, promise)


def _gradients(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    for mode in ("in_inference", "in_training"):
        what = f"gradients {mode.replace('_', ' ')} that are finite and nonzero"
        yield from unequal(what, facts[f"gradients_{mode}"], len(promise.trainable))
        repeats = facts.get(f"gradients_repeat_{mode}", True)
        yield from broken(f"a persistent tape {mode.replace('_', ' ')} gives other gradients the second time", repeats)


def _keras(facts: Mapping[str, Any], promise: Promise) -> Iterator[str]:
    """A KerasLayer in a Sequential is fine-tuned, saved and loaded again."""
    yield from unequal("losses of the Keras model", facts["keras_losses"], promise.num_regularized)
    yield from unequal("losses of the reloaded Keras model", facts["keras_losses_of_reload"], promise.num_regularized)
    yield from not_falling("fine-tuning with Keras", facts["keras_loss_history"])
    kinds = {name.rpartition("/")[2] for name in promise.variables}
    yield from other_names(
        "kinds of variables that fine-tuning with Keras changes", facts["keras_moved"], sorted(kinds)
    )
    yield from beyond("predictions of the reloaded Keras model", facts["keras_error_of_reload"], _REPEATED)
    yield from unequal("trainable variables of a frozen KerasLayer", facts["keras_frozen_trainable"], 0)
    shape = promise.output_shapes()[_KERAS_ENDPOINT]
    yield from unequal(f"shape of {_KERAS_ENDPOINT} in Keras", facts["keras_endpoint_shape"], shape)


def _replicas(facts: Mapping[str, Any]) -> Iterator[str]:
    """Under MirroredStrategy, what others read is the mean of what each replica has learned from its own batch."""
    yield from unequal("replicas with gradients", facts["replica_gradients"], facts["replicas"])
    yield from broken(
        "replicas have the same moving averages although they saw different images", facts["replicas_differ"]
    )
    what = "relative error in the mean of the replicas' moving averages"
    yield from beyond(what, facts["error_of_replicas_mean"], 1e-5)
