"""The judges notice every violation of a contract: facts of a faultless module, falsified one at a time."""

import functools

import numpy as np
import pytest

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.consumers.judge import Application, ModuleContract, check_static_shapes, judge_application
from hubexport.consumers.judge_tf1 import judge_tf1
from hubexport.consumers.judge_tf2 import judge_tf2
from hubexport.networks.image_size import ImageSize
from hubexport.networks.mobilenet_v1 import mobilenet_v1
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.networks.numpy_forward import Forward, batch_statistics

_NETWORK = mobilenet_v2(0.35, 64, 7)
_HEADLESS = mobilenet_v2(0.35, 64, None)
_OPEN = mobilenet_v1(0.25, ImageSize(64, 64, is_open=True), 7)
_NOISE = np.random.RandomState(0)
_IMAGES = _NOISE.uniform(size=[4, 64, 64, 3]).astype(np.float32)
_LOGITS = _NOISE.uniform(size=[3, 7])
_FEATURES = _NOISE.uniform(size=[3, 1280])
_LAYER_7 = _NOISE.uniform(size=[3, 8, 8, 16])
_TOLERANCE = 1e-3
_EXPECTED_TF2 = {"default": _LOGITS, "MobilenetV2/layer_7": _LAYER_7}
_EXPECTED_TF1 = {**_EXPECTED_TF2, "image_feature_vector": _FEATURES}
_MOVING = [variable.name for variable in _NETWORK.variables if "/moving_" in variable.name]
_VALUES = {
    variable.name: synthetic_value(variable, 1) for network in (_NETWORK, _OPEN) for variable in network.variables
}
# The momenta of the updates that programs try, and their batches.
_MOMENTA = {1: (0.997, 0.997), 2: (0.997, 0.997), 3: (0.6, 0.6, 0.99), 4: (0.6, 0.6, 0.99), 5: (0.6, 0.6, 0.99)}


@functools.cache
def _batch_statistics():
    return [batch_statistics(_NETWORK, _VALUES, images) for images in (_IMAGES, 1 - _IMAGES)]


def _averages(version):
    """Returns the moving averages of a faultless module, before and after each update."""
    averages = [{name: _VALUES[name] for name in _MOVING}]
    for number, momentum in enumerate(_MOMENTA[version]):
        statistics = _batch_statistics()[number % 2]
        after = {name: momentum * averages[-1][name] + (1 - momentum) * statistics[name] for name in _MOVING}
        averages.append({name: value.astype(np.float32) for name, value in after.items()})
    return {f"after_{count}_updates:{name}": one[name] for count, one in enumerate(averages) for name in _MOVING}


def _output_shapes(channels):
    """Returns the shapes of all outputs; `channels` is that of the default output."""
    shapes = {key: [None, *_NETWORK.shapes[layer]] for key, layer in _NETWORK.endpoints.items()}
    return {**shapes, "default": [None, channels]}


def _tf1():
    """Returns what consume_tf1.py records of a faultless classification module of version 3."""
    results = {"default": 7, "image_classification": 7, "image_feature_vector": 1280}
    momentum = {f"{name}_with_bn_hparams": size for name, size in results.items() if name != "default"}
    signatures = sorted([*results, *momentum])
    images = {"images": [None, 64, 64, 3]}
    facts = {
        "apis": ["hub.Module", "hub.load"],
        "signatures": signatures,
        "train_signatures": list(signatures),
        "tags": [[], ["train"]],
        "expected_image_size": [64, 64],
        "knows_image_module_info": True,
        "image_module_info": True,
        "inputs": {
            name: {**images, **({"batch_norm_momentum": []} if name in momentum else {})} for name in signatures
        },
        "outputs": {name: _output_shapes(size) for name, size in (results | momentum).items()},
        "variables": [variable.name for variable in _NETWORK.variables],
        "trainable_variables": [variable.name for variable in _NETWORK.variables if variable.trainable],
        "changed_by_inference": 0,
        "update_ops_of_inference": 0,
        "error_of_reexport": 0.0,
        "error_of_load": 1e-6,
        "update_ops": [104, 104, 104],
        "changed_by_updates": [list(_MOVING) for _ in range(3)],
        "regularization_losses": 36,
        "regularization_loss": 1.000001,
        "regularization_loss_by_hand": 1.0,
        "random_outputs": ["MobilenetV2/Logits", "MobilenetV2/Predictions", "default"],
        "trainable": 158,
        "gradients": 158,
        "finite_gradients": 158,
        "losses": [0.69, 0.7, 0.5],
    }
    defaults = {"default": _LOGITS, "image_classification": _LOGITS, "image_feature_vector": _FEATURES}
    defaults |= {name: defaults[name.removesuffix("_with_bn_hparams")] for name in momentum}
    predictions = {f"{name}:default": np.float32(value) for name, value in defaults.items()}
    predictions |= {f"default:{key}": np.zeros([2, 1], np.float32) for key in _NETWORK.endpoints}
    predictions["default:MobilenetV2/layer_7"] = np.float32(_LAYER_7[:2])
    return facts, predictions | _averages(3)


