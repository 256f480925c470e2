"""The layouts, against the frameworks that they describe."""

import numpy as np
import pytest
import tensorflow as tf

from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.errors import UsageError
from hubexport.layouts.conversion_targets import LAYOUT_TARGETS
from hubexport.layouts.keras import keras_h5_layout
from hubexport.layouts.registry import KNOWN_LAYOUTS, TARGET_LAYOUTS, target_layouts
from hubexport.layouts.rules import VariableLayout
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.networks.ops import Variable
from hubexport.networks.registry import FAMILIES
from tests.checkpoints import MOBILENET_V2_MULTIPLIERS

_ALL = {**KNOWN_LAYOUTS, **TARGET_LAYOUTS["tf2"]}
# Each layout with the networks of each family that it has.
_PAIRS = [
    pytest.param(layout, family, parameters, id="-".join(filter(None, (name, family.name, str(parameters)))))
    for name, layout in _ALL.items()
    for family in FAMILIES.values()
    for parameters in family.published_parameters
    if layout.has(family.name)
]


def test_each_target_has_its_layout():
    """So that a new target cannot be forgotten."""
    assert tuple(TARGET_LAYOUTS) == LAYOUT_TARGETS


def test_tables_name_families_that_exist():
    """Or a slip of the pen would hide a table."""
    named = {name for layout in _ALL.values() for name in layout.networks or ()}
    assert named == {"mobilenet_v2"} <= set(FAMILIES)


@pytest.mark.parametrize("classes", [7, None], ids=["head", "headless"])
@pytest.mark.parametrize(("layout", "family", "parameters"), _PAIRS)
def test_a_layout_is_one_to_one(layout, family, parameters, classes):
    """Every variable has one name, and no two share it."""
    network = family.network(parameters, max(96, family.smallest_size), classes)
    layouts = layout.of(network)
    assert sorted(entry.variable.name for entry in layouts) == sorted(variable.name for variable in network.variables)
    assert len({entry.name for entry in layouts}) == len(layouts)
    assert all(np.prod(entry.shape) == entry.variable.size for entry in layouts)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", LAYOUT_TARGETS)
def test_a_target_has_a_family_or_says_which_ones_it_has(target, family):
    """Slim, safetensors and tf2 need no table."""
    layouts = TARGET_LAYOUTS[target]
    if target not in ("keras", "huggingface") or family == "mobilenet_v2":
        assert target_layouts(target, family) == layouts
        return
    with pytest.raises(UsageError) as caught:
        target_layouts(target, family)
    assert target in caught.value.what and family in caught.value.what
    assert "mobilenet_v2" in caught.value.why and "resnet" not in caught.value.why
    assert all(other in caught.value.fix for other in ("slim", "safetensors", "tf2"))


@pytest.mark.parametrize(("target", "name"), [("keras", "c.h5"), ("keras", "c.weights.h5"), ("huggingface", "c")])
def test_a_conversion_without_a_table_is_refused(tmp_path, target, name):
    """Whether the variant tells the family, or the source's own names; nothing is written."""
    prefix = convert("synthetic:1", tmp_path / "source", "slim", variant=load_variant("mobilenet_v1_025_128"))
    before = sorted(tmp_path.iterdir())
    for source, variant in (("synthetic:1", load_variant("resnet_v2_50")), (prefix, None)):
        with pytest.raises(UsageError) as caught:
            convert(source, tmp_path / name, target, variant=variant)
        assert (variant.network if variant else "mobilenet_v1") in caught.value.what
        assert "mobilenet_v2" in caught.value.why
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "multiplier",
    [pytest.param(each, marks=[] if each in (0.35, 1.3) else pytest.mark.prove) for each in MOBILENET_V2_MULTIPLIERS],
)
@pytest.mark.parametrize("head", [True, False], ids=["head", "headless"])
@pytest.mark.slow
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
    layout = VariableLayout(Variable("x", shape, "kernel"), "y", axes)
    moved = layout.from_slim(value)
    assert moved.shape == layout.shape
    assert moved[moved_index] == value[index]
    np.testing.assert_array_equal(layout.to_slim(moved), value)
