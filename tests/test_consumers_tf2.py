"""Reusable SavedModels in every supported TensorFlow 2: the same directories load, predict and fine-tune."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.consumers.judge import ModuleContract
from hubexport.consumers.judge_tf2 import judge_tf2
from hubexport.consumers.registry import CONSUMERS, why_not_applicable
from hubexport.consumers.use_module import TF2_PROGRAM, prepare_task, read_outputs
from hubexport.variants import KINDS
from tests.data import needs_data, photographs, reference_outputs
from tests.environments import cases, python_or_skip, run_consumer
from tests.graphs import checkpoint_values, imported, read_saved_model

# The timeout leaves time to make an environment.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

_VARIANT = "mobilenet_v2_050_96"
_SIZE = 96
# All consumers use the first two. The first is also fine-tuned.
_MODULES = ("feature_vector/5", "classification/4", "classification/5")
_USED_BY_ALL = 2
# The oldest and the newest consumer use all modules. A persistent tape takes half a minute per mode: these two use one
# in training mode and a plain tape in inference mode, the others the other way round.
_THOROUGH = ("tf2.4", "tf2.21")
_CONSUMERS = [consumer for consumer in CONSUMERS if not why_not_applicable(consumer, "TF2 SavedModel", 5)]
# Between any TensorFlow and the independent implementation: their kernels round differently.
_TOLERANCE = 5e-5


@dataclasses.dataclass(frozen=True)
class Result:
    """What one consumer recorded of one module."""

    spec: ModuleSpec
    contract: ModuleContract
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @property
    def is_classification(self) -> bool:
        """Whether the module computes logits."""
        return self.spec.kind == "classification"


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """The modules and a twin in the TF1 Hub format, built from the values whose reference outputs are known."""
    specs = [ModuleSpec.parse(text) for text in (*_MODULES, "classification/3")]
    folder = tmp_path_factory.mktemp("modules")
    paths = build_modules(load_variant(_VARIANT), specs, checkpoint="synthetic:1", output_dir=folder)
    return {str(spec): path for spec, path in zip(specs, paths, strict=True)}


@pytest.fixture(scope="module")
def outputs_of_tf1(modules) -> dict[str, dict[str, np.ndarray]]:
    """All outputs of the twin, by kind, computed by the TensorFlow of these tests."""
    graph = read_saved_model((modules["classification/3"] / "saved_model.pb").read_bytes())[()]
    images = reference_outputs(_VARIANT)["images"]
    with imported(graph, checkpoint_values(modules["classification/3"])) as tf1:
        return {kind: tf1.run(f"image_{kind}", images) for kind in KINDS}


def _contract(spec: ModuleSpec) -> ModuleContract:
    expected = {"default": reference_outputs(_VARIANT)[f"image_{spec.kind}"]}
    return ModuleContract(spec.version, load_variant(_VARIANT).network_for(spec.kind), expected, _TOLERANCE)


@pytest.fixture(scope="module", params=cases(_CONSUMERS))
def results(request, modules, tmp_path_factory) -> list[Result]:
    """Runs the consumer program once in one environment, with all modules that it is to use."""
    consumer = request.param
    python = python_or_skip(consumer.environment)
    folder = tmp_path_factory.mktemp(consumer.name)
    is_thorough = consumer.name in _THOROUGH
    names = _MODULES if is_thorough else _MODULES[:_USED_BY_ALL]
    pictures, _ = photographs(_SIZE)
    images = reference_outputs(_VARIANT)["images"]
    tasks, contracts = [], []
    for number, name in enumerate(names):
        scratch = folder / str(number)
        scratch.mkdir()
        contracts.append(_contract(ModuleSpec.parse(name)))
        task = prepare_task(modules[name], images, contracts[-1], scratch)
        np.savez(task["inputs"], images=images, photographs=pictures, labels=np.arange(len(pictures)))
        tasks.append({**task, "fine_tune": number == 0, "persistent": [is_thorough]})
    recorded = run_consumer(python, TF2_PROGRAM, tasks, folder)
    assert (recorded["tensorflow"], recorded["tensorflow_hub"]) == (consumer.tensorflow, consumer.tensorflow_hub)
    return [
        Result(ModuleSpec.parse(name), contract, facts, read_outputs(Path(task["outputs"])))
        for name, contract, facts, task in zip(names, contracts, recorded["modules"], tasks, strict=True)
    ]


def test_modules_keep_their_contracts(results):
    """With expected outputs that an independent PyTorch implementation computed."""
    for result in results:
        judgement = judge_tf2(result.facts, result.predictions, result.contract)
        assert judgement.problems == (), result.spec
        assert 0 < judgement.largest_error <= _TOLERANCE
    assert results[0].facts["apis"] == ["hub.load", "hub.KerasLayer"]
    assert results[0].facts["keras_output_shape"] == [None, 8]


def test_endpoints_are_those_of_the_tf1_module(results, outputs_of_tf1):
    """Names and values; the TensorFlow of these tests runs the TF1 module."""
    for result in results:
        expected = outputs_of_tf1[result.spec.kind]
        np.testing.assert_allclose(result.predictions["default"], expected["default"], rtol=0, atol=2e-5)
        prefix = "endpoint:"
        endpoints = {key.removeprefix(prefix): v for key, v in result.predictions.items() if key.startswith(prefix)}
        classifier = set() if result.is_classification else {"MobilenetV2/Logits", "MobilenetV2/Predictions"}
        assert set(expected) - set(endpoints) == classifier
        for key, value in endpoints.items():
            # The kernels of two TensorFlows round differently, which shows most in deep endpoints.
            tolerance = 2e-5 if key == "default" else 1e-4
            np.testing.assert_allclose(value, expected[key][: len(value)], rtol=0, atol=tolerance, err_msg=key)
            assert result.facts["static_shapes"][key] == [None, *value.shape[1:]]


def test_facts_are_those_of_the_published_networks(results):
    """Numbers worked out by hand, which contracts derive from the network."""
    for result in results:
        assert len(result.facts["variables"]) == (262 if result.is_classification else 260)
        assert not any("/moving_" in name for name in result.facts["trainable_variables"])
        output = {"logits": [None, 1001]} if result.is_classification else {"feature_vector": [None, 1280]}
        signature = {"inputs": {"images": [None, _SIZE, _SIZE, 3]}, "outputs": output}
        assert result.facts["signatures"] == ({"serving_default": signature} if result.spec.version >= 5 else {})
        assert result.facts["regularization_losses"] == (36 if result.is_classification else 35)
        assert result.facts["changed_by_training"]["count"] == len(result.facts["errors_of_moving_averages"]) == 104
        assert result.facts["gradients_in_inference"] == result.facts["gradients_in_training"]
        assert result.facts["gradients_in_training"] == (158 if result.is_classification else 156)
    kinds = ["beta", "depthwise_weights", "gamma", "moving_mean", "moving_variance", "weights"]
    assert results[0].facts["keras_moved"] == kinds
    assert results[0].facts["keras_endpoint_shape"] == [None, 3, 3, 160]
    assert results[0].facts["replicas"] == 2
    repeated = [value for name, value in results[0].facts.items() if name.startswith("gradients_repeat_")]
    assert repeated == [True]