def _tf2():
    """Returns what consume_tf2.py records of a faultless classification module of version 5."""
    trainable = [f"{variable.name}:0" for variable in _NETWORK.variables if variable.trainable]
    facts = {
        "apis": ["hub.load", "hub.KerasLayer"],
        "variables": [f"{variable.name}:0" for variable in _NETWORK.variables],
        "trainable_variables": trainable,
        "says_trainable": list(trainable),
        "is_keras": False,
        "signatures": {"serving_default": {"inputs": {"images": [None, 64, 64, 3]}, "outputs": {"logits": [None, 7]}}},
        "regularization_losses": 36,
        "regularization_loss": 1.000001,
        "regularization_loss_by_hand": 1.0,
        "static_shapes": _output_shapes(7),
        "arguments_by_position": True,
        "error_in_function": 0.0,
        "changed_by_inference": [],
        "changed_by_updates": [list(_MOVING) for _ in range(3)],
        "random_outputs": ["MobilenetV2/Logits", "MobilenetV2/Predictions", "default"],
        "gradients_in_inference": 158,
        "gradients_in_training": 158,
        "gradients_repeat_in_inference": True,
        "gradients_repeat_in_training": True,
        "keras_losses": 36,
        "keras_losses_of_reload": 36,
        "keras_loss_history": [2.0, 1.9],
        "keras_moved": [variable.name for variable in _NETWORK.variables],
        "keras_error_of_reload": 0.0,
        "keras_frozen_trainable": 0,
        "keras_shapes": _output_shapes(7),
        "replicas": 2,
        "replica_gradients": 2,
        "replicas_differ": True,
        "error_of_replicas_mean": 1e-7,
    }
    predictions = {"default": np.float32(_LOGITS), "serving_default:logits": np.float32(_LOGITS)}
    predictions |= {f"endpoint:{key}": np.zeros([2, 1], np.float32) for key in [*_NETWORK.endpoints, "default"]}
    predictions["endpoint:MobilenetV2/layer_7"] = np.float32(_LAYER_7[:2])
    return facts, predictions | _averages(5)


def _faultless(judge):
    return _tf1() if judge is judge_tf1 else _tf2()


@functools.cache
def _contract(version, headless):
    expected = {"default": _LOGITS} if headless else _EXPECTED_TF1 if version <= 3 else _EXPECTED_TF2
    return ModuleContract(version, _HEADLESS if headless else _NETWORK, _IMAGES, _VALUES, expected, _TOLERANCE)


def _judge(judge, facts, predictions, version=None, headless=False):
    """Judges by the contract of the faultless module, unless the arguments say otherwise."""
    return judge(facts, predictions, _contract(version or (3 if judge is judge_tf1 else 5), headless))


@pytest.mark.parametrize("judge", [judge_tf1, judge_tf2])
def test_a_faultless_module_has_no_problems(judge):
    """Or the other tests would prove nothing. The largest error comes from rounding to float32."""
    judgement = _judge(judge, *_faultless(judge))
    assert judgement.problems == ()
    assert 0 < judgement.largest_error < 1e-7


