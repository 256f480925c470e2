"""The settings of a Hugging Face directory: refused if they change what the network computes, and read with caution."""

import json
import os
from pathlib import Path
import shutil

import numpy as np
import pytest
import safetensors.numpy

from hubexport import build_modules
from hubexport.conversion import convert
from hubexport.deployment_comparison import compare
from hubexport.description import describe
from hubexport.errors import CheckpointError
from tests.checkpoints import network_values, write_v2
from tests.command import hubexport
from tests.ear import Ear
from tests.environments import FRAMEWORKS, python_or_skip, run_consumer

# With these settings transformers computes something else, or nothing. The weights are of depth multiplier 0.35.
_REFUSED = {
    "tf_padding": ({"tf_padding": False}, "tf_padding is false, and must be true"),
    "hidden_act": ({"hidden_act": "relu"}, 'hidden_act is "relu", and must be "relu6"'),
    "output_stride 16": ({"output_stride": 16}, "output_stride is 16, and must be 32"),
    "output_stride 8": ({"output_stride": 8}, "output_stride is 8, and must be 32"),
    "output_stride 2": ({"output_stride": 2}, "output_stride is 2, and must be 32"),
    "layer_norm_eps": ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05, and must be 0.001"),
    "first_layer": ({"first_layer_is_expansion": False}, "first_layer_is_expansion is false, and must be true"),
    "expand_ratio": ({"expand_ratio": 4}, "expand_ratio is 4.0, and must be 6"),
    "depth_divisible_by": ({"depth_divisible_by": 4}, "depth_divisible_by is 4, and must be 8"),
    "min_depth": ({"min_depth": 16}, "min_depth is 16, and must be 8"),
    "finegrained_output": ({"finegrained_output": False}, "finegrained_output is false, and must be true"),
    "num_channels": ({"num_channels": 1}, "num_channels is 1, and must be 3"),
    "depth_multiplier": ({"depth_multiplier": 0.5}, "depth_multiplier is 0.5, and must be 0.35"),
    "default multiplier": ({"depth_multiplier": None}, "depth_multiplier is 1.0, and must be 0.35"),
    "segmentation": (
        {"architectures": ["MobileNetV2ForSemanticSegmentation"]},
        'architectures is ["MobileNetV2ForSemanticSegmentation"], and must be ["MobileNetV2ForImageClassification"] '
        'or ["MobileNetV2Model"]',
    ),
    "model_type": ({"model_type": "mobilenet_v1"}, 'model_type is "mobilenet_v1", and must be "mobilenet_v2"'),
    "quantization": ({"quantization_config": {"load_in_8bit": True}}, "quantization_config is given"),
}
# None leaves out a key, so that transformers uses its default.
_ALLOWED = {
    "as written": {},
    "all but depth_multiplier left out": {
        key: None for key in ("architectures", "model_type", "tf_padding", "hidden_act", "layer_norm_eps")
    },
    "output_stride 64": {"output_stride": 64},
    "epsilon in float32": {"layer_norm_eps": float(np.float32(0.001))},
    "expand_ratio 6": {"expand_ratio": 6},
    "another multiplier of the same channels": {"depth_multiplier": 0.34},
    "min_depth 4": {"min_depth": 4},
    "image_size": {"image_size": 224},
    "image_size of two": {"image_size": [96, 96]},
    "dropout": {"classifier_dropout_prob": 0.1},
    "semantic_loss_ignore_index": {"semantic_loss_ignore_index": 0},
    "initializer_range": {"initializer_range": 1.0},
    "unknown": {"a": {"b": [1, None]}},
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The settings that we write."""
    folder = tmp_path_factory.mktemp("written")
    write_v2(folder / "c", network_values())
    return convert(folder / "c", folder / "hf", "huggingface", weights="raw")


@pytest.fixture
def model(written, tmp_path):
    """A copy that the test may change."""
    return Path(shutil.copytree(written, tmp_path / "hf"))


def _change(directory, changes, file="config.json"):
    settings = {**json.loads((directory / file).read_text()), **changes}
    (directory / file).write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


@pytest.mark.parametrize(("changes", "expected"), _REFUSED.values(), ids=_REFUSED)
def test_an_unsupported_setting_is_refused(model, tmp_path, changes, expected):
    """The error gives its name, its value and the supported value, and nothing is written."""
    _change(model, changes)
    with pytest.raises(CheckpointError) as caught:
        convert(model, tmp_path / "c", "slim")
    assert caught.value.what == f"cannot use the weights of {model}"
    assert caught.value.why == "its config.json describes a network that hubexport does not have"
    assert [expected] == [detail[: len(expected)] for detail in caught.value.details]
    assert not (tmp_path / "c.index").exists()


@pytest.mark.parametrize("changes", _ALLOWED.values(), ids=_ALLOWED)
def test_a_setting_that_changes_nothing_is_accepted(model, tmp_path, changes):
    """Without a warning."""
    _change(model, changes)
    ear = Ear()
    convert(model, tmp_path / "c", "slim", progress=ear)
    assert ear.warnings == []


@pytest.mark.consumers
@pytest.mark.timeout(1800)
def test_only_refused_settings_change_what_transformers_computes(written, tmp_path):
    """PyTorch computes the logits of four noisy images."""
    images = np.random.RandomState(0).uniform(size=[4, 96, 96, 3]).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    cases = {"wanted": {}, **_ALLOWED, **{name: changes for name, (changes, _) in _REFUSED.items()}}
    tasks = []
    for number, changes in enumerate(cases.values()):
        directory = Path(shutil.copytree(written, tmp_path / f"hf{number}"))
        _change(directory, changes)
        task = {"directory": directory, "images": tmp_path / "images.npz", "outputs": tmp_path / f"out{number}.npz"}
        tasks.append({name: str(path) for name, path in task.items()})
    seen = run_consumer(python_or_skip(FRAMEWORKS[0]), "run_torch_settings.py", tasks, tmp_path)["modules"]
    logits = {}
    for name, task, facts in zip(cases, tasks, seen, strict=True):
        print(f"{name}: {facts['error'] or 'loaded'}")
        if not facts["error"]:
            with np.load(task["outputs"]) as outputs:
                logits[name] = outputs["logits"]
                print(f"    largest difference {np.abs(logits[name] - logits['wanted']).max():.2g}")
    for name in _ALLOWED:
        np.testing.assert_allclose(logits[name], logits["wanted"], rtol=0, atol=1e-4, err_msg=name)
    for name in _REFUSED:
        assert name not in logits or np.abs(logits[name] - logits["wanted"]).max() > 1e-3, name


def test_settings_are_refused_by_every_command_that_takes_values(model, small, config_dir, tmp_path):
    """inspect shows them, and exits with 1."""
    _change(model, {"tf_padding": False, "hidden_act": "relu"})
    for work in (
        lambda: build_modules(small, checkpoint=model, output_dir=tmp_path / "modules"),
        lambda: convert(model, tmp_path / "c", "slim", variant=small),
        lambda: compare(model, model),
    ):
        with pytest.raises(CheckpointError, match="cannot use the weights") as caught:
            work()
        assert len(caught.value.details) == 2
    assert describe(model).problems == tuple(f"config.json: {detail}" for detail in caught.value.details)
    done = hubexport("inspect", model)
    assert done.returncode == 1 and done.stdout.count("\n  PROBLEM           config.json: ") == 2, done.stdout
    done = hubexport("inspect", model, "--format", "json")
    assert done.returncode == 1 and len(json.loads(done.stdout)["problems"]) == 2
    done = hubexport("build", "--config-dir", config_dir, "--variant", "small", "--checkpoint", model)
    assert done.returncode == 1
    assert "tf_padding is false, and must be true" in done.stderr


def test_a_file_named_without_its_directory_has_the_same_settings(model, tmp_path):
    """Whatever the name of the file beside them."""
    _change(model, {"tf_padding": False})
    (model / "model.safetensors").rename(model / "mine.safetensors")
    with pytest.raises(CheckpointError, match="cannot use the weights"):
        convert(model / "mine.safetensors", tmp_path / "c", "slim")
    shutil.move(model / "mine.safetensors", tmp_path / "alone.safetensors")
    convert(tmp_path / "alone.safetensors", tmp_path / "c", "slim")


def test_a_config_beside_weights_with_other_names_is_ignored(model, tmp_path):
    """transformers would not load them."""
    _change(model, {"tf_padding": False, "model_type": "bert"})
    (model / "model.safetensors").write_bytes(safetensors.numpy.save(network_values()))
    convert(model, tmp_path / "c", "slim")


def test_weights_of_no_known_shape_are_explained_by_the_settings(model, tmp_path):
    """That says more than that nothing fits."""
    values = safetensors.numpy.load_file(model / "model.safetensors")
    values["mobilenet_v2.layer.3.expand_1x1.convolution.weight"] = np.zeros([40, 8, 1, 1], np.float32)
    (model / "model.safetensors").write_bytes(safetensors.numpy.save(values))
    _change(model, {"expand_ratio": 5})
    with pytest.raises(CheckpointError) as caught:
        convert(model, tmp_path / "c", "slim")
    assert caught.value.details == ("expand_ratio is 5.0, and must be 6",)


def test_an_unpublished_depth_multiplier_is_taken_from_the_settings(tmp_path):
    """Names and shapes alone cannot tell it."""
    write_v2(tmp_path / "c", network_values(0.6))
    from tests.conftest import SMALL  # The variant of a network that no config has.

    (tmp_path / "odd.yaml").write_text(SMALL.replace("0.35", "0.6"))
    flags = ("--to", "huggingface", "--variant", "odd", "--config-dir", tmp_path, "--weights", "raw")
    done = hubexport("convert", tmp_path / "c", tmp_path / "hf", *flags)
    assert done.returncode == 0, done.stderr
    back = convert(tmp_path / "hf", tmp_path / "back", "slim")
    assert compare(back, tmp_path / "c").differences == ()
    assert describe(tmp_path / "hf").family_parameters.depth_multiplier == 0.6


def test_the_size_of_the_images_stays_with_the_weights(small, model, tmp_path):
    """A converted directory keeps it, and a build for another size warns."""
    _change(model, {"image_size": 160})
    again = convert(model, tmp_path / "again", "huggingface")
    assert json.loads((again / "config.json").read_text())["image_size"] == 160
    ear = Ear()
    build_modules(small, checkpoint=model, output_dir=tmp_path / "m", progress=ear)
    assert ear.warnings == [f"{model} is for images of 160 pixels by its config.json, but small takes 96"]


# Changes, and the range to which they map the intensities 0 … 255 of images.
_NORMALIZATIONS = {
    "mean and deviation": (
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        "[-2.118, 2.249] [-2.036, 2.429] [-1.804, 2.64]",
    ),
    "one mean": ({"image_mean": 0.4, "image_std": 0.5}, "[-0.8, 1.2] [-0.8, 1.2] [-0.8, 1.2]"),
    "rescale factor": ({"rescale_factor": 1 / 127.5}, "[-1, 3] [-1, 3] [-1, 3]"),
    "not rescaled": ({"do_rescale": False}, "[-1, 509] [-1, 509] [-1, 509]"),
    "not normalized": ({"do_normalize": False}, "[0, 1] [0, 1] [0, 1]"),
    "neither": ({"do_normalize": False, "do_rescale": False}, "[0, 255] [0, 255] [0, 255]"),
}


@pytest.mark.parametrize(("changes", "ranges"), _NORMALIZATIONS.values(), ids=_NORMALIZATIONS)
def test_another_normalization_is_warned_of(model, tmp_path, changes, ranges):
    """The warning says what black and white become in red, green and blue. The values are still used."""
    _change(model, changes, "preprocessor_config.json")
    ear = Ear()
    convert(model, tmp_path / "c", "slim", progress=ear)
    [warning] = ear.warnings
    assert f"takes images to {ranges}" in warning and "but the network is to get [-1, 1]" in warning
    assert warning.startswith(f"{model / 'preprocessor_config.json'}: ")
    done = hubexport("inspect", model)
    assert done.returncode == 0 and "WARNING" in done.stderr


def test_reversed_colors_are_warned_of(model, tmp_path):
    """Some image processors give blue before red."""
    _change(model, {"do_flip_channel_order": True}, "preprocessor_config.json")
    ear = Ear()
    convert(model, tmp_path / "c", "slim", progress=ear)
    assert len(ear.warnings) == 1 and "do_flip_channel_order is true" in ear.warnings[0]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            dict.fromkeys(("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")), id="no"
        ),
        pytest.param({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, id="in one step"),
        pytest.param({"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}, id="in two others"),
        pytest.param({"image_mean": [0.5, 0.5, 0.5000001]}, id="rounded"),
        pytest.param({"do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, id="crop"),
        pytest.param({"size": {"shortest_edge": 256}, "resample": 3, "do_resize": False}, id="size"),
    ],
)
def test_the_same_normalization_in_other_words(model, tmp_path, changes):
    """No warning. How images are cropped does not matter here."""
    _change(model, changes, "preprocessor_config.json")
    ear = Ear()
    convert(model, tmp_path / "c", "slim", progress=ear)
    assert ear.warnings == []


def test_a_directory_of_weights_alone(model, tmp_path):
    """Shapes tell the depth multiplier, though transformers' default is 1."""
    (model / "config.json").unlink()
    (model / "preprocessor_config.json").unlink()
    ear = Ear()
    convert(model, tmp_path / "c", "slim", progress=ear)
    assert ear.warnings == []


def _fifo(path):
    os.mkfifo(path)


def _loop(path):
    path.symlink_to(path.name)


_BAD = {
    "empty": (b"", "is not valid JSON"),
    "no JSON": (b"tf_padding: false", "is not valid JSON"),
    "cut off": (b'{"tf_padding": fal', "is not valid JSON"),
    "not UTF-8": (b'{"a": "\xff"}', "is not valid JSON"),
    "two": (b"{}{}", "is not valid JSON"),
    "a list": (b"[]", "is not an object"),
    "a number": (b"3", "is not an object"),
    "null": (b"null", "is not an object"),
    "a key twice": (b'{"tf_padding": false, "tf_padding": true}', "the name 'tf_padding' is there twice"),
    "an inner key twice": (b'{"a": {"b": 1, "b": 2}}', "the name 'b' is there twice"),
    "a key with an escape": (b'{"\\u001b[31m": 1, "\\u001b[31m": 2}', r"the name '\x1b[31m' is there twice"),
    "NaN": (b'{"layer_norm_eps": NaN}', "holds NaN, which is no number"),
    "Infinity": (b'{"a": -Infinity}', "holds -Infinity, which is no number"),
    "too large a number": (b'{"layer_norm_eps": 1e999}', "holds 1e999, which is no number"),
    "a number of many digits": (b'{"image_size": ' + b"9" * 100_000 + b"}", "holds a number of 100000 digits"),
    "deep": (b'{"a":' * 100_000, "is nested too deeply"),
    "deep lists": (b'{"a": ' + b"[" * 500_000, "is nested too deeply"),
    "large": (b" " * (17 << 20) + b"{}", "is larger than 16 MiB"),
    "a directory": (Path.mkdir, "cannot be read: Is a directory"),
    "a pipe": (_fifo, "it is a pipe, a socket or a device"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a pipe, a socket or a device"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"),
    "a link to itself": (_loop, "cannot be read: Too many levels of symbolic links"),
}
_WRONG_TYPES = {
    "config.json": {
        **{key: value for key, value in {"tf_padding": 0, "hidden_act": 6, "output_stride": "32"}.items()},
        **{"layer_norm_eps": "0.001", "first_layer_is_expansion": "yes", "expand_ratio": [6], "num_channels": 3.5},
        **{"depth_multiplier": -1, "depth_divisible_by": 0, "min_depth": True, "finegrained_output": 1},
        **{"architectures": "MobileNetV2Model", "model_type": 2, "image_size": {"height": 96}},
    },
    "preprocessor_config.json": {
        **{"do_rescale": "no", "do_normalize": 1, "rescale_factor": "1/255", "image_mean": [0.5, 0.5]},
        **{"image_std": [0.5, 0.0, 0.5], "do_flip_channel_order": "BGR"},
    },
}


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(("content", "expected"), _BAD.values(), ids=_BAD)
def test_a_file_that_cannot_be_trusted_is_an_error(model, tmp_path, file, content, expected):
    """In bounded time and with its name; its content is not guessed."""
    (model / file).unlink()
    if isinstance(content, bytes):
        (model / file).write_bytes(content)
    else:
        content(model / file)
    for work in (lambda: convert(model, tmp_path / "c", "slim"), lambda: describe(model)):
        with pytest.raises(CheckpointError) as caught:
            work()
        assert caught.value.what == f"cannot read the settings of {model}"
        assert caught.value.why.startswith(f"{file} ") and expected in caught.value.why


@pytest.mark.parametrize(
    ("file", "key", "value"), [(file, *item) for file, items in _WRONG_TYPES.items() for item in items.items()]
)
def test_a_setting_of_a_wrong_type_is_an_error(model, tmp_path, file, key, value):
    """transformers would refuse it, or misread it."""
    _change(model, {key: value}, file)
    with pytest.raises(CheckpointError) as caught:
        convert(model, tmp_path / "c", "slim")
    assert caught.value.why.startswith(f"{file}: {key}")


def test_null_is_not_the_default(model, tmp_path):
    """transformers takes it for false."""
    text = (model / "config.json").read_text()
    (model / "config.json").write_text(text.replace('"tf_padding": true', '"tf_padding": null'))
    with pytest.raises(CheckpointError, match="cannot read the settings"):
        convert(model, tmp_path / "c", "slim")


def test_the_links_of_a_download_are_followed(model, tmp_path):
    """Hugging Face's cache consists of links to blobs."""
    (tmp_path / "snapshot").mkdir()
    for path in model.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(Path("..") / "hf" / path.name)
    convert(tmp_path / "snapshot", tmp_path / "c", "slim")
    _change(model, {"tf_padding": False})
    with pytest.raises(CheckpointError, match="cannot use the weights"):
        convert(tmp_path / "snapshot", tmp_path / "c2", "slim")
