"""The content of `saved_model.pb` in the TF1 Hub format, which TensorFlow 1.7 and tensorflow-hub 0.1.0 must accept."""

import pytest
from tensorflow.core.framework import variable_pb2

from hubexport.formats.tf1_hub import saved_model_bytes
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.variants import KINDS, VERSIONS, ModuleSpec
from tests.graphs import read_saved_model

# The attributes of the registered op definitions of TensorFlow 1.7.0, of the ops that are used.
_ATTRIBUTES_OF_TF_1_7 = {
    "Add": {"T"},
    "AssignSubVariableOp": {"dtype"},
    "AvgPool": {"T", "data_format", "ksize", "padding", "strides"},
    "BiasAdd": {"T", "data_format"},
    "Const": {"dtype", "value"},
    "Conv2D": {"T", "data_format", "dilations", "padding", "strides", "use_cudnn_on_gpu"},
    "DepthwiseConv2dNative": {"T", "data_format", "dilations", "padding", "strides"},
    "Floor": {"T"},
    "FusedBatchNorm": {"T", "data_format", "epsilon", "is_training"},
    "Identity": {"T"},
    "L2Loss": {"T"},
    "MatMul": {"T", "transpose_a", "transpose_b"},
    "Mul": {"T"},
    "NoOp": set(),
    "Placeholder": {"dtype", "shape"},
    "PlaceholderWithDefault": {"dtype", "shape"},
    "RandomUniform": {"T", "dtype", "seed", "seed2"},
    "ReadVariableOp": {"dtype"},
    "RealDiv": {"T"},
    "Relu6": {"T"},
    "Reshape": {"T", "Tshape"},
    "Shape": {"T", "out_type"},
    "Softmax": {"T"},
    "Squeeze": {"T", "squeeze_dims"},
    "Sub": {"T"},
    "VarHandleOp": {"container", "dtype", "shape", "shared_name"},
}
_COLLECTIONS = {"variables", "trainable_variables", "model_variables", "regularization_losses"}

_ALL = [ModuleSpec(kind=kind, version=version) for kind in KINDS for version in VERSIONS]


def _graphs(spec):
    network = mobilenet_v2(0.5, 96, 1001 if spec.kind == "classification" else None)
    return read_saved_model(saved_model_bytes(spec, network))


@pytest.fixture(params=_ALL, ids=str)
def spec(request):
    """A module of each kind in each version."""
    return request.param


def test_ops_and_attributes_are_known_to_tensorflow_1_7(spec):
    """TensorFlow 1.7 refuses unknown attributes even at their defaults."""
    for graph in _graphs(spec).values():
        for node in graph.graph_def.node:
            assert set(node.attr) <= _ATTRIBUTES_OF_TF_1_7[node.op], node.name


def test_graph_versions_collections_and_producer(spec):
    """tensorflow_hub refuses unknown collections, and old TensorFlows refuse graphs for newer consumers."""
    graphs = _graphs(spec)
    assert list(graphs) == [(), ("train",)]
    attachments = {"hub_module_attachments"} if spec.version >= 3 else set()
    assert set(graphs[()].collection_def) == _COLLECTIONS | attachments
    assert set(graphs["train",].collection_def) == _COLLECTIONS | attachments | {"update_ops"}
    for graph in graphs.values():
        assert graph.graph_def.versions.producer == 26
        assert graph.graph_def.versions.min_consumer == 0
        assert not graph.meta_info_def.stripped_op_list.op


def test_every_variable_has_what_old_tensorflows_need(spec):
    """A shared name of its own, an initializer, an explicit `trainable`, and a read node of the expected name."""
    for graph in _graphs(spec).values():
        nodes = {node.name: node for node in graph.graph_def.node}
        handles = [node for node in nodes.values() if node.op == "VarHandleOp"]
        assert {node.attr["shared_name"].s.decode() for node in handles} == {node.name for node in handles}
        trainable = set(graph.collection_def["trainable_variables"].bytes_list.value)
        for serialized in graph.collection_def["variables"].bytes_list.value:
            variable = variable_pb2.VariableDef.FromString(serialized)
            assert variable.is_resource
            assert variable.initializer_name in nodes
            assert not variable.snapshot_name
            assert variable.trainable == (serialized in trainable)
            assert nodes[f"{variable.variable_name[:-2]}/Read/ReadVariableOp"].op == "ReadVariableOp"


def test_momentum_is_an_input_from_version_3_on(spec):
    """Before, it is fixed at 0.997; then it defaults to 0.99."""
    for graph in _graphs(spec).values():
        nodes = {node.name: node for node in graph.graph_def.node}
        momentum = nodes["batch_norm_momentum"]
        if spec.version < 3:
            assert momentum.op == "Const"
            assert momentum.attr["value"].tensor.float_val[0] == pytest.approx(0.997)
        else:
            assert momentum.op == "PlaceholderWithDefault"
            assert nodes[momentum.input[0]].attr["value"].tensor.float_val[0] == pytest.approx(0.99)


def test_the_expected_image_size_is_attached_from_version_3_on(spec):
    """tensorflow_hub's own messages parse the attachment."""
    hub_messages = pytest.importorskip("tensorflow_hub.image_module_info_pb2")
    attachments = pytest.importorskip("tensorflow_hub.module_attachment_pb2")
    for graph in _graphs(spec).values():
        attached = graph.collection_def["hub_module_attachments"].bytes_list.value if spec.version >= 3 else []
        assert len(attached) == (spec.version >= 3)
        for serialized in attached:
            attachment = attachments.ModuleAttachment.FromString(serialized)
            assert attachment.key == "image_module_info"
            size = hub_messages.ImageModuleInfo.FromString(attachment.value).default_image_size
            assert (size.height, size.width) == (96, 96)


def test_names_are_grouped_like_tf_slims():
    """TensorBoard and Netron show layers, and scripts find the nodes that they know from TF-Slim."""
    names = {node.name for node in _graphs(ModuleSpec.parse("classification/2"))["train",].graph_def.node}
    assert {
        "hub_input/images",
        "hub_input/Mul",
        "hub_input/Sub",
        "MobilenetV2/Conv/Conv2D",
        "MobilenetV2/Conv/BatchNorm/FusedBatchNorm",
        "MobilenetV2/Conv/Relu6",
        "MobilenetV2/expanded_conv/depthwise/depthwise",
        "MobilenetV2/expanded_conv_3/expand/Conv2D",
        "MobilenetV2/expanded_conv_3/project/BatchNorm/FusedBatchNorm",
        "MobilenetV2/expanded_conv_2/add",
        "MobilenetV2/expanded_conv_16/output",
        "MobilenetV2/Conv_1/Relu6",
        "MobilenetV2/Logits/AvgPool",
        "MobilenetV2/Logits/Dropout/dropout/mul",
        "MobilenetV2/Logits/Conv2d_1c_1x1/BiasAdd",
        "MobilenetV2/Predictions/Softmax",
        "hub_output/feature_vector/SpatialSqueeze",
    } <= names
    assert {name.partition("/")[0] for name in names} == {
        "MobilenetV2",
        "batch_norm_decay",
        "batch_norm_momentum",
        "hub_input",
        "hub_output",
        "init",
    }
