"""Judges what `consume_tf2.py` recorded of a Reusable SavedModel."""

from collections.abc import Iterator

from hubexport.consumers.judge import (
    DEFAULT,
    REPEAT_TOLERANCE,
    Comparison,
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
    check_static_shapes,
    check_updates,
    compare_outputs,
    largest_difference,
    other_outputs,
    problem_unless,
)

_ENDPOINT = "endpoint:"
_SERVING = "serving_default"
_SERVED_FROM_VERSION = 5


def judge_tf2(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Judgement:
    """Judges the facts recorded with `hub.load`, and with `hub.KerasLayer` if the program fine-tuned the module."""
    outputs: list[Comparison] = [
        (key, predictions.get(DEFAULT if key == DEFAULT else f"{_ENDPOINT}{key}"), expected)
        for key, expected in contract.expected_outputs.items()
    ]
    outputs += other_outputs(predictions, contract)
    largest_error, problems = compare_outputs(outputs, contract.tolerance)
    problems += _check_interface(facts, contract)
    problems += _check_inference(facts, predictions, contract)
    problems += _check_training_mode(facts, predictions, contract)
    problems += _check_gradients(facts, contract)
    if "hub.KerasLayer" in facts["apis"]:
        problems += _check_keras(facts, contract)
        problems += _check_replicas(facts, contract)
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
    return "logits" if contract.network.logits else "feature_vector"


def _check_inference(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Iterator[str]:
    endpoints = [key.removeprefix(_ENDPOINT) for key in predictions if key.startswith(_ENDPOINT)]
    yield from check_names("endpoints", endpoints, contract.output_ops())
    yield from check_static_shapes("a tf.function", facts["static_shapes"], contract)
    if (served := predictions.get(f"{_SERVING}:{_served_output(contract)}")) is not None:
        error = largest_difference(served, predictions[DEFAULT])
        yield from check_error("predictions of serving_default", error, REPEAT_TOLERANCE)
    yield from check_error("predictions in a tf.function", facts["error_in_function"], REPEAT_TOLERANCE)
    yield from problem_unless(facts["arguments_by_position"], "positional arguments give other predictions")
    yield from check_names("variables changed by inference", facts["changed_by_inference"], [])


def _check_training_mode(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Iterator[str]:
    yield from check_updates(facts, predictions, contract)
    yield from check_dropout(facts, contract)


def _check_gradients(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    for mode in ("inference", "training"):
        what = f"gradients in {mode} that are finite and nonzero"
        yield from check_equal(what, facts[f"gradients_in_{mode}"], len(contract.trainable))
        repeats = facts.get(f"gradients_repeat_in_{mode}", True)
        yield from problem_unless(repeats, f"a persistent tape in {mode} gives other gradients the second time")


def _check_keras(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """A KerasLayer in a Sequential can be fine-tuned, saved and loaded again."""
    num_losses = len(contract.weight_decay)
    yield from check_equal("losses of the Keras model", facts["keras_losses"], num_losses)
    yield from check_equal("losses of the reloaded Keras model", facts["keras_losses_of_reload"], num_losses)
    yield from check_loss_falls("fine-tuning with Keras", facts["keras_loss_history"])
    yield from check_names("variables changed by fine-tuning with Keras", facts["keras_moved"], contract.variables)
    reload_error = facts["keras_error_of_reload"]
    yield from check_error("predictions of the reloaded Keras model", reload_error, REPEAT_TOLERANCE)
    yield from check_equal("trainable variables of a frozen KerasLayer", facts["keras_frozen_trainable"], 0)
    yield from check_static_shapes("Keras", facts["keras_shapes"], contract)


def _check_replicas(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """Under MirroredStrategy, a moving average is the mean of those of the replicas, each from its own batch."""
    yield from check_equal("replicas with gradients", facts["replica_gradients"], facts["replicas"])
    problem = "replicas have the same moving averages although they saw different images"
    yield from problem_unless(facts["replicas_differ"] or not contract.certain_statistics, problem)
    what = "relative error in the mean of the replicas' moving averages"
    yield from check_error(what, facts["error_of_replicas_mean"], 1e-5)