def test_facts_that_a_consumer_cannot_record_are_not_required():
    """Without hub.Module, or without fine-tuning of a TF2 module."""
    facts, predictions = _tf1()
    facts = {"apis": ["hub.load"], "signatures": facts["signatures"]}
    assert _judge(judge_tf1, facts, predictions).problems == ()
    facts, predictions = _tf2()
    of_fine_tuning = ("keras_", "replica", "error_of_replicas", "gradients_repeat")
    facts = {key: value for key, value in facts.items() if not key.startswith(of_fine_tuning)} | {"apis": ["hub.load"]}
    assert _judge(judge_tf2, facts, predictions).problems == ()


def test_contracts_of_older_modules_require_less():
    """Momentum and attachment come with version 3, a signature of TF2 modules with version 5."""
    facts, predictions = _tf1()
    for key in ("signatures", "train_signatures"):
        facts[key] = ["default", "image_classification", "image_feature_vector"]
    facts["image_module_info"] = False
    of_three_updates = {key: facts[key] for key in ("update_ops", "changed_by_updates")}
    facts |= {key: value[:2] for key, value in of_three_updates.items()}
    predictions = {key: value for key, value in predictions.items() if "_with_bn_hparams" not in key}
    predictions |= _averages(2)
    assert _judge(judge_tf1, facts, predictions, version=2).problems == ()
    assert len(_judge(judge_tf1, facts | of_three_updates, predictions, version=3).problems) > 2
    facts, predictions = _tf2()
    facts["signatures"] = {}
    predictions.pop("serving_default:logits")
    assert _judge(judge_tf2, facts, predictions, version=4).problems == ()
    assert len(_judge(judge_tf2, facts, predictions, version=5).problems) == 1


def test_a_feature_vector_module_must_have_no_classifier():
    """Everything that belongs to the classifier is a problem."""
    problems = _judge(judge_tf1, *_tf1(), headless=True).problems
    for problem in (
        "variables: unexpected MobilenetV2/Logits/Conv2d_1c_1x1/biases, MobilenetV2/Logits/Conv2d_1c_1x1/weights",
        "signatures: unexpected image_classification, image_classification_with_bn_hparams",
        "outputs: unexpected MobilenetV2/Logits, MobilenetV2/Predictions",
        "signatures default and image_feature_vector predict differently",
        "regularization losses: 36, expected 35",
        "variables with a gradient: 158, expected 156",
        "outputs that differ between runs in training mode: "
        "unexpected MobilenetV2/Logits, MobilenetV2/Predictions, default",
    ):
        assert problem in problems


