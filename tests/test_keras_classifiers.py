"""The classifier of a Keras model is its only dense layer on the pooled features, in any kind of HDF5 file."""

import json
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.sources import resolve_source
from hubexport.conversion import convert
from hubexport.description import describe
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from tests.command import hubexport
from tests.ear import Ear
from tests.keras_models import FILES, HEADS, backbone, save

layers = tf.keras.layers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(hasattr(tf.keras, "ops"), reason="these models are built and saved by Keras 2"),
    pytest.mark.filterwarnings("ignore:non-integer arguments to randrange"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


@pytest.fixture(scope="module")
def base():
    """The network up to its last activation."""
    return backbone()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "hidden" else pytest.mark.prove) for name in HEADS]
)
def test_only_a_dense_layer_on_the_pooled_features_is_the_classifier(base, tmp_path, name):
    """In every kind of file. A warning names the layers that are left out; None means that there are none."""
    make, described, by_weights = HEADS[name]
    result = base.output
    for layer in make():
        result = layer(result)
    model = tf.keras.Model(base.input, result)
    for file in FILES:
        save(model, tmp_path / file)
        ear = Ear()
        with open_checkpoint(resolve_source(tmp_path / file, None, Progress()), ear) as opened:
            found = opened.recognition
        wanted = described if file.startswith("whole") else by_weights
        assert found.parameters.depth_multiplier == 0.35
        assert found.num_classes == (result.shape[-1] if wanted else None), file
        features_only = [" only its features are used, without " in warning for warning in ear.warnings]
        assert (True in features_only) == (wanted is False), (file, ear.warnings)
        # Weights alone cannot tell how a dense layer is used.
        taken = [" it is taken for a classifier " in warning for warning in ear.warnings]
        assert (True in taken) == bool(wanted and not file.startswith("whole")), (file, ear.warnings)


def test_two_classifiers_side_by_side_are_not_recognized(tmp_path):
    """Nothing tells which one is meant."""
    base = backbone(pooling="avg")
    model = tf.keras.Model(base.input, [layers.Dense(3, name=name)(base.output) for name in "ab"])
    for file in FILES:
        save(model, tmp_path / file)
        ear = Ear()
        with open_checkpoint(resolve_source(tmp_path / file, None, Progress()), ear) as opened:
            assert opened.recognition.num_classes is None
        assert len(ear.warnings) == 1


def test_two_networks_in_a_model_are_refused(tmp_path):
    """`inspect` warns of them; all else fails, and says where they are."""
    images = layers.Input([96, 96, 3])
    two = [tf.keras.Model(one.input, one.output, name=name) for one, name in ((backbone(), "one"), (backbone(), "two"))]
    pooled = [layers.GlobalAveragePooling2D()(one(images)) for one in two]
    model = tf.keras.Model(images, layers.Dense(3)(layers.Concatenate()(pooled)))
    for file in ("whole.h5", "whole.keras"):
        save(model, tmp_path / file)
        with pytest.raises(CheckpointError) as caught:
            convert(tmp_path / file, tmp_path / "c", "slim")
        assert caught.value.why == "its model has 2" and len(caught.value.details) == 2
        ear = Ear()
        assert describe(tmp_path / file, progress=ear).network is None
        assert "cannot tell which network" in ear.warnings[0]


def test_random_cropping_comes_before_the_network(tmp_path):
    """Outside training, Keras' layer crops the middle."""
    images = layers.Input([128, 128, 3])
    base = backbone(layers.RandomCrop(96, 96)(layers.RandomFlip()(images)))
    save(
        tf.keras.Model(images, layers.Dense(3)(layers.GlobalAveragePooling2D()(base.output))), tmp_path / "whole.keras"
    )
    ear = Ear()
    assert describe(tmp_path / "whole.keras", progress=ear).num_classes == 3
    [warning] = ear.warnings
    assert "what comes before the network is left out: random_crop" in warning


@pytest.mark.parametrize(
    ("scale", "offset", "told"),
    [
        (1 / 127.5, -1, None),  # Of images in [0, 255].
        (2.0, -1.0, None),  # Of images in [0, 1].
        (1 / 255, 0, "0.00392157 * image + 0"),
        (1 / 127.5, 0, "0.00784314 * image + 0"),
    ],
)
def test_what_comes_before_the_network(tmp_path, scale, offset, told):
    """What modules do as well is understood; all else is left out with a warning. The classifier stays."""
    images = layers.Input((96, 96, 3))
    base = backbone(layers.Rescaling(scale, offset=offset, name="scale")(images), pooling="avg")
    model = tf.keras.Model(images, layers.Dense(3)(base.output))
    for file in ("whole.h5", "whole.keras"):
        save(model, tmp_path / file)
        ear = Ear()
        with open_checkpoint(resolve_source(tmp_path / file, None, Progress()), ear) as opened:
            assert (opened.recognition.num_classes, opened.image_size) == (3, 96)
        instead = "instead of 2 * image - 1 or 0.00784314 * image - 1"
        warning = f"{tmp_path / file}: what comes before the network is left out: scale, with {told} {instead}"
        assert ear.warnings == ([warning] if told else [])


