"""`diff` of deployments with the checkpoints and modules that they were made of."""

import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.conversion import convert
from hubexport.deployment_comparison import compare
from hubexport.deployment_spec import deployment_requests, with_deployments
from hubexport.deployments.options import OnnxOptions, TfjsOptions, TfliteOptions
from hubexport.errors import CheckpointError, ModuleError, UsageError
from hubexport.variants import ModuleSpec
from tests.checkpoints import network_values
from tests.command import hubexport

_FILES = {"onnx": "m.onnx", "tfjs": "m", "tflite": "m.tflite"}


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the small network."""
    write_bundle(tmp_path / "model.ckpt", network_values())
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize("to", _FILES)
def test_a_deployment_has_the_values_of_its_checkpoint(tmp_path, small, checkpoint, to):
    """Folded, and bit for bit; from either side. One changed number is told where it is."""
    path = convert(checkpoint, tmp_path / _FILES[to], to, variant=small)
    for pair in ((path, checkpoint), (checkpoint, path)):
        found = compare(*pair)
        assert (found.compared, found.differences) == ("folded", ())
        assert found.equal > 100
    values = network_values()
    values["MobilenetV2/Logits/Conv2d_1c_1x1/biases"] = values["MobilenetV2/Logits/Conv2d_1c_1x1/biases"].copy()
    values["MobilenetV2/Logits/Conv2d_1c_1x1/biases"][2] += 0.5
    write_bundle(tmp_path / "other.ckpt", values)
    [difference] = compare(path, tmp_path / "other.ckpt").differences
    assert difference.name == "MobilenetV2/Logits/Conv2d_1c_1x1/biases"
    assert difference.differing == 1 and difference.largest_absolute == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("to", "options", "steps"),
    [
        ("tfjs", TfjsOptions(quantize="float16"), 2**-11),
        ("tflite", TfliteOptions(quantize="float16"), 2**-11),
        ("tflite", TfliteOptions(quantize="dynamic"), 1 / 254),
    ],
    ids=lambda one: getattr(one, "quantize", ""),
)
def test_quantized_values_differ_by_their_steps(tmp_path, small, checkpoint, to, options, steps):
    """From a checkpoint, of which a bare file does not tell how it was quantized."""
    path = convert(checkpoint, tmp_path / _FILES[to], to, variant=small, options=options)
    floats = convert(checkpoint, tmp_path / f"floats{path.suffix}", to, variant=small)
    found, same = compare(path, checkpoint), compare(path, floats)
    assert found == same and found.differences
    assert {one.problem for one in found.differences} == {"values"}
    largest = max(np.abs(value).max() for value in network_values().values())
    assert max(one.largest_absolute for one in found.differences) <= steps * largest * 1000
    assert not found.within(0)


def test_a_folder_with_a_manifest_tells_its_options(tmp_path, small, checkpoint):
    """So that quantized values are equal, too, and intensities from 0 to 255 are known."""
    specs = [ModuleSpec.parse("feature_vector/5")]
    for names, chosen in ((["tfjs-uint8", "tflite-dynamic"], {}), (["onnx"], {"pixels": "uint8"})):
        asked = with_deployments(small, specs, deployment_requests(names, chosen))
        paths = build_modules(small, asked, checkpoint=checkpoint, output_dir=tmp_path / "m", overwrite=True)
        for path in paths[1:]:
            assert compare(path, checkpoint).differences == (), path
            assert compare(path, paths[0]).differences == (), path


def test_a_bare_file_tells_its_kind_and_its_pixels(tmp_path, small, checkpoint):
    """By its outputs and inputs."""
    options = OnnxOptions(pixels="uint8", layout="nchw")
    path = convert(checkpoint, tmp_path / "m.onnx", "onnx", variant=small, kind="feature_vector", options=options)
    assert compare(path, checkpoint).differences == ()


def test_what_cannot_be_compared_is_refused(tmp_path, small, checkpoint):
    """Two formats; another network; a damaged file."""
    onnx, tfjs = (convert(checkpoint, tmp_path / _FILES[to], to, variant=small) for to in ("onnx", "tfjs"))
    with pytest.raises(UsageError, match="ONNX.*TF.js"):
        compare(onnx, tfjs)
    write_bundle(tmp_path / "other.ckpt", {"x": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError):
        compare(onnx, tmp_path / "other.ckpt")
    tfjs.joinpath("group1-shard1of1.bin").write_bytes(b"short")
    with pytest.raises(ModuleError):
        compare(tfjs, checkpoint)


def test_the_command_line_compares_deployments(tmp_path, small, checkpoint):
    """With status 0 where all is equal."""
    path = convert(checkpoint, tmp_path / "m.tflite", "tflite", variant=small)
    done = hubexport("diff", path, checkpoint)
    assert done.returncode == 0, done.stderr
    assert "folded values compared" in done.stdout
    assert "/.hubexport-" not in done.stderr
