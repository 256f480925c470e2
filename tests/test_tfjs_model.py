"""Graph models of TF.js: their description, their files, and what TF.js and TensorFlow compute with them."""

import base64
from collections import Counter
import json
import subprocess
import sys

from PIL import Image
import numpy as np
import pytest

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.options import TfjsOptions
from hubexport.deployments.tfjs_files import read_tfjs_model
from hubexport.deployments.tfjs_model import write_tfjs_model
from hubexport.errors import OutputError, UsageError
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from hubexport.runtime.tfjs_graph import opened_tfjs_graph
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.node import run_tfjs

_VARIANT = "mobilenet_v2_035_96"
_CLASSES = 7
_SHARD_BYTES = 4 * 1024 * 1024
_WITH_DEPTHWISE_BRANCHES_AND_PADS = ("mobilenet_v2", "inception_v1", "resnet_v2_50")


def _network(name, size=64, classes=_CLASSES, version=None):
    family = FAMILIES[name]
    size = -(-max(size, family.smallest_size) // family.size_multiple) * family.size_multiple
    return family.network(family.published_parameters[0], size, classes, version)


def _values(network):
    return {variable.name: synthetic_value(variable, 1) for variable in network.variables}


def _pixels(count, height, width):
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)


def _write(folder, network, values, options=TfjsOptions(), **others):
    write_tfjs_model(folder, inference_model("m", network, values, options, **others), options)
    return folder


def _described(folder):
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))


def _in_tensorflow(folder, images, *keys):
    with opened_tfjs_graph(read_tfjs_model(folder)) as graph:
        return graph.run({"images": images}, keys)


def _logits(network, values, images):
    return Forward(network, values, images).run([network.logits])[network.logits]


def _assert_close(found, wanted):
    """Within what float32 rounds in the deepest networks."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * max(1, np.abs(wanted).max()))


def _nodes(described):
    return {node["name"]: node for node in described["modelTopology"]["node"]}


def _text(encoded):
    return base64.b64decode(encoded).decode()


def _lengths(shape):
    return [int(one["size"]) for one in shape["dim"]]


def _stored(folder):
    """Returns the bytes of all weights, and where those of each begin, as the format's documentation has it."""
    [group] = _described(folder)["weightsManifest"]
    content = b"".join((folder / name).read_bytes() for name in group["paths"])
    places, start = {}, 0
    for weight in group["weights"]:
        dtype = np.dtype(weight.get("quantization", weight)["dtype"])
        places[weight["name"]] = start, weight
        start += int(np.prod(weight["shape"])) * dtype.itemsize
    assert start == len(content)
    return content, places


