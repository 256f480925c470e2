"""Images through ONNX Runtime: ONNX models, ours and others, and modules by `--engine onnx`."""

import importlib.util
import json
from pathlib import Path
import re
import shutil
import subprocess
import sys

from PIL import Image
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import onnxruntime
import pytest
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.options import OnnxOptions
from hubexport.engines import usable_engine
from hubexport.errors import MissingExtraError, ModuleError, UsageError
from hubexport.evaluation.evaluate_module import evaluate
from hubexport.extras import install_command
from hubexport.images.classification import classify
from hubexport.images.feature_extraction import extract_features
from hubexport.images.open_module import opened_module
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.progress import Progress
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.foreign import write_reusable_saved_model
from tests.open_interface import OpenInterface

_VARIANT = "mobilenet_v2_035_96"
_ENGINE = f"ONNX Runtime {onnxruntime.__version__}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noise, as images of several sizes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for number, size in enumerate([(96, 96, 3), (50, 70, 3), (120, 64, 3)]):
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Modules of MobileNet V2, by kind and version."""
    folder = tmp_path_factory.mktemp("modules")
    names = [f"{kind}/{version}" for kind in ("classification", "feature_vector") for version in (3, 5)]
    paths = build_modules(load_variant(_VARIANT), names, checkpoint="synthetic:1", output_dir=folder)
    return dict(zip(names, paths, strict=True))


def _outputs(module, images, hints=InterfaceHints(), engine=None):
    with opened_module(module, Progress(), hints, engine) as opened:
        return opened.run(images)["default"], opened


def _images(count, height=96, width=96):
    return np.random.default_rng(6).uniform(size=(count, height, width, 3)).astype(np.float32)


@needs_data
@pytest.mark.parametrize(
    "options", [None, OnnxOptions(softmax=True, pixels="uint8", layout="nchw")], ids=["default", "as phones have it"]
)
def test_photographs_get_their_published_classes_from_an_onnx_model(tmp_path, options):
    """The names of the classes are in the file. Evaluating them gives the figures of the module."""
    variant = load_variant("mobilenet_v2_100_224")
    path = convert(REAL_ARCHIVE, tmp_path / "m.onnx", "onnx", variant=variant, options=options)
    done = hubexport("classify", path, DATA / "images", "--top", 3, "--format", "json", "--batch-size", 3)
    assert done.returncode == 0, done.stderr
    assert f"engine: {_ENGINE}" in done.stderr.splitlines()
    printed = json.loads(done.stdout)
    assert printed["engine"] == _ENGINE
    found = {Path(image["file"]).name: image["top"] for image in printed["images"]}
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    assert found.keys() == expected.keys()
    for name, top3 in expected.items():
        assert [(one["index"], one["label"]) for one in found[name]] == [(index, label) for index, label, _ in top3]
        probabilities = [one["probability"] for one in found[name]]
        np.testing.assert_allclose(probabilities, [one for _, _, one in top3], rtol=0, atol=0.5e-4 + 1e-6)
        label = tmp_path / "data" / top3[0][1].replace("/", "_")
        label.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA / "images" / name, label)
    done = hubexport("evaluate", path, "--data", tmp_path / "data", "--format", "json", "--preprocessing", "whole")
    assert done.returncode == 0, done.stderr
    evaluation = json.loads(done.stdout)
    assert (evaluation["engine"], evaluation["images"], evaluation["top1"]["right"]) == (_ENGINE, 8, 8)


@pytest.mark.parametrize(
    "name",
    [
        "classification/5",
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in ("classification/3", "feature_vector/3", "feature_vector/5")
        ),
    ],
)
def test_both_engines_give_the_same_numbers(modules, photos, tmp_path, name):
    """Outputs and features, in both formats and kinds of modules; the engine is named."""
    images = _images(3)
    wanted, in_tensorflow = _outputs(modules[name], images, engine="tensorflow")
    found, in_onnx = _outputs(modules[name], images, engine="onnx")
    assert (in_tensorflow.engine, in_onnx.engine) == (f"TensorFlow {tf.__version__}", _ENGINE)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))
    paths = [tmp_path / f"{engine}.npy" for engine in ("tensorflow", "onnx")]
    for path in paths:
        done = hubexport("features", modules[name], photos, "--output", path, "--engine", path.stem)
        assert done.returncode == 0, done.stderr
    assert f"engine: {_ENGINE}" in done.stderr.splitlines()
    wanted, found = map(np.load, paths)
    assert found.shape == (3, 1280) and wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "version", "size"), [("mobilenet_v1_025_128", 5, (100, 130)), ("resnet_v1_50", 5, (96, 65))]
)
def test_modules_of_any_size_run_in_both_engines(tmp_path, variant, version, size):
    """On images of a size that is not square, and not the one of the variant."""
    names = [f"classification/{version}"]
    [path] = build_modules(load_variant(variant), names, checkpoint="synthetic:2", output_dir=tmp_path)
    images, hints = _images(2, *size), InterfaceHints(image_size=size)
    wanted, _ = _outputs(path, images, hints, "tensorflow")
    found, _ = _outputs(path, images, hints, "onnx")
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))


def test_both_engines_find_the_same_accuracy(modules, photos, tmp_path, capsys):
    """And the results of one are not taken for those of the other."""
    for number, photo in enumerate(sorted(photos.iterdir())):
        (tmp_path / "data" / str(number)).mkdir(parents=True)
        shutil.copy(photo, tmp_path / "data" / str(number))
    keys = []
    for engine in ("tensorflow", "onnx"):

        def interrupted(evaluation, engine=engine):
            [state] = (tmp_path / engine).rglob("evaluation.json")
            keys.append((json.loads(state.read_text()), evaluation.counts, evaluation.engine))

        evaluate(
            modules["classification/3"],
            tmp_path / "data",
            engine=engine,
            state=tmp_path / engine,
            report=interrupted,
            progress=Progress(),
        )
    assert keys[0][0] != keys[1][0]
    assert keys[0][1] == keys[1][1]
    assert [key[2] for key in keys] == [f"TensorFlow {tf.__version__}", _ENGINE]


def test_onnx_runtime_starts_without_tensorflow(modules, photos):
    """In classify, for a module."""
    program = (
        "import sys, hubexport\n"
        f"found = hubexport.classify({str(modules['classification/5'])!r}, {str(photos)!r}, engine='onnx')\n"
        "assert len(list(found)) == 3 and found.engine.startswith('ONNX Runtime')\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("installed", "engine"),
    [(("tensorflow", "onnxruntime"), "tensorflow"), (("onnxruntime",), "onnx"), (("tensorflow",), "tensorflow")],
)
def test_the_engine_is_what_is_installed(monkeypatch, installed, engine):
    """TensorFlow, if both are."""
    find = importlib.util.find_spec
    left_out = {"tensorflow", "onnxruntime"} - set(installed)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in left_out else find(name))
    assert usable_engine(None, "this") == engine


def test_without_any_engine_the_error_says_how_to_get_one(monkeypatch):
    """With the extra to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("tensorflow", "onnxruntime") else find(name)
    )
    with pytest.raises(MissingExtraError, match=re.escape(install_command(["tensorflow"]))):
        usable_engine(None, "this")
    with pytest.raises(MissingExtraError, match=re.escape(install_command(["onnx"]))):
        usable_engine("onnx", "this")
    with pytest.raises(UsageError, match="unknown engine 'onx' .did you mean 'onnx'"):
        usable_engine("onx", "this")


