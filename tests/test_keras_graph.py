"""Networks in Keras' descriptions of models: Keras' own networks, models around them, and models that differ."""

import json

import numpy as np
import pytest
import tensorflow as tf

from hubexport.formats.keras_model import keras_layers, model_config
from hubexport.layouts.keras_graph import ModelGraph
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.networks.registry import FAMILIES
from tests.keras_models import HEADS, backbone

layers = tf.keras.layers

pytestmark = pytest.mark.skipif(hasattr(tf.keras, "ops"), reason="these models are built by Keras 2")

NETWORK = mobilenet_v2(0.35, 96, None)


@pytest.fixture(scope="module")
def base():
    """The network up to its last activation."""
    return backbone()


@pytest.fixture(scope="module")
def description(base):
    """The description of a model with a classifier named `flowers`."""
    pooled = layers.GlobalAveragePooling2D()(base.output)
    return tf.keras.Model(base.input, layers.Dense(3, "softmax", name="flowers")(pooled)).to_json()


def _only(graph):
    [found] = graph.find(NETWORK)
    return found


def _found(model):
    return _only(ModelGraph(model.to_json()))


def _edited(description, edit):
    config = json.loads(description)
    for layer in config["config"]["layers"]:
        edit(layer, layer["config"])
    return json.dumps(config)


@pytest.mark.parametrize("name", HEADS)
def test_what_is_not_the_classifier(base, name):
    """The network is found whatever comes behind it."""
    make, is_classifier, _ = HEADS[name]
    result, dense = base.output, None
    for layer in make():
        result = layer(result)
        dense = layer.name if isinstance(layer, (layers.Dense, layers.Conv2D)) else dense
    found = _found(tf.keras.Model(base.input, result))
    if is_classifier is False:
        assert found.further and not found.classifier
    else:
        assert not found.further
        assert [(str(weight.call), weight.name) for weight in found.classifier] == (
            [(dense, "kernel"), (dense, "bias")] if is_classifier else []
        )


def test_each_variable_gets_its_layer(base, description):
    """By what the layers compute; their names are those of Keras' table."""
    weights = _only(ModelGraph(description)).weights
    assert weights.keys() == {variable.name for variable in NETWORK.variables}
    places = {name: (str(weight.call), weight.name, weight.number) for name, weight in weights.items()}
    assert places["MobilenetV2/Conv/weights"] == ("Conv1", "kernel", 0)
    assert places["MobilenetV2/Conv/BatchNorm/beta"] == ("bn_Conv1", "beta", 1)
    assert places["MobilenetV2/expanded_conv_9/depthwise/depthwise_weights"] == ("block_9_depthwise", "kernel", 0)
    assert places["MobilenetV2/Conv_1/BatchNorm/moving_variance"] == ("Conv_1_bn", "moving_variance", 3)
    assert len({(place[0], place[1]) for place in places.values()}) == len(base.weights)


def test_names_do_not_matter(description):
    """All layers have other names."""

    def edit(layer, config):
        layer["name"] = config["name"] = f"my_{layer['name']}"
        for call in layer["inbound_nodes"]:
            for tensor in call:
                tensor[0] = f"my_{tensor[0]}"

    config = json.loads(_edited(description, edit))
    config["config"]["output_layers"][0][0] = "my_flowers"
    found = _only(ModelGraph(json.dumps(config)))
    assert str(found.weights["MobilenetV2/Conv/weights"].call) == "my_Conv1"
    assert str(found.classifier[0].call) == "my_flowers"


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

    graph = ModelGraph(_edited(description, edit))
    assert _only(graph).classifier and graph.image_size(NETWORK) == 96


@pytest.mark.parametrize("size", [97, *(pytest.param(size, marks=pytest.mark.slow) for size in (224, 100, None))])
def test_images_of_any_size(size):
    """At odd sizes Keras pads differently, as TF-Slim does."""
    model = tf.keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(size, size, 3))
    graph = ModelGraph(tf.keras.Model(model.input, layers.GlobalAveragePooling2D()(model.output)).to_json())
    assert graph.find(NETWORK)
    assert graph.image_size(NETWORK) == size


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
    "other strides": (_set("Conv1", strides=[1, 1]), "Conv2D 3×3, stride 2 of the images"),
    "dilation": (_set("block_5_depthwise", dilation_rate=[2, 2]), "DepthwiseConv2D 3×3 behind block_5_expand_relu"),
    "zeros elsewhere": (
        _set("block_1_pad", padding=[[1, 0], [1, 0]]),
        "DepthwiseConv2D 3×3, stride 2 behind block_1_expand_relu",
    ),
    "zeros all around": (
        _set("block_1_pad", padding=[[1, 1], [1, 1]]),
        "DepthwiseConv2D 3×3, stride 2 behind block_1_expand_relu",
    ),
    "no zeros": (_set("block_2_depthwise", padding="valid"), "DepthwiseConv2D 3×3 behind block_2_expand_relu"),
    "another epsilon": (_set("bn_Conv1", epsilon=1e-5), "BatchNorm behind Conv1"),
    "an activation in a convolution": (_set("Conv_1", activation="relu"), "BatchNorm behind Conv_1"),
    "no gamma": (_set("bn_Conv1", scale=False), "BatchNorm behind Conv1"),
    "biases": (_set("Conv1", use_bias=True), "Conv2D 3×3, stride 2 of the images"),
    "channels first": (_set("Conv1", data_format="channels_first"), "Conv2D 3×3, stride 2 of the images"),
    "another sum": (_without_sum, "Add behind block_2_project_BN"),
}