def _weight(folder, name):
    content, places = _stored(folder)
    start, weight = places[name]
    stored = np.dtype(weight.get("quantization", weight)["dtype"])
    return np.frombuffer(content, stored, int(np.prod(weight["shape"])), start).reshape(weight["shape"]), weight


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The converted MobileNet V2 with made-up values."""
    return convert("synthetic:1", tmp_path_factory.mktemp("models") / "m", "tfjs", variant=load_variant(_VARIANT))


@pytest.fixture(scope="module")
def described(folder):
    """Its `model.json`."""
    return _described(folder)


def test_the_description_is_that_of_a_graph_model(folder, described):
    """Images in [0, 1], in batches of any size, and files of 4 MiB."""
    assert described["format"] == "graph-model"
    assert described["convertedBy"].startswith("hubexport ")
    [(images, given)] = described["signature"]["inputs"].items()
    [(logits, made)] = described["signature"]["outputs"].items()
    assert (images, given["dtype"], _lengths(given["tensorShape"])) == ("images", "DT_FLOAT", [-1, 96, 96, 3])
    assert (logits, made["dtype"], _lengths(made["tensorShape"])) == ("logits", "DT_FLOAT", [-1, 1001])
    assert described["modelTopology"]["versions"] == {"producer": 26}
    names = ["group1-shard1of2.bin", "group1-shard2of2.bin"]
    assert [group["paths"] for group in described["weightsManifest"]] == [names]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "model.json"]
    assert (folder / names[0]).stat().st_size == _SHARD_BYTES


def test_a_model_has_the_nodes_that_inference_needs(described):
    """Convolutions with their biases and activations are one node each."""
    nodes = _nodes(described)
    kinds = Counter(node["op"] for node in nodes.values())
    del kinds["Const"]
    assert kinds == {
        "Placeholder": 1,
        "Sub": 1,
        "_FusedConv2D": 36,
        "FusedDepthwiseConv2dNative": 17,
        "AddV2": 10,
        "AvgPool": 1,
        "Squeeze": 1,
    }
    fused = Counter(
        tuple(map(_text, node["attr"]["fused_ops"]["list"]["s"])) for node in nodes.values() if "Fused" in node["op"]
    )
    # 17 of the convolutions project, without an activation, and one gives the logits.
    assert fused == {("BiasAdd", "Relu6"): 35, ("BiasAdd",): 18}
    assert nodes["images"]["attr"]["dtype"] == {"type": "DT_FLOAT"}
    assert all(name in nodes for node in nodes.values() for name in node.get("input", []))


def test_constants_are_the_weights(folder, described):
    """Each is there once, in the order of the nodes, and what was not folded has the bits of the checkpoint."""
    nodes = _nodes(described)
    constants = [node for node in nodes.values() if node["op"] == "Const"]
    weights = described["weightsManifest"][0]["weights"]
    assert [node["name"] for node in constants] == [one["name"] for one in weights]
    assert len({one["name"] for one in weights}) == len(weights)
    for node, one in zip(constants, weights, strict=True):
        assert _lengths(node["attr"]["value"]["tensor"]["tensorShape"]) == one["shape"]
        assert node["attr"]["dtype"]["type"] == {"float32": "DT_FLOAT", "int32": "DT_INT32"}[one["dtype"]]
    for variable in load_variant(_VARIANT).network_for("classification").classifier.variables:
        np.testing.assert_array_equal(_weight(folder, variable.name)[0], synthetic_value(variable, 1))


def test_metadata_names_the_network_its_images_and_its_classes(described, tmp_path):
    """Where TF.js shows it as `model.metadata`."""
    metadata = dict(described["userDefinedMetadata"])
    assert metadata.pop("class_names") == list(load_variant(_VARIANT).class_names())
    assert metadata == {"name": _VARIANT, "input_range": [0.0, 1.0], "network_input_range": [-1.0, 1.0]}
    caffe = _network("resnet_v1_50_caffe")
    metadata = _described(_write(tmp_path / "m", caffe, _values(caffe), TfjsOptions(pixels="uint8")))
    assert metadata["userDefinedMetadata"] == {
        "name": "m",
        "input_range": [0, 255],
        "network_input_range": [0.0, 255.0],
        "network_channel_means": [123.68, 116.78, 103.94],
    }


def test_the_bytes_are_the_same_at_any_time(folder, tmp_path):
    """In another process, which imports no TensorFlow."""
    program = (
        "import sys, hubexport\n"
        f"variant = hubexport.load_variant({_VARIANT!r})\n"
        f"hubexport.convert('synthetic:1', {str(tmp_path / 'again')!r}, 'tfjs', variant=variant)\n"
        "assert 'tensorflow' not in sys.modules and 'onnx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert [one.name for one in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize("pixels", ["float", "uint8"])
@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "probabilities"])
def test_options_change_inputs_and_outputs_alone(pixels, softmax, tmp_path):
    """The numbers are those of the network in float64."""
    network = _network("mobilenet_v2")
    values, images = _values(network), _pixels(3, 64, 64)
    _write(tmp_path / "m", network, values, TfjsOptions(pixels=pixels, softmax=softmax))
    name = "probabilities" if softmax else "logits"
    given = images if pixels == "uint8" else images.astype(np.float32) / 255
    found = _in_tensorflow(tmp_path / "m", given, name)[name]
    wanted = _logits(network, values, images / 255)
    if softmax:
        powers = np.exp(wanted)
        wanted = powers / powers.sum(axis=-1, keepdims=True)
    assert wanted.std() > 0.01
    _assert_close(found, wanted)


@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("resnet_v2_50", marks=pytest.mark.slow)])
def test_endpoints_are_further_outputs(name, tmp_path):
    """All of them, also those that are the same tensor: TF.js takes one key for each node."""
    network = _network(name)
    values, images = _values(network), _pixels(2, 64, 64) / 255
    _write(tmp_path / "m", network, values, endpoints=tuple(network.endpoints))
    keys = ["logits", *network.endpoints]
    described = _described(tmp_path / "m")
    outputs = described["signature"]["outputs"]
    assert [*outputs] == keys == described["userDefinedMetadata"]["structuredOutputKeys"]
    assert len({one["name"] for one in outputs.values()}) == len(keys)
    found = _in_tensorflow(tmp_path / "m", images.astype(np.float32), *keys)
    wanted = Forward(network, values, images).run()
    for key, op in network.endpoints.items():
        _assert_close(found[key], wanted[op])


@pytest.mark.parametrize("name", ["mobilenet_v1", "inception_v1", pytest.param("resnet_v1_50", marks=pytest.mark.slow)])
def test_height_and_width_are_open_where_the_networks_are(name, tmp_path):
    """TF.js pads SAME itself."""
    network = _network(name, version=5)
    values = _values(network)
    _write(tmp_path / "m", network, values)
    model = read_tfjs_model(tmp_path / "m")
    assert _lengths(model.inputs["images"]["tensorShape"]) == [-1, -1, -1, 3]
    with opened_tfjs_graph(model) as graph:
        for height, width in ((96, 70), (101, 64)):
            images = _pixels(1, height, width) / 255
            found = graph.run({"images": images.astype(np.float32)}, ["logits"])["logits"]
            _assert_close(found, _logits(network, values, images))


def test_pads_of_convolutions_are_attributes(tmp_path):
    """ResNet's fixed padding has no nodes of its own."""
    network = _network("resnet_v2_50")
    _write(tmp_path / "m", network, _values(network))
    nodes = _nodes(_described(tmp_path / "m")).values()
    explicit = [node["attr"] for node in nodes if _text(node["attr"].get("padding", {}).get("s", "")) == "EXPLICIT"]
    assert {tuple(map(int, attr["explicit_paddings"]["list"]["i"])) for attr in explicit} == {
        (0, 0, 3, 3, 3, 3, 0, 0),
        (0, 0, 1, 1, 1, 1, 0, 0),
    }
    assert not [node for node in nodes if node["op"] == "Pad"]


