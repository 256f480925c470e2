"""Writes nodes as protos, one by one, into a graph or into a function.

The graph builder of today's TensorFlow emits ops and attributes that old versions refuse. This one emits only what it
is given. Three rules make its nodes portable, each found by running the old TensorFlows:

- Leave out attributes that are at their defaults. TensorFlow before 2.10 refuses every attribute that its op definition
  does not have, such as `explicit_paddings` (Conv2D) or `debug_name` (VarHandleOp), whatever its value.
- Give each variable a `shared_name`. All variables without one are the same variable.
- Call the node that reads a variable `VARIABLE/Read/ReadVariableOp`. TensorFlow 1.7 finds the value by this name.
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

# The names of each op's outputs, from TensorFlow's op definitions. In a function, nodes refer to them by these names.
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
    """Writes the nodes of a GraphDef.

    Attributes:
        nodes: the NodeDefs in the order in which they were written.
    """

    def __init__(self) -> None:
        self.nodes: list[Message] = []
        self._names: set[str] = set()

    def node(self, op: str, name: str, *inputs: str, **attrs: Message) -> str:
        """Appends a node and returns the name of its first output. Callers ignore this name for ops without outputs.

        Args:
            op: the op's registered name.
            name: the node's name with its scopes, like `MobilenetV2/Conv/Conv2D`.
            *inputs: tensor names from this method or `output`, or `^node` for a node that has to run first.
            **attrs: the attributes that have no default, or another value than their default.
        Raises:
            ValueError: a node of this name is already there.
        """
        if name in self._names:
            raise ValueError(f"node {name!r} is written twice")
        self._names.add(name)
        self.nodes.append(NodeDef(name=name, op=op, input=map(self._as_input, inputs), attr=attrs))
        return self.output(op, name, 0)

    def output(self, op: str, name: str, index: int) -> str:
        """Returns the name of a node's output, by the node's op and name."""
        return f"{name}:{index}"

    def _as_input(self, tensor: str) -> str:
        # A GraphDef writes `x:0` as `x`.
        return tensor.removesuffix(":0")

    def constant(self, name: str, value: float | Sequence[float]) -> str:
        """Appends a float32 constant: a scalar, or a vector that may be empty."""
        array = np.asarray(value, np.float32)
        tensor = TensorProto(dtype=DT_FLOAT, tensor_shape=shape_proto(array.shape), float_val=array.ravel().tolist())
        return self.node("Const", name, dtype=FLOAT, value=AttrValue(tensor=tensor))

    def int_constant(self, name: str, values: Sequence[int]) -> str:
        """Appends an int32 vector."""
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
        """Appends a string vector."""
        encoded = [value.encode() for value in values]
        tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape_proto([len(values)]), string_val=encoded)
        return self.node("Const", name, dtype=STRING, value=AttrValue(tensor=tensor))

    def variable_handle(self, name: str, shape: Dims) -> str:
        """Appends a float32 variable and returns its handle, the resource tensor that refers to it."""
        return self.node("VarHandleOp", name, dtype=FLOAT, shape=shape_attr(shape), shared_name=text(name))

    def read_variable(self, name: str, shape: Dims, handle: str) -> str:
        """Appends the op that reads a float32 variable, and returns the value's tensor."""
        return self.node("ReadVariableOp", f"{name}/Read/ReadVariableOp", handle, **self._read_attrs(shape))

    def _read_attrs(self, shape: Dims) -> dict[str, Message]:
        return {"dtype": FLOAT}


class FunctionWriter(GraphWriter):
    """Writes the nodes of a FunctionDef, which names tensors `node:output:index`, not `node:index`.

    Args:
        name: the function's name.
        arguments: the shapes of its float32 arguments, by name. Nodes refer to an argument by its plain name.
        variables: the names of the variables whose handles the function takes after its arguments.
    Attributes:
        handles: the handle of each variable, by the variable's name.
    """

    def __init__(self, name: str, arguments: Mapping[str, Dims], variables: Sequence[str]) -> None:
        super().__init__()
        self._name = name
        self._arguments = arguments
        self.handles = {variable: f"variable_{number}" for number, variable in enumerate(variables)}

    def output(self, op: str, name: str, index: int) -> str:
        if op == "StatefulPartitionedCall":  # Its only output is a list.
            return f"{name}:{_OUTPUT_NAMES[op][0]}:{index}"
        names = _OUTPUT_NAMES.get(op, ("",))
        return f"{name}:{names[index]}:0"

    def _as_input(self, tensor: str) -> str:
        return tensor

    def _read_attrs(self, shape: Dims) -> dict[str, Message]:
        # The handle is an argument, which does not tell the variable's shape.
        return {"dtype": FLOAT, "_output_shapes": shapes_attr([shape])}

    def definition(self, results: Mapping[str, str], effects: Sequence[str] = ()) -> Message:
        """Returns the FunctionDef.

        Args:
            results: the float32 tensors to return, in order, by the names of the results.
            effects: the names of nodes that have to run although no result depends on them.
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
    """Returns the proto of a shape; None is an unknown length."""
    return TensorShapeProto(dim=[{"size": -1 if length is None else length} for length in shape])


def shape_attr(shape: Dims) -> Message:
    """Returns a shape as a node's attribute."""
    return AttrValue(shape=shape_proto(shape))


def shapes_attr(shapes: Sequence[Dims]) -> Message:
    """Returns a list of shapes as an attribute, such as `_output_shapes`."""
    return AttrValue(list=AttrValue_ListValue(shape=map(shape_proto, shapes)))


def ints(*values: int) -> Message:
    """Returns a list of integers as an attribute, such as `strides`."""
    return AttrValue(list=AttrValue_ListValue(i=values))


def types(*values: int) -> Message:
    """Returns a list of dtypes, by their numbers, as an attribute, such as `Tin`."""
    return AttrValue(list=AttrValue_ListValue(type=values))


def text(value: str) -> Message:
    """Returns a string as an attribute, such as `padding`."""
    return AttrValue(s=value.encode())


def tensor_info(tensor: str, shape: Dims) -> Message:
    """Returns the entry of a SignatureDef for a float32 tensor of the graph."""
    return TensorInfo(name=tensor, dtype=DT_FLOAT, tensor_shape=shape_proto(shape))
