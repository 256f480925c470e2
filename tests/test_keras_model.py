"""Whole models for Keras 3: their description, their values, and what Keras computes with them on each backend."""

from collections import Counter
import dataclasses
import json
import zipfile

import h5py
import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.errors import CheckpointError, UsageError
from hubexport.formats.keras_model import keras_layers, write_keras_model
from hubexport.networks import ops
from hubexport.networks.family import DepthMultiplier, Parameters
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from hubexport.variants import ModuleSpec
from tests.command import hubexport
from tests.environments import FRAMEWORKS, NEWEST, python_or_skip, run_consumer

_VARIANT = "mobilenet_v2_035_96"
_CLASSES = 7
# What Keras 3 calls the variables of a role, by the number that it gives them within their layer.
_NUMBERS = {
    "Conv2D": ("kernel", "bias"),
    "DepthwiseConv2D": ("depthwise_kernel",),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "Dense": ("kernel", "bias"),
}
_GROUPS = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "BatchNormalization": "batch_normalization",
    "Dense": "dense",
}


def _network(name, size, classes=_CLASSES):
    parameters = {"mobilenet_v2": DepthMultiplier(depth_multiplier=0.35)}.get(name, Parameters())
    return FAMILIES[name].network(parameters, size, classes)


def _values(network):
    return {variable.name: synthetic_value(variable, 1) for variable in network.variables}


def _config(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))["config"]


