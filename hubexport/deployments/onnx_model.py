"""Writes ONNX models for inference, from a network's ops: no TensorFlow, and the same bytes every time.

ONNX computes convolutions on [batch, channels, height, width]. A model for images with channels last transposes them
once, at the start.

A tensor has the name of its op with `:0`, as TensorFlow names the output of a node, so that none has the name of an
input or output of the model.
"""

from collections.abc import Callable, Sequence
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from hubexport.arrays import FLOAT_BYTES
from hubexport.deployments.inference_model import INPUT, InferenceModel
from hubexport.deployments.options import Layout, OnnxOptions
from hubexport.errors import UsageError
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, TensorShape, Variable
from hubexport.networks.shapes import padded
from hubexport.version import __version__

_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_TO_CHANNELS_LAST = (0, 2, 3, 1)
_TO_END = np.iinfo(np.int64).max
_CEILING = 6.0
# Protocol buffers have no longer messages; nodes and names take far less than the rest.
_MOST_BYTES = 2**31 - 1
_ROOM_FOR_NODES = 2**24


def write_onnx_model(path: Path, model: InferenceModel, options: OnnxOptions) -> None:
    """Writes a new ONNX file. The values are whole in memory, several times.

    Raises:
        UsageError: the installed onnx package does not know the opset, or the values are too large for a file.
        OSError: the file cannot be written.
    """
    path.write_bytes(onnx_model(model, options).SerializeToString(deterministic=True))


def onnx_model(model: InferenceModel, options: OnnxOptions) -> onnx.ModelProto:
    """Returns an ONNX model; for errors see `write_onnx_model`."""
    options.check_writable()
    _check_size(model.network)
    writer = _Writer(model, options.layout)
    writer.write()
    opset = onnx.helper.make_opsetid("", options.opset)
    made = onnx.helper.make_model(
        writer.graph(),
        opset_imports=[opset],
        # What is newer than the opset, older readers of that opset would refuse.
        ir_version=onnx.helper.find_min_ir_version_for([opset]),
        producer_name="hubexport",
        producer_version=__version__,
    )
    metadata = {**model.metadata, "input_layout": options.layout}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    onnx.helper.set_model_props(made, texts)
    return made


def _check_size(network: Network) -> None:
    size = sum(variable.size for variable in network.variables) * FLOAT_BYTES
    if size > _MOST_BYTES - _ROOM_FOR_NODES:
        raise UsageError(
            "cannot write the network as one ONNX file",
            why=f"its values have {size:,} bytes, and an ONNX file has at most 2 GB",
            fix="convert to another format, or a smaller network",
        )


