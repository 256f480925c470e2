"""Whole models for TFLite: their description, their values, and what interpreters compute with them."""

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import zipfile

from PIL import Image
import numpy as np
import pytest

from hubexport.arrays import StreamedValue
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.options import TfliteOptions
from hubexport.deployments.tflite_model import tflite_model
from hubexport.errors import ImageError, UsageError
from hubexport.images.calibration import Calibration
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from tests import tflite_models
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.environments import CONSUMERS, LITERT, MEDIAPIPE, python_or_skip, run_consumer

_VARIANT = "mobilenet_v2_035_96"
_CLASSES = 7
_NAMES = [f"class {number}" for number in range(_CLASSES)]
_SOME_FAMILIES = ("mobilenet_v2", "inception_v1", "resnet_v2_50", "mobilenet_v3_small")
[_NEWEST_TENSORFLOW] = (one for one in CONSUMERS if one.name == "tf2.21")
# Of the spread of the logits: what intermediate results of 8 bits cost networks with made-up values. A zero point or a
# scale that is off costs all of it.
_OF_8_BITS = 0.1


def _network(name, size=64, classes=_CLASSES, version=None):
    family = FAMILIES[name]
    size = -(-max(size, family.smallest_size) // family.size_multiple) * family.size_multiple
    return family.network(family.published_parameters[0], size, classes, version)


def _values(network):
    return {variable.name: synthetic_value(variable, 1) for variable in network.variables}


def _pixels(count, height, width):
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)


def _model(network, values, options, **others):
    return tflite_model(inference_model("m", network, values, options, **others), options)


def _assert_close(found, wanted, part=2e-5):
    """Within a part of the largest number; unless told otherwise, what float32 rounds in the deepest networks."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=part * max(1, np.abs(wanted).max()))


def _assert_near(found, wanted):
    """As near as 8 bits allow, on average."""
    assert found.shape == wanted.shape
    assert np.sqrt(np.square(found - wanted).mean()) < _OF_8_BITS * wanted.std()


def _logits(network, values, images):
    return Forward(network, values, images).run([network.logits])[network.logits]


def _labels(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("labels.txt").decode().splitlines()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The converted MobileNet V2 with made-up values."""
    folder = tmp_path_factory.mktemp("model")
    return convert("synthetic:1", folder / "model.tflite", "tflite", variant=load_variant(_VARIANT))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder with images like those of the tests: noise of the size of most networks here."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, pixels in enumerate(np.random.default_rng(4).integers(0, 256, (8, 64, 64, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_the_interface_is_that_of_the_modules(path):
    """Images in [0, 1] in batches of any size, and a signature, as TensorFlow's converter names it."""
    opened = tflite_models.interpreter(path.read_bytes())
    [images], [logits] = opened.get_input_details(), opened.get_output_details()
    assert (images["name"], images["dtype"], list(images["shape_signature"])) == ("images", np.float32, [-1, 96, 96, 3])
    assert (logits["name"], logits["dtype"], list(logits["shape_signature"])) == ("logits", np.float32, [-1, 1001])
    assert list(images["shape"]) == [1, 96, 96, 3]
    assert opened.get_signature_list() == {"serving_default": {"inputs": ["images"], "outputs": ["logits"]}}


def test_a_model_has_the_operators_that_inference_needs(path):
    """Batch norms are folded, and activations go into the operators before them."""
    assert tflite_models.ops(path.read_bytes()) == {
        **{"SUB": 1, "CONV_2D": 36, "DEPTHWISE_CONV_2D": 17},
        **{"ADD": 10, "AVERAGE_POOL_2D": 1, "RESHAPE": 1},
    }


def test_an_activation_that_others_need_without_it_stays_apart():
    """The endpoint before it is an output."""
    network = _network("mobilenet_v2")
    network = dataclasses.replace(network, endpoints={"raw": "MobilenetV2/Conv/BatchNorm"})
    values, images = _values(network), _pixels(1, 64, 64) / 255
    content = _model(network, values, TfliteOptions(), endpoints=["raw"])
    assert tflite_models.ops(content)["RELU6"] == 1
    found = tflite_models.run(content, images.astype(np.float32))["raw"]
    _assert_close(found, Forward(network, values, images).run()["MobilenetV2/Conv/BatchNorm"])
    assert found.min() < 0