def _layers(path):
    return {layer["name"]: layer for layer in _config(path)["layers"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The converted MobileNet V2 with made-up values."""
    folder = tmp_path_factory.mktemp("model")
    return convert("synthetic:1", folder / "model.keras", "keras", variant=load_variant(_VARIANT))


def test_layers_have_the_names_of_tf_slim(model):
    """A layer for each op that leads to the logits; `/`, which Keras reserves, is `-`."""
    network = load_variant(_VARIANT).network_for("classification")
    further = {network.features, network.endpoints[network.predictions_endpoint]}
    wanted = [op.name.replace("/", "-") for op in network.ops if op.name not in further]
    assert [*_layers(model)] == ["inputs", *wanted]
    config = _config(model)
    assert config["name"] == _VARIANT
    assert config["input_layers"] == ["inputs", 0, 0]
    assert config["output_layers"] == ["MobilenetV2-Logits-output", 0, 0]


def test_images_in_0_1_are_mapped_as_the_network_maps_them(model, tmp_path):
    """To a range, or to 255 intensities from which means are subtracted."""
    layers = _layers(model)
    assert layers["inputs"]["config"]["batch_shape"] == [None, 96, 96, 3]
    scaling = layers["MobilenetV2-input"]
    assert scaling["class_name"] == "Rescaling"
    assert (scaling["config"]["scale"], scaling["config"]["offset"]) == (2.0, -1.0)
    network = _network("vgg_16", 224)
    # Its layers are enough: its values have half a gigabyte.
    first = dataclasses.replace(network, ops=network.ops[:1], endpoints={}, features=network.ops[0].name, logits=None)
    write_keras_model(tmp_path / "vgg.keras", "vgg", first, {})
    config = _layers(tmp_path / "vgg.keras")["vgg_16-input"]["config"]
    assert (config["scale"], config["offset"]) == (255.0, [-123.68, -116.78, -103.94])


def test_layers_train_as_the_network_does(model):
    """Half the L2 loss of each variable that decays, batch norm's constants, and dropout."""
    network, layers = load_variant(_VARIANT).network_for("classification"), _layers(model)
    decaying = 0
    for op in network.ops:
        if not op.variables:
            continue
        config = layers[op.name.replace("/", "-")]["config"]
        for variable in op.variables:
            argument = {"kernel": "kernel", "depthwise_kernel": "depthwise", "bias": "bias"}.get(variable.role)
            regularizer = config.get(f"{argument}_regularizer")
            decaying += variable.weight_decay > 0
            if variable.weight_decay:
                assert regularizer["class_name"] == "L2"
                assert regularizer["config"] == {"l2": variable.weight_decay / 2}
            else:
                assert regularizer is None
        if isinstance(op, ops.BatchNorm):
            assert (config["momentum"], config["epsilon"], config["scale"]) == (0.99, 0.001, True)
    assert decaying == 36
    assert layers["MobilenetV2-Logits-Dropout"]["config"]["rate"] == 0.2


def test_the_inceptions_have_no_gamma_and_resnets_pad_explicitly():
    """As their ops say."""
    inception = keras_layers(_network("inception_v1", 64))
    scales = [layer.config["scale"] for layer in inception if layer.kind == "BatchNormalization"]
    assert scales == [False] * 57
    resnet = {layer.name: layer for layer in keras_layers(_network("resnet_v1_50", 64))}
    pad, conv = resnet["resnet_v1_50-conv1-Pad"], resnet["resnet_v1_50-conv1"]
    assert (pad.kind, pad.config["padding"]) == ("ZeroPadding2D", [(3, 3), (3, 3)])
    assert (conv.inputs, conv.config["padding"]) == ((pad.name,), "valid")


@pytest.mark.parametrize("name", ["mobilenet_v2", "inception_v1"])
def test_values_are_where_keras_looks_for_them_bit_for_bit(tmp_path, name):
    """By the number of a layer among those of its class, and of a variable within its layer."""
    network = _network(name, 64)
    values = _values(network)
    first = network.variables[0].name
    values[first].flat[:2] = [-0.0, 1e-42]
    write_keras_model(tmp_path / "model.keras", name, network, values)
    variables = {op.name.replace("/", "-"): op.variables for op in network.ops}
    counts, wanted = Counter(), {}
    for layer in _config(tmp_path / "model.keras")["layers"]:
        if kind := _GROUPS.get(layer["class_name"]):
            number, counts[kind] = counts[kind], counts[kind] + 1
            roles = {"pointwise_kernel": "kernel"}
            by_role = {roles.get(one.role, one.role): one.name for one in variables[layer["name"]]}
            names = [by_role[role] for role in _NUMBERS[layer["class_name"]] if role in by_role]
            for index, variable in enumerate(names):
                wanted[f"layers/{kind}{f'_{number}' if number else ''}/vars/{index}"] = values[variable]
    assert len(wanted) == len(network.variables)
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        archive.extract("model.weights.h5", tmp_path)
    found = {}
    with h5py.File(tmp_path / "model.weights.h5") as file:
        file.visititems(lambda path, node: found.update({path: node[()]} if isinstance(node, h5py.Dataset) else {}))
    assert found.keys() == wanted.keys()
    for path, value in wanted.items():
        assert (found[path].tobytes(), found[path].shape) == (value.tobytes(), value.shape), path


def test_the_bytes_are_the_same_at_any_time(model, tmp_path):
    """And nothing but the three files of the format is in the archive."""
    again = convert("synthetic:1", tmp_path / "again.keras", "keras", variant=load_variant(_VARIANT))
    assert again.read_bytes() == model.read_bytes()
    with zipfile.ZipFile(model) as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert [path.name for path in tmp_path.iterdir()] == ["again.keras"]


def test_the_archive_keeps_the_names_of_the_classes(model, small, tmp_path):
    """In its metadata, where Keras ignores them; none if they are unknown."""
    convert("synthetic:1", tmp_path / "small.keras", "keras", variant=small)
    found = []
    for path in (model, tmp_path / "small.keras"):
        with zipfile.ZipFile(path) as archive:
            found.append(json.loads(archive.read("metadata.json")).get("class_names"))
    assert found[0] == list(load_variant(_VARIANT).class_names())
    assert found[1] is None


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({"kind": "feature_vector"}, ["hub_output-feature_vector-SpatialSqueeze", 0, 0]),
        (
            {"endpoints": ["MobilenetV2/layer_7/output", "MobilenetV2/Predictions"]},
            {
                "MobilenetV2/Predictions": ["MobilenetV2-Predictions-Softmax", 0, 0],
                "MobilenetV2/layer_7/output": ["MobilenetV2-expanded_conv_5-output", 0, 0],
                "default": ["MobilenetV2-Logits-output", 0, 0],
            },
        ),
    ],
    ids=["features", "endpoints"],
)
def test_outputs_are_those_that_are_wanted(tmp_path, small, options, outputs):
    """With further ones they are a dictionary."""
    path = convert("synthetic:1", tmp_path / "c.keras", "keras", variant=small, **options)
    assert _config(path)["output_layers"] == outputs
    assert ("MobilenetV2-Logits-Conv2d_1c_1x1" in _layers(path)) == ("kind" not in options)


