"""Writes TF.js graph models for inference, from a network's ops: JSON and numbers, and the same bytes every time.

A graph model is a GraphDef of TensorFlow as JSON, whose constants have their values in other files. Its ops are those
of TensorFlow, and a few that compute several of them at once.
"""

import base64
from collections import Counter
from collections.abc import Callable
import functools
import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hubexport.deployments.inference_model import INPUT, InferenceModel
from hubexport.deployments.options import TfjsOptions, TfjsQuantization
from hubexport.deployments.tfjs_files import MODEL_FILE
from hubexport.deployments.tfjs_weights import Weight, write_weights
from hubexport.networks import ops
from hubexport.networks.ops import Op, Role, TensorShape, Variable
from hubexport.version import __version__

_Json: TypeAlias = dict[str, Any]

# The dtypes of a GraphDef by NumPy's names.
_DTYPES = {"float32": "DT_FLOAT", "int32": "DT_INT32", "uint8": "DT_UINT8"}
_FLOAT = np.dtype(np.float32)
_INT = np.dtype(np.int32)
# What TensorFlow 1.7 writes. Graphs need one.
_PRODUCER = 26
_FUSED_ACTIVATIONS = {"relu": "Relu", "relu6": "Relu6"}


def write_tfjs_model(folder: Path, model: InferenceModel, options: TfjsOptions) -> None:
    """Writes a new folder: `model.json`, and the weights in files of 4 MiB. One value is in memory at a time.

    Raises:
        OSError: a file cannot be written.
        UsageError: a value is too large for how it is to be stored.
    """
    writer = _Writer(model, options)
    writer.write()
    folder.mkdir()
    manifest = write_weights(folder, writer.weights)
    described = {
        "format": "graph-model",
        "generatedBy": f"hubexport {__version__}",
        "convertedBy": f"hubexport {__version__}",
        "signature": writer.signature(),
        "modelTopology": {"node": writer.nodes, "versions": {"producer": _PRODUCER}},
        "userDefinedMetadata": _metadata(model),
        "weightsManifest": manifest,
    }
    text = json.dumps(described, ensure_ascii=False, separators=(",", ":"))
    (folder / MODEL_FILE).write_text(text, encoding="utf-8")


def _metadata(model: InferenceModel) -> _Json:
    if len(model.outputs) == 1:
        return dict(model.metadata)
    # With these, `predict` returns the outputs by their keys, not as a list.
    return {**model.metadata, "structuredOutputKeys": list(model.outputs)}


class _Writer:
    """Writes the nodes of a graph, one op at a time.

    Args:
        model: what to write.
        options: how.
    Attributes:
        model: the same.
        activations: those that are part of the node of a convolution or matrix product, by the name of that op.
        nodes: what was written, as JSON.
        weights: of the constants among them, in the same order.
    """

    def __init__(self, model: InferenceModel, options: TfjsOptions) -> None:
        self.model = model
        self.activations = _fused_activations(model)
        self.nodes: list[_Json] = []
        self.weights: list[Weight] = []
        self._options = options
        self._names: set[str] = set()
        self._outputs: dict[str, str] = {}

    def write(self) -> None:
        """Writes all nodes that lead to the outputs."""
        tensors: dict[str, str] = {}
        for op in self.model.ops:
            tensors[op.name] = RULES[type(op)](self, op, *(tensors[name] for name in op.inputs))
        for key, name in self.model.outputs.items():
            tensor = tensors[name]
            if tensor in self._outputs.values():  # TF.js knows one key of each node.
                tensor = self.node("Identity", f"outputs/{key}", tensor)
            self._outputs[key] = tensor

    def signature(self) -> _Json:
        """Returns the inputs and outputs of what was written."""
        shapes = self.model.network.shapes
        outputs = {
            key: _tensor_info(self._outputs[key], _FLOAT, shapes[name]) for key, name in self.model.outputs.items()
        }
        images = _tensor_info(INPUT, self.pixels, self.model.network.image_shape)
        return {"inputs": {INPUT: images}, "outputs": outputs}

    @property
    def pixels(self) -> np.dtype[Any]:
        """The dtype of the images. TF.js has no uint8: what is uint8 to TensorFlow, it takes as int32."""
        return np.dtype(np.uint8) if self.model.pixels == "uint8" else _FLOAT

    def node(self, kind: str, name: str, *inputs: str, **attributes: _Json) -> str:
        """Adds a node that computes a float32 tensor of others, and returns its name, which is the tensor's, too."""
        return self.any_node(kind, name, *inputs, T=_type(_FLOAT), **attributes)

    def any_node(self, kind: str, name: str, *inputs: str, **attributes: _Json) -> str:
        """Adds a node with one output, and returns its name.

        Args:
            kind: the op's name.
            name: the node's name.
            *inputs: the names of the nodes whose outputs it takes.
            **attributes: its attributes.
        Raises:
            ValueError: a node of this name is already there.
        """
        if name in self._names:
            raise ValueError(f"node {name!r} is written twice")
        self._names.add(name)
        given = {"input": list(inputs)} if inputs else {}
        self.nodes.append({"name": name, "op": kind, **given, "attr": attributes})
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: np.dtype[Any] = _FLOAT) -> str:
        """Adds a constant unless it is there, and returns its name."""
        array = np.asarray(value, dtype)
        return self._weight(Weight(name, array.shape, dtype, dtype, lambda: array))

    def value(self, variable: Variable) -> str:
        """Adds a variable's value as a constant, and returns its name."""
        stored = _stored_dtype(self._options.quantize, variable.role)
        read = functools.partial(self.model.value, variable)
        return self._weight(Weight(variable.name, variable.shape, _FLOAT, stored, read))

    def _weight(self, weight: Weight) -> str:
        if weight.name not in self._names:
            self.weights.append(weight)
            tensor = {"dtype": _DTYPES[weight.dtype.name], "tensorShape": {"dim": _dims(weight.shape)}}
            self.any_node("Const", weight.name, dtype=_type(weight.dtype), value={"tensor": tensor})
        return weight.name


