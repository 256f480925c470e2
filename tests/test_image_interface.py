"""Which SavedModels run on images, with which range and which output, and which are refused."""

import argparse
import json
from pathlib import Path
import shutil

from PIL import Image
import numpy as np
import pytest
import tensorflow as tf

from hubexport import ModuleSpec, build_modules, classify, evaluate, extract_features
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.cli import classify as classify_command
from hubexport.cli import inspect as inspect_command
from hubexport.config_files import load_variant
from hubexport.errors import ModuleError, UsageError
from hubexport.images.classification import class_probabilities
from hubexport.images.resizing import resized
from hubexport.modules.interface_hints import OUTPUT_KINDS, InterfaceHints
from hubexport.modules.saved_model_interface import saved_model_interface
from hubexport.networks.numpy_forward import Forward
from hubexport.protos import ImageModuleInfo
from tests.command import hubexport
from tests.foreign import (
    keras_2,
    write_hub_module,
    write_keras_classifier,
    write_reusable_saved_model,
    write_tf1_saved_model,
    write_tf2_saved_model,
)

v1 = tf.compat.v1

_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Three images of the size that the foreign models take, so that none is resized."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        Image.fromarray(np.random.RandomState(number).randint(0, 256, [8, 8, 3], np.uint8)).save(
            folder / f"{number}.png"
        )
    return folder


def _pixels(photos):
    """Returns the images as float32, with intensities from 0 to 255."""
    return np.stack([np.asarray(Image.open(path), np.float32) for path in sorted(photos.iterdir())])


def _probabilities(found):
    """Returns a list for each image: the probabilities of its classes, in order."""
    return [[score.probability for score in sorted(one.top, key=lambda score: score.index)] for one in found]


def _refusal(module, photos, **hints) -> ModuleError:
    with pytest.raises(ModuleError) as raised:
        classify(module, photos, **hints)
    return raised.value


@pytest.mark.parametrize("how", ["save", "export", "subclass", "saved_model"])
def test_a_keras_model_is_refused_without_hints(tmp_path, photos, how):
    """With hints it gives what Keras predicts: by softmax if it ends in logits, untouched if in probabilities."""
    model = write_keras_classifier(tmp_path / "m", how)
    error = _refusal(tmp_path / "m", photos)
    assert error.what == f"cannot tell how to run {tmp_path}/m on images"
    assert "looks like a Keras" in error.why
    assert "--input-range LOW HIGH" in error.fix and "--output-kind" in error.fix
    for half in ({"input_range": (-1, 1)}, {"output_kind": "probabilities"}):
        assert _refusal(tmp_path / "m", photos, **half).what == error.what
    found = classify(tmp_path / "m", photos, input_range=(-1, 1), output_kind="probabilities")
    wanted = np.asarray(model(_pixels(photos) / 127.5 - 1))
    np.testing.assert_allclose(_probabilities(found), wanted, rtol=0, atol=_TOLERANCE)
    assert np.abs(wanted - np.asarray(model(_pixels(photos) / 255))).max() > 0.05, "the range makes no difference"


def test_logits_and_features_of_a_keras_model_are_keras_own(tmp_path, photos):
    """For a model of another input range."""
    model = write_keras_classifier(tmp_path / "m", "save", softmax=False)
    logits = np.asarray(model(_pixels(photos)), np.float64)
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = classify(tmp_path / "m", photos, input_range=(0, 255), output_kind="logits")
    np.testing.assert_allclose(_probabilities(found), wanted, rtol=0, atol=_TOLERANCE)
    hints = {"input_range": (0, 255), "output_kind": "features"}
    extract_features(tmp_path / "m", photos, tmp_path / "f.npy", **hints)
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), logits, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.35, pytest.param(1.0, marks=pytest.mark.prove)])
def test_mobilenet_v2_of_keras_gives_what_keras_predicts(tmp_path, alpha):
    """Keras' own MobileNetV2, as users save it."""
    keras = keras_2()
    keras.utils.set_random_seed(2)
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=alpha, weights=None)
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1e3)  # Otherwise all classes are equally probable.
    model.save(str(tmp_path / "m"))
    (tmp_path / "in").mkdir()
    pixels = np.random.RandomState(0).randint(0, 256, [2, 96, 96, 3], np.uint8)
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.png")
    assert "Keras" in _refusal(tmp_path / "m", tmp_path / "in").why
    wanted = model.predict(keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32)), verbose=0)
    hints = {"input_range": (-1, 1), "output_kind": "probabilities"}
    found = _probabilities(classify(tmp_path / "m", tmp_path / "in", top=1000, **hints))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=_TOLERANCE)


