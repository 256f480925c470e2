"""Reusable SavedModels as protos and in the installed TensorFlow. For old TensorFlows, see test_consumers_tf2."""

import itertools
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.formats import nodes
from hubexport.formats.saved_objects import structured
from hubexport.formats.tf2_saved_model import saved_model_bytes, write_tf2_module
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.variants import KINDS, TF2_VERSIONS, ModuleSpec
from tests.command import environment
from tests.data import REPOSITORY

# The attributes of the registered op definitions of TensorFlow 2.4.4, of the ops that are used.
_ATTRIBUTES_OF_TF_2_4 = {
    "AddV2": {"T"},
    "AssignSubVariableOp": {"dtype"},
    "AssignVariableOp": {"dtype"},
    "AvgPool": {"T", "data_format", "ksize", "padding", "strides"},
    "BiasAdd": {"T", "data_format"},
    "Const": {"dtype", "value"},
    "Conv2D": {"T", "data_format", "dilations", "explicit_paddings", "padding", "strides", "use_cudnn_on_gpu"},
    "DepthwiseConv2dNative": {"T", "data_format", "dilations", "explicit_paddings", "padding", "strides"},
    "Floor": {"T"},
    "FusedBatchNormV3": {"T", "U", "data_format", "epsilon", "exponential_avg_factor", "is_training"},
    "Identity": {"T"},
    "L2Loss": {"T"},
    "MatMul": {"T", "transpose_a", "transpose_b"},
    "Mul": {"T"},
    "NoOp": set(),
    "Placeholder": {"dtype", "shape"},
    "RandomUniform": {"T", "dtype", "seed", "seed2"},
    "ReadVariableOp": {"dtype"},
    "RealDiv": {"T"},
    "Relu6": {"T"},
    "Reshape": {"T", "Tshape"},
    "RestoreV2": {"dtypes"},
    "SaveV2": {"dtypes"},
    "Shape": {"T", "out_type"},
    "Softmax": {"T"},
    "Squeeze": {"T", "squeeze_dims"},
    "StatefulPartitionedCall": {"Tin", "Tout", "config", "config_proto", "executor_type", "f"},
    "Sub": {"T"},
    "VarHandleOp": {"allowed_devices", "container", "dtype", "shape", "shared_name"},
}

_SIZE = 96
_ALL = [ModuleSpec(kind=kind, version=version) for kind in KINDS for version in TF2_VERSIONS]


def _network(kind):
    return mobilenet_v2(0.35, _SIZE, 7 if kind == "classification" else None)


def _meta_graph(spec):
    [meta_graph] = saved_model_pb2.SavedModel.FromString(saved_model_bytes(spec, _network(spec.kind))).meta_graphs
    return meta_graph


