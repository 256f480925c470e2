"""Compares what a module declares beside its signatures with its network: collections, attachments, object lists."""

from collections.abc import Iterator, Mapping

from google.protobuf.message import DecodeError

from hubexport.errors import printable
from hubexport.networks.network import Network
from hubexport.protos import ImageModuleInfo, Message, ModuleAttachment, VariableDef

# Any other collection is an error to hub.Module.
_KNOWN_COLLECTIONS = (
    "variables",
    "model_variables",
    "trainable_variables",
    "update_ops",
    "regularization_losses",
    "hub_module_attachments",
)
# VARIABLE_AGGREGATION_NONE in tensorflow/core/framework/variable.proto
_NO_AGGREGATION = 0
OBJECT_LISTS = ("variables", "trainable_variables", "regularization_losses")


def collection_problems(meta_graph: Message, network: Network) -> Iterator[str]:
    """Yields what is wrong with the collections of a TF1 graph version, one line per problem."""
    collections = meta_graph.collection_def
    yield from (
        f"unknown collection {printable(name)}" for name in sorted(collections) if name not in _KNOWN_COLLECTIONS
    )
    try:
        for key in ("variables", "trainable_variables", "model_variables"):
            serialized = collections[key].bytes_list.value if key in collections else ()
            definitions = [VariableDef.FromString(definition) for definition in serialized]
            listed = [(variable.variable_name.removesuffix(":0"), variable.trainable) for variable in definitions]
            yield from _variable_problems(key, listed, network)
    except DecodeError:
        yield "a variable definition cannot be decoded"
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    yield from _update_problems(meta_graph, nodes, network)
    yield from _loss_problems(meta_graph, nodes, network)


def _variable_problems(key: str, listed: list[tuple[str, bool]], network: Network) -> Iterator[str]:
    """Yields what is wrong with a list of variables: their names, and whether each is marked as trainable."""
    trainable = {
        variable.name: variable.trainable
        for variable in network.variables
        if variable.trainable or key != "trainable_variables"
    }
    names = [name for name, _ in listed]
    yield from (f"{name} is not in {key}" for name in trainable if name not in names)
    yield from (f"{printable(name)} should not be in {key}" for name in names if name not in trainable)
    if len(names) != len(set(names)):
        yield f"{key} lists a variable twice"
    for name, marked in listed:
        if name in trainable and marked != trainable[name]:
            yield f"{key} marks {name} as {'' if marked else 'not '}trainable"


def _update_problems(meta_graph: Message, nodes: Mapping[str, Message], network: Network) -> Iterator[str]:
    """Yields what is wrong with the update ops. In training, one should assign to each moving average."""
    training = "train" in meta_graph.meta_info_def.tags
    assigned = [_assigned_variable(nodes, name) for name in _node_list(meta_graph, "update_ops")]
    moving = [variable.name for variable in network.variables if training and not variable.trainable]
    yield from (f"no update op for {name}" for name in moving if name not in assigned)
    yield from (f"unexpected update op for {name}" for name in assigned if name not in moving)
    if len(assigned) != len(set(assigned)):
        yield "two update ops for one variable"


def _assigned_variable(nodes: Mapping[str, Message], update_op: str) -> str:
    node = nodes.get(update_op)
    if node is None or not node.input:
        return printable(f"{update_op} (no such node)")
    return printable(node.input[0].removesuffix(":0"))


def _loss_problems(meta_graph: Message, nodes: Mapping[str, Message], network: Network) -> Iterator[str]:
    losses = _node_list(meta_graph, "regularization_losses")
    wanted = sum(bool(variable.weight_decay) for variable in network.variables)
    if len(losses) != wanted:
        yield f"{len(losses)} regularization losses, not {wanted}"
    absent = (name for name in losses if name.partition(":")[0] not in nodes)
    yield from (f"regularization loss {printable(name)} is not in the graph" for name in absent)


def _node_list(meta_graph: Message, key: str) -> list[str]:
    collections = meta_graph.collection_def
    return [*collections[key].node_list.value] if key in collections else []


def attached_image_sizes(meta_graph: Message) -> list[tuple[int, int]]:
    """Returns the height and width in each attachment of a TF1 graph version."""
    collections = meta_graph.collection_def
    if "hub_module_attachments" not in collections:
        return []
    sizes = []
    for serialized in collections["hub_module_attachments"].bytes_list.value:
        attachment = ModuleAttachment.FromString(serialized)
        size = ImageModuleInfo.FromString(attachment.value).default_image_size
        sizes.append((size.height, size.width))
    return sizes


def object_problems(meta_graph: Message, network: Network) -> Iterator[str]:
    """Yields what is wrong with the root object of a TF2 SavedModel and its lists, one line per problem."""
    nodes = meta_graph.object_graph_def.nodes
    attributes = {child.local_name: child.node_id for child in nodes[0].children} if nodes else {}
    missing = [name for name in (*OBJECT_LISTS, "__call__") if name not in attributes]
    yield from (f"the object has no {name}" for name in missing)
    if missing:
        return
    lists = {name: [nodes[child.node_id] for child in nodes[attributes[name]].children] for name in OBJECT_LISTS}
    for key in ("variables", "trainable_variables"):
        listed = [(node.variable.name, node.variable.trainable) for node in lists[key]]
        yield from _variable_problems(key, listed, network)
    averages = {variable.name for variable in network.variables if not variable.trainable}
    for node in lists["variables"]:
        if node.variable.name in averages and node.variable.aggregation == _NO_AGGREGATION:
            yield f"{node.variable.name} drifts apart between replicas: they do not aggregate it"
    losses, wanted = len(lists["regularization_losses"]), sum(
        bool(variable.weight_decay) for variable in network.variables
    )
    if losses != wanted:
        yield f"{losses} regularization losses, not {wanted}"
