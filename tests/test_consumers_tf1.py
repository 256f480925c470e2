"""TF1 Hub modules in every supported TensorFlow: the same directories load, predict and fine-tune."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.consumers.judge import ModuleContract
from hubexport.consumers.judge_tf1 import judge_tf1
from hubexport.consumers.registry import CONSUMERS, why_not_applicable
from hubexport.consumers.use_module import TF1_PROGRAM, prepare_task, read_outputs
from tests.data import needs_data, reference_outputs
from tests.environments import cases, python_or_skip, run_consumer
from tests.graphs import checkpoint_values, imported, read_saved_model

# The timeout leaves time to make an environment.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

# The two seed modules, and version 3 of both kinds.
_MODULES = [
    ("mobilenet_v2_075_192", "feature_vector/2"),
    ("mobilenet_v2_050_96", "classification/1"),
    ("mobilenet_v2_050_96", "classification/3"),
    ("mobilenet_v2_050_96", "feature_vector/3"),
]
# The module that each consumer with hub.Module fine-tunes and re-exports, which takes most of the time; with the others
# it only predicts. Some consumer trains each module, and each kind is trained on TensorFlow 1 and on TensorFlow 2.
_TRAINED = {
    "tf1.7": "mobilenet_v2_050_96/classification/1",
    "tf1.7-hub0.2": "mobilenet_v2_050_96/classification/3",
    "tf1.13": "mobilenet_v2_050_96/feature_vector/3",
    "tf1.15": "mobilenet_v2_075_192/feature_vector/2",
    "tf2.4": "mobilenet_v2_050_96/classification/3",
    "tf2.10": "mobilenet_v2_050_96/classification/1",
    "tf2.15": "mobilenet_v2_050_96/feature_vector/3",
}
# Between any TensorFlow and the independent implementation: their kernels round differently.
_TOLERANCE = 5e-5


@dataclasses.dataclass(frozen=True)
class Module:
    """A module to use, and its contract."""

    variant: str
    spec: ModuleSpec
    path: Path
    images: np.ndarray
    contract: ModuleContract
    # Computed by the TensorFlow that runs the tests: `default` for all images, endpoints for two.
    outputs: dict[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.variant}/{self.spec}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What one consumer recorded of one module."""

    module: Module
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @property
    def is_trained(self) -> bool:
        """Whether the consumer fine-tuned the module."""
        return "losses" in self.facts


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> list[Module]:
    """The modules, built from the values whose reference outputs are known."""
    output_dir = tmp_path_factory.mktemp("modules")
    built = []
    for name, text in _MODULES:
        spec, variant = ModuleSpec.parse(text), load_variant(name)
        [path] = build_modules(variant, [spec], checkpoint="synthetic:1", output_dir=output_dir)
        known = reference_outputs(name)
        results = ["image_feature_vector"] + ["image_classification"] * (spec.kind == "classification")
        expected = {"default": known[results[-1]], **{result: known[result] for result in results}}
        contract = ModuleContract(spec.version, variant.network_for(spec.kind), expected, _TOLERANCE)
        built.append(Module(name, spec, path, known["images"], contract, _outputs(path, known["images"])))
    return built


def _outputs(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    graph = read_saved_model((path / "saved_model.pb").read_bytes())[()]
    with imported(graph, checkpoint_values(path)) as here:
        outputs = here.run("default", images[:2])
        outputs["default"] = here.run("default", images)["default"]
    return outputs


@pytest.fixture(scope="module", params=cases(CONSUMERS))
def results(request, modules, tmp_path_factory) -> list[Result]:
    """Runs the consumer program once in one environment, with all modules that it can load."""
    consumer = request.param
    python = python_or_skip(consumer.environment)
    folder = tmp_path_factory.mktemp(consumer.name)
    chosen = [m for m in modules if not why_not_applicable(consumer, "TF1 Hub module", m.spec.version)]
    assert len(chosen) == (2 if consumer.tensorflow_hub == "0.1.0" else 4)
    tasks = []
    for number, module in enumerate(chosen):
        scratch = folder / str(number)
        scratch.mkdir()
        task = prepare_task(module.path, module.images, module.contract, scratch)
        # Trying hub.load after hub.Module takes seconds, so it is left out where nothing is trained.
        is_trained = str(module) == _TRAINED.get(consumer.name)
        tasks.append({**task, "try_load": is_trained, "fine_tune": is_trained})
    recorded = run_consumer(python, TF1_PROGRAM, tasks, folder)
    assert (recorded["tensorflow"], recorded["tensorflow_hub"]) == (consumer.tensorflow, consumer.tensorflow_hub)
    assert all(("hub.Module" in facts["apis"]) == consumer.has_hub_module for facts in recorded["modules"])
    assert any("hub.load" in facts["apis"] for facts in recorded["modules"]) == consumer.name.startswith("tf2")
    assert sum("losses" in facts for facts in recorded["modules"]) == consumer.has_hub_module
    return [
        Result(module, facts, read_outputs(Path(task["outputs"])))
        for module, facts, task in zip(chosen, recorded["modules"], tasks, strict=True)
    ]


def test_modules_keep_their_contracts(results):
    """With expected outputs that an independent PyTorch implementation computed.

    A module that was not fine-tuned is judged by its signatures and predictions alone, as with hub.load.
    """
    for result in results:
        facts = result.facts if result.is_trained else {**result.facts, "apis": ["hub.load"]}
        judgement = judge_tf1(facts, result.predictions, result.module.contract)
        assert judgement.problems == (), result.module
        assert 0 < judgement.largest_error <= _TOLERANCE


def test_predicts_the_same_as_every_other_tensorflow(results):
    """The default output and all endpoints equal those that the TensorFlow of these tests computes."""
    for result in results:
        assert {f"default:{key}" for key in result.module.outputs} <= result.predictions.keys()
        for key, value in result.module.outputs.items():
            # The kernels of two TensorFlows round differently, which shows most in deep endpoints.
            tolerance = 2e-5 if key == "default" else 1e-4
            predicted = result.predictions[f"default:{key}"]
            assert len(value) >= 2
            np.testing.assert_allclose(predicted, value, rtol=0, atol=tolerance, err_msg=f"{result.module} {key}")


def test_facts_are_those_of_the_published_networks(results):
    """Numbers worked out by hand, which contracts derive from the network."""
    for result in results:
        if "hub.Module" in result.facts["apis"]:
            is_classification = result.module.spec.kind == "classification"
            assert result.facts["outputs"]["default"]["default"] == [None, 1001 if is_classification else 1280]
            assert len(result.facts["variables"]) == (262 if is_classification else 260)
            assert result.facts["tags"] == [[], ["train"]]
            assert result.facts["expected_image_size"] == list(result.module.images.shape[1:3])
            assert result.facts["changed_by_inference"] == result.facts["update_ops_of_inference"] == 0
        if result.is_trained:
            assert result.facts["gradients"] == (158 if is_classification else 156)
            assert result.facts["update_ops"] == [104, 104]
            assert result.facts["regularization_losses"] == (36 if is_classification else 35)