_FALSE_FACTS_TF1 = {
    "signatures": ("default", "signatures: missing default"),
    "train_signatures": ("default", "signatures of the graph version for training: missing default"),
    "tags": ([[]], "tags of the graph versions: [[]], expected [[], ['train']]"),
    "expected_image_size": (
        [64, 96],
        "image size that hub.get_expected_image_size returns: [64, 96], expected [64, 64]",
    ),
    "image_module_info": (False, "has an image_module_info: False, expected True"),
    "variables": ("MobilenetV2/Conv/weights", "variables: missing MobilenetV2/Conv/weights"),
    "trainable_variables": ("MobilenetV2/Conv/weights", "trainable variables: missing MobilenetV2/Conv/weights"),
    "changed_by_inference": (1, "variables changed by inference: 1, expected 0"),
    "update_ops_of_inference": (104, "update ops in the graph version for inference: 104, expected 0"),
    "error_of_reexport": (0.1, "predictions of the module that Module.export wrote: off by 0.1, limit 1e-06"),
    "error_of_load": (float("nan"), "predictions of hub.load against hub.Module: off by nan, limit 2e-05"),
    "update_ops": ([104, 0, 104], "update ops of each application: [104, 0, 104], expected [104, 104, 104]"),
    "regularization_losses": (53, "regularization losses: 53, expected 36"),
    "regularization_loss": (
        1.1,
        "sum of the regularization losses, relative to the sum by hand: off by 0.1, limit 1e-05",
    ),
    "random_outputs": ("default", "outputs that differ between runs in training mode: missing default"),
    "trainable": (262, "trainable variables in training: 262, expected 158"),
    "gradients": (157, "variables with a gradient: 157, expected 158"),
    "finite_gradients": (157, "gradients that are finite and nonzero: 157, expected 158"),
    "losses": ([0.69, 0.689], "fine-tuning: the loss does not fall: it goes from 0.69 to 0.689"),
}
_FALSE_FACTS_TF2 = {
    "variables": ("MobilenetV2/Conv/weights:0", "variables: missing MobilenetV2/Conv/weights:0"),
    "trainable_variables": ("MobilenetV2/Conv/weights:0", "trainable_variables: missing MobilenetV2/Conv/weights:0"),
    "says_trainable": (
        "MobilenetV2/Conv/weights:0",
        "variables marked as trainable: missing MobilenetV2/Conv/weights:0",
    ),
    "is_keras": (True, "it is a Keras object"),
    "regularization_losses": (53, "regularization losses: 53, expected 36"),
    "regularization_loss": (
        0.9,
        "sum of the regularization losses, relative to the sum by hand: off by 0.1, limit 1e-05",
    ),
    "arguments_by_position": (False, "positional arguments give other predictions"),
    "error_in_function": (0.5, "predictions in a tf.function: off by 0.5, limit 1e-06"),
    "changed_by_inference": (["x/gamma"], "variables changed by inference: unexpected x/gamma"),
    "random_outputs": ("default", "outputs that differ between runs in training mode: missing default"),
    "gradients_in_inference": (0, "gradients in inference that are finite and nonzero: 0, expected 158"),
    "gradients_in_training": (157, "gradients in training that are finite and nonzero: 157, expected 158"),
    "gradients_repeat_in_inference": (False, "a persistent tape in inference gives other gradients the second time"),
    "gradients_repeat_in_training": (False, "a persistent tape in training gives other gradients the second time"),
    "keras_losses": (0, "losses of the Keras model: 0, expected 36"),
    "keras_losses_of_reload": (0, "losses of the reloaded Keras model: 0, expected 36"),
    "keras_loss_history": (
        [2.0, float("nan")],
        "fine-tuning with Keras: the loss does not fall: it goes from 2 to nan",
    ),
    "keras_moved": (
        "MobilenetV2/Conv/weights",
        "variables changed by fine-tuning with Keras: missing MobilenetV2/Conv/weights",
    ),
    "keras_error_of_reload": (1.0, "predictions of the reloaded Keras model: off by 1, limit 1e-06"),
    "keras_frozen_trainable": (158, "trainable variables of a frozen KerasLayer: 158, expected 0"),
    "replica_gradients": (1, "replicas with gradients: 1, expected 2"),
    "replicas_differ": (False, "replicas have the same moving averages although they saw different images"),
    "error_of_replicas_mean": (
        0.1,
        "relative error in the mean of the replicas' moving averages: off by 0.1, limit 1e-05",
    ),
}


@pytest.mark.parametrize(
    ("judge", "key", "value", "problem"),
    [
        pytest.param(judge, key, value, problem, id=f"{name} {key}")
        for name, judge, cases in (("tf1", judge_tf1, _FALSE_FACTS_TF1), ("tf2", judge_tf2, _FALSE_FACTS_TF2))
        for key, (value, problem) in cases.items()
    ],
)
def test_each_false_fact_is_one_problem(judge, key, value, problem):
    """A list of names loses the named one; other facts are replaced."""
    facts, predictions = _faultless(judge)
    if isinstance(value, str):
        facts[key].remove(value)
    else:
        facts[key] = value
    assert _judge(judge, facts, predictions).problems == (problem,)


