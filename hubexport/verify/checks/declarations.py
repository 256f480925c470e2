"""Checks of what a module declares beside its signatures, without running it: collections, attachments, objects."""

from collections.abc import Iterator, Sequence

from google.protobuf.message import DecodeError

from hubexport.errors import printable
from hubexport.protos import ImageModuleInfo, Message, ModuleAttachment, VariableDef
from hubexport.verify.check import CheckGroup
from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding, NotApplicable, nothing_wrong

GROUP = CheckGroup("structure")

# What hub.Module knows; any other collection is an error to it.
_COLLECTIONS = (
    "variables",
    "model_variables",
    "trainable_variables",
    "update_ops",
    "regularization_losses",
    "hub_module_attachments",
)
_FIRST_WITH_ATTACHMENT = 3
_LISTS = ("variables", "trainable_variables", "regularization_losses")


@GROUP.check
def collections(evidence: VerificationContext) -> Finding:
    """TF1: the collections list all variables, trained variables, update ops and losses; there are no others."""
    if not evidence.subject.is_tf1:
        raise NotApplicable("a TF2 SavedModel has objects instead; see structure.objects")
    problems = [
        f"graph version [{', '.join(meta_graph.meta_info_def.tags)}]: {problem}"
        for meta_graph in evidence.saved_model.meta_graphs
        for problem in _wrong_collections(meta_graph, evidence)
    ]
    network = evidence.network
    trained = sum(variable.trainable for variable in network.variables)
    return nothing_wrong(problems, f"{len(network.variables)} variables, {trained} of them trained")


def _wrong_collections(meta_graph: Message, evidence: VerificationContext) -> Iterator[str]:
    found = meta_graph.collection_def
    yield from (f"unknown collection {printable(name)}" for name in sorted(found) if name not in _COLLECTIONS)
    wanted = [(variable.name, variable.trainable) for variable in evidence.network.variables]
    try:
        for key in ("variables", "trainable_variables", "model_variables"):
            listed = [VariableDef.FromString(one) for one in found[key].bytes_list.value] if key in found else []
            pairs = [(one.variable_name.removesuffix(":0"), one.trainable) for one in listed]
            yield from _differences(key, pairs, [one for one in wanted if one[1] or key != "trainable_variables"])
    except DecodeError:
        yield "a variable definition cannot be decoded"
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    yield from _wrong_updates(found, nodes, evidence, training="train" in meta_graph.meta_info_def.tags)
    yield from _wrong_losses(found, nodes, evidence)


def _differences(key: str, found: list[tuple[str, bool]], wanted: list[tuple[str, bool]]) -> Iterator[str]:
    names = [name for name, _ in found]
    yield from (f"{name} is not in {key}" for name, _ in wanted if name not in names)
    yield from (f"{printable(name)} should not be in {key}" for name in names if name not in dict(wanted))
    if len(names) != len(set(names)):
        yield f"{key} lists a variable twice"
    trainable = dict(wanted)
    for name, says in found:
        if name in trainable and says != trainable[name]:
            yield f"{key} marks {name} as {'' if says else 'not '}trainable"


def _wrong_updates(
    found: Message, nodes: dict[str, Message], evidence: VerificationContext, *, training: bool
) -> Iterator[str]:
    """Yields what is wrong with the update ops: in training, one assigns to each moving average."""
    listed = found["update_ops"].node_list.value if "update_ops" in found else []
    assigned = [_assigned_variable(nodes, name) for name in listed]
    wanted = [variable.name for variable in evidence.network.variables if training and not variable.trainable]
    yield from (f"no update op for {name}" for name in wanted if name not in assigned)
    yield from (f"unexpected update op for {name}" for name in assigned if name not in wanted)
    if len(assigned) != len(set(assigned)):
        yield "two update ops for one variable"


def _assigned_variable(nodes: dict[str, Message], update_op: str) -> str:
    node = nodes.get(update_op)
    if node is None or not node.input:
        return printable(f"{update_op} (no such node)")
    return printable(node.input[0].removesuffix(":0"))