def test_the_command_line_asks_for_all_endpoints(tmp_path):
    """The archive can be inspected."""
    path = tmp_path / "c.keras"
    done = hubexport("convert", "synthetic:1", path, "--to", "keras", "--variant", _VARIANT, "--outputs", "all")
    assert done.returncode == 0, done.stderr
    network = load_variant(_VARIANT).network_for("classification")
    assert _config(path)["output_layers"].keys() == {"default", *network.endpoints}
    inspected = hubexport("inspect", path)
    assert inspected.returncode == 0, inspected.stderr
    assert "mobilenet_v2, depth multiplier 0.35" in inspected.stdout


def test_a_family_without_keras_weights_has_a_model(tmp_path):
    """From a checkpoint whose names and shapes tell it."""
    slim = convert("synthetic:1", tmp_path / "slim", "slim", variant=load_variant("mobilenet_v1_025_128"))
    layers = _layers(convert(slim, tmp_path / "c.keras", "keras"))
    assert layers["MobilenetV1-Logits-Conv2d_1c_1x1"]["config"]["filters"] == 1001
    assert layers["inputs"]["config"]["batch_shape"] == [None, 224, 224, 3]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("c.keras", {"endpoints": ["MobilenetV2/layer_77"]}, ["MobilenetV2/layer_77", "MobilenetV2/layer_1"]),
        ("c.h5", {"endpoints": "all"}, ["c.h5", ".keras"]),
        ("c.keras", {"kind": "features"}, ["features", "feature_vector"]),
        ("c.npz", {}, [".h5", ".weights.h5", ".keras"]),
    ],
    ids=["endpoint", "weights with endpoints", "kind", "name"],
)
def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path, small, name, options, words):
    """With a word on what can be."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError) as caught:
        convert("synthetic:1", tmp_path / name, "keras", variant=small, **options)
    assert all(word in str(caught.value) for word in words)
    assert sorted(tmp_path.iterdir()) == before


def test_features_alone_are_no_classification(tmp_path, small):
    """A source without a classifier cannot get one."""
    source = convert("synthetic:1", tmp_path / "slim", "slim", variant=small, kind="feature_vector")
    with pytest.raises(CheckpointError, match="no classifier"):
        convert(source, tmp_path / "c.keras", "keras", kind="classification")
    assert "hub_output-feature_vector-SpatialSqueeze" in _layers(convert(source, tmp_path / "c.keras", "keras"))


def test_a_model_needs_to_know_which_network_it_is(tmp_path):
    """Two have the variables of ResNet V1, but take other images. Files of values do not depend on that."""
    source = convert("synthetic:1", tmp_path / "slim", "slim", variant=load_variant("resnet_v1_50"))
    with pytest.raises(CheckpointError) as caught:
        convert(source, tmp_path / "c.keras", "keras")
    assert "ResNet V1 50" in str(caught.value) and "--variant" in caught.value.fix
    assert not (tmp_path / "c.keras").exists()
    convert(source, tmp_path / "c.safetensors", "safetensors")


def _run(environment, backend, cases, folder):
    """Lets Keras compute with models, and yields what it saw, what it gave, the float64 network's outputs, and more."""
    tasks, networks = [], []
    for name, size, learning_rate in cases:
        network = _network(name, size)
        write_keras_model(folder / f"{name}.keras", name, network, _values(network))
        images = np.random.default_rng(3).uniform(size=(_CLASSES, size, size, 3)).astype(np.float32)
        np.savez(folder / f"{name}.images.npz", images=images)
        tasks.append(
            {
                "backend": backend,
                "model": str(folder / f"{name}.keras"),
                "images": str(folder / f"{name}.images.npz"),
                "outputs": str(folder / f"{name}.outputs.npz"),
                "learning_rate": learning_rate,
            }
        )
        networks.append((network, images))
    seen = run_consumer(python_or_skip(environment), "run_keras_model.py", tasks, folder)
    assert int(seen["keras"].partition(".")[0]) == 3
    for task, (network, images), answer in zip(tasks, networks, seen["modules"], strict=True):
        with np.load(task["outputs"]) as outputs:
            yield network, images, answer, dict(outputs)