@pytest.mark.parametrize(
    ("judge", "path", "value", "problem"),
    [
        pytest.param(
            judge_tf1,
            ["inputs", "default", "images"],
            [None, 96, 96, 3],
            "inputs of signature default: {'images': [None, 96, 96, 3]}, expected {'images': [None, 64, 64, 3]}",
            id="tf1 input shape",
        ),
        pytest.param(
            judge_tf1,
            ["outputs", "image_feature_vector", "default"],
            [None, 7],
            "shape of output default of signature image_feature_vector: [None, 7], expected [None, 1280]",
            id="tf1 output shape",
        ),
        pytest.param(
            judge_tf1,
            ["outputs", "default", "MobilenetV2/layer_20"],
            [None, 7],
            "outputs of signature default: unexpected MobilenetV2/layer_20",
            id="tf1 output",
        ),
        pytest.param(
            judge_tf1,
            ["changed_by_updates", 1],
            [*_MOVING, "x/gamma"],
            "variables changed by update 2, with given momentum: unexpected x/gamma",
            id="tf1 what moves",
        ),
        pytest.param(
            judge_tf2,
            ["changed_by_updates", 2],
            _MOVING[1:],
            f"variables changed by update 3, with default momentum: missing {_MOVING[0]}",
            id="tf2 what moves",
        ),
        pytest.param(
            judge_tf2,
            ["signatures"],
            {},
            "signatures: {}, expected {'serving_default': {'inputs': {'images': [None, 64, 64, 3]}, "
            "'outputs': {'logits': [None, 7]}}}",
            id="tf2 no signature",
        ),
        pytest.param(
            judge_tf2,
            ["static_shapes", "MobilenetV2/layer_7"],
            [None, None, None, 16],
            "shape of endpoint MobilenetV2/layer_7 in a tf.function: [None, None, None, 16], expected [None, 8, 8, 16]",
            id="tf2 static shape",
        ),
        pytest.param(
            judge_tf2,
            ["static_shapes", "x"],
            [None],
            "endpoints in a tf.function: unexpected x",
            id="tf2 static endpoint",
        ),
        pytest.param(
            judge_tf2,
            ["keras_shapes", "MobilenetV2/layer_18"],
            [None, 4, 4, 112],
            "shape of endpoint MobilenetV2/layer_18 in Keras: [None, 4, 4, 112], expected [None, 2, 2, 112]",
            id="tf2 shape in Keras",
        ),
    ],
)
def test_each_false_part_of_a_fact_is_one_problem(judge, path, value, problem):
    """Within signatures, shapes and moving averages."""
    facts, predictions = _faultless(judge)
    fact = facts
    for key in path[:-1]:
        fact = fact[key]
    fact[path[-1]] = value
    assert _judge(judge, facts, predictions).problems == (problem,)


def _nudged(array):
    nudged = array.copy()
    nudged.flat[5] += 0.25
    return nudged


@pytest.mark.parametrize(
    ("judge", "key", "problems"),
    [
        pytest.param(
            judge_tf1,
            "default:default",
            [
                "predictions of default:default: off by 0.25, limit 0.001",
                "signatures default and image_classification predict differently",
            ],
            id="tf1 default",
        ),
        pytest.param(
            judge_tf1,
            "default:MobilenetV2/layer_7",
            ["predictions of default:MobilenetV2/layer_7: off by 0.25, limit 0.001"],
            id="tf1 endpoint",
        ),
        pytest.param(
            judge_tf1,
            "image_feature_vector_with_bn_hparams:default",
            ["signatures image_feature_vector_with_bn_hparams and image_feature_vector predict differently"],
            id="tf1 with momentum",
        ),
        pytest.param(
            judge_tf2,
            "endpoint:MobilenetV2/layer_7",
            ["predictions of MobilenetV2/layer_7: off by 0.25, limit 0.001"],
            id="tf2 endpoint",
        ),
        pytest.param(
            judge_tf2,
            "serving_default:logits",
            ["predictions of serving_default: off by 0.25, limit 1e-06"],
            id="tf2 served",
        ),
    ],
)
def test_one_number_beyond_the_tolerance_is_a_problem(judge, key, problems):
    """In whatever output."""
    facts, predictions = _faultless(judge)
    predictions[key] = _nudged(predictions[key])
    assert list(_judge(judge, facts, predictions).problems) == problems


