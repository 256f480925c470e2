"""Both formats compute what TF-Slim computes; `hubexport.reference` builds its networks without our networks' ops.

`shared/data/networks/reference` holds what TF-Slim computed at other sizes; see `test_network_references.py`.
"""

from collections.abc import Iterator
import dataclasses
import functools
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.formats.tf1_hub import saved_model_bytes
from hubexport.formats.tf2_saved_model import write_tf2_module
from hubexport.networks.network import Network
from hubexport.networks.ops import BatchNorm, Dropout, DropPath
from hubexport.networks.registry import FAMILIES
from hubexport.reference.registry import REFERENCES
from hubexport.variants import ModuleSpec
from tests.graphs import imported, load_values, read_saved_model, variable_values

# Two float32 implementations of the same ops, as a share of the largest value; in MobileNet V2, that is about 6.
_TOLERANCE = 2e-6
# Where TF-Slim has the convolution of a single pixel, which rounds more than our matrix product does.
_TOLERANCE_OF_LOGITS = 4e-6
# Of what a batch adds to a moving average: in float32, 1 - 0.9997 is 3.3e-5 of itself too small.
_MOMENTUM_TOLERANCE = 4e-5


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and the size of the images that it is compared at."""

    family: str
    depth_multiplier: float | None
    size: tuple[int, int]
    num_classes: int

    def __str__(self) -> str:
        parts = (self.family, self.depth_multiplier, "x".join(map(str, self.size)), self.num_classes)
        return "-".join(str(part) for part in parts if part is not None)

    @property
    def parameters(self):
        """Those of the family."""
        family = FAMILIES[self.family]
        values = {} if self.depth_multiplier is None else {"depth_multiplier": self.depth_multiplier}
        return family.parameters(**values)

    @property
    def spec(self):
        """The family's first version, or for families with images of any size, the first version with them."""
        family = FAMILIES[self.family]
        return ModuleSpec(kind="classification", version=family.open_from_version or family.versions[0])

    def network(self) -> Network:
        """The network without dropout and dropped paths, whose random numbers differ."""
        network = FAMILIES[self.family].network(self.parameters, self.size[0], self.num_classes, self.spec.version)
        kept = (
            dataclasses.replace(op, keep_prob=1.0) if isinstance(op, (Dropout, DropPath)) else op for op in network.ops
        )
        return dataclasses.replace(network, ops=tuple(kept))


# Where a family takes images of any size, they are not square, and their sides are no multiples of 32.
_CASES = [
    Case("mobilenet_v2", 0.35, (96, 96), 1001),
    *(
        pytest.param(case, marks=pytest.mark.slow)
        for case in [
            Case("mobilenet_v1", 0.25, (97, 66), 17),
            Case("inception_v1", None, (97, 66), 17),
            Case("resnet_v2_50", None, (97, 66), 17),
        ]
    ),
    *(
        pytest.param(case, marks=[pytest.mark.prove, pytest.mark.timeout(1800)])
        for case in [
            Case("mobilenet_v1", 0.5, (130, 224), 1001),
            Case("mobilenet_v1", 0.75, (64, 96), 17),
            Case("mobilenet_v1", 1.0, (101, 75), 5),
            Case("mobilenet_v2", 0.35, (224, 224), 1001),
            Case("mobilenet_v2", 0.5, (160, 160), 17),
            Case("mobilenet_v2", 0.75, (128, 128), 1001),
            Case("mobilenet_v2", 1.0, (96, 96), 1001),
            Case("mobilenet_v2", 1.3, (64, 64), 1001),
            Case("mobilenet_v2", 1.4, (96, 96), 1001),
            Case("mobilenet_v3_small", 0.75, (96, 96), 17),
            Case("inception_v2", None, (66, 97), 17),
            Case("resnet_v1_50", None, (97, 66), 17),
            Case("mobilenet_v3_small", 1.0, (64, 64), 1001),
            Case("mobilenet_v3_large", 0.75, (96, 96), 17),
            Case("mobilenet_v3_large", 1.0, (128, 128), 5),
            Case("mobilenet_v3_small_minimalistic", 1.0, (96, 96), 17),
            Case("mobilenet_v3_large_minimalistic", 1.0, (96, 96), 17),
            Case("mobilenet_edgetpu", 0.75, (96, 96), 17),
            Case("mobilenet_edgetpu", 1.0, (64, 64), 1001),
            Case("inception_v3", None, (131, 98), 17),
            Case("inception_v4", None, (131, 98), 17),
            Case("inception_resnet_v2", None, (131, 98), 17),
            Case("resnet_v1_101", None, (64, 80), 1001),
            Case("resnet_v1_152", None, (75, 101), 17),
            Case("resnet_v1_50_caffe", None, (97, 66), 17),
            Case("resnet_v1_101_caffe", None, (64, 80), 1000),
            Case("resnet_v1_152_caffe", None, (75, 101), 17),
            Case("resnet_v2_101", None, (64, 80), 1001),
            Case("resnet_v2_152", None, (75, 101), 17),
            Case("vgg_16", None, (224, 224), 17),
            Case("vgg_19", None, (224, 224), 17),
            Case("nasnet_mobile", None, (64, 64), 17),
            Case("nasnet_large", None, (35, 35), 17),
            Case("pnasnet_mobile", None, (65, 65), 17),
            Case("pnasnet_large", None, (35, 35), 17),
        ]
    ),
]