def test_the_commands_take_hints(tmp_path, photos):
    """All three of them. A negative number is not taken for a flag."""
    model = write_keras_classifier(tmp_path / "m", "save")
    hints = ("--input-range", "-1", "1", "--output-kind", "probabilities")
    done = hubexport("classify", tmp_path / "m", photos, *hints, "--format", "json")
    wanted = np.asarray(model(_pixels(photos) / 127.5 - 1))
    found = [image["top"][0] for image in json.loads(done.stdout)["images"]]
    assert [one["index"] for one in found] == wanted.argmax(axis=1).tolist()
    for number in range(3):
        folder = tmp_path / "data" / str(wanted[number].argmax())
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{number}.png", folder)
    options = ("--data", tmp_path / "data", "--preprocessing", "whole", "--state", tmp_path / "state")
    done = hubexport("evaluate", tmp_path / "m", *options, *hints, "--format", "json")
    assert json.loads(done.stdout)["top1"]["right"] == 3, done.stderr
    done = hubexport("features", tmp_path / "m", photos, "--output", tmp_path / "f.npy", *hints[:4], "features")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), wanted, atol=_TOLERANCE)


def test_the_commands_refuse_a_keras_model_before_tensorflow_starts(tmp_path, photos):
    """Its files alone tell."""
    write_keras_classifier(tmp_path / "m", "save")
    (tmp_path / "data" / "0").mkdir(parents=True)
    shutil.copy(photos / "0.png", tmp_path / "data" / "0")
    for arguments in (
        ("classify", tmp_path / "m", photos),
        ("features", tmp_path / "m", photos, "--output", tmp_path / "f.npy"),
        ("evaluate", tmp_path / "m", "--data", tmp_path / "data", "--state", tmp_path / "state"),
    ):
        done = hubexport(*arguments)
        assert done.returncode == 1 and "this looks like a Keras SavedModel" in done.stderr
        assert "starting TensorFlow" not in done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "f.npy").exists() and not (tmp_path / "state").exists()


def _write_detector(path):
    """Writes a tf.Module that serves two results, and has no `__call__`."""

    class Detector(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])])
        def detect(self, images):
            return {"boxes": images[:, 0, 0], "scores": images[:, 1, 1]}

    module = Detector()
    tf.saved_model.save(module, str(path), {"serving_default": module.detect})


@pytest.mark.parametrize(
    ("write", "why"),
    [
        pytest.param(write_tf2_saved_model, "looks like a plain tf.Module", id="tf.Module"),
        pytest.param(write_tf1_saved_model, "looks like a TF1 SavedModel", id="TF1 for serving"),
        pytest.param(_write_detector, "object cannot be called", id="no call"),
    ],
)
def test_other_saved_models_are_refused(tmp_path, photos, write, why):
    """The error says what they look like."""
    write(tmp_path / "m")
    assert why in _refusal(tmp_path / "m", photos).why


def test_what_cannot_be_run_on_images_is_refused_despite_hints(tmp_path, photos):
    """It takes vectors, or has several results."""
    hints = {"input_range": (0, 1), "output_kind": "logits"}
    write_tf1_saved_model(tmp_path / "vectors")
    assert "not a float32 batch of RGB images" in _refusal(tmp_path / "vectors", photos, **hints).why
    _write_detector(tmp_path / "detector")
    assert "1 inputs and 2 outputs" in _refusal(tmp_path / "detector", photos, **hints).why


def _write_tf1_classifier(path, dtype=tf.float32):
    """Writes a SavedModel as TF1 programs did for serving: softmax over a sum of pixels. Returns its kernel."""
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(dtype, [None, 8, 8, 3], name="images")
        kernel = v1.get_variable("kernel", [192, 3], initializer=v1.random_normal_initializer(seed=1))
        scores = tf.nn.softmax(tf.reshape(tf.cast(images, tf.float32), [-1, 192]) @ kernel)
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"images": images}, {"scores": scores})
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
        return session.run(kernel)


def test_a_tf1_saved_model_runs_with_hints(tmp_path, photos):
    """By its signature for serving."""
    kernel = _write_tf1_classifier(tmp_path / "m").astype(np.float64)
    scores = (_pixels(photos) / 127.5 - 1).reshape(3, -1) @ kernel
    wanted = np.exp(scores - scores.max(axis=1, keepdims=True))
    found = classify(tmp_path / "m", photos, input_range=(-1, 1), output_kind="probabilities")
    np.testing.assert_allclose(
        _probabilities(found), wanted / wanted.sum(axis=1, keepdims=True), rtol=0, atol=_TOLERANCE
    )


