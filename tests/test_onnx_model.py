"""Whole models for ONNX: their description, their values, and what ONNX Runtime computes with them."""

from collections import Counter
import json
import subprocess
import sys

from PIL import Image
import numpy as np
import onnx
from onnx import numpy_helper
import onnxruntime
import pytest

from hubexport.arrays import StreamedValue
from hubexport.build import build_modules
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.onnx_model import onnx_model
from hubexport.deployments.options import OnnxOptions
from hubexport.errors import UsageError
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.environments import ONNX, python_or_skip, run_consumer

_VARIANT = "mobilenet_v2_035_96"
_CLASSES = 7
_WITH_DEPTHWISE_BRANCHES_AND_PADS = ("mobilenet_v2", "inception_v1", "resnet_v2_50")


def _network(name, size=64, classes=_CLASSES, version=None):
    family = FAMILIES[name]
    size = -(-max(size, family.smallest_size) // family.size_multiple) * family.size_multiple
    return family.network(family.published_parameters[0], size, classes, version)


def _values(network):
    return {variable.name: synthetic_value(variable, 1) for variable in network.variables}


def _pixels(count, height, width):
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)


def _model(name, network, values, options, **others):
    return onnx_model(inference_model(name, network, values, options, **others), options)


def _session(model):
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model.read_bytes()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def _run(model, images):
    session = _session(model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def _assert_close(found, wanted):
    """Within what float32 rounds in the deepest networks."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * max(1, np.abs(wanted).max()))


def _shape(value):
    return [one.dim_param or one.dim_value or None for one in value.type.tensor_type.shape.dim]


def _metadata(model):
    return {one.key: one.value for one in model.metadata_props}


def _kinds(model):
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The converted MobileNet V2 with made-up values."""
    folder = tmp_path_factory.mktemp("model")
    return convert("synthetic:1", folder / "model.onnx", "onnx", variant=load_variant(_VARIANT))


@pytest.fixture(scope="module")
def model(path):
    """The same, as onnx reads it."""
    return onnx.load(path)


def test_the_interface_is_that_of_the_modules(model):
    """Images in [0, 1] with channels last, in batches of any size; older ONNX Runtimes read opset 17 with IR 8."""
    onnx.checker.check_model(model, full_check=True)
    [images], [logits] = model.graph.input, model.graph.output
    assert (images.name, _shape(images)) == ("images", ["batch", 96, 96, 3])
    assert (logits.name, _shape(logits)) == ("logits", ["batch", 1001])
    assert {one.type.tensor_type.elem_type for one in (images, logits)} == {onnx.TensorProto.FLOAT}
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
    assert (model.ir_version, model.producer_name, model.graph.name) == (8, "hubexport", _VARIANT)


def test_a_model_has_the_nodes_that_inference_needs(model):
    """No batch norm, one transposition, and pads written out."""
    kinds = _kinds(model)
    assert set(kinds) == {"Transpose", "Sub", "Conv", "Clip", "Add", "AveragePool", "Squeeze"}
    assert (kinds["Transpose"], kinds["Sub"], kinds["Conv"]) == (1, 1, 53)
    attributes = [
        {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute} for node in model.graph.node
    ]
    assert not any("auto_pad" in one for one in attributes)
    # MobileNet V2's first layer: SAME pads one row below and one column to the right of 96 pixels.
    [first, *_] = (one for node, one in zip(model.graph.node, attributes, strict=True) if node.op_type == "Conv")
    assert (first["pads"], first["strides"]) == ([0, 0, 1, 1], [2, 2])


def test_metadata_names_the_network_its_images_and_its_classes(model):
    """As text or JSON."""
    metadata = _metadata(model)
    assert json.loads(metadata.pop("class_names")) == list(load_variant(_VARIANT).class_names())
    assert metadata == {
        "name": _VARIANT,
        "input_range": "[0.0, 1.0]",
        "input_layout": "nhwc",
        "network_input_range": "[-1.0, 1.0]",
    }
    caffe = _network("resnet_v1_50_caffe")
    metadata = _metadata(_model("r", caffe, _values(caffe), OnnxOptions(pixels="uint8", layout="nchw")))
    assert metadata == {
        "name": "r",
        "input_range": "[0, 255]",
        "input_layout": "nchw",
        "network_input_range": "[0.0, 255.0]",
        "network_channel_means": "[123.68, 116.78, 103.94]",
    }


def test_the_bytes_are_the_same_at_any_time(path, tmp_path):
    """In another process, which imports no TensorFlow."""
    program = (
        "import sys, hubexport\n"
        f"variant = hubexport.load_variant({_VARIANT!r})\n"
        f"hubexport.convert('synthetic:1', {str(tmp_path / 'again.onnx')!r}, 'onnx', variant=variant)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["again.onnx"]


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("pixels", ["float", "uint8"])
@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "probabilities"])
@pytest.mark.parametrize("opset", [13, onnx.defs.onnx_opset_version()])
def test_options_change_inputs_and_outputs_alone(layout, pixels, softmax, opset):
    """The numbers are those of the network in float64."""
    network = _network("mobilenet_v2")
    values, images = _values(network), _pixels(3, 64, 64)
    model = _model("m", network, values, OnnxOptions(opset=opset, layout=layout, pixels=pixels, softmax=softmax))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == opset
    given = images if pixels == "uint8" else images.astype(np.float32) / 255
    [(name, found)] = _run(model, given if layout == "nhwc" else given.transpose(0, 3, 1, 2)).items()
    wanted = Forward(network, values, images / 255).run([network.logits])[network.logits]
    if softmax:
        powers = np.exp(wanted)
        wanted = powers / powers.sum(axis=-1, keepdims=True)
    assert name == ("probabilities" if softmax else "logits")
    assert wanted.std() > 0.01
    _assert_close(found, wanted)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("resnet_v2_50", marks=pytest.mark.slow)])
