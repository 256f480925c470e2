"""Networks under another root scope than TF-Slim's, and classifiers of programs' own behind their features."""

import json
from pathlib import Path

import numpy as np
import pytest

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, recognize
from hubexport.checkpoints.scope_choice import choose_scope
from hubexport.checkpoints.scopes import Scope
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.conversion import convert
from hubexport.errors import CheckpointError
from hubexport.networks.registry import FAMILIES
from tests.checkpoints import Shapes, network_values, training_values, write_v1, write_v2
from tests.command import hubexport
from tests.ear import Ear

_CLASSES = 7


def _under(scope, values, root="MobilenetV2/"):
    """Puts a scope in place of the root scope; what has none keeps its name."""
    return {f"{scope}{name.removeprefix(root)}" if name.startswith(root) else name: values[name] for name in values}


def _headless(values):
    return {name: value for name, value in values.items() if "/Logits/" not in name}


def _stored(prefix):
    bundle = BundleReader(prefix)
    return {name: bundle.read(name) for name in bundle.shapes}


def _restored(source, tmp_path, ear=None, **options):
    return _stored(convert(source, tmp_path / "restored", "slim", progress=ear, overwrite=True, **options))


def _assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def _said(ear):
    return [note for note in ear.notes if note.startswith("scope: ")]


@pytest.mark.parametrize("write", [write_v1, write_v2], ids=["V1", "V2"])
@pytest.mark.parametrize(
    ("scope", "shown"),
    [
        ("module/MobilenetV2/", "module/MobilenetV2"),
        ("a/b/MobilenetV2/", "a/b/MobilenetV2"),
        ("backbone/", "backbone"),
        ("", "(none)"),
    ],
)
@pytest.mark.parametrize(("weights", "seed"), [("auto", 1), ("averaged", 1), ("raw", 2)])
def test_a_training_under_another_scope(tmp_path, write, scope, shown, weights, seed):
    """Averages, slots and the step are what they are without a scope, and the scope is said."""
    write(tmp_path / "c", _under(scope, training_values(averaged_seed=1, raw_seed=2)))
    ear = Ear()
    _assert_equal(_restored(tmp_path / "c", tmp_path, ear, weights=weights), network_values(seed=seed))
    assert _said(ear) == [f"scope: {shown} holds all variables of MobileNet V2, depth multiplier 0.35"]


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("keeps_root", [True, False])
def test_every_network_is_found_under_a_scope(family, keeps_root):
    """Without its root scope, it is not taken for a smaller one whose variables it has: VGG 16, ResNet 50."""
    network = family.network(family.published_parameters[0], max(96, family.smallest_size), _CLASSES)
    wanted = {one.name: one.shape for one in network.variables}
    root = next(iter(wanted)).partition("/")[0] + "/"
    root = root if all(name.startswith(root) for name in wanted) else ""
    prefix = f"x/{root * keeps_root}"
    stored = Shapes({f"{prefix}{name.removeprefix(root)}": shape for name, shape in wanted.items()})
    scope = choose_scope(stored, None, [], None, Path("c"))
    assert scope == Scope(prefix, root)
    found = recognize(scope.applied(stored))
    assert (found.num_classes, {one.name: one.shape for one in found.variable_layouts}) == (_CLASSES, wanted)


@pytest.fixture
def towers(tmp_path):
    """A checkpoint with two networks, each under its own scope."""
    values = {
        **_under("tower_0/MobilenetV2/", network_values(seed=1)),
        **_under("tower_1/MobilenetV2/", network_values(seed=2)),
    }
    write_v2(tmp_path / "c", values)
    return tmp_path / "c"


def test_several_scopes_are_listed(towers, tmp_path):
    """Nothing tells which is meant."""
    with pytest.raises(CheckpointError, match="cannot tell which network of .* is meant") as caught:
        _restored(towers, tmp_path)
    assert caught.value.details == (
        "tower_0/MobilenetV2: MobileNet V2, depth multiplier 0.35",
        "tower_1/MobilenetV2: MobileNet V2, depth multiplier 0.35",
    )
    assert "--scope tower_0/MobilenetV2" in caught.value.fix


def test_several_scopes_are_described_and_compared(towers):
    """Neither takes one of the networks, so neither has to know which is meant."""
    for command in (["inspect", towers], ["diff", towers, towers]):
        done = hubexport(*command)
        assert done.returncode == 0, done.stderr
        assert "WARNING cannot tell which network of" in done.stderr and "tower_1/MobilenetV2: MobileNet" in done.stderr


@pytest.mark.parametrize("scope", ["tower_1", "tower_1/", "tower_1/MobilenetV2", "/tower_1/MobilenetV2/"])
def test_a_scope_that_is_named(towers, tmp_path, scope):
    """With or without the network's own root scope."""
    _assert_equal(_restored(towers, tmp_path, scope=scope), network_values(seed=2))


