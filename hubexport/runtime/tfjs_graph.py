"""Runs the graphs of TF.js models in TensorFlow: with the ops that only TF.js has as several of TensorFlow's.

A graph is a program, and may come from anybody: only ops that compute tensors of others are run.
"""

import base64
from collections.abc import Generator, Iterator, Mapping, Sequence
import contextlib
from typing import Any, TypeAlias

from google.protobuf import json_format
import numpy.typing as npt
import tensorflow.compat.v1 as tf

from hubexport.deployments.tfjs_files import TfjsModel
from hubexport.errors import ModuleError, printable

_Node: TypeAlias = Mapping[str, Any]

_MOST_BYTES = 2**31 - 2**24
_PADDING = ("strides", "padding", "explicit_paddings", "data_format", "dilations")
# What TensorFlow has in place of ops that add a bias and apply an activation, and which attributes it takes.
_FUSED: dict[str, tuple[str, tuple[str, ...]]] = {
    "_FusedConv2D": ("Conv2D", _PADDING),
    "FusedDepthwiseConv2dNative": ("DepthwiseConv2dNative", _PADDING),
    "_FusedMatMul": ("MatMul", ("transpose_a", "transpose_b")),
}
_ACTIVATIONS = frozenset(["Relu", "Relu6", "Elu", "Sigmoid", "Tanh"])
_EXPLICIT, _VALID = ({"s": base64.b64encode(one).decode()} for one in (b"EXPLICIT", b"VALID"))
_OPS = _ACTIVATIONS.union(
    "Add AddV2 AvgPool BiasAdd Cast ConcatV2 Const Conv2D DepthwiseConv2dNative Exp ExpandDims FusedBatchNorm "
    "FusedBatchNormV3 Identity LeakyRelu LogSoftmax MatMul Max MaxPool Maximum Mean Minimum MirrorPad Mul Neg NoOp "
    "Pack Pad PadV2 Placeholder RealDiv Reshape ResizeBilinear ResizeNearestNeighbor Rsqrt Selu Shape Slice Softmax "
    "Softplus Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Transpose".split()
)


