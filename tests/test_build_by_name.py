"""`build --name`: what a checkpoint tells about itself becomes a variant, its config and its modules."""

import dataclasses
import json
from pathlib import Path
import re

from hypothesis import example, given
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

import hubexport as public
from hubexport import build_modules, convert, recognize_variant, variant_yaml, verify_module
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import list_variants, load_variant
from hubexport.errors import CheckpointError, UsageError
from hubexport.networks.registry import FAMILIES
from hubexport.variants import Variant
from tests.checkpoints import network_values
from tests.command import hubexport
from tests.ear import Ear
from tests.keras_models import make_up_values
from tests.toys import registered

layers = tf.keras.layers

_NAMES = ["daisy", "rose", "tulip, red", "no", "5", "Ähre: gelb", " oats "]
_IMAGES = np.random.RandomState(0).uniform(size=[2, 96, 96, 3]).astype(np.float32)

_needs_keras_2 = pytest.mark.skipif(hasattr(tf.keras, "ops"), reason="these models are built and saved by Keras 2")
_warns_of_h5 = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Checkpoints of one small network with seven classes, in several formats, and one without classifier."""
    folder = tmp_path_factory.mktemp("checkpoints")
    values = network_values()
    write_bundle(folder / "slim", values)
    write_bundle(folder / "headless", {name: one for name, one in values.items() if "/Logits/" not in name})
    write_bundle(folder / "odd", network_values(depth_multiplier=0.6))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in _NAMES))
    variant = recognize_variant(folder / "slim", "named", image_size=96, labels=folder / "labels.txt")
    for spec in ("classification/3", "classification/5"):
        [path] = build_modules(variant, [spec], checkpoint=folder / "slim", output_dir=folder)
        path.rename(folder / spec.replace("/", "_"))
    convert(folder / "slim", folder / "hf", "huggingface", variant=variant)
    return folder


def _named(folder, checkpoint, *options, name="flowers"):
    """Builds by name, with modules below `by_name`."""
    places = ("--checkpoint", folder / checkpoint, "--output-dir", folder / "by_name")
    return hubexport("build", "--name", name, *places, *options, cwd=folder)


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The config


@pytest.mark.parametrize(
    ("checkpoint", "options", "lines"),
    [
        pytest.param("slim", ["--image-size", "96"], ["image_size: 96", "num_classes: 7"], id="TF-Slim"),
        pytest.param(
            "slim",
            ["--image-size", "128", "--labels", "labels.txt", "--publisher", "me", "--weights", "raw"],
            ["image_size: 128", "publisher: me", "labels: {folder}/labels.txt"],
            id="labels",
        ),
        pytest.param("hf", [], ["image_size: 96", "labels: [daisy, rose, 'tulip, red', 'no', '5',"], id="Hugging Face"),
        pytest.param("classification_3", [], ["image_size: 96", "labels: [daisy,"], id="TF1 module"),
        pytest.param("classification_5", [], ["image_size: 96", "labels: [daisy,"], id="TF2 module"),
        pytest.param("headless", ["--image-size", "96"], ["modules: [feature_vector/5]"], id="no classifier"),
        pytest.param(
            "odd", ["--depth-multiplier", "0.6", "--image-size", "96"], ["depth_multiplier: 0.6"], id="multiplier"
        ),
        pytest.param(
            "slim",
            ["--image-size", "96", "--module", "classification/3", "--module", "feature_vector", "--scope", ""],
            ["modules: [classification/3, feature_vector/5]"],
            id="modules",
        ),
    ],
)
def test_the_printed_config_builds_the_same_bytes(checkpoints, tmp_path, checkpoint, options, lines):
    """Saved as NAME.yaml. Stdout has the paths of modules alone, so the config goes to stderr."""
    for path in checkpoints.iterdir():
        (tmp_path / path.name).symlink_to(path)
    if "--scope" in options:
        write_bundle(tmp_path / "scoped", {f"a/{name}": value for name, value in network_values().items()})
        checkpoint, options = "scoped", [*options[:-1], "a"]
    built = _named(tmp_path, checkpoint, *options)
    assert built.returncode == 0, built.stderr
    modules = built.stdout.splitlines()
    assert modules and all((Path(path) / "hubexport.json").is_file() for path in modules)

    printed = _named(tmp_path, checkpoint, *options, "--print-config")
    assert printed.returncode == 0 and printed.stdout in built.stderr
    assert all(line.format(folder=tmp_path) in printed.stdout for line in lines), printed.stdout
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "flowers.yaml").write_text(printed.stdout)

    kept = [
        word
        for flag in ("--weights", "--scope")
        if flag in options
        for word in (flag, options[options.index(flag) + 1])
    ]
    places = ("--checkpoint", tmp_path / checkpoint, "--output-dir", tmp_path / "by_config")
    again = hubexport("build", "--variant", "flowers", "--config-dir", tmp_path / "configs", *places, *kept)
    assert again.stdout == built.stdout.replace("by_name", "by_config"), again.stderr
    assert _files(tmp_path / "by_config") == _files(tmp_path / "by_name") and _files(tmp_path / "by_name")


def test_configs_of_all_variants_are_read_as_they_were(tmp_path):
    """Those of the built-in ones, with all keys."""
    for variant in list_variants():
        (tmp_path / f"{variant.name}.yaml").write_text(variant_yaml(variant))
        found = load_variant(variant.name, tmp_path)
        assert found.class_names() == variant.class_names()
        left_out = {"labels": None}
        assert found.model_copy(update=left_out) == variant.model_copy(update=left_out)


_LETTERS = st.sampled_from("ab '#:,-[]{}%&*!|>?@\"\\é💐") | st.characters(codec="utf-8").filter(str.isprintable)


@given(names=st.lists(st.text(_LETTERS, min_size=1).filter(str.strip), min_size=1, max_size=9))
@example(
    names=["two  spaces " * 30, "one space " * 30, "null", "~", "1e3", "0x1", "2020-01-01", "=", "<<", "- a", "é" * 200]
)
def test_any_names_of_classes_are_read_as_they_were(tmp_path_factory, names):
    """Those that YAML would take for something else, too."""
    folder = tmp_path_factory.getbasetemp()
    fields = {"network": "vgg_16", "image_size": 224, "num_classes": len(names), "dataset": "x", "labels": names}
    variant = Variant.model_validate({**fields, "name": "named", "modules": ["classification/5"]})
    (folder / "named.yaml").write_text(variant_yaml(variant), encoding="utf-8")
    assert load_variant("named", folder) == variant


# The modules


def test_a_module_has_the_bytes_of_the_variant_with_a_config(checkpoints, tmp_path, small):
    """All but the manifest, and the manifest says the same of the checkpoint."""
    variant = recognize_variant(checkpoints / "slim", "flowers", image_size=96)
    assert [variant.handle(spec) for spec in variant.modules] == [
        "local/models/flowers/feature_vector/5",
        "local/models/flowers/classification/5",
    ]
    for spec in variant.modules:
        [found], [wanted] = (
            build_modules(one, [spec], checkpoint=checkpoints / "slim", output_dir=tmp_path) for one in (variant, small)
        )
        found, wanted = _files(found), _files(wanted)
        manifests = [json.loads(files.pop(Path("hubexport.json"))) for files in (found, wanted)]
        assert found == wanted
        assert len({json.dumps(manifest["checkpoint"]) for manifest in manifests}) == 1


def test_verify_proves_a_module_that_has_no_config(checkpoints, tmp_path):
    """From its manifest. With the config, the names of classes are proved, too."""
    variant = recognize_variant(checkpoints / "slim", "flowers", image_size=96, labels=_NAMES)
    _, module = build_modules(variant, checkpoint=checkpoints / "slim", output_dir=tmp_path)
    options = {"checkpoint": checkpoints / "slim", "checks": ["rebuild", "structure.digests", "weights"]}
    found = verify_module(module, **options)
    assert found.passed and "the names of classes are its own" in found.results[0].explanation
    found = verify_module(module, variant=variant, **options)
    assert found.passed and "its own" not in found.results[0].explanation
    other = variant.model_copy(update={"labels": tuple(reversed(_NAMES))})
    assert not verify_module(module, variant=other, **options).passed


@_needs_keras_2
@_warns_of_h5
@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_modules_of_a_keras_model_compute_what_it_does(tmp_path, file):
    """In one command, without a config: logits and features."""
    base = tf.keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(96, 96, 3), pooling="avg"
    )
    model = tf.keras.Model(base.input, layers.Dense(7, name="flowers")(base.output))
    make_up_values(model)
    model.save(tmp_path / file)
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in _NAMES))
    done = _named(tmp_path, file, "--labels", "labels.txt", "--publisher", "me")
    assert done.returncode == 0, done.stderr
    features, logits = done.stdout.splitlines()
    assert logits == f"{tmp_path}/by_name/me/models/flowers/classification/5"
    assert (Path(logits) / "assets" / "labels.txt").read_text().splitlines() == _NAMES
    for module, keras in ((features, base), (logits, model)):
        # Keras' network takes images in [-1, 1].
        wanted = keras.predict(_IMAGES * 2 - 1, verbose=0)
        assert np.abs(wanted[0] - wanted[1]).max() > 0.1, "the images must matter, or the rest proves nothing"
        np.testing.assert_allclose(tf.saved_model.load(module)(_IMAGES), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("spec", ["classification_3", "classification_5"])
def test_a_module_without_manifest_tells_its_size_by_its_signature(checkpoints, tmp_path, spec):
    """As what `Module.export` writes."""
    for path, content in _files(checkpoints / spec).items():
        if path.name != "hubexport.json":
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
    found = recognize_variant(tmp_path, "flowers")
    assert (found.image_size, found.class_names()) == (96, _NAMES)


# What nothing tells


def test_a_checkpoint_without_classifier_gives_features_alone(checkpoints):
    """A note says so. A classifier that is asked for is an error."""
    ear = Ear()
    variant = recognize_variant(checkpoints / "headless", "flowers", image_size=96, progress=ear)
    assert list(map(str, variant.modules)) == ["feature_vector/5"]
    [note] = ear.notes
    assert "has no classifier: flowers has feature vectors only" in note
    ear = Ear()
    recognize_variant(checkpoints / "headless", "flowers", image_size=96, modules=["feature_vector/3"], progress=ear)
    assert not ear.notes
    for module in ("classification/3", "classification"):
        with pytest.raises(CheckpointError, match=f"cannot build {module} from") as caught:
            recognize_variant(checkpoints / "headless", "flowers", image_size=96, modules=[module])
        assert caught.value.why == "it has no classifier"


@pytest.mark.parametrize(
    ("checkpoint", "options", "what", "fix"),
    [
        pytest.param("slim", [], "cannot tell the image size of", "like --image-size 224", id="no size"),
        pytest.param(
            "slim", ["--image-size", "100"], "modules of MobileNet V2 do not take images of 100", "224", id="size"
        ),
        pytest.param("odd", ["--image-size", "96"], "cannot identify the network", "--depth-multiplier", id="unknown"),
        pytest.param("nowhere", [], "no checkpoint", "a Keras or safetensors file, or a module;", id="missing"),
        pytest.param("hf", ["--labels", "few.txt"], "the labels do not name the classes", "one name for", id="labels"),
        pytest.param("hf", ["--labels", "none.txt"], "cannot read labels", "use a text file", id="no labels"),
        pytest.param(
            "headless", ["--image-size", "96", "--labels", "few.txt"], "the labels do not", "leave", id="no classes"
        ),
        pytest.param("hf", ["--network", "vgg_16"], "does not hold the network", "leave out --network", id="network"),
        pytest.param("hf", ["--depth-multiplier", "0.5"], "does not hold the network", "leave out", id="multiplier"),
        pytest.param("hf", ["--depth-multiplier", "nan"], "nan is not a depth multiplier", "use one", id="nan"),
        pytest.param(
            "hf", ["--network", "vgg_16", "--depth-multiplier", "1"], "VGG 16 has no depth", "leave it", id="fixed"
        ),
        pytest.param("hf", ["--network", "mobilnet_v2"], "(did you mean 'mobilenet_v2'?)", "use one", id="no network"),
        pytest.param("hf", ["--module", "features/5"], "unknown module 'features/5'", "use one like", id="module"),
        pytest.param("hf", ["--module", "feature_vector/6"], "unknown module", "use one like", id="version"),
        pytest.param("hf", ["--publisher", "../me"], "publisher '../me' cannot be", "choose", id="publisher"),
        pytest.param("hf", ["--publisher", ""], "publisher '' cannot be", "choose", id="no publisher"),
        pytest.param("hf", ["--config-dir", "configs"], "--name flowers and --config-dir exclude", "leave", id="dir"),
        pytest.param("hf", ["--variant", "all"], "--name flowers and --variant exclude", "leave", id="variant"),
    ],
)
def test_what_cannot_be_built_by_name(checkpoints, tmp_path, checkpoint, options, what, fix):
    """The error says how to go on, and nothing is written."""
    for path in checkpoints.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "few.txt").write_text("a\nb\nc\n")
    done = _named(tmp_path, checkpoint, *options)
    error, _, *_, last = done.stderr[done.stderr.index("ERROR") :].splitlines()
    assert what in error and last.startswith("  fix: ") and fix in last, done.stderr
    assert (done.returncode in (1, 2), done.stdout, (tmp_path / "by_name").exists()) == (True, "", False)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "x\n", "x" * 300, "all", "mobilenet_v2_100_224"])
def test_names_that_no_variant_of_ones_own_can_have(checkpoints, name):
    """Separators, hidden folders, and names that mean something else."""
    with pytest.raises(UsageError) as caught:
        recognize_variant(checkpoints / "hf", name)
    assert re.fullmatch("name .* (cannot be a part of a handle|is taken)", caught.value.what)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--name", "flowers"], "--name flowers needs --checkpoint"),
        (["--name", "flowers", "--checkpoint", "synthetic"], "cannot name a variant after synthetic:0"),
        (["--variant", "vgg_16", "--labels", "x"], "--labels needs --name"),
        (["--variant", "vgg_16", "--print-config"], "--print-config needs --name"),
        (["--variant", "vgg_16", "--publisher", ""], "--publisher needs --name"),
        (["--checkpoint", "synthetic"], "no --variant and no --name"),
    ],
)
def test_flags_that_need_others(arguments, error):
    """And made-up values, which need a variant."""
    done = hubexport("build", *arguments)
    assert done.returncode == 2 and error in done.stderr.splitlines()[0]


def test_a_size_that_contradicts_the_checkpoint_is_taken_with_a_warning(checkpoints):
    """The network computes something at any size that its family takes."""
    ear = Ear()
    variant = recognize_variant(checkpoints / "hf", "flowers", image_size=128, progress=ear)
    assert variant.image_size == 128
    assert ear.warnings == [
        f"{checkpoints / 'hf'} is for images of 96 pixels by its config.json, but flowers takes 128"
    ]


@pytest.mark.parametrize(
    ("id2label", "warning"),
    [
        ({str(number): f"LABEL_{number}" for number in range(7)}, None),
        ({"0": "a", "1": "b"}, "has 2 for 7"),
        ({str(number): "a\x1b" if number == 4 else "a" for number in range(7)}, "name 5 has characters that cannot be"),
        ({str(number): " " if number == 4 else "a" for number in range(7)}, "found 7 names (1 blank)"),
    ],
    ids=["numbers", "few", "unprintable", "blank"],
)
def test_names_beside_the_values_that_no_module_can_have_are_left_out(checkpoints, tmp_path, id2label, warning):
    """With a warning, unless they only number the classes."""
    for path, content in _files(checkpoints / "hf").items():
        (tmp_path / path).write_bytes(content)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "id2label": id2label}))
    ear = Ear()
    assert recognize_variant(tmp_path, "flowers", progress=ear).labels is None
    assert [re.search(re.escape(warning), one) is not None for one in ear.warnings] == [True] * bool(warning)


def test_a_network_among_several_is_named(checkpoints, tmp_path):
    """A file may hold two, each with all its variables."""
    other = FAMILIES["mobilenet_v1"]
    network = other.network(other.published_parameters[0], 128, 5)
    values = {one.name: np.zeros(one.shape, np.float32) for one in network.variables}
    write_bundle(tmp_path / "both", {**network_values(), **values})
    with pytest.raises(CheckpointError, match="cannot tell which network of .*both to build") as caught:
        recognize_variant(tmp_path / "both", "flowers", image_size=96)
    assert "it holds all variables of MobileNet V" in caught.value.why
    assert caught.value.fix == "say which: --network mobilenet_v1 or --network mobilenet_v2"
    for name, classes in (("mobilenet_v1", 5), ("mobilenet_v2", 7)):
        found = recognize_variant(tmp_path / "both", "flowers", image_size=96, network=name)
        assert (found.network, found.num_classes) == (name, classes)
        assert len(build_modules(found, checkpoint=tmp_path / "both", output_dir=tmp_path / name)) == 2


def test_a_network_that_another_is_like_is_named(tmp_path):
    """Both have the same variables, but take other images."""
    plain = FAMILIES["resnet_v1_50"]
    twin = dataclasses.replace(plain, name="twin", title="Twin", unused_variables=())
    with registered(twin):
        values = {
            one.name: np.zeros(one.shape, np.float32) for one in plain.network(plain.parameters(), 32, 3).variables
        }
        write_bundle(tmp_path / "c", values)
        with pytest.raises(CheckpointError, match="cannot tell which network of") as caught:
            recognize_variant(tmp_path / "c", "flowers", image_size=32)
        assert {"--network twin", "--network resnet_v1_50", "--network resnet_v1_50_caffe"} == set(
            re.findall(r"--network \w+", caught.value.fix)
        )
        for name in ("twin", "resnet_v1_50", "resnet_v1_50_caffe"):
            assert recognize_variant(tmp_path / "c", "flowers", image_size=32, network=name).network == name


def test_a_file_of_labels_whose_path_no_config_can_have(checkpoints, tmp_path):
    """Its bytes are no text."""
    path = tmp_path / "\udcff.txt"
    path.write_bytes((checkpoints / "labels.txt").read_bytes())
    with pytest.raises(UsageError, match="cannot make a variant of") as caught:
        recognize_variant(checkpoints / "hf", "flowers", labels=path)
    assert caught.value.why.startswith("its labels must be one line of printable characters")


def test_a_list_of_names_must_fit_the_classes(checkpoints):
    """As a file must."""
    assert recognize_variant(checkpoints / "hf", "flowers", labels=_NAMES).class_names() == _NAMES
    for names in (_NAMES[:-1], [*_NAMES[:-1], ""], [*_NAMES[:-1], "\n"]):
        with pytest.raises(public.HubexportError, match="the labels do not name the classes"):
            recognize_variant(checkpoints / "hf", "flowers", labels=names)
