"""Reusable SavedModels in every promised TensorFlow 2, as it really is: the same directories load and fine-tune."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from tests.data import needs_data, photographs, reference_outputs
from tests.environments import TF2_CONSUMERS, python_or_skip, run_consumer
from tests.graphs import checkpoint_values, imported, read_saved_model

# An environment may have to be made first.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

_VARIANT = "mobilenet_v2_050_96"
_SIZE = 96
# The first is fine-tuned as well.
_MODULES = ("feature_vector/5", "classification/5", "classification/4")


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one consumer saw of one module."""

    spec: ModuleSpec
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @property
    def is_classification(self) -> bool:
        """Whether it has class scores."""
        return self.spec.kind == "classification"


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """The modules, and their twin in the TF1 Hub format, from the values of which the reference outputs are known."""
    specs = [ModuleSpec.parse(text) for text in (*_MODULES, "classification/3")]
    folder = tmp_path_factory.mktemp("modules")
    paths = build_modules(load_variant(_VARIANT), specs, checkpoint="synthetic:1", output_dir=folder)
    return {str(spec): path for spec, path in zip(specs, paths, strict=True)}


@pytest.fixture(scope="module", params=TF2_CONSUMERS, ids=lambda environment: environment.name)
def seen(request, modules, tmp_path_factory) -> list[Seen]:
    """Runs the consumer script once in one environment, over all modules."""
    python = python_or_skip(request.param)
    folder = tmp_path_factory.mktemp(request.param.name)
    pictures, _ = photographs(_SIZE)
    images = reference_outputs(_VARIANT)["images"]
    np.savez(folder / "inputs.npz", images=images, photographs=pictures, labels=np.arange(len(pictures)))
    tasks = []
    for number, name in enumerate(_MODULES):
        scratch = folder / f"scratch-{number}"
        scratch.mkdir()
        tasks.append(
            {
                "path": str(modules[name]),
                "inputs": str(folder / "inputs.npz"),
                "outputs": str(folder / f"outputs-{number}.npz"),
                "scratch": str(scratch),
                "fine_tune": number == 0,
            }
        )
    found = run_consumer(python, "consume_tf2.py", tasks, folder)
    assert found["tensorflow"].startswith(request.param.name.removeprefix("tf"))
    return [
        Seen(ModuleSpec.parse(name), facts, dict(np.load(task["outputs"])))
        for name, facts, task in zip(_MODULES, found["modules"], tasks, strict=True)
    ]


def test_predicts_what_the_reference_computed(seen):
    """An independent PyTorch implementation, from the same values."""
    for one in seen:
        wanted = reference_outputs(_VARIANT)[f"image_{one.spec.kind}"]
        np.testing.assert_allclose(one.predictions["default"], wanted, rtol=0, atol=5e-5, err_msg=str(one.spec))


def test_endpoints_are_those_of_the_tf1_module(seen, modules):
    """Every key, with the values that the TF1 graph has on the TensorFlow of these tests."""
    graph = read_saved_model((modules["classification/3"] / "saved_model.pb").read_bytes())[()]
    with imported(graph, checkpoint_values(modules["classification/3"])) as tf1:
        logits = tf1.run("image_classification", reference_outputs(_VARIANT)["images"])
        features = tf1.run("image_feature_vector", reference_outputs(_VARIANT)["images"])
    for one in seen:
        wanted = logits if one.is_classification else features
        np.testing.assert_allclose(one.predictions["default"], wanted["default"], rtol=0, atol=2e-5)
        prefix = "endpoint:"
        found = {key.removeprefix(prefix): v for key, v in one.predictions.items() if key.startswith(prefix)}
        classifier = set() if one.is_classification else {"MobilenetV2/Logits", "MobilenetV2/Predictions"}
        assert set(wanted) - set(found) == classifier
        for key, value in found.items():
            # The kernels of two TensorFlows round differently, which shows most in the deep layers in between.
            tolerance = 2e-5 if key == "default" else 1e-4
            np.testing.assert_allclose(value, wanted[key][: len(value)], rtol=0, atol=tolerance, err_msg=key)
            assert one.facts["static_shapes"][key] == [None, *value.shape[1:]]


