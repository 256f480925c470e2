"""Models around Keras' own networks, saved in every way by every Keras from 2.4 on, compute the same here."""

import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.restore import restore_values
from hubexport.checkpoints.sources import resolve_source
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.networks.numpy_forward import Forward
from hubexport.progress import Progress
from tests.data import REAL_ARCHIVE, needs_data, photographs
from tests.ear import Ear
from tests.environments import CONSUMERS, python_or_skip, run_consumer

# An environment may have to be made first.
pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800)]

_TOLERANCE = 1e-4
_CLASSES = 5
_ENVIRONMENTS = {environment.name: environment for environment in CONSUMERS}
_KERAS_2_WAYS = {"whole.h5", "saved_model", "c.h5", "tensorflow"}
_NEW_WAYS = {"whole.keras", "c.weights.h5"}
# The environment, its Keras, and the ways in which it saves a model.
_KERASES = {
    "2.4": ("tf2.4", "tensorflow.keras", _KERAS_2_WAYS),
    "2.10": ("tf2.10", "tensorflow.keras", _KERAS_2_WAYS),
    "2.15": ("tf2.15", "keras", _KERAS_2_WAYS | _NEW_WAYS),
    "2.21": ("tf2.21", "tf_keras", _KERAS_2_WAYS | _NEW_WAYS),
    "3": ("tf2.21", "keras", {"whole.h5", "saved_model"} | _NEW_WAYS),
}
_MODELS = ("tutorial", "rescaled", "teachable_machine", "nested_head", "flat", "alone")
_SMALLEST = {"network": "MobileNetV2", "settings": {"alpha": 0.35}, "size": 96}


def _saved(keras, tasks, folder):
    """Saves models by a Keras; returns the folder of each, and which files are in it."""
    environment, module, _ = _KERASES[keras]
    for number, task in enumerate(tasks):
        task["folder"] = str(folder / f"{number}-{task['model']}")
        (folder / f"{number}-{task['model']}").mkdir()
    program = "save_keras_transfer.py"
    tasks = [{"keras": module, "weights": None, **task} for task in tasks]
    seen = run_consumer(python_or_skip(_ENVIRONMENTS[environment]), program, tasks, folder)
    return [(folder / task["folder"], one["files"]) for task, one in zip(tasks, seen["modules"], strict=True)]


def _outputs(path, images):
    """Returns what our network computes in float64 with the values of a file: class scores, or None, and features."""
    ear = Ear()
    with open_checkpoint(resolve_source(path, None, Progress()), ear) as opened:
        network = opened.recognition.network(images.shape[1])
        values = {
            name: value.read() for name, value in restore_values(opened, network.variables, "auto").values.items()
        }
        assert opened.image_size in (images.shape[1], None)
    computed = Forward(network, values, images).run()
    logits = computed[network.logits] if network.logits else None
    return logits, computed[network.features], ear.warnings


def _is_described(file, keras):
    return file.startswith("whole") or (file == "saved_model" and keras != "3")


def _check(folder, files, model, images, keras):
    """Compares files of a model with what its Keras computed."""
    with np.load(folder / "outputs.npz") as arrays:
        wanted = dict(arrays)
    assert np.std(wanted["features"]) > 0.05, "features that are all the same would tell nothing"
    for file in files:
        logits, features, warnings = _outputs(folder / file, images)
        np.testing.assert_allclose(features, wanted["features"], rtol=_TOLERANCE, atol=_TOLERANCE, err_msg=file)
        if model == "teachable_machine":
            assert logits is None
            assert len(warnings) == 1 and "only its features are used, without" in warnings[0], warnings
        else:
            np.testing.assert_allclose(logits, wanted["outputs"], rtol=_TOLERANCE, atol=_TOLERANCE, err_msg=file)
            described = _is_described(file, keras)
            assert [" it is taken for a classifier " in warning for warning in warnings] == [True] * (not described)


@pytest.mark.parametrize(
    ("keras", "models"),
    [
        # The others take minutes.
        pytest.param("3", ["tutorial"], id="3, one model"),
        *(pytest.param(keras, _MODELS, id=keras, marks=pytest.mark.prove) for keras in _KERASES),
    ],
)
def test_every_way_to_save_a_model(keras, models, tmp_path):
    """Each shape of model, in each kind of file."""
    images = np.random.RandomState(0).uniform(size=[2, 96, 96, 3]).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    tasks = [{**_SMALLEST, "model": model, "images": str(tmp_path / "images.npz")} for model in models]
    for model, (folder, files) in zip(models, _saved(keras, tasks, tmp_path), strict=True):
        assert set(files) == _KERASES[keras][2]
        _check(folder, files, model, images, keras)


@needs_data
@pytest.mark.prove
@pytest.mark.parametrize("keras", ["2.15", "3"])
def test_the_photographs(keras, tmp_path):
    """With real weights, which Keras loads from a converted file."""
    pictures, _ = photographs(224)
    np.savez(tmp_path / "images.npz", images=pictures)
    weights = convert(str(REAL_ARCHIVE), tmp_path / "real.h5", "keras")
    real = {"network": "MobileNetV2", "settings": {}, "size": 224, "weights": str(weights)}
    tasks = [{**real, "model": model, "images": str(tmp_path / "images.npz")} for model in ("tutorial", "nested_head")]
    for task, (folder, files) in zip(tasks, _saved(keras, tasks, tmp_path), strict=True):
        _check(folder, files, task["model"], pictures, keras)


@pytest.mark.prove
@pytest.mark.parametrize("keras", ["2.15", "3"])
@pytest.mark.parametrize(
    ("network", "settings", "size"),
    [
        ("MobileNet", {"alpha": 0.5}, 128),
        ("InceptionV3", {}, 139),
        ("InceptionV3", {}, 299),
        ("InceptionResNetV2", {}, 150),
    ],
)
def test_other_networks_of_keras(keras, network, settings, size, tmp_path):
    """Only whole models tell which network it is."""
    images = np.random.RandomState(0).uniform(size=[2, size, size, 3]).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    task = {"network": network, "settings": settings, "size": size, "images": str(tmp_path / "images.npz")}
    tasks = [{**task, "model": model} for model in ("tutorial", "alone")]
    for task, (folder, files) in zip(tasks, _saved(keras, tasks, tmp_path), strict=True):
        described = [file for file in files if _is_described(file, keras)]
        _check(folder, described, task["model"], images, keras)


@needs_data
def test_a_training_of_our_module_in_tensorflow_1(tmp_path):
    """Its variables stand under the module's scope, its one dense layer is the classifier."""
    pictures, _ = photographs(224)
    np.savez(tmp_path / "images.npz", images=pictures)
    variant = load_variant("mobilenet_v2_100_224")
    [module] = build_modules(variant, ["feature_vector/3"], checkpoint=REAL_ARCHIVE, output_dir=tmp_path / "modules")
    task = {"module": str(module), "images": str(tmp_path / "images.npz"), "classes": _CLASSES}
    task |= {"save": str(tmp_path / "trained.ckpt"), "outputs": str(tmp_path / "outputs.npz")}
    seen = run_consumer(python_or_skip(_ENVIRONMENTS["tf1.15"]), "train_hub_module.py", [task], tmp_path)
    assert "module/MobilenetV2/Conv/weights/Momentum" in seen["modules"][0]["variables"]
    logits, _, warnings = _outputs(tmp_path / "trained.ckpt", pictures)
    with np.load(tmp_path / "outputs.npz") as arrays:
        np.testing.assert_allclose(logits, arrays["outputs"], rtol=_TOLERANCE, atol=_TOLERANCE)
    assert not warnings
