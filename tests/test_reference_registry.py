"""Every family of networks has a reference, which builds the family's networks."""

import pytest
import tensorflow.compat.v1 as tf

from hubexport.networks.registry import FAMILIES
from hubexport.reference.registry import REFERENCES

_QUICK = {"mobilenet_v1", "mobilenet_v2", "resnet_v2_50", "vgg_16"}
# Of the other families; what is like them, or takes up to half a minute, is for `make prove`.
_SLOW = {"mobilenet_v3_small", "inception_v1", "inception_v3", "resnet_v1_50", "pnasnet_mobile"}


def test_every_family_has_a_reference():
    """Neither registry has a name that the other lacks."""
    assert REFERENCES.keys() == FAMILIES.keys()


def _size(family):
    return max(64, family.smallest_size)


def _marks(name):
    return () if name in _QUICK else pytest.mark.slow if name in _SLOW else pytest.mark.prove


def _shapes(name, is_training=False, dropout=True):
    """Builds a reference with seven classes and the family's first parameters, and returns its variables' shapes."""
    with tf.Graph().as_default() as graph:
        size = _size(FAMILIES[name])
        images = tf.placeholder(tf.float32, [None, size, size, 3])
        built = REFERENCES[name](
            images, FAMILIES[name].published_parameters[0], 7, is_training=is_training, dropout=dropout
        )
        assert built.logits.shape.as_list() == [None, 7]
        drops = any(
            "dropout" in operation.name.lower() and operation.type == "Mul" for operation in graph.get_operations()
        )
        return {variable.op.name: tuple(variable.shape) for variable in tf.global_variables()}, drops


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=_marks(name)) for name in FAMILIES],
)
def test_a_reference_builds_its_family_s_network(name):
    """It takes the family's parameters, and makes the variables that our network has."""
    family = FAMILIES[name]
    network = family.network(family.published_parameters[0], _size(family), 7)
    assert _shapes(name)[0] == {variable.name: variable.shape for variable in network.variables}


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
@pytest.mark.slow
def test_dropout_is_switched_off_on_request(name):
    """Training drops features unless the caller says otherwise."""
    assert [_shapes(name, True, dropout)[1] for dropout in (True, False)] == [True, False]