def _wrong_losses(found: Message, nodes: dict[str, Message], evidence: VerificationContext) -> Iterator[str]:
    listed = found["regularization_losses"].node_list.value if "regularization_losses" in found else []
    wanted = sum(variable.regularized for variable in evidence.network.variables)
    if len(listed) != wanted:
        yield f"{len(listed)} regularization losses, not {wanted}"
    yield from (
        f"regularization loss {printable(name)} is not in the graph"
        for name in listed
        if name.partition(":")[0] not in nodes
    )


@GROUP.check
def image_size(evidence: VerificationContext) -> Finding:
    """TF1, version 3: hub.get_expected_image_size reads the network's image size from the module's attachment."""
    if not evidence.subject.is_tf1:
        raise NotApplicable("in TF2, programs read the image size from the shape of __call__'s argument")
    wanted = evidence.network.image_shape[:2]
    if evidence.subject.spec.version < _FIRST_WITH_ATTACHMENT:
        # tensorflow_hub 0.1.0, the first, refuses modules with attachments.
        found = [_attached_sizes(meta_graph) for meta_graph in evidence.saved_model.meta_graphs]
        return nothing_wrong(
            (
                f"{_shown([size])} is attached; tensorflow_hub 0.1.0 refuses attachments"
                for sizes in found
                for size in sizes
            ),
            f"none attached; the input shape gives {_shown([wanted])}",
        )
    problems = []
    for meta_graph in evidence.saved_model.meta_graphs:
        sizes = _attached_sizes(meta_graph)
        if sizes != [wanted]:
            problems.append(f"{_shown(sizes)} attached, not {_shown([wanted])}")
    return nothing_wrong(problems, f"{_shown([wanted])} attached")


def _attached_sizes(meta_graph: Message) -> list[tuple[int, int]]:
    collections = meta_graph.collection_def
    if "hub_module_attachments" not in collections:
        return []
    sizes = []
    for serialized in collections["hub_module_attachments"].bytes_list.value:
        attachment = ModuleAttachment.FromString(serialized)
        size = ImageModuleInfo.FromString(attachment.value).default_image_size
        sizes.append((size.height, size.width))
    return sizes


def _shown(sizes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(" x ".join(map(str, size)) for size in sizes) or "no size"


@GROUP.check
def objects(evidence: VerificationContext) -> Finding:
    """TF2: the object has __call__ and complete lists of variables, trained variables and regularization losses."""
    if evidence.subject.is_tf1:
        raise NotApplicable("a TF1 Hub module has collections instead; see structure.collections")
    [meta_graph] = evidence.saved_model.meta_graphs
    nodes = meta_graph.object_graph_def.nodes
    attributes = {child.local_name: child.node_id for child in nodes[0].children} if nodes else {}
    problems = [f"the object has no {name}" for name in (*_LISTS, "__call__") if name not in attributes]
    if not problems:
        lists = {name: [nodes[child.node_id] for child in nodes[attributes[name]].children] for name in _LISTS}
        problems = [*_wrong_objects(lists, evidence)]
    return nothing_wrong(problems, f"{', '.join(_LISTS)} are complete")


def _wrong_objects(lists: dict[str, list[Message]], evidence: VerificationContext) -> Iterator[str]:
    wanted = [(variable.name, variable.trainable) for variable in evidence.network.variables]
    listed = {key: [(one.variable.name, one.variable.trainable) for one in lists[key]] for key in _LISTS[:2]}
    yield from _differences("variables", listed["variables"], wanted)
    yield from _differences("trainable_variables", listed["trainable_variables"], [one for one in wanted if one[1]])
    losses = sum(variable.regularized for variable in evidence.network.variables)
    if len(lists["regularization_losses"]) != losses:
        yield f"{len(lists['regularization_losses'])} regularization losses, not {losses}"
