"""Damage that a look at some outputs, gradients and lists misses: in one function, in training alone, beside the graph.

It is damage to a MobileNet V2, in the style of `tests/mutations.py`. The checks that build the module again see each.
"""

from collections.abc import Callable
import functools
import json
from pathlib import Path

from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY
from hubexport.protos import Message, TrackableObjectGraph
from tests.mutations import (
    Mutation,
    edit_graph,
    edit_nodes,
    mutation,
    scopes,
    set_constant,
    set_op,
)

SUBTLE_MUTATIONS: list[Mutation] = []

_damage = functools.partial(mutation, into=SUBTLE_MUTATIONS)
_FLOAT = 1
_INT32 = 3
_STRING = 7
_BLOCK = "MobilenetV2/expanded_conv_5"
_LAST = "MobilenetV2/Conv_1"
_ENDINGS = {"Add": "z", "AddV2": "z", "BiasAdd": "output", "Mul": "z", "Sub": "z", "StopGradient": "output"}


def edit_meta_graph(directory: Path, edit: Callable[[Message], None], *, training: bool | None = None) -> None:
    """Changes each MetaGraph, or that for training, or all but that."""

    def edit_each(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if training in (None, "train" in meta_graph.meta_info_def.tags):
                edit(meta_graph)

    edit_graph(directory, edit_each)


def edit_functions(directory: Path, names: str, edit: Callable[[Message], None]) -> None:
    """Changes each function whose name contains `names`."""

    def edit_each(meta_graph: Message) -> None:
        functions = [one for one in meta_graph.graph_def.library.function if names in one.signature.name]
        assert functions, names
        for function in functions:
            edit(function)

    edit_meta_graph(directory, edit_each)


def by_name(nodes: Message, ending: str) -> Message:
    """Returns the one node whose name ends so."""
    [node] = [node for node in nodes if f"/{node.name}".endswith(f"/{ending}")]
    return node


def add_node(nodes: Message, format_: str, op: str, name: str, *inputs: str) -> str:
    """Adds a node of floats, and returns its output."""
    nodes.add(name=name, op=op, input=inputs).attr["T"].type = _FLOAT
    return f"{name}:{_ENDINGS[op]}:0" if format_ == "TF2" else name


def add_constant(nodes: Message, format_: str, name: str, value: float) -> str:
    """Adds a scalar, and returns its output."""
    node = nodes.add(name=name, op="Const")
    node.attr["dtype"].type = _FLOAT
    node.attr["value"].tensor.dtype = _FLOAT
    node.attr["value"].tensor.tensor_shape.SetInParent()
    node.attr["value"].tensor.float_val[:] = [value]
    return f"{name}:output:0" if format_ == "TF2" else name


def swap_inputs(first: Message, second: Message, index: int) -> None:
    """Swaps an input of two nodes."""
    first.input[index], second.input[index] = second.input[index], first.input[index]


# Serving


@_damage("two variables of the serving graph swapped", "rebuild.files numbers.serving", "TF2")
def swap_serving_inputs(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        call = by_name(meta_graph.graph_def.node, "StatefulPartitionedCall")
        call.input[2], call.input[3] = call.input[3], call.input[2]

    edit_meta_graph(directory, edit)


@_damage("two variables restored into each other for serving", "rebuild.files numbers.serving", "TF2")
def swap_restored(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        assigns = [by_name(meta_graph.graph_def.node, f"{_LAST}/BatchNorm/{name}/Assign") for name in ("beta", "gamma")]
        swap_inputs(*assigns, index=1)

    edit_meta_graph(directory, edit)


@_damage("a serving graph, but no signature, in training mode", "rebuild.files numbers.serving", "TF2")
def serve_the_graph_in_training_mode(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        functions = meta_graph.graph_def.library.function
        [serving] = [function for function in functions if function.signature.name == "serving_default"]
        copied = functions.add()
        copied.CopyFrom(serving)
        copied.signature.name = "serving_graph"
        by_name(copied.node_def, "inference").attr["f"].func.name = "call_training"
        by_name(meta_graph.graph_def.node, "StatefulPartitionedCall").attr["f"].func.name = "serving_graph"

    edit_meta_graph(directory, edit)


# Training


@_damage("features doubled in training", "rebuild.files behaviour.training_outputs")
def double_features(directory: Path, format_: str) -> None:
    def edit_graph_version(meta_graph: Message) -> None:
        nodes = meta_graph.graph_def.node
        squeeze = by_name(nodes, "feature_vector/SpatialSqueeze")
        squeeze.input[0] = add_node(nodes, format_, "Add", "doubled", squeeze.input[0], squeeze.input[0])

    def edit_function(function: Message) -> None:
        [pooled] = (name for name in function.ret if "global_pool" in name)
        output = function.ret[pooled]
        function.ret[pooled] = add_node(function.node_def, format_, "AddV2", "doubled", output, output)

    if format_ == "TF1":
        edit_meta_graph(directory, edit_graph_version, training=True)
    else:
        edit_functions(directory, "call_training_with_endpoints", edit_function)


@_damage("epsilon of the last layer 1e-5 in training", "rebuild.files behaviour.training_outputs")
def change_the_last_epsilon(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.attr["epsilon"].f = 1e-5

    name = "FusedBatchNormV3" if format_ == "TF2" else "FusedBatchNorm"
    edit_nodes(directory, f"{_LAST}/BatchNorm/{name}", edit, training=True)


@_damage("ReLU in the last layer in training", "rebuild.files behaviour.training_outputs")
def forget_the_last_six(directory: Path, format_: str) -> None:
    edit_nodes(directory, f"{_LAST}/Relu6", set_op("Relu"), training=True)


@_damage("two endpoints swapped in training", "rebuild.files behaviour.training_outputs")
def swap_endpoints_in_training(directory: Path, format_: str) -> None:
    keys = [f"MobilenetV2/layer_{number}/expansion_output" for number in (9, 10)]

    def edit_signatures(meta_graph: Message) -> None:
        for signature in meta_graph.signature_def.values():
            first, second = (signature.outputs[key] for key in keys)
            first.name, second.name = second.name, first.name

    def edit_results(function: Message) -> None:
        first, second = (key.replace("/", "_").lower() for key in keys)
        function.ret[first], function.ret[second] = function.ret[second], function.ret[first]

    if format_ == "TF1":
        edit_meta_graph(directory, edit_signatures, training=True)
    else:
        edit_functions(directory, "call_training_with_endpoints", edit_results)


@_damage("biases added twice", "rebuild.files behaviour.training_outputs")
def double_biases(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=True):
            added = by_name(nodes, "Conv2d_1c_1x1/BiasAdd")
            added.input[0] = add_node(nodes, format_, "BiasAdd", "biased", *added.input)

    edit_graph(directory, edit)


@_damage("half a gradient stopped", "rebuild.files behaviour.gradients")
def stop_half_a_gradient(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model):
            output = by_name(nodes, "expanded_conv_5/output")
            half = add_constant(nodes, format_, "half", 0.5)
            scaled = add_node(nodes, format_, "Mul", "scaled", output.input[0], half)
            stopped = add_node(nodes, format_, "StopGradient", "stopped", scaled)
            add = "AddV2" if format_ == "TF2" else "Add"
            output.input[0] = add_node(nodes, format_, add, "whole", scaled, stopped)

    edit_graph(directory, edit)


@_damage("the gradient of one kernel doubled in inference", "rebuild.files behaviour.gradients")
def double_one_gradient(directory: Path, format_: str) -> None:
    _replace_one_kernel(directory, format_, training=False)


@_damage("the gradient of one kernel turned around in training", "rebuild.files behaviour.gradients")
def turn_one_gradient(directory: Path, format_: str) -> None:
    _replace_one_kernel(directory, format_, training=True)


def _replace_one_kernel(directory: Path, format_: str, *, training: bool) -> None:
    """Replaces a kernel by 2 kernel - kernel. Gradients stop at the first in training, at the other in inference."""

    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training):
            convolution = by_name(nodes, f"{_BLOCK}/expand/Conv2D")
            kernel = convolution.input[1]
            stopped = add_node(nodes, format_, "StopGradient", "stopped", kernel)
            first, other = (stopped, kernel) if training else (kernel, stopped)
            add = "AddV2" if format_ == "TF2" else "Add"
            double = add_node(nodes, format_, add, "double", first, first)
            convolution.input[1] = add_node(nodes, format_, "Sub", "once", double, other)

    edit_graph(directory, edit)


@_damage("the gradient of the images stopped in inference", "rebuild.files behaviour.gradients")
def stop_the_gradient_of_images(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=False):
            mapped = by_name(nodes, "hub_input/Sub")
            mapped.input[0] = add_node(nodes, format_, "StopGradient", "stopped", mapped.input[0])

    edit_graph(directory, edit)


@_damage(
    "gradients stopped in the functions with endpoints",
    "rebuild.files behaviour.training_step behaviour.gradients",
    "TF2",
)
def stop_gradients_with_endpoints(directory: Path, format_: str) -> None:
    edit_functions(
        directory,
        "_with_endpoints",
        lambda function: set_op("StopGradient")(by_name(function.node_def, "expanded_conv_5/output")),
    )


@_damage("another offset of the images in training", "rebuild.files behaviour.training_outputs")
def offset_images_otherwise(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=True):
            by_name(nodes, "hub_input/Sub").input[1] = add_constant(nodes, format_, "offset", 0.996)

    edit_graph(directory, edit)


@_damage("probabilities of doubled logits in training", "rebuild.files behaviour.training_outputs")
def double_logits_of_probabilities(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=True):
            [softmax] = [node for node in nodes if node.op == "Softmax"]
            add = "AddV2" if format_ == "TF2" else "Add"
            softmax.input[0] = add_node(nodes, format_, add, "doubled", softmax.input[0], softmax.input[0])

    edit_graph(directory, edit)


@_damage("noise on the features in training", "rebuild.files behaviour.training_outputs behaviour.dropout")
def add_noise(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=True):
            pool = by_name(nodes, "MobilenetV2/Logits/AvgPool")
            shape = nodes.add(name="shape", op="Shape", input=[pool.input[0]])
            shape.attr["T"].type, shape.attr["out_type"].type = _FLOAT, _INT32
            noise = nodes.add(name="noise", op="RandomUniform", input=[_output("shape", format_)])
            noise.attr["T"].type, noise.attr["dtype"].type = _INT32, _FLOAT
            small = add_constant(nodes, format_, "small", 1e-3)
            scaled = add_node(nodes, format_, "Mul", "scaled", _output("noise", format_), small)
            add = "AddV2" if format_ == "TF2" else "Add"
            pool.input[0] = add_node(nodes, format_, add, "noisy", pool.input[0], scaled)

    edit_graph(directory, edit)


def _output(name: str, format_: str) -> str:
    return f"{name}:output:0" if format_ == "TF2" else name


@_damage("a moving mean of another layer", "rebuild.files behaviour.moving_averages")
def follow_another_layer(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=True):
            own, other = (
                by_name(nodes, f"MobilenetV2/expanded_conv_{number}/expand/BatchNorm/moving_mean/AssignMovingAvg/sub")
                for number in (5, 4)
            )
            own.input[1] = other.input[1]

    edit_graph(directory, edit)


@_damage("probabilities for logits in one signature of one graph", "rebuild.files behaviour.training_outputs")
def give_probabilities_once(directory: Path, format_: str) -> None:
    def edit_signature(meta_graph: Message) -> None:
        outputs = meta_graph.signature_def["default"].outputs
        outputs["default"].name = outputs["MobilenetV2/Predictions"].name

    def edit_result(function: Message) -> None:
        function.ret["default"] = function.ret["mobilenetv2_predictions"]

    if format_ == "TF1":
        edit_meta_graph(directory, edit_signature, training=True)
    else:
        edit_functions(directory, "call_training_with_endpoints", edit_result)


@_damage("momentum ignored by one function or input", "rebuild.files behaviour.moving_averages")
def ignore_momentum_once(directory: Path, format_: str) -> None:
    def edit_signature(meta_graph: Message) -> None:
        ignored = meta_graph.graph_def.node.add()
        ignored.CopyFrom(by_name(meta_graph.graph_def.node, "batch_norm_momentum"))
        ignored.name = "ignored"
        inputs = meta_graph.signature_def["image_feature_vector_with_bn_hparams"].inputs
        inputs["batch_norm_momentum"].name = "ignored:0"

    def edit_function(function: Message) -> None:
        ignored = add_constant(function.node_def, format_, "ignored", 0.99)
        by_name(function.node_def, "batch_norm_decay").input[1] = ignored

    if format_ == "TF1":
        edit_meta_graph(directory, edit_signature)
    else:
        edit_functions(directory, "call_training_with_endpoints", edit_function)


def _edit_loss(directory: Path, ending: str, edit: Callable[[Message], None]) -> None:
    """Changes a node of one regularization loss, in the graph for training or in its function."""

    def edit_meta(meta_graph: Message) -> None:
        functions = meta_graph.graph_def.library.function
        for nodes in [meta_graph.graph_def.node, *(function.node_def for function in functions)]:
            for node in nodes:
                if node.name == f"{_LAST}/weights/Regularizer/l2_regularizer/{ending}":
                    edit(node)

    edit_meta_graph(directory, edit_meta)


@_damage("a regularization loss ten times as large", "rebuild.files behaviour.regularization")
def exaggerate_a_loss(directory: Path, format_: str) -> None:
    _edit_loss(directory, "scale", set_constant(4e-4))


@_damage("a regularization loss of another variable", "rebuild.files behaviour.regularization", "TF1")
def regularize_another_variable(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.input[0] = "MobilenetV2/Conv/weights/Read/ReadVariableOp"

    _edit_loss(directory, "L2Loss", edit)


@_damage("a regularization loss bound to another variable", "rebuild.files behaviour.regularization", "TF2")
def bind_another_variable(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        functions = meta_graph.object_graph_def.concrete_functions
        losses = [name for name in sorted(functions) if name.endswith("regularization_loss")]
        functions[losses[0]].bound_inputs[:] = functions[losses[1]].bound_inputs

    edit_meta_graph(directory, edit)


# Beside the graph


@_damage("an op that writes a file", "rebuild.files structure.graphs")
def write_a_file(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model):
            for name in ("filename", "contents"):
                node = nodes.add(name=name, op="Const")
                node.attr["dtype"].type = _STRING
                node.attr["value"].tensor.dtype = _STRING
                node.attr["value"].tensor.string_val[:] = [b"/tmp/written"]
            ending = ":output:0" if format_ == "TF2" else ""
            nodes.add(name="write", op="WriteFile", input=[f"filename{ending}", f"contents{ending}"])
            by_name(nodes, "Logits/output").input.append("^write")

    edit_graph(directory, edit)


@_damage("an op pinned to a device", "rebuild.files structure.graphs")
def pin_to_a_device(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.device = "/device:GPU:7"

    edit_nodes(directory, f"{_LAST}/Conv2D", edit)


@_damage("a min_consumer that old TensorFlows are below", "rebuild.files structure.graphs")
def demand_a_consumer(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        meta_graph.graph_def.versions.min_consumer = 1000

    edit_meta_graph(directory, edit)


@_damage("a bad_consumers that shuts a TensorFlow out", "rebuild.files structure.graphs")
def shut_a_consumer_out(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        meta_graph.graph_def.versions.bad_consumers.append(1286)

    edit_meta_graph(directory, edit)


@_damage("moving averages that replicas do not share", "rebuild.files structure.objects", "TF2")
def aggregate_nothing(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        for saved in meta_graph.object_graph_def.nodes:
            if saved.variable.aggregation:
                saved.variable.aggregation = 0

    edit_meta_graph(directory, edit)


@_damage("collections reversed", "rebuild.files", "TF1")
def reverse_collections(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        for collection in meta_graph.collection_def.values():
            for values in (collection.node_list.value, collection.bytes_list.value):
                if values:
                    values[:] = [*reversed(values)]

    edit_meta_graph(directory, edit)


@_damage("two variables that share one value", "rebuild.files numbers.random behaviour.inference", "TF1")
def share_a_value(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.attr["shared_name"].s = b"MobilenetV2/Conv/BatchNorm/gamma"

    edit_nodes(directory, f"{_LAST}/BatchNorm/gamma", edit)


@_damage("the same graph version twice", "rebuild.files structure.graph_versions")
def repeat_a_graph(directory: Path, format_: str) -> None:
    edit_graph(directory, lambda saved_model: saved_model.meta_graphs.append(saved_model.meta_graphs[0]))


@_damage("a seed that makes dropout repeat itself", "rebuild.files")
def seed_dropout(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.attr["seed"].i = 7

    edit_nodes(directory, "Dropout/dropout/random_uniform", edit, training=True)


@_damage("a gradient of its own for a function", "rebuild.files", "TF2")
def replace_a_gradient(directory: Path, format_: str) -> None:
    def edit(meta_graph: Message) -> None:
        # FunctionDefLibrary.gradient: the function's name, and that of its gradient.
        gradient = b"\n\x0dcall_training\x12\x0eserving_default"
        meta_graph.graph_def.library.MergeFromString(b"\x12" + bytes([len(gradient)]) + gradient)

    edit_meta_graph(directory, edit)


@_damage("a field that hubexport does not know", "rebuild.files")
def add_an_unknown_field(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.MergeFromString(b"\xfa\x3f\x01!")

    edit_nodes(directory, f"{_LAST}/Conv2D", edit)


# Files


@_damage("two variables that objects restore from each other's keys", "rebuild.files weights.equal", "TF2")
def swap_keys(directory: Path, format_: str) -> None:
    reader = BundleReader(directory / "variables" / "variables")
    values = {key: reader.read(key) for key in reader.shapes if key != OBJECT_GRAPH_KEY}
    graph = TrackableObjectGraph.FromString(reader.read_text(OBJECT_GRAPH_KEY))
    names = [f"{_LAST}/BatchNorm/{name}" for name in ("beta", "gamma")]
    first, second = (one for node in graph.nodes for one in node.attributes if one.full_name in names)
    first.checkpoint_key, second.checkpoint_key = second.checkpoint_key, first.checkpoint_key
    for path in (directory / "variables").iterdir():
        path.unlink()
    values[OBJECT_GRAPH_KEY] = graph.SerializeToString(deterministic=True)
    write_bundle(directory / "variables" / "variables", values)


@_damage("bytes after the values", "rebuild.files")
def append_bytes(directory: Path, format_: str) -> None:
    path = directory / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes() + b"more")


@_damage("an empty folder", "rebuild.files")
def add_a_folder(directory: Path, format_: str) -> None:
    (directory / "assets.extra").mkdir()


def _edit_labels(directory: Path, edit: Callable[[list[str]], None]) -> None:
    path = directory / "assets" / "labels.txt"
    names = path.read_text().splitlines()
    edit(names)
    path.write_text("".join(f"{name}\n" for name in names))


@_damage("two labels swapped", "rebuild.files")
def swap_labels(directory: Path, format_: str) -> None:
    def edit(names: list[str]) -> None:
        names[1], names[2] = names[2], names[1]

    _edit_labels(directory, edit)


@_damage("a label missing", "rebuild.files")
def drop_a_label(directory: Path, format_: str) -> None:
    _edit_labels(directory, lambda names: names.remove(names[-1]))


@_damage("a file that is listed, but does not belong", "rebuild.files")
def list_a_file(directory: Path, format_: str) -> None:
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra" / "run.sh").write_text("echo\n")


def edit_manifest(directory: Path, **fields: object) -> None:
    """Changes fields of the manifest."""
    path = directory / "hubexport.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}, indent=2) + "\n")


@_damage("another checkpoint in hubexport.json", "rebuild.manifest")
def name_another_checkpoint(directory: Path, format_: str) -> None:
    sha256 = "318084bc1b63d6d7b854553e09cdf77078b1c0168be27c59a0d44253b5ed49dc"
    checkpoint = {"source": "mobilenet_v2_1.0_224.tgz", "sha256": sha256, "published": True}
    edit_manifest(directory, checkpoint=checkpoint)


@_damage("trained values that are called synthetic", "rebuild.manifest")
def call_it_synthetic(directory: Path, format_: str) -> None:
    edit_manifest(directory, values="synthetic")


@_damage("averaged values that are called the only ones", "rebuild.manifest")
def call_it_the_only_choice(directory: Path, format_: str) -> None:
    edit_manifest(directory, weights="only")


@_damage("another data set in hubexport.json", "rebuild.manifest")
def name_another_dataset(directory: Path, format_: str) -> None:
    edit_manifest(directory, dataset="ILSVRC-2012-CLS (ImageNet)")


@_damage("a format revision of tomorrow", "rebuild.manifest")
def claim_a_revision(directory: Path, format_: str) -> None:
    edit_manifest(directory, format_revision=FORMAT_REVISION + 1)


@_damage("a key of hubexport.json given twice", "rebuild.manifest", keeps_digests=True)
def give_a_key_twice(directory: Path, format_: str) -> None:
    path = directory / "hubexport.json"
    path.write_text(path.read_text().replace('"values":', '"values": "synthetic",\n  "values":', 1))


@_damage("a key that hubexport does not write", "rebuild.manifest")
def add_a_key(directory: Path, format_: str) -> None:
    edit_manifest(directory, accuracy="99.9")