@pytest.mark.parametrize("pixels", ["float", "uint8"])
@pytest.mark.parametrize("quantize", ["none", "float16"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v1"])
def test_xnnpack_computes_the_whole_graph(name, quantize, pixels):
    """In one part, with images from the camera, too."""
    network = _network(name)
    content = _model(network, _values(network), TfliteOptions(quantize=quantize, pixels=pixels, softmax=True))
    assert tflite_models.operators_left_by_xnnpack(content) == ([], 1)


def test_the_bytes_are_the_same_at_any_time(path, tmp_path):
    """In another process, which imports no TensorFlow."""
    program = (
        "import sys, hubexport\n"
        f"variant = hubexport.load_variant({_VARIANT!r})\n"
        f"hubexport.convert('synthetic:1', {str(tmp_path / 'again.tflite')!r}, 'tflite', variant=variant)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()
    assert [one.name for one in tmp_path.iterdir()] == ["again.tflite"]


@pytest.mark.parametrize("pixels", ["float", "uint8"])
@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "probabilities"])
@pytest.mark.parametrize("delegates", [True, False], ids=["XNNPACK", "kernels"])
def test_options_change_inputs_and_outputs_alone(pixels, softmax, delegates):
    """The numbers are those of the network in float64, in batches of 1 and 3."""
    network = _network("mobilenet_v2")
    values, images = _values(network), _pixels(3, 64, 64)
    content = _model(network, values, TfliteOptions(pixels=pixels, softmax=softmax))
    given = images if pixels == "uint8" else images.astype(np.float32) / 255
    wanted = _logits(network, values, images / 255)
    if softmax:
        powers = np.exp(wanted)
        wanted = powers / powers.sum(axis=-1, keepdims=True)
    assert wanted.std() > 0.01
    for count in (1, 3):
        [(name, found)] = tflite_models.run(content, given[:count], delegates).items()
        assert name == ("probabilities" if softmax else "logits")
        _assert_close(found, wanted[:count])


@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("resnet_v2_50", marks=pytest.mark.slow)])
def test_endpoints_are_further_outputs(name):
    """All of them."""
    network = _network(name)
    values, images = _values(network), _pixels(2, 64, 64) / 255
    content = _model(network, values, TfliteOptions(), endpoints=tuple(network.endpoints))
    found = tflite_models.run(content, images.astype(np.float32))
    wanted = Forward(network, values, images).run()
    assert set(found) == {"logits", *network.endpoints}
    for key, op in network.endpoints.items():
        _assert_close(found[key], wanted[op])


@pytest.mark.parametrize("name", ["mobilenet_v1", "inception_v1", pytest.param("resnet_v1_50", marks=pytest.mark.slow)])
def test_height_and_width_are_open_where_the_networks_are(name):
    """Without a resize, images have the default size."""
    network = _network(name, version=5)
    values = _values(network)
    content = _model(network, values, TfliteOptions())
    [images] = tflite_models.interpreter(content).get_input_details()
    assert list(images["shape_signature"]) == [-1, -1, -1, 3]
    assert list(images["shape"]) == [1, *network.default_image_size, 3]
    for height, width in ((96, 70), (101, 64)):
        pixels = _pixels(1, height, width) / 255
        found = tflite_models.run(content, pixels.astype(np.float32))["logits"]
        _assert_close(found, _logits(network, values, pixels))


