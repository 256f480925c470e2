"""Judges what `consume_tf1.py` recorded of a module in the TF1 Hub format."""

from collections.abc import Iterator

import numpy as np

from hubexport.consumers.judge import (
    DEFAULT,
    REPEAT_TOLERANCE,
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
    check_updates,
    compare_outputs,
    other_outputs,
    problem_unless,
)

_FEATURES = "image_feature_vector"
_CLASSES = "image_classification"
_WITH_MOMENTUM = "_with_bn_hparams"
# The first version with the attachment that says the image size.
_ATTACHMENT_FROM_VERSION = 3

# Allowed between hub.Module and hub.load, whose functions TensorFlow optimizes differently.
_API_TOLERANCE = 2e-5


def judge_tf1(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Judgement:
    """Judges the facts recorded with `hub.Module`, or with `hub.load` alone."""
    signatures = _signature_ops(contract)
    outputs = other_outputs(predictions, contract)
    for key, expected in contract.expected_outputs.items():
        name = f"{key}:{DEFAULT}" if key in signatures else f"{DEFAULT}:{key}"
        outputs.append((name, predictions.get(name), expected))
    largest_error, problems = compare_outputs(outputs, contract.tolerance)
    problems += _check_signatures(facts, predictions, contract)
    if "hub.Module" in facts["apis"]:
        problems += _check_interface(facts, contract)
        problems += _check_inference(facts, contract)
        problems += _check_training_mode(facts, predictions, contract)
        problems += check_loss_falls("fine-tuning", facts["losses"])
    return Judgement(largest_error, tuple(problems))


def _signature_ops(contract: ModuleContract) -> dict[str, str]:
    """Returns the op of each signature's default output."""
    network = contract.network
    ops = {_FEATURES: network.features}
    if network.logits:
        ops[_CLASSES] = network.logits
    with_momentum = {f"{name}{_WITH_MOMENTUM}": op for name, op in ops.items()}
    signatures = {DEFAULT: network.logits or network.features, **ops}
    return signatures | with_momentum if contract.takes_momentum else signatures


def _check_signatures(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Iterator[str]:
    """`default` equals the signature for the module's kind; a momentum makes no difference in inference."""
    expected = _signature_ops(contract)
    yield from check_names("signatures", facts["signatures"], expected)
    prefix = f"{DEFAULT}:"
    outputs = [key.removeprefix(prefix) for key in predictions if key.startswith(prefix)]
    yield from check_names("outputs", outputs, contract.output_shapes())
    twins = {DEFAULT: _CLASSES if contract.network.logits else _FEATURES}
    twins |= {name: name.removesuffix(_WITH_MOMENTUM) for name in expected if name.endswith(_WITH_MOMENTUM)}
    for name, twin in twins.items():
        output, twin_output = predictions.get(f"{name}:{DEFAULT}"), predictions.get(f"{twin}:{DEFAULT}")
        if output is not None and twin_output is not None:
            is_equal = np.array_equal(output, twin_output)
            yield from problem_unless(is_equal, f"signatures {name} and {twin} predict differently")


def _check_interface(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    """What programs ask a module before they apply it."""
    height, width = contract.network.default_image_size
    ops = _signature_ops(contract)
    yield from check_equal("tags of the graph versions", facts["tags"], [[], ["train"]])
    yield from check_names("signatures of the graph version for training", facts["train_signatures"], ops)
    yield from check_equal(
        "image size that hub.get_expected_image_size returns", facts["expected_image_size"], [height, width]
    )
    has_attachment = contract.version >= _ATTACHMENT_FROM_VERSION and facts["knows_image_module_info"]
    yield from check_equal("has an image_module_info", facts["image_module_info"], has_attachment)
    for name, op in ops.items():
        inputs = {"images": [None, *contract.network.image_shape]}
        if name.endswith(_WITH_MOMENTUM):
            inputs["batch_norm_momentum"] = []
        yield from check_equal(f"inputs of signature {name}", facts["inputs"].get(name), inputs)
        found, expected = facts["outputs"].get(name, {}), contract.output_shapes(op)
        yield from check_names(f"outputs of signature {name}", list(found), expected)
        for key in (key for key in expected if key in found):
            yield from check_equal(f"shape of output {key} of signature {name}", found[key], expected[key])


def _check_inference(facts: Facts, contract: ModuleContract) -> Iterator[str]:
    yield from check_names("variables", facts["variables"], contract.variables)
    yield from check_names("trainable variables", facts["trainable_variables"], contract.trainable)
    yield from check_equal("variables changed by inference", facts["changed_by_inference"], 0)
    yield from check_equal("update ops in the graph version for inference", facts["update_ops_of_inference"], 0)
    reexport_error, load_error = facts["error_of_reexport"], facts.get("error_of_load", 0.0)
    yield from check_error("predictions of the module that Module.export wrote", reexport_error, REPEAT_TOLERANCE)
    yield from check_error("predictions of hub.load against hub.Module", load_error, _API_TOLERANCE)


def _check_training_mode(facts: Facts, predictions: Predictions, contract: ModuleContract) -> Iterator[str]:
    """Each application updates the averages from its own batch, which Google's version 1 got wrong."""
    num_updates = [len(contract.statistics)] * len(contract.updates)
    yield from check_equal("update ops of each application", facts["update_ops"], num_updates)
    yield from check_updates(facts, predictions, contract)
    yield from check_regularization(facts, contract)
    yield from check_dropout(facts, contract)
    num_trainable = len(contract.trainable)
    yield from check_equal("trainable variables in training", facts["trainable"], num_trainable)
    yield from check_equal("variables with a gradient", facts["gradients"], num_trainable)
    yield from check_equal("gradients that are finite and nonzero", facts["finite_gradients"], num_trainable)