def test_endpoints_are_further_outputs(name, layout):
    """All of them, with channels where images have them."""
    network = _network(name)
    values, images = _values(network), _pixels(2, 64, 64) / 255
    model = _model("m", network, values, OnnxOptions(layout=layout), endpoints=tuple(network.endpoints))
    onnx.checker.check_model(model, full_check=True)
    given = images.astype(np.float32)
    found = _run(model, given if layout == "nhwc" else given.transpose(0, 3, 1, 2))
    wanted = Forward(network, values, images).run()
    assert [*found] == ["logits", *network.endpoints]
    for key, op in network.endpoints.items():
        _assert_close(found[key] if layout == "nhwc" else np.moveaxis(found[key], 1, found[key].ndim - 1), wanted[op])


@pytest.mark.parametrize("name", ["mobilenet_v1", "inception_v1", pytest.param("resnet_v1_50", marks=pytest.mark.slow)])
def test_height_and_width_are_open_where_the_networks_are(name):
    """SAME is left to the reader only where windows step over an open image."""
    network = _network(name, version=5)
    values = _values(network)
    model = _model("m", network, values, OnnxOptions())
    onnx.checker.check_model(model, full_check=True)
    assert _shape(model.graph.input[0]) == ["batch", "height", "width", 3]
    left = [node for node in model.graph.node if any(one.name == "auto_pad" for one in node.attribute)]
    stepping = [op for op in network.ops if getattr(op, "padding", "") == "SAME" and op.stride == (2, 2)]
    larger = [op for op in stepping if (op.window if isinstance(op, ops.Pool) else op.kernel.shape[:2]) != (1, 1)]
    assert 0 < len(left) == len(larger)
    session = _session(model)
    for height, width in ((96, 70), (101, 64)):
        images = _pixels(1, height, width) / 255
        [found] = session.run(["logits"], {"images": images.astype(np.float32)})
        _assert_close(found, Forward(network, values, images).run([network.logits])[network.logits])


def test_averages_leave_padding_out():
    """As TensorFlow's do; readers would count it by default only if asked to, which is written all the same."""
    network = _network("inception_v3")
    nodes = [one for one in _model("m", network, _values(network), OnnxOptions()).graph.node]
    pools = [node for node in nodes if node.op_type == "AveragePool"]
    assert pools
    for node in pools:
        assert [one.i for one in node.attribute if one.name == "count_include_pad"] == [0]


def test_a_model_that_only_gives_features_has_no_classifier(tmp_path, small):
    """Its output has another name."""
    path = convert("synthetic:1", tmp_path / "m.onnx", "onnx", variant=small, kind="feature_vector")
    model = onnx.load(path)
    assert [(one.name, _shape(one)) for one in model.graph.output] == [("feature_vector", ["batch", 1280])]
    assert not [one.name for one in model.graph.initializer if "Logits" in one.name]
    assert "class_names" not in _metadata(model)


def test_values_are_float32_and_each_is_there_once(model):
    """What was not folded has the bits of the checkpoint."""
    network = load_variant(_VARIANT).network_for("classification")
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert len(stored) == len(model.graph.initializer)
    kernel, bias = network.classifier.variables
    np.testing.assert_array_equal(stored[kernel.name], synthetic_value(kernel, 1).transpose(3, 2, 0, 1))
    np.testing.assert_array_equal(stored[bias.name], synthetic_value(bias, 1))


