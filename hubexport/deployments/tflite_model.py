"""Writes TFLite models for inference, from a network's ops: no TensorFlow, and the same bytes every time.

Each op becomes the one that TensorFlow's own converter would write, in the oldest version that does what is needed, so
that old interpreters read the file, too. Activations go into the ops before them.

A tensor has the name of its op with `:0`, as TensorFlow names the output of a node, so that none has the name of an
input or output of the model.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite
from tflite import ActivationFunctionType, BuiltinOperator, BuiltinOptions, TensorType

from hubexport.arrays import FLOAT_BYTES
from hubexport.deployments.flatbuffer_tables import Table, packed
from hubexport.deployments.inference_model import INPUT, InferenceModel
from hubexport.deployments.options import TfliteOptions
from hubexport.deployments.tflite_metadata import METADATA, tflite_metadata, with_labels
from hubexport.deployments.tflite_weights import halves, quantized_rows
from hubexport.errors import UsageError
from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, TensorShape, Variable
from hubexport.progress import Progress
from hubexport.version import __version__

SIGNATURE = "serving_default"
_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_CEILING = 6.0
_TYPES = {
    "float32": TensorType.FLOAT32,
    "float16": TensorType.FLOAT16,
    "int8": TensorType.INT8,
    "uint8": TensorType.UINT8,
    "int32": TensorType.INT32,
}
_PADDING = {"SAME": tflite.Padding.SAME, "VALID": tflite.Padding.VALID}
_FUSED = {"relu": ActivationFunctionType.RELU, "relu6": ActivationFunctionType.RELU6}
# The ops that an activation after them can go into.
_FUSING = (ops.Conv, ops.DepthwiseConv, ops.MatMul, ops.Add)
# Fewer weights are not worth it: TensorFlow's converter leaves them, too.
_FEWEST_QUANTIZED = 1024
# The versions of the ops that compute with weights of int8, and the first TensorFlow that knows all of them.
_HYBRID_VERSIONS = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 9}
_HYBRID_RUNTIME, _FLOAT_RUNTIME = "2.4.0", "1.15.0"
_RUNTIME_BYTES = 16
# Places in a flatbuffer have 32 bits, one of which old readers take for a sign; all but values takes far less.
_MOST_BYTES = 2**31 - 1
_ROOM_FOR_TABLES = 2**24


def write_tflite_model(path: Path, model: InferenceModel, options: TfliteOptions, progress: Progress) -> None:
    """Writes a new TFLite file. The values are whole in memory, several times.

    Args:
        path: of the file.
        model: what to write.
        options: how to write it.
        progress: receives what calibration reports.
    Raises:
        UsageError: a value is too large for float16, or the values are too large for a file.
        ImageError: there are no photographs to calibrate with, or one cannot be read.
        OSError: the file cannot be written.
    """
    path.write_bytes(tflite_model(model, options, progress))


def tflite_model(model: InferenceModel, options: TfliteOptions, progress: Progress = Progress()) -> bytes:
    """Returns the bytes of a TFLite file; for errors see `write_tflite_model`."""
    _check_size(model.network)
    if options.calibration is None:
        content = bytes(_Writer(model, options).flatbuffer())
    else:
        # The quantizer gives the input its type.
        floats = bytes(_Writer(model, options, cast=False).flatbuffer())
        content = options.calibration.quantized(
            floats,
            image_size=model.network.default_image_size,
            pixels=model.pixels,
            outputs=[*model.outputs],
            progress=progress,
        )
    return with_labels(content, model)


def _check_size(network: Network) -> None:
    size = sum(variable.size for variable in network.variables) * FLOAT_BYTES
    if size > _MOST_BYTES - _ROOM_FOR_TABLES:
        raise UsageError(
            "cannot write the network as a TFLite file",
            why=f"its values have {size:,} bytes, and a TFLite file has at most 2 GB",
            fix="convert to another format, or a smaller network",
        )


class _Writer:
    """Writes the operators of a graph, one op at a time.

    Args:
        model: what to write.
        options: how to write it.
        cast: take images of the model's own type; otherwise always float32, in the same range.
    Attributes:
        model: the same.
        cast: the same.
        shapes: the output shape of each op for images of the default size.
    """

    def __init__(self, model: InferenceModel, options: TfliteOptions, *, cast: bool = True) -> None:
        self.model = model
        self.cast = cast
        self.shapes = model.network.at_default_size().shapes
        self._quantize = options.quantize
        self._fused = _fused_activations(model)
        self._merged = {op.name for op in self._fused.values()}
        self._output_names: dict[str, str] = {}
        for key, name in model.outputs.items():
            self._output_names.setdefault(name, key)
        # By TFLite's rule the first buffer is empty.
        self._buffers = [Table("Buffer")]
        self._tensors: list[Table] = []
        self._constants: dict[str, int] = {}
        self._codes: dict[tuple[str, int], int] = {}
        self._operators: list[Table] = []
        self._bytes = 0

    def flatbuffer(self) -> bytearray:
        """Writes all ops that lead to the outputs, and returns the file."""
        tensors: dict[str, int] = {}
        for op in self.model.ops:
            sources = (tensors[name] for name in op.inputs)
            tensors[op.name] = RULES[type(op)](self, op, *sources)
        outputs = {key: tensors[name] for key, name in self.model.outputs.items()}
        return packed(self._model(outputs), tflite, _IDENTIFIER, self._bytes)

    def operator(
        self,
        kind: str,
        op: Op,
        inputs: tuple[int, ...],
        options: Table | None = None,
        *,
        part: str = "",
        version: int = 1,
    ) -> int:
        """Adds an operator with one output, and returns the output's tensor.

        Args:
            kind: TFLite's name.
            op: the op that it computes.
            inputs: tensors.
            options: what the operator has besides tensors.
            part: of an op that takes several operators, which one this is; empty for the last.
            version: of the operator.
        """
        op = self._fused.get(op.name, op)
        name = f"{op.name}/{part}:0" if part else self._output_names.get(op.name, f"{op.name}:0")
        output = self.tensor(name, self.shapes[op.name], self.model.network.shapes[op.name])
        self._add_operator(kind, inputs, output, options, version)
        return output

    def activation(self, op: Op) -> int:
        """Returns the activation that goes into an op."""
        return _FUSED[self._fused[op.name].kind] if op.name in self._fused else ActivationFunctionType.NONE

    def is_merged(self, op: Op) -> bool:
        """Tells whether an op went into the one before it."""
        return op.name in self._merged

    def tensor(
        self, name: str, shape: TensorShape, open_shape: TensorShape, dtype: str = "float32", scale: float | None = None
    ) -> int:
        """Adds a tensor with a batch, and returns its index."""
        signature = [-1, *(-1 if length is None else length for length in open_shape)]
        return self._add_tensor(
            name, dtype, (1, *shape), ShapeSignature=np.asarray(signature, np.int32), Quantization=_quantization(scale)
        )

    def constant(self, name: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> int:
        """Adds a constant, and returns its tensor."""
        return self._constant(name, np.asarray(value, dtype, order="C"))

    def weights(self, variable: Variable, *axes: int, shape: tuple[int, ...] | None = None, per: int | None) -> int:
        """Adds a variable's value as the weights of an op.

        Args:
            variable: the variable.
            axes: in which order; as they are without any.
            shape: to give the value after that.
            per: the axis each of whose places has a scale of its own, if weights are quantized; None for one scale.
        Returns:
            A tensor: int8 if weights are quantized and this one is large enough, float32 otherwise.
        """
        value = self.model.value(variable)
        value = np.ascontiguousarray(value.transpose(axes) if axes else value)
        value = value if shape is None else value.reshape(shape)
        if self._quantize == "dynamic" and value.size >= _FEWEST_QUANTIZED:
            rows, scales = quantized_rows(value, per)
            return self._constant(variable.name, rows, Quantization=_quantization(scales, per or 0))
        return self.floats(variable.name, value)

    def floats(self, name: str, value: npt.NDArray[np.float32]) -> int:
        """Adds values that stay floats, and returns their tensor of float32."""
        if self._quantize != "float16":
            return self._constant(name, value)
        stored = self._constant(f"{name}/float16", halves(name, value))
        if name not in self._constants:
            self._constants[name] = self._add_tensor(name, "float32", value.shape)
            self._add_operator("DEQUANTIZE", (stored,), self._constants[name], Table("DequantizeOptions"), 3)
        return self._constants[name]

    def biases(self, op: ops.Conv | ops.DepthwiseConv | ops.MatMul) -> int:
        """Adds an op's biases, or zeros, which some readers want."""
        if op.bias is not None:
            return self.floats(op.bias.name, self.model.value(op.bias))
        return self.constant(f"{op.name}/no_biases", [0.0] * (self.shapes[op.name][-1] or 0))

    def hybrid(self, kind: str, weights: int) -> int:
        """Returns the version of an operator that its weights need."""
        return _HYBRID_VERSIONS[kind] if self._tensors[weights].fields["Type"] == TensorType.INT8 else 1

    def _constant(self, name: str, value: npt.NDArray[Any], **more: Any) -> int:
        if name not in self._constants:
            content = value.tobytes()
            self._bytes += len(content)
            self._buffers.append(Table("Buffer", Data=content))
            self._constants[name] = self._add_tensor(
                name, value.dtype.name, value.shape, Buffer=len(self._buffers) - 1, **more
            )
        return self._constants[name]

    def _add_tensor(self, name: str, dtype: str, shape: tuple[Any, ...], **more: Any) -> int:
        lengths = np.asarray(shape, np.int32)
        self._tensors.append(Table("Tensor", Name=name, Shape=lengths, Type=_TYPES[dtype], **more))
        return len(self._tensors) - 1

    def _add_operator(
        self, kind: str, inputs: tuple[int, ...], output: int, options: Table | None, version: int
    ) -> None:
        code = self._codes.setdefault((kind, version), len(self._codes))
        self._operators.append(
            Table(
                "Operator",
                OpcodeIndex=code,
                Inputs=np.asarray(inputs, np.int32),
                Outputs=np.asarray([output], np.int32),
                BuiltinOptionsType=options and getattr(BuiltinOptions, options.kind),
                BuiltinOptions=options,
            )
        )

    def _model(self, outputs: dict[str, int]) -> Table:
        runtime = _HYBRID_RUNTIME if self._quantize == "dynamic" else _FLOAT_RUNTIME
        given = [*dict.fromkeys(outputs.values())]
        names = [next(key for key, tensor in outputs.items() if tensor == one) for one in given]
        entries = {
            "min_runtime_version": runtime.encode().ljust(_RUNTIME_BYTES, b"\0"),
            METADATA: bytes(tflite_metadata(self.model, names)),
        }
        metadata = []
        for name, content in entries.items():
            self._buffers.append(Table("Buffer", Data=content))
            metadata.append(Table("Metadata", Name=name, Buffer=len(self._buffers) - 1))
        graph = Table(
            "SubGraph",
            Name=self.model.name,
            Tensors=self._tensors,
            Inputs=np.asarray([0], np.int32),
            Outputs=np.asarray(given, np.int32),
            Operators=self._operators,
        )
        signature = Table(
            "SignatureDef",
            Inputs=[Table("TensorMap", Name=INPUT, TensorIndex=0)],
            Outputs=[Table("TensorMap", Name=key, TensorIndex=tensor) for key, tensor in outputs.items()],
            SignatureKey=SIGNATURE,
            SubgraphIndex=0,
        )
        return Table(
            "Model",
            Version=_SCHEMA_VERSION,
            OperatorCodes=[_operator_code(kind, version) for kind, version in self._codes],
            Subgraphs=[graph],
            Description=f"hubexport {__version__}",
            Buffers=self._buffers,
            Metadata=metadata,
            SignatureDefs=[signature],
        )


