"""Nodes as protos, written one by one into a graph or into a function, without TensorFlow's graph builder.

The builder of today's TensorFlow emits ops and attributes that old versions refuse. Here a node has what it is given:
no attribute that is at its default (`explicit_paddings`, `debug_name` and others are unknown to old op definitions).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hubexport.protos import (
    DT_FLOAT,
    DT_INT32,
    DT_RESOURCE,
    DT_STRING,
    AttrValue,
    AttrValue_ListValue,
    FunctionDef,
    Message,
    NodeDef,
    TensorInfo,
    TensorProto,
    TensorShapeProto,
)

Dims = Sequence[int | None]

FLOAT = AttrValue(type=DT_FLOAT)
INT32 = AttrValue(type=DT_INT32)
STRING = AttrValue(type=DT_STRING)

# The names of the ops' outputs, by which a function's nodes refer to them; see the op definitions of TensorFlow.
_OUTPUT_NAMES = {
    "AddV2": ("z",),
    "AvgPool": ("output",),
    "BiasAdd": ("output",),
    "ConcatV2": ("output",),
    "Const": ("output",),
    "Conv2D": ("output",),
    "DepthwiseConv2dNative": ("output",),
    "Floor": ("y",),
    "FusedBatchNormV3": ("y", "batch_mean", "batch_variance"),
    "Identity": ("output",),
    "L2Loss": ("output",),
    "MatMul": ("product",),
    "MaxPool": ("output",),
    "Mean": ("output",),
    "Mul": ("z",),
    "Pad": ("output",),
    "RandomUniform": ("output",),
    "ReadVariableOp": ("value",),
    "RealDiv": ("z",),
    "Relu": ("activations",),
    "Relu6": ("activations",),
    "Reshape": ("output",),
    "Shape": ("output",),
    "Slice": ("output",),
    "Softmax": ("softmax",),
    "Squeeze": ("output",),
    "StatefulPartitionedCall": ("output",),
    "Sub": ("z",),
}


class GraphWriter:
    """Writes the nodes of a GraphDef, and fails on a name used twice.

    Attributes:
        nodes: what was written, in this order.
    """

    def __init__(self) -> None:
        self.nodes: list[Message] = []
        self._names: set[str] = set()

    def node(self, op: str, name: str, *inputs: str, **attrs: Message) -> str:
        """Appends a node and returns the tensor that is its first output.

        Args:
            op: the op's registered name.
            name: the node's, with its scopes.
            *inputs: tensors, as this method and `output` return them, or `^node` for a node that has to run before.
            **attrs: only those that have no default, or are not at it.
        """
        if name in self._names:
            raise ValueError(f"node {name!r} is written twice")
        self._names.add(name)
        self.nodes.append(NodeDef(name=name, op=op, input=map(self._as_input, inputs), attr=attrs))
        return self.output(op, name, 0)

    def output(self, op: str, name: str, index: int) -> str:
        """Returns the tensor that is an output of a node, by the node's op and name."""
        return f"{name}:{index}"

    def _as_input(self, tensor: str) -> str:
        # `x:0` is written `x`, the canonical form in a GraphDef, and shorter.
        return tensor.removesuffix(":0")

    def constant(self, name: str, value: float | Sequence[float]) -> str:
        """Appends a float32 constant: a scalar, or a vector that may be empty."""
        array = np.asarray(value, np.float32)
        tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=shape_proto(array.shape), float_val=array.ravel().tolist())
        return self.node("Const", name, dtype=FLOAT, value=AttrValue(tensor=tensor))

    def int_constant(self, name: str, values: Sequence[int]) -> str:
        """Appends a vector of int32."""
        tensor = TensorProto(dtype=DT_INT32, tensor_shape=shape_proto([len(values)]), int_val=values)
        return self.node("Const", name, dtype=INT32, value=AttrValue(tensor=tensor))

    def int_scalar(self, name: str, value: int) -> str:
        """Appends an int32 scalar."""
        tensor = TensorProto(dtype=DT_INT32, tensor_shape=shape_proto(()), int_val=[value])
        return self.node("Const", name, dtype=INT32, value=AttrValue(tensor=tensor))

    def int_matrix(self, name: str, rows: Sequence[Sequence[int]]) -> str:
        """Appends a matrix of int32."""
        shape = shape_proto([len(rows), len(rows[0])])
        tensor = TensorProto(dtype=DT_INT32, tensor_shape=shape, int_val=[value for row in rows for value in row])
        return self.node("Const", name, dtype=INT32, value=AttrValue(tensor=tensor))

    def text_constant(self, name: str, values: Sequence[str]) -> str:
        """Appends a vector of strings."""
        encoded = [value.encode() for value in values]
        tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape_proto([len(values)]), string_val=encoded)
        return self.node("Const", name, dtype=STRING, value=AttrValue(tensor=tensor))

    def variable_handle(self, name: str, shape: Dims) -> str:
        """Appends a float32 variable, and returns the tensor that refers to it."""
        # An empty shared_name would make all variables one.
        return self.node("VarHandleOp", name, dtype=FLOAT, shape=shape_attr(shape), shared_name=text(name))

    def read_variable(self, name: str, shape: Dims, handle: str) -> str:
        """Appends the op that reads a variable, and returns its value.

        TensorFlow 1.7 finds a variable's value by just this node name.
        """
        return self.node("ReadVariableOp", f"{name}/Read/ReadVariableOp", handle, **self._read_attrs(shape))

    def _read_attrs(self, shape: Dims) -> dict[str, Message]:
        return {"dtype": FLOAT}


