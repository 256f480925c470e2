"""Each op means the same in every interpreter: shapes, costs, NumPy, TensorFlow, Keras, ONNX, TF.js and TFLite."""

import dataclasses

import numpy as np
import pytest

from hubexport.deployments import onnx_model, tfjs_model, tflite_model
from hubexport.deployments.inference_model import inference_model
from hubexport.deployments.options import OnnxOptions, TfjsOptions, TfliteOptions
from hubexport.deployments.tfjs_files import read_tfjs_model
from hubexport.formats import keras_model, op_nodes
from hubexport.formats.nodes import FLOAT, FunctionWriter, GraphWriter, shape_attr
from hubexport.layouts import steps
from hubexport.networks import costs, numpy_forward, ops, shapes
from hubexport.networks.folding import FOLDED
from hubexport.networks.network import Network
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.ops import Op, Variable
from tests import tflite_models
from tests.node import run_tfjs


def _all_ops(base: type = Op) -> set[type]:
    return {op for kind in base.__subclasses__() for op in {kind, *_all_ops(kind)}}


def _variable(name, *shape, role="kernel"):
    return Variable(name, shape, role, trainable=not role.startswith("moving"))


def _batch_norm(gamma=True):
    return ops.BatchNorm(
        "op",
        ("images",),
        "op",
        beta=_variable("beta", 3, role="beta"),
        gamma=_variable("gamma", 3, role="gamma") if gamma else None,
        moving_mean=_variable("moving_mean", 3, role="moving_mean"),
        moving_variance=_variable("moving_variance", 3, role="moving_variance"),
        epsilon=1e-3,
    )


def _conv(height, width, bias=True, **more):
    return ops.Conv(
        "op",
        ("images",),
        "op",
        kernel=_variable("weights", height, width, 3, 4),
        bias=_variable("biases", 4, role="bias") if bias else None,
        **more,
    )


def _depthwise_conv(multiplier, **more):
    return ops.DepthwiseConv(
        "op",
        ("images",),
        "op",
        kernel=_variable("weights", 3, 3, 3, multiplier, role="depthwise_kernel"),
        bias=_variable("biases", 3 * multiplier, role="bias"),
        **more,
    )


def _one(op, *inputs, **more):
    return op("op", inputs or ("images",), "op", **more)


def _activation(kind):
    return _one(ops.Activation, kind=kind)