class _Writer:
    """Writes the nodes of a graph, one op at a time.

    Args:
        model: what to write.
        layout: the axes of images and endpoints.
    Attributes:
        model: the same.
        layout: the same.
    """

    def __init__(self, model: InferenceModel, layout: Layout) -> None:
        self.model = model
        self.layout = layout
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._outputs: list[onnx.ValueInfoProto] = []
        # The outputs of the graph by the node that gives each.
        self._output_names: dict[str, str] = {}

    def write(self) -> None:
        """Writes all nodes that lead to the outputs."""
        for key, name in self.model.outputs.items():
            if self._is_as_computed(name):
                self._output_names.setdefault(name, key)
        tensors: dict[str, str] = {}
        for op in self.model.ops:
            tensors[op.name] = RULES[type(op)](self, op, *(tensors[name] for name in op.inputs))
        for key, name in self.model.outputs.items():
            node = f"outputs/{key}"  # Endpoints may have the names of ops.
            self._output_names[node] = key
            if not self._is_as_computed(name):
                self.node("Transpose", node, tensors[name], perm=_TO_CHANNELS_LAST)
            elif tensors[name] != key:
                self.node("Identity", node, tensors[name])
            self._add_output(key, self.model.network.shapes[name])

    def graph(self) -> onnx.GraphProto:
        """Returns what was written."""
        pixels = onnx.TensorProto.UINT8 if self.model.pixels == "uint8" else onnx.TensorProto.FLOAT
        height, width, channels = self.model.network.image_shape
        lengths = self._in_layout((height or "height", width or "width", channels))
        images = onnx.helper.make_tensor_value_info(INPUT, pixels, ["batch", *lengths])
        return onnx.helper.make_graph(
            self._nodes, self.model.name, [images], self._outputs, [*self._initializers.values()]
        )

    def node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns the output's tensor."""
        output = self._output_names.get(name, f"{name}:0")
        self._nodes.append(onnx.helper.make_node(kind, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """Adds a constant, and returns its tensor."""
        if name not in self._initializers:
            self._initializers[name] = onnx.numpy_helper.from_array(np.asarray(value, dtype, order="C"), name)
        return name

    def value(self, variable: Variable, *axes: int, shape: Sequence[int] | None = None) -> str:
        """Adds a variable's value as a constant, with its axes in another order, and returns its tensor."""
        array = self.model.value(variable)
        ordered = array.transpose(axes) if axes else array
        return self.constant(variable.name, ordered if shape is None else ordered.reshape(shape))

    def _is_as_computed(self, name: str) -> bool:
        """Tells whether an op's output has its axes where the user wants them."""
        return self.layout == "nchw" or len(self.model.network.shapes[name]) < 3

    def _add_output(self, name: str, shape: TensorShape) -> None:
        lengths = shape if len(shape) < 3 else self._in_layout(shape)
        self._outputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *lengths]))

    def _in_layout(self, shape: Sequence[Any]) -> tuple[Any, ...]:
        height, width, channels = shape
        return (height, width, channels) if self.layout == "nhwc" else (channels, height, width)


def _input(writer: _Writer, op: ops.Input) -> str:
    network, name, net = writer.model.network, op.name, INPUT
    if writer.layout == "nhwc":
        net = writer.node("Transpose", f"{name}/Transpose", net, perm=_TO_CHANNELS_FIRST)
    if writer.model.pixels == "uint8":
        net = writer.node("Cast", f"{name}/Cast", net, to=onnx.TensorProto.FLOAT)
    if network.input_scale != 1:
        net = writer.node("Mul", f"{name}/Mul", net, writer.constant(f"{name}/scale", network.input_scale))
    offset = np.unique(network.input_offset)
    if offset.size > 1:
        offset = np.reshape(network.input_offset, (-1, 1, 1))
    if offset.any():
        net = writer.node("Sub", f"{name}/Sub", net, writer.constant(f"{name}/offset", offset))
    return net


def _conv(writer: _Writer, op: ops.Conv, source: str) -> str:
    bias = [] if op.bias is None else [writer.value(op.bias)]
    return writer.node("Conv", op.name, source, writer.value(op.kernel, 3, 2, 0, 1), *bias, **_windows(writer, op))


def _depthwise_conv(writer: _Writer, op: ops.DepthwiseConv, source: str) -> str:
    height, width, channels, multiplier = op.kernel.shape
    kernel = writer.value(op.kernel, 2, 3, 0, 1, shape=(channels * multiplier, 1, height, width))
    bias = [] if op.bias is None else [writer.value(op.bias)]
    return writer.node("Conv", op.name, source, kernel, *bias, group=channels, **_windows(writer, op))


def _pool(writer: _Writer, op: ops.Pool, source: str) -> str:
    if op.kind == "max":
        return writer.node("MaxPool", op.name, source, **_windows(writer, op))
    return writer.node("AveragePool", op.name, source, count_include_pad=0, **_windows(writer, op))


