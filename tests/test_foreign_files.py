"""Files and folders of other programs: each error says what they are, and what to do instead."""

from collections.abc import Callable
import json
from pathlib import Path
import shutil

from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from hubexport.checkpoints.containers import container_of
from hubexport.checkpoints.foreign_files import foreign_format
from hubexport.checkpoints.sources import resolve_source
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from tests.checkpoints import network_values, write_v2
from tests.command import hubexport
from tests.data import REAL_ARCHIVE, needs_data
from tests.foreign import keras_2, write_frozen_graph, write_frozen_saved_model, write_tf1_saved_model

_FROZEN = "a frozen graph of TensorFlow (GraphDef): its values are constants, not variables"
_EXPORTED = "its values are those of an exported graph, not the variables of a network"


def _tagged(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content


def _onnx(path: Path) -> None:
    """As PyTorch writes it: versions, producer, a graph of one Relu, and the opset."""
    relu = _tagged(1, b"x") + _tagged(2, b"y") + _tagged(4, b"Relu")
    graph = _tagged(1, relu) + _tagged(2, b"main_graph")
    producer = _tagged(2, b"pytorch") + _tagged(3, b"2.4.0")
    path.write_bytes(b"\x08\x08" + producer + _tagged(7, graph) + _tagged(8, b"\x10\x11"))


def _tflite(path: Path) -> None:
    double = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec([1], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([double.get_concrete_function()], double)
    path.write_bytes(converter.convert())


def _frozen_graph(path: Path) -> None:
    write_frozen_graph(path, {"MobilenetV2/Conv/weights": np.ones([3, 3, 3, 8], np.float32)})


def _graph(path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.compat.v1.get_variable("x", [2], use_resource=False)
    path.write_bytes(graph.as_graph_def().SerializeToString())


def _graph_as_text(path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.compat.v1.placeholder(tf.float32, [None], name="input")
    path.write_text(text_format.MessageToString(graph.as_graph_def()))


def _saved_model_file(path: Path) -> None:
    write_tf1_saved_model(path.parent / "module")
    shutil.copy(path.parent / "module" / "saved_model.pb", path)


def _saved_model_as_text(path: Path) -> None:
    _saved_model_file(path)
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    path.write_text(f"# written by hand\n{text_format.MessageToString(saved_model)}")


def _tensorflow_js(path: Path, topology: dict, **more: object) -> None:
    manifest = [{"paths": ["group1-shard1of4.bin"], "weights": [{"name": "kernel", "shape": [3], "dtype": "float32"}]}]
    path.write_text(json.dumps({**more, "modelTopology": topology, "weightsManifest": manifest}, indent=1))


def _layers_model(path: Path) -> None:
    topology = {"keras_version": "2.15.0", "backend": "tensorflow", "model_config": {"class_name": "Functional"}}
    _tensorflow_js(path, topology, format="layers-model", generatedBy="keras v2.15.0")


def _graph_model(path: Path) -> None:
    _tensorflow_js(path, {"versions": {}}, format="graph-model")


def _old_layers_model(path: Path) -> None:
    _tensorflow_js(path, {"model_config": {"class_name": "Sequential"}})


def _old_graph_model(path: Path) -> None:
    _tensorflow_js(path, {"node": []})


# For each file its usual name, what makes it, what it is and why that is not read, and a part of the fix.
_FILES = {
    "TFLite": ("model.tflite", _tflite, f"a TensorFlow Lite model: {_EXPORTED}", "that it was made from"),
    "ONNX": ("model.onnx", _onnx, f"an ONNX model: {_EXPORTED}", "that it was made from"),
    "frozen graph": ("frozen_inference_graph.pb", _frozen_graph, _FROZEN, "see Frozen graphs"),
    "graph": (
        "graph.pb",
        _graph,
        "a graph of TensorFlow (GraphDef): the values of its",
        "checkpoint of the same training",
    ),
    "graph as text": ("graph.pbtxt", _graph_as_text, "a graph of TensorFlow in text form", "use a checkpoint"),
    "SavedModel's file": ("model.pb", _saved_model_file, "the graph of a SavedModel", "call it saved_model.pb"),
    "SavedModel as text": (
        *("saved_model.pbtxt", _saved_model_as_text, "a SavedModel in text form"),
        "copy the folder variables beside it as well",
    ),
    "TF.js layers": ("model.json", _layers_model, "a Keras model of TensorFlow.js", "--output_format=keras"),
    "TF.js graph": ("model.json", _graph_model, f"a graph model of TensorFlow.js: {_EXPORTED}", "made from"),
    "old TF.js layers": ("model.json", _old_layers_model, "a Keras model of TensorFlow.js", "--output_format=keras"),
    "old TF.js graph": ("model.json", _old_graph_model, "a graph model of TensorFlow.js", "made from"),
    "pointer": (
        "x.h5",
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
        "Git LFS",
        "pull",
    ),
    "empty file": ("weights.h5", Path.touch, "an empty file", "again"),
}


def _parameters() -> list[object]:
    return [pytest.param(*values, id=name) for name, values in _FILES.items()]


def _error(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        resolve_source(path, None, Progress())
    return caught.value


@pytest.mark.parametrize(("name", "make", "what", "fix"), _parameters())
def test_a_file_of_another_program(tmp_path, name: str, make: Callable[[Path], None], what: str, fix: str):
    """It is known by its content: under another name, too."""
    make(tmp_path / name)
    error = _error(tmp_path / name)
    assert error.what == f"cannot read {tmp_path / name}"
    assert f"it is {what}" in error.why or what in error.why
    assert fix in error.fix
    (tmp_path / name).rename(tmp_path / "model.ckpt")
    assert _error(tmp_path / "model.ckpt").why == error.why


@pytest.mark.parametrize(("name", "make", "what", "fix"), _parameters())
def test_a_folder_with_such_a_file(tmp_path, name: str, make: Callable[[Path], None], what: str, fix: str):
    """The error names the file; what else is in the folder does not matter."""
    make(tmp_path / name)
    shutil.rmtree(tmp_path / "module", ignore_errors=True)
    (tmp_path / "group1-shard1of4.bin").write_bytes(bytes(12))
    (tmp_path / "labels.txt").write_text("cat\n")
    error = _error(tmp_path)
    assert error.what == f"{tmp_path} holds no checkpoint"
    assert error.why.startswith(f"{name} is ") and what in error.why
    assert fix in error.fix


@pytest.mark.parametrize("command", ["convert", "build"])
def test_every_command_says_it(tmp_path, config_dir, command):
    """In three lines, and without output."""
    _onnx(tmp_path / "model.onnx")
    arguments = {
        "convert": ["convert", tmp_path / "model.onnx", tmp_path / "c.ckpt", "--to", "slim"],
        "build": [
            *("build", "--variant", "small", "--config-dir", config_dir, "--checkpoint", tmp_path / "model.onnx"),
            *("--output-dir", tmp_path / "modules"),
        ],
    }[command]
    done = hubexport(*arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[:3] == [
        f"ERROR cannot read {tmp_path / 'model.onnx'}",
        f"  why: it is an ONNX model: {_EXPORTED}",
        "  fix: use the checkpoint, Keras model or SavedModel that it was made from",
    ]
    assert not (tmp_path / "modules").exists() and not list(tmp_path.glob("c.ckpt*"))


def test_a_data_file_of_tensorflow_js(tmp_path):
    """Its name is all that tells it."""
    (tmp_path / "group1-shard2of4.bin").write_bytes(bytes(12))
    assert _error(tmp_path / "group1-shard2of4.bin").fix == "use its folder"


def test_the_file_in_a_saved_model(tmp_path):
    """The folder is what has the values. The fix works."""
    write_tf1_saved_model(tmp_path / "m")
    assert _error(tmp_path / "m" / "saved_model.pb").fix == f"use its folder, {tmp_path / 'm'}"
    assert resolve_source(tmp_path / "m", None, Progress()).files.in_module


def test_a_saved_model_as_text_with_its_values(tmp_path):
    """They can be read without the graph. The fix works."""
    _saved_model_as_text(tmp_path / "saved_model.pbtxt")
    (tmp_path / "module" / "variables").rename(tmp_path / "variables")
    shutil.rmtree(tmp_path / "module")
    prefix = tmp_path / "variables" / "variables"
    assert _error(tmp_path).fix == f"use its checkpoint, {prefix}"
    assert hubexport("inspect", prefix).returncode == 0


def _without_values(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(content)


def _whole_saved_model(folder: Path) -> None:
    write_tf1_saved_model(folder)
    shutil.rmtree(folder / "variables")


def _frozen_in_place_of_a_saved_model(folder: Path) -> None:
    folder.mkdir()
    _frozen_graph(folder / "saved_model.pb")


@pytest.mark.parametrize(
    ("make", "what", "why"),
    [
        pytest.param(
            write_frozen_saved_model,
            "{} holds no checkpoint",
            "it is a SavedModel of a frozen graph: its values are constants, not variables",
            id="frozen",
        ),
        pytest.param(
            _frozen_in_place_of_a_saved_model,
            "{} holds no checkpoint",
            f"saved_model.pb is {_FROZEN}",
            id="only a frozen graph",
        ),
        pytest.param(
            _whole_saved_model,
            "{} holds no checkpoint",
            "it is a SavedModel without the file variables/variables.index",
            id="without its values",
        ),
        pytest.param(
            lambda folder: _without_values(folder, b"\x99" * 100),
            "cannot read module {}",
            "saved_model.pb cannot be decoded",
            id="damaged",
        ),
        pytest.param(
            lambda folder: _without_values(folder, b""),
            "cannot read module {}",
            "saved_model.pb cannot be decoded",
            id="empty",
        ),
    ],
)
def test_a_saved_model_without_checkpoint(tmp_path, make, what, why):
    """A frozen one, one that was not copied whole, and a damaged one are told from each other."""
    make(tmp_path / "m")
    error = _error(tmp_path / "m")
    assert (error.what, error.why) == (what.format(tmp_path / "m"), why)


def test_inspect_tells_a_frozen_graph_from_a_damaged_module(tmp_path):
    """It describes modules, with or without variables."""
    _frozen_in_place_of_a_saved_model(tmp_path / "m")
    done = hubexport("inspect", tmp_path / "m")
    assert done.returncode == 1 and "saved_model.pb is a graph alone (GraphDef), not a SavedModel" in done.stderr
    with (tmp_path / "m" / "saved_model.pb").open("ab") as file:
        file.truncate(33 << 20)
    assert "more than 32 MiB in saved_model.pb are constants" in hubexport("inspect", tmp_path / "m").stderr
    write_frozen_saved_model(tmp_path / "whole")
    assert "0 (0 trainable)" in hubexport("inspect", tmp_path / "whole").stdout


@pytest.mark.parametrize("name", ["model.pb", "model.onnx", "model.tflite", "model.json", "saved_model.pbtxt"])
@pytest.mark.parametrize(
    "content",
    [
        *(
            b"\x0a\x7f",
            b"\x0a\x04\x12\x02ab",
            b"\x0a\x08\x0a\x01x\x12\x03a b",
            b"\x08\x08\x3a\x00",
            b"\x08\x01\x12\x02\xff",
        ),
        *(
            b"TFL3",
            b"{",
            b'{"weightsManifest"',
            b"[1]",
            b'{"model": 1}',
            b"node_count: 3",
            b"\x08\x01\x12\x02\xff\xff",
            b"\x0a\x7f\x0a\x01x\x12\x04Relu\x2a\x74cut off",
        ),
    ],
)
def test_no_name_makes_a_file_one_of_these(tmp_path, name, content):
    """Damaged and other files are none of them."""
    (tmp_path / name).write_bytes(content)
    assert _error(tmp_path / name).what == f"{tmp_path / name} is not a checkpoint"


@pytest.mark.fuzz
@settings(deadline=None, max_examples=500)
@given(
    start=st.sampled_from([b"", b"\x0a", b"\x08\x01\x12", b"\x08\x08", b"{", b"node {", b"\x0a\x10\x0a\x02ab\x12"]),
    rest=st.binary(max_size=200),
)
def test_no_bytes_break_the_recognition(tmp_path_factory, start, rest):
    """It says what a file is, or nothing."""
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(start + rest)
    found = foreign_format(path, container_of(path))
    assert found is None or found.title


@pytest.mark.slow
def test_the_constants_of_a_frozen_graph_can_be_used(tmp_path):
    """The fix: the program in the docs saves them, and they are the values of the variables, bit for bit."""
    values = network_values()
    write_frozen_graph(tmp_path / "frozen.pb", values)
    write_v2(tmp_path / "model.ckpt", values)
    _run_program_of_the_docs(tmp_path)
    done = hubexport("diff", tmp_path / "frozen.safetensors", tmp_path / "model.ckpt")
    assert done.returncode == 0 and f"{len(values)} equal bit for bit, 0 different" in done.stdout


def _run_program_of_the_docs(folder: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text()
    program = page[page.index("### Frozen graphs") :].split("```python\n")[1].split("```")[0]
    for name in ("frozen.pb", "frozen.safetensors"):
        program = program.replace(f'"{name}"', repr(str(folder / name)))
    exec(compile(program, "docs/checkpoints.md", "exec"), {})


@needs_data
@pytest.mark.slow
def test_the_published_exports(tmp_path):
    """A real TFLite file and a real frozen graph; the latter's constants are the averages in the checkpoint."""
    shutil.unpack_archive(REAL_ARCHIVE, tmp_path, "gztar", filter="data")
    [tflite], [frozen] = tmp_path.glob("*.tflite"), tmp_path.glob("*_frozen.pb")
    assert "a TensorFlow Lite model" in _error(tflite).why
    assert "a frozen graph" in _error(frozen).why
    frozen.rename(tmp_path / "frozen.pb")
    _run_program_of_the_docs(tmp_path)
    done = hubexport("diff", tmp_path / "frozen.safetensors", REAL_ARCHIVE)
    assert done.returncode == 0 and "262 equal bit for bit, 0 different" in done.stdout


# A few names of each network, as its framework gives them.
_NETWORKS = {
    "a MobileNet V2 of torchvision": ["features.0.0.weight", "features.1.conv.0.0.weight", "classifier.1.weight"],
    "a MobileNet V3 of torchvision": ["features.0.0.weight", "features.1.block.0.0.weight", "classifier.3.weight"],
    "an EfficientNet of torchvision": ["features.0.0.weight", "features.1.0.block.0.0.weight", "classifier.1.weight"],
    "a ConvNeXt of torchvision": ["features.0.0.weight", "features.1.0.layer_scale", "features.1.0.block.0.weight"],
    "a DenseNet of torchvision": ["features.conv0.weight", "features.denseblock1.denselayer1.conv1.weight"],
    "an AlexNet or VGG of torchvision": ["features.0.weight", "classifier.0.weight", "classifier.6.weight"],
    "a ResNet of torchvision or timm": ["conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.weight"],
    "an Inception V3 of torchvision": ["Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"],
    "a GoogLeNet of torchvision": ["conv1.conv.weight", "inception3a.branch1.conv.weight"],
    "a vision transformer of torchvision": ["class_token", "encoder.layers.encoder_layer_0.ln_1.weight"],
    "a MobileNet or EfficientNet of timm": ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "bn2.weight"],
    "a MobileNet V3 of timm": ["conv_stem.weight", "blocks.0.0.conv_dw.weight", "blocks.1.0.se.conv_reduce.weight"],
    "a MobileNet V4 of timm": ["conv_stem.weight", "blocks.0.0.conv.weight", "blocks.2.0.dw_start.conv.weight"],
    "an EfficientNet of timm": ["conv_stem.weight", "blocks.0.0.se.conv_reduce.weight", "bn2.weight"],
    "a vision transformer of timm": ["cls_token", "blocks.0.attn.qkv.weight"],
    "a MobileNet V1 of Hugging Face": ["mobilenet_v1.conv_stem.convolution.weight", "classifier.weight"],
    "a ResNet of Hugging Face": ["resnet.embedder.embedder.convolution.weight", "classifier.1.weight"],
    "an EfficientNet of Hugging Face": ["efficientnet.embeddings.convolution.weight", "classifier.weight"],
    "a vision transformer of Hugging Face": ["vit.embeddings.cls_token", "classifier.weight"],
    "an EfficientNet of TensorFlow's TPU models": ["efficientnet-b0/stem/conv2d/kernel"],
    "a network of PyTorch": ["body.0.weight", "body.1.weight", "body.1.running_mean"],
}


def _save(path: Path, names: list[str]) -> None:
    save_file({name: np.ones([2], np.float32) for name in names}, path)


@pytest.mark.parametrize(("title", "names"), _NETWORKS.items(), ids=_NETWORKS)
def test_names_tell_whose_network_it_is(tmp_path, config_dir, title, names):
    """`inspect` says it, and `convert` and `build` refuse it by it."""
    _save(tmp_path / "x.safetensors", names)
    assert f"  network           unknown: it is {title}\n" in hubexport("inspect", tmp_path / "x.safetensors").stdout
    wanted = (
        f"ERROR cannot use the weights of {tmp_path / 'x.safetensors'}\n  why: it is {title}; hubexport reads networks "
        "by the names of TF-Slim, of Keras, and of Hugging Face's MobileNet V2\n"
    )
    done = hubexport("convert", tmp_path / "x.safetensors", tmp_path / "c", "--to", "slim")
    assert done.returncode == 1 and wanted in done.stderr
    variant = ("--variant", "small", "--config-dir", config_dir, "--output-dir", tmp_path / "modules")
    done = hubexport("build", "--checkpoint", tmp_path / "x.safetensors", *variant)
    assert done.returncode == 1 and wanted in done.stderr
    assert not (tmp_path / "modules").exists()


@pytest.mark.parametrize(
    ("settings_beside", "title"),
    [
        ({"model_type": "resnet", "architectures": ["ResNetModel"]}, "ResNetModel of Hugging Face"),
        ({"model_type": "swin", "architectures": None}, "swin of Hugging Face"),
        ({"architecture": "mobilenetv3_rw", "num_classes": 1000}, "mobilenetv3_rw of timm"),
        ({"architecture": "red\x1b[31m"}, "red\\x1b[31m of timm"),
        ({"model_type": "mobilenet_v2", "architectures": ["X"]}, "a ResNet of torchvision or timm"),
        ({"model_type": 7}, "a ResNet of torchvision or timm"),
        ([], "a ResNet of torchvision or timm"),
    ],
)
def test_settings_beside_the_weights_tell_more(tmp_path, settings_beside, title):
    """Those of Hugging Face and of timm, unless they are of a MobileNet V2, which these values are not."""
    _save(tmp_path / "model.safetensors", _NETWORKS["a ResNet of torchvision or timm"])
    (tmp_path / "config.json").write_text(json.dumps(settings_beside))
    assert f"unknown: it is {title}\n" in hubexport("inspect", tmp_path).stdout


def test_a_changed_mobilenet_v2_of_hugging_face_is_none_of_these(tmp_path):
    """The closest network says more. Nor are values without telling names."""
    write_v2(tmp_path / "c", network_values())
    assert hubexport("convert", tmp_path / "c", tmp_path / "hf", "--to", "huggingface").returncode == 0
    values = load_file(tmp_path / "hf" / "model.safetensors")
    values["mobilenet_v2.layer.3.expand_1x1.convolution.weight"] = np.ones([2], np.float32)
    save_file(values, tmp_path / "hf" / "model.safetensors")
    done = hubexport("convert", tmp_path / "hf", tmp_path / "d", "--to", "slim")
    assert "1 of the 260 variables of MobileNet V2, depth multiplier 0.35 do not fit" in " ".join(done.stderr.split())
    _save(tmp_path / "x.safetensors", ["a", "b/weight"])
    assert "unknown: names and shapes match no network" in hubexport("inspect", tmp_path / "x.safetensors").stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "title"), [("EfficientNetB0", "an EfficientNet of Keras"), ("DenseNet121", "a DenseNet of Keras")]
)
def test_networks_of_keras_that_hubexport_does_not_have(tmp_path, name, title):
    """Keras itself writes the file."""
    getattr(keras_2().applications, name)(weights=None).save_weights(tmp_path / "weights.h5")
    assert f"unknown: it is {title}\n" in hubexport("inspect", tmp_path / "weights.h5").stdout
