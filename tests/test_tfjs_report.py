"""Graph models of TF.js as input: described, run on images, and refused in words where they are damaged or hostile."""

import json
import os
from pathlib import Path
import resource
import shutil

from PIL import Image
import numpy as np
import pytest

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.options import TfjsOptions
from hubexport.deployments.tfjs_files import is_tfjs_model, read_tfjs_model
from hubexport.deployments.tfjs_report import tfjs_report
from hubexport.errors import ModuleError
from hubexport.images.open_module import found_interface, opened_module
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.networks.numpy_forward import Forward
from hubexport.progress import Progress
from hubexport.runtime.tfjs_graph import opened_tfjs_graph
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, REPOSITORY, needs_data

_REFERENCE = REPOSITORY / "tests" / "reference" / "tfjs_converter"
_VARIANT = "mobilenet_v2_035_96"
_FILES = ["model.json", "group1-shard1of2.bin", "group1-shard2of2.bin"]


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A classifier with an endpoint."""
    folder = tmp_path_factory.mktemp("tfjs") / "m"
    endpoints = ["MobilenetV2/layer_4/depthwise_output"]
    return convert("synthetic:1", folder, "tfjs", variant=load_variant(_VARIANT), endpoints=endpoints)


@pytest.fixture
def damaged(tmp_path):
    """A copy of the converter's small model, to be damaged."""
    return Path(shutil.copytree(_REFERENCE / "uint16", tmp_path / "m"))


def _rewrite(folder, change):
    described = json.loads((folder / "model.json").read_text())
    change(described)
    (folder / "model.json").write_text(json.dumps(described))


def _weights(described):
    return described["weightsManifest"][0]["weights"]


def _node(described, op):
    return next(node for node in described["modelTopology"]["node"] if node["op"] == op)


@pytest.mark.parametrize("file", ["", "model.json"], ids=["folder", "file"])
def test_a_model_of_ours_is_described(ours, file):
    """By its folder or its file."""
    report = tfjs_report(ours / file)
    assert (report.format, report.written_by, report.problems) == ("tfjs", "hubexport 0.1.0", [])
    assert report.size == sum(path.stat().st_size for path in ours.iterdir())
    assert [(one.name, one.dtype, one.shape) for one in report.inputs] == [("images", "float32", (None, 96, 96, 3))]
    assert [(one.name, one.dtype, one.shape) for one in report.outputs] == [
        ("logits", "float32", (None, 1001)),
        ("MobilenetV2/layer_4/depthwise_output", "float32", (None, 24, 24, 48)),
    ]
    assert report.ops["FusedDepthwiseConv2dNative"] == 17
    assert report.weights["float32"] * 4 == sum((ours / name).stat().st_size for name in _FILES[1:])
    assert report.metadata["name"] == _VARIANT
    assert sorted(report.files) == sorted(_FILES)


@pytest.mark.parametrize(("name", "stored"), [("none", "float32"), ("uint16", "uint16")])
def test_a_model_of_the_converter_is_described_and_computes_what_keras_does(name, stored):
    """The reference has Keras' own outputs; uint16 has steps."""
    report = tfjs_report(_REFERENCE / name)
    assert report.problems == []
    assert report.written_by == "TensorFlow.js Converter v4.22.0, 2.15.1"
    assert [(one.name, one.shape) for one in report.inputs] == [("input_1", (None, 16, 12, 3))]
    assert [(one.name, one.shape) for one in report.outputs] == [("output_0", (None, 5))]
    assert report.weights == {stored: 867, "int32": 10}
    with np.load(_REFERENCE / "outputs.npz") as reference:
        images, wanted = reference["images"], reference["outputs"]
    with opened_tfjs_graph(read_tfjs_model(_REFERENCE / name)) as graph:
        found = graph.run({"input_1": images}, ["output_0"])["output_0"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 if stored == "float32" else 1e-3)
    hints = InterfaceHints(input_range=(0, 1), output_kind="probabilities")
    with opened_module(_REFERENCE / name, Progress(), hints) as opened:
        np.testing.assert_allclose(opened.run(images)["default"], found, rtol=0, atol=1e-6)


def test_models_without_a_signature_are_described(damaged):
    """By what their graphs take and give, as TF.js runs them."""

    def strip(described):
        del described["signature"]

    _rewrite(damaged, strip)
    report = tfjs_report(damaged)
    assert [(one.name, one.dtype, one.shape) for one in report.inputs] == [("input_1", "float32", (None, 16, 12, 3))]
    assert [one.name for one in report.outputs] == ["Identity"]


