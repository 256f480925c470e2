"""What a network costs: multiply-adds, and the parameters that its publishers count."""

from collections.abc import Callable
import math

from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op, Shape
from hubexport.networks.shapes import output_shapes


def multiply_adds(network: Network, image_size: tuple[int, int] | None = None) -> dict[str, int]:
    """Returns the multiply-adds of each op for one image, by the op's name.

    As in published tables, only convolutions and dense layers count, without biases and batch norm.

    Args:
        network: the network.
        image_size: height and width in pixels, where the network's is open. Defaults to the network's own.
    """
    first, *others = network.ops
    assert isinstance(first, ops.Input), "a network begins with its input"
    height, width = image_size or network.default_image_size
    fixed = ops.Input(first.name, (), first.layer, shape=(height, width, first.shape[-1]))
    shapes = output_shapes([fixed, *others])
    return {op.name: RULES[type(op)](op, shapes[op.name]) for op in network.ops}


def published_parameters(network: Network) -> int:
    """Returns the number of values that the network's publishers count as parameters."""
    return sum(variable.size for variable in network.variables if variable.published)


def _convolution(op: ops.Conv | ops.DepthwiseConv, output: Shape) -> int:
    """Each value of the kernel is used once for each pixel of the output."""
    return math.prod(length or 0 for length in output[:2]) * op.kernel.size


def _matmul(op: ops.MatMul, output: Shape) -> int:
    return op.kernel.size


def _nothing(op: Op, output: Shape) -> int:
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