def _operator_code(kind: str, version: int) -> Table:
    code = getattr(BuiltinOperator, kind)
    # Old readers know the first field alone, which has room for 127 codes.
    return Table("OperatorCode", DeprecatedBuiltinCode=min(code, 127), BuiltinCode=code, Version=version)


def _quantization(scales: npt.ArrayLike | None, axis: int = 0) -> Table | None:
    """Returns that integers stand for themselves times a scale."""
    if scales is None:
        return None
    array = np.atleast_1d(np.asarray(scales, np.float32))
    zeros = np.zeros(array.size, np.int64)
    return Table("QuantizationParameters", Scale=array, ZeroPoint=zeros, QuantizedDimension=axis)


def _fused_activations(model: InferenceModel) -> dict[str, ops.Activation]:
    """Returns the activations that go into the ops before them, by the names of these."""
    by_name = {op.name: op for op in model.ops}
    uses = Counter([*(name for op in model.ops for name in op.inputs), *model.outputs.values()])
    return {
        op.inputs[0]: op
        for op in model.ops
        if isinstance(op, ops.Activation)
        and op.kind in _FUSED
        and uses[op.inputs[0]] == 1
        and isinstance(by_name[op.inputs[0]], _FUSING)
    }


def _input(writer: _Writer, op: ops.Input) -> int:
    network, shape = writer.model.network, writer.model.network.shapes[op.name]
    if writer.model.pixels == "uint8" and writer.cast:
        pixels = writer.tensor(INPUT, writer.shapes[op.name], shape, "uint8", scale=1.0)
        net = writer.operator("DEQUANTIZE", op, (pixels,), Table("DequantizeOptions"), part="floats")
    else:
        net = writer.tensor(INPUT, writer.shapes[op.name], shape)
    if network.input_scale != 1:
        scale = writer.constant(f"{op.name}/scale", network.input_scale)
        net = writer.operator("MUL", op, (net, scale), Table("MulOptions"), part="scaled")
    offset = np.unique(network.input_offset)
    if offset.any():
        lost = writer.constant(f"{op.name}/offset", offset[0] if offset.size == 1 else network.input_offset)
        net = writer.operator("SUB", op, (net, lost), Table("SubOptions"), part="shifted")
    return net