@needs_data
def test_photographs_get_their_published_classes(tmp_path):
    """By the command line; the names of the classes are in the model."""
    options = TfjsOptions(softmax=True, pixels="uint8")
    variant = load_variant("mobilenet_v2_100_224")
    folder = convert(REAL_ARCHIVE, tmp_path / "m", "tfjs", variant=variant, options=options)
    done = hubexport("classify", folder, DATA / "images", "--top", 3, "--format", "json", "--batch-size", 3)
    assert done.returncode == 0, done.stderr
    found = {Path(image["file"]).name: image["top"] for image in json.loads(done.stdout)["images"]}
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    assert found.keys() == expected.keys()
    for name, top3 in expected.items():
        assert [(one["index"], one["label"]) for one in found[name]] == [(index, label) for index, label, _ in top3]
        probabilities = [one["probability"] for one in found[name]]
        np.testing.assert_allclose(probabilities, [one for _, _, one in top3], rtol=0, atol=0.5e-4 + 1e-6)


def test_features_come_from_the_endpoint_that_has_them(tmp_path):
    """And equal those of the network in float64."""
    variant = load_variant(_VARIANT)
    endpoints = [key for key in variant.network_for("classification").endpoints if key.endswith("global_pool")]
    folder = convert("synthetic:1", tmp_path / "m", "tfjs", variant=variant, endpoints=endpoints)
    pixels = np.random.default_rng(2).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    done = hubexport("features", folder, tmp_path / "image.png", "--output", tmp_path / "f.npy")
    assert done.returncode == 0, done.stderr
    network = variant.network_for("classification")
    values = {variable.name: synthetic_value(variable, 1) for variable in network.variables}
    wanted = Forward(network, values, pixels[np.newaxis] / 255).run([network.features])[network.features]
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "group1-shard1of1.bin").unlink(), "group1-shard1of1.bin is missing"),
        (
            lambda folder: (folder / "group1-shard1of1.bin").write_bytes(bytes(1000)),
            "group1-shard1of1.bin should have 1,774 bytes, and has 1,000",
        ),
        (
            lambda folder: _rewrite(folder, lambda one: _node(one, "_FusedConv2D")["input"].__setitem__(0, "nowhere")),
            "there are no such inputs: nowhere of _FusedConv2D",
        ),
        (
            lambda folder: _rewrite(folder, lambda one: one["signature"]["outputs"]["output_0"].update(name="x:0")),
            "no node gives the output output_0",
        ),
        (
            lambda folder: _rewrite(folder, lambda one: _weights(one)[0].update(name="other")),
            "1 constants have no values",
        ),
        (
            lambda folder: _rewrite(
                folder, lambda one: [weight["quantization"].update(scale=1e300) for weight in _quantized(one)]
            ),
            "numbers that are NaN or infinite",
        ),
    ],
    ids=["missing file", "short file", "missing node", "missing output", "missing weight", "infinite"],
)
def test_problems_are_told(damaged, damage, words):
    """By inspect, whose exit status says so; what is wrong with files keeps the model from running."""
    damage(damaged)
    report = tfjs_report(damaged)
    assert any(words in problem for problem in report.problems), report.problems
    done = hubexport("inspect", damaged)
    assert done.returncode == 1 and words in done.stdout
    assert "Traceback" not in done.stderr
    if "bin" in words:
        with pytest.raises(ModuleError), opened_tfjs_graph(read_tfjs_model(damaged)):
            pass


def _quantized(described):
    return [weight for weight in _weights(described) if "quantization" in weight]


def _set(*path):
    """Returns a change that sets a value deep in a description."""
    *keys, last, value = path

    def change(described):
        for key in keys:
            described = described[key]
        described[last] = value

    return change


