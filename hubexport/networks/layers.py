"""The layer vocabulary: what a network is made of, as data, with its shapes, variables and costs.

A `Network` is an ordered list of layers that name their inputs. Nothing here computes an image: the writers in
`hubexport.formats` turn the list into TensorFlow, and count on each layer being exactly what TF-Slim means by it.

Shapes leave out the batch: `(height, width, channels)`, or `(channels,)` once the image axes are squeezed away.
"""

from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Literal

Shape = tuple[int, ...]
Activation = Literal["relu6"]


@dataclasses.dataclass(frozen=True)
class Variable:
    """One float32 array that a network learns or keeps.

    Attributes:
        name: its name in TF-Slim checkpoints, like `MobilenetV2/Conv/weights`.
        shape: its dimensions, in TF-Slim's order (convolutions: height, width, inputs, outputs).
        trainable: whether gradients change it; batch norm's moving statistics are not trainable.
        regularized: whether weight decay applies to it.
        published: whether the published parameter counts include it; they leave out batch norm.
    """

    name: str
    shape: Shape
    trainable: bool = True
    regularized: bool = False
    published: bool = True

    @property
    def size(self) -> int:
        """The number of float32 values."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One step of a network.

    Attributes:
        name: the scope of its nodes in the graph, and of its variables in checkpoints.
        inputs: the names of the layers whose outputs it takes, in order.
    """

    name: str
    inputs: tuple[str, ...]

    @property
    def operation(self) -> str:
        """What it computes, as people read it, like `DepthwiseConv2D 3×3, stride 2, relu6`."""
        return type(self).__name__

    def output_shape(self, *inputs: Shape) -> Shape:
        """Returns the shape that comes out for these input shapes; the same as the first unless overridden."""
        return inputs[0]

    def variables(self, *inputs: Shape) -> tuple[Variable, ...]:
        """Returns its variables for these input shapes, in the order in which TF-Slim makes them."""
        return ()

    def multiply_adds(self, *inputs: Shape) -> int:
        """Returns the multiply-adds for one image; like the published tables, convolutions only."""
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input(Layer):
    """The images `[batch, *shape]`, already mapped to the network's own range."""

    shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """What the two convolutions share: square kernels, SAME padding, and what follows the convolution.

    Attributes:
        kernel_size: height and width of the kernel, in pixels.
        stride: in pixels, the same in both directions.
        batch_norm: batch norm follows (with learned scale and offset); without it biases are added, as in TF-Slim.
        activation: what follows last; None leaves the layer linear.
    """

    kernel_size: int
    stride: int = 1
    batch_norm: bool = True
    activation: Activation | None = None

    @property
    def operation(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        activation = f", {self.activation}" if self.activation else ""
        return f"{type(self).__name__} {self.kernel_size}×{self.kernel_size}{stride}{activation}"

    def _outputs(self, inputs: Shape) -> int:
        raise NotImplementedError

    def weights(self, inputs: Shape) -> Variable:
        """Returns the kernel's variable for this input shape."""
        raise NotImplementedError

    def output_shape(self, *inputs: Shape) -> Shape:
        height, width, _ = inputs[0]
        return -(-height // self.stride), -(-width // self.stride), self._outputs(inputs[0])

    def variables(self, *inputs: Shape) -> tuple[Variable, ...]:
        weights = self.weights(inputs[0])
        per_channel = (self._outputs(inputs[0]),)
        if not self.batch_norm:
            return weights, Variable(f"{self.name}/biases", per_channel)
        scope = f"{self.name}/BatchNorm"
        return (
            weights,
            Variable(f"{scope}/beta", per_channel, published=False),
            Variable(f"{scope}/gamma", per_channel, published=False),
            Variable(f"{scope}/moving_mean", per_channel, trainable=False, published=False),
            Variable(f"{scope}/moving_variance", per_channel, trainable=False, published=False),
        )

    def multiply_adds(self, *inputs: Shape) -> int:
        height, width, _ = self.output_shape(*inputs)
        return height * width * self.weights(inputs[0]).size


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv2D(Convolution):
    """A convolution over all input channels (`slim.conv2d`); `filters` is its number of output channels."""

    filters: int

    def _outputs(self, inputs: Shape) -> int:
        return self.filters

    def weights(self, inputs: Shape) -> Variable:
        shape = (self.kernel_size, self.kernel_size, inputs[-1], self.filters)
        return Variable(f"{self.name}/weights", shape, regularized=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DepthwiseConv2D(Convolution):
    """A convolution of each channel by itself (`slim.separable_conv2d` without its pointwise half).

    Its weights are not regularized: the default of TF-Slim's MobileNet training scope, `regularize_depthwise=False`.
    """

    def _outputs(self, inputs: Shape) -> int:
        return inputs[-1]

    def weights(self, inputs: Shape) -> Variable:
        return Variable(f"{self.name}/depthwise_weights", (self.kernel_size, self.kernel_size, inputs[-1], 1))


@dataclasses.dataclass(frozen=True)
class Add(Layer):
    """The sum of two layers of one shape: a residual connection."""


@dataclasses.dataclass(frozen=True)
class Identity(Layer):
    """The same values under a second name, where TF-Slim's graphs have one that people look for."""


@dataclasses.dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over height and width, both kept as axes of length 1."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return 1, 1, inputs[0][-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """In training, keeps each value with probability `keep_prob`, divided by it; otherwise does nothing."""

    keep_prob: float


@dataclasses.dataclass(frozen=True)
class SpatialSqueeze(Layer):
    """Takes away the image axes of length 1."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0][-1:]


@dataclasses.dataclass(frozen=True)
class Softmax(Layer):
    """Logits `[batch, classes]` to probabilities."""


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture at one size: layers in an order in which each comes after its inputs.

    Attributes:
        layers: the first is the `Input`.
        endpoints: the public name of each intermediate result, to the name of its layer.
        features: the layer that gives the feature vector, `(num_features,)`.
        logits: the layer that gives the class scores, `(num_classes,)`; None in a network without classifier.
        input_range: lowest and highest value of the images that the network was trained on.
        batch_norm_epsilon: added to each variance before its square root.
        weight_decay: the L2 loss (half the sum of squares) of each regularized variable is scaled by it.
    """

    layers: tuple[Layer, ...]
    endpoints: Mapping[str, str]
    features: str
    logits: str | None
    input_range: tuple[float, float]
    batch_norm_epsilon: float
    weight_decay: float

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """The output shape of each layer, by its name, without the batch."""
        shapes: dict[str, Shape] = {}
        for layer in self.layers:
            shapes[layer.name] = layer.output_shape(*(shapes[name] for name in layer.inputs))
        return shapes

    def input_shapes(self, layer: Layer) -> tuple[Shape, ...]:
        """Returns the shapes of what a layer of this network takes."""
        return tuple(self.shapes[name] for name in layer.inputs)

    @functools.cached_property
    def variables(self) -> tuple[Variable, ...]:
        """All variables, in the order of the layers."""
        return tuple(v for layer in self.layers for v in layer.variables(*self.input_shapes(layer)))

    @property
    def image_shape(self) -> Shape:
        """Height, width and channels of an image."""
        return self.shapes[self.layers[0].name]

    @property
    def num_features(self) -> int:
        """The length of a feature vector."""
        return self.shapes[self.features][0]

    @property
    def num_classes(self) -> int | None:
        """The number of class scores; None in a network without classifier."""
        return self.shapes[self.logits][0] if self.logits else None

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image, convolutions only, as the published tables count them."""
        return sum(layer.multiply_adds(*self.input_shapes(layer)) for layer in self.layers)

    @property
    def published_parameters(self) -> int:
        """Convolution weights and biases, without batch norm, as the published tables count them."""
        return sum(variable.size for variable in self.variables if variable.published)
