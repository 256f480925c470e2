"""What checkpoints hold beside a network: a mean of RGB that tells two networks apart, auxiliary heads."""

import dataclasses
import json
import tarfile

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
from tests.checkpoints import Shapes, write_v1, write_v2
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


def _lay_out(image_size, num_classes, root="Alike", **images):
    b = Builder(root, image_size, _DEFAULTS)
    features = b.features(b.endpoint(f"{root}/pool", b.mean("pool", b.conv("Conv", b.images, 8, kernel=3))))
    logits = None
    if num_classes is not None:
        net = b.conv("Logits/Conv2d", f"{root}/pool", num_classes, batch_norm=False, activation=None)
        logits = b.endpoint(f"{root}/Logits", b.squeeze("Logits/Squeeze", net))
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


def _build(tmp_path, name, *options, checkpoint="c"):
    folders = ("--config-dir", tmp_path / "configs", "--output-dir", tmp_path / "modules")
    return hubexport("build", "--variant", name, "--checkpoint", tmp_path / checkpoint, *folders, *options)


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


@pytest.mark.parametrize("module", ["feature_vector/3", "classification/5"])
def test_the_published_number_of_classes_of_another_network_is_refused(tmp_path, module):
    """Where nothing else tells two networks apart, and the variant has another number. Features, too."""
    write_v2(tmp_path / "c", _values(7))
    options = ("--config-dir", tmp_path / "configs", "--variant", "alike_caffe_20")
    for done in (
        _build(tmp_path, "alike_caffe_20", "--module", module),
        hubexport("convert", tmp_path / "c", tmp_path / "d.safetensors", "--to", "safetensors", *options),
    ):
        assert done.returncode == 1
        assert "why: its 7 classes suggest that this is Alike, not Alike from Caffe, which has the same" in done.stderr
        assert "fix: use a variant with network: alike; if this is Alike from Caffe, set num_classes: 7" in done.stderr
    assert not (tmp_path / "d.safetensors").exists() and list((tmp_path / "modules").rglob("saved_model.pb")) == []


@pytest.mark.parametrize(("name", "classes"), [("alike_20", 7), ("alike_20", 6), ("alike_caffe_20", 6)])
def test_any_other_number_of_classes_gives_feature_vectors(tmp_path, name, classes):
    """The published number of the variant's own network, and one of a user's."""
    write_v2(tmp_path / "c", _values(classes))
    done = _build(tmp_path, name, "--module", "feature_vector/3")
    assert (done.returncode, "WARN" in done.stderr) == (0, False), done.stderr
    done = _build(tmp_path, name, "--module", "classification/5")
    assert done.returncode == 1 and f"it was trained with {classes} outputs, not 5" in done.stderr


def test_the_variant_of_the_other_network_is_named(tmp_path, monkeypatch):
    """If a built-in one has it."""
    monkeypatch.setattr("hubexport.config_files.builtin_config_dir", lambda: tmp_path / "configs")
    write_v2(tmp_path / "c", _values(7))
    done = _build(tmp_path, "alike_caffe_20")
    assert done.returncode == 1
    assert "fix: use --variant alike_20; if this is Alike from Caffe, set num_classes: 7" in done.stderr
    write_v2(tmp_path / "c", _values(mean_rgb=np.float32(_MEANS)))
    done = _build(tmp_path, "alike_20")
    assert done.returncode == 1 and "fix: use --variant alike_caffe_20\n" in done.stderr


def _packed(module, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(module, arcname=".")
    return archive


@pytest.mark.parametrize("spec", ["feature_vector/3", "classification/5"])
def test_a_module_names_its_network(tmp_path, spec):
    """In its manifest, packed or not. The other network with the same variables is refused."""
    write_v2(tmp_path / "c", _values())
    assert _build(tmp_path, "alike_caffe_20").returncode == 0
    module = (tmp_path / "modules/google/imagenet/alike_caffe_20" / spec).rename(tmp_path / "module")
    for source in (module, module / "variables/variables", _packed(module, tmp_path / "module.tar.gz")):
        done = _build(tmp_path, "alike_20", "--module", "feature_vector/5", checkpoint=source)
        assert done.returncode == 1, source
        assert "this is Alike from Caffe, not Alike: its hubexport.json says so" in done.stderr
        assert "fix: use a variant with network: alike_caffe" in done.stderr
        done = _build(tmp_path, "alike_caffe_20", "--module", "feature_vector/5", "--overwrite", checkpoint=source)
        assert done.returncode == 0, done.stderr
        done = hubexport("convert", source, tmp_path / "d", "--to", "huggingface")
        assert done.returncode == 2 and "no huggingface format for alike_caffe\n" in done.stderr


@pytest.mark.parametrize(
    "manifest", [None, "", "[]", "7", '{"network": ["alike"]}', '{"network": "vgg_16"}', "[" * 9999]
)
def test_a_module_whose_manifest_tells_nothing_is_whatever_is_asked_for(tmp_path, manifest):
    """Somebody else may have written it."""
    write_v2(tmp_path / "c", _values())
    assert _build(tmp_path, "alike_caffe_20").returncode == 0
    module = (tmp_path / "modules/google/imagenet/alike_caffe_20/classification/5").rename(tmp_path / "module")
    (module / "hubexport.json").unlink()
    if manifest is not None:
        (module / "hubexport.json").write_text(manifest)
    options = ("--to", "slim", "--variant", "alike_20", "--config-dir", tmp_path / "configs", "--overwrite")
    for source in (module, _packed(module, tmp_path / "module.tar.gz")):
        done = hubexport("convert", source, tmp_path / "d", *options)
        assert done.returncode == 0, done.stderr


def test_the_likelier_network_is_named_where_a_format_lacks_both(tmp_path):
    """By the number of classes, as `inspect` has it."""
    for classes, name in ((5, "alike_caffe"), (7, "alike")):
        write_v2(tmp_path / "c", _values(classes))
        done = hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "huggingface")
        assert done.returncode == 2 and f"no huggingface format for {name}\n" in done.stderr


