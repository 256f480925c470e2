"""Damage to modules: mistakes that an exporter could make, and accidents that could happen to a finished module.

Those of `MUTATIONS` damage a MobileNet V2, those of `tests/subtle_mutations.py` as well, and those of
`tests/resnet_mutations.py` what a ResNet has otherwise or besides.

`tests/test_mutations.py` applies each one. docs/verification.md lists the checks of `hubexport verify` that catch it.
"""

from collections.abc import Callable, Iterator
import dataclasses
import json
from pathlib import Path

import numpy as np

from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.formats.manifest import manifest_content
from hubexport.layouts.tf2 import KEY_SUFFIX, OBJECT_GRAPH_KEY
from hubexport.protos import AttrValue, ImageModuleInfo, Message, ModuleAttachment, SavedModel, VariableDef
from hubexport.system.digests import file_sha256, tree_files

_PREFIX = Path("variables", "variables")
_BLOCK = "MobilenetV2/expanded_conv_5"


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One kind of damage.

    Attributes:
        name: a description in a few words.
        caught_by: the names of the checks that must fail, as far as they apply to the format.
        formats: the formats that it is applied to, `TF1` and `TF2`.
        apply: damages the module in a directory. Its second argument is the module's format.
        keeps_digests: whether `hubexport.json` keeps the digests of the intact files.
    """

    name: str
    caught_by: tuple[str, ...]
    formats: tuple[str, ...]
    apply: Callable[[Path, str], None]
    keeps_digests: bool = False


MUTATIONS: list[Mutation] = []


def mutation(
    name: str,
    caught_by: str,
    formats: str = "TF1 TF2",
    *,
    keeps_digests: bool = False,
    into: list[Mutation] = MUTATIONS,
) -> Callable[[Callable[[Path, str], None]], Callable[[Path, str], None]]:
    """Adds a function to a list of mutations. Names of checks and formats are separated by spaces."""

    def add(function: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
        into.append(Mutation(name, tuple(caught_by.split()), tuple(formats.split()), function, keeps_digests))
        return function

    return add


def update_digests(directory: Path) -> None:
    """Lists the damaged files in `hubexport.json`, so that a check other than `structure.digests` has to fail."""
    manifest = json.loads((directory / "hubexport.json").read_text())
    files = [path for path in tree_files(directory) if path.name != "hubexport.json"]
    manifest["sha256"] = {path.relative_to(directory).as_posix(): file_sha256(path) for path in files}
    (directory / "hubexport.json").write_bytes(manifest_content(manifest))


# Values


def edit_values(directory: Path, format_: str, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Changes values by variable name, and writes them back under their own keys."""
    reader = BundleReader(directory / _PREFIX)
    suffix = KEY_SUFFIX if format_ == "TF2" else ""
    values = {key.removesuffix(suffix): reader.read(key).copy() for key in reader.shapes if key != OBJECT_GRAPH_KEY}
    edit(values)
    written = {f"{name}{suffix}": value for name, value in values.items()}
    if format_ == "TF2":
        written[OBJECT_GRAPH_KEY] = reader.read_text(OBJECT_GRAPH_KEY)
    for path in (directory / "variables").iterdir():
        path.unlink()
    write_bundle(directory / _PREFIX, written)


@mutation("one weight by one unit in the last place", "weights.equal")
def nudge_by_one_ulp(directory: Path, format_: str) -> None:
    def edit(values):
        weights = values[f"{_BLOCK}/expand/weights"]
        weights[0, 0, 3, 5] = np.nextafter(weights[0, 0, 3, 5], np.float32(9))

    edit_values(directory, format_, edit)


@mutation("one weight by 0.1", "weights.equal numbers.random numbers.layers")
def nudge(directory: Path, format_: str) -> None:
    def edit(values):
        values[f"{_BLOCK}/expand/weights"][0, 0, 3, 5] += 0.1

    edit_values(directory, format_, edit)


@mutation("two output channels swapped", "weights.equal numbers.random numbers.layers numbers.slim")
def swap_channels(directory: Path, format_: str) -> None:
    def edit(values):
        weights = values[f"{_BLOCK}/project/weights"]
        weights[..., [0, 1]] = weights[..., [1, 0]]

    edit_values(directory, format_, edit)


@mutation("moving mean and variance swapped", "weights.equal weights.sound numbers.random numbers.layers")
def swap_moments(directory: Path, format_: str) -> None:
    def edit(values):
        mean, variance = (f"{_BLOCK}/depthwise/BatchNorm/moving_{name}" for name in ("mean", "variance"))
        values[mean], values[variance] = values[variance], values[mean]

    edit_values(directory, format_, edit)


