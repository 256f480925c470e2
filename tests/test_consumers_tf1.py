"""TF1 Hub modules in every supported TensorFlow: the same directories load, predict and fine-tune."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.consumers.judge import ModuleContract
from hubexport.consumers.judge_tf1 import judge_tf1
from hubexport.consumers.registry import CONSUMERS, Consumer, why_not_applicable
from hubexport.consumers.use_module import TF1_PROGRAM, prepare_task, read_outputs
from tests.data import expected_outputs, needs_data
from tests.environments import cases, python_or_skip, run_consumer
from tests.graphs import checkpoint_values, imported, read_saved_model

# The timeout leaves time to make an environment.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

# Of each family the modules to use. Of MobileNet V2 these are the two seed modules, and version 3 of both kinds.
_MODULES = {
    "mobilenet_v2": [
        ("mobilenet_v2_075_192", "feature_vector/2"),
        ("mobilenet_v2_050_96", "classification/1"),
        ("mobilenet_v2_050_96", "classification/3"),
        ("mobilenet_v2_050_96", "feature_vector/3"),
    ],
    "mobilenet_v1": [("mobilenet_v1_025_128", "feature_vector/1"), ("mobilenet_v1_025_128", "classification/3")],
    "resnet_v2": [("resnet_v2_50", "feature_vector/1"), ("resnet_v2_50", "classification/3")],
    "inception_v1": [("inception_v1", "feature_vector/1"), ("inception_v1", "classification/3")],
    "inception_v2": [("inception_v2", "feature_vector/1"), ("inception_v2", "classification/3")],
    "nasnet_mobile": [("nasnet_mobile", "feature_vector/1"), ("nasnet_mobile", "classification/3")],
}
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
# Which of a new family's modules these consumers train; the others train the second.
_TRAIN_FIRST = ("tf1.7", "tf1.13", "tf2.10")
# What is tried at all times of other families; make prove tries all of them everywhere.
_OTHERS_TRIED_ALWAYS = ("mobilenet_v1", "tf1.15")
# Made smaller, since these layers are the same for images of any size.
_SMALL = {
    name: {"image_size": 64, "num_classes": 11}
    for name in ("resnet_v2_50", "inception_v1", "inception_v2", "nasnet_mobile")
}
# Between any TensorFlow and the independent implementation: their kernels round differently.
_TOLERANCE = 5e-5


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What the modules of a family have, worked out by hand; a classifier adds two variables and one loss."""

    classes: int
    features: int
    variables: int
    trainable: int
    averages: int
    losses: int


_NUMBERS = {
    "mobilenet_v2": Numbers(classes=1001, features=1280, variables=260, trainable=156, averages=104, losses=35),
    "mobilenet_v1": Numbers(classes=1001, features=256, variables=135, trainable=81, averages=54, losses=14),
    # The first convolution, 3 in each of 16 bottlenecks and 4 shortcuts have kernels, 1 + 16 + 4 of them biases; there
    # are 3 batch norms in each bottleneck, and a last one.
    "resnet_v2": Numbers(classes=11, features=2048, variables=270, trainable=172, averages=98, losses=53),
    # 3 convolutions, and 6 in each of 9 blocks, have a kernel and the three of a batch norm without gamma.
    "inception_v1": Numbers(classes=11, features=1024, variables=228, trainable=114, averages=114, losses=57),
    # 3 convolutions, 7 in each of 8 blocks and 5 in each of 2; the first has a depthwise kernel, too, and no decay.
    "inception_v2": Numbers(classes=11, features=1024, variables=275, trainable=139, averages=136, losses=68),
    # As TF-Slim's own graph has them: 36 convolutions, 160 separable ones with two kernels each, and 192 batch norms.
    "nasnet_mobile": Numbers(classes=11, features=1056, variables=1124, trainable=740, averages=384, losses=356),
}


@dataclasses.dataclass(frozen=True)
class Module:
    """A module to use, and its contract."""

    variant: str
    spec: ModuleSpec
    path: Path
    contract: ModuleContract
    # Computed by the TensorFlow that runs the tests: `default` for all images, endpoints for two.
    outputs: dict[str, np.ndarray]

    def __str__(self) -> str:
        return f"{self.variant}/{self.spec}"


@dataclasses.dataclass(frozen=True)
class Result:
    """What one consumer recorded of one module."""

    family: str
    module: Module
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @property
    def is_trained(self) -> bool:
        """Whether the consumer fine-tuned the module."""
        return "losses" in self.facts


def _cases():
    """Returns each family with each consumer."""
    for family in _MODULES:
        for consumer in CONSUMERS:
            if family == "mobilenet_v2":
                [marked] = cases([consumer])
                yield pytest.param((family, consumer), id=consumer.name, marks=marked.marks)
            else:
                marks = [] if (family, consumer.name) == _OTHERS_TRIED_ALWAYS else [pytest.mark.prove]
                yield pytest.param((family, consumer), id=f"{family}-{consumer.name}", marks=marks)


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Callable[[str], list[Module]]:
    """Builds the modules of a family."""
    return functools.cache(lambda family: list(_build(family, tmp_path_factory.mktemp(family))))


