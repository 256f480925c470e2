"""`hubexport verify` of a network without batch norm: no check breaks off, and none passes with nothing to look at.

The network is a small VGG: biases, means of RGB, dropout before the features.
"""

import pytest
import tensorflow.compat.v1 as tf

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.family import Family, Paper
from hubexport.networks.registry import FAMILIES
from hubexport.reference.reference import Reference
from hubexport.reference.registry import REFERENCES, FamilyReference
from hubexport.reference.slim import caffe_images, slim
from hubexport.verify.verify_module import verify_module
from tests.toys import registered

_CONFIG = """\
network: plain
image_size: 20
num_classes: 5
dataset: made up
modules: [classification/3, feature_vector/5]
"""
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=None, weight_decay=1e-3)
_NO_AVERAGES = "the network has no batch norm, and so no moving averages"


def _plain(parameters, image_size, num_classes):
    b = Builder("Plain", image_size, _DEFAULTS)
    net = b.endpoint("Plain/Conv", b.conv("Conv", b.images, 8, kernel=3, stride=2))
    net = b.dropout("dropout6", b.conv("fc6", net, 32, kernel=10, padding="VALID"), 0.5)
    net = b.endpoint("Plain/fc7", b.conv("fc7", net, 32))
    if not b.is_pixel(net):  # Only where checkpoints are recognized: for images of any size, shapes are the same.
        net = b.endpoint("Plain/global_pool", b.mean("global_pool", net))
    features = b.features(net)
    logits = None
    if num_classes is not None:
        net = b.conv("fc8", b.dropout("dropout7", net, 0.5), num_classes, activation=None)
        logits = b.endpoint("Plain/fc8", b.squeeze("fc8/squeezed", net))
    return b.network(features=features, logits=logits, input_range=(0.0, 255.0), channel_means=(123.68, 116.78, 103.94))


def _reference(images, parameters, num_classes, *, is_training=False):
    """The same network with TF-Slim's layers, in inference."""
    with tf.variable_scope("Plain", use_resource=True):
        net = slim.conv2d(caffe_images(images), 8, 3, stride=2, scope="Conv")
        net = slim.conv2d(net, 32, 10, padding="VALID", scope="fc6")
        features = net = slim.conv2d(net, 32, 1, scope="fc7")
        if num_classes:
            net = slim.conv2d(net, num_classes, 1, activation_fn=None, scope="fc8")
    logits = tf.squeeze(net, [1, 2]) if num_classes else None
    return Reference(tf.squeeze(features, [1, 2]), logits, {}, [], [])


_FAMILY = Family(
    name="plain",
    title="Plain",
    page_tag="plain",
    about="It is plain.",
    paper=Paper(title="Plain", authors="A. Child", year=2001, url="https://example.invalid/"),
    pretrained=None,
    lay_out=_plain,
    telling_variable="Plain/Conv/weights",
    momentum=_DEFAULTS.batch_norm_momentum,
    open_from_version=None,
)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Its modules, by kind and version."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "plain.yaml").write_text(_CONFIG)
    REFERENCES["plain"] = FamilyReference("a few layers of tf_slim", _reference)
    with registered(_FAMILY):
        variant = load_variant("plain", folder)
        built = build_modules(variant, checkpoint="synthetic:1", output_dir=folder / "modules")
        yield dict(zip(map(str, variant.modules), built, strict=True))
    del REFERENCES["plain"]


def _results(path, checks):
    verification = verify_module(path, checkpoint="synthetic:1", checks=checks)
    return {result.check: result for result in verification.results}


@pytest.mark.parametrize("module", [pytest.param("classification/3", marks=pytest.mark.slow), "feature_vector/5"])
def test_all_checks_pass_or_say_why_they_do_not_apply(modules, module):
    """What needs batch norm says that there is none."""
    results = _results(modules[module], ["structure", "weights", "numbers", "behaviour"])
    assert {name: (one.explanation, one.details) for name, one in results.items() if one.status == "fail"} == {}
    unfit = {name: one.explanation for name, one in results.items() if one.status == "not applicable"}
    assert unfit.pop("behaviour.moving_averages") == _NO_AVERAGES
    assert unfit.pop("behaviour.dropout").startswith("features vary in training: Plain/dropout6 comes before")
    of_tf1 = {"structure.objects", "numbers.serving"}
    of_format = of_tf1 if module.endswith("3") else {"structure.collections", "structure.image_size"}
    assert set(unfit) == of_format | {"numbers.photographs", "numbers.sizes", "numbers.frozen_graph"}
    assert results["behaviour.training_step"].explanation.endswith("trained variables, 0 moving averages")


def test_the_network_has_no_epsilon():
    """And its description says so instead of failing."""
    assert FAMILIES["vgg_16"].network(FAMILIES["vgg_16"].published_parameters[0], 224, 7).batch_norm_epsilon is None