@pytest.fixture(params=_ALL, ids=str)
def spec(request):
    """A TF2 module of each kind in each version."""
    return request.param


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> dict[str, Path]:
    """A module of each kind in each version, all with the same values."""
    folder = tmp_path_factory.mktemp("modules")
    for spec in _ALL:
        network = _network(spec.kind)
        (folder / str(spec)).mkdir(parents=True)
        values = {variable.name: synthetic_value(variable, seed=1) for variable in network.variables}
        write_tf2_module(folder / str(spec), spec, network, values)
    return {str(spec): folder / str(spec) for spec in _ALL}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Three images of random noise."""
    return np.random.RandomState(0).uniform(size=(3, _SIZE, _SIZE, 3)).astype(np.float32)


def test_ops_and_attributes_are_known_to_tensorflow_2_4(spec):
    """In the graph and in every function. Attributes that begin with `_` need no definition."""
    graph = _meta_graph(spec).graph_def
    functions = list(graph.library.function)
    assert len(functions) == 4 + (36 if spec.kind == "classification" else 35) + (spec.version >= 5)
    for node in [*graph.node, *(node for function in functions for node in function.node_def)]:
        assert {name for name in node.attr if name[0] != "_"} <= _ATTRIBUTES_OF_TF_2_4[node.op], node.name
    assert (graph.versions.producer, graph.versions.min_consumer) == (561, 12)


def test_output_names_are_those_of_the_op_definitions():
    """Nodes of a function refer to outputs by these names."""
    from tensorflow.python.framework import op_def_registry

    for op, names in nodes._OUTPUT_NAMES.items():
        defined = [output.name for output in op_def_registry.get(op).output_arg]
        assert list(names) == defined[: len(names)], op


def test_a_module_contains_only_what_a_savedmodel_needs(spec, modules):
    """Its files, its tag, no collections, and from version 5 on a signature for serving."""
    module = modules[str(spec)]
    assert sorted(str(path.relative_to(module)) for path in module.rglob("*") if path.is_file()) == [
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    meta_graph = _meta_graph(spec)
    assert list(meta_graph.meta_info_def.tags) == ["serve"]
    assert not meta_graph.collection_def
    assert list(meta_graph.signature_def) == (["serving_default"] if spec.version >= 5 else [])


def test_moving_averages_are_read_as_a_mean_over_replicas(spec):
    """This holds for all of them, and for no other variable."""
    variables = [node.variable for node in _meta_graph(spec).object_graph_def.nodes if node.HasField("variable")]
    assert len(variables) == (262 if spec.kind == "classification" else 260)
    for variable in variables:
        averaged = "/moving_" in variable.name
        assert variable.trainable == (not averaged)
        assert variable.synchronization == (tf.VariableSynchronization.ON_READ.value if averaged else 0)
        assert variable.aggregation == (tf.VariableAggregation.MEAN.value if averaged else 0)


def test_the_checkpoint_leads_to_every_variable(spec, modules):
    """The object graph leads to each value, under a key with the variable's name."""
    reader = tf.train.load_checkpoint(str(modules[str(spec)] / "variables" / "variables"))
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    )
    [variables] = [child.node_id for child in graph.nodes[0].children if child.local_name == "variables"]
    found = {}
    for child in graph.nodes[variables].children:
        [attribute] = graph.nodes[child.node_id].attributes
        assert attribute.checkpoint_key == f"{attribute.full_name}/.ATTRIBUTES/VARIABLE_VALUE"
        found[attribute.full_name] = reader.get_tensor(attribute.checkpoint_key)
    wanted = {variable.name: variable for variable in _network(spec.kind).variables}
    assert list(found) == list(wanted)
    for name, value in found.items():
        np.testing.assert_array_equal(value, synthetic_value(wanted[name], seed=1), err_msg=name)


def test_structures_are_encoded_as_tensorflow_encodes_them():
    """None, bools, floats, strings, and tuples, lists and dictionaries of them."""
    from tensorflow.core.protobuf import struct_pb2
    from tensorflow.python.saved_model import nested_structure_coder

    value = ((None, True, 0.5, "x"), {"a": [], "b": (False,)}, [], {}, ())
    theirs = nested_structure_coder.encode_structure(value)
    assert struct_pb2.StructuredValue.FromString(structured(value).SerializeToString()) == theirs
    with pytest.raises(TypeError, match="no StructuredValue"):
        structured(1j)


def test_the_interface_is_that_of_reusable_savedmodels(spec, modules, images):
    """Flags by name and by position, defaults, endpoints, losses and variables."""
    module = tf.saved_model.load(str(modules[str(spec)]))
    network = _network(spec.kind)
    default = module(images)
    width = 7 if spec.kind == "classification" else 1280
    assert default.shape == (3, width)
    np.testing.assert_array_equal(default, module(tf.constant(images), False, False, 0.3))
    endpoints = module(images, return_endpoints=True)
    assert set(endpoints) == {"default", *network.endpoints}
    for key, layer in network.endpoints.items():
        assert endpoints[key].shape == (3, *network.shapes[layer]), key
    assert len(module.regularization_losses) == sum(v.weight_decay > 0 for v in network.variables)
    assert [v.name for v in module.trainable_variables] == [f"{v.name}:0" for v in network.variables if v.trainable]
    assert [v.name for v in module.variables] == [f"{v.name}:0" for v in network.variables]
    with pytest.raises(ValueError, match="Could not find matching concrete function"):
        module(np.zeros([1, 32, 32, 3], np.float32))


