"""TFLite models, ours and others, run on images, built beside modules, and verified."""

import contextlib
import importlib.util
import json
import tarfile

from PIL import Image
import numpy as np
import pytest
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.conversion import convert
from hubexport.deployment_spec import deployment_requests, with_deployments
from hubexport.deployments.options import TfliteOptions
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.errors import MissingExtraError, ModuleError, UsageError
from hubexport.formats.manifest import read_manifest
from hubexport.images.calibration import Calibration
from hubexport.modules.deployment_interface import deployment_interface
from hubexport.networks.numpy_forward import Forward
from hubexport.runtime.deployment_runners import opened_deployment
from hubexport.system.digests import file_sha256
from hubexport.variants import ModuleSpec
from hubexport.verify.verify_module import verify_module
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data

_KEY = "MobilenetV2/layer_7"
_CLASSES = ModuleSpec.parse("classification/5")


@contextlib.contextmanager
def _opened(path):
    with opened_deployment(deployment_interface(path, DEPLOYMENTS["tflite"])) as module:
        yield module


def _images(count, network):
    height, width, channels = network.image_shape
    return np.random.default_rng(3).integers(0, 256, (count, height, width, channels), np.uint8)


@pytest.fixture
def photographs(tmp_path, small):
    """A folder with images like those of the tests."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, pixels in enumerate(_images(6, small.network_for("classification"))):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("pixels", ["float", "uint8"])
def test_outputs_are_those_of_the_network(tmp_path, small, pixels):
    """In batches of any size, one after another; TensorFlow's interpreter runs where there is no LiteRT."""
    options = TfliteOptions(pixels=pixels)
    path = convert("synthetic:1", tmp_path / "m.tflite", "tflite", variant=small, options=options, endpoints=[_KEY])
    network = small.network_for("classification")
    values = {one.name: synthetic_value(one, 1) for one in network.variables}
    images = _images(3, network) / 255
    wanted = Forward(network, values, images).run()
    with _opened(path) as module:
        assert module.engine == f"TensorFlow Lite {tf.__version__}"
        for count in (1, 3, 2):
            found = module.run(images[:count].astype(np.float32), ["default", _KEY])
            for key, name in (("default", network.logits), (_KEY, network.endpoints[_KEY])):
                limit = 2e-5 * np.abs(wanted[name]).max()
                np.testing.assert_allclose(found[key], wanted[name][:count], rtol=0, atol=limit)
        with pytest.raises(ModuleError, match="nowhere"):
            module.run(images.astype(np.float32), ["nowhere"])


def test_features_come_from_the_command_line(tmp_path, small, config_dir, photographs):
    """As from a module."""
    path = tmp_path / "m.tflite"
    where = ("--to", "tflite", "--variant", "small", "--config-dir", config_dir, "--kind", "feature_vector")
    assert hubexport("convert", "synthetic:1", path, *where).returncode == 0
    done = hubexport("features", path, photographs, "--output", tmp_path / "features.npy")
    assert done.returncode == 0, done.stderr
    assert "engine: TensorFlow Lite" in done.stderr
    assert np.load(tmp_path / "features.npy").shape == (6, 1280)


def test_a_model_of_integers_alone_is_run_with_floats(tmp_path):
    """Its input and its output are int8, in batches of one."""
    images = tf.keras.Input((4, 4, 3))
    net = tf.keras.layers.Flatten()(images)
    dense = tf.keras.layers.Dense(5)
    model = tf.keras.Model(images, dense(net))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    generator = np.random.default_rng(1)
    given = generator.random((3, 4, 4, 3), np.float32)
    converter.representative_dataset = lambda: ([one[np.newaxis]] for one in given)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path = tmp_path / "m.tflite"
    path.write_bytes(converter.convert())
    kernel, bias = (one.numpy().astype(np.float64) for one in dense.weights)
    wanted = given.reshape(3, -1) @ kernel + bias
    with pytest.raises(ModuleError, match="which range"):
        deployment_interface(path, DEPLOYMENTS["tflite"])
    from hubexport.modules.interface_hints import InterfaceHints

    hints = InterfaceHints(input_range=(0.0, 1.0), output_kind="logits")
    with opened_deployment(deployment_interface(path, DEPLOYMENTS["tflite"], hints)) as module:
        found = module.run(given)["default"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=3 * (wanted.max() - wanted.min()) / 255)


