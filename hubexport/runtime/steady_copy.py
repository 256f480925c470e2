"""Copies a module without its chance: in the copy, dropout and dropped paths keep everything.

What training computes can then be compared with exact numbers. Only the nodes that draw random numbers differ.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.protos import DT_FLOAT, AttrValue, Message, NodeDef, SavedModel, TensorProto, TensorShapeProto

# The first input of each is the shape, and its output is called `output`, as that of Fill is.
_RANDOM_OPS = ("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2")
# Uniform numbers decide what to keep: what is above a rate, or what is at least 1 with the chance of being kept.
_DRAWN = 0.999


def steady_copy(directory: Path, saved_model: Message, scratch: Path) -> Path:
    """Returns the directory of a copy that draws no random numbers, or the module's own if that draws none.

    Args:
        directory: the module's directory.
        saved_model: its SavedModel, which stays as it is.
        scratch: an empty directory for the copy, whose values are links to the module's.
    Raises:
        OSError: the copy cannot be written.
    """
    steady = SavedModel()
    steady.CopyFrom(saved_model)
    drawing = [*_drawing_nodes(steady)]
    if not drawing:
        return directory
    for nodes, node, is_graph in drawing:
        _draw_a_constant(nodes, node, is_graph=is_graph)
    (scratch / MODULE_FILE).write_bytes(steady.SerializeToString(deterministic=True))
    for path in directory.resolve().iterdir():
        if path.name != MODULE_FILE:
            (scratch / path.name).symlink_to(path)
    return scratch


def _drawing_nodes(saved_model: Message) -> Iterator[tuple[Any, Message, bool]]:
    """Yields each node that draws uniform numbers, with the nodes beside it, and whether they are those of a graph."""
    for meta_graph in saved_model.meta_graphs:
        graph = meta_graph.graph_def
        scopes = [(graph.node, True), *((function.node_def, False) for function in graph.library.function)]
        for nodes, is_graph in scopes:
            for node in nodes:
                if node.op in _RANDOM_OPS and node.attr["dtype"].type == DT_FLOAT and node.input:
                    yield nodes, node, is_graph


def _draw_a_constant(nodes: Any, node: Message, *, is_graph: bool) -> None:
    drawn = f"{node.name}/drawn"
    tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(), float_val=[_DRAWN])
    attrs = {"dtype": AttrValue(type=DT_FLOAT), "value": AttrValue(tensor=tensor)}
    nodes.append(NodeDef(name=drawn, op="Const", attr=attrs))
    shape, conditions = node.input[0], _conditions(node.input)
    shape_dtype = AttrValue()
    shape_dtype.CopyFrom(node.attr["T"])
    node.op = "Fill"
    node.input[:] = [shape, drawn if is_graph else f"{drawn}:output:0", *conditions]
    node.attr.clear()
    node.attr["T"].type = DT_FLOAT
    node.attr["index_type"].CopyFrom(shape_dtype)


def _conditions(inputs: Sequence[str]) -> list[str]:
    """Returns the names of nodes that have to run first."""
    return [name for name in inputs if name.startswith("^")]
