"""NASNet-A and PNASNet-5: how cells are wired, and other numbers of cells and filters, against tf_slim's layers."""

import warnings

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hubexport import build_modules, load_variant
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.networks import ops
from hubexport.networks.image_size import ImageSize
from hubexport.networks.nasnet import NasnetScale, nasnet
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.pnasnet import PnasnetScale, pnasnet
from hubexport.networks.registry import FAMILIES
from hubexport.reference.nasnet import reference_nasnet, reference_pnasnet
from tests.checkpoints import write_v2
from tests.command import hubexport
from tests.data import needs_data
from tests.graphs import load_values, variable_values
from tests.network_facts import values as made_up_values

_NAMES = ("nasnet_mobile", "nasnet_large", "pnasnet_mobile", "pnasnet_large")
_CLASSES = 7
# No third of the cells is whole, and filters are odd where a reduction divides them.
_CELLS, _FILTERS, _STEM, _SIZE = 4, 10, 8, 35
_OTHER_SCALES = {
    "nasnet": (
        nasnet,
        NasnetScale(_CELLS, _FILTERS, _STEM, skips_reduction_input=False, keep_prob=0.9, weight_decay=3e-5),
        lambda *arguments, **options: reference_nasnet(*arguments, weight_decay=3e-5, **options),
    ),
    "nasnet that skips": (
        nasnet,
        NasnetScale(_CELLS, _FILTERS, _STEM, skips_reduction_input=True, keep_prob=1.0, weight_decay=4e-5),
        lambda *arguments, **options: reference_nasnet(*arguments, skip_reduction_input=True, **options),
    ),
    "pnasnet": (pnasnet, PnasnetScale(_CELLS, _FILTERS, _STEM, keep_prob=0.9), reference_pnasnet),
}


def _network(name):
    return FAMILIES[name].network(FAMILIES[name].published_parameters[0], 64, _CLASSES)


@pytest.mark.parametrize(
    ("name", "cell", "earlier"),
    [
        ("nasnet_mobile", "cell_4", "cell_3"),
        ("nasnet_mobile", "cell_5", "reduction_cell_0"),
        ("nasnet_mobile", "reduction_cell_1", "cell_6"),
        ("nasnet_large", "cell_6", "cell_4"),
        ("nasnet_large", "cell_7", "reduction_cell_0"),
        ("nasnet_large", "cell_12", "cell_10"),
        ("nasnet_large", "reduction_cell_1", "cell_10"),
        ("pnasnet_mobile", "cell_4", "cell_2"),
        ("pnasnet_large", "cell_5", "cell_3"),
        ("pnasnet_large", "cell_6", "cell_4"),
    ],
)
def test_the_second_input_of_a_cell(name, cell, earlier):
    """After a reduction it depends on the network: TF-Slim's large NASNet does not look at the reduction's input."""
    inputs = {op.name: op.inputs for op in _network(name).ops}
    assert inputs[f"{cell}/Relu"] == (f"{earlier}/cell_output/concat",)


def test_the_first_cell_takes_its_input_twice():
    """As it is, with other channels than those of the cell."""
    for name in _NAMES:
        inputs = {op.name: op.inputs for op in _network(name).ops}
        assert inputs["cell_stem_0/Relu"] == ("conv0_bn",)
        assert not any(op.startswith(("cell_stem_0/prev", "cell_stem_0/path")) for op in inputs)
        # Its reduction cell takes it by the right operation, PNASNet's by the left one.
        side = "left" if name.startswith("p") else "right"
        assert inputs[f"cell_stem_0/comb_iter_0/{side}/Relu"] == ("conv0_bn",)


@pytest.mark.parametrize(
    ("name", "cells", "normal", "reduction", "last"),
    [("nasnet_large", 22, 8, 9, 0.7), ("pnasnet_large", 14, 9, 9, 0.6)],
)
def test_paths_are_dropped_the_more_the_later_they_come(name, cells, normal, reduction, last):
    """With the final probability of each cell, for all operations but those that do nothing."""
    order = []
    kept = {}
    for op in _network(name).ops:
        cell = op.name.partition("/")[0]
        if "cell_" in cell and cell not in order:
            order.append(cell)
        if isinstance(op, ops.DropPath):
            kept.setdefault(cell, []).append(op.keep_prob)
    assert len(order) == cells and list(kept) == order
    for number, cell in enumerate(order, start=1):
        count = reduction if "stem" in cell or "reduction" in cell else normal
        assert kept[cell] == [pytest.approx(1 - (1 - last) * number / cells)] * count
    assert kept[order[-1]][0] == pytest.approx(last)


