"""What checkpoints hold beside a network: a mean of RGB that tells two networks apart, auxiliary heads."""

import json

import numpy as np
import pytest

from hubexport.checkpoints.beside_network import unused_variables
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, recognize
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.config_files import load_variant
from hubexport.layouts.tf2 import KEY_SUFFIX
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.family import Family, Paper, UnusedVariables
from hubexport.networks.registry import FAMILIES
from tests.checkpoints import write_v1, write_v2
from tests.command import hubexport
from tests.data import DATA, needs_data
from tests.toys import registered

_CONFIG = """\
network: {}
image_size: 20
num_classes: 5
dataset: made up
modules: [feature_vector/3, classification/5]
"""
_MEANS = (123.68, 116.78, 103.94)
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-3, weight_decay=1e-3)


def _lay_out(image_size, num_classes, **images):
    b = Builder("Alike", image_size, _DEFAULTS)
    features = b.features(b.endpoint("Alike/pool", b.mean("pool", b.conv("Conv", b.images, 8, kernel=3))))
    logits = None
    if num_classes is not None:
        net = b.conv("Logits/Conv2d", "Alike/pool", num_classes, batch_norm=False, activation=None)
        logits = b.endpoint("Alike/Logits", b.squeeze("Logits/Squeeze", net))
    return b.network(features=features, logits=logits, **images)


def _family(name, title, classes, images, *unused):
    return Family(
        name=name,
        title=title,
        page_tag="alike",
        about="Two look alike.",
        paper=Paper(title="Twins", authors="A. Child", year=2001, url="https://example.invalid/"),
        pretrained=None,
        lay_out=lambda parameters, size, number: _lay_out(size, number, **images),
        telling_variable="Alike/Conv/weights",
        momentum=0.9,
        published_classes=classes,
        unused_variables=(UnusedVariables("Alike/AuxLogits/*", "auxiliary head"), *unused),
    )


_PLAIN = _family("alike", "Alike", 7, {})
_MEAN = UnusedVariables("Alike/mean_rgb", "mean of RGB", value=_MEANS)
_CAFFE_IMAGES = {"input_range": (0.0, 255.0), "channel_means": _MEANS}
_CAFFE = _family("alike_caffe", "Alike from Caffe", 5, _CAFFE_IMAGES, _MEAN)


@pytest.fixture(autouse=True)
def alike(tmp_path):
    """Registers two families whose networks have the same variables, with a variant of each in the folder `configs`."""
    (tmp_path / "configs").mkdir()
    with registered(_PLAIN, _CAFFE):
        for family in (_PLAIN, _CAFFE):
            (tmp_path / "configs" / f"{family.name}_20.yaml").write_text(_CONFIG.format(family.name))
        yield


def _values(classes=5, **more):
    values = {one.name: synthetic_value(one, 1) for one in _CAFFE.network(_CAFFE.parameters(), 20, classes).variables}
    return {**values, **{f"Alike/{name}": value for name, value in more.items()}}


def _inspected(path):
    done = hubexport("inspect", path)
    described = json.loads(hubexport("inspect", path, "--format", "json").stdout)
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()[1:]]
    return done.returncode, {label: text for label, text in lines}, described


def _build(tmp_path, name):
    options = ("--config_dir", tmp_path / "configs", "--output_dir", tmp_path / "modules")
    return hubexport("build", "--variant", name, "--checkpoint", tmp_path / "c", *options)


@pytest.mark.parametrize("name", ["alike_20", "alike_caffe_20"])
def test_a_network_without_its_mean_is_whatever_is_built(tmp_path, name):
    """Both networks fit, and nobody is warned."""
    write_v2(tmp_path / "c", _values())
    done = _build(tmp_path, name)
    assert done.returncode == 0 and "WARN" not in done.stderr.upper(), done.stderr
    manifest = tmp_path / "modules" / load_variant(name, tmp_path / "configs").handle("feature_vector/3")
    assert json.loads((manifest / "hubexport.json").read_text())["network"] == name.removesuffix("_20")