@pytest.mark.slow
def test_both_versions_and_both_kinds_compute_the_same(modules, images):
    """Version 5 only adds a signature."""
    loaded = {name: tf.saved_model.load(str(path)) for name, path in modules.items()}
    for kind in KINDS:
        np.testing.assert_array_equal(loaded[f"{kind}/4"](images), loaded[f"{kind}/5"](images))
    pooled = loaded["classification/5"](images, return_endpoints=True)["MobilenetV2/global_pool"]
    np.testing.assert_array_equal(pooled[:, 0, 0], loaded["feature_vector/5"](images))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_serving_default_predicts_the_same(modules, images, kind):
    """Called as a function, in a session, and in TensorFlow Serving's C++ loader."""
    path = modules[f"{kind}/5"]
    module = tf.saved_model.load(str(path))
    wanted = module(images)
    key = "logits" if kind == "classification" else "feature_vector"
    [output] = module.signatures["serving_default"](images=tf.constant(images)).items()
    assert output[0] == key
    np.testing.assert_allclose(output[1], wanted, rtol=0, atol=1e-6)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = meta_graph.signature_def["serving_default"]
        fed = signature.inputs["images"].name
        found = session.run(signature.outputs[key].name, {fed: images})
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)

    folder = path.parent
    np.save(folder / "images.npy", images)
    program = [sys.executable, "-m", "tests.cpp_loader", path, fed, signature.outputs[key].name]
    arguments = [*program, folder / "images.npy", folder / "found.npy"]
    subprocess.run(arguments, cwd=REPOSITORY, env=environment(), check=True, capture_output=True)
    np.testing.assert_allclose(np.load(folder / "found.npy"), wanted, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_session_can_save_its_variables_and_restore_them(modules, images, tmp_path):
    """TensorFlow 1 programs do so with the saver of the MetaGraph."""
    path = str(modules["feature_vector/5"])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saver = tf.compat.v1.saved_model.load(session, ["serve"], path).saver_def
        output, fed = "StatefulPartitionedCall:0", "serving_default_images:0"
        wanted = session.run(output, {fed: images})
        name = {saver.filename_tensor_name: str(tmp_path / "saved")}
        assert session.run(saver.save_tensor_name, name) == str(tmp_path / "saved").encode()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.train.import_meta_graph(_read(path), clear_devices=True)
        session.run(saver.restore_op_name, name)
        np.testing.assert_array_equal(session.run(output, {fed: images}), wanted)


def _read(path):
    [meta_graph] = saved_model_pb2.SavedModel.FromString(Path(path, "saved_model.pb").read_bytes()).meta_graphs
    return meta_graph


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_tflite_converts_and_predicts_the_same(modules, images, kind):
    """The converter runs with its defaults. The interpreter implements every op anew."""
    path = str(modules[f"{kind}/5"])
    model = tf.lite.TFLiteConverter.from_saved_model(path).convert()
    interpreter = tf.lite.Interpreter(model_content=model)
    [given], [result] = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], images)
    interpreter.invoke()
    wanted = tf.saved_model.load(path)(images)
    np.testing.assert_allclose(interpreter.get_tensor(result["index"]), wanted, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_hub_load_works_in_a_tf1_graph(modules, images):
    """There is no eager execution in it, and initializing the variables restores them."""
    hub = pytest.importorskip("tensorflow_hub")
    path = str(modules["classification/4"])
    wanted = tf.saved_model.load(path)(images)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output = hub.load(path)(tf.constant(images))
        session.run(tf.compat.v1.global_variables_initializer())
        np.testing.assert_allclose(session.run(output), wanted, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_module_can_be_loaded_saved_and_loaded_again(modules, images, tmp_path):
    """`tf.saved_model.save` saves all that the module has."""
    first = tf.saved_model.load(str(modules["classification/5"]))
    tf.saved_model.save(first, str(tmp_path / "again"), signatures=first.signatures)
    again = tf.saved_model.load(str(tmp_path / "again"))
    for training, return_endpoints in itertools.product((False, True), repeat=2):
        found = again(images, training=training, return_endpoints=return_endpoints)
        assert (set(found) > {"default"}) if return_endpoints else found.shape == (3, 7)
    assert len(again.regularization_losses) == 36
    assert len(again.trainable_variables) == 158


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_a_module(modules, images, tmp_path):
    """`show --all` prints the signature and the functions; `run` computes logits."""
    path = modules["classification/5"]
    shown = _saved_model_cli("show", "--all", "--dir", path)
    assert "inputs['images'] tensor_info:" in shown
    assert "shape: (-1, 96, 96, 3)" in shown
    assert "outputs['logits'] tensor_info:" in shown
    assert "Method name is: tensorflow/serving/predict" in shown
    assert "Function Name: '__call__'" in shown
    assert "batch_norm_momentum: TensorSpec(shape=(), dtype=tf.float32" in shown
    np.save(tmp_path / "images.npy", images)
    given = ["--tag_set", "serve", "--signature_def", "serving_default", "--inputs", f"images={tmp_path}/images.npy"]
    _saved_model_cli("run", "--dir", path, *given, "--outdir", tmp_path)
    wanted = tf.saved_model.load(str(path))(images)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, rtol=0, atol=1e-6)


def _saved_model_cli(*arguments):
    done = subprocess.run(
        [Path(sys.executable).with_name("saved_model_cli"), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