class TfjsGraph:
    """The graph of a model, in a session.

    Args:
        session: it has the graph.
        model: the model.
    """

    def __init__(self, session: Any, model: TfjsModel) -> None:
        self._session = session
        self._model = model

    def run(self, given: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
        """Runs the graph.

        Args:
            given: a value for each input, by the signature's keys.
            outputs: keys of outputs in the signature.
        Returns:
            The value of each output by its key.
        Raises:
            ModuleError: TensorFlow fails, or there is no such input or output.
        """
        with _failures_reported("run", self._model):
            inputs = {_tensor(self._model.inputs[key]): value for key, value in given.items()}
            fetches = {key: _tensor(self._model.outputs[key]) for key in outputs}
            found: dict[str, npt.NDArray[Any]] = self._session.run(fetches, inputs)
            return found


@contextlib.contextmanager
def opened_tfjs_graph(model: TfjsModel) -> Iterator[TfjsGraph]:
    """Loads the graph of a model into TensorFlow, for as long as the context lasts.

    Raises:
        ModuleError: files are missing or damaged, it has ops that are not run, or TensorFlow refuses the graph.
    """
    _check(model)
    with _failures_reported("load", model):
        graph_def = _graph_def(model)
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        with _failures_reported("load", model):
            tf.import_graph_def(graph_def, name="")
        yield TfjsGraph(session, model)


def _tensor(described: Mapping[str, Any]) -> str:
    name = str(described["name"])
    return name if ":" in name else f"{name}:0"


def _check(model: TfjsModel) -> None:
    if model.problems:
        raise _error("load", model, "; ".join(model.problems))
    if sum(weight.nbytes for weight in model.weights) > _MOST_BYTES:
        raise _error("load", model, "its weights have more than 2 GB, and a graph of TensorFlow has at most that")
    unknown = sorted({node["op"] for node in model.nodes} - _OPS - set(_FUSED))
    if unknown:
        raise _error("load", model, f"it has ops that are not run here: {printable(', '.join(unknown))}")


def _graph_def(model: TfjsModel) -> Any:
    weights = {weight.name: weight for weight in model.weights}
    graph_def = tf.GraphDef()
    graph_def.versions.producer = model.producer
    for node in model.nodes:
        if node["op"] != "Const":
            for one in _plain_nodes(node):
                json_format.ParseDict(one, graph_def.node.add())
            continue
        values = model.values(weights[node["name"]])
        tensor = tf.make_tensor_proto(values)
        added = graph_def.node.add(name=node["name"], op="Const")
        added.attr["dtype"].type = tensor.dtype
        added.attr["value"].tensor.CopyFrom(tensor)
    return graph_def


def _plain_nodes(node: _Node) -> Iterator[_Node]:
    """Yields what TensorFlow has for a node; the last one has its name."""
    if node["op"] in _FUSED:
        first, *others = _parts(node)
    else:
        first, others = node, []
    if first["attr"].get("padding") == _EXPLICIT:
        first = yield from _padded(first)
    yield first
    yield from others


def _parts(node: _Node) -> Iterator[_Node]:
    """Yields the nodes of one that adds a bias and applies an activation."""
    op, kept = _FUSED[node["op"]]
    listed = json_format.ParseDict(node["attr"]["fused_ops"], tf.AttrValue()).list.s
    fused = [one.decode() for one in listed]
    count = int(node["attr"]["num_args"]["i"])
    if fused[:1] != ["BiasAdd"] or count != 1 or not _ACTIVATIONS.issuperset(fused[1:]):
        raise ValueError(f"{node['name']} is {node['op']} with {' and '.join(fused)}, which is not run here")
    source, kernel, bias, *others = node["input"]
    attributes = {key: node["attr"][key] for key in kept if key in node["attr"]}
    steps = [
        (op, [source, kernel, *others], attributes),
        ("BiasAdd", [bias], {}),
        *((one, [], {}) for one in fused[1:]),
    ]
    tensors: list[str] = []
    for number, (kind, inputs, attrs) in enumerate(steps, start=1):
        name = node["name"] if number == len(steps) else f"{node['name']}/{kind}"
        yield {"name": name, "op": kind, "input": [*tensors, *inputs], "attr": {"T": {"type": "DT_FLOAT"}, **attrs}}
        tensors = [name]


def _padded(node: _Node) -> Generator[_Node, None, _Node]:
    """Yields the padding of a convolution, which TensorFlow has not for all of them, and returns it without."""
    pads, padded = f"{node['name']}/pads", f"{node['name']}/Pad"
    source, *others = node["input"]
    lengths = {"dim": [{"size": "4"}, {"size": "2"}]}
    numbers = [int(one) for one in node["attr"]["explicit_paddings"]["list"]["i"]]
    tensor = {"dtype": "DT_INT32", "tensorShape": lengths, "intVal": numbers}
    yield {"name": pads, "op": "Const", "attr": {"dtype": {"type": "DT_INT32"}, "value": {"tensor": tensor}}}
    types = {"T": {"type": "DT_FLOAT"}, "Tpaddings": {"type": "DT_INT32"}}
    yield {"name": padded, "op": "Pad", "input": [source, pads], "attr": types}
    kept = {key: value for key, value in node["attr"].items() if key != "explicit_paddings"}
    return {**node, "input": [padded, *others], "attr": {**kept, "padding": _VALID}}


@contextlib.contextmanager
def _failures_reported(verb: str, model: TfjsModel) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError, json_format.ParseError, tf.errors.OpError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise _error(verb, model, why) from error


def _error(verb: str, model: TfjsModel, why: str) -> ModuleError:
    return ModuleError(
        f"cannot {verb} TF.js model {model.path.parent}",
        why=printable(why),
        fix="`hubexport inspect` shows what is in it; if it is damaged, convert or fetch it again",
    )