_WEIGHT = ("weightsManifest", 0, "weights", 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("weightsManifest", 0, "paths", ["../secret.bin"]), "which is not a file in its folder"),
        (_set("weightsManifest", 0, "paths", ["/etc/passwd"]), "which is not a file in its folder"),
        (_set("weightsManifest", 0, "paths", ["a\\b"]), "which is not a file in its folder"),
        (_set("weightsManifest", 0, "paths", [7]), "is not text"),
        (_set("weightsManifest", {}), "weightsManifest is not a list"),
        (_set(*_WEIGHT, "shape", [1 << 39, 1 << 39]), "impossible shape"),
        (_set(*_WEIGHT, "shape", [-1]), "is not a number from 0 on"),
        (_set(*_WEIGHT, "shape", [True]), "is not a number from 0 on"),
        (_set(*_WEIGHT, "dtype", "float128"), "float128"),
        (_set(*_WEIGHT, "quantization", {"dtype": "uint4", "scale": 1, "min": 0}), "uint4"),
        (_set(*_WEIGHT, "quantization", {"dtype": "uint8", "scale": "1", "min": 0}), "is not a number"),
        (_set("modelTopology", "node", [{"name": "x"}]), "the op of a node is not text"),
        (_set("modelTopology", "node", [{"name": "x", "op": "y", "attr": {"T": 7}}]), "is not an object"),
        (_set("signature", "outputs", {"x": []}), "is not an object"),
        (_set("format", "layers-model"), "a Keras model of TF.js"),
    ],
)
def test_hostile_descriptions_are_refused_in_words(damaged, change, words):
    """Before a file of weights is read."""
    _rewrite(damaged, change)
    with pytest.raises(ModuleError) as caught:
        tfjs_report(damaged)
    assert words in caught.value.why


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"a": NaN}', b"[" * 100_000, b'{"modelTopology": ' + b'{"a":' * 50_000, b"\xff\xfe", b"{}"],
    ids=["empty", "list", "cut", "NaN", "deep", "deep objects", "no text", "no model"],
)
def test_what_is_no_description_is_refused(damaged, content):
    """Files of weights beside it tell what it was; without, it is recognized by nobody."""
    (damaged / "model.json").write_bytes(content)
    assert is_tfjs_model(damaged) == (content != b"{}")
    with pytest.raises(ModuleError):
        tfjs_report(damaged)
    for path in damaged.glob("group*"):
        path.unlink()
    assert not is_tfjs_model(damaged)


def test_huge_descriptions_are_not_read(tmp_path):
    """Whatever they hold."""
    with (tmp_path / "model.json").open("wb") as file:
        file.write(b'{"modelTopology": {"node": []}, "weightsManifest": [], "x": "')
        file.truncate(1 << 34)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModuleError, match="cannot read"):
        tfjs_report(tmp_path)
    assert not is_tfjs_model(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_files_that_are_none_are_problems(damaged, kind):
    """Nobody waits for a pipe."""
    file = damaged / "group1-shard1of1.bin"
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    [problem] = tfjs_report(damaged).problems
    assert problem.startswith("group1-shard1of1.bin cannot be read")


@pytest.mark.parametrize("op", ["WriteFile", "PyFunc", "StatefulPartitionedCall"])
def test_ops_that_do_more_than_compute_are_not_run(damaged, op):
    """A graph is a program."""
    _rewrite(damaged, lambda one: _node(one, "Softmax").update(op=op))
    with pytest.raises(ModuleError) as caught, opened_tfjs_graph(read_tfjs_model(damaged)):
        pass
    assert caught.value.why == f"it has ops that are not run here: {op}"


@pytest.mark.parametrize("file", ["", "model.json"], ids=["folder", "file"])
def test_the_files_of_a_model_are_all_of_its_own(damaged, file):
    """What is kept of a model is kept for these bytes: other weights beside the same description are another model."""
    (damaged / "notes.txt").write_text("mine")
    hints = InterfaceHints(input_range=(0, 1), output_kind="probabilities")
    with found_interface(damaged / file, Progress(), hints) as interface:
        assert interface.files() == {name: damaged / name for name in ("model.json", "group1-shard1of1.bin")}


def test_a_graph_that_tensorflow_refuses_is_an_error_in_words(damaged):
    """As is a fused op that it does not have."""
    _rewrite(damaged, lambda one: _node(one, "_FusedMatMul")["attr"]["fused_ops"]["list"].update(s=["QmlhcyE="]))
    with pytest.raises(ModuleError) as caught, opened_tfjs_graph(read_tfjs_model(damaged)):
        pass
    assert "_FusedMatMul with Bias!" in caught.value.why
    shutil.copytree(_REFERENCE / "none", damaged, dirs_exist_ok=True)
    _rewrite(damaged, lambda one: _node(one, "MaxPool")["attr"].pop("ksize"))
    with pytest.raises(ModuleError) as caught, opened_tfjs_graph(read_tfjs_model(damaged)):
        pass
    assert "ksize" in caught.value.why
