"""Keras' descriptions of models: Keras' own models, and models that differ in one setting."""

import dataclasses
import json

import pytest
import tensorflow as tf

from hubexport.layouts.keras import keras_h5_layout, keras_weights_h5_layout
from hubexport.layouts.keras_graph import compare_model
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from tests.keras_models import HEADS, backbone

layers = tf.keras.layers

pytestmark = pytest.mark.skipif(hasattr(tf.keras, "ops"), reason="these models are built by Keras 2")


@pytest.fixture(scope="module")
def base():
    """The network up to its last activation."""
    return backbone()


@pytest.fixture(scope="module")
def description(base):
    """The description of a model with a classifier named `flowers`."""
    pooled = layers.GlobalAveragePooling2D()(base.output)
    return tf.keras.Model(base.input, layers.Dense(3, "softmax", name="flowers")(pooled)).to_json()


def _compare(description, head="flowers"):
    network = mobilenet_v2(0.35, 96, 3 if head else None)
    layouts = [
        dataclasses.replace(layout, name=layout.name.replace("predictions", head or ""))
        for layout in keras_h5_layout(network)
    ]
    return compare_model(description, network, layouts, numbered=False)


def _edited(description, edit):
    config = json.loads(description)
    for layer in config["config"]["layers"]:
        edit(layer, layer["config"])
    return json.dumps(config)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_the_classifier(base, name):
    """None stands for a model with nothing after the features."""
    make, is_classifier, _ = HEADS[name]
    result, dense = base.output, None
    for layer in make():
        result = layer(result)
        dense = layer.name if isinstance(layer, layers.Dense) else dense
    report = _compare(tf.keras.Model(base.input, result).to_json(), dense if is_classifier is not None else None)
    assert (report.mismatch, report.before) == (None, ())
    assert bool(report.further) == (is_classifier is False)


def test_layers_may_have_numbers_instead_of_names(description):
    """In the order of Keras, separately for each class."""
    network = mobilenet_v2(0.35, 96, 3)
    report = compare_model(description, network, keras_weights_h5_layout(network), numbered=True)
    assert (report.mismatch, report.before, report.further) == (None, (), ())


def test_the_description_of_keras_3(description):
    """It writes a layer's inputs, and some settings, differently."""

    def edit(layer, config):
        tensors = [
            {
                "class_name": "__keras_tensor__",
                "config": {"shape": [None], "dtype": "float32", "keras_history": history[:3]},
            }
            for history in sum(layer["inbound_nodes"], [])
        ]
        args = [tensors] if len(tensors) > 1 else tensors
        layer["inbound_nodes"] = [{"args": args, "kwargs": {"mask": None}}] if tensors else []
        if layer["class_name"] == "BatchNormalization":
            config["axis"] = -1
        if layer["class_name"] == "InputLayer":
            config["batch_shape"] = config.pop("batch_input_shape")

    report = _compare(_edited(description, edit))
    assert (report.mismatch, report.before, report.further) == (None, (), ())


@pytest.mark.parametrize("size", [97, *(pytest.param(size, marks=pytest.mark.slow) for size in (224, 100, None))])
def test_images_of_any_size(size):
    """At odd sizes Keras pads differently, as TF-Slim does."""
    model = tf.keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(size, size, 3))
    assert _compare(model.to_json(), None).mismatch is None


def _set(name, **settings):
    def edit(layer, config):
        if layer["name"] == name:
            assert settings.keys() <= config.keys()
            config.update(settings)

    return edit


def _without_sum(layer, config):
    if layer["name"] == "block_2_add":
        layer["inbound_nodes"][0][1] = layer["inbound_nodes"][0][0]


_OTHER_NETWORKS = {
    "another activation": (_set("block_3_expand_relu", max_value=None), "relu6 behind block_3_expand_BN"),
    "leaky": (_set("Conv1_relu", negative_slope=0.1), "relu6 behind bn_Conv1"),
    "other strides": (_set("Conv1", strides=[1, 1]), "Conv1"),
    "dilation": (_set("block_5_depthwise", dilation_rate=[2, 2]), "block_5_depthwise"),
    "zeros elsewhere": (_set("block_1_pad", padding=[[1, 0], [1, 0]]), "block_1_depthwise"),
    "zeros all around": (_set("block_1_pad", padding=[[1, 1], [1, 1]]), "block_1_depthwise"),
    "no zeros": (_set("block_2_depthwise", padding="valid"), "block_2_depthwise"),
    "another epsilon": (_set("bn_Conv1", epsilon=1e-5), "bn_Conv1"),
    "an activation in a convolution": (_set("Conv_1", activation="relu"), "Conv_1"),
    "another sum": (_without_sum, "the sum MobilenetV2/expanded_conv_2/add"),
}


@pytest.mark.parametrize(("edit", "where"), _OTHER_NETWORKS.values(), ids=_OTHER_NETWORKS)
def test_a_model_that_computes_something_else(description, edit, where):
    """The report names the first step that differs."""
    assert _compare(_edited(description, edit)).mismatch == where


@pytest.mark.parametrize(
    ("before", "left_out"),
    [
        (lambda: tf.keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)]), ()),
        pytest.param(lambda: layers.RandomFlip(), (), marks=pytest.mark.prove),
        (lambda: layers.Rescaling(1 / 127.5, offset=-1, name="scale"), ("scale",)),
        pytest.param(
            lambda: tf.keras.Sequential([layers.Rescaling(1 / 127.5)], name="scale"),
            ("scale",),
            marks=pytest.mark.prove,
        ),
        pytest.param(lambda: layers.Dense(3, name="dense_of_pixels"), ("dense_of_pixels",), marks=pytest.mark.prove),
        pytest.param(lambda: layers.Conv2D(3, 1, name="mix"), ("mix",), marks=pytest.mark.prove),
    ],
)
@pytest.mark.filterwarnings("ignore:non-integer arguments to randrange")
@pytest.mark.slow
def test_what_comes_before_the_network(before, left_out):
    """Layers that only matter in training do not count."""
    images = layers.Input((96, 96, 3))
    model = tf.keras.Model(images, backbone(before()(images)).output)
    report = _compare(model.to_json(), None)
    assert (report.mismatch, report.before, report.further) == (None, left_out, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"class_name": "Functional"}',
        '{"class_name": "Mine", "config": {"layers": []}}',
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_a_description_that_cannot_be_understood(text):
    """It raises ValueError, whatever is wrong."""
    with pytest.raises(ValueError):
        _compare(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"inbound_nodes": ', '"inbound": '),
        ('[["Conv1", 0', '[["Conv1_relu", 0'),
        ('[["Conv1", 0', '[["nowhere", 0'),
        ('"kernel_size": [3, 3]', '"kernel_size": [3, 5]'),
        ('"kernel_size": [3, 3]', '"kernel_size": "x"'),
        ('"padding": [[0, 1], [0, 1]]', '"padding": 1'),
        ('"strides": [2, 2]', '"strides": []'),
        ('"epsilon": 0.001', '"epsilon": "x"'),
        ("[null, 96, 96, 3]", "96"),
    ],
)
def test_a_description_that_is_damaged(description, old, new):
    """It raises ValueError, or describes another network."""
    assert old in description
    try:
        report = _compare(description.replace(old, new))
    except ValueError:
        return
    assert report.mismatch is not None
