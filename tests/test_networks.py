"""The layer lists against the published table and the paper."""

import pytest

from hubexport.networks.ops import Add
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from tests.data import needs_data, published_table


@needs_data
def test_multiply_adds_and_parameters_are_those_of_all_published_variants():
    """The table truncates both, and leaves batch norm out of its parameters."""
    table = published_table()
    assert len(table) == 22
    for row in table:
        network = mobilenet_v2(float(row["depth_multiplier"]), int(row["image_size"]), 1001)
        assert network.multiply_adds // 1_000_000 == int(row["macs_millions"]), row["variant"]
        assert f"{network.published_parameters // 10_000 / 100:.2f}" == row["parameters_millions"], row["variant"]


def test_layers_have_the_shapes_of_the_papers_table_2():
    """At 224 pixels: the first column gives the input of each stage."""
    shapes = mobilenet_v2(1.0, 224, 1001).shapes
    assert shapes["MobilenetV2/Conv"] == (112, 112, 32)
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
    assert shapes["MobilenetV2/Conv_1"] == (7, 7, 1280)
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
    assert {network.shapes[layer.name][-1] % 8 for layer in network.layers[1:]} == {0}


def test_only_convolution_weights_are_regularized():
    """Depthwise weights, biases and batch norm are not."""
    variables = mobilenet_v2(1.0, 224, 1001).variables
    assert {v.name.rpartition("/")[2] for v in variables if v.regularized} == {"weights"}
    assert all(v.regularized for v in variables if v.name.endswith("/weights"))
    assert {v.name.rpartition("/")[2] for v in variables if not v.trainable} == {
        "moving_mean",
        "moving_variance",
    }


def test_residuals_are_where_stride_is_1_and_depths_agree():
    """Ten of the seventeen blocks."""
    layers = mobilenet_v2(1.0, 224, None).layers
    assert sum(isinstance(layer, Add) for layer in layers) == 10
    strides = [layer.stride for layer in layers if isinstance(layer, DepthwiseConv2D)]
    assert strides == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]


def test_a_network_without_classes_has_no_classifier():
    """A feature_vector module "saves the space occupied by the classification layer"."""
    features, full = mobilenet_v2(0.5, 96, None), mobilenet_v2(0.5, 96, 17)
    assert features.num_classes is None
    assert full.num_classes == 17
    assert {v.name for v in full.variables} - {v.name for v in features.variables} == {
        "MobilenetV2/Logits/Conv2d_1c_1x1/weights",
        "MobilenetV2/Logits/Conv2d_1c_1x1/biases",
    }
    assert set(full.endpoints) - set(features.endpoints) == {"MobilenetV2/Logits", "MobilenetV2/Predictions"}


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
    assert endpoints["MobilenetV2/layer_19"] == "MobilenetV2/Conv_1"


def test_a_convolution_has_biases_only_without_batch_norm():
    """TF-Slim adds biases where there is no normalizer."""
    plain = Conv2D("c", ("i",), filters=4, kernel_size=3, batch_norm=False).variables((8, 8, 2))
    normalized = Conv2D("c", ("i",), filters=4, kernel_size=3).variables((8, 8, 2))
    assert [v.name for v in plain] == ["c/weights", "c/biases"]
    assert [v.shape for v in normalized] == [(3, 3, 2, 4)] + [(4,)] * 4