@mutation("a gamma left at 1", "weights.equal numbers.random numbers.layers")
def drop_gamma(directory: Path, format_: str) -> None:
    def edit(values):
        values[f"{_BLOCK}/depthwise/BatchNorm/gamma"][:] = 1

    edit_values(directory, format_, edit)


@mutation("one raw value among averaged ones", "weights.equal numbers.random numbers.layers")
def mix_in_a_raw_value(directory: Path, format_: str) -> None:
    from tests.checkpoints import network_values

    def edit(values):
        name = f"{_BLOCK}/project/BatchNorm/beta"
        values[name] = network_values(seed=2)[name]

    edit_values(directory, format_, edit)


@mutation("a weight that is not a number", "weights.equal weights.sound numbers.random")
def put_nan(directory: Path, format_: str) -> None:
    def edit(values):
        values[f"{_BLOCK}/expand/weights"][0, 0, 0, 0] = np.nan

    edit_values(directory, format_, edit)


@mutation("a variable missing", "structure.variables weights.equal numbers.random")
def drop_a_variable(directory: Path, format_: str) -> None:
    edit_values(directory, format_, lambda values: values.pop(f"{_BLOCK}/project/BatchNorm/beta"))


@mutation("an optimizer's slot left in", "structure.variables", "TF1")
def leave_a_slot(directory: Path, format_: str) -> None:
    name = f"{_BLOCK}/expand/weights"
    edit_values(directory, format_, lambda values: values.update({f"{name}/RMSProp": np.ones_like(values[name])}))


@mutation("a text among the values", "structure.variables weights.sound", "TF1")
def leave_a_text(directory: Path, format_: str) -> None:
    edit_values(directory, format_, lambda values: values.update({"words": b"not a number"}))


# Graphs


def edit_graph(directory: Path, edit: Callable[[Message], None]) -> None:
    path = directory / "saved_model.pb"
    saved_model = SavedModel.FromString(path.read_bytes())
    edit(saved_model)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))


def scopes(saved_model: Message, training: bool | None = None) -> Iterator[Message]:
    """Yields each list of nodes that computes the network, from graph versions or functions.

    Args:
        saved_model: the module's SavedModel.
        training: only those for training, or only those for inference. Defaults to both.
    """
    for meta_graph in saved_model.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            name = function.signature.name
            if name.startswith("call_") and training in (None, name.startswith("call_training")):
                yield function.node_def
        if not meta_graph.graph_def.library.function and training in (None, "train" in meta_graph.meta_info_def.tags):
            yield meta_graph.graph_def.node


def edit_nodes(directory: Path, name: str, edit: Callable[[Message], None], training: bool | None = None) -> None:
    """Changes each node whose name is `name` or ends with `/name`."""

    def edit_all(saved_model: Message) -> None:
        nodes = [
            node for nodes in scopes(saved_model, training) for node in nodes if f"/{node.name}".endswith(f"/{name}")
        ]
        assert nodes, f"no node {name}"
        for node in nodes:
            edit(node)

    edit_graph(directory, edit_all)


def set_op(op: str) -> Callable[[Message], None]:
    def edit(node: Message) -> None:
        node.op = op

    return edit


def set_constant(value: float) -> Callable[[Message], None]:
    def edit(node: Message) -> None:
        node.attr["value"].tensor.float_val[:] = [value]

    return edit