@needs_data
@pytest.mark.slow
def test_photographs_are_what_they_show_to_a_published_model(tmp_path):
    """One of uint8 that tells what it takes in its metadata, and what its classes are called."""
    with tarfile.open(REAL_ARCHIVE) as archive:
        path = tmp_path / "m.tflite"
        path.write_bytes(archive.extractfile("./mobilenet_v2_1.0_224_quant.tflite").read())
    options = ("--output-kind", "probabilities", "--format", "json", "--top", "1")
    done = hubexport("classify", path, DATA / "images", *options)
    assert done.returncode == 0, done.stderr
    wanted = json.loads((DATA / "images" / "expected_top3.json").read_text())
    found = {one["file"].rpartition("/")[2]: one["top"][0]["label"] for one in json.loads(done.stdout)["images"]}
    assert sum(found[name] == top3[0][1] for name, top3 in wanted.items()) >= 7


def test_probabilities_of_integers_sum_to_one(tmp_path, small, photographs):
    """Though each is a multiple of 1/256."""
    options = TfliteOptions(quantize="int8", softmax=True, calibration=Calibration(str(photographs)))
    path = convert("synthetic:1", tmp_path / "m.tflite", "tflite", variant=small, options=options)
    with _opened(path) as module:
        images = (_images(3, small.network_for("classification")) / 255).astype(np.float32)
        np.testing.assert_allclose(module.run(images)["default"].sum(axis=-1), 1, rtol=1e-6)


def test_without_an_interpreter_the_error_names_one(tmp_path, small, monkeypatch):
    """The small one."""
    path = convert("synthetic:1", tmp_path / "m.tflite", "tflite", variant=small)
    find = importlib.util.find_spec
    hidden = ("tensorflow", "ai_edge_litert")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in hidden else find(name))
    with pytest.raises(MissingExtraError) as caught, _opened(path):
        pass
    assert "pip install ai-edge-litert" in caught.value.fix


def test_a_model_that_the_interpreter_refuses_is_told_by_name(tmp_path, small):
    """Its operators need a version that does not exist."""
    path = convert("synthetic:1", tmp_path / "m.tflite", "tflite", variant=small)
    content = path.read_bytes()
    shape = np.asarray([1, *small.network_for("classification").image_shape], np.int32).tobytes()
    path.write_bytes(content.replace(shape, np.asarray([1, 3, 3, 5], np.int32).tobytes(), 1))
    with pytest.raises(ModuleError) as caught, _opened(path) as module:
        module.run(np.zeros((1, 3, 3, 5), np.float32))
    assert str(path) in caught.value.what


def _built(variant, folder, *names, **chosen):
    specs = with_deployments(variant, [_CLASSES], deployment_requests(names, chosen, ()))
    return build_modules(variant, specs, checkpoint="synthetic:1", output_dir=folder)[1:]


@pytest.mark.slow
def test_deployments_of_all_quantizations_are_built_and_verified(small, tmp_path, photographs):
    """The manifest tells of the photographs, wherever they are, and of TensorFlow, whose quantizer makes integers."""
    chosen = {"calibration": Calibration(str(photographs))}
    floats = _built(small, tmp_path, "tflite", "tflite-float16", "tflite-dynamic")
    [integers] = _built(small, tmp_path / "other", "tflite-int8", **chosen)
    for folder in (*floats, integers):
        verification = verify_module(folder, checkpoint="synthetic:1", variant=small)
        assert verification.passed, verification.failed
    assert [folder.name for folder in (*floats, integers)] == [
        *("tflite", "tflite-float16", "tflite-dynamic"),
        "tflite-int8",
    ]
    facts = read_manifest(integers).deployment
    files = sorted(photographs.iterdir())
    assert facts.options["calibration"]["images"] == len(files)
    assert facts.options["calibration"]["sha256"] == Calibration(photographs).record().sha256
    assert facts.written_with["tensorflow"] == tf.__version__
    assert "tensorflow" not in read_manifest(floats[0]).deployment.written_with
    files[0].unlink()
    assert Calibration(photographs).record().sha256 != facts.options["calibration"]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["float16", "dynamic"])
def test_verify_tells_damaged_values(small, tmp_path, quantization):
    """One kernel's bytes swapped, in a file whose digest fits."""
    [folder] = _built(small, tmp_path, f"tflite-{quantization}")
    path = folder / "model.tflite"
    content = bytearray(path.read_bytes())
    before = file_sha256(path)
    middle = len(content) // 2
    content[middle : middle + 20000] = content[middle : middle + 20000][::-1]
    path.write_bytes(content)
    manifest = folder / "hubexport.json"
    manifest.write_text(manifest.read_text().replace(before, file_sha256(path)))
    failed = {result.check for result in verify_module(folder, checkpoint="synthetic:1", variant=small).failed}
    assert {"deployment.rebuild", "deployment.random"} <= failed


def test_calibration_alone_is_refused(small):
    """Before anything is read."""
    with pytest.raises(UsageError, match="takes no calibration"):
        deployment_requests(["tflite"], {"calibration": Calibration("x")})
