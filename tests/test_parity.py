"""Converted models compute in Keras and transformers what TF-Slim computes, and convert back."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.conversion import convert
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.reference.mobilenet_v2 import reference_mobilenet_v2
from tests.checkpoints import MOBILENET_V2_MULTIPLIERS, network_values
from tests.data import DATA, REAL_ARCHIVE, needs_data, photographs
from tests.environments import CONSUMERS, FRAMEWORKS, python_or_skip, run_consumer
from tests.graphs import load_values

# An environment may have to be made first.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800), needs_data]

_TOLERANCE = 1e-4
_CLASSES = 7
_ENVIRONMENTS = {environment.name: environment for environment in (*CONSUMERS, *FRAMEWORKS)}
# The Keras that comes with each TensorFlow, and which of the files it loads; between the oldest and the newest only
# `make prove` tries them.
_KERASES = [
    pytest.param("tf2.4", "tensorflow.keras", ["c.h5"], id="tf2.4-keras2", marks=pytest.mark.prove),
    pytest.param("tf2.10", "tensorflow.keras", ["c.h5"], id="tf2.10-keras2", marks=pytest.mark.prove),
    pytest.param("tf2.15", "keras", ["c.h5", "c.weights.h5"], id="tf2.15-keras2", marks=pytest.mark.prove),
    pytest.param("tf2.21", "tf_keras", ["c.h5", "c.weights.h5"], id="tf2.21-keras2", marks=pytest.mark.prove),
    pytest.param("tf2.21", "keras", ["c.h5", "c.weights.h5"], id="tf2.21-keras3"),
]


def _slim_outputs(prefix, images, multiplier):
    """Returns the logits of TF-Slim's network for a checkpoint of plain values, or features without a classifier."""
    bundle = BundleReader(prefix)
    values = {name: bundle.read(name) for name in bundle.shapes}
    biases = values.get("MobilenetV2/Logits/Conv2d_1c_1x1/biases")
    num_classes = 1 if biases is None else len(biases)
    for variable in mobilenet_v2(multiplier, images.shape[1], num_classes).variables:
        values.setdefault(variable.name, np.zeros(variable.shape, np.float32))
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, *images.shape[1:]])
        built = reference_mobilenet_v2(placeholder, multiplier, num_classes, is_training=False)
        load_values(session, values)
        return session.run(built.features if biases is None else built.logits, {placeholder: images})


def _without_classifier(values):
    return {name: value for name, value in values.items() if "Logits" not in name}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Checkpoints of plain values with TF-Slim's outputs: real, one for each multiplier, and one without classifier."""
    folder = tmp_path_factory.mktemp("cases")
    pictures, _ = photographs(224)
    noise = np.random.RandomState(0).uniform(size=[4, 96, 96, 3]).astype(np.float32)
    convert(str(REAL_ARCHIVE), folder / "real", "slim")
    made_up = {str(multiplier): network_values(multiplier, _CLASSES) for multiplier in MOBILENET_V2_MULTIPLIERS}
    made_up["headless"] = _without_classifier(network_values(0.5, _CLASSES))
    for name, values in made_up.items():
        write_bundle(folder / name, values)
    found = []
    for name in ("real", *made_up):
        images = pictures if name == "real" else noise
        multiplier = {"real": 1.0, "headless": 0.5}.get(name) or float(name)
        np.savez(folder / f"{name}.npz", images=images)
        found.append(
            {
                "name": name,
                "prefix": folder / name,
                "images": folder / f"{name}.npz",
                "alpha": multiplier,
                "image_size": images.shape[1],
                "classes": 1001 if name == "real" else _CLASSES,
                "include_top": name != "headless",
                "wanted": _slim_outputs(folder / name, images, multiplier),
            }
        )
    return found


def _task(case, **more):
    facts = {key: case[key] for key in ("alpha", "image_size", "classes", "include_top")}
    return {**facts, "images": str(case["images"]), **more}


def _outputs(path):
    with np.load(path) as arrays:
        return dict(arrays)


def _assert_real_top_3(logits):
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    assert [row.argsort()[::-1][:3].tolist() for row in logits] == [
        [index for index, *_ in top3] for top3 in expected.values()
    ]