def _conv(writer: _Writer, op: ops.Conv, source: int) -> int:
    weights = writer.weights(op.kernel, 3, 0, 1, 2, per=0)
    options = Table("Conv2DOptions", FusedActivationFunction=writer.activation(op), **_steps(op))
    version = writer.hybrid("CONV_2D", weights)
    return writer.operator("CONV_2D", op, (source, weights, writer.biases(op)), options, version=version)


def _depthwise_conv(writer: _Writer, op: ops.DepthwiseConv, source: int) -> int:
    height, width, channels, multiplier = op.kernel.shape
    weights = writer.weights(op.kernel, shape=(1, height, width, channels * multiplier), per=3)
    options = Table(
        "DepthwiseConv2DOptions",
        DepthMultiplier=multiplier,
        FusedActivationFunction=writer.activation(op),
        **_steps(op),
    )
    version = writer.hybrid("DEPTHWISE_CONV_2D", weights)
    return writer.operator("DEPTHWISE_CONV_2D", op, (source, weights, writer.biases(op)), options, version=version)


def _pool(writer: _Writer, op: ops.Pool, source: int) -> int:
    height, width = op.window
    options = Table("Pool2DOptions", FilterHeight=height, FilterWidth=width, **_steps(op))
    # Averages count the real pixels alone, as TensorFlow's do.
    return writer.operator("MAX_POOL_2D" if op.kind == "max" else "AVERAGE_POOL_2D", op, (source,), options)