def test_models_that_take_bytes_are_refused(tmp_path, photos):
    """Intensities in [0, 1] would become 0 and 1 on the way."""
    _write_tf1_classifier(tmp_path / "m", tf.uint8)
    hints = {"input_range": (0, 255), "output_kind": "probabilities"}
    assert "not a float32 batch" in _refusal(tmp_path / "m", photos, **hints).why


@pytest.mark.parametrize("served_as", ["logits", None])
def test_a_module_of_tfhub_classifies(tmp_path, photos, served_as):
    """It has no manifest. The name of its served output, or else its handle, tells what its output means."""
    path = tmp_path / "m" / "classification" / "4" if served_as is None else tmp_path / "m"
    module = write_reusable_saved_model(path, served_as=served_as)
    logits = np.asarray(module(_pixels(photos) / 255), np.float64)
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_probabilities(classify(path, photos)), wanted, rtol=0, atol=_TOLERANCE)
    with pytest.raises(ModuleError, match="cannot compute features") as raised:
        extract_features(path, photos, tmp_path / "f.npy")
    assert "logits of classes" in raised.value.why


@pytest.mark.parametrize("served_as", ["feature_vector", None])
def test_a_module_of_tfhub_gives_features(tmp_path, photos, served_as):
    """It is refused for classification."""
    path = tmp_path / "m" / "feature_vector" / "4" if served_as is None else tmp_path / "m"
    module = write_reusable_saved_model(path, served_as=served_as)
    extract_features(path, photos, tmp_path / "f.npy")
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), module(_pixels(photos) / 255), rtol=1e-5)
    assert "hubexport features" in _refusal(path, photos).fix


def test_a_module_that_does_not_name_its_output_needs_a_hint(tmp_path, photos):
    """Logits and features look alike."""
    module = write_reusable_saved_model(tmp_path / "m")
    assert "logits, probabilities or features" in _refusal(tmp_path / "m", photos).why
    with pytest.raises(ModuleError) as raised:
        extract_features(tmp_path / "m", photos, tmp_path / "f.npy")
    assert "--output-kind" in raised.value.fix
    extract_features(tmp_path / "m", photos, tmp_path / "f.npy", output_kind="features")
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), module(_pixels(photos) / 255), rtol=1e-5)
    logits = np.asarray(module(_pixels(photos) / 255), np.float64)
    found = classify(tmp_path / "m", photos, output_kind="logits")
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_probabilities(found), wanted, rtol=0, atol=_TOLERANCE)


def test_a_hub_module_of_tf1_must_name_its_output_too(tmp_path, photos):
    """Its output `default` may be anything."""
    write_hub_module(tmp_path / "m", resource_variables=True)
    assert "logits, probabilities or features" in _refusal(tmp_path / "m", photos).why


def test_softmax_is_never_applied_to_probabilities(tmp_path, photos):
    """Nor if a module calls them logits."""
    write_reusable_saved_model(tmp_path / "m", tf.nn.softmax, served_as="logits")
    with pytest.raises(ModuleError, match="look like probabilities, not logits") as raised:
        list(classify(tmp_path / "m", photos))
    assert "--output-kind probabilities" in raised.value.fix


@pytest.mark.parametrize(
    ("outputs", "why"), [([[0.5, -0.5, 1.0]], "some are negative"), ([[0.5, 0.5, 0.5]], "differs from 1 by 0.5")]
)
def test_what_is_not_a_probability_is_not_shown_as_one(tmp_path, outputs, why):
    """Whatever the caller's hints say."""
    module = write_reusable_saved_model(tmp_path / "m")
    interface = saved_model_interface(tmp_path / "m", hints=InterfaceHints(output_kind="probabilities"))
    with pytest.raises(ModuleError) as raised:
        class_probabilities(np.array(outputs, np.float32), interface)
    assert why in raised.value.why
    assert module is not None


@pytest.mark.parametrize("bad", [(0,), (1, 0), (0, 0), (0, float("inf")), ("0", "1"), "01", (float("nan"), 1), 3])
def test_invalid_ranges_are_refused(tmp_path, bad):
    """Before anything is opened."""
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(UsageError, match="input_range is"):
        classify("nowhere", tmp_path / "0.png", input_range=bad)
    with pytest.raises(UsageError, match="input_range is"):
        evaluate("nowhere", tmp_path, input_range=bad)


def test_unknown_kinds_of_output_are_refused(tmp_path):
    """With a guess. The command line lists the known ones."""
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(UsageError, match="did you mean 'logits'"):
        classify("nowhere", tmp_path / "0.png", output_kind="logit")
    parser = argparse.ArgumentParser()
    classify_command.add_arguments(parser)
    [action] = [action for action in parser._actions if "--output-kind" in action.option_strings]
    assert action.choices == OUTPUT_KINDS