def test_a_scope_beside_the_networks_own_names(tmp_path):
    """The network's own names go first, unless the other is named."""
    values = {**network_values(seed=1), **_under("teacher/MobilenetV2/", network_values(seed=2))}
    write_v2(tmp_path / "c", values)
    ear = Ear()
    _assert_equal(_restored(tmp_path / "c", tmp_path, ear), network_values(seed=1))
    assert _said(ear) == []
    _assert_equal(_restored(tmp_path / "c", tmp_path, scope="teacher"), network_values(seed=2))
    _assert_equal(_restored(tmp_path / "c", tmp_path, scope="MobilenetV2"), network_values(seed=1))


def test_the_variant_tells_the_network(small, tmp_path):
    """Of two networks in scopes, the one of its family is meant."""
    family = FAMILIES["mobilenet_v1"]
    other = family.network(family.published_parameters[-1], 96, None)
    values = _under("student/", network_values()) | {
        f"teacher/{one.name}": synthetic_value(one, 3) for one in other.variables
    }
    write_v2(tmp_path / "c", values)
    with pytest.raises(CheckpointError, match="cannot tell which network"):
        _restored(tmp_path / "c", tmp_path)
    _assert_equal(_restored(tmp_path / "c", tmp_path, variant=small), network_values())


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        ("tower_2", "none of its 523 values is a network's variable in this scope"),
        ("", "none of its 523 values is a network's variable in this scope"),
        (
            "broken",
            "1 of the 260 variables of MobileNet V2, depth multiplier 0.35 in scope broken/MobilenetV2 do not fit",
        ),
    ],
)
def test_a_scope_without_a_network(tmp_path, scope, why):
    """The scopes that have one are listed."""
    write_v2(
        tmp_path / "c",
        {
            **_under("tower_0/", network_values(seed=1)),
            **_under(
                "broken/MobilenetV2/",
                {name: value for name, value in network_values(seed=2).items() if name != "MobilenetV2/Conv_1/weights"},
            ),
        },
    )
    with pytest.raises(CheckpointError, match="no network in scope") as caught:
        _restored(tmp_path / "c", tmp_path, scope=scope)
    assert why in caught.value.why
    assert caught.value.details == ("tower_0: MobileNet V2, depth multiplier 0.35",)


def test_a_network_that_nearly_fits_under_a_scope(tmp_path):
    """The error says what does not."""
    values = _under("module/MobilenetV2/", network_values())
    del values["module/MobilenetV2/Conv_1/weights"]
    write_v2(tmp_path / "c", values)
    with pytest.raises(CheckpointError, match="cannot identify") as caught:
        _restored(tmp_path / "c", tmp_path)
    assert (
        "1 of the 260 variables of MobileNet V2, depth multiplier 0.35 in scope module/MobilenetV2" in caught.value.why
    )
    assert caught.value.details == ("module/MobilenetV2/Conv_1/weights: missing, expected shape [1, 1, 112, 1280]",)


_HEADS = {
    "retrain": ("final_retrain_ops/weights/final_weights", "final_retrain_ops/biases/final_biases"),
    "dense": ("dense/kernel", "dense/bias"),
    "in the scope": ("module/dense/kernel", "module/dense/bias"),
}


def _head(weights, biases, inputs=1280):
    generator = np.random.default_rng(1)
    return {
        weights: generator.normal(size=[inputs, _CLASSES]).astype(np.float32),
        biases: generator.normal(size=[_CLASSES]).astype(np.float32),
    }


@pytest.mark.parametrize(("weights", "biases"), _HEADS.values(), ids=_HEADS)
@pytest.mark.parametrize("averaged", [True, False])
def test_the_dense_layer_behind_a_feature_vector_is_the_classifier(small, tmp_path, weights, biases, averaged):
    """As retrain.py and tf.layers.dense train it, with averages, and slots of both TensorFlows."""
    head = _head(weights, biases)
    features = _under("module/MobilenetV2/", _headless(network_values()))
    values = {**features, **head, "beta1_power": np.float32(0.9), "global_step": np.int64(3)}
    for slot in ("{}/Adam", "Adam/m/{}", "Adam/{}/v"):
        trained = {name: value for name, value in (features | head).items() if "/moving_" not in name}
        values |= {slot.format(name): np.zeros_like(value) for name, value in trained.items()}
    if averaged:
        values |= {f"{name}{AVERAGED_SUFFIX}": value for name, value in (features | head).items()}
        values |= {name: np.zeros_like(value) for name, value in (features | head).items()}
    write_v2(tmp_path / "c", values)
    wanted = {
        **_headless(network_values()),
        "MobilenetV2/Logits/Conv2d_1c_1x1/weights": head[weights].reshape(1, 1, 1280, _CLASSES),
        "MobilenetV2/Logits/Conv2d_1c_1x1/biases": head[biases],
    }
    _assert_equal(_restored(tmp_path / "c", tmp_path), wanted)
    _assert_equal(_restored(tmp_path / "c", tmp_path, variant=small), wanted)