@pytest.mark.parametrize("value", [np.full([3, 7], np.nan, np.float32), np.zeros([3, 8], np.float32)])
def test_an_output_that_cannot_be_compared_is_a_problem(value):
    """NaN, or another shape."""
    facts, predictions = _tf2()
    predictions["default"] = value
    judgement = _judge(judge_tf2, facts, predictions)
    assert np.isnan(judgement.largest_error)
    assert judgement.problems[0] == "predictions of default: off by nan, limit 0.001"


@pytest.mark.parametrize(
    ("judge", "key", "problems"),
    [
        pytest.param(
            judge_tf1,
            "default:MobilenetV2/layer_7",
            ("output default:MobilenetV2/layer_7 is missing", "outputs: missing MobilenetV2/layer_7"),
            id="tf1",
        ),
        pytest.param(
            judge_tf2,
            "endpoint:MobilenetV2/layer_7",
            ("output MobilenetV2/layer_7 is missing", "endpoints: missing MobilenetV2/layer_7"),
            id="tf2",
        ),
    ],
)
def test_a_missing_output_is_a_problem(judge, key, problems):
    """One as an output whose values are expected, and one as a name."""
    facts, predictions = _faultless(judge)
    del predictions[key]
    assert _judge(judge, facts, predictions).problems == problems


# In the last layer, of all images together.
_PIXELS = 4 * 2 * 2


@pytest.mark.parametrize("fault", ["momentum", "biased variance", "another batch", "no step", "missing"])
@pytest.mark.parametrize("judge", [judge_tf1, judge_tf2])
def test_each_fault_of_the_moving_averages_is_a_problem(judge, fault):
    """In the last variance, which comes after all other layers, at the third update, which has the default momentum."""
    facts, predictions = _faultless(judge)
    name = _MOVING[-1]
    before, after = (predictions[f"after_{count}_updates:{name}"].astype(np.float64) for count in (2, 3))
    wrong = {
        "momentum": before + (after - before) * (1 - 0.99) / (1 - 0.9905),
        "biased variance": after - 0.01 * _batch_statistics()[0][name] / _PIXELS,
        "another batch": 0.99 * before + 0.01 * _batch_statistics()[1][name],
        "no step": before,
    }
    if fault == "missing":
        del predictions[f"after_3_updates:{name}"]
    else:
        predictions[f"after_3_updates:{name}"] = wrong[fault].astype(np.float32)
    [problem] = _judge(judge, facts, predictions).problems
    what = f"relative error in the step of {name} in update 3, with default momentum: off by"
    assert problem.startswith(what if fault != "missing" else f"moving average {name} is missing in update 3")


def _open_contract():
    images = np.pad(_IMAGES[:2, 9:], [(0, 0), (0, 0), (0, 9), (0, 0)], "reflect")
    expected = Forward(_OPEN, _VALUES, images).run()[_OPEN.logits]
    return ModuleContract(5, _OPEN, _IMAGES, _VALUES, {"default": _LOGITS}, _TOLERANCE), images, expected


def test_modules_of_any_size_are_tried_on_another_size():
    """Lower and wider images; modules of one size are not. Their static shapes may be unknown."""
    contract, images, expected = _open_contract()
    np.testing.assert_array_equal(contract.other_images, images)
    assert images.shape == (2, 55, 73, 3)
    outputs = [np.float32(_LOGITS), np.float32(expected)]
    assert judge_application("hub.load", Application(outputs, (137, 137)), contract).problems == ()
    wrong = Application([outputs[0], outputs[1] + 1], (137, 137))
    [problem] = judge_application("hub.load", wrong, contract).problems
    assert problem == "predictions of hub.load at another size: off by 1, limit 0.001"
    assert ModuleContract(5, _NETWORK, _IMAGES, _VALUES, {}, _TOLERANCE).other_images is None


@pytest.mark.parametrize(
    ("lengths", "problems"),
    [
        ([32, 32], []),
        ([None, None], []),
        ([16, 16], ["shape of endpoint MobilenetV1/Conv2d_0 in x: [None, 16, 16, 8], expected [None, 32, 32, 8]"]),
    ],
)
def test_open_lengths_may_be_known_or_unknown(lengths, problems):
    """TensorFlows differ in what they infer. A wrong length is a problem."""
    contract, _, _ = _open_contract()
    shapes = contract.output_shapes() | {"MobilenetV1/Conv2d_0": [None, *lengths, 8]}
    assert list(check_static_shapes("x", shapes, contract)) == problems


