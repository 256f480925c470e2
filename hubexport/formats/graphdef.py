"""A network as a TF1 GraphDef that every TensorFlow from 1.7 on imports, predicts with and differentiates.

The nodes are written as protos, not through TensorFlow's graph builder: today's builder emits ops and attributes that
old versions refuse. Node for node this is what TF-Slim computes. What is left out is as deliberate as what is written:

* `FusedBatchNorm`, not V3, and `Add`, not `AddV2`: 1.7 and 1.13 do not know the first, and cannot differentiate the
  second;
* no attribute that is at its default: `explicit_paddings`, `debug_name` and others are unknown to old op definitions;
* dropout from `Floor(uniform + keep)`: `SelectV2` is unknown before 1.15;
* producer 26, that of TensorFlow 1.7: it leaks into the importing graph.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np

from hubexport.networks import layers
from hubexport.networks.layers import Layer, Network, Variable
from hubexport.protos import (
    DT_FLOAT,
    DT_INT32,
    AttrValue,
    GraphDef,
    ListValue,
    Message,
    NodeDef,
    TensorProto,
    TensorShapeProto,
)

_PRODUCER = 26

FLOAT = AttrValue(type=DT_FLOAT)
INT32 = AttrValue(type=DT_INT32)


@dataclasses.dataclass(frozen=True)
class NetworkGraph:
    """A network written into a graph; everything is a tensor name (`node:0`) or, for update ops, a node name.

    Attributes:
        outputs: the output of each layer, by the layer's name.
        update_ops: two a batch norm in a training graph (moving mean, moving variance), in the order of the layers.
        regularization_losses: scalars, one a regularized variable.
    """

    outputs: dict[str, str]
    update_ops: tuple[str, ...]
    regularization_losses: tuple[str, ...]


def image_placeholder(graph: "GraphWriter", name: str, network: Network) -> str:
    """Adds the input for a batch of images, float32 `[batch, *network.image_shape]`."""
    return graph.node("Placeholder", name, dtype=FLOAT, shape=shape_attr((None, *network.image_shape)))


def scaled_images(graph: "GraphWriter", images: str, scope: str, network: Network) -> str:
    """Maps images with intensities in [0, 1], TF Hub's convention, onto the network's input range."""
    low, high = network.input_range
    stretched = graph.node("Mul", f"{scope}/Mul", images, graph.constant(f"{scope}/Mul/y", high - low), T=FLOAT)
    return graph.node("Sub", f"{scope}/Sub", stretched, graph.constant(f"{scope}/Sub/y", -low), T=FLOAT)


class GraphWriter:
    """Appends nodes to a GraphDef, and fails on a name used twice."""

    def __init__(self) -> None:
        self.graph = GraphDef()
        self.graph.versions.producer = _PRODUCER
        self._names: set[str] = set()

    def node(self, op: str, name: str, *inputs: str, **attrs: Message) -> str:
        """Appends a node and returns the name of its first output.

        Args:
            op: the op's registered name.
            name: the node's, with its scopes.
            *inputs: tensor names.
            **attrs: only those that have no default, or are not at it.
        """
        if name in self._names:
            raise ValueError(f"node {name!r} is written twice")
        self._names.add(name)
        # `x:0` is written `x`, the canonical form in a GraphDef, and shorter.
        self.graph.node.append(
            NodeDef(name=name, op=op, input=[tensor.removesuffix(":0") for tensor in inputs], attr=attrs)
        )
        return f"{name}:0"

    def constant(self, name: str, value: float | Sequence[float]) -> str:
        """Appends a float32 constant: a scalar, or a vector that may be empty."""
        array = np.asarray(value, np.float32)
        tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=shape_proto(array.shape), float_val=array.ravel().tolist())
        return self.node("Const", name, dtype=FLOAT, value=AttrValue(tensor=tensor))


def shape_proto(shape: Sequence[int | None]) -> Message:
    """Returns the proto of a shape in which None is an unknown length."""
    return TensorShapeProto(dim=[{"size": -1 if length is None else length} for length in shape])


def shape_attr(shape: Sequence[int | None]) -> Message:
    """Returns a shape as a node's attribute."""
    return AttrValue(shape=shape_proto(shape))