_IMAGES = np.random.RandomState(0).uniform(size=[2, 96, 96, 3]).astype(np.float32)


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """A model in one file of each kind, and what Keras computes with it: probabilities and features."""
    base = backbone()
    pooled = layers.AveragePooling2D((3, 3))(base.output)
    flat = layers.Dropout(0.5)(layers.Flatten()(pooled))
    model = tf.keras.Model(base.input, [layers.Dense(7, "softmax", name="flowers")(flat), flat])
    random = np.random.RandomState(3)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) * (weight + 0.1) for weight in model.get_weights()])
    folder = tmp_path_factory.mktemp("described")
    for file in FILES:
        save(tf.keras.Model(base.input, model.outputs[0]), folder / file)
    np.savez(folder / "wanted.npz", *model.predict(_IMAGES * 2 - 1, verbose=0))
    return folder


@pytest.mark.parametrize("file", [pytest.param(file) for file in FILES])
def test_modules_compute_what_the_model_computes(small, described, tmp_path, file):
    """From each kind of file, whatever the classifier's name."""
    options = {"checkpoint": described / file, "output_dir": tmp_path}
    classification, features = build_modules(small, ["classification/5", "feature_vector/5"], **options)
    wanted = np.load(described / "wanted.npz")
    logits = tf.saved_model.load(str(classification))(_IMAGES)
    np.testing.assert_allclose(tf.nn.softmax(logits), wanted["arr_0"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tf.saved_model.load(str(features))(_IMAGES), wanted["arr_1"], rtol=1e-4, atol=1e-4)


def test_features_of_a_model_with_a_hidden_layer(small, tmp_path):
    """They are what Keras computes. A classification is refused."""
    base = backbone(pooling="avg")
    hidden = layers.Dense(128, "relu")(base.output)
    model = tf.keras.Model(base.input, layers.Dense(7)(hidden))
    for file in FILES:
        save(model, tmp_path / file)
        options = {"checkpoint": tmp_path / file, "output_dir": tmp_path / f"modules_{file}"}
        [module] = build_modules(small, ["feature_vector/5"], **options)
        found = tf.saved_model.load(str(module))(_IMAGES)
        np.testing.assert_allclose(found, base.predict(_IMAGES * 2 - 1, verbose=0), rtol=1e-4, atol=1e-4)
        with pytest.raises(CheckpointError) as caught:
            build_modules(small, ["classification/5"], **options)
        assert caught.value.why.startswith("this checkpoint has no classifier: ")
        assert caught.value.why.endswith("are not one dense layer on the features")


@pytest.mark.parametrize("name", ["whole.h5", "whole.keras"])
def test_a_model_that_computes_something_else_is_refused(described, tmp_path, name):
    """Though all names and shapes are right; the error says where it differs."""
    if name.endswith(".h5"):
        (tmp_path / name).write_bytes((described / name).read_bytes())
        with h5py.File(tmp_path / name, "r+") as file:
            file.attrs["model_config"] = _with_another_activation(file.attrs["model_config"])
    else:
        with zipfile.ZipFile(described / name) as old, zipfile.ZipFile(tmp_path / name, "w") as new:
            new.writestr("config.json", _with_another_activation(old.read("config.json").decode()))
            new.writestr("model.weights.h5", old.read("model.weights.h5"))
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / name, tmp_path / "c.safetensors", "safetensors")
    title = "MobileNet V2, depth multiplier 0.35"
    problem = f"its names and shapes are those of {title}, but its model differs, first in relu6 behind bn_Conv1"
    assert caught.value.why == problem
    done = hubexport("inspect", tmp_path / name)
    assert done.returncode == 0 and problem in done.stderr and "unknown" in done.stdout


def _with_another_activation(description):
    config = json.loads(description)
    [activation] = [weight["config"] for weight in config["config"]["layers"] if weight["name"] == "Conv1_relu"]
    activation["max_value"] = None
    return json.dumps(config)


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"class_name": "Mine"}'])
def test_a_description_that_cannot_be_understood(described, tmp_path, text):
    """A warning says that names and shapes alone count, another that they do not tell how the dense layer is used."""
    with zipfile.ZipFile(described / "whole.keras") as old, zipfile.ZipFile(tmp_path / "x", "w") as new:
        new.writestr("config.json", text)
        new.writestr("model.weights.h5", old.read("model.weights.h5"))
    ear = Ear()
    assert describe(tmp_path / "x", progress=ear).num_classes == 7
    *others, last = ear.warnings
    assert "do not tell how its dense layer is used" in last
    assert ["names and shapes alone" in warning for warning in others] == [True] * bool(text)