# What each op is tried with. Images are 7 x 6 pixels, so that SAME pads more on one side.
_CASES = {
    "conv": [_conv(3, 3)],
    "conv without bias": [_conv(1, 1, bias=False)],
    "conv with stride": [_conv(3, 5, stride=(2, 2))],
    "valid conv": [_conv(3, 2, padding="VALID", stride=(2, 1))],
    "conv of one pixel": [
        ops.Mean("pooled", ("images",), "pooled"),
        dataclasses.replace(_conv(1, 1), inputs=("pooled",)),
    ],
    "conv of the whole image": [_conv(7, 6, padding="VALID")],
    "conv as large as the image": [_conv(7, 6)],
    "depthwise conv": [_one(ops.DepthwiseConv, kernel=_variable("weights", 3, 3, 3, 1), stride=(2, 2))],
    "depthwise conv with multiplier": [_one(ops.DepthwiseConv, kernel=_variable("weights", 3, 3, 3, 2))],
    "depthwise conv with bias": [_depthwise_conv(2)],
    "batch norm": [_batch_norm()],
    "batch norm without gamma": [_batch_norm(gamma=False)],
    **{kind: [_activation(kind)] for kind in ("relu", "relu6", "hard_sigmoid", "hard_swish")},
    "padded conv": [
        _one(ops.Pad, before=(1, 2), after=(2, 0)),
        dataclasses.replace(_conv(3, 3, padding="VALID", stride=(2, 2)), name="padded", inputs=("op",)),
    ],
    "padded depthwise conv": [
        _one(ops.Pad, before=(2, 1), after=(0, 1)),
        dataclasses.replace(_depthwise_conv(1, padding="VALID", stride=(2, 2)), name="padded", inputs=("op",)),
    ],
    "conv with activation": [_conv(3, 3), ops.Activation("active", ("op",), "op", kind="relu")],
    "depthwise conv with activation": [
        _depthwise_conv(2),
        ops.Activation("active", ("op",), "op", kind="relu6"),
    ],
    "conv with activation without bias": [
        _conv(3, 3, bias=False),
        ops.Activation("active", ("op",), "op", kind="relu"),
    ],
    "conv that others need before its activation": [
        _conv(3, 3),
        ops.Activation("active", ("op",), "op", kind="relu6"),
        ops.Add("sum", ("op", "active"), "op"),
    ],
    "max pool": [_one(ops.Pool, kind="max", window=(3, 3), stride=(2, 2))],
    "max pool of one pixel": [_one(ops.Pool, kind="max", window=(1, 1), stride=(2, 2))],
    "average pool": [_one(ops.Pool, kind="average", window=(3, 3))],
    "average pool with stride": [_one(ops.Pool, kind="average", window=(3, 3), stride=(2, 2))],
    "average pool with other strides": [_one(ops.Pool, kind="average", window=(5, 3), stride=(3, 2))],
    "valid average pool": [_one(ops.Pool, kind="average", window=(7, 6), padding="VALID")],
    "mean": [_one(ops.Mean)],
    "pad": [_one(ops.Pad, before=(1, 2), after=(3, 0))],
    "slice": [_one(ops.Slice, begin=(1, 2))],
    "concat": [_activation("relu"), dataclasses.replace(_one(ops.Concat, "images", "op"), name="both")],
    "add": [_activation("relu"), dataclasses.replace(_one(ops.Add, "images", "op"), name="both")],
    "multiply": [_one(ops.Mean), dataclasses.replace(_one(ops.Multiply, "images", "op"), name="both")],
    "scale": [_one(ops.Scale, factor=0.17)],
    "matmul": [
        ops.Mean("pooled", ("images",), "pooled"),
        ops.Squeeze("row", ("pooled",), "row"),
        _one(ops.MatMul, "row", kernel=_variable("weights", 3, 4), bias=_variable("biases", 4, role="bias")),
    ],
    "squeeze": [_one(ops.Mean), dataclasses.replace(_one(ops.Squeeze, "op"), name="row")],
    "softmax": [
        ops.Mean("pooled", ("images",), "pooled"),
        ops.Squeeze("row", ("pooled",), "row"),
        _one(ops.Softmax, "row"),
    ],
    "dropout": [_one(ops.Dropout, keep_prob=0.5)],
    "drop path": [_one(ops.DropPath, keep_prob=0.5)],
    "identity": [_one(ops.Identity)],
}


def _network(case, size=(7, 6)):
    images = ops.Input("images", (), "images", shape=(*size, 3))
    sequence = (images, *_CASES[case])
    return Network(sequence, {}, "op", None, (7, 6), (0.0, 1.0))


def _values(network):
    generator = np.random.default_rng(1)
    values = {one.name: generator.normal(0, 2, one.shape).astype(np.float32) for one in network.variables}
    return values | {one.name: values[one.name] ** 2 for one in network.variables if one.role == "moving_variance"}


def _images():
    return np.random.default_rng(2).normal(0, 4, (2, 7, 6, 3)).astype(np.float32)


def test_every_op_is_tried():
    """Or the tests below would say nothing of a new one."""
    tried = {type(op) for sequence in _CASES.values() for op in sequence}
    assert tried == _all_ops() - {ops.Input}


@pytest.mark.parametrize(
    "interpreter", [shapes, costs, numpy_forward, keras_model, steps], ids=lambda module: module.__name__
)
def test_every_interpreter_knows_every_op(interpreter):
    """A new op cannot be forgotten anywhere."""
    assert set(interpreter.RULES) == _all_ops()


def test_the_node_writer_knows_every_op():
    """The input is the one op that others write: the module's own placeholder."""
    assert set(op_nodes.RULES) == _all_ops() - {ops.Input}


@pytest.mark.parametrize("writer", [onnx_model, tfjs_model, tflite_model], ids=lambda module: module.__name__)
def test_writers_of_deployments_know_every_op_that_folding_leaves(writer):
    """A folded network has no others."""
    assert set(writer.RULES) == _all_ops() - set(FOLDED)