@pytest.mark.parametrize(("environment", "keras", "files"), _KERASES)
def test_keras(cases, tmp_path, environment, keras, files):
    """Keras' logits are TF-Slim's within 1e-4, its top 3 classes of the photographs are right, and it converts back."""
    tasks, checks = [], []
    for case in cases:
        # The other depth multipliers differ in shapes alone: one Keras and one kind of file will do.
        others = files[-1:] if keras == "keras" and environment == "tf2.21" else []
        for file in files if case["name"] in ("real", "headless") else others:
            folder = tmp_path / f"{case['name']}-{file}"
            folder.mkdir()
            path = convert(str(case["prefix"]), folder / file, "keras", weights="raw")
            tasks.append(_task(case, keras=keras, weights=str(path), outputs=str(folder / "out.npz")))
            checks.append((case["name"], folder, case["wanted"]))
    for head in (True, False):
        case = next(case for case in cases if case["name"] == ("0.5" if head else "headless"))
        folder = tmp_path / f"random-{head}"
        folder.mkdir()
        whole = [folder / "whole.h5"] + [folder / "whole.keras"] * ("c.weights.h5" in files)
        tasks.append(
            _task(
                case,
                keras=keras,
                weights=None,
                seed=5,
                outputs=str(folder / "out.npz"),
                save_weights=[str(folder / file) for file in files if file == "c.weights.h5" or keras != "keras"],
                save_model=[str(path) for path in whole],
            )
        )
    run_consumer(python_or_skip(_ENVIRONMENTS[environment]), "run_keras.py", tasks, tmp_path)
    for name, folder, wanted in checks:
        outputs = _outputs(folder / "out.npz")["outputs"]
        print(f"{folder.name}: largest difference to TF-Slim {np.abs(outputs - wanted).max():.1e}")
        np.testing.assert_allclose(outputs, wanted, rtol=0, atol=_TOLERANCE, err_msg=folder.name)
        if name == "real":
            _assert_real_top_3(outputs)
    for head in (True, False):
        folder = tmp_path / f"random-{head}"
        images = np.load(next(case for case in cases if case["name"] == "0.5")["images"])["images"]
        saved = [path for path in folder.iterdir() if path.name != "out.npz"]
        assert len(saved) >= 2
        for path in saved:
            back = convert(str(path), folder / f"{path.name}.ckpt", "slim")
            wanted = _slim_outputs(back, images, 0.5)
            np.testing.assert_allclose(_outputs(folder / "out.npz")["outputs"], wanted, rtol=1e-4, atol=_TOLERANCE)


def test_huggingface(cases, tmp_path):
    """The same for transformers; its from_pretrained misses no value and finds no unexpected one."""
    tasks, folders = [], []
    for case in cases:
        folder = tmp_path / case["name"]
        folder.mkdir()
        directory = convert(str(case["prefix"]), folder / "hf", "huggingface", weights="raw")
        real = {"photographs": [str(path) for path in _photograph_files()]} if case["name"] == "real" else {}
        tasks.append(
            {
                "directory": str(directory),
                "headless": not case["include_top"],
                "images": str(case["images"]),
                "outputs": str(folder / "out.npz"),
                "save": str(folder / "saved"),
                **real,
            }
        )
        folders.append(folder)
    noise = str(next(case for case in cases if case["name"] == "0.5")["images"])
    for headless in (False, True):
        folder = tmp_path / f"random-{headless}"
        folder.mkdir()
        config = {"depth_multiplier": 0.5, "image_size": 96, "num_labels": _CLASSES}
        tasks.append(
            {
                "directory": None,
                "config": config,
                "seed": 5,
                "headless": headless,
                "images": noise,
                "outputs": str(folder / "out.npz"),
                "save": str(folder / "saved"),
            }
        )
        folders.append(folder)
    run_consumer(python_or_skip(_ENVIRONMENTS["torch"]), "run_torch.py", tasks, tmp_path)
    for folder, task in zip(folders, tasks, strict=True):
        outputs = _outputs(task["outputs"])
        case = next((case for case in cases if case["name"] == folder.name), None)
        back = convert(str(folder / "saved"), folder / "back", "slim")
        multiplier = case["alpha"] if case else 0.5
        with np.load(task["images"]) as images:
            wanted = case["wanted"] if case else _slim_outputs(back, images["images"], multiplier)
        print(f"{folder.name}: largest difference to TF-Slim {np.abs(outputs['outputs'] - wanted).max():.1e}")
        np.testing.assert_allclose(outputs["outputs"], wanted, rtol=1e-5, atol=_TOLERANCE, err_msg=folder.name)
        if case:
            again, before = BundleReader(back), BundleReader(case["prefix"])
            assert again.shapes == before.shapes
            assert all(again.read(name).tobytes() == before.read(name).tobytes() for name in before.shapes)
        if folder.name == "real":
            _assert_real_top_3(outputs["outputs"])
            # Its image processor does what the reference pictures were made by.
            np.testing.assert_allclose(outputs["outputs_of_photographs"], wanted, rtol=0, atol=_TOLERANCE)


def _photograph_files():
    return [DATA / "images" / name for name in json.loads((DATA / "images" / "expected_top3.json").read_text())]