def _stored_dtype(quantize: TfjsQuantization, role: Role) -> np.dtype[Any]:
    if quantize == "none":
        return _FLOAT
    # Of these a model has few, but a step for all channels in common would be too large for many of them.
    if quantize == "uint8" and role in ("bias", "depthwise_kernel"):
        return np.dtype(np.float16)
    return np.dtype(quantize)


def _fused_activations(model: InferenceModel) -> dict[str, ops.Activation]:
    """Finds the activations that the nodes before them can compute, by the names of the ops of those nodes."""
    uses = Counter(name for op in model.ops for name in op.inputs) + Counter(model.outputs.values())
    # TF.js takes an activation only beside a bias.
    biased = {op.name for op in model.ops if getattr(op, "bias", None) is not None and uses[op.name] == 1}
    return {
        op.inputs[0]: op
        for op in model.ops
        if isinstance(op, ops.Activation) and op.kind in _FUSED_ACTIVATIONS and op.inputs[0] in biased
    }


def _type(dtype: np.dtype[Any]) -> _Json:
    return {"type": _DTYPES[dtype.name]}


def _flag(value: bool) -> _Json:
    return {"b": value}


# Protocol buffers write integers of 64 bits as text, and bytes in base 64.
def _integer(value: int) -> _Json:
    return {"i": str(value)}


def _integers(*values: int) -> _Json:
    return {"list": {"i": [str(value) for value in values]}}