def _cases() -> Iterator[tuple[Case, Any]]:
    """Returns each case with its marks."""
    for case in _CASES:
        yield (case, ()) if isinstance(case, Case) else (case.values[0], case.marks)


def test_every_family_is_compared():
    """Or TF-Slim would say nothing of it."""
    cases = [case for case, _ in _cases()]
    assert {case.family for case in cases} == set(FAMILIES)
    opened = {case.family for case in cases if case.size[0] != case.size[1]}
    assert opened == {name for name, family in FAMILIES.items() if family.open_from_version}
    # The others are the same network with more layers.
    other_classes = {case.family for case in cases if case.num_classes not in (1000, 1001)}
    assert set(FAMILIES) - other_classes == {"resnet_v1_101", "resnet_v1_101_caffe", "resnet_v2_101"}


@functools.lru_cache(maxsize=1)  # Both formats are compared with it, one after the other.
def _reference(case, training):
    """Runs TF-Slim's graph, and returns its variables, losses, outputs, and the values after its update ops."""
    values, images = _inputs(case)
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        built = REFERENCES[case.family](
            placeholder, case.parameters, case.num_classes, is_training=training, dropout=False
        )
        facts = {
            "variables": [(v.op.name, tuple(v.shape)) for v in tf.global_variables()],
            "trainable": [v.op.name for v in tf.trainable_variables()],
            "updates": len(built.update_ops),
        }
        load_values(session, values)
        feed = {placeholder: images}
        facts["losses"] = session.run(built.regularization_losses)
        outputs = {**built.endpoints, "features": built.features, "logits": built.logits}
        facts["outputs"] = session.run(outputs, feed)
        session.run(built.update_ops, feed)
        facts["after"] = variable_values(session)
        return facts


def _inputs(case):
    """Returns values of all variables, by name, and images."""
    values = {variable.name: synthetic_value(variable, seed=3) for variable in case.network().variables}
    return values, np.random.RandomState(0).uniform(size=(4, *case.size, 3)).astype(np.float32)


def _emitted(values, images, training, case):
    """Runs our TF1 graph, and returns the same facts."""
    graphs = read_saved_model(saved_model_bytes(case.spec, case.network()))
    with imported(graphs[("train",) if training else ()], values) as graph:
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        facts = {
            "variables": [(v.op.name, tuple(v.shape)) for v in tf.global_variables()],
            "trainable": [v.op.name for v in tf.trainable_variables()],
            "updates": len(updates),
        }
        facts["losses"] = graph.session.run(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))
        logits = graph.run("image_classification", images)
        features = graph.run("image_feature_vector", images)["default"]
        facts["outputs"] = {**logits, "features": features, "logits": logits["default"]}
        del facts["outputs"]["default"]
        momentum = {} if case.spec.version < 3 else {"batch_norm_momentum:0": case.network().momentum}
        graph.session.run(updates, {"hub_input/images:0": images, **momentum})
        facts["after"] = variable_values(graph.session)
        return facts


