"""Turns a network into steps, so that a model which computes the same has equal steps, whatever its layers' names are.

A step is what one op computes from its inputs, like "the 3x3 convolution of the images" or "ReLU6 of that". Equal steps
get the same number.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
import dataclasses
import itertools
from typing import Any

from hubexport.networks import ops
from hubexport.networks.network import Network

ONE_PIXEL = (1, 1)
NO_PADDING = ((0, 0), (0, 0))
# What a step computes of its inputs, whatever they are. Only a sum is the same in any order of its inputs.
Kind = tuple[Hashable, ...]
IMAGES, SUM, CONCATENATION, MEAN = ("images",), ("sum",), ("concatenation",), ("mean",)
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
        inputs: the nodes that give them; those of a sum in the order of their numbers.
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
        ordered = sorted(inputs, key=lambda node: node.step) if kind == SUM else inputs
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


def batch_norm(variables: int, epsilon: float) -> Kind:
    """Returns what a batch norm computes; it has 4 variables with a gamma, 3 without."""
    return "batch norm", variables, round(epsilon, _EPSILON_DIGITS)


def pool(kind: str, window: tuple[int, ...], stride: tuple[int, ...], padding: str) -> Kind:
    """Returns what a pool computes of the `max` or the `average` of each window; `padding` is SAME or VALID."""
    return "pool", kind, window, stride, padding


def scale(factor: float) -> Kind:
    """Returns what multiplying with a constant computes."""
    return "scale", factor


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
        padding: Padding | None = None
        match op:
            case ops.Input():
                kind: Kind = IMAGES
            case ops.Identity() | ops.Dropout() | ops.DropPath() | ops.Squeeze():
                nodes[op.name] = inputs[0]
                continue
            case ops.Pad():
                padding = ((op.before[0], op.after[0]), (op.before[1], op.after[1]))
                kind = pad(padding)
            case ops.Conv() | ops.DepthwiseConv():
                kernel = op.kernel.shape[:2]
                pads: str | Padding = op.padding
                if op.padding == "VALID" and kernel == ONE_PIXEL:
                    pads = "SAME"
                elif op.padding == "VALID":
                    pads = inputs[0].padding or NO_PADDING
                    inputs = inputs if inputs[0].padding is None else inputs[0].inputs
                depthwise = isinstance(op, ops.DepthwiseConv)
                kind = convolution(depthwise, kernel, op.stride, op.kernel.shape[3], len(op.variables), pads)
            case ops.BatchNorm():
                kind = batch_norm(len(op.variables), op.epsilon)
            case ops.Activation():
                kind = (op.kind,)
            case ops.Add():
                kind = SUM
            case ops.Concat():
                kind = CONCATENATION
            case ops.Scale():
                kind = scale(op.factor)
            case ops.Mean():
                kind = MEAN
            case ops.Pool():
                whole = op.padding == "VALID" and op.window == network.shapes[op.inputs[0]][:2]
                is_mean = whole and op.kind == "average"
                kind = MEAN if is_mean else pool(op.kind, op.window, op.stride, op.padding)
            case _:
                kind = "an op that Keras has no layer for", op.name
        nodes[op.name] = steps.node(kind, inputs, op, padding=padding)
    return nodes
