"""Every value in Keras' files is read, also those of models within models and of optimizers."""

import io
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.sources import resolve_source
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployment_comparison import compare
from hubexport.description import describe
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from tests.command import hubexport
from tests.keras_models import FILES, backbone, save

hub = pytest.importorskip("tensorflow_hub")
layers = tf.keras.layers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(hasattr(tf.keras, "ops"), reason="these models are built and saved by Keras 2"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]


def _datasets(path):
    """All datasets of an HDF5 file, as h5py visits them."""
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda _, value: found.append(value[()]) if isinstance(value, h5py.Dataset) else None)
    return found


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """Transfer learning as in tutorials: a model within the model, trained for one step, in one file of each kind."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([backbone(), layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model.compile("sgd", "mse")
    folder = tmp_path_factory.mktemp("nested")
    for name in FILES:
        save(model, folder / name)
    weights = model.get_weights()
    for number, value in enumerate(weights[:255]):
        value.flat[0] = np.nan if number == 100 else value.flat[0] + 1
    model.set_weights(weights)
    save(model, folder / "whole_other.h5")
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith("whole") else pytest.mark.prove) for name in FILES]
)
def test_a_model_within_the_model_is_read_whole(nested, name):
    """Each of its values has a unique name."""
    with zipfile.ZipFile(nested / name) if name.endswith(".keras") else open(nested / name, "rb") as file:
        content = file.read("model.weights.h5") if name.endswith(".keras") else file.read()
    found = describe(nested / name).variables
    wanted = _datasets(io.BytesIO(content))
    assert len(found) == len(wanted) >= 262
    assert sorted(variable.shape for variable in found) == sorted(value.shape for value in wanted)
    norms = [np.linalg.norm(value.astype(np.float64)) for value in wanted]
    np.testing.assert_allclose(sorted(variable.norm for variable in found), sorted(norms), rtol=1e-6)


def test_what_differs_in_a_model_within_the_model_is_found(nested):
    """And its NaN is reported."""
    found = describe(nested / "whole_other.h5")
    assert [variable.name for variable in found.variables if variable.nan_count] == [_nan_name(nested)]
    done = hubexport("diff", nested / "whole.h5", nested / "whole_other.h5")
    assert done.returncode == 1
    comparison = compare(nested / "whole.h5", nested / "whole_other.h5")
    assert len(comparison.differences) == 255 and all(found.problem == "values" for found in comparison.differences)


def _nan_name(nested):
    """The path of the only value with NaN, from h5py, without Keras' prefixes."""
    found = []
    with h5py.File(nested / "whole_other.h5") as file:
        file.visititems(
            lambda path, item: (
                found.append(path) if isinstance(item, h5py.Dataset) and np.isnan(item[()]).any() else None
            )
        )
    [path] = found
    return path.removeprefix("model_weights/").removesuffix(":0").replace("depthwise_kernel", "kernel")


def test_an_optimizer_in_a_whole_model_is_listed(tmp_path):
    """Its values are part of the file. The network is still recognized."""
    base = backbone(pooling="avg")
    model = tf.keras.Model(base.input, layers.Dense(3, name="predictions")(base.output))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.h5")
    found = describe(tmp_path / "m.h5")
    assert (found.layout, found.num_classes, len(found.variables)) == (
        "Keras .h5",
        3,
        len(_datasets(tmp_path / "m.h5")),
    )
    slots = [variable.name for variable in found.variables if variable.name.startswith("optimizer_weights/")]
    assert sum(name.endswith("/Conv1/kernel:0") for name in slots) == 2


@pytest.mark.parametrize("size", [96, None])
def test_a_model_tells_the_size_of_its_images(tmp_path, size):
    """In whole models, unless they take any size. Weights alone do not tell."""
    base = tf.keras.applications.MobileNetV2(alpha=0.35, weights=None, include_top=False, input_shape=(size, size, 3))
    for name in FILES:
        save(base, tmp_path / name)
        with open_checkpoint(resolve_source(tmp_path / name, None, Progress()), Progress()) as opened:
            assert opened.image_size == (size if name.startswith("whole") else None), name


def test_a_module_in_a_keras_model_is_found(tmp_path):
    """As make_image_classifier saves it. Files that number its variables are refused with what to do instead."""
    variant = load_variant("mobilenet_v2_035_96")
    [module] = build_modules(variant, ["feature_vector/5"], checkpoint="synthetic:1", output_dir=tmp_path / "modules")
    model = tf.keras.Sequential(
        [
            tf.keras.Input([96, 96, 3]),
            hub.KerasLayer(str(module), trainable=True),
            layers.Dropout(0.2),
            layers.Dense(5, kernel_regularizer=tf.keras.regularizers.L1L2(1e-4, 1e-4)),
        ]
    )
    model.compile("sgd", "mse")
    images = np.random.RandomState(0).uniform(size=[2, 96, 96, 3]).astype(np.float32)
    model.fit(images, np.zeros([2, 5]), verbose=0)
    tf.saved_model.save(model, str(tmp_path / "saved_model"))
    model.save(tmp_path / "m.h5")
    model.save_weights(tmp_path / "tensorflow")
    for file in ("saved_model", "m.h5", "tensorflow"):
        done = hubexport(
            "build", "--name", "flowers", "--checkpoint", tmp_path / file, "--image-size", 96, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        loaded = tf.saved_model.load(str(tmp_path / "modules/local/models/flowers/classification/5"))
        np.testing.assert_allclose(loaded(images), model.predict(images, verbose=0), rtol=1e-4, atol=1e-4)
        shutil.rmtree(tmp_path / "modules/local")
    model.save(tmp_path / "m.keras")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "m.keras", tmp_path / "c", "slim")
    assert "its network is a hub.KerasLayer" in caught.value.why and "SavedModel" in caught.value.why


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ResNet50", "strides in the first convolution of a block"),
        ("ResNet50V2", "pads with zeros before its first pool"),
        ("MobileNetV3Small", "has 1/6 in its gates"),
        pytest.param("NASNetMobile", "pads with zeros before its pools", marks=pytest.mark.prove),
        ("VGG16", "takes the colors of images as BGR"),
        pytest.param("EfficientNetB0", "is not among the networks", marks=pytest.mark.prove),
    ],
)
def test_other_networks_of_keras_are_refused_by_name(tmp_path, name, told):
    """With what they compute otherwise."""
    model = getattr(tf.keras.applications, name)(weights=None, include_top=False, input_shape=(64, 64, 3))
    pooled = layers.GlobalAveragePooling2D()(model.output)
    tf.keras.Model(model.input, layers.Dense(2)(pooled)).save(tmp_path / "m.keras")
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / "m.keras", tmp_path / "c", "slim")
    assert caught.value.why.startswith("its layers are those of Keras' ") and told in caught.value.why


@pytest.mark.parametrize("file", ["c.h5", "c.weights.h5"])
def test_weights_alone_of_another_network_are_refused(tmp_path, file):
    """Only the whole model tells which layer is which."""
    tf.keras.applications.MobileNet(weights=None, alpha=0.25).save_weights(tmp_path / file)
    with pytest.raises(CheckpointError) as caught:
        convert(tmp_path / file, tmp_path / "c", "slim")
    assert caught.value.fix.startswith("save the whole model, like model.save('model.keras')")
