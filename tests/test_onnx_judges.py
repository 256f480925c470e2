"""Our ONNX models beside those of another converter, and in another reader."""

import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import list_variants, load_variant
from hubexport.conversion import convert
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.onnx_model import write_onnx_model
from hubexport.deployments.onnx_report import onnx_report
from hubexport.deployments.options import OnnxOptions
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from tests.environments import ONNX, TF2ONNX, python_or_skip, run_consumer


def _smallest_variants():
    """One of each family, with the smallest images."""
    smallest = {}
    for variant in sorted(list_variants(), key=lambda one: (one.image_size, one.name)):
        smallest.setdefault(variant.network, variant.name)
    return sorted(smallest.values())


def _run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    [name] = [one.name for one in session.get_inputs()]
    return session.run(None, {name: images})[0]


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", _smallest_variants())
def test_our_model_is_no_larger_than_that_of_tf2onnx_and_gives_the_same_numbers(tmp_path, name):
    """tf2onnx converts the TF2 module; inspect reads its file, too."""
    python, variant = python_or_skip(TF2ONNX), load_variant(name)
    [module] = build_modules(variant, ["classification/5"], checkpoint="synthetic:1", output_dir=tmp_path)
    ours = convert(module, tmp_path / "ours.onnx", "onnx", variant=variant)
    theirs = tmp_path / "theirs.onnx"
    options = ["--opset", "17", "--signature_def", "serving_default"]
    command = [python, "-m", "tf2onnx.convert", "--saved-model", module, "--output", theirs, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=800)
    report = onnx_report(theirs)
    assert report.written_by.startswith("tf2onnx ") and not report.has_problems
    # Ours has the names of the classes, too.
    names = next((one for one in onnx.load(ours).metadata_props if one.key == "class_names"), None)
    assert ours.stat().st_size - (names.ByteSize() if names else 0) < theirs.stat().st_size
    size = variant.image_size
    images = np.random.default_rng(4).uniform(size=(2, size, size, 3)).astype(np.float32)
    found, wanted = _run(ours, images), _run(theirs, images)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.consumers
def test_opencv_computes_what_float64_does(tmp_path):
    """Two networks, one with depthwise convolutions and one with branches, in both layouts."""
    tasks, wanted = [], []
    for name in ("mobilenet_v2", "inception_v1"):
        family = FAMILIES[name]
        network = family.network(family.published_parameters[0], 64, 7)
        values = {variable.name: synthetic_value(variable, 1) for variable in network.variables}
        images = np.random.default_rng(3).uniform(size=(2, 64, 64, 3))
        logits = Forward(network, values, images).run([network.logits])[network.logits]
        for layout in ("nhwc", "nchw"):
            stem, options = tmp_path / f"{name}-{layout}", OnnxOptions(layout=layout)
            write_onnx_model(stem.with_suffix(".onnx"), inference_model(name, network, values, options), options)
            given = images.astype(np.float32)
            np.savez(stem, images=given if layout == "nhwc" else given.transpose(0, 3, 1, 2))
            tasks.append(
                {"model": f"{stem}.onnx", "images": f"{stem}.npz", "outputs": str(tmp_path / f"{stem.name}-out.npz")}
            )
            wanted.append(logits)
    seen = run_consumer(python_or_skip(ONNX), "run_opencv.py", tasks, tmp_path)
    for task, answer, logits in zip(tasks, seen["modules"], wanted, strict=True):
        assert answer["outputs"] == ["logits"]
        assert logits.std() > 0.1
        with np.load(task["outputs"]) as outputs:
            np.testing.assert_allclose(outputs["logits"], logits, rtol=0, atol=2e-5 * max(1, np.abs(logits).max()))