class FunctionWriter(GraphWriter):
    """Writes the nodes of a FunctionDef, where tensors have other names than in a graph.

    Args:
        name: the function's.
        arguments: shapes of its float32 arguments by name; a node takes an argument by its plain name.
        variables: the names of the variables that it takes after them.
    Attributes:
        handles: for each variable the tensor that refers to it, by the variable's name.
    """

    def __init__(self, name: str, arguments: Mapping[str, Dims], variables: Sequence[str]) -> None:
        super().__init__()
        self._name = name
        self._arguments = arguments
        self.handles = {variable: f"variable_{number}" for number, variable in enumerate(variables)}

    def output(self, op: str, name: str, index: int) -> str:
        if op == "StatefulPartitionedCall":  # All of its outputs are one list.
            return f"{name}:{_OUTPUT_NAMES[op][0]}:{index}"
        # Who asks for the output of an op that has none does not use it.
        names = _OUTPUT_NAMES.get(op, ("",))
        return f"{name}:{names[index]}:0"

    def _as_input(self, tensor: str) -> str:
        return tensor

    def _read_attrs(self, shape: Dims) -> dict[str, Message]:
        # Handles come as arguments, which do not tell the shape of what they refer to.
        return {"dtype": FLOAT, "_output_shapes": shapes_attr([shape])}

    def definition(self, results: Mapping[str, str], effects: Sequence[str] = ()) -> Message:
        """Returns the FunctionDef.

        Args:
            results: float32 tensors in order, by the names that they get.
            effects: nodes that have to run though no result comes from them.
        """
        arguments = [{"name": name, "type": DT_FLOAT} for name in self._arguments]
        handles = [{"name": handle, "type": DT_RESOURCE} for handle in self.handles.values()]
        shapes = [*self._arguments.values(), *([()] * len(handles))]
        return FunctionDef(
            signature={
                "name": self._name,
                "input_arg": arguments + handles,
                "output_arg": [{"name": name, "type": DT_FLOAT} for name in results],
                "is_stateful": True,
                "control_output": effects,
            },
            node_def=self.nodes,
            ret=results,
            control_ret={node: node for node in effects},
            attr={"_input_shapes": shapes_attr(shapes)},
        )


def shape_proto(shape: Dims) -> Message:
    """Returns the proto of a shape in which None is an unknown length."""
    return TensorShapeProto(dim=[{"size": -1 if length is None else length} for length in shape])


def shape_attr(shape: Dims) -> Message:
    """Returns a shape as a node's attribute."""
    return AttrValue(shape=shape_proto(shape))


def shapes_attr(shapes: Sequence[Dims]) -> Message:
    """Returns shapes as an attribute, such as `_output_shapes`."""
    return AttrValue(list=AttrValue_ListValue(shape=map(shape_proto, shapes)))


def ints(*values: int) -> Message:
    """Returns whole numbers as an attribute, such as `strides`."""
    return AttrValue(list=AttrValue_ListValue(i=values))


def types(*values: int) -> Message:
    """Returns dtypes as an attribute, such as `Tin`."""
    return AttrValue(list=AttrValue_ListValue(type=values))


def text(value: str) -> Message:
    """Returns a string as an attribute."""
    return AttrValue(s=value.encode())


def tensor_info(tensor: str, shape: Dims) -> Message:
    """Returns what a SignatureDef says of a float32 tensor in the graph."""
    return TensorInfo(name=tensor, dtype=DT_FLOAT, tensor_shape=shape_proto(shape))
