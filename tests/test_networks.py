"""Networks against their papers and published tables, and the builder that lays them out."""

import dataclasses
import math

import pytest

from hubexport.networks import ops
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.costs import multiply_adds, published_parameters
from hubexport.networks.family import DepthMultiplier, Parameters
from hubexport.networks.image_size import ImageSize
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.networks.registry import FAMILIES
from tests.data import needs_data, published_table

_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-3, weight_decay=1e-4)
_FAMILIES = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
# These have no open sizes.
_FIXED = ("mobilenet_v2", "mobilenet_v3", "mobilenet_edgetpu", "vgg", "nasnet", "pnasnet")


def _size(family):
    return max(96, family.smallest_size)


@needs_data
def test_multiply_adds_and_parameters_are_those_of_all_published_variants():
    """The table truncates both, and leaves batch norm out of its parameters."""
    table = published_table()
    assert len(table) == 22
    for row in table:
        network = mobilenet_v2(float(row["depth_multiplier"]), int(row["image_size"]), 1001)
        assert sum(multiply_adds(network).values()) // 1_000_000 == int(row["macs_millions"]), row["variant"]
        assert f"{published_parameters(network) // 10_000 / 100:.2f}" == row["parameters_millions"], row["variant"]


def test_layers_have_the_shapes_of_the_papers_table_2():
    """At 224 pixels: the first column gives the input of each stage."""
    shapes = mobilenet_v2(1.0, 224, 1001).shapes
    assert shapes["MobilenetV2/Conv/Relu6"] == (112, 112, 32)
    blocks = [shapes[f"MobilenetV2/expanded_conv{f'_{i}' if i else ''}/output"] for i in range(17)]
    assert blocks == (
        [(112, 112, 16)]
        + [(56, 56, 24)] * 2
        + [(28, 28, 32)] * 3
        + [(14, 14, 64)] * 4
        + [(14, 14, 96)] * 3
        + [(7, 7, 160)] * 3
        + [(7, 7, 320)]
    )
    assert shapes["MobilenetV2/Conv_1/Relu6"] == (7, 7, 1280)
    assert shapes["MobilenetV2/Logits/AvgPool"] == (1, 1, 1280)
    assert shapes["MobilenetV2/Logits/output"] == (1001,)


@pytest.mark.parametrize(("multiplier", "features"), [(0.35, 1280), (1.0, 1280), (1.3, 1664), (1.4, 1792)])
def test_the_last_convolution_is_widened_but_never_narrowed(multiplier, features):
    """The seed pages promise 1280 features at 0.75."""
    assert mobilenet_v2(multiplier, 96, None).num_features == features


