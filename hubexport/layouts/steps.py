"""Turns a network into steps, so that a model which computes the same has equal steps, whatever its layers' names are.

A step is what one op computes from its inputs, like "the 3x3 convolution of the images" or "ReLU6 of that". Equal steps
get the same number.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
import dataclasses
import itertools
from typing import Any

from hubexport.networks import ops
from hubexport.networks.network import Network
from hubexport.networks.ops import Op

ONE_PIXEL = (1, 1)
NO_PADDING = ((0, 0), (0, 0))
# What a step computes of its inputs, whatever they are.
Kind = tuple[Hashable, ...]
IMAGES, SUM, PRODUCT, CONCATENATION, MEAN = ("images",), ("sum",), ("product",), ("concatenation",), ("mean",)
SOFTMAX = ("softmax",)
# The same in any order of the inputs.
_UNORDERED = (SUM, PRODUCT)
# The zeros before and after an image, for its height and its width.
Padding = tuple[tuple[int, int], ...]

# Keras may have rounded an epsilon to float32.
_EPSILON_DIGITS = 9


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One step of a model or a network.

    Attributes:
        step: its number.
        kind: what it computes of its inputs.
        inputs: the nodes that give them; those of a sum or product in the order of their numbers.
        source: the network's op, or the model's call of a layer.
        weights: what Keras calls the weights of the layer, in the order of the op's variables.
        padding: the zeros that it puts around its input; None if it does something else.
    """

    step: int
    kind: Kind
    inputs: tuple["Node", ...]
    source: Any
    weights: tuple[str, ...] = ()
    padding: Padding | None = None


class Steps:
    """Makes nodes, and numbers their steps."""

    def __init__(self) -> None:
        self._numbers: defaultdict[Hashable, int] = defaultdict(itertools.count().__next__)

    def node(
        self,
        kind: Kind,
        inputs: Sequence[Node],
        source: Any,
        weights: tuple[str, ...] = (),
        padding: Padding | None = None,
    ) -> Node:
        """Makes a node; see `Node` for its arguments."""
        ordered = sorted(inputs, key=lambda node: node.step) if kind in _UNORDERED else inputs
        step = self.number(kind, (node.step for node in ordered))
        return Node(step, kind, tuple(ordered), source, weights, padding)

    def number(self, kind: Kind, inputs: Iterable[int]) -> int:
        """Returns the number of the step that computes something of other steps."""
        return self._numbers[kind, tuple(inputs)]


def convolution(
    depthwise: bool,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    outputs: int,
    variables: int,
    padding: str | Padding,
) -> Kind:
    """Returns what a convolution computes.

    Args:
        depthwise: whether it convolves each channel by itself.
        kernel: height and width.
        stride: vertical and horizontal.
        outputs: the number of output channels; of a depthwise convolution, for each input channel.
        variables: 2 with biases, 1 without.
        padding: SAME, or the zeros around the image.
    """
    return "depthwise convolution" if depthwise else "convolution", kernel, stride, outputs, variables, padding


def dense(outputs: int) -> Kind:
    """Returns what a dense layer with biases computes of one pixel: the same as a convolution."""
    return convolution(False, ONE_PIXEL, ONE_PIXEL, outputs, 2, "SAME")


def batch_norm(variables: int, epsilon: float) -> Kind:
    """Returns what a batch norm computes; it has 4 variables with a gamma, 3 without."""
    return "batch norm", variables, round(epsilon, _EPSILON_DIGITS)


def pool(kind: str, window: tuple[int, ...], stride: tuple[int, ...], padding: str) -> Kind:
    """Returns what a pool computes of the `max` or the `average` of each window; `padding` is SAME or VALID."""
    if window == ONE_PIXEL:  # It drops pixels.
        return "pool", "any", window, stride, "VALID"
    return "pool", kind, window, stride, padding


def linear(factor: float, summand: float | tuple[float, ...] = 0.0) -> Kind:
    """Returns what multiplying with a constant, and adding another, computes."""
    return "linear", factor, summand


def cut(begin: tuple[int, ...]) -> Kind:
    """Returns what dropping the first rows and columns computes."""
    return "cut", begin


def pad(padding: Padding) -> Kind:
    """Returns what zeros around an image make of it."""
    return "padding", padding


def network_nodes(network: Network, steps: Steps) -> dict[str, Node]:
    """Returns the node that gives the output of each of a network's ops, by the op's name.

    Ops that return their input outside training have the node of their input.
    """
    nodes: dict[str, Node] = {}
    for op in network.ops:
        inputs = tuple(nodes[name] for name in op.inputs)
        kind = RULES[type(op)](network, op, inputs)
        if kind is None:
            [nodes[op.name]] = inputs
            continue
        padding = None
        if isinstance(op, ops.Pad):
            padding = _zeros(op)
        elif isinstance(op, ops.Conv | ops.DepthwiseConv) and _is_padded(op, inputs):
            inputs = inputs[0].inputs  # The convolution itself has the zeros.
        nodes[op.name] = steps.node(kind, inputs, op, padding=padding)
    return nodes


def _convolution(network: Network, op: ops.Conv | ops.DepthwiseConv, inputs: tuple[Node, ...]) -> Kind:
    kernel, padding = op.kernel.shape[:2], inputs[0].padding if _is_padded(op, inputs) else None
    pads: str | Padding = padding or NO_PADDING
    if op.padding == "SAME" or (kernel == ONE_PIXEL and padding is None):
        pads = "SAME"
    depthwise = isinstance(op, ops.DepthwiseConv)
    return convolution(depthwise, kernel, op.stride, op.kernel.shape[3], len(op.variables), pads)


def _is_padded(op: ops.Conv | ops.DepthwiseConv, inputs: tuple[Node, ...]) -> bool:
    return op.padding == "VALID" and inputs[0].padding is not None


def _pool(network: Network, op: ops.Pool, inputs: tuple[Node, ...]) -> Kind:
    if op.kind == "average" and op.padding == "VALID" and op.window == network.shapes[op.inputs[0]][:2]:
        return MEAN
    return pool(op.kind, op.window, op.stride, op.padding)


def _zeros(op: ops.Pad) -> Padding:
    return (op.before[0], op.after[0]), (op.before[1], op.after[1])


def _passes(network: Network, op: Op, inputs: tuple[Node, ...]) -> None:
    """Stands for an op that returns its input outside training."""


# What each op computes; None for ops that return their input.
RULES: dict[type[Op], Callable[[Network, Any, tuple[Node, ...]], Kind | None]] = {
    ops.Input: lambda network, op, inputs: IMAGES,
    ops.Conv: _convolution,
    ops.DepthwiseConv: _convolution,
    ops.BatchNorm: lambda network, op, inputs: batch_norm(len(op.variables), op.epsilon),
    ops.Activation: lambda network, op, inputs: (op.kind,),
    ops.Pool: _pool,
    ops.Mean: lambda network, op, inputs: MEAN,
    ops.Pad: lambda network, op, inputs: pad(_zeros(op)),
    ops.Slice: lambda network, op, inputs: cut(op.begin),
    ops.Concat: lambda network, op, inputs: CONCATENATION,
    ops.Add: lambda network, op, inputs: SUM,
    ops.Multiply: lambda network, op, inputs: PRODUCT,
    ops.Scale: lambda network, op, inputs: linear(op.factor),
    ops.MatMul: lambda network, op, inputs: dense(op.kernel.shape[1]),
    ops.Squeeze: _passes,
    ops.Dropout: _passes,
    ops.DropPath: _passes,
    ops.Softmax: lambda network, op, inputs: SOFTMAX,
    ops.Identity: _passes,
}