def test_the_command_line_takes_all_options(tmp_path, small, config_dir):
    """And asks for all endpoints."""
    path = tmp_path / "m.onnx"
    options = ("--opset", 15, "--layout", "nchw", "--input", "uint8", "--softmax", "--outputs", "all")
    where = ("--to", "onnx", "--variant", "small", "--config-dir", config_dir)
    done = hubexport("convert", "synthetic:1", path, *where, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    model = onnx.load(path)
    network = small.network_for("classification")
    assert model.opset_import[0].version == 15
    assert _shape(model.graph.input[0]) == ["batch", 3, *small.network_for("classification").image_shape[:2]]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [one.name for one in model.graph.output] == ["probabilities", *network.endpoints]


@pytest.mark.parametrize(
    ("name", "to", "options", "words"),
    [
        ("m.pb", "onnx", {}, ["m.pb", ".onnx"]),
        ("m.onnx", "onnx", {"options": OnnxOptions(opset=99)}, ["opset 99", onnx.__version__]),
        ("m.onnx", "onnx", {"options": OnnxOptions(softmax=True), "kind": "feature_vector"}, ["no classifier"]),
        ("m.onnx", "onnx", {"endpoints": ["MobilenetV2/layer_77"]}, ["MobilenetV2/layer_77"]),
        ("m.keras", "keras", {"options": OnnxOptions()}, ["keras", "OnnxOptions"]),
    ],
    ids=["name", "opset", "softmax of features", "endpoint", "options of another format"],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, small, name, to, options, words):
    """With a word on what can be."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError) as caught:
        convert("synthetic:1", tmp_path / name, to, variant=small, **options)
    assert all(word in str(caught.value) for word in words)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("options", [{"opset": 12}, {"layout": "hwc"}, {"pixels": "int8"}], ids=str)
def test_options_that_do_not_exist_are_refused(options):
    """When they are made."""
    with pytest.raises(UsageError):
        OnnxOptions(**options)


def test_what_is_too_large_for_a_file_is_refused_by_name():
    """Before a value is read."""

    def unread():
        raise AssertionError("read")

    kernel = ops.Variable("kernel", (2**15, 2**14), "kernel")
    bias = ops.Variable("bias", (2**14,), "bias")
    sequence = (
        ops.Input("in", (), "in", shape=(1, 1, 2**15)),
        ops.Squeeze("row", ("in",), "row"),
        ops.MatMul("out", ("row",), "out", kernel=kernel, bias=bias),
    )
    network = Network(sequence, {}, "out", None, (1, 1), (0.0, 1.0))
    values = {one.name: StreamedValue(one.shape, unread) for one in (kernel, bias)}
    with pytest.raises(UsageError) as caught:
        _model("m", network, values, OnnxOptions())
    assert "2,147,549,184 bytes" in caught.value.why and "2 GB" in caught.value.why


def test_a_model_of_a_module_takes_the_sizes_of_that_version(tmp_path):
    """Version 1 of MobileNet V1 takes the variant's images, version 5 those of any size. The module names itself."""
    variant = load_variant("mobilenet_v1_025_128")
    modules = build_modules(
        variant, ["classification/1", "classification/5"], checkpoint="synthetic:1", output_dir=tmp_path
    )
    for module, lengths in zip(modules, ([128, 128], ["height", "width"]), strict=True):
        for named in (None, variant):
            path = convert(module, tmp_path / "m.onnx", "onnx", variant=named, overwrite=True)
            model = onnx.load(path)
            assert _shape(model.graph.input[0]) == ["batch", *lengths, 3]
            assert model.graph.name == "mobilenet_v1_025_128"
    images = _pixels(2, 100, 70) / 255
    network = variant.network_for("classification", 5)
    [found] = _run(path, images.astype(np.float32)).values()
    _assert_close(found, Forward(network, _values(network), images).run([network.logits])[network.logits])


def test_a_manifest_of_another_network_is_not_believed(tmp_path):
    """Names and shapes tell the network; what the manifest says of another one does not matter."""
    [module] = build_modules(
        load_variant("mobilenet_v1_025_128"), ["classification/5"], checkpoint="synthetic:1", output_dir=tmp_path
    )
    manifest = json.loads((module / "hubexport.json").read_text())
    (module / "hubexport.json").write_text(json.dumps(manifest | {"network": "resnet_v1_50", "variant": "x"}))
    model = onnx.load(convert(module, tmp_path / "m.onnx", "onnx"))
    assert _shape(model.graph.input[0])[1:3] != ["height", "width"]
    assert model.graph.name == "mobilenet_v1"


@pytest.mark.parametrize(
    "options", [{"options": OnnxOptions(opset=99)}, {"options": OnnxOptions(softmax=True), "kind": "feature_vector"}]
)
def test_what_cannot_be_written_is_refused_before_the_source_is_read(tmp_path, options):
    """Which may take minutes, or not be there."""
    with pytest.raises(UsageError, match="cannot write"):
        convert(tmp_path / "nowhere", tmp_path / "m.onnx", "onnx", **options)


def test_no_name_of_an_output_is_that_of_an_endpoint():
    """In no family; nor has a tensor within a model the name of an endpoint."""
    for family in FAMILIES.values():
        keys = set(_network(family.name).endpoints)
        assert not keys & {"images", "logits", "probabilities", "feature_vector"}
        assert not [key for key in keys if key.endswith(":0")]


@needs_data
@pytest.mark.parametrize(
    "options", [OnnxOptions(softmax=True), OnnxOptions(opset=13, layout="nchw", pixels="uint8", softmax=True)], ids=str
)
def test_photographs_are_what_they_show(tmp_path, options):
    """With real weights, to the published digits; classes are named by the file itself."""
    variant = load_variant("mobilenet_v2_100_224")
    path = convert(REAL_ARCHIVE, tmp_path / "m.onnx", "onnx", variant=variant, options=options)
    session = _session(path)
    names = json.loads(session.get_modelmeta().custom_metadata_map["class_names"])
    for file, top3 in json.loads((DATA / "images" / "expected_top3.json").read_text()).items():
        with Image.open(DATA / "images" / file) as opened:
            image = np.asarray(opened.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))[np.newaxis]
        if options.layout == "nchw":
            image = image.transpose(0, 3, 1, 2)
        given = image if options.pixels == "uint8" else image.astype(np.float32) / 255
        [[probabilities]] = session.run(["probabilities"], {"images": given})
        best = np.argsort(-probabilities)[:3]
        assert [[int(index), names[index]] for index in best] == [[index, label] for index, label, _ in top3]
        np.testing.assert_allclose(probabilities[best], [one for _, _, one in top3], rtol=0, atol=0.5e-4 + 1e-6)