@mutation("a stride of 1 instead of 2", "numbers.random numbers.layers")
def change_stride(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.attr["strides"].list.i[:] = [1, 1, 1, 1]

    edit_nodes(directory, "expanded_conv_13/depthwise/depthwise", edit)


@mutation("padding VALID instead of SAME", "numbers.random numbers.layers")
def change_padding(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.attr["padding"].s = b"VALID"

    edit_nodes(directory, "MobilenetV2/Conv/Conv2D", edit)


@mutation("images not mapped to [-1, 1]", "numbers.random numbers.extremes numbers.layers")
def leave_out_the_mapping(directory: Path, format_: str) -> None:
    edit_nodes(directory, "hub_input/Mul/y", set_constant(1.0))
    edit_nodes(directory, "hub_input/Sub/y", set_constant(0.0))


@mutation("ReLU instead of ReLU6", "numbers.random numbers.layers numbers.slim")
def forget_the_six(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model):
            for node in nodes:
                if node.op == "Relu6":
                    node.op = "Relu"

    edit_graph(directory, edit)


@mutation("epsilon 1e-5 instead of 1e-3", "numbers.random numbers.layers behaviour.gradients")
def change_epsilon(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model):
            for node in nodes:
                if "epsilon" in node.attr:
                    node.attr["epsilon"].f = 1e-5

    edit_graph(directory, edit)


@mutation("a residual connection left out", "numbers.random numbers.layers")
def leave_out_a_residual(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model):
            [add] = [node for node in nodes if node.name.endswith("expanded_conv_5/add")]
            for node in nodes:
                if add.name in (source.partition(":")[0] for source in node.input):
                    node.input[0] = add.input[0]

    edit_graph(directory, edit)


@mutation("maximum instead of average pooling", "numbers.random numbers.layers")
def pool_the_maximum(directory: Path, format_: str) -> None:
    edit_nodes(directory, "Logits/AvgPool", set_op("MaxPool"))


@mutation("two endpoints swapped", "numbers.layers")
def swap_endpoints(directory: Path, format_: str) -> None:
    keys = [f"MobilenetV2/layer_{number}/expansion_output" for number in (9, 10)]

    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if format_ == "TF1":
                for signature in meta_graph.signature_def.values():
                    first, second = (signature.outputs[key] for key in keys)
                    first.name, second.name = second.name, first.name
            for function in meta_graph.graph_def.library.function:
                results = [key.replace("/", "_").lower() for key in keys]
                swapped = [name for name in function.ret if name.lower() in results]
                if swapped:
                    first, second = swapped
                    function.ret[first], function.ret[second] = function.ret[second], function.ret[first]

    edit_graph(directory, edit)


@mutation("a batch of one picture fixed in the graph", "numbers.batches")
def fix_the_batch(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.attr["value"].tensor.int_val[0] = 1

    edit_nodes(directory, "Conv2d_1c_1x1/rows/shape", edit)


@mutation("a signature that gives probabilities instead of logits", "numbers.signatures", "TF1")
def give_probabilities(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            signature = meta_graph.signature_def["image_classification"]
            signature.outputs["default"].name = signature.outputs["MobilenetV2/Predictions"].name

    edit_graph(directory, edit)


@mutation("a signature for serving that runs in training mode", "numbers.signatures", "TF2")
def serve_in_training_mode(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for function in saved_model.meta_graphs[0].graph_def.library.function:
            if function.signature.name == "serving_default":
                [call] = [node for node in function.node_def if "f" in node.attr]
                call.attr["f"].func.name = "call_training"

    edit_graph(directory, edit)


# Training


@mutation("inference that changes a moving average", "numbers.random behaviour.inference")
def update_in_inference(directory: Path, format_: str) -> None:
    name = f"{_BLOCK}/expand/BatchNorm/moving_mean"

    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model, training=False):
            [read] = [node for node in nodes if node.name == f"{name}/Read/ReadVariableOp"]
            assign = nodes.add(name="assign", op="AssignSubVariableOp")
            assign.input[:] = [read.input[0], f"{read.name}:value:0" if format_ == "TF2" else read.name]
            assign.attr["dtype"].type = 1
            for node in nodes:
                if node.name == "MobilenetV2/Logits/output":
                    node.input.append("^assign")

    edit_graph(directory, edit)


@mutation("no gradient for one weight", "behaviour.training_step behaviour.shared_variables")
def stop_one_gradient(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for nodes in scopes(saved_model):
            [kernel] = [node for node in nodes if node.name.endswith("Conv2d_1c_1x1/kernel")]
            stopped = nodes.add(name="stopped", op="StopGradient", input=[kernel.input[0]])
            stopped.attr["T"].type = 1
            kernel.input[0] = "stopped:output:0" if format_ == "TF2" else "stopped"

    edit_graph(directory, edit)


@mutation("a default momentum of 0.9 instead of 0.99", "behaviour.moving_averages")
def change_momentum(directory: Path, format_: str) -> None:
    if format_ == "TF1":
        edit_nodes(directory, "batch_norm_momentum/input", set_constant(0.9))
        return

    def edit(saved_model: Message) -> None:
        for node in saved_model.meta_graphs[0].object_graph_def.nodes:
            for pair in node.function.function_spec.fullargspec.named_tuple_value.values:
                for default in pair.value.tuple_value.values:
                    if default.WhichOneof("kind") == "float64_value":
                        default.float64_value = 0.9

    edit_graph(directory, edit)


@mutation("momentum used the wrong way round", "behaviour.moving_averages")
def invert_momentum(directory: Path, format_: str) -> None:
    # 1 * momentum instead of 1 - momentum.
    edit_nodes(directory, "batch_norm_decay", set_op("Mul"), training=True)


@mutation("an update op missing", "structure.collections behaviour.training_step behaviour.moving_averages")
def drop_an_update_op(directory: Path, format_: str) -> None:
    name = f"{_BLOCK}/expand/BatchNorm/moving_mean/AssignMovingAvg"

    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if "update_ops" in meta_graph.collection_def:
                meta_graph.collection_def["update_ops"].node_list.value.remove(name)
        if format_ == "TF2":
            for nodes in scopes(saved_model, training=True):
                for node in nodes:
                    if node.name == name:
                        node.op = "NoOp"
                        node.ClearField("input")
                        node.attr.clear()

    edit_graph(directory, edit)


@mutation("a moving mean updated by the variance", "behaviour.moving_averages")
def update_by_the_wrong_statistic(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        batch_norm = node.input[1].partition(":")[0]
        node.input[1] = f"{batch_norm}:batch_variance:0" if format_ == "TF2" else f"{batch_norm}:2"

    edit_nodes(directory, "expanded_conv_5/expand/BatchNorm/moving_mean/AssignMovingAvg/sub", edit, training=True)


@mutation("a gradient stopped", "behaviour.training_step behaviour.gradients")
def stop_a_gradient(directory: Path, format_: str) -> None:
    edit_nodes(directory, "expanded_conv_5/output", set_op("StopGradient"))


@mutation("no dropout", "behaviour.dropout")
def leave_out_dropout(directory: Path, format_: str) -> None:
    edit_nodes(directory, "Logits/Dropout/dropout/keep_prob", set_constant(1.0))


@mutation("dropout that keeps 0.5 instead of 0.8", "behaviour.dropout")
def drop_too_much(directory: Path, format_: str) -> None:
    edit_nodes(directory, "Logits/Dropout/dropout/keep_prob", set_constant(0.5))


@mutation("dropout in the features", "behaviour.dropout", "TF1")
def drop_features(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        node.input[0] = "MobilenetV2/Logits/Dropout/dropout/mul"

    edit_nodes(directory, "hub_output/feature_vector/SpatialSqueeze", edit, training=True)


@mutation("weight decay on a depthwise convolution", "structure.collections structure.objects behaviour.regularization")
def decay_depthwise_weights(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if format_ == "TF1":
                losses = meta_graph.collection_def["regularization_losses"].node_list.value
                loss = _node(meta_graph, f"{_BLOCK}/expand/weights/Regularizer/l2_regularizer/L2Loss")
                value = f"{_BLOCK}/depthwise/depthwise_weights/Read/ReadVariableOp"
                added = meta_graph.graph_def.node.add()
                added.CopyFrom(loss)
                added.name, added.input[0] = "depthwise_loss", value
                losses.append("depthwise_loss:0")
            else:
                _list_once_more(meta_graph.object_graph_def, "regularization_losses")

    edit_graph(directory, edit)


def _node(meta_graph: Message, name: str) -> Message:
    return next(node for node in meta_graph.graph_def.node if node.name == name)


def _list_once_more(objects: Message, attribute: str) -> None:
    """Appends the first element of a list to that list."""
    elements = objects.nodes[_attribute(objects, attribute)].children
    elements.add(node_id=elements[0].node_id, local_name=str(len(elements)))


def _attribute(objects: Message, name: str) -> int:
    return next(child.node_id for child in objects.nodes[0].children if child.local_name == name)


@mutation("weight decay of 4e-4 instead of 4e-5", "behaviour.regularization")
def decay_too_much(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            for nodes in (meta_graph.graph_def.node, *(f.node_def for f in meta_graph.graph_def.library.function)):
                for node in nodes:
                    if node.name.endswith("l2_regularizer/scale"):
                        set_constant(4e-4)(node)

    edit_graph(directory, edit)


@mutation("a moving average among the trained variables", "structure.collections structure.objects")
def train_a_moving_average(directory: Path, format_: str) -> None:
    name = f"{_BLOCK}/expand/BatchNorm/moving_mean"

    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if format_ == "TF1":
                added = VariableDef(
                    variable_name=f"{name}:0", initializer_name="init", is_resource=True, trainable=True
                )
                trained = meta_graph.collection_def["trainable_variables"].bytes_list.value
                trained.append(added.SerializeToString())
            else:
                objects = meta_graph.object_graph_def
                [number] = [number for number, node in enumerate(objects.nodes) if node.variable.name == name]
                elements = objects.nodes[_attribute(objects, "trainable_variables")].children
                elements.add(node_id=number, local_name=str(len(elements)))

    edit_graph(directory, edit)


@mutation(
    "a weight missing among the trained variables", "structure.collections structure.objects behaviour.training_step"
)
def freeze_a_weight(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if format_ == "TF1":
                del meta_graph.collection_def["trainable_variables"].bytes_list.value[-1]
            else:
                objects = meta_graph.object_graph_def
                del objects.nodes[_attribute(objects, "trainable_variables")].children[-1]

    edit_graph(directory, edit)


# Interfaces


@mutation("a signature renamed", "structure.signatures")
def rename_a_signature(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            signatures = meta_graph.signature_def
            old = "image_feature_vector" if format_ == "TF1" else "serving_default"
            signatures["features"].CopyFrom(signatures[old])
            del signatures[old]

    edit_graph(directory, edit)


@mutation("an output key missing", "structure.signatures")
def drop_an_output(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            if format_ == "TF1":
                del meta_graph.signature_def["default"].outputs["MobilenetV2/layer_7/output"]
            else:
                for function in meta_graph.object_graph_def.concrete_functions.values():
                    function.output_signature.dict_value.fields.pop("MobilenetV2/layer_7/output", None)

    edit_graph(directory, edit)


@mutation("a signature that promises another size", "structure.signatures")
def promise_another_size(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            for signature in meta_graph.signature_def.values():
                signature.inputs["images"].tensor_shape.dim[1].size = 128

    edit_graph(directory, edit)


@mutation("another image size attached", "structure.image_size", "TF1")
def attach_another_size(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            info = ImageModuleInfo(default_image_size={"height": 224, "width": 224})
            attachment = ModuleAttachment(key="image_module_info", value=info.SerializeToString())
            values = meta_graph.collection_def["hub_module_attachments"].bytes_list.value
            values[:] = [attachment.SerializeToString()]

    edit_graph(directory, edit)


@mutation("a list of the interface renamed", "structure.objects", "TF2")
def rename_a_list(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for child in saved_model.meta_graphs[0].object_graph_def.nodes[0].children:
            if child.local_name == "regularization_losses":
                child.local_name = "losses"

    edit_graph(directory, edit)


@mutation("a graph version tagged otherwise", "structure.graph_versions")
def change_tags(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        saved_model.meta_graphs[-1].meta_info_def.tags[:] = ["training" if format_ == "TF1" else "serving"]

    edit_graph(directory, edit)


@mutation("an attribute that old TensorFlows do not know", "structure.ops")
def add_a_new_attribute(directory: Path, format_: str) -> None:
    def edit(node: Message) -> None:
        # As TensorFlow's own graph builder writes it from 1.15 on.
        node.attr["exponential_avg_factor" if format_ == "TF1" else "attribute_of_tomorrow"].CopyFrom(AttrValue(f=1.0))

    edit_nodes(directory, "FusedBatchNorm" if format_ == "TF1" else "FusedBatchNormV3", edit)


@mutation("an op that old TensorFlows do not know", "structure.ops", "TF1")
def use_a_new_op(directory: Path, format_: str) -> None:
    edit_nodes(directory, "expanded_conv_5/add", set_op("AddV2"))


@mutation("a collection that hub.Module does not know", "structure.collections", "TF1")
def add_a_collection(directory: Path, format_: str) -> None:
    def edit(saved_model: Message) -> None:
        for meta_graph in saved_model.meta_graphs:
            meta_graph.collection_def["losses"].node_list.value.append("init")

    edit_graph(directory, edit)


# Files


@mutation("the mark of the format missing", "structure.file_format", "TF1")
def drop_the_mark(directory: Path, format_: str) -> None:
    (directory / "tfhub_module.pb").unlink()


@mutation("the file of values cut off", "weights.equal")
def cut_the_values(directory: Path, format_: str) -> None:
    path = directory / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1000])


@mutation("the graph cut off", "structure.file_format structure.signatures")
def cut_the_graph(directory: Path, format_: str) -> None:
    path = directory / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-1000])


@mutation("a digest of before", "structure.digests", keeps_digests=True)
def keep_a_digest(directory: Path, format_: str) -> None:
    path = directory / "saved_model.pb"
    # An unknown field, which readers skip.
    path.write_bytes(path.read_bytes() + b"\xf8\x3f\x01")


@mutation("a file that is not listed", "structure.digests", keeps_digests=True)
def add_a_file(directory: Path, format_: str) -> None:
    (directory / "fingerprint.pb").write_bytes(b"")


@mutation("wrong facts in hubexport.json", "structure.facts")
def change_facts(directory: Path, format_: str) -> None:
    path = directory / "hubexport.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_features": 1281}))