def test_modules_of_others_are_refused_by_name_for_onnx_runtime(tmp_path, photos, modules):
    """So is one that was changed, or that has no manifest: it may compute something else."""
    write_reusable_saved_model(tmp_path / "foreign")
    shutil.copytree(modules["classification/5"], tmp_path / "changed")
    with (tmp_path / "changed" / "saved_model.pb").open("ab") as file:
        file.write(b"\x08\x01")
    shutil.copytree(modules["classification/5"], tmp_path / "bare")
    (tmp_path / "bare" / "hubexport.json").unlink()
    for name, why in (
        ("foreign", "it has no hubexport.json"),
        ("changed", "saved_model.pb"),
        ("bare", "no hubexport.json"),
    ):
        done = hubexport("classify", tmp_path / name, photos, "--engine", "onnx", "--output-kind", "logits")
        assert done.returncode == 1
        assert f"ERROR cannot run {tmp_path / name} in ONNX Runtime" in done.stderr
        assert why in done.stderr and "--engine tensorflow" in done.stderr


def _foreign_onnx(path, *, batch="n", height=8, layout="nhwc", output="scores", nodes=None, **others):
    """A network of others: the mean of each channel, times a matrix."""
    lengths = [height, 8, 3] if layout == "nhwc" else [3, height, 8]
    axes = [1, 2] if layout == "nhwc" else [2, 3]
    nodes = nodes or [
        helper.make_node("ReduceMean", ["pixels"], ["means"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["means", "matrix"], [output]),
    ]
    matrix = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "matrix")
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, *lengths])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 4])]
    graph = helper.make_graph(
        nodes, "g", inputs + others.pop("inputs", []), outputs + others.pop("outputs", []), [matrix]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("batch", ["n", 1, 2])
def test_models_of_others_run_if_the_caller_says_how(tmp_path, layout, batch):
    """Their range, and what the output means. Those that take a fixed number of images get that many at once."""
    path = _foreign_onnx(tmp_path / "m.onnx", layout=layout, batch=batch)
    images = _images(5, 8, 8)
    found, _ = _outputs(path, images, InterfaceHints((-1, 1), "logits"))
    wanted = (2 * images - 1).mean(axis=(1, 2)) @ np.arange(12).reshape(3, 4)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_models_of_others_are_refused_without_hints(tmp_path, photos):
    """The error says which flags would help."""
    path = _foreign_onnx(tmp_path / "m.onnx")
    done = hubexport("classify", path, photos)
    assert done.returncode == 1
    assert f"cannot tell how to run {path} on images" in done.stderr and "--input-range LOW HIGH" in done.stderr
    done = hubexport("classify", path, photos, "--input-range", 0, 1, "--output-kind", "logits", "--top", 1)
    assert done.returncode == 0, done.stderr


_HINTS = InterfaceHints((0, 1), "logits")
_MASK = [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1])]
_MAP = [helper.make_tensor_value_info("means", TensorProto.FLOAT, ["n", 3])]


