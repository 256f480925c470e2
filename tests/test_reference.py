"""Both formats compute what TF-Slim computes; `hubexport.reference` builds its networks without our layer lists."""

import functools
from pathlib import Path
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.formats.tf1_hub import saved_model_bytes
from hubexport.formats.tf2_saved_model import write_tf2_module
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2
from hubexport.variants import ModuleSpec
from tests.graphs import imported, load_values, read_saved_model, variable_values

# Two float32 implementations of the same ops; the largest outputs are about 6.
_TOLERANCE = 1e-5
# Where TF-Slim has the convolution of a single pixel, which rounds more than our matrix product does.
_TOLERANCE_OF_LOGITS = 2e-5

# TF-Slim's default, which the reference and module version 1 have.
_SLIM_MOMENTUM = 0.997

_SIZES = [
    (0.35, 96),
    (0.5, 160),
    *(
        pytest.param(*size, marks=pytest.mark.slow)
        for size in [(0.35, 224), (0.75, 128), (1.0, 96), (1.3, 64), (1.4, 96)]
    ),
]


@functools.lru_cache(maxsize=1)  # Both formats are compared with it, one after the other.
def _reference(depth_multiplier, size, training):
    """Runs TF-Slim's graph, and returns its variables, losses, outputs, and the values after its update ops."""
    values, images = _inputs(depth_multiplier, size)
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        built = reference_mobilenet_v2(placeholder, depth_multiplier, 1001, is_training=training, dropout_keep_prob=1.0)
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


def _network(depth_multiplier, size):
    return mobilenet_v2(depth_multiplier, size, 1001, dropout_keep_prob=1.0)


def _inputs(depth_multiplier, size):
    """Returns values of all variables, by name, and images."""
    variables = _network(depth_multiplier, size).variables
    values = {variable.name: synthetic_value(variable, seed=3) for variable in variables}
    return values, np.random.RandomState(0).uniform(size=(4, size, size, 3)).astype(np.float32)


def _emitted(values, images, training, network):
    """Runs our TF1 graph, and returns the same facts."""
    graphs = read_saved_model(saved_model_bytes(ModuleSpec(kind="classification", version=1), network))
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
        graph.session.run(updates, {"hub_input/images:0": images})
        facts["after"] = variable_values(graph.session)
        return facts


def _emitted_functions(values, images, training, network):
    """Calls the function of our TF2 SavedModel, and returns the same facts."""
    with tempfile.TemporaryDirectory() as folder:
        write_tf2_module(Path(folder), ModuleSpec(kind="classification", version=5), network, values)
        module = tf.saved_model.load_v2(folder)
    facts = {
        "variables": [(_name(v), tuple(v.shape)) for v in module.variables],
        "trainable": [_name(v) for v in module.trainable_variables],
        "losses": [loss().numpy() for loss in module.regularization_losses],
    }
    outputs = module(images, training=training, return_endpoints=True, batch_norm_momentum=_SLIM_MOMENTUM)
    outputs = {key: value.numpy() for key, value in outputs.items()}
    outputs["logits"] = outputs.pop("default")
    facts["outputs"] = {**outputs, "features": outputs["MobilenetV2/global_pool"][:, 0, 0]}
    facts["after"] = {_name(v): v.numpy() for v in module.variables}
    facts["updates"] = sum(not np.array_equal(value, values[name]) for name, value in facts["after"].items())
    return facts


def _name(variable):
    return variable.name.removesuffix(":0")


@pytest.mark.parametrize("emitted", [_emitted, _emitted_functions], ids=["tf1", "tf2"])
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize(("depth_multiplier", "size"), _SIZES)
def test_emitted_network_is_tf_slims(depth_multiplier, size, training, emitted):
    """Variables, losses, update ops, and every endpoint are the same. Dropout is switched off in training."""
    values, images = _inputs(depth_multiplier, size)
    wanted = _reference(depth_multiplier, size, training)
    found = emitted(values, images, training, _network(depth_multiplier, size))

    assert found["variables"] == wanted["variables"]
    assert found["trainable"] == wanted["trainable"]
    assert len(wanted["losses"]) == 36
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=1e-6)
    assert found["updates"] == wanted["updates"] == (104 if training else 0)
    assert found["outputs"].keys() == wanted["outputs"].keys()
    for key, value in wanted["outputs"].items():
        tolerance = _TOLERANCE_OF_LOGITS if key in ("logits", "MobilenetV2/Logits") else _TOLERANCE
        np.testing.assert_allclose(found["outputs"][key], value, rtol=0, atol=tolerance, err_msg=key)
    moved = {name for name, value in values.items() if not np.array_equal(wanted["after"][name], value)}
    assert len(moved) == (104 if training else 0)
    for name, value in wanted["after"].items():
        np.testing.assert_allclose(found["after"][name], value, rtol=0, atol=1e-6, err_msg=name)