def _emitted_functions(values, images, training, case):
    """Calls the function of our TF2 SavedModel, and returns the same facts."""
    with tempfile.TemporaryDirectory() as folder:
        network = case.network()
        write_tf2_module(Path(folder), ModuleSpec(kind="classification", version=5), network, values)
        module = tf.saved_model.load_v2(folder)
    facts = {
        "variables": [(_name(v), tuple(v.shape)) for v in module.variables],
        "trainable": [_name(v) for v in module.trainable_variables],
        "losses": [loss().numpy() for loss in module.regularization_losses],
    }
    outputs = module(images, training=training, return_endpoints=True, batch_norm_momentum=network.momentum)
    outputs = {key: value.numpy() for key, value in outputs.items()}
    outputs["logits"] = outputs.pop("default")
    facts["outputs"] = {**outputs, "features": outputs[network.features_endpoint].reshape(len(images), -1)}
    facts["after"] = {_name(v): v.numpy() for v in module.variables}
    facts["updates"] = sum(not np.array_equal(value, values[name]) for name, value in facts["after"].items())
    return facts


def _name(variable):
    return variable.name.removesuffix(":0")


def _runs() -> Iterator[Any]:
    """Returns each case in inference and in training, in each format that the family has modules of.

    `make test` tries inference alone: other quick tests train.
    """
    for case, marks in _cases():
        formats = (
            {"tf1": _emitted, "tf2": _emitted_functions} if case.spec.version <= 3 else {"tf2": _emitted_functions}
        )
        for mode, training in (("inference", False), ("training", True)):
            for name, emitted in formats.items():
                in_group = marks or (pytest.mark.slow if training else ())
                yield pytest.param(case, training, emitted, id=f"{case}-{mode}-{name}", marks=in_group)


@pytest.mark.parametrize(("case", "training", "emitted"), _runs())
def test_emitted_network_is_tf_slims(case, training, emitted):
    """Variables, losses, update ops, and every endpoint are the same. Dropout is switched off in training."""
    values, images = _inputs(case)
    wanted = _reference(case, training)
    found = emitted(values, images, training, case)

    network = case.network()
    updates = 2 * sum(isinstance(op, BatchNorm) for op in network.ops) if training else 0
    assert found["variables"] == wanted["variables"]
    assert found["trainable"] == wanted["trainable"]
    assert len(wanted["losses"]) == sum(bool(variable.weight_decay) for variable in network.variables) > 0
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=1e-6)
    assert found["updates"] == wanted["updates"] == updates
    assert found["outputs"].keys() == wanted["outputs"].keys()
    names = [op.name for op in network.ops]
    last = names[names.index(network.logits) :]
    tolerances = {key: _TOLERANCE_OF_LOGITS for key, name in network.endpoints.items() if name in last}
    tolerances["logits"] = _TOLERANCE_OF_LOGITS
    # A probability's relative error is up to twice the absolute error of the logits.
    largest_logit = np.abs(wanted["outputs"]["logits"]).max()
    tolerances[network.predictions_endpoint] = 2 * _TOLERANCE_OF_LOGITS * largest_logit
    errors = {}
    for key, value in wanted["outputs"].items():
        errors[key] = np.abs(found["outputs"][key] - value).max() / np.abs(value).max()
        assert found["outputs"][key].shape == value.shape, key
    print(f"{case}: largest difference {max(errors.values()):.1e} of {len(errors)} outputs")
    for key, error in errors.items():
        assert error <= tolerances.get(key, _TOLERANCE), (key, error)
    moved = {name for name, value in values.items() if not np.array_equal(wanted["after"][name], value)}
    assert len(moved) == updates
    for name, value in wanted["after"].items():
        # Where the momentum is an input, modules subtract it from 1 in float32, and TF-Slim in float64.
        averaged = np.abs(value - network.momentum * values[name]) if name in moved else 0
        tolerance = 1e-6 + 1e-6 * np.abs(value) + _MOMENTUM_TOLERANCE * averaged
        assert np.all(np.abs(found["after"][name] - value) <= tolerance), name
