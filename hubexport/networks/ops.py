"""The ops that networks are made of, as plain data. None of them knows a network.

An op says everything about itself: what it computes, from which tensors, with which variables. Nothing here computes an
image. Interpreters do, with one rule per op: `shapes.py`, `costs.py` and `numpy_forward.py` beside this file, and the
writers in `hubexport.formats`.

Tensors are float32 `[batch, height, width, channels]`, or `[batch, channels]` once the image axes are squeezed away.
Each op has one output, and its name is the name of its output.
"""

import dataclasses
import math
from typing import Literal

Shape = tuple[int, ...]
# Of a tensor, without the batch. None is a length that is known only when an image is there.
TensorShape = tuple[int | None, ...]
Padding = Literal["SAME", "VALID"]
# What a variable is to its op. TF-Slim keeps a kernel as [height, width, inputs, outputs], the kernel of a depthwise
# convolution as [height, width, inputs, multiplier].
Role = Literal[
    "kernel", "depthwise_kernel", "pointwise_kernel", "bias", "beta", "gamma", "moving_mean", "moving_variance"
]
# A sixth, as the gates of TF-Slim's MobileNet V3 have it: 0.16667, and in its hard swish. Graphs have both in float32.
HARD_SIGMOID_SLOPE = 0.16666999459266663
HARD_SWISH_SLOPE = 0.1666666716337204
ActivationKind = Literal["relu", "relu6", "hard_sigmoid", "hard_swish"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """One float32 array that a network learns or keeps.

    Attributes:
        name: its name in TF-Slim checkpoints, like `MobilenetV2/Conv/weights`.
        shape: its dimensions in TF-Slim's order.
        role: what it is to its op.
        weight_decay: the factor of its L2 loss (half the sum of squares); 0 for a variable without such a loss.
        trainable: whether gradients change it; batch norm's moving statistics are not trainable.
        published: whether the parameter counts of its publishers include it.
        gain: how many times larger than usual its made-up values are; see `hubexport.networks.gains`.
    """

    name: str
    shape: Shape
    role: Role
    weight_decay: float = 0.0
    trainable: bool = True
    published: bool = True
    gain: float = 1.0

    @property
    def size(self) -> int:
        """The number of float32 values."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Op:
    """One step of a network.

    Attributes:
        name: the name of its output, and the scope of its nodes in a graph.
        inputs: the names of the ops whose outputs it takes, in order.
        layer: the layer that it is part of. A layer is what TF-Slim makes in one call, such as a convolution with its
            batch norm and its activation; its ops follow each other.
    """

    name: str
    inputs: tuple[str, ...]
    layer: str

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Its variables, in the order in which TF-Slim makes them."""
        return ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input(Op):
    """The images, already in the range that the network was trained on.

    Attributes:
        shape: height, width and channels; None for a height or width that is open.
    """

    shape: TensorShape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv(Op):
    """A convolution over all input channels.

    Attributes:
        kernel: [height, width, inputs, outputs].
        bias: [outputs], added to each pixel; None for a convolution without.
        stride: vertical and horizontal step, in pixels.
        padding: TensorFlow's SAME or VALID. A `Pad` before a VALID convolution pads explicitly.
    """

    kernel: Variable
    bias: Variable | None = None
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.kernel,) if self.bias is None else (self.kernel, self.bias)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthwiseConv(Op):
    """A convolution of each channel by itself; output channel `c * multiplier + m` comes from input channel `c`.

    Attributes:
        kernel: [height, width, inputs, multiplier].
        bias: [inputs * multiplier], added to each pixel; None for a convolution without.
        stride: vertical and horizontal step, in pixels.
        padding: TensorFlow's SAME or VALID.
    """

    kernel: Variable
    bias: Variable | None = None
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (self.kernel,) if self.bias is None else (self.kernel, self.bias)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNorm(Op):
    """Normalizes each channel: `(x - mean) / sqrt(variance + epsilon) * gamma + beta`.

    In training, mean and variance are those of the batch, and the moving statistics move towards them.

    Attributes:
        beta: [channels], the learned offset.
        gamma: [channels], the learned scale; None where TF-Slim's `scale=False` leaves it out.
        moving_mean: [channels].
        moving_variance: [channels].
        epsilon: added to the variance.
    """

    beta: Variable
    gamma: Variable | None
    moving_mean: Variable
    moving_variance: Variable
    epsilon: float

    @property
    def variables(self) -> tuple[Variable, ...]:
        scale = () if self.gamma is None else (self.gamma,)
        return (self.beta, *scale, self.moving_mean, self.moving_variance)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Activation(Op):
    """An elementwise function.

    Attributes:
        kind: `relu` is max(x, 0), `relu6` is min(max(x, 0), 6). `hard_sigmoid` is relu6(x + 3) * 0.16667, a sixth as
            TF-Slim's MobileNet V3 has it in its gates; its `hard_swish` is x * relu6(x + 3) * (1 / 6).
    """

    kind: ActivationKind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool(Op):
    """The maximum or the average of each window of pixels, channel by channel.

    Attributes:
        kind: `max` or `average`. With SAME padding an average counts the real pixels alone.
        window: height and width, in pixels.
        stride: vertical and horizontal step, in pixels.
        padding: TensorFlow's SAME or VALID.
    """

    kind: Literal["max", "average"]
    window: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"


@dataclasses.dataclass(frozen=True)
class Mean(Op):
    """The mean over height and width, both kept as axes of length 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pad(Op):
    """Zeros around the image.

    Attributes:
        before: rows above and columns to the left.
        after: rows below and columns to the right.
    """

    before: tuple[int, int]
    after: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice(Op):
    """What is left of the image without its first rows and columns.

    Attributes:
        begin: how many rows and columns are dropped.
    """

    begin: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Concat(Op):
    """The channels of all inputs, one input after another."""


@dataclasses.dataclass(frozen=True)
class Add(Op):
    """The sum of two tensors of one shape."""


@dataclasses.dataclass(frozen=True)
class Multiply(Op):
    """The product of two tensors; one of them may have a single pixel, which is used for all pixels of the other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale(Op):
    """The input times a constant.

    Attributes:
        factor: the constant.
    """

    factor: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatMul(Op):
    """A dense layer: `[batch, inputs]` to `[batch, outputs]`.

    Attributes:
        kernel: [inputs, outputs].
        bias: [outputs].
    """

    kernel: Variable
    bias: Variable

    @property
    def variables(self) -> tuple[Variable, ...]:
        return self.kernel, self.bias


@dataclasses.dataclass(frozen=True)
class Squeeze(Op):
    """Takes away the image axes, which are of length 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropout(Op):
    """In training, keeps each value with probability `keep_prob`, divided by it; otherwise does nothing."""

    keep_prob: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class DropPath(Op):
    """In training, keeps all values of an image with probability `keep_prob`, divided by it; otherwise does nothing."""

    keep_prob: float


@dataclasses.dataclass(frozen=True)
class Softmax(Op):
    """Logits `[batch, classes]` to probabilities."""


@dataclasses.dataclass(frozen=True)
class Identity(Op):
    """The same values under a second name, where TF-Slim's graphs have one that people look for."""
