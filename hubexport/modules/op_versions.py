"""Finds the oldest TensorFlow that can load a module, by the ops and attributes in it.

`op_versions.json` lists the ops and attributes that some TensorFlows know; `scripts/op_versions.py` asks these
TensorFlows. It does not cover the versions in between, nor kernels, dtypes and Python classes: a module whose ops are
known may still fail to load. These rules were found by running the TensorFlows of the table:

- TensorFlow refuses an op that it does not know.
- Before 2.10 it also refuses an attribute that it does not know, unless the name begins with `_`. Later versions ignore
  such attributes.
- When TensorFlow imports a TF1 graph, it drops an unknown attribute whose value is the default in the writer's list of
  ops, `stripped_op_list`. It does so only in the graph's own nodes, not in those of functions.
- `hub.Module` refuses a writer's list with an unknown op, even if no node has it. `hub.load`, from 1.15 on, does not.
- A TF1 graph may ask for a newer TensorFlow by its `min_consumer`.
- Of a TF2 SavedModel, `hub.load` reads all functions, but neither the graph for sessions nor `min_consumer`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import functools
import json
from pathlib import Path

from hubexport.errors import printable
from hubexport.protos import Message
from hubexport.readable_numbers import natural_key

TABLE = Path(__file__).with_name("op_versions.json")

# The oldest TensorFlow 2 in the table. TensorFlow 1 does not load Reusable SavedModels.
_OLDEST_FOR_TF2 = "2.4"
# The TensorFlows whose tensorflow_hub has no hub.load.
_ONLY_HUB_MODULE = ("1.7", "1.13")
# tensorflow_hub 0.1.0 refuses this collection.
_ATTACHMENTS = "hub_module_attachments"


@dataclasses.dataclass(frozen=True)
class TensorFlowRelease:
    """What a release of TensorFlow knows.

    Attributes:
        version: the release, like `2.15`.
        graph_def_version: the largest `min_consumer` that it accepts.
        ignores_unknown_attributes: whether it ignores unknown attributes. Otherwise it refuses them.
        ops: the attributes of each op that it knows; not complete if it ignores unknown ones.
    """

    version: str
    graph_def_version: int
    ignores_unknown_attributes: bool
    ops: Mapping[str, frozenset[str]]


@dataclasses.dataclass(frozen=True)
class Compatibility:
    """Which TensorFlows of the table can load a module.

    Attributes:
        oldest: the oldest that can load it; None if none can.
        next_older: the one before `oldest` in the table, or the newest if none can; None if `oldest` is the first.
        obstacles: why `next_older` cannot load it, like `op DisableCopyOnRead`.
        custom_ops: the ops that no TensorFlow of the table knows, from other libraries or newer TensorFlows.
        oldest_hub: the oldest tensorflow_hub whose `hub.Module` loads it; None for other formats.
        tried: the versions of the table that were considered.
    """

    oldest: str | None
    next_older: str | None
    obstacles: tuple[str, ...]
    custom_ops: tuple[str, ...]
    oldest_hub: str | None
    tried: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Needs:
    """What a module needs: ops with their attributes, the ops that its writer listed, and a GraphDef version."""

    ops: Mapping[str, set[str]]
    listed_ops: frozenset[str]
    min_consumer: int


@functools.cache
def known_tensorflows() -> tuple[TensorFlowRelease, ...]:
    """Returns the TensorFlows of the table, the oldest first."""
    known: list[TensorFlowRelease] = []
    ops: dict[str, frozenset[str]] = {}
    for entry in json.loads(TABLE.read_text(encoding="utf-8"))["tensorflows"]:
        new = {name: ops.get(name, frozenset()).union(text.split()) for name, text in entry["new"].items()}
        ops = {name: attributes for name, attributes in (ops | new).items() if name not in entry["gone"]}
        ignores_unknown = entry["ignores_unknown_attributes"]
        known.append(TensorFlowRelease(entry["version"], entry["graph_def_version"], ignores_unknown, ops))
    return tuple(known)


def oldest_tensorflow(meta_graphs: Sequence[Message], *, is_hub_module: bool) -> Compatibility:
    """Finds the oldest TensorFlow of the table that can load MetaGraphs of a module.

    Args:
        meta_graphs: the MetaGraphs that it has to be able to load.
        is_hub_module: whether the module is in the TF1 Hub format, which `hub.Module` reads.
    """
    is_tf2 = any(meta_graph.object_graph_def.nodes for meta_graph in meta_graphs)
    known = known_tensorflows()
    versions = [release.version for release in known]
    tried = known[versions.index(_OLDEST_FOR_TF2) if is_tf2 else 0 :]
    needs = _needs(meta_graphs, is_tf2=is_tf2, is_hub_module=is_hub_module)
    obstacles = [tuple(_obstacles(needs, release)) for release in tried]
    first = obstacles.index(()) if () in obstacles else len(tried)
    known_ops = {op for release in known for op in release.ops}
    has_attachments = any(_ATTACHMENTS in meta_graph.collection_def for meta_graph in meta_graphs)
    return Compatibility(
        oldest=tried[first].version if first < len(tried) else None,
        next_older=tried[first - 1].version if first else None,
        obstacles=obstacles[first - 1] if first else (),
        custom_ops=tuple(sorted(printable(op) for op in needs.ops.keys() - known_ops)),
        oldest_hub=("0.2.0" if has_attachments else "0.1.0") if is_hub_module else None,
        tried=tuple(release.version for release in tried),
    )


def _obstacles(needs: _Needs, release: TensorFlowRelease) -> Iterator[str]:
    """Yields each reason why a release of TensorFlow cannot load a module."""
    listed = needs.listed_ops if release.version in _ONLY_HUB_MODULE else frozenset()
    for op in sorted(needs.ops.keys() | listed, key=natural_key):
        if op not in release.ops:
            yield f"op {printable(op)}"
        elif not release.ignores_unknown_attributes:
            for attribute in sorted(needs.ops.get(op, set()) - release.ops[op]):
                yield f"attribute {printable(attribute)} of {op}"
    if needs.min_consumer > release.graph_def_version:
        yield f"GraphDef version {needs.min_consumer}"


def _needs(meta_graphs: Iterable[Message], *, is_tf2: bool, is_hub_module: bool) -> _Needs:
    ops: dict[str, set[str]] = {}
    listed: set[str] = set()
    min_consumer = 0
    for meta_graph in meta_graphs:
        functions = {function.signature.name for function in meta_graph.graph_def.library.function}
        for function in meta_graph.graph_def.library.function:
            _add_nodes(ops, function.node_def, functions, {})
        if not is_tf2:
            stripped = meta_graph.meta_info_def.stripped_op_list.op
            defaults = {
                (op.name, attribute.name): attribute.default_value.SerializeToString(deterministic=True)
                for op in stripped
                for attribute in op.attr
                if attribute.HasField("default_value")
            }
            _add_nodes(ops, meta_graph.graph_def.node, functions, defaults)
            listed |= {op.name for op in stripped if is_hub_module}
            min_consumer = max(min_consumer, meta_graph.graph_def.versions.min_consumer)
    return _Needs(ops, frozenset(listed), min_consumer)


def _add_nodes(
    ops: dict[str, set[str]], nodes: Iterable[Message], functions: set[str], defaults: dict[tuple[str, str], bytes]
) -> None:
    """Adds the ops of nodes, with the attributes that are not at a known default.

    Args:
        ops: the names of attributes by op, to be extended.
        nodes: the nodes of a graph or a function.
        functions: the names of functions, which a node may call in place of an op.
        defaults: the known defaults, serialized, by the names of op and attribute.
    """
    for node in nodes:
        if node.op in functions:
            continue
        attributes = ops.setdefault(node.op, set())
        for name, value in node.attr.items():
            default = defaults.get((node.op, name))
            if not name.startswith("_") and (default is None or default != value.SerializeToString(deterministic=True)):
                attributes.add(name)