@pytest.mark.parametrize(
    ("make", "hints", "words"),
    [
        ({"inputs": _MASK}, _HINTS, "it has 2 inputs, not one"),
        ({"outputs": _MAP}, _HINTS, "none of a known name: scores, means"),
        ({"height": "h"}, _HINTS, "it takes images of any size, and names no default one"),
        ({}, InterfaceHints((0, 1), "logits", (9, 9)), "it takes images of 8 x 8"),
        ({"nodes": [helper.make_node("Odd", ["pixels"], ["scores"])]}, _HINTS, "ONNX Runtime"),
    ],
    ids=["inputs", "outputs", "size", "other size", "unknown op"],
)
def test_models_that_do_not_take_images_alone_are_refused(tmp_path, make, hints, words):
    """In words; the engine's own are quoted."""
    path = _foreign_onnx(tmp_path / "m.onnx", **make)
    with pytest.raises(ModuleError) as caught:
        _outputs(path, _images(1, 8, 8), hints)
    assert words in caught.value.why


def test_an_output_of_a_known_name_is_the_main_one(tmp_path):
    """Beside others."""
    path = _foreign_onnx(tmp_path / "m.onnx", output="logits", outputs=_MAP)
    images = _images(2, 8, 8)
    with opened_module(path, Progress(), InterfaceHints(input_range=(0, 1))) as opened:
        assert opened.interface.output_kind == "logits"
        found = opened.run(images, ["means"])["means"]
        with pytest.raises(ModuleError, match="has no output nothing"):
            opened.run(images, ["nothing"])
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)), atol=1e-6)


def test_an_onnx_model_has_an_engine_of_its_own(tmp_path, photos):
    """The flag may name it, but no other."""
    path = convert("synthetic:1", tmp_path / "m.onnx", "onnx", variant=load_variant(_VARIANT))
    assert len(list(classify(path, photos, engine="onnx"))) == 3
    with pytest.raises(UsageError, match="does not run with --engine tensorflow"):
        classify(path, photos, engine="tensorflow")


def test_features_come_from_models_that_have_them(tmp_path, photos):
    """As the output, or as an endpoint beside logits; logits are no features."""
    variant = load_variant(_VARIANT)
    path = convert("synthetic:1", tmp_path / "v.onnx", "onnx", variant=variant, kind="feature_vector")
    extract_features(path, photos, tmp_path / "v.npy")
    endpoints = ["MobilenetV2/global_pool"]
    path = convert("synthetic:1", tmp_path / "both.onnx", "onnx", variant=variant, endpoints=endpoints)
    extract_features(path, photos, tmp_path / "both.npy")
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.shape == (3, 1280) and vectors.std() > 0.01
    np.testing.assert_allclose(np.load(tmp_path / "both.npy"), vectors, rtol=0, atol=1e-5)
    path = convert("synthetic:1", tmp_path / "c.onnx", "onnx", variant=variant)
    with pytest.raises(ModuleError, match="cannot compute features with"):
        extract_features(path, photos, tmp_path / "c.npy")


def test_a_damaged_onnx_model_is_refused_in_words(tmp_path, photos):
    """By classify as by inspect."""
    path = convert("synthetic:1", tmp_path / "m.onnx", "onnx", variant=load_variant(_VARIANT))
    path.write_bytes(path.read_bytes()[:-1000])
    done = hubexport("classify", path, photos)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"ERROR cannot read ONNX model {path}" in done.stderr


def test_open_modules_take_no_engine(photos):
    """They have one."""

    class Open:
        engine = "a table"
        interface = OpenInterface(
            path=Path("m"),
            shown_as="m",
            image_shape=(2, 2, 3),
            input_range=(0, 1),
            output_shape=(3,),
            output_kind="logits",
        )

    with pytest.raises(UsageError, match="and engine are for modules that are yet to be opened"):
        classify(Open(), photos, engine="onnx")
