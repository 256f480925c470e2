"""What `hubexport inspect` says of TFLite files, ours and others, against what TensorFlow's interpreter reads."""

from collections import Counter
import io
import json
import struct
import tarfile
import zipfile

import flatbuffers
import numpy as np
import pytest
import tflite

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.options import TfliteOptions
from hubexport.deployments.tflite_model import tflite_model
from hubexport.deployments.tflite_report import is_tflite, tflite_report
from hubexport.errors import ModuleError
from hubexport.networks.registry import FAMILIES
from tests import tflite_models
from tests.command import hubexport
from tests.data import REAL_ARCHIVE, needs_data

_VARIANT = "mobilenet_v2_035_96"
_DTYPES = {
    tflite.TensorType.FLOAT32: np.dtype(np.float32),
    tflite.TensorType.INT8: np.dtype(np.int8),
    tflite.TensorType.UINT8: np.dtype(np.uint8),
    tflite.TensorType.INT32: np.dtype(np.int32),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A classifier with weights of int8, and an endpoint."""
    path = tmp_path_factory.mktemp("tflite") / "m.tflite"
    options = TfliteOptions(pixels="uint8", quantize="dynamic", softmax=True)
    endpoints = ["MobilenetV2/layer_4/depthwise_output"]
    return convert("synthetic:1", path, "tflite", variant=load_variant(_VARIANT), options=options, endpoints=endpoints)


@pytest.fixture(scope="module")
def small():
    """The bytes of a model with few classes."""
    network = FAMILIES["mobilenet_v1"].network(FAMILIES["mobilenet_v1"].published_parameters[0], 32, 4, 1)
    values = {variable.name: synthetic_value(variable, 1) for variable in network.variables}
    options = TfliteOptions()
    return tflite_model(inference_model("m", network, values, options, class_names=list("abcd")), options)


def _report(content, folder):
    path = folder / "m.tflite"
    path.write_bytes(content)
    return tflite_report(path)


def _assert_as_the_interpreter_has_it(report, content):
    opened = tflite_models.interpreter(content, delegates=False)
    opened.allocate_tensors()
    for ours, theirs in zip(
        (*report.inputs, *report.outputs), (*opened.get_input_details(), *opened.get_output_details()), strict=True
    ):
        assert ours.dtype == np.dtype(theirs["dtype"]).name
        assert [length or -1 for length in ours.shape] == list(theirs["shape_signature"])
    assert report.ops == tflite_models.ops(content)
    model = tflite.Model.GetRootAs(content)
    graph, weights = model.Subgraphs(0), Counter()
    for tensor in map(graph.Tensors, range(graph.TensorsLength())):
        if length := model.Buffers(tensor.Buffer()).DataLength():
            dtype = _DTYPES[tensor.Type()]
            weights[dtype.name] += length // dtype.itemsize
    assert report.weights == weights


def test_a_model_of_ours_is_described_as_the_interpreter_reads_it(ours):
    """Inputs, outputs, operators, numbers and metadata."""
    report = tflite_report(ours)
    assert (report.format, report.version) == ("tflite", "schema 3, for runtimes from 2.4.0")
    assert report.written_by == "hubexport 0.1.0" and report.size == ours.stat().st_size
    _assert_as_the_interpreter_has_it(report, ours.read_bytes())
    assert [one.name for one in report.inputs] == ["images"]
    assert report.inputs[0].quantization == "0 to 255 in steps of 1"
    assert [one.name for one in report.outputs] == ["probabilities", "MobilenetV2/layer_4/depthwise_output"]
    assert report.metadata["class_names"] == list(load_variant(_VARIANT).class_names())
    assert (report.metadata["input_mean"], report.metadata["input_deviation"]) == ([0.0], [1.0])
    assert not report.problems


@pytest.mark.slow
def test_a_model_of_tensorflows_converter_is_described(tmp_path):
    """With integers inside and outside."""
    import tensorflow as tf

    images = tf.keras.Input((8, 8, 3))
    net = tf.keras.layers.Conv2D(4, 3, activation="relu")(images)
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(images, tf.keras.layers.Flatten()(net)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    generator = np.random.default_rng(1)
    converter.representative_dataset = lambda: ([generator.random((1, 8, 8, 3), np.float32)] for _ in range(4))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    content = converter.convert()
    report = _report(content, tmp_path)
    _assert_as_the_interpreter_has_it(report, content)
    assert report.written_by == "MLIR Converted." and not report.problems
    [given] = tflite_models.interpreter(content).get_input_details()
    scale, zero = given["quantization"]
    assert report.inputs[0].quantization == f"{-zero * scale:.4g} to {(255 - zero) * scale:.4g} in steps of {scale:.4g}"


@needs_data
def test_a_published_model_is_described(tmp_path):
    """With metadata that another program wrote."""
    with tarfile.open(REAL_ARCHIVE) as archive:
        content = archive.extractfile("./mobilenet_v2_1.0_224_quant.tflite").read()
    report = _report(content, tmp_path)
    _assert_as_the_interpreter_has_it(report, content)
    assert report.metadata["name"] == "ImageClassifier"
    assert (report.metadata["input_mean"], report.metadata["input_deviation"]) == ([127.5], [127.5])
    assert report.metadata["class_names"][:2] == ["background", "tench, Tinca tinca"]
    assert not report.problems


def test_inspect_shows_it(ours):
    """As text and as JSON."""
    done = hubexport("inspect", ours)
    assert done.returncode == 0, done.stderr
    assert "schema 3" in done.stdout and "CONV_2D 36" in done.stdout and "images uint8 [?, 96, 96, 3]" in done.stdout
    document = json.loads(hubexport("inspect", ours, "--format", "json").stdout)
    assert document["format"] == "tflite" and document["ops"]["DEPTHWISE_CONV_2D"] == 17


def test_files_are_recognized_by_their_content(ours, tmp_path):
    """Whatever their name."""
    assert is_tflite(ours)
    (tmp_path / "m.tflite").write_bytes(b"PK\3\4TFL2")
    assert not is_tflite(tmp_path / "m.tflite")
    assert not is_tflite(tmp_path)


def test_a_model_that_is_cut_off_is_refused(small, tmp_path):
    """Wherever it ends."""
    labels = len(b"a\nb\nc\nd\n")
    end = small.index(b"PK\3\4")
    for size in (7, 8, 40, 400, end // 2, end - 200):
        with pytest.raises(ModuleError) as caught:
            _report(small[:size], tmp_path)
        assert "damaged" in caught.value.why
    report = _report(small[: -labels - 100], tmp_path)
    assert report.problems == ["its metadata name the file labels.txt, which is not in it"]


def _with_zip(small, name, content):
    stream = io.BytesIO(small[: small.index(b"PK\3\4")])
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _replaced(content, old, new):
    assert content.count(old) == 1 and len(old) == len(new)
    return content.replace(old, new)


def _nan(small):
    weights = tflite_models.constants(small)["MobilenetV1/Conv2d_0/weights"][0].tobytes()
    return _replaced(small, weights, np.float32(np.nan).tobytes() + weights[4:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_nan, "MobilenetV1/Conv2d_0/weights has 1 numbers that are NaN"),
        (lambda small: _with_zip(small, "labels.txt", "a\nb\nc\n"), "names 3 classes"),
        (lambda small: _with_zip(small, "other.txt", "a"), "labels.txt, which is not in it"),
        (lambda small: _with_zip(small, "labels.txt", bytes(1 << 23)), "labels.txt has 8,388,608 bytes"),
        (lambda small: _replaced(small, b"M001", b"M002"), "metadata are damaged"),
        (lambda small: _replaced(small, b"PK\1\2", b"PK\1\3"), "files after the model are damaged"),
    ],
    ids=["NaN", "classes", "no labels", "a bomb", "metadata", "archive"],
)
def test_what_is_wrong_is_a_problem(small, tmp_path, damage, words):
    """And the rest is described."""
    assert not _report(small, tmp_path).problems
    report = _report(damage(small), tmp_path)
    assert words in " ".join(report.problems), report.problems
    assert [one.name for one in report.outputs] == ["logits"]


def _model_of(tensors):
    """A file whose only graph has these tensors, as a function of a builder adds them."""
    builder = flatbuffers.Builder()
    vector = tensors(builder)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, vector)
    graph = tflite.SubGraphEnd(builder)
    buffer = (tflite.BufferStart(builder), tflite.BufferEnd(builder))[1]
    vectors = []
    for item in (graph, buffer):
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(item)
        vectors.append(builder.EndVector())
    tflite.ModelStart(builder)
    tflite.ModelAddSubgraphs(builder, vectors[0])
    tflite.ModelAddBuffers(builder, vectors[1])
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def _many(builder, count, name):
    text = builder.CreateString(name)
    tflite.TensorStart(builder)
    tflite.TensorAddName(builder, text)
    tensor = tflite.TensorEnd(builder)
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(tensor)
    return builder.EndVector()


@pytest.mark.parametrize(
    ("count", "name", "words"),
    [(100_001, "t", "tables"), (40, "t" * (1 << 20), "texts and lists")],
    ids=["tables", "texts"],
)
@pytest.mark.timeout(60)
def test_a_small_file_cannot_take_all_memory(tmp_path, count, name, words):
    """By naming the same part again and again."""
    content = _model_of(lambda builder: _many(builder, count, name))
    with pytest.raises(ModuleError) as caught:
        _report(content, tmp_path)
    assert words in caught.value.why
    assert _report(_model_of(lambda builder: _many(builder, 3, "t")), tmp_path).ops == {}


def test_a_vector_longer_than_the_file_is_refused(small, tmp_path):
    """Before any of it is read."""
    [position] = struct.unpack("<I", small[:4])
    content = bytearray(small)
    [to_slots] = struct.unpack("<i", content[position : position + 4])
    [subgraphs] = struct.unpack("<H", content[position - to_slots + 8 : position - to_slots + 10])
    place = position + subgraphs
    [distance] = struct.unpack("<I", content[place : place + 4])
    content[place + distance : place + distance + 4] = b"\xff\xff\xff\x7f"
    with pytest.raises(ModuleError) as caught:
        _report(bytes(content), tmp_path)
    assert "outside of itself" in caught.value.why


@pytest.mark.fuzz
def test_damage_is_refused_or_told(small, tmp_path):
    """A thousand times, in words."""
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(1000):
        content = bytearray(small)
        ends = ((0, 4000), (len(content) - 20000, len(content)), (0, len(content)))
        lowest, highest = ends[generator.integers(3)]
        for position in generator.integers(lowest, highest - 4, generator.integers(1, 8)):
            number = generator.choice([0, 1, 2**31 - 1, 2**32 - 1, len(content), generator.integers(2**32)])
            content[position : position + 4] = struct.pack("<I", number)
        try:
            _report(content, tmp_path)
        except ModuleError:
            refused += 1
    assert 100 < refused < 1000