@pytest.mark.parametrize("multiplier", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_all_depths_are_multiples_of_8(multiplier):
    """ "This implementation of Mobilenet V2 rounds feature depths to multiples of 8"."""
    network = mobilenet_v2(multiplier, 96, None)
    assert {network.shapes[layer.output][-1] % 8 for layer in network.layers[1:]} == {0}


def test_only_convolution_weights_are_regularized():
    """Depthwise weights, biases and batch norm are not."""
    variables = mobilenet_v2(1.0, 224, 1001).variables
    assert {v.name.rpartition("/")[2] for v in variables if v.weight_decay} == {"weights"}
    assert all(v.weight_decay == 4e-5 for v in variables if v.name.endswith("/weights"))
    assert {v.name.rpartition("/")[2] for v in variables if not v.trainable} == {
        "moving_mean",
        "moving_variance",
    }


def test_residuals_are_where_stride_is_1_and_depths_agree():
    """Ten of the seventeen blocks."""
    sequence = mobilenet_v2(1.0, 224, None).ops
    assert sum(isinstance(op, ops.Add) for op in sequence) == 10
    strides = [op.stride for op in sequence if isinstance(op, ops.DepthwiseConv)]
    assert strides == [(step, step) for step in (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)]


@_FAMILIES
def test_a_network_without_classes_has_no_classifier(family):
    """A feature_vector module "saves the space occupied by the classification layer"."""
    parameters = family.published_parameters[0]
    features, full = (family.network(parameters, _size(family), classes) for classes in (None, 17))
    assert (features.num_classes, features.logits, features.classifier, features.dropout) == (None,) * 4
    assert (features.num_outputs, full.num_classes, full.num_outputs) == (features.num_features, 17, 17)
    assert full.num_features == features.num_features
    assert set(full.variables) - set(features.variables) == set(full.classifier.variables)
    kernel, bias = (one.shape for one in full.classifier.variables)
    assert (kernel[-2:], math.prod(kernel[:-2]), bias) == ((full.num_features, 17), 1, (17,))
    # The ops of the features are the same ones, and come in the same order.
    ours = set(features.ops)
    assert [op for op in full.ops if op in ours] == list(features.ops)
    assert features.endpoints.items() < full.endpoints.items()


@_FAMILIES
def test_dropout_comes_right_before_the_classifier(family):
    """The features come before it: they are not noisy in training."""
    network = family.network(family.published_parameters[0], _size(family), 17)
    [pooled] = (op.inputs[0] for op in network.ops if op.name == network.features)
    by_name = {op.name: op for op in network.ops}
    between = []
    name = network.classifier.inputs[0]
    while name != pooled:
        between.append(by_name[name])
        [name] = by_name[name].inputs
    dropouts = [op for op in network.ops if isinstance(op, ops.Dropout)]
    assert network.dropout == (dropouts[-1] if dropouts else None)
    assert [op for op in between if not isinstance(op, ops.Squeeze)] == dropouts[-1:]
    # VGG drops values once more, after the first of its dense layers; ResNets do not.
    assert len(dropouts) == {"resnet": 0, "vgg": 2}.get(family.name.partition("_")[0], 1)


@_FAMILIES
def test_versions_open_image_sizes_where_the_family_says_so(family):
    """From version 3 on, where tfhub.dev's did; without a version the size is fixed. The default size stays known."""
    parameters, size = family.published_parameters[0], _size(family)
    fixed = family.network(parameters, size, 17)
    assert fixed.image_shape == (size, size, 3)
    opens = set()
    for version in family.versions:
        network = family.network(parameters, size, 17, version)
        if network.image_shape == (None, None, 3):
            opens.add(version)
        else:
            assert network == fixed
        assert network.default_image_size == (size, size)
        assert network.at_default_size() == fixed
        assert network.variables == fixed.variables
        assert (network.num_features, network.num_classes) == (fixed.num_features, 17)
        assert multiply_adds(network) == multiply_adds(fixed)
    assert opens == (set() if family.name.startswith(_FIXED) else {3, 4, 5} & set(family.versions))


@_FAMILIES
def test_the_smallest_size_is_the_smallest_that_fits(family):
    """One pixel less, and some window does not."""
    parameters = family.published_parameters[0]
    if family.smallest_size == 1:  # Then one pixel does; a multiple of more is the family's wish.
        assert family.network(parameters, 1, 17).num_classes == 17
    else:
        assert family.network(parameters, family.smallest_size, 17).num_classes == 17
        with pytest.raises(ValueError, match="does not fit"):
            family.network(parameters, family.smallest_size - 1, 17)
        assert family.size_problem(family.smallest_size) is None
        assert family.size_problem(family.smallest_size - 1) == f"a whole number from {family.smallest_size} to 8192"


def test_means_are_known_by_name_and_value():
    """Modules have them as constants, so that a checkpoint with others is another network's."""
    for name, root in (("vgg_19", "vgg_19"), ("resnet_v1_50_caffe", "resnet_v1_50")):
        network = FAMILIES[name].network(FAMILIES[name].published_parameters[0], 224, 1000)
        unused = FAMILIES[name].unused(f"{root}/mean_rgb")
        assert (unused.title, unused.value) == ("mean of RGB", (123.68, 116.78, 103.94))
        assert (network.input_range, network.channel_means) == ((0.0, 255.0), unused.value)
        assert all(FAMILIES[name].unused(variable.name) is None for variable in network.variables)
    assert FAMILIES["resnet_v1_50"].unused("resnet_v1_50/mean_rgb") is None


def test_vgg_takes_the_mean_over_larger_images():
    """At 224 pixels the features are of a single one."""
    plain, larger = (FAMILIES["vgg_16"].network(Parameters(), size, 1000) for size in (224, 256))
    assert set(larger.endpoints) - set(plain.endpoints) == {"vgg_16/global_pool"}
    assert larger.shapes["vgg_16/fc7/Relu"] == (2, 2, 4096)
    assert larger.shapes[larger.features] == plain.shapes[plain.features] == (4096,)


def test_endpoints_have_the_names_that_programs_look_up():
    """TF-Slim's: layer 1 is the first convolution, 2 to 18 the blocks, of which the first does not expand."""
    endpoints = mobilenet_v2(1.0, 224, None).endpoints
    blocks = range(2, 19)
    assert set(endpoints) == (
        {f"MobilenetV2/layer_{n}" for n in range(1, 20)}
        | {f"MobilenetV2/layer_{n}/output" for n in blocks}
        | {f"MobilenetV2/layer_{n}/depthwise_output" for n in blocks}
        | {f"MobilenetV2/layer_{n}/expansion_output" for n in blocks if n > 2}
        | {"MobilenetV2/global_pool"}
    )
    assert endpoints["MobilenetV2/layer_19"] == "MobilenetV2/Conv_1/Relu6"


def _builder(size=8):
    return Builder("net", ImageSize(size, size), _DEFAULTS)


def _network(builder, net):
    return builder.network(features=builder.features(builder.mean("pool", net)), logits=None)


def test_a_convolution_has_biases_only_without_batch_norm():
    """TF-Slim adds biases where there is no normalizer. An activation is the builder's default, another, or none."""
    b = _builder()
    net = b.conv("normalized", b.images, 4, kernel=3)
    net = b.conv("plain", net, 5, batch_norm=False, activation="relu6")
    normalized, plain = _network(b, b.conv("linear", net, 6, batch_norm=False, activation=None)).layers[1:3]
    assert [type(op) for op in normalized.ops] == [ops.Conv, ops.BatchNorm, ops.Activation]
    assert [type(op) for op in plain.ops] == [ops.Conv, ops.Activation]
    assert [(v.name, v.shape, v.role) for v in plain.variables] == [
        ("net/plain/weights", (1, 1, 4, 5), "kernel"),
        ("net/plain/biases", (5,), "bias"),
    ]
    assert [(v.name, v.shape, v.role, v.weight_decay, v.trainable, v.published) for v in normalized.variables] == [
        ("net/normalized/weights", (3, 3, 3, 4), "kernel", 1e-4, True, True),
        ("net/normalized/BatchNorm/beta", (4,), "beta", 0, True, False),
        ("net/normalized/BatchNorm/gamma", (4,), "gamma", 0, True, False),
        ("net/normalized/BatchNorm/moving_mean", (4,), "moving_mean", 0, False, False),
        ("net/normalized/BatchNorm/moving_variance", (4,), "moving_variance", 0, False, False),
    ]
    assert [op.kind for op in (normalized.ops[-1], plain.ops[-1])] == ["relu", "relu6"]


def test_defaults_are_those_of_the_family():
    """Depthwise kernels with their own decay, batch norm without gamma, and other published counts."""
    defaults = dataclasses.replace(
        _DEFAULTS, depthwise_weight_decay=0.5, batch_norm_scale=False, published_roles=frozenset({"beta"})
    )
    b = Builder("net", ImageSize(8, 8), defaults)
    network = _network(b, b.depthwise_conv("depthwise", b.images, kernel=3))
    assert [(v.role, v.weight_decay, v.published) for v in network.variables] == [
        ("depthwise_kernel", 0.5, False),
        ("beta", 0, True),
        ("moving_mean", 0, False),
        ("moving_variance", 0, False),
    ]


def test_a_separable_convolution_is_one_layer_of_two_convolutions():
    """TF-Slim's separable_conv2d: each input channel gives several, then single pixels are convolved."""
    defaults = dataclasses.replace(_DEFAULTS, depthwise_weight_decay=0.5, bias_weight_decay=0.25)
    b = Builder("net", ImageSize(8, 8), defaults)
    net = b.separable_conv("biased", b.images, 5, kernel=7, multiplier=8, stride=2, batch_norm=False)
    biased, normalized = _network(b, b.separable_conv("normalized", net, 6, kernel=3)).layers[1:3]
    assert [type(op) for op in biased.ops] == [ops.DepthwiseConv, ops.Conv, ops.Activation]
    assert [op.stride for op in biased.ops[:2]] == [(2, 2), (1, 1)]
    assert [(v.name, v.shape, v.role, v.weight_decay) for v in biased.variables] == [
        ("net/biased/depthwise_weights", (7, 7, 3, 8), "depthwise_kernel", 0.5),
        ("net/biased/pointwise_weights", (1, 1, 24, 5), "pointwise_kernel", 0.5),
        ("net/biased/biases", (5,), "bias", 0),
    ]
    assert [type(op) for op in normalized.ops] == [ops.DepthwiseConv, ops.Conv, ops.BatchNorm, ops.Activation]
    assert [v.shape for v in normalized.variables[:2]] == [(3, 3, 5, 1), (1, 1, 5, 6)]


def test_a_family_without_batch_norm_has_biases():
    """Which may decay, as those of dense layers may."""
    defaults = dataclasses.replace(_DEFAULTS, batch_norm_epsilon=None, bias_weight_decay=0.25)
    b = Builder("net", ImageSize(8, 8), defaults)
    pooled = b.mean("pool", b.conv("conv", b.images, 4))
    logits = b.fully_connected("dense", b.squeeze("row", pooled), 7)
    network = b.network(features=b.features(pooled), logits=logits)
    assert [(v.name, v.shape, v.weight_decay) for v in network.variables] == [
        ("net/conv/weights", (1, 1, 3, 4), 1e-4),
        ("net/conv/biases", (4,), 0.25),
        ("net/dense/weights", (4, 7), 1e-4),
        ("net/dense/biases", (7,), 0.25),
    ]
    assert (network.classifier.name, network.num_classes) == ("net/dense", 7)


def test_branches_join_and_gates_multiply():
    """Pools are layers by the name of their scope, with TF-Slim's node below it."""
    b = _builder()
    pooled = b.max_pool("pool", b.images, 3, stride=2)
    both = b.concat("both", [pooled, b.average_pool("pool_1", pooled, 3), pooled])
    assert (pooled, b.channels(both), b.is_pixel(both)) == ("net/pool/MaxPool", 9, False)
    gate = b.mean("gate", both)
    assert b.is_pixel(gate)
    network = _network(b, b.scale("smaller", b.multiply("gated", gate, both), 0.1))
    assert network.shapes["net/smaller"] == (4, 4, 9)
    assert [layer.name for layer in network.layers[1:4]] == ["net/pool", "net/pool_1", "net/both"]
    assert [layer.output for layer in network.layers[1:3]] == ["net/pool/MaxPool", "net/pool_1/AvgPool"]


@pytest.mark.parametrize(("kernel", "before", "after"), [(7, 3, 3), (3, 1, 1), (4, 1, 2), (1, 0, 0)])
def test_explicit_padding_centres_the_kernel_at_every_size(kernel, before, after):
    """TF-Slim's conv2d_same. SAME would start at the other pixel where sizes are even."""
    for size in (8, 9):
        b = _builder(size)
        net = b.conv("strided", b.images, 4, kernel=kernel, stride=2, padding="explicit")
        network = _network(b, b.conv("dense", net, 4, kernel=kernel, padding="explicit"))
        _, pad, strided, *_ = network.ops
        assert (pad.before, pad.after, strided.padding) == ((before, before), (after, after), "VALID")
        [dense] = [op for op in network.ops if op.name == "net/dense"]
        assert (dense.padding, dense.inputs) == ("SAME", (net,))
        assert network.shapes[net] == (-(-size // 2), -(-size // 2), 4)


def test_the_builder_refuses_what_would_be_ambiguous_or_does_not_fit():
    """Two ops of one name, and a sum of different shapes."""
    b = _builder()
    net = b.conv("one", b.images, 4)
    with pytest.raises(ValueError, match="two ops are named net/one"):
        b.conv("one", net, 4)
    with pytest.raises(ValueError, match="net/sum takes tensors of one shape"):
        b.add("sum", net, b.images)


def test_a_biased_convolution_is_no_classifier():
    """The classifier is what leads to the logits, whatever else looks like it."""
    b = _builder()
    net = b.conv("biased", b.images, 4, batch_norm=False, activation=None)
    pooled = b.mean("pool", b.conv("again", net, 4, batch_norm=False, activation=None))
    features = b.features(pooled)
    assert b.network(features=features, logits=None).classifier is None
    logits = b.squeeze("logits/Squeeze", b.conv("logits", pooled, 7, batch_norm=False, activation=None))
    assert b.network(features=features, logits=logits).classifier.name == "net/logits"


def test_a_network_is_laid_out_once():
    """Other classes, versions with images of any size, and parameters make another network."""
    family, parameters = FAMILIES["mobilenet_v1"], DepthMultiplier(depth_multiplier=0.25)
    network = family.network(parameters, 128, 7)
    assert family.network(DepthMultiplier(depth_multiplier=0.25), 128, 7) is network
    others = [
        family.network(parameters, 128, None),
        family.network(parameters, 128, 7, version=3),
        family.network(DepthMultiplier(depth_multiplier=0.5), 128, 7),
    ]
    assert all(other != network for other in others)