def test_our_modules_need_no_hints(tmp_path):
    """In each version, also without the manifest and under another name."""
    names = [f"{kind}/{version}" for kind in ("classification", "feature_vector") for version in (1, 3, 4, 5)]
    specs = [ModuleSpec.parse(name) for name in names]
    variant = load_variant("mobilenet_v2_035_96")
    for name, path in zip(names, build_modules(variant, specs, checkpoint="synthetic", output_dir=tmp_path)):
        for shown_as in (path, "m"):
            interface = saved_model_interface(path, shown_as)
            assert (interface.input_range, interface.image_shape) == ((0, 1), (96, 96, 3))
            assert interface.output_kind == ("logits" if "classification" in name else "features")
            (path / "hubexport.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def open_modules(tmp_path_factory) -> dict[str, Path]:
    """Modules of MobileNet V1, whose version 1 takes images of 128 x 128 pixels, and later ones those of any size."""
    variant = load_variant("mobilenet_v1_025_128").model_copy(update={"num_classes": 7, "labels": None})
    names = [f"{kind}/{version}" for kind in ("classification", "feature_vector") for version in (1, 3, 4, 5)]
    folder = tmp_path_factory.mktemp("open")
    paths = build_modules(variant, names, checkpoint="synthetic", output_dir=folder)
    return dict(zip(names, paths, strict=True))


@pytest.mark.parametrize(
    "name", [f"{kind}/{version}" for kind in ("classification", "feature_vector") for version in (1, 3, 4, 5)]
)
def test_modules_of_any_size_have_a_default_one(tmp_path, open_modules, name):
    """Up to version 3 the module itself says it, then its manifest. The kind is known without the manifest, too."""
    path = shutil.copytree(open_modules[name], tmp_path / "m")
    version = int(name[-1])
    interface = saved_model_interface(path)
    assert interface.image_shape == (128, 128, 3)
    kind = "logits" if "classification" in name else "features"
    assert interface.output_kind == kind
    features_from = "image_feature_vector" if version <= 3 else "MobilenetV1/global_pool"
    assert interface.features_from == features_from
    hints = InterfaceHints(image_size=(96, 160))
    if version == 1:
        with pytest.raises(ModuleError, match="on images of 96 x 160") as raised:
            saved_model_interface(path, hints=hints)
        assert raised.value.why == "it takes images of 128 x 128 (height x width) pixels"
    else:
        assert saved_model_interface(path, hints=hints).image_shape == (96, 160, 3)
    (path / "hubexport.json").unlink()
    if version <= 3:
        assert saved_model_interface(path).image_shape == (128, 128, 3)
        return
    with pytest.raises(ModuleError, match="cannot tell which size") as raised:
        saved_model_interface(path)
    assert "--image-size 224 224" in raised.value.fix
    bare = saved_model_interface(path, hints=hints)
    assert (bare.image_shape, bare.output_kind, bare.features_from) == ((96, 160, 3), kind, features_from)


def test_a_default_size_that_no_image_has_is_ignored(tmp_path, open_modules):
    """Whether it is attached to the module or in its manifest."""
    path = shutil.copytree(open_modules["classification/3"], tmp_path / "m")
    content = (path / "saved_model.pb").read_bytes()
    size = ImageModuleInfo(default_image_size={"height": 128, "width": 128}).SerializeToString()
    wrong = ImageModuleInfo(default_image_size={"height": 9999, "width": 128}).SerializeToString()
    assert content.count(size) == 2 and len(size) == len(wrong)
    (path / "saved_model.pb").write_bytes(content.replace(size, wrong))
    assert saved_model_interface(path).image_shape == (128, 128, 3)
    manifest = json.loads((path / "hubexport.json").read_text())
    (path / "hubexport.json").write_text(json.dumps({**manifest, "input_height_px": 10**9}))
    with pytest.raises(ModuleError, match="cannot tell which size"):
        saved_model_interface(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classification/3", "classification/5"])
def test_features_of_a_classification_module_at_another_size(tmp_path, photos, open_modules, name):
    """They are what NumPy computes for images of that size."""
    variant = load_variant("mobilenet_v1_025_128")
    network = variant.network_for("feature_vector", 5)
    values = {variable.name: synthetic_value(variable, 0) for variable in network.variables}
    extract_features(open_modules[name], photos, tmp_path / "f.npy", image_size=(96, 160))
    pictures = np.stack([resized(Image.open(path), 96, 160) for path in sorted(photos.iterdir())])
    wanted = Forward(network, values, pictures).run()[network.features]
    np.testing.assert_allclose(np.load(tmp_path / "f.npy"), wanted, rtol=0, atol=_TOLERANCE)


@pytest.mark.slow
def test_the_commands_take_a_size(tmp_path, photos, open_modules):
    """As two numbers, height first."""
    options = ("--image-size", 96, 160, "--batch-size", 1)
    done = hubexport("classify", open_modules["classification/5"], photos, *options)
    assert "160 x 96 pixels" in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 3 * 6
    done = hubexport("classify", open_modules["classification/5"], photos, "--image-size", "96")
    assert done.returncode == 2 and "--image-size without its 2 values" in done.stderr


@pytest.mark.parametrize("run", [classify, evaluate, extract_features])
def test_images_that_are_too_small_for_the_network_are_refused_before_it_runs(tmp_path, photos, open_modules, run):
    """Its manifest names the network. That of Inception V3 needs 75 pixels, as Keras' documentation says, too."""
    path = _module_of_inception_v3(tmp_path, open_modules)
    arguments = [tmp_path / "f.npy"] * (run is extract_features)
    data = photos
    if run is evaluate:
        data = tmp_path / "classes"
        shutil.copytree(photos, data / "0")
    with pytest.raises(ModuleError, match=r"on images of 75 x 74 \(height x width\) pixels") as raised:
        list(run(path, data, *arguments, image_size=(75, 74)))
    assert raised.value.why == "its network needs images of at least 75 x 75 pixels"
    assert raised.value.fix == "use --image-size 75 75 or more, or leave it out"
    assert saved_model_interface(path, hints=InterfaceHints(image_size=(75, 75))).image_shape == (75, 75, 3)
    assert saved_model_interface(open_modules["classification/5"], hints=InterfaceHints(image_size=(1, 1)))


def test_inspect_says_from_which_size_on_images_fit(tmp_path, open_modules, capsys):
    """Of modules that take images of any size."""
    for path, shown in [
        (_module_of_inception_v3(tmp_path, open_modules), "  image size        any, from 75 x 75 pixels\n"),
        (open_modules["classification/5"], "  image size        any\n"),
        (open_modules["classification/1"], ""),
    ]:
        inspect_command.run(argparse.Namespace(path=str(path), format="text", variables=False, quiet=False))
        out = capsys.readouterr().out
        assert shown in out and ("image size" in out) == bool(shown)


def _module_of_inception_v3(folder: Path, open_modules) -> Path:
    """Returns a module whose manifest says that it is one. It is none, which the interface does not depend on."""
    path = shutil.copytree(open_modules["classification/5"], folder / "m")
    manifest = json.loads((path / "hubexport.json").read_text())
    del manifest["depth_multiplier"]
    (path / "hubexport.json").write_text(json.dumps({**manifest, "network": "inception_v3"}))
    return path


@pytest.mark.parametrize("bad", [(0, 96), (96,), (96, 96, 3), (96.0, 96), 96, "96", (9000, 96), (True, 96)])
def test_invalid_sizes_are_refused(tmp_path, bad):
    """Before anything is opened."""
    (tmp_path / "0.png").write_bytes(b"")
    for run in (classify, evaluate):
        with pytest.raises(UsageError, match="image_size is"):
            run("nowhere", tmp_path / "0.png", image_size=bad)


@pytest.mark.slow
def test_the_outputs_of_resnet_are_told_apart(tmp_path):
    """Without a manifest, by the names of its endpoints."""
    variant = load_variant("resnet_v2_50").model_copy(update={"image_size": 64, "num_classes": 7, "labels": None})
    names = ("classification/4", "feature_vector/4")
    for name, path in zip(names, build_modules(variant, names, checkpoint="synthetic", output_dir=tmp_path)):
        (path / "hubexport.json").unlink()
        interface = saved_model_interface(path, "m", InterfaceHints(image_size=(64, 64)))
        assert interface.output_kind == ("logits" if "classification" in name else "features")
        assert interface.features_from == "resnet_v2_50/global_pool"


def test_a_manifest_does_not_vouch_for_a_keras_model(tmp_path, photos):
    """The manifest of one of our modules is copied into the Keras model's directory."""
    [ours] = build_modules(
        load_variant("mobilenet_v2_035_96"), ["classification/5"], checkpoint="synthetic", output_dir=tmp_path
    )
    write_keras_classifier(tmp_path / "m", "save")
    shutil.copy(ours / "hubexport.json", tmp_path / "m")
    assert "Keras" in _refusal(tmp_path / "m", photos).why
