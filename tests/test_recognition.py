"""Recognizing a network and its classifier from names and shapes."""

from collections import Counter
import dataclasses

import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.recognize import _telling_name, recognize
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.errors import CheckpointError
from hubexport.layouts.registry import KNOWN_LAYOUTS
from hubexport.networks.registry import FAMILIES
from hubexport.progress import Progress
from tests.checkpoints import Shapes, training_values

_SLIM_HEAD = "MobilenetV2/Logits/Conv2d_1c_1x1"


def _shapes(layout, classes=7, family=FAMILIES["mobilenet_v2"], parameters=None):
    network = family.network(parameters or family.published_parameters[0], max(96, family.smallest_size), classes)
    return {entry.name: entry.shape for entry in KNOWN_LAYOUTS[layout].of(network)}


def _with_unused(shapes, family):
    """Adds what the family's checkpoints hold besides: an auxiliary head, or a mean."""
    unused = {one.pattern.replace("*", "Conv2d/weights"): (3,) for one in family.unused_variables}
    return {**shapes, **unused}


# Each layout with each family that it has, and with each of the family's published parameters.
_PAIRS = [
    (name, family) for name, layout in KNOWN_LAYOUTS.items() for family in FAMILIES.values() if layout.has(family.name)
]
_CASES = [
    pytest.param(layout, family, parameters, id="-".join(filter(None, (layout, family.name, str(parameters)))))
    for layout, family in _PAIRS
    for parameters in family.published_parameters
]


def test_every_family_is_tried():
    """TF-Slim's layout has all of them, the others those that they have a table for."""
    assert [family for layout, family in _PAIRS if layout == "TF-Slim"] == [*FAMILIES.values()]
    assert {layout for layout, _ in _PAIRS} == set(KNOWN_LAYOUTS)


@pytest.mark.parametrize(("layout", "family", "parameters"), _CASES)
@pytest.mark.parametrize("classes", [7, 1, None])
def test_a_network_with_or_without_classifier(layout, family, parameters, classes):
    """In every layout, for every family and all of its published parameters."""
    shapes = _shapes(layout, classes, family, parameters)
    found = recognize(Shapes(_with_unused(shapes, family)))
    assert (found.layout, found.family, found.parameters) == (layout, family, parameters)
    assert (found.num_classes, found.further) == (classes, ())
    assert {variable.name: variable.shape for variable in found.variable_layouts} == shapes
    training = {
        **_with_unused(shapes, family),
        "global_step": (),
        **{f"{name}/RMSProp": shape for name, shape in shapes.items()},
    }
    if layout == "TF-Slim":
        averaged = {f"{name}/ExponentialMovingAverage": shape for name, shape in shapes.items()}
        averaged |= _with_unused({}, family)
        for stored in (training, averaged, {**training, **averaged}):
            assert recognize(Shapes(stored, {"global_step": "int64"})) == found


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_network_of_other_shapes_is_not_recognized(family):
    """Neither one with a variable of another shape, nor one that lacks a variable."""
    shapes = _shapes("TF-Slim", 7, family)
    features = {one.name for one in family.network(family.published_parameters[0], 224, None).variables}
    [*_, last] = (name for name in shapes if name in features and len(shapes[name]) == 1)
    assert recognize(Shapes({**shapes, last: (shapes[last][0] + 1,)})) is None
    assert recognize(Shapes({name: shape for name, shape in shapes.items() if name != last})) is None


@pytest.mark.parametrize(("layout", "family"), _PAIRS, ids=lambda value: getattr(value, "name", value))
def test_recognition_lays_out_few_networks(monkeypatch, layout, family):
    """Its time does not grow with the number of families: those whose telling variable is not there cost nothing."""
    laid_out = Counter()

    def counted(one):
        def lay_out(*arguments):
            laid_out[one.name] += 1
            return one.lay_out(*arguments)

        return dataclasses.replace(one, lay_out=lay_out)

    shapes = _with_unused(_shapes(layout, 7, family, family.published_parameters[-1]), family)
    counting = {name: counted(one) for name, one in FAMILIES.items()}
    _telling_name.cache_clear()
    with monkeypatch.context() as patch:
        for name, one in counting.items():
            patch.setitem(FAMILIES, name, one)
        assert recognize(Shapes(shapes)).family is counting[family.name]
    # What a format with a table calls the telling variable of a family, its table says for a network. Families whose
    # networks have the same variables share one.
    told = {one.name for one in FAMILIES.values() if one.telling_variable in {family.telling_variable, *shapes}}
    assert set(laid_out) <= {*told, *(KNOWN_LAYOUTS[layout].networks or ())}
    assert laid_out[family.name] <= len(family.published_parameters) + 8