def _ints(*values: int) -> Message:
    return AttrValue(list=ListValue(i=values))


def _text(value: str) -> Message:
    return AttrValue(s=value.encode())


def variable_value(name: str) -> str:
    """Returns the tensor that reads a variable; TensorFlow 1.7 finds a variable's value by just this node name."""
    return f"{name}/Read/ReadVariableOp:0"


def write_network(
    graph: GraphWriter, network: Network, images: str, batch_norm_momentum: str, *, training: bool
) -> NetworkGraph:
    """Writes the variables, layers, update ops and regularization losses of a network.

    Args:
        graph: takes the nodes.
        network: what to write.
        images: tensor name, float32 `[batch, *network.image_shape]` in the network's input range.
        batch_norm_momentum: tensor name, float32 scalar in [0, 1]: how much of a moving average one training step
            keeps. Only training graphs read it.
        training: batch norm takes the batch's statistics, and dropout is active.
    """
    for variable in network.variables:
        _write_variable(graph, variable)
    writer = _LayerWriter(graph, network, training)
    outputs = {network.layers[0].name: images}
    for layer in network.layers[1:]:
        outputs[layer.name] = writer.write(layer, *(outputs[name] for name in layer.inputs))
    return NetworkGraph(
        outputs=outputs,
        update_ops=_write_updates(graph, writer.batch_statistics, batch_norm_momentum) if training else (),
        regularization_losses=tuple(
            _write_l2_loss(graph, variable.name, network.weight_decay)
            for variable in network.variables
            if variable.regularized
        ),
    )


def _write_variable(graph: GraphWriter, variable: Variable) -> None:
    # An empty shared_name would make all variables one.
    handle = graph.node(
        "VarHandleOp",
        variable.name,
        dtype=FLOAT,
        shape=shape_attr(variable.shape),
        shared_name=_text(variable.name),
    )
    graph.node("ReadVariableOp", f"{variable.name}/Read/ReadVariableOp", handle, dtype=FLOAT)


def _write_l2_loss(graph: GraphWriter, variable: str, weight_decay: float) -> str:
    scope = f"{variable}/Regularizer/l2_regularizer"
    half_square = graph.node("L2Loss", f"{scope}/L2Loss", variable_value(variable), T=FLOAT)
    return graph.node("Mul", scope, graph.constant(f"{scope}/scale", weight_decay), half_square, T=FLOAT)


def _write_updates(graph: GraphWriter, batch_statistics: Sequence[tuple[str, str]], momentum: str) -> tuple[str, ...]:
    """Writes `moving -= (moving - batch statistic) * (1 - momentum)` for each moving average."""
    one = graph.constant("batch_norm_decay/x", 1.0)
    decay = graph.node("Sub", "batch_norm_decay", one, momentum, T=FLOAT)
    updates = []
    for moving, batch_statistic in batch_statistics:
        update = f"{moving}/AssignMovingAvg"
        gap = graph.node("Sub", f"{update}/sub", variable_value(moving), batch_statistic, T=FLOAT)
        step = graph.node("Mul", f"{update}/mul", gap, decay, T=FLOAT)
        graph.node("AssignSubVariableOp", update, f"{moving}:0", step, dtype=FLOAT)
        updates.append(update)
    return tuple(updates)


