"""Writes the TF1 Hub format, module versions 1 to 3: a SavedModel of two graph versions that `hub.Module` reads.

    saved_model.pb          two MetaGraphs, tagged [] (inference) and ["train"]
    tfhub_module.pb         marks the TF1 Hub format, in its version 3
    variables/variables.*   the values, by variable name

The bytes of `saved_model.pb` depend on the network alone, not on the installed TensorFlow. TensorFlow from 1.7 and
tensorflow_hub from 0.1.0 on load them, because the MetaGraphs keep these rules:

- Only collections that tensorflow_hub knows. It refuses a module with any other.
- No attachments in versions 1 and 2. tensorflow_hub 0.1.0 refuses them.
- An initializer for each variable, although hub.Module restores the values: importing fails without one.
- `trainable` for each variable. TensorFlow 1.13 and later take a missing one as false.
- No `snapshot_name`. Without it TensorFlow looks for the value under the node name that GraphWriter.read_variable uses.
- The producer of TensorFlow 1.7, since it leaks into the importing graph, and no `min_consumer`, since TensorFlow
  refuses one above its own version.
- No list of ops, `stripped_op_list`. TensorFlow 1.7 and 1.13 refuse a list with ops that they do not know.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hubexport.arrays import Value
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.formats.nodes import FLOAT, GraphWriter, shape_attr, tensor_info
from hubexport.formats.op_nodes import (
    MOMENTUM_FROM_VERSION_3,
    TF1,
    NetworkGraph,
    scaled_images,
    write_l2_loss,
    write_network,
)
from hubexport.networks.network import Network
from hubexport.protos import (
    SAVED_MODEL_SCHEMA_VERSION,
    ImageModuleInfo,
    Message,
    MetaGraphDef,
    ModuleAttachment,
    SavedModel,
    SignatureDef,
    VariableDef,
)
from hubexport.variants import ModuleSpec

# A serialized ModuleDef{format: FORMAT_V3}; see tensorflow_hub/module_def.proto.
_MODULE_DEF = b"\x08\x03"
# TF_GRAPH_DEF_VERSION of TensorFlow 1.7.
_PRODUCER = 26

# One node that does nothing is the initializer of all variables.
_NO_INITIALIZER = "init"


def write_tf1_module(directory: Path, spec: ModuleSpec, network: Network, values: Mapping[str, Value]) -> None:
    """Writes the files of a TF1 Hub module into a new or empty directory.

    Args:
        directory: an existing directory.
        spec: the module's kind and version (1 to 3).
        network: the network, with a classifier if and only if the kind is `classification`.
        values: float32, by variable name, for all variables of the network; others are ignored.
    Raises:
        OSError: a file cannot be written.
    """
    (directory / "saved_model.pb").write_bytes(saved_model_bytes(spec, network))
    (directory / "tfhub_module.pb").write_bytes(_MODULE_DEF)
    (directory / "variables").mkdir()
    written = {variable.name: values[variable.name] for variable in network.variables}
    write_bundle(directory / "variables" / "variables", written)


def saved_model_bytes(spec: ModuleSpec, network: Network) -> bytes:
    """Returns the content of `saved_model.pb`: the same bytes for the same arguments."""
    saved_model = SavedModel(saved_model_schema_version=SAVED_MODEL_SCHEMA_VERSION)
    for training in (False, True):
        saved_model.meta_graphs.append(_meta_graph(spec, network, training))
    return saved_model.SerializeToString(deterministic=True)


def _meta_graph(spec: ModuleSpec, network: Network, training: bool) -> Message:
    graph = GraphWriter()
    image_shape = (None, *network.image_shape)
    images = graph.node("Placeholder", "hub_input/images", dtype=FLOAT, shape=shape_attr(image_shape))
    momentum = _write_momentum(graph, spec, network)
    scaled = scaled_images(graph, images, "hub_input", network)
    handles = {variable.name: graph.variable_handle(variable.name, variable.shape) for variable in network.variables}
    written = write_network(graph, network, scaled, handles, momentum, dialect=TF1, training=training)
    losses = [
        write_l2_loss(graph, variable, written.values[variable.name])
        for variable in network.variables
        if variable.weight_decay
    ]
    graph.node("NoOp", _NO_INITIALIZER)

    meta_graph = MetaGraphDef()
    meta_graph.graph_def.node.extend(graph.nodes)
    meta_graph.graph_def.versions.producer = _PRODUCER
    meta_graph.meta_info_def.tags.extend(["train"] if training else [])
    _add_collections(meta_graph, network, losses, written.update_ops)
    _add_signatures(meta_graph, spec, network, written, images, momentum)
    if spec.version >= 3:
        _attach_image_size(meta_graph, network)
    return meta_graph


def _write_momentum(graph: GraphWriter, spec: ModuleSpec, network: Network) -> str:
    """Writes the momentum of batch norm: TF-Slim's in versions 1 and 2, then an input with a default."""
    if spec.version < 3:
        return graph.constant("batch_norm_momentum", network.momentum)
    default = graph.constant("batch_norm_momentum/input", MOMENTUM_FROM_VERSION_3)
    return graph.node("PlaceholderWithDefault", "batch_norm_momentum", default, dtype=FLOAT, shape=shape_attr(()))


def _add_collections(meta_graph: Message, network: Network, losses: Sequence[str], update_ops: Sequence[str]) -> None:
    collections = meta_graph.collection_def
    for variable in network.variables:
        definition = VariableDef(
            variable_name=f"{variable.name}:0",
            initializer_name=_NO_INITIALIZER,
            is_resource=True,
            trainable=variable.trainable,
        )
        serialized = definition.SerializeToString(deterministic=True)
        for key in ["variables", "model_variables"] + ["trainable_variables"] * variable.trainable:
            collections[key].bytes_list.value.append(serialized)
    collections["regularization_losses"].node_list.value.extend(losses)
    if update_ops:
        collections["update_ops"].node_list.value.extend(update_ops)


def _add_signatures(
    meta_graph: Message, spec: ModuleSpec, network: Network, written: NetworkGraph, images: str, momentum: str
) -> None:
    """Adds the common signatures for images; each returns its main result as `default`, and all endpoints."""
    main_layers = {"image_feature_vector": network.features}
    if network.logits:
        main_layers["image_classification"] = network.logits
    plain_inputs = {"images": tensor_info(images, (None, *network.image_shape))}
    inputs_with_momentum = {**plain_inputs, "batch_norm_momentum": tensor_info(momentum, ())}
    signatures = {name: (plain_inputs, layer) for name, layer in main_layers.items()}
    default = "image_classification" if spec.kind == "classification" else "image_feature_vector"
    signatures["default"] = signatures[default]
    if spec.version >= 3:
        for name, layer in main_layers.items():
            signatures[f"{name}_with_bn_hparams"] = (inputs_with_momentum, layer)
    for name, (inputs, main_layer) in signatures.items():
        outputs = {
            key: tensor_info(written.outputs[layer], (None, *network.shapes[layer]))
            for key, layer in [("default", main_layer), *network.endpoints.items()]
        }
        meta_graph.signature_def[name].CopyFrom(SignatureDef(inputs=inputs, outputs=outputs))


def _attach_image_size(meta_graph: Message, network: Network) -> None:
    """Attaches the image size, where `hub.get_expected_image_size` looks for it."""
    height, width = network.default_image_size
    info = ImageModuleInfo(default_image_size={"height": height, "width": width})
    attachment = ModuleAttachment(key="image_module_info", value=info.SerializeToString())
    meta_graph.collection_def["hub_module_attachments"].bytes_list.value.append(attachment.SerializeToString())