@pytest.mark.parametrize(
    ("layout", "weights", "biases"),
    [
        ("Keras .h5", "flowers/kernel", "flowers/bias"),
        ("Keras .weights.h5", "layers/dense_1/vars/0", "layers/dense_1/vars/1"),
    ],
)
def test_keras_may_call_the_classifier_anything(layout, weights, biases):
    """As long as it is a dense layer."""
    found = recognize(Shapes({**_shapes(layout, None), weights: (1280, 5), biases: (5,)}))
    assert (found.num_classes, [variable.name for variable in found.variable_layouts[-2:]]) == (5, [weights, biases])


_FURTHER = [
    ("TF-Slim", {f"{_SLIM_HEAD}/weights": (1, 1, 128, 7), f"{_SLIM_HEAD}/biases": (7,)}),
    ("TF-Slim", {"MobilenetV2/Logits/hidden/weights": (1, 1, 1280, 1280)}),
    ("Keras .h5", {"hidden/kernel": (1280, 1280), "hidden/bias": (1280,)}),
    ("Keras .h5", {"predictions/kernel": (128, 7), "hidden/kernel": (1280, 128), "hidden/bias": (128,)}),
    ("Keras .h5", {"batch_normalization/gamma": (1280,)}),
    ("Keras .weights.h5", {"layers/dense_1/vars/0": (7, 7), "layers/dense_1/vars/1": (7,)}),
    ("Keras .weights.h5", {"layers/p_re_lu/vars/0": (1280,)}),
    ("Hugging Face", {"classifier.weight": (7, 128)}),
    ("Hugging Face", {"hidden.weight": (1280, 1280), "hidden.bias": (1280,)}),
    ("Hugging Face without head", {"hidden.weight": (1280, 1280)}),
]


@pytest.mark.parametrize(("layout", "more"), _FURTHER)
def test_more_than_one_dense_layer_is_no_classifier(layout, more):
    """The features are still recognized, and the result names what is left out."""
    found = recognize(Shapes({**_shapes(layout), **more}))
    assert (found.layout, found.num_classes) == (layout, None)
    assert set(more) <= set(found.further)
    assert {variable.name: variable.shape for variable in found.variable_layouts} == _shapes(layout, None)


def test_half_a_classifier_is_no_classifier():
    """Weights without biases."""
    for layout in KNOWN_LAYOUTS:
        shapes = _shapes(layout)
        *_, weights, biases = shapes
        del shapes[biases]
        assert recognize(Shapes(shapes)).further == (weights,)


@pytest.mark.parametrize(
    ("layout", "more", "dtype"),
    [
        ("TF-Slim", {"MobilenetV2/Conv/weights/RMSProp": (3, 3, 3, 16), "global_step": ()}, "float32"),
        ("TF-Slim", {f"{_SLIM_HEAD}/weights/Momentum": (1, 1, 1280, 7)}, "float32"),
        ("TF-Slim", {"Somebody/else/weights": (5, 5)}, "float32"),
        ("Keras .h5", {"optimizer_weights/Adam/m/Conv1/kernel:0": (3, 3, 3, 16)}, "float32"),
        ("Keras .weights.h5", {"optimizer/vars/1": (3, 3, 3, 16)}, "float32"),
        ("Keras .weights.h5", {"layers/dropout/seed_generator/vars/0": (2,)}, "uint32"),
        ("Hugging Face", {"mobilenet_v2.conv_stem.first_conv.normalization.num_batches_tracked": ()}, "int64"),
    ],
)
def test_values_outside_of_layers_do_not_matter(layout, more, dtype):
    """Slots and counters of a training, seeds, and other programs' values in TF-Slim's checkpoints."""
    found = recognize(Shapes({**_shapes(layout), **more}, dict.fromkeys(more, dtype)))
    assert (found.num_classes, found.further) == (7, ())


@pytest.mark.parametrize(
    ("layout", "more"),
    [
        ("Keras .h5", "Conv1/bias"),
        ("Keras .weights.h5", "layers/conv2d/vars/1"),
        ("Hugging Face", "mobilenet_v2.conv_stem.first_conv.convolution.bias"),
    ],
)
def test_a_layer_with_more_values_is_of_another_network(layout, more):
    """A convolution with biases beside its batch norm computes something else."""
    assert recognize(Shapes({**_shapes(layout), more: (16,)})) is None


def test_a_hidden_layer_in_the_scope_of_slim_is_left_out(small, tmp_path):
    """A feature vector is built with a warning, a classification is refused."""
    values = {**training_values(), "MobilenetV2/Logits/hidden/weights": np.ones([1, 1, 1280, 1280], np.float32)}
    write_bundle(tmp_path / "c", {name: np.float32(value) for name, value in values.items()})
    warnings = []
    progress = Progress()
    progress.warn = warnings.append
    options = {"checkpoint": tmp_path / "c", "output_dir": tmp_path, "progress": progress}
    build_modules(small, ["feature_vector/3"], **options)
    assert len(warnings) == 1 and "MobilenetV2/Logits/hidden/weights" in warnings[0]
    with pytest.raises(CheckpointError) as caught:
        build_modules(small, ["classification/3"], **options)
    assert caught.value.why.startswith("this checkpoint has no classifier: MobilenetV2/Logits/")