def _windows(writer: _Writer, op: ops.Conv | ops.DepthwiseConv | ops.Pool) -> dict[str, Any]:
    """Returns the attributes of a window. `auto_pad` is deprecated, but all there is for images of any size."""
    window = op.window if isinstance(op, ops.Pool) else op.kernel.shape[:2]
    attributes: dict[str, Any] = {"kernel_shape": window, "strides": op.stride}
    pads = padded(op, writer.model.network.shapes[op.inputs[0]])
    if pads is None:
        return attributes | {"auto_pad": "SAME_UPPER"}
    if (pad := writer.model.merged_pads.get(op.inputs[0])) is not None:
        return attributes | {"pads": (*pad.before, *pad.after)}
    (above, below), (left, right) = pads
    return attributes | {"pads": (above, left, below, right)}


def _activation(writer: _Writer, op: ops.Activation, source: str) -> str:
    name = op.name
    match op.kind:
        case "relu":
            return writer.node("Relu", name, source)
        case "relu6":
            bounds = writer.constant("zero", 0.0), writer.constant("six", _CEILING)
            return writer.node("Clip", name, source, *bounds)
    # max(0, min(1, x / 6 + 1 / 2)), which is relu6(x + 3) / 6.
    gate = writer.node("HardSigmoid", f"{name}/HardSigmoid", source, alpha=1 / _CEILING, beta=0.5)
    if op.kind == "hard_sigmoid":
        slope = writer.constant("hard_sigmoid_slope", _CEILING * ops.HARD_SIGMOID_SLOPE)
        return writer.node("Mul", name, gate, slope)
    return writer.node("Mul", name, source, gate)


def _mean(writer: _Writer, op: ops.Mean, source: str) -> str:
    return writer.node("GlobalAveragePool", op.name, source)


def _pad(writer: _Writer, op: ops.Pad, source: str) -> str:
    if op.name in writer.model.merged_pads:
        return source
    pads = writer.constant(f"{op.name}/pads", (0, 0, *op.before, 0, 0, *op.after), np.int64)
    return writer.node("Pad", op.name, source, pads)


def _slice(writer: _Writer, op: ops.Slice, source: str) -> str:
    begin = writer.constant(f"{op.name}/begin", op.begin, np.int64)
    end = writer.constant("to_end", (_TO_END, _TO_END), np.int64)
    return writer.node("Slice", op.name, source, begin, end, _image_axes(writer))


def _concat(writer: _Writer, op: ops.Concat, *sources: str) -> str:
    return writer.node("Concat", op.name, *sources, axis=1)


def _add(writer: _Writer, op: ops.Add, first: str, second: str) -> str:
    return writer.node("Add", op.name, first, second)


def _multiply(writer: _Writer, op: ops.Multiply, first: str, second: str) -> str:
    return writer.node("Mul", op.name, first, second)


def _scale(writer: _Writer, op: ops.Scale, source: str) -> str:
    return writer.node("Mul", op.name, source, writer.constant(f"{op.name}/factor", op.factor))


def _matmul(writer: _Writer, op: ops.MatMul, source: str) -> str:
    return writer.node("Gemm", op.name, source, writer.value(op.kernel), writer.value(op.bias))


def _squeeze(writer: _Writer, op: ops.Squeeze, source: str) -> str:
    return writer.node("Squeeze", op.name, source, _image_axes(writer))


def _image_axes(writer: _Writer) -> str:
    return writer.constant("image_axes", (2, 3), np.int64)


def _softmax(writer: _Writer, op: ops.Softmax, source: str) -> str:
    return writer.node("Softmax", op.name, source, axis=-1)


# Of all ops but those that folding leaves none of.
RULES: dict[type[Op], Callable[..., str]] = {
    ops.Input: _input,
    ops.Conv: _conv,
    ops.DepthwiseConv: _depthwise_conv,
    ops.Activation: _activation,
    ops.Pool: _pool,
    ops.Mean: _mean,
    ops.Pad: _pad,
    ops.Slice: _slice,
    ops.Concat: _concat,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Scale: _scale,
    ops.MatMul: _matmul,
    ops.Squeeze: _squeeze,
    ops.Softmax: _softmax,
}