def _check(network, images, answer, outputs):
    """Logits, weight decay, and 20 steps of training."""
    values = _values(network)
    assert answer["layers"] == [layer.name for layer in keras_layers(network)]
    wanted = Forward(network, values, images).run([network.logits])[network.logits]
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(outputs["default"], wanted, atol=1e-4)
    decays = [
        one.weight_decay / 2 * np.square(values[one.name].astype(np.float64)).sum()
        for one in network.variables
        if one.weight_decay
    ]
    assert answer["decayed"] == len(decays)
    np.testing.assert_allclose(answer["weight_decay"], sum(decays), rtol=1e-4)
    losses = answer["losses"]
    assert losses[-1] < 0.8 * losses[0], losses
    assert [path for path in answer["unmoved"] if "moving" in path or "kernel" in path] == []


@pytest.mark.consumers
@pytest.mark.timeout(900)
def test_keras_3_computes_and_trains_on_tensorflow(tmp_path):
    """Of a family each with depthwise convolutions, with branches, and with explicit pads."""
    cases = [("mobilenet_v2", 96, 0.03), ("inception_v1", 64, 0.01), ("resnet_v1_50", 64, 0.001)]
    for seen in _run(NEWEST, "tensorflow", cases, tmp_path):
        _check(*seen)


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("environment", FRAMEWORKS, ids=lambda environment: environment.name)
def test_keras_3_computes_and_trains_on_other_backends(tmp_path, environment):
    """The same file as on TensorFlow."""
    for seen in _run(environment, environment.name, [("mobilenet_v2", 96, 0.03)], tmp_path):
        _check(*seen)


@pytest.mark.prove
@pytest.mark.timeout(1800)
def test_pytorch_averages_no_padding(tmp_path):
    """Keras on PyTorch counts padding as pixels in NASNet's own averages, where SAME pads more on one side."""
    [(network, images, _, outputs)] = _run(FRAMEWORKS[0], "torch", [("nasnet_mobile", 64, None)], tmp_path)
    wanted = Forward(network, _values(network), images).run([network.logits])[network.logits]
    np.testing.assert_allclose(outputs["default"], wanted, atol=1e-4)


@pytest.mark.consumers
@pytest.mark.timeout(900)
def test_modules_themselves_do_not_fine_tune_in_keras_3(tmp_path):
    """What the page on Keras says of other ways: one is refused, and two leave something out without a word."""
    spec = ModuleSpec.parse("feature_vector/5")
    [module] = build_modules(load_variant(_VARIANT), [spec], checkpoint="synthetic:1", output_dir=tmp_path)
    tasks = [{"path": str(module), "image_size": 96}]
    [seen] = run_consumer(python_or_skip(NEWEST), "run_keras_3_hub.py", tasks, tmp_path)["modules"]
    assert "KerasLayer" in seen["refusal"]
    assert seen["tfsm"]["moved_weights"] > 100
    assert (seen["tfsm"]["moved_averages"], seen["tfsm"]["losses"]) == (0, 0)
    assert seen["own"] == {"losses": 0, "moved_weights": 0, "moved_averages": 104}