@pytest.mark.parametrize(
    ("classes", "shown", "first"),
    [
        (5, "alike_caffe or alike (5 classes suggest alike_caffe)", "alike_caffe"),
        (7, "alike or alike_caffe (7 classes suggest alike)", "alike"),
        (6, "alike or alike_caffe", "alike"),
        (None, "alike or alike_caffe", "alike"),
    ],
)
def test_inspect_names_all_networks_that_fit(tmp_path, classes, shown, first):
    """The number of classes is a hint, and no more."""
    write_v2(tmp_path / "c", _values(classes))
    status, lines, described = _inspected(tmp_path / "c")
    assert (status, lines["network"]) == (0, shown)
    assert [described["network"], *described["other_networks"]] == [first, *({"alike", "alike_caffe"} - {first})]


def test_a_mean_tells_the_network(tmp_path):
    """Some files give more of its digits. The other network is refused: it would take the images without the mean."""
    write_v2(tmp_path / "c", _values(mean_rgb=np.float32([123.68, 116.779, 103.939])))
    status, lines, described = _inspected(tmp_path / "c")
    assert (status, lines["network"], described["other_networks"]) == (0, "alike_caffe", [])
    assert lines["besides"] == "mean of RGB: 1 variable, not exported"
    assert _build(tmp_path, "alike_caffe_20").returncode == 0
    done = _build(tmp_path, "alike_20")
    assert done.returncode == 1
    assert "this is Alike from Caffe, not Alike: it has Alike/mean_rgb" in done.stderr
    assert "fix: use a variant with network: alike_caffe" in done.stderr


@pytest.mark.parametrize(
    ("mean", "shown"),
    [
        (np.float32([1, 2, 3]), "1, 2, 3"),
        (np.float32([103.94, 116.78, 123.68]), "103.94, 116.78, 123.68"),
        (np.float32([123.68, 116.78, np.nan]), "123.68, 116.78, nan"),
        (np.float32([[123.68, 116.78, 103.94]]), "float32 of shape [1, 3]"),
        (np.float32([]), "float32 of shape [0]"),
        (np.array([b"red", b"green", b"blue"]), "string of shape [3]"),
    ],
)
def test_another_mean_is_refused_before_anything_is_written(tmp_path, mean, shown):
    """By build, convert and release, which name it; inspect reports it as a problem."""
    write_v2(tmp_path / "c", _values(mean_rgb=mean))
    configs = ("--config_dir", tmp_path / "configs")
    release = ("release", *configs, "--variants", "alike_caffe_20", "--checkpoint", tmp_path / "c")
    before = sorted(tmp_path.rglob("*"))
    for done in (
        _build(tmp_path, "alike_caffe_20"),
        hubexport("convert", tmp_path / "c", tmp_path / "d.safetensors", "--to", "safetensors"),
        hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "tf2", "--variant", "alike_caffe_20", *configs),
        hubexport(*release, "--output_dir", tmp_path / "dist", "--verify", "structure"),
    ):
        assert done.returncode == 1
        assert f"its mean of RGB, Alike/mean_rgb, is {shown}, but modules of Alike from Caffe have" in done.stderr
        assert done.stderr.count("fix: use a checkpoint that was trained with the modules' mean of RGB") == 1
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()] == []
    status, lines, _ = _inspected(tmp_path / "c")
    assert status == 1 and lines["PROBLEM"].startswith(f"its mean of RGB, Alike/mean_rgb, is {shown}, but")


def test_the_average_of_another_mean_is_refused_as_well(tmp_path):
    """The mean itself may be right."""
    means = {"mean_rgb": np.float32(_MEANS), f"mean_rgb{AVERAGED_SUFFIX}": np.float32([1, 2, 3])}
    write_v2(tmp_path / "c", _values(**means))
    done = _build(tmp_path, "alike_caffe_20")
    assert done.returncode == 1
    assert f"its mean of RGB, Alike/mean_rgb{AVERAGED_SUFFIX}, is 1, 2, 3, but modules" in done.stderr
    assert _inspected(tmp_path / "c")[0] == 1