@pytest.mark.parametrize(("edit", "where"), _OTHER_NETWORKS.values(), ids=_OTHER_NETWORKS)
def test_a_model_that_computes_something_else(description, edit, where):
    """It is not found; what is said of it names the first step that differs, and the layer before."""
    graph = ModelGraph(_edited(description, edit))
    assert graph.find(NETWORK) == []
    difference = graph.difference(NETWORK)
    assert difference.first == where or where.startswith("Add") and difference.first.startswith("Add")
    assert difference.likeness > 0.95


@pytest.mark.parametrize(
    ("before", "left_out", "mapping"),
    [
        (lambda: [tf.keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])], (), (1, 0)),
        (lambda: [layers.Rescaling(1 / 127.5, offset=-1, name="scale")], ("scale",), (1 / 127.5, -1)),
        (lambda: [lambda images: images / 127.5, lambda images: images - 1.0], None, (1 / 127.5, -1)),
        (lambda: [lambda images: images * 2, lambda images: images + 3.0], None, (2, 3)),
        (lambda: [lambda images: 1.0 - images], None, (None, None)),
        (lambda: [tf.keras.Sequential([layers.Rescaling(0.5)], name="s")], ("s/rescaling",), (0.5, 0)),
        (lambda: [layers.Rescaling([1.0, 2.0, 3.0], name="scale")], ("scale",), (None, None)),
        (lambda: [layers.Dense(3, name="dense_of_pixels")], ("dense_of_pixels",), (None, None)),
        (lambda: [layers.Conv2D(3, 1, name="mix")], ("mix",), (None, None)),
    ],
    ids=["random", "rescaling", "operators", "sum", "reversed", "nested", "by channel", "dense", "convolution"],
)
@pytest.mark.filterwarnings("ignore:non-integer arguments to randrange")
@pytest.mark.slow
def test_what_comes_before_the_network(before, left_out, mapping):
    """Layers that only matter in training do not count. Multiplying and adding numbers is understood."""
    tf.keras.backend.clear_session()
    images = result = layers.Input((96, 96, 3))
    for step in before():
        result = step(result)
    features = layers.GlobalAveragePooling2D()(backbone(result).output)
    found = _found(tf.keras.Model(images, features))
    assert left_out is None or found.preprocessing.layers == left_out
    assert (found.preprocessing.scale, found.preprocessing.offset) == pytest.approx(mapping)
    assert not found.further


def test_another_output_of_a_model_in_the_model_is_another_tensor(base):
    """Here the one before the last activation."""
    inner = tf.keras.Model(base.input, [base.output, base.get_layer("Conv_1_bn").output])
    images = layers.Input([96, 96, 3])
    for number in range(2):
        pooled = layers.GlobalAveragePooling2D()(inner(images)[number])
        found = _found(tf.keras.Model(images, layers.Dense(3)(pooled)))
        assert bool(found.classifier) == (number == 0) and bool(found.further) == (number == 1)


def test_a_network_that_is_called_twice_is_one(base):
    """What compares the two results is no classifier."""
    images = [layers.Input([96, 96, 3]) for _ in range(2)]
    results = [layers.GlobalAveragePooling2D()(base(one)) for one in images]
    found = _found(tf.keras.Model(images, layers.Dense(1)(layers.Subtract()(results))))
    assert not found.classifier and "dense" in found.further[-1]
    assert len(found.weights) == len(base.weights)


@pytest.mark.slow
def test_two_networks_are_found_both():
    """Each with its own layers, though the stems have the same settings."""
    tf.keras.backend.clear_session()
    first = backbone()
    second = tf.keras.models.clone_model(first)
    second._name = "second"
    images = layers.Input([96, 96, 3])
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(one(images)) for one in (first, second)])
    found = ModelGraph(tf.keras.Model(images, layers.Dense(3)(both)).to_json()).find(NETWORK)
    stems = {str(one.weights["MobilenetV2/Conv/weights"].call) for one in found}
    assert stems == {f"{first.name}/Conv1", "second/Conv1"}


def test_a_class_of_a_program_is_not_kerass(description):
    """Where the description tells whose a class is, as `.keras` files do."""
    for module, is_keras in (("keras.layers", True), (None, False), ("mine.layers", False)):

        def edit(layer, config, module=module):
            layer["module"] = module if layer["class_name"] == "Dense" else "keras.layers"

        assert bool(_only(ModelGraph(_edited(description, edit))).classifier) == is_keras