def test_dropout_is_tried_until_chance_is_ruled_out():
    """MobileNet V1 keeps 0.999 of 256 features, V2 keeps 0.8 of 1280; a feature vector module drops nothing."""
    contract, _, _ = _open_contract()
    assert contract.random_outputs == ["default", "MobilenetV1/Logits", "MobilenetV1/Predictions"]
    assert 0.999 ** (2 * 256 * (contract.dropout_runs - 1)) < 1e-6 < 0.999 ** (2 * 256 * (contract.dropout_runs - 2))
    others = [ModuleContract(5, network, _IMAGES, _VALUES, {}, _TOLERANCE) for network in (_NETWORK, _HEADLESS)]
    assert [other.dropout_runs for other in others] == [2, 2]
    assert others[1].random_outputs == []


def test_gradients_are_taken_until_no_path_was_always_dropped():
    """PNASNet-5 keeps 0.6 in its last cell, and none of 126 paths for all of four images with a chance of 0.4^4."""
    network = load_variant("pnasnet_large").network_for("feature_vector")
    contract = ModuleContract(5, network, np.zeros([9, 331, 331, 3], np.float32), {}, {}, _TOLERANCE)
    assert 126 * 0.4 ** (4 * contract.gradient_runs) < 1e-6 < 126 * 0.4 ** (4 * (contract.gradient_runs - 1))
    assert {name.partition("/")[0] for name in contract.certain_statistics} == {
        "conv0_bn",
        "cell_stem_0",
        "cell_stem_1",
    }
    unaffected = ModuleContract(5, _HEADLESS, _IMAGES, _VALUES, {}, _TOLERANCE)
    assert (unaffected.gradient_runs, unaffected.certain_statistics) == (1, unaffected.statistics)


@pytest.mark.parametrize(("variant", "modes"), [("inception_v3", (False, True)), ("nasnet_mobile", ())])
def test_persistent_tapes_are_left_out_where_they_take_minutes(variant, modes):
    """Their time grows faster than the number of ops: 317 are tried, 914 are not."""
    network = load_variant(variant).network_for("feature_vector")
    assert ModuleContract(5, network, _IMAGES, {}, {}, _TOLERANCE).persistent_modes == modes


def test_an_application_is_judged_by_predictions_and_numbers_of_variables():
    """It must predict right, and a second application must not add variables."""
    contract = ModuleContract(5, _NETWORK, _IMAGES, _VALUES, {"default": _LOGITS}, _TOLERANCE)
    outputs = [np.float32(_LOGITS)]
    assert judge_application("hub.load", Application(outputs, (262, 262)), contract).problems == ()
    judgement = judge_application("hub.load", Application([_nudged(outputs[0])], (262, 262)), contract)
    assert judgement.problems == ("predictions of hub.load: off by 0.25, limit 0.001",)
    assert judgement.largest_error == pytest.approx(0.25, abs=1e-6)
    assert judge_application("hub.load", Application(outputs, (260, 524)), contract).problems == (
        "variables with hub.load: 260, expected 262",
        "variables after a second application with hub.load: 524, expected 260",
    )


def test_problems_list_few_names_and_escape_them():
    """Names come from the module, and may contain escape sequences that a terminal would obey."""
    facts, predictions = _tf1()
    facts["variables"] = [*facts["variables"], *(f"\x1b[31m{number}" for number in range(5))]
    [problem] = _judge(judge_tf1, facts, predictions).problems
    assert problem == r"variables: unexpected \x1b[31m0, \x1b[31m1, \x1b[31m2 and 2 more"
    facts["variables"] = [variable.name for variable in _NETWORK.variables] + ["MobilenetV2/Conv/weights"]
    problems = _judge(judge_tf1, facts, predictions).problems
    assert problems == ("variables: unexpected MobilenetV2/Conv/weights",)
