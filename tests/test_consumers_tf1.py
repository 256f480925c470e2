"""TF1 Hub modules in every promised TensorFlow, as it really is: the same directories load, predict and fine-tune."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.consumers.judge import Promise
from hubexport.consumers.registry import CONSUMERS, why_not_applicable
from hubexport.consumers.use import AS_TF1, module_task, read_outputs
from tests.data import needs_data, reference_outputs
from tests.environments import cases, python_or_skip, run_consumer
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
# What each consumer with hub.Module fine-tunes and exports again, which takes most of the time; with the other modules
# it only predicts. Each module is trained by some consumer, each kind on TensorFlow 1 and on TensorFlow 2.
_TRAINED = {
    "tf1.7": "mobilenet_v2_050_96/classification/1",
    "tf1.7-hub0.2": "mobilenet_v2_050_96/classification/3",
    "tf1.13": "mobilenet_v2_050_96/feature_vector/3",
    "tf1.15": "mobilenet_v2_075_192/feature_vector/2",
    "tf2.4": "mobilenet_v2_050_96/classification/3",
    "tf2.10": "mobilenet_v2_050_96/classification/1",
    "tf2.15": "mobilenet_v2_050_96/feature_vector/3",
}
# Of two TensorFlows, whose kernels round differently, to the independent implementation.
_TOLERANCE = 5e-5


@dataclasses.dataclass(frozen=True)
class Module:
    """A module to look at, and what it should do."""

    variant: str
    spec: ModuleSpec
    path: Path
    images: np.ndarray
    promise: Promise
    # As the TensorFlow of these tests computes them: `default` of all images, endpoints of two.
    outputs: dict[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.variant}/{self.spec}"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one consumer saw of one module."""

    module: Module
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @property
    def is_trained(self) -> bool:
        """Whether it was fine-tuned."""
        return "losses" in self.facts


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> list[Module]:
    """The modules, built once from the values of which the reference outputs are known."""
    output_dir = tmp_path_factory.mktemp("modules")
    built = []
    for name, text in _MODULES:
        spec, variant = ModuleSpec.parse(text), load_variant(name)
        [path] = build_modules(variant, [spec], checkpoint="synthetic:1", output_dir=output_dir)
        known = reference_outputs(name)
        results = ["image_feature_vector"] + ["image_classification"] * (spec.kind == "classification")
        expected = {"default": known[results[-1]], **{result: known[result] for result in results}}
        promise = Promise(spec.version, variant.network_for(spec.kind), expected, _TOLERANCE)
        built.append(Module(name, spec, path, known["images"], promise, _outputs(path, known["images"])))
    return built


def _outputs(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    graph = read_saved_model((path / "saved_model.pb").read_bytes())[()]
    with imported(graph, checkpoint_values(path)) as here:
        outputs = here.run("default", images[:2])
        outputs["default"] = here.run("default", images)["default"]
    return outputs


@pytest.fixture(scope="module", params=cases(CONSUMERS))
def seen(request, modules, tmp_path_factory) -> list[Seen]:
    """Runs the consumer program once in one environment, over all modules that it should load."""
    consumer = request.param
    python = python_or_skip(consumer.environment)
    folder = tmp_path_factory.mktemp(consumer.name)
    chosen = [m for m in modules if not why_not_applicable(consumer, "TF1 Hub module", m.spec.version)]
    assert len(chosen) == (2 if consumer.tensorflow_hub == "0.1.0" else 4)
    tasks = []
    for number, module in enumerate(chosen):
        scratch = folder / str(number)
        scratch.mkdir()
        task = module_task(module.path, module.images, module.promise, scratch)
        # To try hub.load beside hub.Module takes seconds, too.
        is_trained = str(module) == _TRAINED.get(consumer.name)
        tasks.append({**task, "try_load": is_trained, "fine_tune": is_trained})
    found = run_consumer(python, AS_TF1.program, tasks, folder)
    assert (found["tensorflow"], found["tensorflow_hub"]) == (consumer.tensorflow, consumer.tensorflow_hub)
    assert all(("hub.Module" in facts["apis"]) == consumer.has_hub_module for facts in found["modules"])
    assert any("hub.load" in facts["apis"] for facts in found["modules"]) == consumer.name.startswith("tf2")
    assert sum("losses" in facts for facts in found["modules"]) == consumer.has_hub_module
    return [
        Seen(module, facts, read_outputs(Path(task["outputs"])))
        for module, facts, task in zip(chosen, found["modules"], tasks, strict=True)
    ]


def test_keeps_its_promises(seen):
    """All that a program of the time can ask of a module, and the outputs of an independent PyTorch implementation.

    A module that only predicts is judged like with hub.load: by its signatures and predictions.
    """
    for one in seen:
        facts = one.facts if one.is_trained else {**one.facts, "apis": ["hub.load"]}
        judgement = AS_TF1.judge(facts, one.predictions, one.module.promise)
        assert judgement.problems == (), one.module
        assert 0 < judgement.largest_error <= _TOLERANCE


def test_predicts_the_same_as_every_other_tensorflow(seen):
    """All signatures' defaults and all endpoints, against the graph as the TensorFlow of these tests runs it."""
    for one in seen:
        assert {f"default:{key}" for key in one.module.outputs} <= one.predictions.keys()
        for key, value in one.module.outputs.items():
            # The kernels of two TensorFlows round differently, which shows most in the deep layers in between.
            tolerance = 2e-5 if key == "default" else 1e-4
            found = one.predictions[f"default:{key}"]
            assert len(value) >= 2
            np.testing.assert_allclose(found, value, rtol=0, atol=tolerance, err_msg=f"{one.module} {key}")


def test_its_numbers_are_those_of_the_published_networks(seen):
    """By hand: what is derived from the network elsewhere."""
    for one in seen:
        if "hub.Module" in one.facts["apis"]:
            is_classification = one.module.spec.kind == "classification"
            assert one.facts["outputs"]["default"]["default"] == [None, 1001 if is_classification else 1280]
            assert len(one.facts["variables"]) == (262 if is_classification else 260)
            assert one.facts["tags"] == [[], ["train"]]
            assert one.facts["expected_image_size"] == list(one.module.images.shape[1:3])
            assert one.facts["changed_by_inference"] == one.facts["update_ops_of_inference"] == 0
        if one.is_trained:
            assert one.facts["gradients"] == (158 if is_classification else 156)
            assert one.facts["update_ops"] == [104, 104]
            assert one.facts["regularization_losses"] == (36 if is_classification else 35)