def _steps(op: ops.Conv | ops.DepthwiseConv | ops.Pool) -> dict[str, int]:
    return {"Padding": _PADDING[op.padding], "StrideH": op.stride[0], "StrideW": op.stride[1]}


def _activation(writer: _Writer, op: ops.Activation, source: int) -> int:
    if writer.is_merged(op):
        return source
    match op.kind:
        case "relu" | "relu6":
            return writer.operator(op.kind.upper(), op, (source,))
        case "hard_swish":
            return writer.operator("HARD_SWISH", op, (source,), Table("HardSwishOptions"))
    three = writer.constant("three", _CEILING / 2)
    relu6 = Table("AddOptions", FusedActivationFunction=ActivationFunctionType.RELU6)
    gate = writer.operator("ADD", op, (source, three), relu6, part="gate")
    slope = writer.constant("hard_sigmoid_slope", ops.HARD_SIGMOID_SLOPE)
    return writer.operator("MUL", op, (gate, slope), Table("MulOptions"))


def _mean(writer: _Writer, op: ops.Mean, source: int) -> int:
    axes = writer.constant("image_axes", (1, 2), np.int32)
    return writer.operator("MEAN", op, (source, axes), Table("ReducerOptions", KeepDims=True))


def _pad(writer: _Writer, op: ops.Pad, source: int) -> int:
    (above, left), (below, right) = op.before, op.after
    pads = writer.constant(f"{op.name}/pads", [(0, 0), (above, below), (left, right), (0, 0)], np.int32)
    return writer.operator("PAD", op, (source, pads), Table("PadOptions"))


