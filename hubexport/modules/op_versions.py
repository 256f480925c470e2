"""The oldest TensorFlow that can load a module, by the ops and attributes in it.

`op_versions.json` says which ops and attributes some TensorFlows know; `scripts/op_versions.py` asks them. Versions in
between were not looked at, and what a version knows may still fail in it: kernels, dtypes and Python classes were not
looked at, either. These rules were found by running the TensorFlows of the table:

- An op that a TensorFlow does not know is an error to it.
- So is an attribute, to those before 2.10; later ones ignore it. One whose name begins with `_` is no error.
- Importing a TF1 graph, all drop unknown attributes that are at the default which the writer's list of ops gives them,
  but in the graph's own nodes only, not in those of functions.
- `hub.Module` refuses a writer's list with an op that it does not know, though no node may have it. From 1.15 on,
  `hub.load` does not mind.
- A TF1 graph may ask for a newer TensorFlow by its `min_consumer`.
- Of a TF2 SavedModel `hub.load` reads functions, all of them, not the graph for sessions, and not `min_consumer`.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import json
from pathlib import Path
from types import MappingProxyType

from hubexport.errors import printable
from hubexport.modules.signatures import natural_key
from hubexport.protos import Message

TABLE = Path(__file__).with_name("op_versions.json")

# Reusable SavedModels are a matter of TensorFlow 2, of which this is the oldest in the table.
_OLDEST_FOR_TF2 = "2.4"
# Those whose tensorflow_hub has no hub.load.
_ONLY_HUB_MODULE = ("1.7", "1.13")
# Which tensorflow_hub takes this collection; 0.1.0 does not.
_ATTACHMENTS = "hub_module_attachments"


@dataclasses.dataclass(frozen=True)
class TensorFlowRelease:
    """What a TensorFlow knows.

    Attributes:
        version: like `2.15`.
        graph_def_version: the largest `min_consumer` that it takes.
        ignores_unknown_attributes: rather than refuse them.
        ops: the attributes of all ops; where they do not matter they are not complete.
    """

    version: str
    graph_def_version: int
    ignores_unknown_attributes: bool
    ops: Mapping[str, frozenset[str]]


@dataclasses.dataclass(frozen=True)
class Compatibility:
    """Which TensorFlows can load a module, of those that the table has.

    Attributes:
        oldest: the oldest that can, or None.
        next_older: the one before it in the table; the newest of all if none can; None if there is none.
        obstacles: why that cannot, like `op DisableCopyOnRead`.
        custom_ops: what no TensorFlow of the table knows: ops of other libraries, or of newer TensorFlows.
        oldest_hub: the oldest tensorflow_hub whose `hub.Module` takes it; None if it is no TF1 Hub module.
        tried: the versions that were asked.
    """

    oldest: str | None
    next_older: str | None
    obstacles: tuple[str, ...]
    custom_ops: tuple[str, ...]
    oldest_hub: str | None
    tried: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Needs:
    """What a module needs: ops with their attributes, ops that are only listed, a GraphDef version."""

    ops: Mapping[str, set[str]]
    listed_ops: frozenset[str]
    min_consumer: int


@functools.cache
def known_tensorflows() -> tuple[TensorFlowRelease, ...]:
    """Returns what the table says, the oldest first."""
    known: list[TensorFlowRelease] = []
    ops: dict[str, frozenset[str]] = {}
    for entry in json.loads(TABLE.read_text(encoding="utf-8"))["tensorflows"]:
        new = {name: ops.get(name, frozenset()).union(text.split()) for name, text in entry["new"].items()}
        ops = {name: attributes for name, attributes in (ops | new).items() if name not in entry["gone"]}
        facts = (entry["version"], entry["graph_def_version"], entry["ignores_unknown_attributes"])
        known.append(TensorFlowRelease(*facts, ops))
    return tuple(known)


def oldest_tensorflow(meta_graphs: Sequence[Message], *, is_hub_module: bool) -> Compatibility:
    """Finds the oldest TensorFlow of the table that can load a module, or a part of it.

    Args:
        meta_graphs: those that it has to load, one by one.
        is_hub_module: whether they are in the TF1 Hub format, which `hub.Module` reads.
    """
    is_tf2 = any(meta_graph.object_graph_def.nodes for meta_graph in meta_graphs)
    versions = [tensorflow.version for tensorflow in known_tensorflows()]
    tried = known_tensorflows()[versions.index(_OLDEST_FOR_TF2) if is_tf2 else 0 :]
    needs = _needs(meta_graphs, is_tf2=is_tf2, is_hub_module=is_hub_module)
    obstacles = [tuple(_obstacles(needs, tensorflow)) for tensorflow in tried]
    first = obstacles.index(()) if () in obstacles else len(tried)
    known_ops = {op for tensorflow in known_tensorflows() for op in tensorflow.ops}
    return Compatibility(
        oldest=tried[first].version if first < len(tried) else None,
        next_older=tried[first - 1].version if first else None,
        obstacles=obstacles[first - 1] if first else (),
        custom_ops=tuple(sorted(printable(op) for op in needs.ops.keys() - known_ops)),
        oldest_hub=_oldest_hub(meta_graphs) if is_hub_module else None,
        tried=tuple(tensorflow.version for tensorflow in tried),
    )


def _oldest_hub(meta_graphs: Iterable[Message]) -> str:
    attached = any(_ATTACHMENTS in meta_graph.collection_def for meta_graph in meta_graphs)
    return "0.2.0" if attached else "0.1.0"


def _obstacles(needs: _Needs, tensorflow: TensorFlowRelease) -> Iterator[str]:
    """Yields what keeps a TensorFlow from loading a module."""
    listed = needs.listed_ops if tensorflow.version in _ONLY_HUB_MODULE else frozenset()
    for op in sorted(needs.ops.keys() | listed, key=natural_key):
        if op not in tensorflow.ops:
            yield f"op {printable(op)}"
        elif not tensorflow.ignores_unknown_attributes:
            for attribute in sorted(needs.ops.get(op, set()) - tensorflow.ops[op]):
                yield f"attribute {printable(attribute)} of {op}"
    if needs.min_consumer > tensorflow.graph_def_version:
        yield f"GraphDef version {needs.min_consumer}"


def _needs(meta_graphs: Iterable[Message], *, is_tf2: bool, is_hub_module: bool) -> _Needs:
    ops: dict[str, set[str]] = {}
    listed: set[str] = set()
    min_consumer = 0
    for meta_graph in meta_graphs:
        functions = {function.signature.name for function in meta_graph.graph_def.library.function}
        for function in meta_graph.graph_def.library.function:
            _add_nodes(ops, function.node_def, functions)
        if not is_tf2:
            stripped = meta_graph.meta_info_def.stripped_op_list.op
            _add_nodes(ops, meta_graph.graph_def.node, functions, _defaults(stripped))
            listed |= {op.name for op in stripped if is_hub_module}
            min_consumer = max(min_consumer, meta_graph.graph_def.versions.min_consumer)
    return _Needs(ops, frozenset(listed), min_consumer)


def _defaults(ops: Iterable[Message]) -> dict[tuple[str, str], bytes]:
    """Returns the defaults of attributes, serialized, by the names of op and attribute."""
    return {
        (op.name, attribute.name): _serialized(attribute.default_value)
        for op in ops
        for attribute in op.attr
        if attribute.HasField("default_value")
    }


def _add_nodes(
    ops: dict[str, set[str]],
    nodes: Iterable[Message],
    functions: Container[str],
    defaults: Mapping[tuple[str, str], bytes] = MappingProxyType({}),
) -> None:
    """Adds the ops of nodes, with those attributes that are not at a known default.

    Args:
        ops: the names of attributes by op.
        nodes: of a graph or a function.
        functions: what nodes may have in place of an op.
        defaults: see `_defaults`.
    """
    for node in nodes:
        if node.op in functions:
            continue
        attributes = ops.setdefault(node.op, set())
        for name, value in node.attr.items():
            default = defaults.get((node.op, name))
            if not name.startswith("_") and (default is None or default != _serialized(value)):
                attributes.add(name)


def _serialized(value: Message) -> bytes:
    data: bytes = value.SerializeToString(deterministic=True)
    return data
