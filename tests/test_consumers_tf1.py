"""TF1 Hub modules in every promised TensorFlow, as it really is: the same directories load, predict and fine-tune."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from tests.data import needs_data, reference_outputs
from tests.environments import CONSUMERS, python_or_skip, run_consumer
from tests.graphs import checkpoint_values, imported, read_saved_model

# An environment may have to be made first.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

# The two seed modules, and version 3 of both kinds.
_MODULES = [
    ("mobilenet_v2_075_192", "feature_vector/2"),
    ("mobilenet_v2_050_96", "classification/1"),
    ("mobilenet_v2_050_96", "classification/3"),
    ("mobilenet_v2_050_96", "feature_vector/3"),
]
# Version 3 carries an attachment, which tensorflow-hub 0.1.0 refuses.
_NEEDS_HUB_0_2 = 3


@dataclasses.dataclass(frozen=True)
class Module:
    """A module to look at, and what it should do."""

    variant: str
    spec: ModuleSpec
    path: Path
    expected: dict[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.variant}/{self.spec}"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one consumer saw of one module."""

    module: Module
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> list[Module]:
    """The modules, built once from the values of which the reference outputs are known."""
    output_dir = tmp_path_factory.mktemp("modules")
    built = []
    for name, text in _MODULES:
        spec = ModuleSpec.parse(text)
        [path] = build_modules(load_variant(name), [spec], checkpoint="synthetic:1", output_dir=output_dir)
        built.append(Module(name, spec, path, reference_outputs(name)))
    return built


@pytest.fixture(scope="module", params=CONSUMERS, ids=lambda environment: environment.name)
def seen(request, modules, tmp_path_factory) -> list[Seen]:
    """Runs the consumer script once in one environment, over all modules that it should load."""
    python = python_or_skip(request.param)
    folder = tmp_path_factory.mktemp(request.param.name)
    chosen = [m for m in modules if request.param.name != "tf1.7" or m.spec.version < _NEEDS_HUB_0_2]
    tasks = []
    for number, module in enumerate(chosen):
        inputs = folder / f"inputs-{number}.npz"
        np.savez(inputs, images=module.expected["images"])
        tasks.append(
            {
                "path": str(module.path),
                "version": module.spec.version,
                "inputs": str(inputs),
                "outputs": str(folder / f"outputs-{number}.npz"),
                "export": str(folder / f"export-{number}"),
            }
        )
    found = run_consumer(python, "consume_tf1.py", tasks, folder)
    assert found["tensorflow"].startswith(request.param.name.removeprefix("tf").partition("-")[0])
    return [
        Seen(module, facts, dict(np.load(task["outputs"])))
        for module, facts, task in zip(chosen, found["modules"], tasks, strict=True)
    ]


def _with_graph_version_train(seen: list[Seen]) -> list[Seen]:
    if "tags" not in seen[0].facts:
        pytest.skip("this tensorflow_hub has no hub.Module, which alone trains TF1 Hub modules")
    return seen


def test_predicts_what_the_reference_computed(seen):
    """An independent PyTorch implementation, from the same values."""
    for one in seen:
        for signature in ("image_feature_vector", "image_classification"):
            if f"{signature}:default" in one.predictions:
                found = one.predictions[f"{signature}:default"]
                np.testing.assert_allclose(
                    found,
                    one.module.expected[signature],
                    rtol=0,
                    atol=5e-5,
                    err_msg=f"{one.module} {signature}",
                )


def test_predicts_the_same_as_every_other_tensorflow(seen):
    """All signatures' defaults and all endpoints, against the graph as the TensorFlow of these tests runs it."""
    for one in seen:
        graph = read_saved_model((one.module.path / "saved_model.pb").read_bytes())[()]
        with imported(graph, checkpoint_values(one.module.path)) as here:
            default = here.run("default", one.module.expected["images"])
        assert {f"default:{key}" for key in default} <= one.predictions.keys()
        for key, value in default.items():
            # The kernels of two TensorFlows round differently, which shows most in the deep layers in between.
            tolerance = 2e-5 if key == "default" else 1e-4
            found = one.predictions[f"default:{key}"]
            assert len(found) >= 2
            np.testing.assert_allclose(
                found, value[: len(found)], rtol=0, atol=tolerance, err_msg=f"{one.module} {key}"
            )