def test_has_the_interface_of_reusable_savedmodels(seen):
    """Variables, losses, a signature from version 5 on, and no Keras object."""
    for one in seen:
        classifier = 2 if one.is_classification else 0
        assert len(one.facts["variables"]) == 260 + classifier
        assert len(one.facts["trainable_variables"]) == 156 + classifier
        assert one.facts["says_trainable"] == one.facts["trainable_variables"]
        assert not any("/moving_" in name for name in one.facts["trainable_variables"])
        assert one.facts["arguments_by_position"]
        assert not one.facts["is_keras"]
        output = {"logits": [None, 1001]} if one.is_classification else {"feature_vector": [None, 1280]}
        signature = {"inputs": {"images": [None, _SIZE, _SIZE, 3]}, "outputs": output}
        assert one.facts["signatures"] == ({"serving_default": signature} if one.spec.version >= 5 else {})
        if one.spec.version >= 5:
            [served] = [value for key, value in one.predictions.items() if key.startswith("serving_default:")]
            np.testing.assert_allclose(served, one.predictions["default"], rtol=0, atol=1e-6)
        assert one.facts["error_in_function"] <= 1e-6


def test_weight_decay_is_on_all_convolution_weights_but_depthwise_ones(seen):
    """4e-5 times half the sum of squares, summed up in float64."""
    for one in seen:
        assert one.facts["regularization_losses"] == (36 if one.is_classification else 35)
        assert one.facts["regularization_loss"] == pytest.approx(one.facts["regularization_loss_by_hand"], rel=1e-5)


def test_moving_averages_move_in_training_only(seen):
    """By one minus the momentum, of the difference from each batch's own statistics; by 0.01 unless said otherwise."""
    for one in seen:
        assert one.facts["changed_by_inference"] == {"count": 0, "names": []}
        assert one.facts["changed_by_training"] == {"count": 104, "names": ["moving_mean:0", "moving_variance:0"]}
        errors = one.facts["errors_of_moving_averages"]
        assert len(errors) == 104
        assert max(errors.values()) <= 1e-3
        assert one.facts["default_momentum"] == pytest.approx(0.99, abs=1e-5)


def test_dropout_is_before_the_logits_only(seen):
    """In training, features repeat; logits do not."""
    for one in seen:
        assert one.facts["features_repeat"]
        assert one.facts["default_repeats"] == (not one.is_classification)


def test_gradients_reach_all_trainable_variables(seen):
    """Finite ones, not zero; a persistent tape can be asked twice."""
    for one in seen:
        wanted = 158 if one.is_classification else 156
        assert one.facts["gradients_in_inference"] == one.facts["gradients_in_training"] == wanted
    assert seen[0].facts["gradients_repeat_in_inference"]
    assert seen[0].facts["gradients_repeat_in_training"]


def test_keras_fine_tunes_saves_and_loads(seen):
    """A KerasLayer in a Sequential, on the photographs: the loss falls, and all kinds of variables move."""
    facts = seen[0].facts
    assert facts["keras_output_shape"] == [None, 8]
    assert facts["keras_losses"] == facts["keras_losses_of_reload"] == 35
    losses = facts["keras_loss_history"]
    assert losses[-1] < 0.98 * losses[0], losses
    kinds = ["beta", "depthwise_weights", "gamma", "moving_mean", "moving_variance", "weights"]
    assert facts["keras_moved"] == kinds
    assert facts["keras_error_of_reload"] <= 1e-6
    assert facts["keras_frozen_trainable"] == 0
    assert facts["keras_endpoint_shape"] == [None, 3, 3, 160]


def test_replicas_share_moving_averages(seen):
    """Under MirroredStrategy, what others read is the mean of what each replica has learned from its own batch."""
    facts = seen[0].facts
    assert facts["replicas"] == facts["replica_gradients"] == 2
    assert facts["replicas_differ"], "or a mean of them would prove nothing"
    assert facts["error_of_replicas_mean"] <= 1e-5