@pytest.mark.parametrize(
    ("quantize", "kernels", "others", "largest"),
    [("float16", "float16", "float16", 2e-3), ("uint16", "uint16", "uint16", 5e-4), ("uint8", "uint8", "float16", 0.1)],
)
def test_quantized_weights_are_within_half_a_step(quantize, kernels, others, largest, folder, tmp_path):
    """Of the folded values; a model of them computes almost the same. Zero is zero."""
    variant, options = load_variant(_VARIANT), TfjsOptions(quantize=quantize)
    quantized = convert("synthetic:1", tmp_path / "q", "tfjs", variant=variant, options=options)
    _, places = _stored(quantized)
    dtypes = Counter()
    for name, (_, weight) in places.items():
        found, _ = _weight(quantized, name)
        wanted, plain = _weight(folder, name)
        assert weight["dtype"] == plain["dtype"]
        if "quantization" not in weight:
            np.testing.assert_array_equal(found, wanted)
            continue
        how = weight["quantization"]
        dtypes[how["dtype"], name.endswith(("biases", "depthwise_weights"))] += 1
        if how["dtype"] == "float16":
            np.testing.assert_allclose(found.astype(np.float32), wanted, rtol=2**-11, atol=2**-25)
        else:
            again = found * how["scale"] + how["min"]
            assert np.abs(again - wanted).max() <= how["scale"] * 0.5001
            zero = -how["min"] / how["scale"]
            assert abs(zero - round(zero)) < 1e-6
    assert {(dtype, few) for dtype, few in dtypes} == {(kernels, False), (others, True)}
    network = variant.network_for("classification")
    images = _pixels(2, 96, 96) / 255
    logits = _in_tensorflow(quantized, images.astype(np.float32), "logits")["logits"]
    exact = _logits(network, _values(network), images)
    assert 0 < np.abs(logits - exact).max() < largest * np.abs(exact).max()


