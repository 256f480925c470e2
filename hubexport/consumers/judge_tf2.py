"""Judges what `consume_tf2.py` recorded of a Reusable SavedModel."""

from collections.abc import Iterator

from hubexport.consumers.judge import (
    DEFAULT,
    REPEAT_TOLERANCE,
    STEP_TOLERANCE,
    Facts,
    Judgement,
    ModuleContract,
    Predictions,
    check_dropout,
    check_equal,
    check_error,
    check_loss_falls,
    check_names,
    check_regularization,
    compare_outputs,
    largest_difference,
    problem_unless,
)

_ENDPOINT = "endpoint:"
_SERVING = "serving_default"
_SERVED_FROM_VERSION = 5
# The endpoint of which `consume_tf2.py` records the shape in Keras.
_KERAS_ENDPOINT = "MobilenetV2/layer_18"
_DEFAULT_MOMENTUM = 0.99

# Allowed in a momentum that is computed from two steps of float32 averages.
_MOMENTUM_TOLERANCE = 1e-5


def judge_tf2(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Judgement:
    """Judges the facts recorded with `hub.load`, and with `hub.KerasLayer` if the program fine-tuned the module."""
    outputs = (
        (key, predictions.get(DEFAULT if key == DEFAULT else f"{_ENDPOINT}{key}"), expected)
        for key, expected in contract.expected_outputs.items()
    )
    largest_error, problems = compare_outputs(outputs, contract.tolerance)
    problems += _check_interface(facts, contract)
    problems += _check_inference(facts, predictions, contract)
    problems += _check_training_mode(facts, contract)
    problems += _check_gradients(facts, contract)
    if "hub.KerasLayer" in facts["apis"]:
        problems += _check_keras(facts, contract)
        problems += _check_replicas(facts)
    return Judgement(largest_error, tuple(problems))


def _check_interface(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """The module has the expected variables, losses and signatures, and is not a Keras object."""
    trainable = [f"{name}:0" for name in contract.trainable]
    yield from check_names("variables", facts["variables"], [f"{name}:0" for name in contract.variables])
    yield from check_names("trainable_variables", facts["trainable_variables"], trainable)
    yield from check_names("variables marked as trainable", facts["says_trainable"], trainable)
    yield from problem_unless(not facts["is_keras"], "it is a Keras object")
    signature = {
        "inputs": {"images": [None, *contract.network.image_shape]},
        "outputs": {_served_output(contract): contract.output_shapes()[DEFAULT]},
    }
    expected = {_SERVING: signature} if contract.version >= _SERVED_FROM_VERSION else {}
    yield from check_equal("signatures", facts["signatures"], expected)
    yield from check_regularization(facts, contract)


def _served_output(contract: ModuleContract) -> str:
    return "logits" if contract.is_classification else "feature_vector"


def _check_inference(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Iterator[str]:
    shapes, static_shapes = contract.output_shapes(), facts["static_shapes"]
    endpoints = [key.removeprefix(_ENDPOINT) for key in predictions if key.startswith(_ENDPOINT)]
    yield from check_names("endpoints", endpoints, shapes)
    yield from check_names("endpoints in a tf.function", list(static_shapes), shapes)
    for key in (key for key in shapes if key in static_shapes):
        yield from check_equal(f"shape of endpoint {key} in a tf.function", static_shapes[key], shapes[key])
    if (served := predictions.get(f"{_SERVING}:{_served_output(contract)}")) is not None:
        error = largest_difference(served, predictions[DEFAULT])
        yield from check_error("predictions of serving_default", error, REPEAT_TOLERANCE)
    yield from check_error("predictions in a tf.function", facts["error_in_function"], REPEAT_TOLERANCE)
    yield from problem_unless(facts["arguments_by_position"], "positional arguments give other predictions")
    unchanged = {"count": 0, "names": []}
    yield from check_equal("variables changed by inference", facts["changed_by_inference"], unchanged)


def _check_training_mode(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """Each moving average moves towards the batch statistic, by one minus the momentum of their difference."""
    kinds = sorted({f"{name.rpartition('/')[2]}:0" for name in contract.statistics})
    changed = {"count": len(contract.statistics), "names": kinds}
    yield from check_equal("variables changed by training", facts["changed_by_training"], changed)
    errors = facts["errors_of_moving_averages"]
    yield from check_names("moving averages", list(errors), [f"{name}:0" for name in contract.statistics])
    for name, error in errors.items():
        yield from check_error(f"relative error in the step of {name}", error, STEP_TOLERANCE)
    momentum_error = abs(facts["default_momentum"] - _DEFAULT_MOMENTUM)
    yield from check_error("default momentum", momentum_error, _MOMENTUM_TOLERANCE)
    yield from check_dropout(facts, contract)


def _check_gradients(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    for mode in ("inference", "training"):
        what = f"gradients in {mode} that are finite and nonzero"
        yield from check_equal(what, facts[f"gradients_in_{mode}"], len(contract.trainable))
        repeats = facts.get(f"gradients_repeat_in_{mode}", True)
        yield from problem_unless(repeats, f"a persistent tape in {mode} gives other gradients the second time")


def _check_keras(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """A KerasLayer in a Sequential can be fine-tuned, saved and loaded again."""
    num_losses = contract.num_regularized
    yield from check_equal("losses of the Keras model", facts["keras_losses"], num_losses)
    yield from check_equal("losses of the reloaded Keras model", facts["keras_losses_of_reload"], num_losses)
    yield from check_loss_falls("fine-tuning with Keras", facts["keras_loss_history"])
    kinds = sorted({name.rpartition("/")[2] for name in contract.variables})
    yield from check_names("kinds of variables that fine-tuning with Keras changes", facts["keras_moved"], kinds)
    reload_error = facts["keras_error_of_reload"]
    yield from check_error("predictions of the reloaded Keras model", reload_error, REPEAT_TOLERANCE)
    yield from check_equal("trainable variables of a frozen KerasLayer", facts["keras_frozen_trainable"], 0)
    shape = contract.output_shapes()[_KERAS_ENDPOINT]
    yield from check_equal(f"shape of {_KERAS_ENDPOINT} in Keras", facts["keras_endpoint_shape"], shape)


def _check_replicas(facts: Facts) -> Iterator[str]:
    """Under MirroredStrategy, a moving average is the mean of those of the replicas, each from its own batch."""
    yield from check_equal("replicas with gradients", facts["replica_gradients"], facts["replicas"])
    problem = "replicas have the same moving averages although they saw different images"
    yield from problem_unless(facts["replicas_differ"], problem)
    what = "relative error in the mean of the replicas' moving averages"
    yield from check_error(what, facts["error_of_replicas_mean"], 1e-5)
