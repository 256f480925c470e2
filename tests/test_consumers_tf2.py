"""Reusable SavedModels in every supported TensorFlow 2: the same directories load, predict and fine-tune."""

from collections.abc import Callable
import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules, load_variant
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.consumers.judge import ModuleContract
from hubexport.consumers.judge_tf2 import judge_tf2
from hubexport.consumers.registry import CONSUMERS, why_not_applicable
from hubexport.consumers.use_module import TF2_PROGRAM, prepare_task, read_outputs
from hubexport.networks.numpy_forward import Forward
from hubexport.variants import KINDS, Variant
from tests.data import expected_outputs, needs_data, photographs
from tests.environments import cases, python_or_skip, run_consumer
from tests.graphs import imported, read_saved_model

# The timeout leaves time to make an environment.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

# The variant of each family.
_VARIANTS = {
    "mobilenet_v2": "mobilenet_v2_050_96",
    "mobilenet_v1": "mobilenet_v1_025_128",
    "mobilenet_v3": "mobilenet_v3_small_075_224",
    "inception_v1": "inception_v1",
    "inception_v2": "inception_v2",
    "resnet_v2": "resnet_v2_50",
    "nasnet_mobile": "nasnet_mobile",
}
# Made smaller, since these layers are the same for images of any size.
_SMALL = {
    name: {"image_size": 64, "num_classes": 11}
    for name in ("resnet_v2_50", "inception_v1", "inception_v2", "nasnet_mobile")
}
# All consumers use the first two that a family has. The first is also fine-tuned.
_MODULES = ("feature_vector/5", "classification/4", "classification/5")
_USED_BY_ALL = 2
# What is tried at all times of other families; make prove tries all of them everywhere.
_OTHERS_TRIED_ALWAYS = ("mobilenet_v1", "tf2.21")
# The oldest and the newest consumer use all modules. A persistent tape takes half a minute per mode: these two use one
# in training mode and a plain tape in inference mode, the others the other way round.
_THOROUGH = ("tf2.4", "tf2.21")
_CONSUMERS = [consumer for consumer in CONSUMERS if not why_not_applicable(consumer, "TF2 SavedModel", 5)]
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
    # An endpoint in the middle, and its shape for an image.
    endpoint: tuple[str, list[int]]
    kinds: str = "beta depthwise_weights gamma moving_mean moving_variance weights"