def test_a_weight_of_one_value_survives_quantization(tmp_path):
    """A kernel of zeros has no range to divide."""
    network = _network("mobilenet_v2")
    values = {name: np.zeros_like(value) for name, value in _values(network).items()}
    values |= {name: np.ones_like(value) for name, value in values.items() if name.endswith("variance")}
    bias = network.classifier.variables[1]
    values[bias.name] = np.full(bias.shape, 0.75, np.float32)
    _write(tmp_path / "m", network, values, TfjsOptions(quantize="uint16"))
    found = _in_tensorflow(tmp_path / "m", np.zeros([1, 64, 64, 3], np.float32), "logits")["logits"]
    np.testing.assert_allclose(found, 0.75, rtol=1e-6)


@pytest.mark.parametrize("quantize", ["float16", "uint8"])
def test_values_that_float16_lacks_are_refused_by_name(quantize, tmp_path):
    """TF.js would read them as infinite."""
    network = _network("mobilenet_v2")
    values = _values(network)
    bias = network.classifier.variables[1]
    values[bias.name] = np.full(bias.shape, 1e5, np.float32)
    with pytest.raises(UsageError) as caught:
        _write(tmp_path / "m", network, values, TfjsOptions(quantize=quantize))
    assert bias.name in caught.value.why and "65504" in caught.value.why
    _write(tmp_path / "n", network, values, TfjsOptions(quantize="uint16"))


def test_a_model_that_only_gives_features_has_no_classifier(tmp_path, small):
    """Its output has another name."""
    folder = convert("synthetic:1", tmp_path / "m", "tfjs", variant=small, kind="feature_vector")
    described = _described(folder)
    assert {key: _lengths(one["tensorShape"]) for key, one in described["signature"]["outputs"].items()} == {
        "feature_vector": [-1, 1280]
    }
    assert not [name for name in _nodes(described) if "Logits/Conv2d" in name]
    assert "class_names" not in described["userDefinedMetadata"]


def test_the_command_line_takes_all_options(tmp_path, small, config_dir):
    """And asks for all endpoints."""
    path = tmp_path / "m"
    options = ("--quantize", "uint8", "--input", "uint8", "--softmax", "--outputs", "all")
    where = ("--to", "tfjs", "--variant", "small", "--config-dir", config_dir)
    done = hubexport("convert", "synthetic:1", path, *where, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    described = _described(path)
    assert described["signature"]["inputs"]["images"]["dtype"] == "DT_UINT8"
    assert [*described["signature"]["outputs"]] == ["probabilities", *small.network_for("classification").endpoints]
    assert "uint8" in {one.get("quantization", one)["dtype"] for one in described["weightsManifest"][0]["weights"]}


def test_overwriting_replaces_a_graph_model_and_nothing_else(tmp_path, small):
    """With all of its files, of which there may have been more."""
    folder = convert("synthetic:1", tmp_path / "m", "tfjs", variant=load_variant(_VARIANT))
    assert len([*folder.iterdir()]) == 3
    with pytest.raises(OutputError, match="already exists"):
        convert("synthetic:1", folder, "tfjs", variant=small)
    convert("synthetic:1", folder, "tfjs", variant=small, overwrite=True, options=TfjsOptions(quantize="uint8"))
    assert sorted(path.name for path in folder.iterdir()) == ["group1-shard1of1.bin", "model.json"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as caught:
        convert("synthetic:1", folder, "tfjs", variant=small, overwrite=True)
    assert "notes.txt" in caught.value.why
    (folder / "notes.txt").unlink()
    (folder / "model.json").write_text('{"format": "another"}')
    with pytest.raises(OutputError, match="cannot write"):
        convert("synthetic:1", folder, "tfjs", variant=small, overwrite=True)
    assert (folder / "model.json").read_text() == '{"format": "another"}'


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantize": "int4"}, ["int4", "float16"]),
        ({"quantize": "int8"}, ["int8", "uint8"]),
        ({"pixels": "int8"}, ["int8"]),
    ],
    ids=str,
)
def test_options_that_do_not_exist_are_refused(options, words):
    """When they are made."""
    with pytest.raises(UsageError) as caught:
        TfjsOptions(**options)
    assert all(word in str(caught.value) for word in words)