def _check_in_newest(names, folder, evaluated=()):
    """Runs networks in the newest ONNX Runtime, in batches of 1 and 3, in both layouts, and in the oldest opset."""
    tasks, cases = [], []
    for name in names:
        network = _network(name)
        values = _values(network)
        images = _pixels(3, *network.image_shape[:2]) / 255
        wanted = Forward(network, values, images).run([network.logits])[network.logits]
        assert wanted.std() > 0.1
        for number, (count, options) in enumerate([(1, OnnxOptions()), (3, OnnxOptions(opset=13, layout="nchw"))]):
            stem = folder / f"{name}-{number}"
            given = images[:count].astype(np.float32)
            np.savez(stem, images=given if options.layout == "nhwc" else given.transpose(0, 3, 1, 2))
            model = _model(name, network, values, options)
            stem.with_suffix(".onnx").write_bytes(model.SerializeToString(deterministic=True))
            task = {
                "model": str(stem.with_suffix(".onnx")),
                "images": str(stem.with_suffix(".npz")),
                "outputs": f"{stem}-outputs.npz",
            }
            tasks.append(task | ({"evaluated": f"{stem}-evaluated.npz"} if name in evaluated else {}))
            cases.append((network, wanted[:count], options))
    seen = run_consumer(python_or_skip(ONNX), "run_onnx.py", tasks, folder)
    for task, (network, wanted, options), answer in zip(tasks, cases, seen["modules"], strict=True):
        height, width, channels = network.image_shape
        lengths = [height, width, channels] if options.layout == "nhwc" else [channels, height, width]
        assert answer["inputs"] == {"images": ["tensor(float)", ["batch", *lengths]]}
        assert answer["outputs"] == {"logits": ["tensor(float)", ["batch", _CLASSES]]}
        assert answer["inferred"] == {"logits": ["batch", _CLASSES]}
        with np.load(task["outputs"]) as outputs:
            _assert_close(outputs["logits"], wanted)
        if "evaluated" in task:
            with np.load(task["evaluated"]) as outputs:
                _assert_close(outputs["logits"], wanted[:1])


@pytest.mark.consumers
@pytest.mark.timeout(900)
def test_the_newest_onnx_runtime_computes_what_float64_does(tmp_path):
    """And so does onnx's own evaluator, on two of a family each with depthwise convolutions, branches and pads."""
    _check_in_newest(_WITH_DEPTHWISE_BRANCHES_AND_PADS, tmp_path, evaluated=_WITH_DEPTHWISE_BRANCHES_AND_PADS[:2])


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in _WITH_DEPTHWISE_BRANCHES_AND_PADS])
def test_the_newest_onnx_runtime_computes_every_family(tmp_path, name):
    """Each by itself, since some take gigabytes."""
    _check_in_newest([name], tmp_path)