_NUMBERS = {
    "mobilenet_v2": Numbers(1001, 1280, 260, 156, 104, 35, ("MobilenetV2/layer_18", [3, 3, 160])),
    "mobilenet_v1": Numbers(1001, 256, 135, 81, 54, 14, ("MobilenetV1/Conv2d_11_pointwise", [8, 8, 128])),
    "resnet_v2": Numbers(
        11,
        2048,
        270,
        172,
        98,
        53,
        ("resnet_v2_50/block2", [4, 4, 512]),
        "beta biases gamma moving_mean moving_variance weights",
    ),
    # A convolution, 11 blocks with 10 that widen and 9 with a gate of 2 biased convolutions, and two more, one biased.
    "mobilenet_v3": Numbers(
        1001,
        1024,
        208,
        140,
        68,
        42,
        ("MobilenetV3/layer_9", [14, 14, 40]),
        "beta biases depthwise_weights gamma moving_mean moving_variance weights",
    ),
    "inception_v1": Numbers(
        11, 1024, 228, 114, 114, 57, ("InceptionV1/Mixed_4b", [4, 4, 512]), "beta moving_mean moving_variance weights"
    ),
    # Its first layer, a separable convolution, has biases and no batch norm.
    "inception_v2": Numbers(
        11,
        1024,
        275,
        139,
        136,
        68,
        ("InceptionV2/Mixed_4b", [4, 4, 576]),
        "beta biases depthwise_weights moving_mean moving_variance pointwise_weights weights",
    ),
    # As TF-Slim's own graph has them: 36 convolutions, 160 separable ones with two kernels each, and 192 batch norms.
    "nasnet_mobile": Numbers(
        11,
        1056,
        1124,
        740,
        384,
        356,
        ("Cell_5", [4, 4, 528]),
        "beta depthwise_weights gamma moving_mean moving_variance pointwise_weights weights",
    ),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """What one consumer recorded of one module."""

    family: str
    spec: ModuleSpec
    contract: ModuleContract
    facts: dict[str, Any]
    predictions: dict[str, np.ndarray]

    @property
    def is_classification(self) -> bool:
        """Whether the module computes logits."""
        return self.spec.kind == "classification"


@dataclasses.dataclass(frozen=True)
class Built:
    """A family's modules, with images and what the modules compute for them."""

    variant: Variant
    paths: dict[str, Path]
    values: dict[str, np.ndarray]
    images: np.ndarray
    expected: dict[str, np.ndarray]
    # All outputs by kind: those of a twin in the TF1 Hub format in the TensorFlow of these tests, or NumPy's.
    outputs: dict[str, dict[str, np.ndarray]]

    def contract(self, spec: ModuleSpec) -> ModuleContract:
        """Returns the contract of one of the modules."""
        expected = {"default": self.expected[f"image_{spec.kind}"]}
        network = self.variant.network_for(spec.kind, spec.version)
        return ModuleContract(spec.version, network, self.images, self.values, expected, _TOLERANCE)


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Callable[[str], Built]:
    """Builds the modules of a family from made-up values."""
    return functools.cache(lambda family: _build(family, tmp_path_factory.mktemp(family)))


def _build(family: str, folder: Path) -> Built:
    name = _VARIANTS[family]
    variant = load_variant(name).model_copy(update=_SMALL.get(name, {}))
    network = variant.network_for("classification")
    has_twin = 3 in variant.family.versions
    specs = [*_used(family), *([ModuleSpec.parse("classification/3")] if has_twin else [])]
    built = build_modules(variant, specs, checkpoint="synthetic:1", output_dir=folder)
    paths = {str(spec): path for spec, path in zip(specs, built, strict=True)}
    values = {variable.name: synthetic_value(variable, seed=1) for variable in network.variables}
    images, expected = expected_outputs(variant, network, values)
    if has_twin:
        graph = read_saved_model((paths["classification/3"] / "saved_model.pb").read_bytes())[()]
        with imported(graph, values) as tf1:
            outputs = {kind: tf1.run(f"image_{kind}", images) for kind in KINDS}
    else:
        computed = Forward(network, values, images).run()
        endpoints = {key: computed[op] for key, op in network.endpoints.items()}
        outputs = {kind: {**endpoints, "default": expected[f"image_{kind}"]} for kind in KINDS}
    return Built(variant, paths, values, images, expected, outputs)


def _used(family: str) -> list[ModuleSpec]:
    """Returns the modules that the family has of those to use."""
    specs = map(ModuleSpec.parse, _MODULES)
    return [spec for spec in specs if spec.version in load_variant(_VARIANTS[family]).family.versions]


def _cases():
    """Returns each family with each consumer."""
    for family in _VARIANTS:
        for consumer in _CONSUMERS:
            if family == "mobilenet_v2":
                [marked] = cases([consumer])
                yield pytest.param((family, consumer), id=consumer.name, marks=marked.marks)
            else:
                marks = [] if (family, consumer.name) == _OTHERS_TRIED_ALWAYS else [pytest.mark.prove]
                yield pytest.param((family, consumer), id=f"{family}-{consumer.name}", marks=marks)


@pytest.fixture(scope="module", params=_cases())
def results(request, modules, tmp_path_factory) -> list[Result]:
    """Runs the consumer program once in one environment, with all modules of a family that it is to use."""
    family, consumer = request.param
    python = python_or_skip(consumer.environment)
    folder = tmp_path_factory.mktemp(consumer.name)
    built = modules(family)
    is_thorough = family == "mobilenet_v2" and consumer.name in _THOROUGH
    specs = _used(family)[: None if is_thorough else _USED_BY_ALL]
    pictures, _ = photographs(built.variant.image_size)
    tasks, contracts = [], []
    for number, spec in enumerate(specs):
        scratch = folder / str(number)
        scratch.mkdir()
        contracts.append(built.contract(spec))
        task = prepare_task(built.paths[str(spec)], contracts[-1], scratch)
        inputs = read_outputs(Path(task["inputs"]))
        np.savez(task["inputs"], **{**inputs, "photographs": pictures, "labels": np.arange(len(pictures))})
        persistent = [is_thorough] if family == "mobilenet_v2" else []
        tasks.append({**task, "fine_tune": number == 0, "persistent": persistent})
    recorded = run_consumer(python, TF2_PROGRAM, tasks, folder)
    assert (recorded["tensorflow"], recorded["tensorflow_hub"]) == (consumer.tensorflow, consumer.tensorflow_hub)
    return [
        Result(family, spec, contract, facts, read_outputs(Path(task["outputs"])))
        for spec, contract, facts, task in zip(specs, contracts, recorded["modules"], tasks, strict=True)
    ]


def test_modules_keep_their_contracts(results):
    """With expected outputs that an independent PyTorch implementation computed, or else NumPy in float64."""
    for result in results:
        judgement = judge_tf2(result.facts, result.predictions, result.contract)
        assert judgement.problems == (), result.spec
        assert 0 < judgement.largest_error <= _TOLERANCE
    assert results[0].facts["apis"] == ["hub.load", "hub.KerasLayer"]
    assert results[0].facts["keras_output_shape"] == [None, 8]


def test_endpoints_are_those_of_the_tf1_module(results, modules):
    """Names and values; the TensorFlow of these tests runs the TF1 module, or NumPy if there is none."""
    for result in results:
        expected = modules(result.family).outputs[result.spec.kind]
        default, wanted = result.predictions["default"], expected["default"]
        np.testing.assert_allclose(default, wanted, rtol=0, atol=2e-5 * max(1, np.abs(wanted).max()))
        prefix = "endpoint:"
        endpoints = {key.removeprefix(prefix): v for key, v in result.predictions.items() if key.startswith(prefix)}
        of_classifier = set(expected) - set(result.contract.output_ops())
        assert set(expected) - set(endpoints) == of_classifier
        assert bool(of_classifier) != result.is_classification
        for key, value in endpoints.items():
            # The kernels of two TensorFlows round differently, which shows most in deep endpoints.
            tolerance = (2e-5 if key == "default" else 1e-4) * max(1, np.abs(value).max())
            np.testing.assert_allclose(value, expected[key][: len(value)], rtol=0, atol=tolerance, err_msg=key)


def test_facts_are_those_of_the_published_networks(results):
    """Numbers worked out by hand, which contracts derive from the network."""
    numbers = _NUMBERS[results[0].family]
    key, shape = numbers.endpoint
    for result in results:
        size, more = result.contract.network.image_shape, 2 * result.is_classification
        assert len(result.facts["variables"]) == numbers.variables + more
        assert not any("/moving_" in name for name in result.facts["trainable_variables"])
        output = {"logits": [None, numbers.classes]} if more else {"feature_vector": [None, numbers.features]}
        signature = {"inputs": {"images": [None, *size]}, "outputs": output}
        assert result.facts["signatures"] == ({"serving_default": signature} if result.spec.version >= 5 else {})
        assert result.facts["regularization_losses"] == numbers.losses + result.is_classification
        assert [len(names) for names in result.facts["changed_by_updates"]] == [numbers.averages] * 3
        assert result.facts["gradients_in_inference"] == result.facts["gradients_in_training"]
        assert result.facts["gradients_in_training"] == numbers.trainable + more
        assert list(result.predictions[f"endpoint:{key}"].shape[1:]) == shape
        takes_any_size = result.family not in ("mobilenet_v2", "mobilenet_v3", "nasnet_mobile")
        assert (size[0] is None) == ("other_size:default" in result.predictions) == takes_any_size
    facts = results[0].facts
    assert sorted({name.rpartition("/")[2] for name in facts["keras_moved"]}) == numbers.kinds.split()
    assert facts["keras_shapes"][key] in ([None, *shape], [None, None, None, shape[-1]])
    assert facts["replicas"] == 2
    repeated = [value for name, value in facts.items() if name.startswith("gradients_repeat_")]
    assert repeated == ([True] if results[0].family == "mobilenet_v2" else [])
