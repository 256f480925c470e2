"""Damage to a ResNet V2: some of each kind of `tests/mutations.py`, and what only such a network can suffer."""

from collections.abc import Callable
import functools
from pathlib import Path

import numpy as np

from hubexport.protos import Message
from tests.mutations import Mutation, edit_graph, edit_nodes, edit_values, mutation, scopes, set_constant, set_op

RESNET_MUTATIONS: list[Mutation] = []

_damage = functools.partial(mutation, into=RESNET_MUTATIONS)
_UNIT = "resnet_v2_50/block3/unit_2/bottleneck_v2"
# The last unit of its block, which strides.
_STRIDED = "resnet_v2_50/block2/unit_4/bottleneck_v2"
_INT32 = 3
_FLOAT = 1


def _edit_scopes(directory: Path, edit: Callable[[Message, dict[str, Message]], None], **which: bool) -> None:
    """Changes each list of nodes that computes the network; `edit` also gets the nodes by name."""

    def edit_all(saved_model: Message) -> None:
        for nodes in scopes(saved_model, **which):
            edit(nodes, {node.name: node for node in nodes})

    edit_graph(directory, edit_all)


# Values


@_damage("one weight by one unit in the last place", "weights.equal")
def nudge_by_one_ulp(directory: Path, format_: str) -> None:
    def edit(values):
        weights = values[f"{_UNIT}/conv2/weights"]
        weights[1, 1, 3, 5] = np.nextafter(weights[1, 1, 3, 5], np.float32(9))

    edit_values(directory, format_, edit)


@_damage("two output channels swapped", "weights.equal numbers.random numbers.layers")
def swap_channels(directory: Path, format_: str) -> None:
    def edit(values):
        weights = values[f"{_UNIT}/conv3/weights"]
        weights[..., [0, 1]] = weights[..., [1, 0]]

    edit_values(directory, format_, edit)


@_damage("the biases of a shortcut left at 0", "weights.equal numbers.random numbers.layers numbers.sizes")
def clear_biases(directory: Path, format_: str) -> None:
    def edit(values):
        values["resnet_v2_50/block3/unit_1/bottleneck_v2/shortcut/biases"][:] = 0

    edit_values(directory, format_, edit)


@_damage("moving mean and variance swapped", "weights.equal weights.sound numbers.random numbers.layers")
def swap_moments(directory: Path, format_: str) -> None:
    def edit(values):
        mean, variance = (f"{_UNIT}/preact/moving_{name}" for name in ("mean", "variance"))
        values[mean], values[variance] = values[variance], values[mean]

    edit_values(directory, format_, edit)


@_damage("a variable missing", "structure.variables weights.equal numbers.random")
def drop_a_variable(directory: Path, format_: str) -> None:
    edit_values(directory, format_, lambda values: values.pop("resnet_v2_50/logits/biases"))


# Graphs


@_damage("an explicit padding that becomes SAME", "numbers.random numbers.layers numbers.slim")
def pad_the_same(directory: Path, format_: str) -> None:
    def edit(_: Message, by_name: dict[str, Message]) -> None:
        conv = by_name[f"{_STRIDED}/conv2/Conv2D"]
        conv.attr["padding"].s = b"SAME"
        conv.input[0] = by_name[f"{_STRIDED}/conv2/Pad"].input[0]

    _edit_scopes(directory, edit)