@pytest.mark.parametrize("name", ["nasnet_mobile", "pnasnet_mobile"])
def test_the_mobile_ones_drop_no_paths(name):
    """Their final probability of keeping them is 1."""
    assert not any(isinstance(op, ops.DropPath) for op in _network(name).ops)


def test_an_odd_number_of_filters_is_divided():
    """The second half of a factorized reduction gets the larger part."""
    network = nasnet(_OTHER_SCALES["nasnet"][1], ImageSize(_SIZE, _SIZE), None)
    shapes = {variable.name: variable.shape for variable in network.variables}
    assert [shapes[f"cell_stem_1/path{path}_conv/weights"][-1] for path in (1, 2)] == [2, 3]


@pytest.mark.parametrize(
    ("scale", "training"),
    [
        pytest.param("nasnet", True, marks=pytest.mark.slow),
        pytest.param("pnasnet", True, marks=pytest.mark.prove),
        pytest.param("nasnet that skips", True, marks=pytest.mark.prove),
        *(pytest.param(scale, False, marks=pytest.mark.prove) for scale in _OTHER_SCALES),
    ],
)
def test_other_numbers_of_cells_and_filters(scale, training):
    """Variables, decay, endpoints and statistics are those of the network in TF-Slim's idiom; no paths are dropped."""
    lay_out, parameters, reference = _OTHER_SCALES[scale]
    network = lay_out(parameters, ImageSize(_SIZE, _SIZE), _CLASSES)
    values = {variable.name: synthetic_value(variable, seed=3) for variable in network.variables}
    images = np.random.RandomState(0).uniform(size=(3, _SIZE, _SIZE, 3)).astype(np.float32)
    options = {"num_cells": _CELLS, "filters": _FILTERS, "stem_filters": _STEM}
    with tf.Graph().as_default(), tf.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = tf.placeholder(tf.float32, [None, _SIZE, _SIZE, 3])
        built = reference(
            given, _CLASSES, is_training=training, batch_norm_decay=0.25, dropout_keep_prob=1.0, **options
        )
        variables = [(variable.op.name, tuple(variable.shape)) for variable in tf.global_variables()]
        trained = {variable.op.name for variable in tf.trainable_variables()}
        load_values(session, values)
        losses = session.run(built.regularization_losses)
        outputs = session.run({**built.endpoints, "features": built.features, "logits": built.logits}, {given: images})
        session.run(built.update_ops, {given: images})
        after = variable_values(session)
    assert [(variable.name, variable.shape) for variable in network.variables] == variables
    assert {variable.name for variable in network.variables if variable.trainable} == trained
    decays = [(variable.weight_decay, values[variable.name]) for variable in network.variables if variable.weight_decay]
    np.testing.assert_allclose(losses, [decay / 2 * np.square(value).sum() for decay, value in decays], rtol=1e-5)
    forward = Forward(network, values, images, training=training)
    found = forward.run()
    names = {**network.endpoints, "features": network.features, "logits": network.logits}
    assert outputs.keys() == names.keys()
    for key, name in names.items():
        np.testing.assert_allclose(
            found[name], outputs[key], rtol=0, atol=1e-4 * np.abs(outputs[key]).max(), err_msg=key
        )
    moved = {variable.name for variable in network.variables if not variable.trainable} if training else set()
    assert set(forward.batch_statistics) == moved
    for name, value in values.items():
        wanted = 0.25 * value + 0.75 * forward.batch_statistics[name] if name in moved else value
        np.testing.assert_allclose(after[name], wanted, rtol=1e-3, atol=1e-4, err_msg=name)


@needs_data
@pytest.mark.slow
def test_a_checkpoint_as_they_were_published(tmp_path):
    """With an auxiliary head, averaged twins of everything, and a global step: the module gets averages alone."""
    stored, prefix = made_up_values("nasnet_mobile", averages="differ"), tmp_path / "model.ckpt"
    assert sum(name.startswith("aux_7/") for name in stored) == 24
    write_v2(prefix, stored)
    shown = hubexport("inspect", prefix)
    assert shown.returncode == 0, shown.stderr
    assert "nasnet_mobile\n" in shown.stdout and "auxiliary head: 12 variables" in shown.stdout
    variant = load_variant("nasnet_mobile")
    [module] = build_modules(variant, ["classification/3"], checkpoint=prefix, output_dir=tmp_path / "modules")
    built = BundleReader(module / "variables" / "variables")
    assert set(built.shapes) == {variable.name for variable in variant.network_for("classification").variables}
    for name in built.shapes:
        average = stored[f"{name}{AVERAGED_SUFFIX}"]
        assert built.read(name).tobytes() == average.tobytes() != stored[name].tobytes(), name