def test_signatures_are_those_of_kind_and_version(seen):
    """`default` is the feature vector or the logits; only version 3 takes a momentum."""
    for one in seen:
        results = ["image_feature_vector"]
        results += ["image_classification"] * (one.module.spec.kind == "classification")
        with_momentum = [f"{result}_with_bn_hparams" for result in results] * (one.module.spec.version >= 3)
        assert one.facts["signatures"] == sorted(["default", *results, *with_momentum])
        for signature in ["default", *with_momentum]:
            twin = results[-1] if signature == "default" else signature.removesuffix("_with_bn_hparams")
            np.testing.assert_array_equal(one.predictions[f"{signature}:default"], one.predictions[f"{twin}:default"])


def test_tells_its_inputs_outputs_and_graph_versions(seen):
    """What hub.Module's users ask a module before they apply it."""
    for one in _with_graph_version_train(seen):
        size = 192 if "192" in one.module.variant else 96
        assert one.facts["tags"] == [[], ["train"]]
        assert one.facts["train_signatures"] == one.facts["signatures"]
        assert one.facts["expected_image_size"] == [size, size]
        assert one.facts["image_module_info"] == (one.module.spec.version >= 3 and one.facts["knows_image_module_info"])
        for signature, inputs in one.facts["inputs"].items():
            momentum = {"batch_norm_momentum": []} if signature.endswith("_with_bn_hparams") else {}
            assert inputs == {"images": [None, size, size, 3], **momentum}
        outputs = one.facts["outputs"]["default"]
        assert outputs["default"] == [None, 1001 if one.module.spec.kind == "classification" else 1280]
        assert outputs["MobilenetV2/layer_19"] == [None, size // 32, size // 32, 1280]
        assert ("MobilenetV2/Logits" in outputs) == (one.module.spec.kind == "classification")


def test_inference_changes_nothing_and_a_reexport_predicts_the_same(seen):
    """Module.export writes a module that a second program loads."""
    for one in _with_graph_version_train(seen):
        assert one.facts["changed_by_inference"] == 0
        assert one.facts["update_ops_of_inference"] == 0
        assert one.facts["error_of_reexport"] <= 1e-6


def test_a_feature_vector_module_has_no_classification_variables(seen):
    """It "saves the space occupied by the classification layer"."""
    for one in _with_graph_version_train(seen):
        classifier = [name for name in one.facts["variables"] if "Logits" in name]
        assert len(classifier) == (2 if one.module.spec.kind == "classification" else 0)
        assert len(one.facts["variables"]) == 260 + len(classifier)
        assert len(one.facts["trainable_variables"]) == 156 + len(classifier)


def test_moving_averages_move_by_one_minus_momentum_of_the_difference(seen):
    """All 52 batch norms, with the module's own momentum in versions 1 and 2, with a fed one in version 3.

    Both applications of a module update, each from its own batch: what the real version 1 did wrong.
    """
    for one in _with_graph_version_train(seen):
        assert one.facts["update_ops"] == [104, 104]
        for error in one.facts["errors_of_moving_averages"]:
            assert error["changed"] == ["moving_mean", "moving_variance"]
            assert error["largest"] <= 1e-3


def test_weight_decay_is_on_all_convolution_weights_but_depthwise_ones(seen):
    """4e-5 times half the sum of squares, summed up in float64."""
    for one in _with_graph_version_train(seen):
        assert one.facts["regularization_losses"] == (36 if one.module.spec.kind == "classification" else 35)
        assert one.facts["regularization_loss"] == pytest.approx(one.facts["regularization_loss_by_hand"], rel=1e-5)


def test_dropout_is_before_the_logits_only(seen):
    """In the graph version for training, features repeat; logits do not."""
    for one in _with_graph_version_train(seen):
        assert one.facts["features_repeat"]
        assert one.facts["default_repeats"] == (one.module.spec.kind == "feature_vector")


def test_gradients_reach_all_trainable_variables(seen):
    """Finite ones, not zero."""
    for one in _with_graph_version_train(seen):
        wanted = 158 if one.module.spec.kind == "classification" else 156
        assert one.facts["trainable"] == one.facts["gradients"] == one.facts["finite_gradients"] == wanted


def test_fine_tuning_lowers_the_loss(seen):
    """A few steps of gradient descent with batch norm updates and weight decay."""
    for one in _with_graph_version_train(seen):
        losses = one.facts["losses"]
        assert losses[-1] < 0.98 * losses[0], losses
