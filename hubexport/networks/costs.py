"""What a network costs: multiply-adds, and the parameters that its publishers count."""

from collections.abc import Callable
import math

from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, TensorShape


def multiply_adds(network: Network) -> dict[str, int]:
    """Returns the multiply-adds of each op for one image of the default size, by the op's name.

    As in published tables, only convolutions and dense layers count, without biases and batch norm.
    """
    shapes = network.at_default_size().shapes
    return {op.name: RULES[type(op)](op, shapes[op.name]) for op in network.ops}


def published_parameters(network: Network) -> int:
    """Returns the number of values that the network's publishers count as parameters."""
    return sum(variable.size for variable in network.variables if variable.published)


def _convolution(op: ops.Conv | ops.DepthwiseConv, output: TensorShape) -> int:
    """Each value of the kernel is used once for each pixel of the output."""
    return math.prod(length or 0 for length in output[:2]) * op.kernel.size


def _matmul(op: ops.MatMul, output: TensorShape) -> int:
    return op.kernel.size


def _nothing(op: Op, output: TensorShape) -> int:
    return 0


RULES: dict[type[Op], Callable[..., int]] = {
    ops.Input: _nothing,
    ops.Conv: _convolution,
    ops.DepthwiseConv: _convolution,
    ops.BatchNorm: _nothing,
    ops.Activation: _nothing,
    ops.Pool: _nothing,
    ops.Mean: _nothing,
    ops.Pad: _nothing,
    ops.Slice: _nothing,
    ops.Concat: _nothing,
    ops.Add: _nothing,
    ops.Multiply: _nothing,
    ops.Scale: _nothing,
    ops.MatMul: _matmul,
    ops.Squeeze: _nothing,
    ops.Dropout: _nothing,
    ops.DropPath: _nothing,
    ops.Softmax: _nothing,
    ops.Identity: _nothing,
}
