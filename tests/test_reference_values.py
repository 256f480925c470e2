"""The references of `hubexport.reference` compute what TF-Slim's own graphs computed; see `shared/data/networks`."""

import warnings

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hubexport import load_variant
from hubexport.reference.registry import REFERENCES
from tests.data import needs_data
from tests.graphs import load_values
from tests.network_facts import NAMES, listed, photographs, tolerances, values

_IMAGES = 2
_QUICK = ("mobilenet_v1_025_128",)
# What is like these, or takes up to half a minute, is for `make prove`.
_SLOW = ("mobilenet_v3_small_100_224", "inception_v1", "inception_v3", "resnet_v1_50", "resnet_v2_50", "vgg_16")


def _cases(quick):
    """Returns all networks with their marks."""
    for name in NAMES:
        yield pytest.param(
            name, marks=() if name in quick else pytest.mark.slow if name in (*_QUICK, *_SLOW) else pytest.mark.prove
        )


@needs_data
@pytest.mark.parametrize("name", [*_cases(_QUICK)])
def test_a_reference_computes_what_tf_slim_computed(name):
    """Features and logits of two photographs; it has our network's endpoints, losses and updates."""
    variant, wanted, all_values = load_variant(name), listed(name), values(name)
    network, reference = variant.network_for("classification"), REFERENCES[variant.network]
    images = photographs(variant.image_size, _IMAGES).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        built = reference(given, variant.family_parameters, variant.num_classes)
        load_values(session, all_values)
        features, logits, losses = session.run(
            [built.features, built.logits, built.regularization_losses], {given: images}
        )
    for key, found, tolerance in zip(("features", "logits"), (features, logits), tolerances(name)):
        np.testing.assert_allclose(found, wanted[key][:_IMAGES], rtol=0, atol=tolerance)
    assert set(built.endpoints) == set(network.endpoints)
    losses_wanted = zip(map(str, wanted["regularization_variables"]), wanted["regularization_values"])
    sizes = [value for variable, value in losses_wanted if not variant.family.unused(variable)]
    np.testing.assert_allclose(losses, sizes, rtol=1e-5)


@needs_data
@pytest.mark.parametrize("name", [*_cases(())])
def test_a_training_reference_has_tf_slims_update_ops(name):
    """Two for each batch norm; the auxiliary head has none here."""
    variant = load_variant(name)
    with tf.Graph().as_default(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = tf.placeholder(tf.float32, [4, variant.image_size, variant.image_size, 3])
        built = REFERENCES[variant.network](given, variant.family_parameters, 7, is_training=True)
        updated = map(str, listed(name)["update_op_variables"])
        assert len(built.update_ops) == sum(not variant.family.unused(variable) for variable in updated)