def test_a_model_is_a_folder(tmp_path, small):
    """Nobody gets a folder named `model.json` by mistake."""
    with pytest.raises(UsageError) as caught:
        convert("synthetic:1", tmp_path / "m" / "model.json", "tfjs", variant=small)
    assert "is a folder" in caught.value.why
    assert not (tmp_path / "m").exists()


def test_formats_refuse_each_others_options(tmp_path, config_dir):
    """By the flag's name."""
    where = ("--variant", "small", "--config-dir", config_dir)
    done = hubexport("convert", "synthetic", tmp_path / "m", "--to", "tfjs", "--layout", "nchw", *where)
    assert done.returncode == 2 and "--layout" in done.stderr
    done = hubexport("convert", "synthetic", tmp_path / "m.onnx", "--to", "onnx", "--quantize", "float16", *where)
    assert done.returncode == 2 and "--quantize" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["configs"]


@needs_data
@pytest.mark.consumers
@pytest.mark.parametrize(
    "options",
    [
        TfjsOptions(softmax=True),
        TfjsOptions(softmax=True, pixels="uint8", quantize="float16"),
        TfjsOptions(softmax=True, pixels="uint8", quantize="uint16"),
        TfjsOptions(softmax=True, quantize="uint8"),
    ],
    ids=str,
)
def test_photographs_are_what_they_show(tmp_path, options):
    """In TF.js, with real weights; to the published digits unless weights are quantized."""
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    variant = load_variant("mobilenet_v2_100_224")
    folder = convert(REAL_ARCHIVE, tmp_path / "m", "tfjs", variant=variant, options=options)
    images = []
    for file in expected:
        with Image.open(DATA / "images" / file) as opened:
            images.append(np.asarray(opened.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)))
    given = np.stack(images).astype(np.int32 if options.pixels == "uint8" else np.float32)
    [seen] = run_tfjs([folder], given if options.pixels == "uint8" else given / np.float32(255), "wasm", tmp_path)
    names, probabilities = seen.metadata["class_names"], seen.outputs["probabilities"]
    for found, top3 in zip(probabilities, expected.values(), strict=True):
        best = np.argsort(-found)[:3]
        if options.quantize == "none":
            assert [[int(index), names[index]] for index in best] == [[index, label] for index, label, _ in top3]
            np.testing.assert_allclose(found[best], [one for _, _, one in top3], rtol=0, atol=0.5e-4 + 1e-6)
        else:
            index, label, _ = top3[0]
            assert [int(best[0]), names[best[0]]] == [index, label]


def _check_in_node(names, folder, backend):
    """Runs networks in TF.js, in batches of 1 and 3."""
    for name in names:
        network = _network(name)
        values = _values(network)
        pixels = _pixels(3, *network.image_shape[:2])
        wanted = _logits(network, values, pixels / 255)
        assert wanted.std() > 0.1
        floats = _write(folder / f"{name}-floats", network, values)
        pixel_model = _write(folder / f"{name}-pixels", network, values, TfjsOptions(pixels="uint8"))
        [one] = run_tfjs([floats], pixels[:1].astype(np.float32) / np.float32(255), backend, folder)
        assert one.inputs == [["images", "float32", [-1, *network.image_shape]]]
        _assert_close(one.outputs["logits"], wanted[:1])
        [three] = run_tfjs([pixel_model], pixels.astype(np.int32), backend, folder)
        assert three.inputs == [["images", "int32", [-1, *network.image_shape]]]
        _assert_close(three.outputs["logits"], wanted)


@pytest.mark.consumers
@pytest.mark.timeout(900)
def test_tfjs_computes_what_float64_does(tmp_path):
    """A family each with depthwise convolutions, branches and pads."""
    _check_in_node(_WITH_DEPTHWISE_BRANCHES_AND_PADS, tmp_path, "wasm")


@pytest.mark.consumers
@pytest.mark.timeout(900)
def test_tfjs_without_webassembly_computes_the_same(tmp_path):
    """The backend that is always there."""
    _check_in_node(_WITH_DEPTHWISE_BRANCHES_AND_PADS[:1], tmp_path, "cpu")


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in _WITH_DEPTHWISE_BRANCHES_AND_PADS])
def test_tfjs_computes_every_family(tmp_path, name):
    """Each by itself, since some take gigabytes."""
    _check_in_node([name], tmp_path, "wasm")