def _model_of(case, size, options):
    """Returns a model whose endpoint `key` is a case, and what that must be; the model's own output is a vector."""
    network = _network(case, size)
    values = _values(network)
    last = network.ops[-1].name
    wanted = Forward(network, values, _images()).run()[last]
    pooled = (ops.Mean("its_mean", (last,), "end"), ops.Squeeze("its_row", ("its_mean",), "end"))
    network = dataclasses.replace(
        network,
        ops=(*network.ops, *(pooled if wanted.ndim == 4 else ())),
        features="its_row" if wanted.ndim == 4 else last,
        endpoints={"key": last},
    )
    return inference_model("name", network, values, options, endpoints=["key"]), wanted


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.parametrize("size", [(7, 6), (None, None)], ids=["fixed", "open"])
@pytest.mark.parametrize("options", [OnnxOptions(), OnnxOptions(opset=13, layout="nchw")], ids=["17", "13"])
def test_ops_mean_what_onnx_runtime_computes(case, size, options):
    """As an endpoint; the model's own output is a vector."""
    import onnxruntime

    inference, wanted = _model_of(case, size, options)
    model = onnx_model.onnx_model(inference, options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = _images()
    if options.layout == "nchw":
        images, wanted = images.transpose(0, 3, 1, 2), np.moveaxis(wanted, -1, 1)
    found, row = session.run(["key", "feature_vector"], {"images": images})
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    if wanted.ndim == 4:
        means = wanted.mean(axis=(1, 2) if options.layout == "nhwc" else (2, 3))
        np.testing.assert_allclose(row, means, rtol=2e-5, atol=2e-5)


def _check_tfjs_outputs(outputs, wanted):
    assert [*outputs] == ["feature_vector", "key"]
    assert outputs["key"].shape == wanted.shape
    np.testing.assert_allclose(outputs["key"], wanted, rtol=2e-5, atol=2e-5)
    row = wanted.mean(axis=(1, 2)) if wanted.ndim == 4 else wanted
    np.testing.assert_allclose(outputs["feature_vector"], row, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.parametrize("size", [(7, 6), (None, None)], ids=["fixed", "open"])
def test_ops_mean_what_graph_models_of_tfjs_compute(case, size, tmp_path):
    """In TensorFlow, with the ops that only TF.js has taken apart."""
    from hubexport.runtime.tfjs_graph import opened_tfjs_graph

    model, wanted = _model_of(case, size, TfjsOptions())
    tfjs_model.write_tfjs_model(tmp_path / "model", model, TfjsOptions())
    with opened_tfjs_graph(read_tfjs_model(tmp_path / "model")) as graph:
        outputs = graph.run({"images": _images()}, ["feature_vector", "key"])
    _check_tfjs_outputs(outputs, wanted)


@pytest.mark.consumers
@pytest.mark.parametrize("backend", ["cpu", "wasm"])
@pytest.mark.parametrize("size", [(7, 6), (None, None)], ids=["fixed", "open"])
def test_ops_mean_what_tfjs_computes(backend, size, tmp_path):
    """All cases at once, since Node takes long to start."""
    folders = {case: tmp_path / str(number) for number, case in enumerate(_CASES)}
    wanted = {}
    for case, folder in folders.items():
        model, wanted[case] = _model_of(case, size, TfjsOptions())
        tfjs_model.write_tfjs_model(folder, model, TfjsOptions())
    for case, seen in zip(folders, run_tfjs([*folders.values()], _images(), backend, tmp_path), strict=True):
        _check_tfjs_outputs(seen.outputs, wanted[case])


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.parametrize("size", [(7, 6), (None, None)], ids=["fixed", "open"])
@pytest.mark.parametrize("delegates", [True, False], ids=["XNNPACK", "kernels"])
def test_ops_mean_what_tflite_computes(case, size, delegates):
    """As an endpoint, with XNNPACK and without."""
    model, wanted = _model_of(case, size, TfliteOptions())
    content = tflite_model.tflite_model(model, TfliteOptions())
    found = tflite_models.run(content, _images(), delegates)
    assert found["key"].shape == wanted.shape
    np.testing.assert_allclose(found["key"], wanted, rtol=2e-5, atol=2e-5)
    row = wanted.mean(axis=(1, 2)) if wanted.ndim == 4 else wanted
    np.testing.assert_allclose(found["feature_vector"], row, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", _CASES)
@pytest.mark.parametrize("size", [(7, 6), (None, None)], ids=["fixed", "open"])
@pytest.mark.parametrize("dialect", [op_nodes.TF1, op_nodes.TF2], ids=["TF1", "TF2"])
def test_ops_mean_what_tensorflow_computes(case, size, dialect):
    """NumPy, in float64, is told by nobody but the op; TensorFlow runs the nodes in float32."""
    import tensorflow.compat.v1 as tf

    network = _network(case, size)
    values = _values(network)
    wanted = Forward(network, values, _images()).run()
    writer = GraphWriter()
    images = writer.node("Placeholder", "given", dtype=FLOAT, shape=shape_attr((None, *network.image_shape)))
    handles = {one.name: writer.variable_handle(one.name, one.shape) for one in network.variables}
    momentum = writer.constant("momentum", 0.9)
    written = op_nodes.write_network(writer, network, images, handles, momentum, dialect=dialect, training=False)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        definition = tf.GraphDef()
        for node in writer.nodes:
            definition.node.add().ParseFromString(node.SerializeToString())
        tf.import_graph_def(definition, name="")
        for name, value in values.items():
            handle = graph.get_tensor_by_name(f"{name}:0")
            session.run(tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value)))
        last = network.ops[-1].name
        found = session.run(written.outputs[last], {"given:0": _images()})
        assert found.shape[1:] == wanted[last].shape[1:]
        np.testing.assert_allclose(found, wanted[last], rtol=2e-5, atol=2e-5)
        static = graph.get_tensor_by_name(written.outputs[last]).shape.as_list()[1:]
        fixed = shapes.output_shapes(_network(case).ops)[last]
        assert wanted[last].shape[1:] == fixed
        for ours, theirs in zip(network.shapes[last], static, strict=True):
            assert theirs in (ours, None) or ours is None


@pytest.mark.parametrize(
    ("input_range", "means", "black", "white"),
    [
        ((-1.0, 1.0), None, (-1, -1, -1), (1, 1, 1)),
        ((0.0, 255.0), (123.68, 116.78, 103.94), (-123.68, -116.78, -103.94), (131.32, 138.22, 151.06)),
        ((-1.0, 1.0), (0.5, 0.0, -0.5), (-1.5, -1.0, -0.5), (0.5, 1.0, 1.5)),
    ],
    ids=["range", "range and means", "both"],
)
def test_images_are_mapped_to_what_the_network_was_trained_on(input_range, means, black, white):
    """Means are subtracted from the channels of images in the network's range."""
    import tensorflow.compat.v1 as tf

    images = ops.Input("images", (), "images", shape=(1, 2, 3))
    network = Network((images,), {}, "images", None, (1, 2), input_range, channel_means=means)
    pixels = np.asarray([[[[0, 0, 0], [1, 1, 1]]]], np.float32)
    np.testing.assert_allclose(Forward(network, {}, pixels).run()["images"], [[[black, white]]], rtol=1e-12)
    writer = GraphWriter()
    given = writer.node("Placeholder", "given", dtype=FLOAT, shape=shape_attr((None, *network.image_shape)))
    mapped = op_nodes.scaled_images(writer, given, "hub_input", network)
    with tf.Graph().as_default(), tf.Session() as session:
        definition = tf.GraphDef()
        for node in writer.nodes:
            definition.node.add().ParseFromString(node.SerializeToString())
        tf.import_graph_def(definition, name="")
        np.testing.assert_allclose(session.run(mapped, {"given:0": pixels}), [[[black, white]]], rtol=1e-6)


@pytest.mark.parametrize("case", _CASES)
def test_ops_mean_what_keras_computes(case):
    """Keras 2's layers of these names take the same arguments as those of Keras 3, which other tests load."""
    import tensorflow as tf

    network = _network(case)
    network = dataclasses.replace(network, features=network.ops[-1].name)
    values = _values(network)
    wanted = Forward(network, values, _images()).run()[network.features]
    first, *layers = keras_model.keras_layers(network)
    tensors = {first.name: tf.constant(_images())}
    with tf.keras.utils.custom_object_scope({"hard_silu": lambda x: x * tf.nn.relu6(x + 3) / 6}):
        for layer in layers:
            made = getattr(tf.keras.layers, layer.kind).from_config({"dtype": "float32", **layer.config})
            inputs = [tensors[name] for name in layer.inputs]
            given = inputs if layer.kind in ("Add", "Concatenate", "Multiply") else inputs[0]
            made.build(given.shape if given is inputs[0] else [one.shape for one in given])
            made.set_weights([values[one.name] for one in layer.variables])
            tensors[layer.name] = made(given)
            assert tensors[layer.name].shape[1:] == layer.shape
    np.testing.assert_allclose(tensors[layer.name], wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", _CASES)
def test_functions_name_every_output(case):
    """In a function a node's output has the name that the op's definition gives it."""
    network = _network(case)
    writer = FunctionWriter("forward", {"images": (None, 7, 6, 3)}, [one.name for one in network.variables])
    momentum = writer.constant("momentum", 0.9)
    written = op_nodes.write_network(
        writer, network, "images", writer.handles, momentum, dialect=op_nodes.TF2, training=True
    )
    assert all(tensor == "images" or tensor.count(":") == 2 for tensor in written.outputs.values())