def _slice(writer: _Writer, op: ops.Slice, source: int) -> int:
    begin = writer.constant(f"{op.name}/begin", (0, *op.begin, 0), np.int32)
    end = writer.constant("no_end", (0, 0, 0, 0), np.int32)
    steps = writer.constant("each_pixel", (1, 1, 1, 1), np.int32)
    options = Table("StridedSliceOptions", BeginMask=0b1001, EndMask=0b1111)
    return writer.operator("STRIDED_SLICE", op, (source, begin, end, steps), options)


def _concat(writer: _Writer, op: ops.Concat, *sources: int) -> int:
    return writer.operator("CONCATENATION", op, sources, Table("ConcatenationOptions", Axis=3))


def _add(writer: _Writer, op: ops.Add, first: int, second: int) -> int:
    options = Table("AddOptions", FusedActivationFunction=writer.activation(op))
    return writer.operator("ADD", op, (first, second), options)


def _multiply(writer: _Writer, op: ops.Multiply, first: int, second: int) -> int:
    return writer.operator("MUL", op, (first, second), Table("MulOptions"))


def _scale(writer: _Writer, op: ops.Scale, source: int) -> int:
    factor = writer.constant(f"{op.name}/factor", op.factor)
    return writer.operator("MUL", op, (source, factor), Table("MulOptions"))


def _matmul(writer: _Writer, op: ops.MatMul, source: int) -> int:
    # One scale for all: TensorFlow before 2.17 has no other kernel.
    weights = writer.weights(op.kernel, 1, 0, per=None)
    version = writer.hybrid("FULLY_CONNECTED", weights)
    options = Table(
        "FullyConnectedOptions",
        FusedActivationFunction=writer.activation(op),
        AsymmetricQuantizeInputs=version > 1,
    )
    return writer.operator("FULLY_CONNECTED", op, (source, weights, writer.biases(op)), options, version=version)


def _squeeze(writer: _Writer, op: ops.Squeeze, source: int) -> int:
    shape = np.asarray((-1, *writer.shapes[op.name]), np.int32)
    row = writer.constant(f"{op.name}/shape", shape, np.int32)
    return writer.operator("RESHAPE", op, (source, row), Table("ReshapeOptions", NewShape=shape))


def _softmax(writer: _Writer, op: ops.Softmax, source: int) -> int:
    return writer.operator("SOFTMAX", op, (source,), Table("SoftmaxOptions", Beta=1.0))


# Of all ops but those that folding leaves none of.
RULES: dict[type[Op], Callable[..., int]] = {
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