@pytest.mark.slow
def test_a_network_that_trains_at_any_time_is_not_found(base):
    """Called with `training=True`, batch norm takes the statistics of the batch."""
    images = layers.Input([96, 96, 3])
    for training in (None, False, True):
        features = layers.GlobalAveragePooling2D()(base(images, training=training))
        model = tf.keras.Model(images, layers.Dense(3)(layers.Dropout(0.5)(features)))
        assert bool(ModelGraph(model.to_json()).find(NETWORK)) == (training is not True)
    dropped = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(base(images)), training=True)
    found = _found(tf.keras.Model(images, layers.Dense(3)(dropped)))
    assert not found.classifier and len(found.further) == 2


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (layers.Rescaling(1 / 127.5, offset=-1), 128),
        (layers.RandomFlip(), 128),
        (layers.Resizing(96, 96), 96),
        (layers.CenterCrop(96, 96), 96),
        (layers.Resizing(96, 128), None),
    ],
    ids=["rescaling", "flip", "resizing", "crop", "not square"],
)
def test_the_size_of_images_is_that_of_the_network(layer, size):
    """Whatever the model takes and resizes before."""
    images = layers.Input([128, 128, 3])
    stem = layers.Conv2D(16, 3, 2, padding="same", use_bias=False)
    assert ModelGraph(tf.keras.Model(images, stem(layer(images))).to_json()).image_size(NETWORK) == size


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("MobileNet", "mobilenet_v1"),
        ("InceptionV3", "inception_v3"),
        ("InceptionResNetV2", "inception_resnet_v2"),
    ],
)
@pytest.mark.slow
def test_other_networks_of_keras(name, family):
    """Whose layers compute what TF-Slim's do. Each weight of Keras' model is a variable of ours or the classifier's."""
    model = getattr(tf.keras.applications, name)(weights=None)
    family = FAMILIES[family]
    graph = ModelGraph(model.to_json())
    network = family.network(family.published_parameters[-1], 224, None)
    [found] = graph.find(network)
    assert graph.image_size(network) == model.input_shape[1]
    assert found.weights.keys() == {variable.name for variable in network.variables}
    assert len(found.weights) + len(found.classifier) == len(model.weights)
    places = {(weight.call.path, weight.name) for weight in found.weights.values()}
    assert len(places) == len(found.weights) and not found.further
    assert sum(bool(graph.find(network)) for network in _all_networks()) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_the_models_that_convert_writes(name):
    """Of every family: a network that was fine-tuned in Keras 3 comes back."""
    family = FAMILIES[name]
    parameters = family.published_parameters[0]
    whole = family.network(parameters, max(96, family.smallest_size), 7)
    described = keras_layers(whole)
    graph = ModelGraph(json.dumps(model_config("model", whole, described)))
    network = family.network(parameters, 224, None)
    [found] = graph.find(network)
    assert graph.image_size(network) == whole.image_shape[0]
    written = {variable.name: layer.name for layer in described for variable in layer.variables}
    read = {name: str(weight.call) for name, weight in found.weights.items()}
    assert read == {name: layer for name, layer in written.items() if name in read}
    assert len(read) == len(written) - 2
    assert {str(weight.call) for weight in found.classifier} == {written[whole.classifier.variables[0].name]}
    assert not found.further
    assert found.preprocessing.scale == whole.input_scale
    assert np.negative(found.preprocessing.offset) == pytest.approx(whole.input_offset)


def _all_networks():
    return [
        family.network(parameters, 224, None)
        for family in FAMILIES.values()
        for parameters in family.published_parameters
    ]


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
        '{"class_name": "Sequential", "config": {"layers": []}}',
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_a_description_that_cannot_be_understood(text):
    """It raises ValueError, whatever is wrong."""
    with pytest.raises(ValueError):
        ModelGraph(text)


def test_models_in_models_end():
    """However deep they are nested, and however often they are called."""
    model = {"class_name": "InputLayer", "config": {"name": "x"}}
    for depth in range(40):
        model = {"class_name": "Sequential", "config": {"name": f"m{depth}", "layers": [model]}}
    with pytest.raises(ValueError, match="nested more than"):
        ModelGraph(json.dumps(model))
    for depth in range(14):
        model = {"class_name": "Sequential", "config": {"name": f"m{depth}", "layers": [_IDENTITY, model, model]}}
        model = model if depth else {**model, "config": {"name": "m", "layers": [_IDENTITY] * 3}}
    with pytest.raises(ValueError, match="calls of layers"):
        ModelGraph(json.dumps(model))


_IDENTITY = {"class_name": "Activation", "config": {"name": "same", "activation": "linear"}}


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
        ('"filters": 16', '"filters": {}'),
        ("[null, 96, 96, 3]", "96"),
    ],
)
def test_a_description_that_is_damaged(description, old, new):
    """It raises ValueError, or describes another network."""
    assert old in description
    try:
        found = ModelGraph(description.replace(old, new)).find(NETWORK)
    except ValueError:
        return
    assert found == []
