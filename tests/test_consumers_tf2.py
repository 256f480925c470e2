"""Reusable SavedModels in every promised TensorFlow 2, as it really is: the same directories load and fine-tune."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.consumers.judge import Promise
from hubexport.consumers.registry import CONSUMERS, why_not_applicable
from hubexport.consumers.use import AS_TF2, module_task, read_outputs
from hubexport.variants import KINDS
from tests.data import needs_data, photographs, reference_outputs
from tests.environments import cases, python_or_skip, run_consumer
from tests.graphs import checkpoint_values, imported, read_saved_model

# An environment may have to be made first.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

_VARIANT = "mobilenet_v2_050_96"
_SIZE = 96
# The first is fine-tuned as well; that and one of version 4 is what all consumers see.
_MODULES = ("feature_vector/5", "classification/4", "classification/5")
_SEEN_BY_ALL = 2
# The oldest and the newest consumer see all of them. A persistent tape takes half a minute a mode: these two train
# under one, the others infer under one, and all train under a tape that is not persistent.
_THOROUGH = ("tf2.4", "tf2.21")
_CONSUMERS = [consumer for consumer in CONSUMERS if not why_not_applicable(consumer, "TF2 SavedModel", 5)]
# Of two TensorFlows, whose kernels round differently, to the independent implementation.
_TOLERANCE = 5e-5


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one consumer saw of one module."""

    spec: ModuleSpec
    promise: Promise
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


@pytest.fixture(scope="module")
def outputs_of_tf1(modules) -> dict[str, dict[str, np.ndarray]]:
    """All outputs of the twin by kind, as the TensorFlow of these tests computes them."""
    graph = read_saved_model((modules["classification/3"] / "saved_model.pb").read_bytes())[()]
    images = reference_outputs(_VARIANT)["images"]
    with imported(graph, checkpoint_values(modules["classification/3"])) as tf1:
        return {kind: tf1.run(f"image_{kind}", images) for kind in KINDS}


def _promise(spec: ModuleSpec) -> Promise:
    expected = {"default": reference_outputs(_VARIANT)[f"image_{spec.kind}"]}
    return Promise(spec.version, load_variant(_VARIANT).network_for(spec.kind), expected, _TOLERANCE)


@pytest.fixture(scope="module", params=cases(_CONSUMERS))
def seen(request, modules, tmp_path_factory) -> list[Seen]:
    """Runs the consumer program once in one environment, over all modules that it should see."""
    consumer = request.param
    python = python_or_skip(consumer.environment)
    folder = tmp_path_factory.mktemp(consumer.name)
    is_thorough = consumer.name in _THOROUGH
    names = _MODULES if is_thorough else _MODULES[:_SEEN_BY_ALL]
    pictures, _ = photographs(_SIZE)
    images = reference_outputs(_VARIANT)["images"]
    tasks, promises = [], []
    for number, name in enumerate(names):
        scratch = folder / str(number)
        scratch.mkdir()
        promises.append(_promise(ModuleSpec.parse(name)))
        task = module_task(modules[name], images, promises[-1], scratch)
        np.savez(task["inputs"], images=images, photographs=pictures, labels=np.arange(len(pictures)))
        tasks.append({**task, "fine_tune": number == 0, "persistent": [is_thorough]})
    found = run_consumer(python, AS_TF2.program, tasks, folder)
    assert (found["tensorflow"], found["tensorflow_hub"]) == (consumer.tensorflow, consumer.tensorflow_hub)
    return [
        Seen(ModuleSpec.parse(name), promise, facts, read_outputs(Path(task["outputs"])))
        for name, promise, facts, task in zip(names, promises, found["modules"], tasks, strict=True)
    ]


def test_keeps_its_promises(seen):
    """All that a program of the time can ask of a module, and the outputs of an independent PyTorch implementation."""
    for one in seen:
        judgement = AS_TF2.judge(one.facts, one.predictions, one.promise)
        assert judgement.problems == (), one.spec
        assert 0 < judgement.largest_error <= _TOLERANCE
    assert seen[0].facts["apis"] == ["hub.load", "hub.KerasLayer"]
    assert seen[0].facts["keras_output_shape"] == [None, 8]


def test_endpoints_are_those_of_the_tf1_module(seen, outputs_of_tf1):
    """Every key, with the values that the TF1 graph has on the TensorFlow of these tests."""
    for one in seen:
        wanted = outputs_of_tf1[one.spec.kind]
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


def test_its_numbers_are_those_of_the_published_networks(seen):
    """By hand: what is derived from the network elsewhere."""
    for one in seen:
        assert len(one.facts["variables"]) == (262 if one.is_classification else 260)
        assert not any("/moving_" in name for name in one.facts["trainable_variables"])
        output = {"logits": [None, 1001]} if one.is_classification else {"feature_vector": [None, 1280]}
        signature = {"inputs": {"images": [None, _SIZE, _SIZE, 3]}, "outputs": output}
        assert one.facts["signatures"] == ({"serving_default": signature} if one.spec.version >= 5 else {})
        assert one.facts["regularization_losses"] == (36 if one.is_classification else 35)
        assert one.facts["changed_by_training"]["count"] == len(one.facts["errors_of_moving_averages"]) == 104
        assert one.facts["gradients_in_inference"] == one.facts["gradients_in_training"]
        assert one.facts["gradients_in_training"] == (158 if one.is_classification else 156)
    kinds = ["beta", "depthwise_weights", "gamma", "moving_mean", "moving_variance", "weights"]
    assert seen[0].facts["keras_moved"] == kinds
    assert seen[0].facts["keras_endpoint_shape"] == [None, 3, 3, 160]
    assert seen[0].facts["replicas"] == 2
    repeated = [value for name, value in seen[0].facts.items() if name.startswith("gradients_repeat_")]
    assert repeated == [True]
