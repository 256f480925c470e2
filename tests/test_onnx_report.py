"""What `hubexport inspect` says of ONNX files, ours and others, against what the package onnx reads."""

from collections import Counter
import json
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import pytest

from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.onnx_report import is_onnx, onnx_report
from hubexport.deployments.options import OnnxOptions
from hubexport.errors import HubexportError, ModuleError
from tests.command import hubexport

_VARIANT = "mobilenet_v2_035_96"


def _text_lines(path):
    done = hubexport("inspect", path)
    lines = [line.strip().partition(" ") for line in done.stdout.splitlines()[1:]]
    return done.returncode, [(label, text.strip()) for label, _, text in lines]


def _save(path, nodes, inputs, outputs, initializers=(), **others):
    graph = helper.make_graph(nodes, "g", inputs, outputs, [*initializers])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **others), path)
    return path


def _tensor(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def _small(path, constant=None, **others):
    """A model of one addition."""
    constant = numpy_helper.from_array(np.ones(4, np.float32), "c") if constant is None else constant
    add = helper.make_node("Add", ["x", "c"], ["y"], "add")
    return _save(path, [add], [_tensor("x", ["n", 4])], [_tensor("y", ["n", 4])], [constant], **others)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """A classifier, with an endpoint."""
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    options = OnnxOptions(pixels="uint8", layout="nchw", opset=15)
    endpoints = ["MobilenetV2/layer_4/depthwise_output"]
    return convert("synthetic:1", path, "onnx", variant=load_variant(_VARIANT), options=options, endpoints=endpoints)


def test_a_model_of_ours_is_described_as_onnx_reads_it(ours):
    """Ops, numbers and metadata."""
    report, model = onnx_report(ours), onnx.load(ours)
    assert (report.format, report.version, report.written_by) == ("onnx", "opset 15", "hubexport 0.1.0")
    assert report.size == ours.stat().st_size
    assert report.ops == Counter(node.op_type for node in model.graph.node)
    assert report.weights["float32"] == sum(
        numpy_helper.to_array(one).size for one in model.graph.initializer if one.data_type == TensorProto.FLOAT
    )
    [images] = report.inputs
    assert (images.name, images.dtype, images.shape) == ("images", "uint8", (None, 3, 96, 96))
    assert [(one.name, one.shape) for one in report.outputs] == [
        ("logits", (None, 1001)),
        ("MobilenetV2/layer_4/depthwise_output", (None, 48, 24, 24)),
    ]
    assert report.metadata["class_names"] == list(load_variant(_VARIANT).class_names())
    assert report.metadata["input_range"] == [0, 255]
    assert report.metadata["input_layout"] == "nchw"
    assert not report.has_problems


def test_inspect_prints_it(ours):
    """As text and as JSON, which is the whole report."""
    status, lines = _text_lines(ours)
    assert status == 0
    assert ("format", "ONNX opset 15") in lines
    assert ("inputs", "images uint8 [?, 3, 96, 96]") in lines
    assert any(text.startswith('class_names: 1,001 entries: "background", "tench, Tinca tinca"') for _, text in lines)
    described = json.loads(hubexport("inspect", ours, "--format", "json").stdout, parse_constant=pytest.fail)
    assert described == json.loads(json.dumps(onnx_report(ours).as_json()))


def _branch(constant, output):
    """Numbers in a field of their own, in an attribute; and an input from outside."""
    numbers = helper.make_tensor("", TensorProto.FLOAT, [2], [1, 2])
    nodes = [
        helper.make_node("Constant", [], [constant], value=numbers),
        helper.make_node("Mul", ["x", constant], [output]),
    ]
    return helper.make_graph(nodes, output, [], [_tensor(output, None)])


def test_models_of_other_programs_are_read(tmp_path):
    """With graphs in nodes, constants in attributes and in fields of their own, ops of others, and open lengths."""
    inner = [_branch(f"k{one}", f"out{one}") for one in range(2)]
    nodes = [
        helper.make_node("If", ["cond"], ["z"], then_branch=inner[0], else_branch=inner[1]),
        helper.make_node("Odd", ["z", "half"], ["y"], domain="com.example"),
    ]
    half = numpy_helper.from_array(np.ones([3, 2], np.float16), "half")
    path = tmp_path / "m.onnx"
    inputs = [_tensor("x", [None, "height", 2]), _tensor("cond", [], TensorProto.BOOL)]
    _save(path, nodes, inputs, [_tensor("y", None)], [half], producer_name="pytorch", producer_version="2.4.0")
    report = onnx_report(path)
    assert report.written_by == "pytorch 2.4.0"
    assert report.ops == {"If": 1, "Constant": 2, "Mul": 2, "com.example.Odd": 1}
    assert report.weights == {"float16": 6, "float32": 4}
    assert [(one.name, one.dtype, one.shape) for one in report.inputs] == [
        ("x", "float32", (None, None, 2)),
        ("cond", "bool", ()),
    ]
    assert [one.shape for one in report.outputs] == [None]
    assert not report.problems
    assert ("outputs", "y float32 of any shape") in _text_lines(path)[1]


def test_metadata_is_text_unless_it_is_json(tmp_path):
    """What JSON does not have stays text."""
    path = _small(tmp_path / "m.onnx")
    model = onnx.load(path)
    texts = {"a": "[1, 2]", "b": "[NaN]", "c": "{broken", "d": "12", "e": "\x1b[31mred"}
    helper.set_model_props(model, texts)
    onnx.save(model, path)
    assert onnx_report(path).metadata == texts | {"a": [1, 2]}
    assert "\x1b" not in hubexport("inspect", path).stdout


def _nan(path):
    numbers = np.ones(4, np.float32)
    numbers[1:3] = np.nan, np.inf
    _small(path, numpy_helper.from_array(numbers, "c"))


def _short(path):
    constant = numpy_helper.from_array(np.ones(4, np.float32), "c")
    constant.raw_data = constant.raw_data[:-4]
    _small(path, constant)


def _missing_input(path):
    _save(path, [helper.make_node("Relu", ["nowhere"], ["y"], "r")], [_tensor("x", [1])], [_tensor("y", [1])])


def _wrong_order(path):
    nodes = [helper.make_node("Relu", ["a"], ["y"], "second"), helper.make_node("Relu", ["x"], ["a"], "first")]
    _save(path, nodes, [_tensor("x", [1])], [_tensor("y", [1])])


def _missing_output(path):
    _save(path, [helper.make_node("Relu", ["x"], ["y"])], [_tensor("x", [1])], [_tensor("z", [1])])


def _given_twice(path):
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])]
    _save(path, nodes, [_tensor("x", [1])], [_tensor("y", [1])])


