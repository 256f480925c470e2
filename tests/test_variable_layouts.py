"""The layouts, against the frameworks that they describe."""

import numpy as np
import pytest
import tensorflow as tf

from hubexport.layouts.conversion_targets import TARGETS
from hubexport.layouts.keras import keras_h5_layout
from hubexport.layouts.registry import KNOWN_LAYOUTS, TARGET_LAYOUTS
from hubexport.layouts.rules import VariableLayout
from hubexport.networks.ops import Variable
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from tests.checkpoints import MOBILENET_V2_MULTIPLIERS

_ALL = {**KNOWN_LAYOUTS, **TARGET_LAYOUTS["tf2"]}


def test_each_target_has_its_layout():
    """So that a new target cannot be forgotten."""
    assert tuple(TARGET_LAYOUTS) == TARGETS


@pytest.mark.parametrize("multiplier", MOBILENET_V2_MULTIPLIERS)
@pytest.mark.parametrize("layout_function", _ALL.values(), ids=_ALL)
def test_a_layout_is_one_to_one(layout_function, multiplier):
    """Every variable has one name, and no two share it."""
    network = mobilenet_v2(multiplier, 96, 7)
    layouts = layout_function(network)
    assert sorted(layout.variable.name for layout in layouts) == sorted(variable.name for variable in network.variables)
    assert len({layout.name for layout in layouts}) == len(layouts)
    assert all(np.prod(layout.shape) == layout.variable.size for layout in layouts)


@pytest.mark.parametrize(
    "multiplier",
    [pytest.param(each, marks=[] if each in (0.35, 1.3) else pytest.mark.slow) for each in MOBILENET_V2_MULTIPLIERS],
)
@pytest.mark.parametrize("head", [True, False], ids=["head", "headless"])
def test_keras_names_and_shapes_are_those_of_its_model(multiplier, head):
    """In the order of its loaders."""
    model = tf.keras.applications.MobileNetV2(
        alpha=multiplier, weights=None, classes=7, include_top=head, input_shape=(96, 96, 3)
    )
    wanted = [
        (f"{layer.name}/{weight.name.split('/')[-1].removesuffix(':0').removeprefix('depthwise_')}", weight.shape)
        for layer in model.layers
        for weight in layer.weights
    ]
    found = keras_h5_layout(mobilenet_v2(multiplier, 96, 7 if head else None))
    assert [(layout.name, layout.shape) for layout in found] == [(name, tuple(shape)) for name, shape in wanted]


@pytest.mark.parametrize(
    ("axes", "shape", "index", "moved_index"),
    [
        pytest.param(None, (2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3, 4), id="as it is"),
        pytest.param((3, 2, 0, 1), (2, 3, 4, 5), (1, 2, 3, 4), (4, 3, 1, 2), id="PyTorch kernel"),
        pytest.param((2, 3, 0, 1), (2, 3, 4, 1), (1, 2, 3, 0), (3, 0, 1, 2), id="PyTorch depthwise kernel"),
        pytest.param((2, 3), (1, 1, 4, 5), (0, 0, 3, 4), (3, 4), id="Keras matrix"),
        pytest.param((3, 2), (1, 1, 4, 5), (0, 0, 3, 4), (4, 3), id="PyTorch matrix"),
        pytest.param((3, 2), (1, 1, 4, 1), (0, 0, 3, 0), (0, 3), id="one class"),
    ],
)
def test_a_number_is_found_where_the_axes_say(axes, shape, index, moved_index):
    """And all numbers come back to their places, bit for bit."""
    value = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    layout = VariableLayout(Variable("x", shape), "y", axes)
    moved = layout.from_slim(value)
    assert moved.shape == layout.shape
    assert moved[moved_index] == value[index]
    np.testing.assert_array_equal(layout.to_slim(moved), value)