@_damage("a shortcut that averages pixels instead of taking one", "numbers.random numbers.layers")
def average_the_shortcut(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.op = "AvgPool"
        node.attr["ksize"].list.i[:] = [1, 2, 2, 1]

    edit_nodes(directory, f"{_STRIDED}/shortcut/MaxPool", edit)


@_damage("average instead of maximum pooling", "numbers.random numbers.layers")
def pool_the_average(directory: Path, format_: str) -> None:
    edit_nodes(directory, "pool1/MaxPool", set_op("AvgPool"))


@_damage("preactivation skipped", "numbers.random numbers.layers numbers.slim")
def skip_the_preactivation(directory: Path, format_: str) -> None:
    def edit(_: Message, by_name: dict[str, Message]) -> None:
        [normalize] = (node for name, node in by_name.items() if name.startswith(f"{_UNIT}/preact/FusedBatchNorm"))
        by_name[f"{_UNIT}/conv1/Conv2D"].input[0] = normalize.input[0]

    _edit_scopes(directory, edit)


@_damage("a shortcut from before the preactivation", "numbers.random numbers.layers")
def project_the_raw_input(directory: Path, format_: str) -> None:
    unit = "resnet_v2_50/block3/unit_1/bottleneck_v2"

    def edit(_: Message, by_name: dict[str, Message]) -> None:
        [normalize] = (node for name, node in by_name.items() if name.startswith(f"{unit}/preact/FusedBatchNorm"))
        by_name[f"{unit}/shortcut/Conv2D"].input[0] = normalize.input[0]

    _edit_scopes(directory, edit)


@_damage("a bias not added", "numbers.random numbers.layers")
def leave_out_a_bias(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.op = "Identity"
        del node.input[1]
        node.attr.pop("data_format", None)

    edit_nodes(directory, f"{_UNIT}/conv3/BiasAdd", edit)


@_damage("epsilon 1e-3 instead of 1e-5", "numbers.random numbers.layers")
def change_epsilon(directory: Path, format_: str) -> None:
    def edit(nodes: Message, _: dict[str, Message]) -> None:
        for node in nodes:
            if "epsilon" in node.attr:
                node.attr["epsilon"].f = 1e-3

    _edit_scopes(directory, edit)


@_damage("ReLU6 instead of ReLU", "numbers.random numbers.layers")
def stop_at_six(directory: Path, format_: str) -> None:
    def edit(nodes: Message, _: dict[str, Message]) -> None:
        for node in nodes:
            if node.op == "Relu":
                node.op = "Relu6"

    _edit_scopes(directory, edit)


@_damage("a residual connection left out", "numbers.random numbers.layers")
def leave_out_a_residual(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.input[0] = node.input[1]

    edit_nodes(directory, f"{_UNIT}/add", edit)


@_damage("images not mapped to [-1, 1]", "numbers.random numbers.extremes numbers.layers numbers.sizes")
def leave_out_the_mapping(directory: Path, format_: str) -> None:
    edit_nodes(directory, "hub_input/Mul/y", set_constant(1.0))
    edit_nodes(directory, "hub_input/Sub/y", set_constant(0.0))


@_damage("pooling that fits the default size alone", "numbers.sizes")
def pool_one_size(directory: Path, format_: str, pool: str = "resnet_v2_50/pool5") -> None:
    def edit(node: Message) -> None:
        node.op = "AvgPool"
        del node.input[1]
        node.attr.clear()
        node.attr["T"].type = _FLOAT
        for name, lengths in (("ksize", [1, 3, 3, 1]), ("strides", [1, 1, 1, 1])):
            node.attr[name].list.i[:] = lengths
        node.attr["padding"].s = b"VALID"

    edit_nodes(directory, pool, edit)


# Training


@_damage("a moving mean updated by the variance", "behaviour.moving_averages")
def update_by_the_wrong_statistic(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        batch_norm = node.input[1].partition(":")[0]
        node.input[1] = f"{batch_norm}:batch_variance:0" if format_ == "TF2" else f"{batch_norm}:2"

    edit_nodes(directory, f"{_UNIT}/preact/moving_mean/AssignMovingAvg/sub", edit, training=True)


@_damage("a gradient stopped", "behaviour.training_step behaviour.gradients")
def stop_a_gradient(directory: Path, format_: str) -> None:
    def edit(nodes: Message, by_name: dict[str, Message]) -> None:
        pool = by_name["resnet_v2_50/pool5"]
        stopped = nodes.add(name="stopped", op="StopGradient", input=[pool.input[0]])
        stopped.attr["T"].type = _FLOAT
        pool.input[0] = "stopped:output:0" if format_ == "TF2" else "stopped"

    _edit_scopes(directory, edit)


@_damage("dropout where there is none", "behaviour.dropout")
def drop_something(directory: Path, format_: str) -> None:
    ending = ":output:0" if format_ == "TF2" else ""

    def edit(nodes: Message, by_name: dict[str, Message]) -> None:
        shape = nodes.add()
        shape.CopyFrom(by_name["resnet_v2_50/logits/rows/shape"])
        shape.name = "noise/shape"
        shape.attr["value"].tensor.int_val[:] = [1, 2048]
        noise = nodes.add(name="noise", op="RandomUniform", input=[f"{shape.name}{ending}"])
        noise.attr["T"].type, noise.attr["dtype"].type = _INT32, _FLOAT
        product = nodes.add(name="dropped", op="Mul")
        matmul = by_name["resnet_v2_50/logits/MatMul"]
        product.input[:] = [matmul.input[0], f"noise{ending}"]
        product.attr["T"].type = _FLOAT
        matmul.input[0] = "dropped:z:0" if format_ == "TF2" else "dropped"

    _edit_scopes(directory, edit, training=True)


@_damage("weight decay of 4e-5 instead of 1e-4", "behaviour.regularization")
def decay_too_little(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            for nodes in (meta_graph.graph_def.node, *(f.node_def for f in meta_graph.graph_def.library.function)):
                for node in nodes:
                    if node.name.endswith("l2_regularizer/scale"):
                        set_constant(4e-5)(node)

    edit_graph(directory, edit)


# Interfaces


@_damage("an input of one size", "structure.signatures")
def fix_the_size(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            for signature in meta_graph.signature_def.values():
                for dim in signature.inputs["images"].tensor_shape.dim[1:3]:
                    dim.size = 96

    edit_graph(directory, edit)


@_damage("an output key missing", "structure.signatures")
def drop_an_output(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if format_ == "TF1":
                del meta_graph.signature_def["default"].outputs["resnet_v2_50/block4"]
            else:
                for function in meta_graph.object_graph_def.concrete_functions.values():
                    function.output_signature.dict_value.fields.pop("resnet_v2_50/block4", None)

    edit_graph(directory, edit)


@_damage("an attribute that old TensorFlows do not know", "structure.ops", "TF1")
def add_a_new_attribute(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        # As TensorFlow's own graph builder writes it from 1.14 on.
        node.attr["explicit_paddings"].list.SetInParent()

    edit_nodes(directory, f"{_STRIDED}/conv2/Conv2D", edit)