def _bytes(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _dims(shape: TensorShape) -> list[_Json]:
    return [{"size": str(-1 if length is None else length)} for length in shape]


def _tensor_info(node: str, dtype: np.dtype[Any], shape: TensorShape) -> _Json:
    return {"name": f"{node}:0", "dtype": _DTYPES[dtype.name], "tensorShape": {"dim": _dims((None, *shape))}}


def _input(writer: _Writer, op: ops.Input) -> str:
    network = writer.model.network
    shape = {"shape": {"dim": _dims((None, *network.image_shape))}}
    net, name = writer.any_node("Placeholder", INPUT, dtype=_type(writer.pixels), shape=shape), op.name
    if writer.model.pixels == "uint8":
        net = writer.any_node("Cast", f"{name}/Cast", net, SrcT=_type(writer.pixels), DstT=_type(_FLOAT))
    if network.input_scale != 1:
        net = writer.node("Mul", f"{name}/Mul", net, writer.constant(f"{name}/scale", network.input_scale))
    offset = np.unique(network.input_offset)
    if offset.size > 1:
        offset = np.asarray(network.input_offset)
    if offset.any():
        net = writer.node("Sub", f"{name}/Sub", net, writer.constant(f"{name}/offset", offset))
    return net


def _conv(writer: _Writer, op: ops.Conv, source: str) -> str:
    return _with_bias(writer, "Conv2D", "_FusedConv2D", op, source, **_windows(writer, op))


def _depthwise_conv(writer: _Writer, op: ops.DepthwiseConv, source: str) -> str:
    plain, fused = "DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"
    return _with_bias(writer, plain, fused, op, source, **_windows(writer, op))


def _matmul(writer: _Writer, op: ops.MatMul, source: str) -> str:
    return _with_bias(writer, "MatMul", "_FusedMatMul", op, source, transpose_a=_flag(False), transpose_b=_flag(False))


def _with_bias(
    writer: _Writer,
    plain: str,
    fused: str,
    op: ops.Conv | ops.DepthwiseConv | ops.MatMul,
    source: str,
    **attributes: _Json,
) -> str:
    """Writes a node that may add a bias and apply an activation as well."""
    kernel = writer.value(op.kernel)
    if op.bias is None:
        return writer.node(plain, op.name, source, kernel, **attributes)
    name, fused_ops = op.name, ["BiasAdd"]
    if (activation := writer.activations.get(op.name)) is not None:
        name = activation.name
        fused_ops.append(_FUSED_ACTIVATIONS[activation.kind])
    listed = {"list": {"s": [_bytes(one) for one in fused_ops]}}
    return writer.node(
        fused, name, source, kernel, writer.value(op.bias), num_args=_integer(1), fused_ops=listed, **attributes
    )


def _windows(writer: _Writer, op: ops.Conv | ops.DepthwiseConv) -> dict[str, _Json]:
    attributes = {"strides": _integers(1, *op.stride, 1), "dilations": _integers(1, 1, 1, 1)}
    if (pad := writer.model.merged_pads.get(op.inputs[0])) is None:
        return {**attributes, "padding": {"s": _bytes(op.padding)}}
    (top, left), (bottom, right) = pad.before, pad.after
    pads = _integers(0, 0, top, bottom, left, right, 0, 0)
    return {**attributes, "padding": {"s": _bytes("EXPLICIT")}, "explicit_paddings": pads}


def _activation(writer: _Writer, op: ops.Activation, source: str) -> str:
    if op.inputs[0] in writer.activations:
        return source
    name = op.name
    if op.kind in _FUSED_ACTIVATIONS:
        return writer.node(_FUSED_ACTIVATIONS[op.kind], name, source)
    shifted = writer.node("AddV2", f"{name}/add", source, writer.constant("constants/three", 3.0))
    clipped = writer.node("Relu6", f"{name}/Relu6", shifted)
    if op.kind == "hard_sigmoid":
        return writer.node("Mul", name, clipped, writer.constant("constants/hard_sigmoid", ops.HARD_SIGMOID_SLOPE))
    product = writer.node("Mul", f"{name}/mul", source, clipped)
    return writer.node("Mul", name, product, writer.constant("constants/hard_swish", ops.HARD_SWISH_SLOPE))


def _pool(writer: _Writer, op: ops.Pool, source: str) -> str:
    return writer.node(
        "MaxPool" if op.kind == "max" else "AvgPool",
        op.name,
        source,
        ksize=_integers(1, *op.window, 1),
        strides=_integers(1, *op.stride, 1),
        padding={"s": _bytes(op.padding)},
    )


def _mean(writer: _Writer, op: ops.Mean, source: str) -> str:
    axes = writer.constant("constants/image_axes", (1, 2), _INT)
    return writer.node("Mean", op.name, source, axes, Tidx=_type(_INT), keep_dims=_flag(True))


def _pad(writer: _Writer, op: ops.Pad, source: str) -> str:
    if op.name in writer.model.merged_pads:
        return source
    pairs = [(0, 0), *zip(op.before, op.after, strict=True), (0, 0)]
    return writer.node(
        "Pad", op.name, source, writer.constant(f"{op.name}/paddings", pairs, _INT), Tpaddings=_type(_INT)
    )


def _slice(writer: _Writer, op: ops.Slice, source: str) -> str:
    begin = writer.constant(f"{op.name}/begin", (0, *op.begin, 0), _INT)
    size = writer.constant("constants/to_the_end", (-1, -1, -1, -1), _INT)
    return writer.node("Slice", op.name, source, begin, size, Index=_type(_INT))


def _concat(writer: _Writer, op: ops.Concat, *sources: str) -> str:
    axis = writer.constant("constants/channels", 3, _INT)
    return writer.node("ConcatV2", op.name, *sources, axis, Tidx=_type(_INT), N=_integer(len(sources)))


def _add(writer: _Writer, op: ops.Add, first: str, second: str) -> str:
    return writer.node("AddV2", op.name, first, second)


def _multiply(writer: _Writer, op: ops.Multiply, first: str, second: str) -> str:
    return writer.node("Mul", op.name, first, second)


def _scale(writer: _Writer, op: ops.Scale, source: str) -> str:
    return writer.node("Mul", op.name, source, writer.constant(f"{op.name}/factor", op.factor))


def _squeeze(writer: _Writer, op: ops.Squeeze, source: str) -> str:
    return writer.node("Squeeze", op.name, source, squeeze_dims=_integers(1, 2))


def _softmax(writer: _Writer, op: ops.Softmax, source: str) -> str:
    return writer.node("Softmax", op.name, source)


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