def _build(family: str, output_dir: Path) -> Iterator[Module]:
    for name, text in _MODULES[family]:
        spec, variant = ModuleSpec.parse(text), load_variant(name).model_copy(update=_SMALL.get(name, {}))
        [path] = build_modules(variant, [spec], checkpoint="synthetic:1", output_dir=output_dir)
        network, values = variant.network_for(spec.kind, spec.version), checkpoint_values(path)
        images, expected = expected_outputs(variant, network, values)
        if spec.kind == "feature_vector":
            expected.pop("image_classification", None)
        expected["default"] = expected[f"image_{spec.kind}"]
        contract = ModuleContract(spec.version, network, images, values, expected, _TOLERANCE)
        yield Module(name, spec, path, contract, _outputs(path, images))


def _outputs(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    graph = read_saved_model((path / "saved_model.pb").read_bytes())[()]
    with imported(graph, checkpoint_values(path)) as here:
        outputs = here.run("default", images[:2])
        outputs["default"] = here.run("default", images)["default"]
    return outputs


def _trained(family: str, consumer: Consumer, chosen: list[Module]) -> str:
    if family == "mobilenet_v2":
        return _TRAINED.get(consumer.name, "")
    return str(chosen[0 if consumer.name in _TRAIN_FIRST else -1])


@pytest.fixture(scope="module", params=_cases())
def results(request, modules, tmp_path_factory) -> list[Result]:
    """Runs the consumer program once in one environment, with all modules of a family that it can load."""
    family, consumer = request.param
    python = python_or_skip(consumer.environment)
    folder = tmp_path_factory.mktemp(consumer.name)
    known = modules(family)
    chosen = [m for m in known if not why_not_applicable(consumer, "TF1 Hub module", m.spec.version)]
    assert len(chosen) == (len(known) // 2 if consumer.tensorflow_hub == "0.1.0" else len(known))
    tasks = []
    for number, module in enumerate(chosen):
        scratch = folder / str(number)
        scratch.mkdir()
        task = prepare_task(module.path, module.contract, scratch)
        # Trying hub.load after hub.Module takes seconds, so it is left out where nothing is trained.
        is_trained = consumer.has_hub_module and str(module) == _trained(family, consumer, chosen)
        tasks.append({**task, "try_load": is_trained, "fine_tune": is_trained})
    recorded = run_consumer(python, TF1_PROGRAM, tasks, folder)
    assert (recorded["tensorflow"], recorded["tensorflow_hub"]) == (consumer.tensorflow, consumer.tensorflow_hub)
    assert all(("hub.Module" in facts["apis"]) == consumer.has_hub_module for facts in recorded["modules"])
    assert any("hub.load" in facts["apis"] for facts in recorded["modules"]) == consumer.name.startswith("tf2")
    assert sum("losses" in facts for facts in recorded["modules"]) == consumer.has_hub_module
    return [
        Result(family, module, facts, read_outputs(Path(task["outputs"])))
        for module, facts, task in zip(chosen, recorded["modules"], tasks, strict=True)
    ]


def test_modules_keep_their_contracts(results):
    """With expected outputs that an independent PyTorch implementation computed, or else NumPy in float64.

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
            tolerance *= max(1, np.abs(value).max())
            np.testing.assert_allclose(predicted, value, rtol=0, atol=tolerance, err_msg=f"{result.module} {key}")


def test_facts_are_those_of_the_published_networks(results):
    """Numbers worked out by hand, which contracts derive from the network."""
    for result in results:
        numbers = _NUMBERS[result.family]
        is_classification = result.module.spec.kind == "classification"
        if "hub.Module" in result.facts["apis"]:
            outputs = numbers.classes if is_classification else numbers.features
            assert result.facts["outputs"]["default"]["default"] == [None, outputs]
            assert len(result.facts["variables"]) == numbers.variables + 2 * is_classification
            assert result.facts["tags"] == [[], ["train"]]
            assert result.facts["expected_image_size"] == list(result.module.contract.images.shape[1:3])
            assert result.facts["changed_by_inference"] == result.facts["update_ops_of_inference"] == 0
            takes_any_size = result.module.spec.version == 3 and result.family not in ("mobilenet_v2", "nasnet_mobile")
            assert (result.facts["inputs"]["default"]["images"][1] is None) == takes_any_size
            assert ("other_size:default" in result.predictions) == takes_any_size
        if result.is_trained:
            assert result.facts["gradients"] == numbers.trainable + 2 * is_classification
            assert set(result.facts["update_ops"]) == {numbers.averages}
            assert result.facts["regularization_losses"] == numbers.losses + is_classification
