"""The programs in `examples/`: each runs as its docstring says, and its numbers equal an independent computation."""

import json
import os
from pathlib import Path
import subprocess
import sys

from PIL import Image
import numpy as np
import pytest
import tensorflow_hub as hub

from hubexport import build_modules, load_variant
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.networks.numpy_forward import Forward
from tests.data import DATA, REAL_ARCHIVE, REPOSITORY, needs_data

_EXAMPLES = REPOSITORY / "examples"
_PHOTOGRAPH = _EXAMPLES / "grace_hopper.jpg"
_MAX_BYTES = 40_000
_VARIANT = load_variant("mobilenet_v2_035_96")
_SIZE = 96


def _run(program, *arguments, **environment):
    # Away from the checkout, whose hubexport the programs must not need.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    return subprocess.run(
        [sys.executable, _EXAMPLES / program, *map(str, arguments)],
        cwd=_EXAMPLES,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def _printed(program, *arguments):
    done = _run(program, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Modules with made-up weights, by kind and version."""
    names = ["classification/5", "feature_vector/5", "feature_vector/2"]
    folder = tmp_path_factory.mktemp("modules")
    return dict(zip(names, build_modules(_VARIANT, names, checkpoint="synthetic:1", output_dir=folder), strict=True))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three images of the modules' size, so that nothing is resized."""
    paths = [tmp_path_factory.mktemp("pictures") / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, [_SIZE, _SIZE, 3], dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return paths


def _computed(kind, paths):
    """Computes the network's output for images, in NumPy."""
    network = _VARIANT.network_for(kind)
    images = np.stack([np.asarray(Image.open(path), np.float32) / 255 for path in paths])
    outputs = Forward(network, {one.name: synthetic_value(one, 1) for one in network.variables}, images).run()
    return outputs[network.logits if kind == "classification" else network.features]


def _blocks(lines):
    """Returns the lines of each image, by its path."""
    blocks, scores = {}, []
    for line in lines:
        if line.startswith("  "):
            scores.append(line.split(maxsplit=2))
        else:
            scores = blocks[line] = []
    return blocks


@pytest.mark.slow
def test_tf2_inference_prints_the_most_probable_classes(modules, pictures, tmp_path):
    """Their probabilities, indices and names equal those computed in NumPy."""
    (tmp_path / "labels.txt").write_text("".join(f"name {number}\n" for number in range(1001)))
    lines = _printed(
        "tf2_inference.py", modules["classification/5"], *pictures, "--labels", tmp_path / "labels.txt", "--top", 4
    )
    found = _blocks(lines)
    assert list(found) == [str(path) for path in pictures]
    for scores, logits in zip(found.values(), _computed("classification", pictures)):
        probabilities = np.exp(logits) / np.exp(logits).sum()
        best = np.argsort(-probabilities)[:4]
        assert [(int(index), name) for _, index, name in scores] == [(index, f"name {index}") for index in best]
        np.testing.assert_allclose([float(one) for one, _, _ in scores], probabilities[best], atol=1e-4)


@needs_data
@pytest.mark.slow
def test_tf2_inference_names_what_is_in_photographs(tmp_path):
    """With the real weights: the eight published results, and the photograph in `examples/`."""
    options = {"checkpoint": str(REAL_ARCHIVE), "output_dir": tmp_path}
    [module] = build_modules(load_variant("mobilenet_v2_100_224"), ["classification/5"], **options)
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    paths = [*(DATA / "images" / name for name in expected), _PHOTOGRAPH]
    found = _blocks(_printed("tf2_inference.py", module, *paths))
    own = found.pop(str(_PHOTOGRAPH))
    assert own[0][2] == "military uniform" and float(own[0][0]) > 0.8
    for path, scores in found.items():
        top3 = expected[Path(path).name]
        assert [(int(index), label) for _, index, label in scores] == [(index, label) for index, label, _ in top3]
        np.testing.assert_allclose([float(one) for one, _, _ in scores], [one for _, _, one in top3], atol=1.1e-4)


def _draw_stripes(folder, number):
    """Draws noisy stripes of any width: vertical in one class, horizontal in the other."""
    random = np.random.default_rng(0)
    for name in ("upright", "level"):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            wave = np.sin(2 * np.pi * (np.arange(_SIZE) / random.integers(10, 16) + random.uniform()))
            stripes = np.broadcast_to(wave > 0, (_SIZE, _SIZE))
            stripes = stripes if name == "upright" else stripes.T
            pixels = 200 * stripes[..., np.newaxis] + random.normal(20, 10, (_SIZE, _SIZE, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{index}.png")


@pytest.mark.prove
def test_keras_fine_tuning_tells_two_classes_apart(modules, tmp_path):
    """Starting from made-up weights, it gets nine of ten new images right."""
    _draw_stripes(tmp_path / "stripes", 50)
    options = ("--output", tmp_path / "fine_tuned", "--epochs", 15, "--batch-size", 8)
    lines = _printed("keras_fine_tuning.py", modules["feature_vector/5"], tmp_path / "stripes", *options)
    predicted = [line.rpartition(" ")[0].split(": ") for line in lines if line.startswith(str(tmp_path / "stripes"))]
    assert len(predicted) == len({path for path, _ in predicted}) == 20
    accuracy = np.mean([Path(path).parent.name == name for path, name in predicted])
    assert accuracy >= 0.9, lines
    assert lines[-1] == f"accuracy: {accuracy:.2f}"
    assert (tmp_path / "fine_tuned" / "saved_model.pb").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(hub, "Module"), reason="tensorflow-hub 0.15 is the last with hub.Module")
def test_tf1_hub_module_computes_feature_vectors(modules, pictures, tmp_path):
    """They equal those computed in NumPy, with a line for each image."""
    lines = _printed("tf1_hub_module.py", modules["feature_vector/2"], *pictures, "--output", tmp_path / "f.npy")
    found = np.load(tmp_path / "f.npy")
    assert (found.dtype, found.shape) == (np.float32, (3, 1280))
    np.testing.assert_allclose(found, _computed("feature_vector", pictures), rtol=0, atol=5e-5)
    for line, path, vector in zip(lines, pictures, found, strict=True):
        assert line == f"{path}: 1280 features, {' '.join(f'{number:.3f}' for number in vector[:5])} ..."


@pytest.mark.slow
def test_without_hub_module_the_tf1_example_says_so(modules, tmp_path):
    """On stderr, with exit status 1, before it reads anything."""
    (tmp_path / "tensorflow_hub.py").write_text("__version__ = '0.16.1'\n")
    done = _run("tf1_hub_module.py", "nowhere", "nothing.jpg", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    said = "tensorflow_hub 0.16.1 has no hub.Module: version 0.15 is the last that has it."
    assert said in done.stderr and "Traceback" not in done.stderr


def test_the_photograph_is_small_and_credited():
    """And the list of examples has every program."""
    assert _PHOTOGRAPH.stat().st_size <= _MAX_BYTES
    text = (_EXAMPLES / "README.md").read_text()
    assert "public domain" in text
    for program in _EXAMPLES.glob("*.py"):
        assert f"python examples/{program.name} " in text and f"[{program.name}]({program.name})" in text
        assert f"python examples/{program.name} MODULE" in program.read_text()
        assert "import hubexport" not in program.read_text() and "from hubexport" not in program.read_text()