def _external(path, location, present=16):
    constant = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    constant.external_data.add(key="location", value=location)
    _small(path, constant)
    if present:
        (path.parent / "weights.bin").write_bytes(np.arange(present // 4, dtype=np.float32).tobytes())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_nan, "the constant c has 2 numbers that are NaN or infinite"),
        (_short, "the constant c has 12 bytes, and needs 16"),
        (_missing_input, "nothing gives these inputs before they are needed: nowhere of Relu r"),
        (_wrong_order, "nothing gives these inputs before they are needed: a of Relu second"),
        (_missing_output, "nothing gives the output z"),
        (_given_twice, "several nodes give the tensor y"),
        (lambda path: _external(path, "weights.bin", 0), "its constants are in weights.bin, which cannot be read"),
        (lambda path: _external(path, "weights.bin", 12), "the constant c needs 16 bytes of weights.bin"),
        (lambda path: _external(path, "../weights.bin"), "which is not in the model's folder"),
        (lambda path: _external(path, "/etc/passwd"), "which is not in the model's folder"),
        (
            lambda path: onnx.save(onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="g")), path),
            "it has no outputs",
        ),
    ],
)
def test_what_is_wrong_is_a_problem(tmp_path, make, words):
    """Each by itself; the exit status tells."""
    make(tmp_path / "m.onnx")
    assert any(problem.startswith(words) or words in problem for problem in onnx_report(tmp_path / "m.onnx").problems)
    status, lines = _text_lines(tmp_path / "m.onnx")
    assert status == 1
    assert any(label == "PROBLEM" and words in text for label, text in lines)


def test_numbers_beside_the_model_belong_to_it(tmp_path):
    """They count in its size."""
    _external(tmp_path / "m.onnx", "weights.bin")
    report = onnx_report(tmp_path / "m.onnx")
    assert not report.problems
    assert report.size == sum(one.stat().st_size for one in tmp_path.iterdir())
    assert report.weights == {"float32": 4}


def test_a_file_that_is_cut_off_is_damaged_in_words(ours, tmp_path):
    """Wherever it ends after its first names: none of it is left unread."""
    content = ours.read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "m.onnx"
    for length in [40, 100, 1000, len(content) - 1, *rng.integers(30, len(content), 20)]:
        path.write_bytes(content[:length])
        assert is_onnx(path)
        with pytest.raises(ModuleError, match="it is damaged"):
            onnx_report(path)
    done = hubexport("inspect", path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"cannot read ONNX model {path}" in done.stderr


@pytest.mark.fuzz
def test_any_damage_gives_a_report_or_words(tmp_path):
    """Bytes changed at random, in a model with all parts."""
    path = _small(tmp_path / "m.onnx", producer_name="pytorch")
    content = path.read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(3000):
        damaged = bytearray(content)
        for position in rng.integers(0, len(content), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            onnx_report(path).as_json()
        except HubexportError as error:
            assert "ONNX model" in error.what


def test_a_hostile_file_takes_little_memory_and_time(tmp_path):
    """A shape that no memory holds, graphs within graphs, and endless metadata."""
    huge = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 40], raw_data=b"1234")
    _small(tmp_path / "huge.onnx", huge)
    [problem] = onnx_report(tmp_path / "huge.onnx").problems
    assert problem.startswith("the constant c has 4 bytes, and needs ")
    graph = helper.make_graph([], "g", [], [])
    for _ in range(30):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=graph)], "g", [], [])
    (tmp_path / "deep.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ModuleError, match="nested too deep"):
        onnx_report(tmp_path / "deep.onnx")
    small = _small(tmp_path / "m.onnx").read_bytes()
    (tmp_path / "texts.onnx").write_bytes(small + onnx.ModelProto(producer_name="x" * (65 << 20)).SerializeToString())
    with pytest.raises(ModuleError, match="64 MiB"):
        onnx_report(tmp_path / "texts.onnx")


def test_other_files_are_not_onnx(tmp_path):
    """Nor is a folder, or a pipe, which is not opened."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("\x08 is a backspace")
    assert not [path for path in [tmp_path, *tmp_path.iterdir()] if is_onnx(path)]