@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow)])
def test_float16_rounds_the_folded_values_and_nothing_else(name):
    """Half the bytes; the numbers are those of the rounded values in float64."""
    network = _network(name)
    values, images = _values(network), _pixels(3, 64, 64) / 255
    folded = inference_model("m", network, values, TfliteOptions())
    content = _model(network, values, TfliteOptions(quantize="float16"))
    assert len(content) < 0.53 * len(_model(network, values, TfliteOptions()))
    rounded = {variable.name: folded.value(variable).astype(np.float16) for variable in folded.network.variables}
    found = tflite_models.run(content, images.astype(np.float32))["logits"]
    _assert_close(found, _logits(folded.network, rounded, images))
    _assert_close(found, _logits(network, values, images), 2e-3)


def test_what_float16_cannot_hold_is_refused_by_name(tmp_path):
    """A made-up network whose weight is too large."""
    kernel, bias = ops.Variable("kernel", (3, 2), "kernel"), ops.Variable("bias", (2,), "bias")
    sequence = (
        ops.Input("in", (), "in", shape=(1, 1, 3)),
        ops.Squeeze("row", ("in",), "row"),
        ops.MatMul("out", ("row",), "out", kernel=kernel, bias=bias),
    )
    network = Network(sequence, {}, "out", None, (1, 1), (0.0, 1.0))
    values = {"kernel": np.full((3, 2), 70000, np.float32), "bias": np.zeros(2, np.float32)}
    with pytest.raises(UsageError) as caught:
        _model(network, values, TfliteOptions(quantize="float16"))
    assert "kernel" in caught.value.why and "70000" in caught.value.why and "65504" in caught.value.why


def _steps(value, axis):
    """The distance of two neighbouring int8 numbers: the largest weight is 127 of them."""
    others = tuple(one for one in range(value.ndim) if one != axis)
    return np.abs(value).max(axis=others, keepdims=True) / 127


@pytest.mark.parametrize("name", ["mobilenet_v2", pytest.param("nasnet_mobile", marks=pytest.mark.slow)])
def test_dynamic_stores_large_kernels_as_int8(name):
    """Each weight is off by at most half a step of its channel; biases and small kernels keep float32."""
    network = _network(name)
    values, images = _values(network), _pixels(3, *network.image_shape[:2]) / 255
    folded = inference_model("m", network, values, TfliteOptions())
    content = _model(network, values, TfliteOptions(quantize="dynamic"))
    assert len(content) < 0.36 * len(_model(network, values, TfliteOptions()))
    found = tflite_models.constants(content)
    compared = 0
    for op in folded.ops:
        for variable in op.variables:
            stored, scales, axis = found[variable.name]
            value = folded.value(variable)
            if variable.size < 1024 or variable.role == "bias":
                assert stored.dtype == np.float32 and not scales.size
                continue
            match op:
                case ops.Conv():
                    value = value.transpose(3, 0, 1, 2)
                    step = _steps(value, 0)
                case ops.DepthwiseConv():
                    value = value.reshape(stored.shape)
                    step = _steps(value, 3)
                case _:
                    value = value.T
                    step = np.abs(value).max() / 127
            assert stored.dtype == np.int8 and stored.shape == value.shape
            shape = [1] * value.ndim
            shape[axis] = -1
            error = np.abs(stored * scales.reshape(shape).astype(np.float64) - value)
            assert (error <= step * 0.5001).all()
            compared += variable.size
    assert compared > 0.9 * sum(variable.size for variable in folded.network.variables)
    found_logits = tflite_models.run(content, images.astype(np.float32))["logits"]
    _assert_near(found_logits, _logits(network, values, images))


@pytest.mark.parametrize("pixels", ["float", "uint8"])
def test_int8_computes_with_integers_alone(photographs, pixels):
    """But for the input and the outputs, which are quantized first and last."""
    network = _network("mobilenet_v2")
    values, images = _values(network), _pixels(3, 64, 64)
    options = TfliteOptions(quantize="int8", pixels=pixels, calibration=Calibration(photographs))
    content = _model(network, values, options, class_names=_NAMES)
    opened = tflite_models.interpreter(content, delegates=False)
    [given], [logits] = opened.get_input_details(), opened.get_output_details()
    assert (given["name"], given["dtype"]) == ("images", np.float32 if pixels == "float" else np.uint8)
    assert given["quantization"] == ((0.0, 0) if pixels == "float" else (1.0, 0))
    assert (logits["name"], logits["dtype"]) == ("logits", np.float32)
    opened.allocate_tensors()
    floats = [one["name"] for one in opened.get_tensor_details() if one["dtype"] == np.float32 and one["name"]]
    assert floats == (["images", "logits"] if pixels == "float" else ["logits"])
    assert _labels(content) == _NAMES
    for count in (1, 3):
        batch = images[:count] if pixels == "uint8" else images[:count].astype(np.float32) / 255
        found = tflite_models.run(content, batch)["logits"]
        _assert_near(found, _logits(network, values, images[:count] / 255))