def test_each_of_two_networks_in_one_checkpoint_can_be_used(tmp_path):
    """The variant says which one. Without a variant, inspect names both, and convert refuses to choose."""
    other = dataclasses.replace(
        _family("other", "Other", 5, {"root": "Other"}), telling_variable="Other/Conv/weights", unused_variables=()
    )
    (tmp_path / "configs/other_20.yaml").write_text(_CONFIG.format("other"))
    with registered(other):
        network = other.network(other.parameters(), 20, 5)
        others = {one.name: synthetic_value(one, 2) for one in network.variables}
        write_v2(tmp_path / "c", _values() | others)
        _, lines, described = _inspected(tmp_path / "c")
        assert (lines["network"], lines["besides"]) == ("other", "Alike: 7 variables, not exported")
        assert described["not_exported"] == {"Alike": 7}
        done = hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "slim")
        assert done.returncode == 1 and not list(tmp_path.glob("d.*"))
        assert "why: it holds all variables of Other and Alike\n  fix: pass the variant with --variant" in done.stderr
        options = ("--to", "slim", "--config-dir", tmp_path / "configs", "--overwrite")
        for name, values in (("other_20", others), ("alike_20", _values())):
            done = _build(tmp_path, name)
            assert (done.returncode, "WARN" in done.stderr) == (0, False), done.stderr
            done = hubexport("convert", tmp_path / "c", tmp_path / "d", "--variant", name, *options)
            assert done.returncode == 0, done.stderr
            converted = BundleReader(tmp_path / "d")
            assert {one: converted.read(one).tobytes() for one in converted.shapes} == {
                one: value.tobytes() for one, value in values.items()
            }


@pytest.mark.parametrize("name", ["AuxLogits/Conv2d/weights", "mean_rgb"])
def test_averages_of_what_is_beside_are_none_of_the_network(tmp_path, name):
    """`averaged` needs one of the network itself."""
    beside = {name: np.float32(_MEANS), f"{name}{AVERAGED_SUFFIX}": np.float32(_MEANS)}
    write_v2(tmp_path / "c", _values(**beside))
    done = _build(tmp_path, "alike_caffe_20", "--weights", "averaged")
    assert done.returncode == 1 and "why: there are no averaged values of the network" in done.stderr, done.stderr
    done = _build(tmp_path, "alike_caffe_20")
    assert (done.returncode, "WARN" in done.stderr) == (0, False), done.stderr
    assert "weights: raw (the checkpoint has no averages)" in done.stderr


def test_raw_values_of_another_network_than_the_averages(tmp_path):
    """They are refused, with the averages as the way out, and whoever takes these hears of it."""
    wide = {name: np.concatenate([value, value], -1) for name, value in _values(None).items()}
    averages = {f"{name}{AVERAGED_SUFFIX}": value for name, value in _values().items()}
    write_v2(tmp_path / "c", {**_values(), **wide, **averages})
    done = _build(tmp_path, "alike_caffe_20", "--weights", "raw")
    assert done.returncode == 1 and "stored shape [16], expected [8]" in done.stderr
    assert "why: its raw values are of another network than its averages" in done.stderr
    assert "fix: use --weights averaged" in done.stderr
    done = _build(tmp_path, "alike_caffe_20")
    assert done.returncode == 0
    assert "5 of 7 variables have a raw value of another shape than their average" in done.stderr


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
    configs = ("--config-dir", tmp_path / "configs")
    release = ("release", *configs, "--variant", "alike_caffe_20", "--checkpoint", tmp_path / "c")
    before = sorted(tmp_path.rglob("*"))
    for done in (
        _build(tmp_path, "alike_caffe_20"),
        hubexport("convert", tmp_path / "c", tmp_path / "d.safetensors", "--to", "safetensors"),
        hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "tf2", "--variant", "alike_caffe_20", *configs),
        hubexport(*release, "--output-dir", tmp_path / "dist", "--checks", "structure"),
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
        found = recognize(Shapes(stored, {"global_step": "int64"}))
        assert (found.family.name, found.num_classes, found.further, found.alike) == (name, 1001, (), ())
        assert unused_variables(Shapes(stored, {"global_step": "int64"}), found.family) == {"auxiliary head": 10}


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
    options = ("--output-dir", tmp_path / "modules", "--module", "classification/5")
    done = hubexport("build", "--variant", name, "--checkpoint", tmp_path / "c", *options)
    assert done.returncode == 0, done.stderr
    built = BundleReader(tmp_path / "modules/google/imagenet" / name / "classification/5/variables/variables")
    done = hubexport("convert", tmp_path / "c", tmp_path / "d", "--to", "slim")
    assert done.returncode == 0, done.stderr
    converted = BundleReader(tmp_path / "d")
    assert set(converted.shapes) == set(values)
    for one, value in values.items():
        assert converted.read(one).tobytes() == value.tobytes() == built.read(f"{one}{KEY_SUFFIX}").tobytes()
