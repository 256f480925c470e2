"""Writes each op of a network as TensorFlow nodes, for a TF1 graph and for a TF2 function alike.

Node for node this is what TF-Slim computes, except for dense layers. Each format uses only ops that the oldest
TensorFlow that loads it can run and differentiate:

- Batch norm is `FusedBatchNorm` in the TF1 format: TensorFlow 1.7 and 1.13 do not know `FusedBatchNormV3`.
- Sums are `Add` in the TF1 format: TensorFlow 1.7 and 1.13 have no gradient for `AddV2`.
- Dropout is `Floor(uniform + keep_prob)`: TensorFlow before 1.15 does not know `SelectV2`, which today's dropout uses.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

from hubexport.formats.nodes import FLOAT, INT32, GraphWriter, ints, text
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, Variable
from hubexport.protos import AttrValue, Message

# From version 3 on, tfhub.dev's modules have this momentum instead of TF-Slim's, for faster fine-tuning.
MOMENTUM_FROM_VERSION_3 = 0.99


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The ops in which the two formats differ.

    Attributes:
        add: adds two tensors.
        batch_norm: normalizes with the statistics of the batch or with those that it is given.
        batch_norm_attrs: attributes that this batch norm needs and the other does not have.
    """

    add: str
    batch_norm: str
    batch_norm_attrs: Mapping[str, Message]


TF1 = Dialect(add="Add", batch_norm="FusedBatchNorm", batch_norm_attrs={})
TF2 = Dialect(add="AddV2", batch_norm="FusedBatchNormV3", batch_norm_attrs={"U": FLOAT})


@dataclasses.dataclass(frozen=True)
class NetworkGraph:
    """The names of what was written for a network.

    Attributes:
        values: the tensor with each variable's value, by the variable's name.
        outputs: the output tensor of each op, by the op's name.
        update_ops: the nodes that update moving averages, in the order of the ops: for each batch norm the mean's,
            then the variance's. Empty in inference.
    """

    values: dict[str, str]
    outputs: dict[str, str]
    update_ops: tuple[str, ...]


def scaled_images(graph: GraphWriter, images: str, scope: str, network: Network) -> str:
    """Maps images from TF Hub's range, [0, 1], to what the network was trained on, and returns the mapped tensor."""
    scale = graph.constant(f"{scope}/Mul/y", network.input_scale)
    stretched = graph.node("Mul", f"{scope}/Mul", images, scale, T=FLOAT)
    offset = graph.constant(f"{scope}/Sub/y", network.input_offset)
    return graph.node("Sub", f"{scope}/Sub", stretched, offset, T=FLOAT)


def write_network(
    graph: GraphWriter,
    network: Network,
    images: str,
    handles: Mapping[str, str],
    batch_norm_momentum: str,
    *,
    dialect: Dialect,
    training: bool,
) -> NetworkGraph:
    """Writes the ops of a network and, in training, the updates of its moving averages.

    Args:
        graph: gets the nodes.
        network: the network to write.
        images: a tensor, float32 `[batch, *network.image_shape]` in the network's input range.
        handles: the handle of each variable, by the variable's name.
        batch_norm_momentum: a tensor, float32 scalar in [0, 1]: how much of a moving average one training step keeps.
            Ignored in inference.
        dialect: the ops of the module's format.
        training: whether batch norm uses the batch's statistics and dropout is active.
    """
    values = {v.name: graph.read_variable(v.name, v.shape, handles[v.name]) for v in network.variables}
    writer = _OpWriter(graph, network, values, dialect, training)
    outputs = {network.ops[0].name: images}
    for op in network.ops[1:]:
        outputs[op.name] = writer.write(op, *(outputs[name] for name in op.inputs))
    updates: tuple[str, ...] = ()
    if training:
        updates = _write_updates(graph, handles, values, writer.batch_statistics, batch_norm_momentum)
    return NetworkGraph(values, outputs, updates)


def write_l2_loss(graph: GraphWriter, variable: Variable, value: str) -> str:
    """Writes `weight_decay * sum(value ** 2) / 2`, and returns the scalar."""
    scope = f"{variable.name}/Regularizer/l2_regularizer"
    half_square = graph.node("L2Loss", f"{scope}/L2Loss", value, T=FLOAT)
    return graph.node("Mul", scope, graph.constant(f"{scope}/scale", variable.weight_decay), half_square, T=FLOAT)