def test_calibration_knows_that_images_may_be_black_and_white(tmp_path):
    """Grey photographs would make white as bright as they are."""
    Image.new("RGB", (64, 64), (90, 100, 110)).save(tmp_path / "grey.png")
    network = _network("mobilenet_v2")
    options = TfliteOptions(quantize="int8", calibration=Calibration(tmp_path))
    opened = tflite_models.interpreter(_model(network, _values(network), options), delegates=False)
    opened.allocate_tensors()
    [first] = [one for one in opened._get_ops_details() if one["op_name"] == "QUANTIZE"]
    [images] = [one for one in opened.get_tensor_details() if one["index"] == first["outputs"][0]]
    assert images["quantization"] == (pytest.approx(1 / 255), -128)


def test_a_model_that_only_gives_features_has_no_classifier(tmp_path, small):
    """Its output has another name, and nothing names classes."""
    path = convert("synthetic:1", tmp_path / "m.tflite", "tflite", variant=small, kind="feature_vector")
    [output] = tflite_models.interpreter(path.read_bytes()).get_output_details()
    assert (output["name"], list(output["shape"])) == ("feature_vector", [1, 1280])
    assert not zipfile.is_zipfile(path)


def test_values_are_float32_aligned_and_each_is_there_once(path):
    """What was not folded has the bits of the checkpoint."""
    kernel, bias = load_variant(_VARIANT).network_for("classification").classifier.variables
    found = tflite_models.constants(path.read_bytes())
    np.testing.assert_array_equal(found[kernel.name][0], synthetic_value(kernel, 1).transpose(3, 0, 1, 2))
    np.testing.assert_array_equal(found[bias.name][0], synthetic_value(bias, 1))
    content = path.read_bytes()
    for value in (found[kernel.name][0], found[bias.name][0]):
        assert content.count(value.tobytes()) == 1 and content.index(value.tobytes()) % 16 == 0


def test_labels_come_after_the_model_uncompressed(path):
    """Readers look for them in place."""
    assert _labels(path.read_bytes()) == list(load_variant(_VARIANT).class_names())
    with zipfile.ZipFile(path) as archive:
        [member] = archive.infolist()
        assert (member.filename, member.compress_type) == ("labels.txt", zipfile.ZIP_STORED)