def test_a_dense_layer_beside_two_networks_is_nobodys_classifier(tmp_path):
    """It may belong to either. Slots of an optimizer are no second network."""
    student = _under("student/MobilenetV2/", _headless(network_values(seed=2)))
    write_v2(tmp_path / "c", {**_headless(network_values()), **student, **_head("dense/kernel", "dense/bias")})
    ear = Ear()
    _assert_equal(_restored(tmp_path / "c", tmp_path, ear), _headless(network_values()))
    assert any("only its features are used" in line for line in ear.warnings)


@pytest.mark.parametrize(
    "more",
    [
        {"hidden/kernel": (1280, 128), "hidden/bias": (128,), "dense/kernel": (128, 7), "dense/bias": (7,)},
        {"a/kernel": (1280, 7), "a/bias": (7,), "b/kernel": (1280, 7), "b/bias": (7,)},
        {"batch_normalization/gamma": (1280,), "dense/kernel": (1280, 7), "dense/bias": (7,)},
        {"dense/kernel": (1280, 7)},
        {"dense/kernel": (1280, 7), "dense/bias": (6,)},
    ],
    ids=["hidden", "two", "batch norm", "no bias", "another bias"],
)
def test_other_layers_behind_a_feature_vector_are_named(small, tmp_path, more):
    """Only the features are used, and a classification says what was found."""
    values = {name: np.ones(shape, np.float32) for name, shape in more.items()}
    write_v2(tmp_path / "c", {**_under("module/MobilenetV2/", _headless(network_values())), **values})
    ear = Ear()
    _assert_equal(_restored(tmp_path / "c", tmp_path, ear), _headless(network_values()))
    [warning] = [one for one in ear.warnings if "only its features are used" in one]
    assert all(name in warning for name in more)


def test_layers_that_do_not_take_the_features_are_no_classifier(tmp_path):
    """They are another part of a program, like the head of a detector."""
    values = {**_under("FeatureExtractor/MobilenetV2/", _headless(network_values())), **_head("k", "b", inputs=1279)}
    write_v2(tmp_path / "c", values)
    ear = Ear()
    _assert_equal(_restored(tmp_path / "c", tmp_path, ear), _headless(network_values()))
    assert not any("only its features are used" in one for one in ear.warnings)


def test_what_is_outside_gives_way():
    """A value outside of the scope may have the name that one inside gets."""
    values = {"MobilenetV2/Conv/x": 1, "module/MobilenetV2/Conv/x": 2, "y": 3}

    stored = Shapes({name: (value,) for name, value in values.items()})
    assert Scope("module/MobilenetV2/", "MobilenetV2/").applied(stored).shapes == {
        "MobilenetV2/Conv/x": (2,),
        "y": (3,),
    }


def test_every_command_that_builds_takes_a_scope(towers, config_dir, tmp_path):
    """The manifest records it, and `verify` looks there."""
    options = ("--config-dir", config_dir, "--checkpoint", towers)
    chosen = ("--scope", "tower_1/")
    build = ("build", "--variant", "small", "--module", "classification/2", "--output-dir", tmp_path / "m")
    refused = hubexport(*build, *options)
    assert refused.returncode == 1 and "--scope tower_0/MobilenetV2" in refused.stderr
    built = hubexport(*build, *options, *chosen)
    assert built.returncode == 0 and "scope: tower_1/MobilenetV2 holds" in built.stderr
    module = Path(built.stdout.strip())
    assert json.loads((module / "hubexport.json").read_text())["checkpoint"]["scope"] == "tower_1"
    _assert_equal(_stored(module / "variables" / "variables"), network_values(seed=2))
    checks = ("--checks", "rebuild", "--checks", "weights")
    for scope, status in ((), 0), (chosen, 0), (("--scope", "tower_0"), 1):
        assert hubexport("verify", module, *options, *checks, *scope).returncode == status


def test_a_release_takes_a_scope(towers, config_dir, tmp_path):
    """It is an input: another scope would change what is published."""
    release = ("release", "--config-dir", config_dir, "--checkpoint", towers, "--variant", "small")
    release += ("--module", "feature_vector/5", "--checks", "rebuild,weights", "--output-dir", tmp_path / "dist")
    done = hubexport(*release, "--scope", "tower_1")
    assert done.returncode == 0, done.stderr
    assert hubexport("check", tmp_path / "dist").returncode == 0
    again = hubexport(*release, "--scope", "tower_0", "--dry-run")
    assert again.returncode == 1 and "refuse" in again.stdout


def test_a_scope_that_cannot_be_recorded(towers, tmp_path):
    """Manifests hold only what can be printed."""
    with pytest.raises(CheckpointError, match="not a valid scope"):
        _restored(towers, tmp_path, scope="tower\n1")