def test_an_auxiliary_head_is_named_and_left_out(tmp_path):
    """Its averages and slots do not count. A head of averages alone does."""
    head = {"AuxLogits/Conv2d/weights": np.ones([1, 1, 8, 5], np.float32), "AuxLogits/Conv2d/biases": np.float32([1])}
    beside = [f"{name}/{kind}" for name in head for kind in ("ExponentialMovingAverage", "RMSProp")]
    more = {name: head[name.rpartition("/")[0]] for name in beside}
    write_v2(tmp_path / "c", _values(**head, **more))
    _, lines, described = _inspected(tmp_path / "c")
    assert lines["besides"] == "auxiliary head: 2 variables, not exported"
    assert (described["not_exported"], described["num_classes"]) == ({"auxiliary head": 2}, 5)
    averages = {name: value for name, value in _values(**head, **more).items() if name.endswith(AVERAGED_SUFFIX)}
    write_v2(tmp_path / "c", _values() | averages)
    assert _inspected(tmp_path / "c")[1]["besides"] == "auxiliary head: 2 variables, not exported"


class _Shapes:
    def __init__(self, shapes):
        self.shapes = shapes

    def dtype(self, name):
        return "int64" if name == "global_step" else "float32"


def _listed_shapes(name):
    """Returns the shapes of all variables that TF-Slim's own code makes, those of the auxiliary head included."""
    lines = (DATA / "networks" / "variables" / f"{name}.txt").read_text().splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {row[0]: tuple(json.loads(row[1])) for row in rows}


_WITH_HEADS = ["inception_v3", "inception_v4", "inception_resnet_v2"]


@needs_data
@pytest.mark.parametrize("name", _WITH_HEADS)
def test_the_auxiliary_heads_of_slim_are_known(name):
    """Their ten variables keep no checkpoint from being recognized, with a classifier of as many classes as it has."""
    shapes = _listed_shapes(name)
    averages = {f"{one}{AVERAGED_SUFFIX}": shape for one, shape in shapes.items()}
    slots = {f"{one}/{slot}": shape for one, shape in shapes.items() for slot in ("RMSProp", "RMSProp_1")}
    for stored in (shapes, averages, {**shapes, **averages, **slots, "global_step": ()}):
        found = recognize(_Shapes(stored))
        assert (found.family.name, found.num_classes, found.further, found.alike) == (name, 1001, (), ())
        assert unused_variables(_Shapes(stored), found.family) == {"auxiliary head": 10}


@needs_data
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("inception_v3", marks=pytest.mark.slow),
        pytest.param("inception_resnet_v2", marks=pytest.mark.prove),
    ],
)
def test_a_checkpoint_with_an_auxiliary_head_is_used_like_any_other(tmp_path, name):
    """It is inspected, built and converted; what is written has the network's values, and no head."""
    network = FAMILIES[name].network(FAMILIES[name].parameters(), 299, 1001)
    values = {one.name: synthetic_value(one, 1) for one in network.variables}
    head = {one: np.ones(shape, np.float32) for one, shape in _listed_shapes(name).items() if one not in values}
    slots = {f"{one}/{kind}": 2 * head[one] for one in head for kind in ("ExponentialMovingAverage", "RMSProp")}
    write_v1(tmp_path / "c", {**values, **head, **slots, "global_step": np.int64(7)})
    status, lines, _ = _inspected(tmp_path / "c")
    assert (status, lines["network"], lines["classes"], lines["step"]) == (0, name, "1001", "7")
    assert lines["besides"] == "auxiliary head: 10 variables, not exported"
    options = ("--output_dir", tmp_path / "modules", "--module", "classification/5")
    done = hubexport("build", "--variant", name, "--checkpoint", tmp_path / "c", *options)
    assert done.returncode == 0, done.stderr
    built = BundleReader(tmp_path / "modules/google/imagenet" / name / "classification/5/variables/variables")
    done = hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "slim")
    assert done.returncode == 0, done.stderr
    converted = BundleReader(tmp_path / "d")
    assert set(converted.shapes) == set(values)
    for one, value in values.items():
        assert converted.read(one).tobytes() == value.tobytes() == built.read(f"{one}{KEY_SUFFIX}").tobytes()