def test_the_command_line_takes_all_options(tmp_path, config_dir, photographs):
    """And asks for an endpoint; calibration tells the ranges that came out."""
    path = tmp_path / "m.tflite"
    options = ("--input", "uint8", "--softmax", "--quantize", "int8", "--calibration", photographs)
    where = ("--to", "tflite", "--variant", "small", "--config-dir", config_dir)
    done = hubexport("convert", "synthetic:1", path, *where, *options, "--outputs", "MobilenetV2/layer_7")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{path}\n"
    assert "calibrating with 8 images" in done.stderr and "MobilenetV2/layer_7: from -" in done.stderr
    opened = tflite_models.interpreter(path.read_bytes())
    assert opened.get_input_details()[0]["dtype"] == np.uint8
    assert {one["name"] for one in opened.get_output_details()} == {"probabilities", "MobilenetV2/layer_7"}


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("m.tfl", (), ["m.tfl", ".tflite"]),
        ("m.tflite", ("--quantize", "int8"), ["--calibration"]),
        ("m.tflite", ("--calibration", "x"), ["takes no calibration"]),
        ("m.tflite", ("--quantize", "int8", "--calibration", "nowhere"), ["cannot find nowhere"]),
        ("m.tflite", ("--opset", "17"), ["--opset", "onnx"]),
        ("m.tflite", ("--kind", "feature_vector", "--softmax"), ["no classifier"]),
    ],
    ids=["name", "int8 alone", "calibration alone", "no photographs", "option of ONNX", "softmax of features"],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, config_dir, name, arguments, words):
    """With a word on what can be."""
    before = sorted(tmp_path.iterdir())
    where = ("--to", "tflite", "--variant", "small", "--config-dir", config_dir)
    done = hubexport("convert", "synthetic:1", tmp_path / name, *where, *arguments)
    # Photographs that are missing are no mistake in the command line.
    assert done.returncode == (1 if "nowhere" in arguments else 2) and not done.stdout
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_photographs_that_cannot_be_read_leave_nothing(tmp_path, small):
    """The error is about images."""
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG")
    options = TfliteOptions(quantize="int8", calibration=Calibration(tmp_path / "damaged.png"))
    with pytest.raises(ImageError):
        convert("synthetic:1", tmp_path / "m.tflite", "tflite", variant=small, options=options)
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".tflite"] == []


@pytest.mark.parametrize("options", [{"quantize": "int4"}, {"pixels": "int8"}, {"quantize": "int8"}], ids=str)
def test_options_that_do_not_exist_are_refused(options):
    """When they are made."""
    with pytest.raises(UsageError):
        TfliteOptions(**options)


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
        _model(network, values, TfliteOptions())
    assert "2,147,549,184 bytes" in caught.value.why and "2 GB" in caught.value.why


def _photograph(name, pixels):
    with Image.open(DATA / "images" / name) as opened:
        image = np.asarray(opened.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR))[np.newaxis]
    return image if pixels == "uint8" else image.astype(np.float32) / 255


def _top3():
    return json.loads((DATA / "images" / "expected_top3.json").read_text())


@needs_data
@pytest.mark.parametrize(
    ("options", "digits"),
    [
        (TfliteOptions(softmax=True), 1e-4),
        (TfliteOptions(softmax=True, quantize="float16"), 0.01),
        (TfliteOptions(softmax=True, quantize="dynamic", pixels="uint8"), 0.1),
    ],
    ids=["float32", "float16", "dynamic"],
)
def test_photographs_are_what_they_show(tmp_path, options, digits):
    """With real weights; classes are named by the file itself."""
    variant = load_variant("mobilenet_v2_100_224")
    content = convert(REAL_ARCHIVE, tmp_path / "m.tflite", "tflite", variant=variant, options=options).read_bytes()
    names = _labels(content)
    for file, top3 in _top3().items():
        [probabilities] = tflite_models.run(content, _photograph(file, options.pixels))["probabilities"]
        best, name, probability = top3[0]
        assert (probabilities.argmax(), names[probabilities.argmax()]) == (best, name)
        assert probabilities.max() == pytest.approx(probability, abs=digits)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("pixels", ["float", "uint8"])
def test_photographs_are_what_they_show_to_integers(tmp_path, pixels):
    """At least 7 of 8. Four of them calibrate, and the other four are looked at, in turn."""
    variant, right = load_variant("mobilenet_v2_100_224"), 0
    for part in (0, 1):
        folder = tmp_path / str(part)
        folder.mkdir()
        for file in list(_top3())[1 - part :: 2]:
            shutil.copy(DATA / "images" / file, folder)
        options = TfliteOptions(softmax=True, quantize="int8", pixels=pixels, calibration=Calibration(folder))
        path = convert(REAL_ARCHIVE, folder / "m.tflite", "tflite", variant=variant, options=options)
        content = path.read_bytes()
        for file in list(_top3())[part::2]:
            [probabilities] = tflite_models.run(content, _photograph(file, pixels))["probabilities"]
            right += probabilities.argmax() == _top3()[file][0][0]
    assert right >= 7