def _write_updates(
    graph: GraphWriter,
    handles: Mapping[str, str],
    values: Mapping[str, str],
    batch_statistics: Sequence[tuple[str, str]],
    momentum: str,
) -> tuple[str, ...]:
    """Writes `moving -= (moving - batch statistic) * (1 - momentum)` for each moving average.

    If a graph applies the module twice, both of its updates count: the op subtracts in place.
    """
    one = graph.constant("batch_norm_decay/x", 1.0)
    decay = graph.node("Sub", "batch_norm_decay", one, momentum, T=FLOAT)
    updates = []
    for moving, batch_statistic in batch_statistics:
        update = f"{moving}/AssignMovingAvg"
        gap = graph.node("Sub", f"{update}/sub", values[moving], batch_statistic, T=FLOAT)
        step = graph.node("Mul", f"{update}/mul", gap, decay, T=FLOAT)
        graph.node("AssignSubVariableOp", update, handles[moving], step, dtype=FLOAT)
        updates.append(update)
    return tuple(updates)


class _OpWriter:
    """Writes one op at a time, and notes the batch statistics met on the way.

    Attributes:
        batch_statistics: (moving average's variable name, tensor of what this batch would make of it).
    """

    def __init__(
        self, graph: GraphWriter, network: Network, values: Mapping[str, str], dialect: Dialect, training: bool
    ) -> None:
        self._graph = graph
        self._network = network
        self._values = values
        self._dialect = dialect
        self._training = training
        self.batch_statistics: list[tuple[str, str]] = []

    def write(self, op: Op, *inputs: str) -> str:
        """Writes an op's nodes, each under the op's name, and returns its output tensor."""
        return RULES[type(op)](self, op, *inputs)

    def _conv(self, op: ops.Conv, source: str) -> str:
        window = op.kernel.shape[:2]
        covers_image = window == self._network.shapes[op.inputs[0]][:2] and (op.padding == "VALID" or window == (1, 1))
        if covers_image and op.bias is not None:
            return self._matrix_product(op, op.bias, source)
        return self._slide("Conv2D", f"{op.name}/Conv2D", op, source)

    def _matrix_product(self, op: ops.Conv, bias: Variable, source: str) -> str:
        """Writes a dense layer, to TF-Slim a convolution whose window is the whole image, as a matrix product.

        MobileNet V2 is 4 to 5% faster with it at batch 1, and the rounding errors of the logits are half as large. VGG,
        whose first dense layer has a window of 7x7, is three times as fast.
        """
        *inputs, filters = op.kernel.shape
        depth = math.prod(inputs)
        rows = self._reshape(f"{op.name}/rows", source, -1, depth)
        kernel = self._reshape(f"{op.name}/kernel", self._values[op.kernel.name], depth, filters)
        net = self._graph.node("MatMul", f"{op.name}/MatMul", rows, kernel, T=FLOAT)
        net = self._graph.node("BiasAdd", f"{op.name}/BiasAdd", net, self._values[bias.name], T=FLOAT)
        return self._reshape(f"{op.name}/pixels", net, -1, 1, 1, filters)

    def _reshape(self, name: str, tensor: str, *shape: int) -> str:
        return self._graph.node("Reshape", name, tensor, self._graph.int_constant(f"{name}/shape", shape), T=FLOAT)

    def _depthwise_conv(self, op: ops.DepthwiseConv, source: str) -> str:
        return self._slide("DepthwiseConv2dNative", f"{op.name}/depthwise", op, source)

    def _slide(self, node_op: str, name: str, op: ops.Conv | ops.DepthwiseConv, source: str) -> str:
        net = self._graph.node(
            node_op,
            name,
            source,
            self._values[op.kernel.name],
            T=FLOAT,
            strides=ints(1, *op.stride, 1),
            padding=text(op.padding),
        )
        if op.bias is None:
            return net
        return self._graph.node("BiasAdd", f"{op.name}/BiasAdd", net, self._values[op.bias.name], T=FLOAT)

    def _batch_norm(self, op: ops.BatchNorm, source: str) -> str:
        moving = [op.moving_mean.name, op.moving_variance.name]
        if self._training:
            # The node computes the statistics itself, and insists on being given none.
            statistics = [self._graph.constant(f"{op.name}/Const", [])] * 2
        else:
            statistics = [self._values[name] for name in moving]
        name = f"{op.name}/{self._dialect.batch_norm}"
        if op.gamma is None:
            gamma = self._graph.constant(f"{op.name}/Const_1", [1.0] * op.beta.shape[0])
        else:
            gamma = self._values[op.gamma.name]
        normalized = self._graph.node(
            self._dialect.batch_norm,
            name,
            source,
            gamma,
            self._values[op.beta.name],
            *statistics,
            T=FLOAT,
            epsilon=AttrValue(f=op.epsilon),
            is_training=AttrValue(b=self._training),
            **self._dialect.batch_norm_attrs,
        )
        batch_statistics = [self._graph.output(self._dialect.batch_norm, name, index) for index in (1, 2)]
        self.batch_statistics += zip(moving, batch_statistics, strict=True)
        return normalized

    def _activation(self, op: ops.Activation, source: str) -> str:
        node, constant, name = self._graph.node, self._graph.constant, op.name
        match op.kind:
            case "relu":
                return node("Relu", name, source, T=FLOAT)
            case "relu6":
                return node("Relu6", name, source, T=FLOAT)
        shifted = node(self._dialect.add, f"{name}/add", source, constant(f"{name}/add/y", 3.0), T=FLOAT)
        clipped = node("Relu6", f"{name}/Relu6", shifted, T=FLOAT)
        if op.kind == "hard_sigmoid":
            return node("Mul", f"{name}/mul", clipped, constant(f"{name}/mul/y", ops.HARD_SIGMOID_SLOPE), T=FLOAT)
        product = node("Mul", f"{name}/mul", source, clipped, T=FLOAT)
        return node("Mul", f"{name}/mul_1", product, constant(f"{name}/mul_1/y", ops.HARD_SWISH_SLOPE), T=FLOAT)

    def _pool(self, op: ops.Pool, source: str) -> str:
        return self._graph.node(
            "MaxPool" if op.kind == "max" else "AvgPool",
            op.name,
            source,
            T=FLOAT,
            ksize=ints(1, *op.window, 1),
            strides=ints(1, *op.stride, 1),
            padding=text(op.padding),
        )

    def _mean(self, op: ops.Mean, source: str) -> str:
        axes = self._graph.int_constant(f"{op.name}/reduction_indices", (1, 2))
        return self._graph.node("Mean", op.name, source, axes, T=FLOAT, Tidx=INT32, keep_dims=AttrValue(b=True))

    def _pad(self, op: ops.Pad, source: str) -> str:
        pairs = [(0, 0), *zip(op.before, op.after, strict=True), (0, 0)]
        paddings = self._graph.int_matrix(f"{op.name}/paddings", pairs)
        return self._graph.node("Pad", op.name, source, paddings, T=FLOAT, Tpaddings=INT32)

    def _slice(self, op: ops.Slice, source: str) -> str:
        begin = self._graph.int_constant(f"{op.name}/begin", (0, *op.begin, 0))
        everything = self._graph.int_constant(f"{op.name}/size", (-1, -1, -1, -1))
        return self._graph.node("Slice", op.name, source, begin, everything, T=FLOAT, Index=INT32)

    def _concat(self, op: ops.Concat, *sources: str) -> str:
        axis = self._graph.int_scalar(f"{op.name}/axis", 3)
        count = AttrValue(i=len(sources))
        return self._graph.node("ConcatV2", op.name, *sources, axis, T=FLOAT, Tidx=INT32, N=count)

    def _multiply(self, op: ops.Multiply, first: str, second: str) -> str:
        return self._graph.node("Mul", op.name, first, second, T=FLOAT)

    def _scale(self, op: ops.Scale, source: str) -> str:
        return self._graph.node("Mul", op.name, self._graph.constant(f"{op.name}/x", op.factor), source, T=FLOAT)

    def _matmul(self, op: ops.MatMul, rows: str) -> str:
        net = self._graph.node("MatMul", f"{op.name}/MatMul", rows, self._values[op.kernel.name], T=FLOAT)
        return self._graph.node("BiasAdd", f"{op.name}/BiasAdd", net, self._values[op.bias.name], T=FLOAT)

    def _add(self, op: ops.Add, first: str, second: str) -> str:
        return self._graph.node(self._dialect.add, op.name, first, second, T=FLOAT)

    def _identity(self, op: ops.Identity, source: str) -> str:
        return self._graph.node("Identity", op.name, source, T=FLOAT)

    def _dropout(self, op: ops.Dropout, source: str) -> str:
        if not self._training:
            return self._graph.node("Identity", f"{op.name}/Identity", source, T=FLOAT)
        scope = f"{op.name}/dropout"
        keep_prob = self._graph.constant(f"{scope}/keep_prob", op.keep_prob)
        shape = self._graph.node("Shape", f"{scope}/Shape", source, T=FLOAT)
        return self._kept(scope, source, shape, keep_prob)

    def _drop_path(self, op: ops.DropPath, source: str) -> str:
        if not self._training:
            return self._graph.node("Identity", f"{op.name}/Identity", source, T=FLOAT)
        keep_prob = self._graph.constant(f"{op.name}/keep_prob", op.keep_prob)
        shape = self._graph.node("Shape", f"{op.name}/Shape", source, T=FLOAT)
        begin = self._graph.int_constant(f"{op.name}/begin", [0])
        one = self._graph.int_constant(f"{op.name}/size", [1])
        batch = self._graph.node("Slice", f"{op.name}/batch", shape, begin, one, T=INT32, Index=INT32)
        ones = self._graph.int_constant(f"{op.name}/ones", (1, 1, 1))
        axis = self._graph.int_scalar(f"{op.name}/axis", 0)
        per_image = self._graph.node(
            "ConcatV2", f"{op.name}/per_image", batch, ones, axis, T=INT32, Tidx=INT32, N=AttrValue(i=2)
        )
        return self._kept(op.name, source, per_image, keep_prob)

    def _kept(self, scope: str, source: str, shape: str, keep_prob: str) -> str:
        """Writes `source / keep_prob * floor(uniform(shape) + keep_prob)`."""
        node = self._graph.node
        uniform = node("RandomUniform", f"{scope}/random_uniform", shape, T=INT32, dtype=FLOAT)
        kept = node(
            "Floor", f"{scope}/Floor", node(self._dialect.add, f"{scope}/add", uniform, keep_prob, T=FLOAT), T=FLOAT
        )
        scaled = node("RealDiv", f"{scope}/div", source, keep_prob, T=FLOAT)
        return node("Mul", f"{scope}/mul", scaled, kept, T=FLOAT)

    def _squeeze(self, op: ops.Squeeze, source: str) -> str:
        return self._graph.node("Squeeze", op.name, source, T=FLOAT, squeeze_dims=ints(1, 2))

    def _softmax(self, op: ops.Softmax, source: str) -> str:
        return self._graph.node("Softmax", op.name, source, T=FLOAT)


RULES: dict[type[Op], Callable[..., str]] = {
    ops.Conv: _OpWriter._conv,
    ops.DepthwiseConv: _OpWriter._depthwise_conv,
    ops.BatchNorm: _OpWriter._batch_norm,
    ops.Activation: _OpWriter._activation,
    ops.Pool: _OpWriter._pool,
    ops.Mean: _OpWriter._mean,
    ops.Pad: _OpWriter._pad,
    ops.Slice: _OpWriter._slice,
    ops.Concat: _OpWriter._concat,
    ops.Add: _OpWriter._add,
    ops.Multiply: _OpWriter._multiply,
    ops.Scale: _OpWriter._scale,
    ops.MatMul: _OpWriter._matmul,
    ops.Dropout: _OpWriter._dropout,
    ops.DropPath: _OpWriter._drop_path,
    ops.Squeeze: _OpWriter._squeeze,
    ops.Softmax: _OpWriter._softmax,
    ops.Identity: _OpWriter._identity,
}