class _LayerWriter:
    """Writes one layer at a time, and notes the batch statistics met on the way.

    Attributes:
        batch_statistics: (moving average's variable name, tensor of what this batch would make of it).
    """

    def __init__(self, graph: GraphWriter, network: Network, training: bool) -> None:
        self._graph = graph
        self._network = network
        self._training = training
        self.batch_statistics: list[tuple[str, str]] = []

    def write(self, layer: Layer, *inputs: str) -> str:
        """Writes a layer's nodes, each under the layer's name, and returns its output tensor."""
        return _WRITERS[type(layer)](self, layer, *inputs)

    def _conv2d(self, layer: layers.Conv2D, source: str) -> str:
        return self._convolution(layer, "Conv2D", f"{layer.name}/Conv2D", source)

    def _depthwise(self, layer: layers.DepthwiseConv2D, source: str) -> str:
        return self._convolution(layer, "DepthwiseConv2dNative", f"{layer.name}/depthwise", source)

    def _convolution(self, layer: layers.Convolution, op: str, name: str, source: str) -> str:
        """Writes a convolution and what follows it: batch norm or biases, then the activation."""
        weights = layer.weights(*self._network.input_shapes(layer))
        net = self._graph.node(
            op,
            name,
            source,
            variable_value(weights.name),
            T=FLOAT,
            strides=_ints(1, layer.stride, layer.stride, 1),
            padding=_text("SAME"),
        )
        if layer.batch_norm:
            net = self._batch_norm(f"{layer.name}/BatchNorm", net)
        else:
            biases = variable_value(f"{layer.name}/biases")
            net = self._graph.node("BiasAdd", f"{layer.name}/BiasAdd", net, biases, T=FLOAT)
        return self._graph.node("Relu6", f"{layer.name}/Relu6", net, T=FLOAT) if layer.activation else net

    def _batch_norm(self, scope: str, source: str) -> str:
        moving = [f"{scope}/moving_mean", f"{scope}/moving_variance"]
        if self._training:
            # The op computes the statistics itself, and insists on being given none.
            statistics = [self._graph.constant(f"{scope}/Const", [])] * 2
        else:
            statistics = [variable_value(name) for name in moving]
        normalized = self._graph.node(
            "FusedBatchNorm",
            f"{scope}/FusedBatchNorm",
            source,
            variable_value(f"{scope}/gamma"),
            variable_value(f"{scope}/beta"),
            *statistics,
            T=FLOAT,
            epsilon=AttrValue(f=self._network.batch_norm_epsilon),
            is_training=AttrValue(b=self._training),
        )
        self.batch_statistics += zip(moving, [f"{scope}/FusedBatchNorm:1", f"{scope}/FusedBatchNorm:2"])
        return normalized

    def _add(self, layer: layers.Add, net: str, shortcut: str) -> str:
        return self._graph.node("Add", layer.name, net, shortcut, T=FLOAT)

    def _identity(self, layer: layers.Identity, source: str) -> str:
        return self._graph.node("Identity", layer.name, source, T=FLOAT)

    def _pool(self, layer: layers.GlobalAveragePool, source: str) -> str:
        ((height, width, _),) = self._network.input_shapes(layer)
        return self._graph.node(
            "AvgPool",
            layer.name,
            source,
            T=FLOAT,
            ksize=_ints(1, height, width, 1),
            strides=_ints(1, 1, 1, 1),
            padding=_text("VALID"),
        )

    def _dropout(self, layer: layers.Dropout, source: str) -> str:
        if not self._training:
            return self._graph.node("Identity", f"{layer.name}/Identity", source, T=FLOAT)
        scope = f"{layer.name}/dropout"
        node = self._graph.node
        keep_prob = self._graph.constant(f"{scope}/keep_prob", layer.keep_prob)
        shape = node("Shape", f"{scope}/Shape", source, T=FLOAT)
        uniform = node("RandomUniform", f"{scope}/random_uniform", shape, T=INT32, dtype=FLOAT)
        kept = node("Floor", f"{scope}/Floor", node("Add", f"{scope}/add", uniform, keep_prob, T=FLOAT), T=FLOAT)
        scaled = node("RealDiv", f"{scope}/div", source, keep_prob, T=FLOAT)
        return node("Mul", f"{scope}/mul", scaled, kept, T=FLOAT)

    def _squeeze(self, layer: layers.SpatialSqueeze, source: str) -> str:
        return self._graph.node("Squeeze", layer.name, source, T=FLOAT, squeeze_dims=_ints(1, 2))

    def _softmax(self, layer: layers.Softmax, source: str) -> str:
        return self._graph.node("Softmax", layer.name, source, T=FLOAT)


_WRITERS: dict[type[Layer], Callable[..., str]] = {
    layers.Conv2D: _LayerWriter._conv2d,
    layers.DepthwiseConv2D: _LayerWriter._depthwise,
    layers.Add: _LayerWriter._add,
    layers.Identity: _LayerWriter._identity,
    layers.GlobalAveragePool: _LayerWriter._pool,
    layers.Dropout: _LayerWriter._dropout,
    layers.SpatialSqueeze: _LayerWriter._squeeze,
    layers.Softmax: _LayerWriter._softmax,
}