def _check_in(environment, names, folder, photographs=None):
    """Runs networks in another interpreter, in batches of 1 and 3, in each quantization."""
    quantizations = ["none", "float16", "dynamic", *(["int8"] if photographs else [])]
    tasks, cases = [], []
    for name in names:
        network = _network(name)
        values = _values(network)
        images = _pixels(3, *network.image_shape[:2])
        wanted = _logits(network, values, images / 255)
        assert wanted.std() > 0.1
        for quantize in quantizations:
            pixels = "uint8" if quantize == "dynamic" else "float"
            calibration = Calibration(photographs) if quantize == "int8" else None
            options = TfliteOptions(quantize=quantize, pixels=pixels, calibration=calibration)
            model = folder / f"{name}-{quantize}.tflite"
            model.write_bytes(_model(network, values, options))
            for count in (1, 3):
                given = folder / f"{name}-{quantize}-{count}.npz"
                batch = images[:count]
                np.savez(given, images=batch if pixels == "uint8" else batch.astype(np.float32) / 255)
                tasks.append({"model": str(model), "images": str(given), "outputs": f"{given}-outputs.npz"})
                cases.append((wanted[:count], {"none": 2e-5, "float16": 2e-3}.get(quantize)))
    seen = run_consumer(python_or_skip(environment), "run_tflite.py", tasks, folder)
    for task, (wanted, part), answer in zip(tasks, cases, seen["modules"], strict=True):
        assert answer == {"inputs": ["images"], "outputs": ["logits"], "signatures": ["serving_default"]}
        with np.load(task["outputs"]) as outputs:
            if part is None:
                _assert_near(outputs["logits"], wanted)
            else:
                _assert_close(outputs["logits"], wanted, part)


@pytest.mark.consumers
@pytest.mark.timeout(900)
@pytest.mark.parametrize("environment", [_NEWEST_TENSORFLOW, LITERT], ids=lambda one: one.name)
def test_the_newest_interpreters_compute_what_float64_does(tmp_path, photographs, environment):
    """TensorFlow's and LiteRT's, on a family each with depthwise convolutions, branches, pads and hard swishes."""
    _check_in(environment, _SOME_FAMILIES, tmp_path, photographs)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in _SOME_FAMILIES])
def test_litert_computes_every_family(tmp_path, name):
    """Each by itself, since some take gigabytes."""
    _check_in(LITERT, [name], tmp_path)


@needs_data
@pytest.mark.consumers
@pytest.mark.timeout(900)
def test_mediapipe_knows_images_and_classes(tmp_path):
    """From the metadata alone: it maps photographs to what the model takes, and names what they show."""
    variant, tasks = load_variant("mobilenet_v2_100_224"), []
    for options in (TfliteOptions(softmax=True), TfliteOptions(softmax=True, quantize="dynamic", pixels="uint8")):
        path = tmp_path / f"{options.pixels}.tflite"
        convert(REAL_ARCHIVE, path, "tflite", variant=variant, options=options)
        photographs = {file: str(DATA / "images" / file) for file in _top3()}
        tasks.append({"model": str(path), "photographs": photographs})
    seen = run_consumer(python_or_skip(MEDIAPIPE), "run_mediapipe.py", tasks, tmp_path)
    for answer, deviation in zip(seen["modules"], (255.0, 1.0), strict=True):
        assert answer["best"] == {file: top3[0][1] for file, top3 in _top3().items()}
        assert answer["files"] == ["labels.txt"]
        [graph] = answer["metadata"]["subgraph_metadata"]
        [images], [probabilities] = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
        assert images["content"]["content_properties"] == {
            "color_space": "RGB",
            "default_size": {"width": 224, "height": 224},
        }
        [unit] = images["process_units"]
        assert unit == {
            "options_type": "NormalizationOptions",
            "options": {"mean": [0.0], "std": [deviation]},
        }
        assert (images["name"], probabilities["name"]) == ("images", "probabilities")
        assert probabilities["associated_files"][0]["type"] == "TENSOR_AXIS_LABELS"
