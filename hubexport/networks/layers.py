"""The layers that networks consist of, as data, with their shapes, variables and costs.

A `Network` is an ordered list of layers that name their inputs. Nothing here computes anything: the writers in
`hubexport.formats` turn the list into TensorFlow, and rely on each layer meaning exactly what it means in TF-Slim.

Shapes leave out the batch: `(height, width, channels)`, or `(channels,)` after `SpatialSqueeze`.
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
    """One float32 array that training changes: a weight, or a moving statistic.

    Attributes:
        name: its name in TF-Slim checkpoints, like `MobilenetV2/Conv/weights`.
        shape: its shape, with axes in TF-Slim's order (kernels: height, width, inputs, outputs).
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
        name: the scope of the layer's nodes in graphs, and of its variables in checkpoints.
        inputs: the names of the layers whose outputs it takes, in order.
    """

    name: str
    inputs: tuple[str, ...]

    @property
    def operation(self) -> str:
        """What it computes, as people read it, like `DepthwiseConv2D 3×3, stride 2, relu6`."""
        return type(self).__name__

    def output_shape(self, *inputs: Shape) -> Shape:
        """Returns the output shape for these input shapes; the first input's shape unless overridden."""
        return inputs[0]

    def variables(self, *inputs: Shape) -> tuple[Variable, ...]:
        """Returns the layer's variables for these input shapes, in the order in which TF-Slim creates them."""
        return ()

    def multiply_adds(self, *inputs: Shape) -> int:
        """Returns the multiply-adds for one image; only convolutions count, as in the published tables."""
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Input(Layer):
    """The images, float32 [batch, *shape], with intensities in the network's `input_range`."""

    shape: Shape

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolution(Layer):
    """A convolution with a square kernel and SAME padding, then batch norm or biases, then an activation.

    Attributes:
        kernel_size: height and width of the kernel, in pixels.
        stride: in pixels, the same in both directions.
        batch_norm: whether batch norm with learned scale and offset follows; otherwise biases are added, as in TF-Slim.
        activation: the activation that follows last; None leaves the layer linear.
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

    Its weights are not regularized, by the default of TF-Slim's MobileNet training scope, `regularize_depthwise=False`.
    """

    def _outputs(self, inputs: Shape) -> int:
        return inputs[-1]

    def weights(self, inputs: Shape) -> Variable:
        return Variable(f"{self.name}/depthwise_weights", (self.kernel_size, self.kernel_size, inputs[-1], 1))


@dataclasses.dataclass(frozen=True)
class Add(Layer):
    """The sum of two outputs of the same shape: a residual connection."""


@dataclasses.dataclass(frozen=True)
class Identity(Layer):
    """The same values under a second name, where TF-Slim's graphs have a name that programs look up."""


@dataclasses.dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The mean over height and width, both kept as axes of length 1."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return 1, 1, inputs[0][-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """In training, keeps each value with probability `keep_prob` and divides it by that; otherwise does nothing."""

    keep_prob: float


@dataclasses.dataclass(frozen=True)
class SpatialSqueeze(Layer):
    """Removes the two image axes, which have length 1."""

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0][-1:]


@dataclasses.dataclass(frozen=True)
class Softmax(Layer):
    """Turns logits [batch, classes] into probabilities."""


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture at one size.

    Attributes:
        layers: the layers, each after its inputs; the first is the `Input`.
        endpoints: the name of the layer of each intermediate result, by the result's public name.
        features: the name of the layer whose output is the feature vector, `(num_features,)`.
        logits: the name of the layer whose output is the class scores, `(num_classes,)`; None without classifier.
        input_range: the lowest and highest intensity of the images that the network was trained on.
        batch_norm_epsilon: the number added to each variance before its square root.
        weight_decay: the factor of the L2 loss (half the sum of squares) of each regularized variable.
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
        """The output shape of each layer, by the layer's name, without the batch."""
        shapes: dict[str, Shape] = {}
        for layer in self.layers:
            shapes[layer.name] = layer.output_shape(*(shapes[name] for name in layer.inputs))
        return shapes

    def input_shapes(self, layer: Layer) -> tuple[Shape, ...]:
        """Returns the shapes of the inputs of a layer of this network."""
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
        """The number of class scores; None without classifier."""
        return self.shapes[self.logits][0] if self.logits else None

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image; only convolutions count, as in the published tables."""
        return sum(layer.multiply_adds(*self.input_shapes(layer)) for layer in self.layers)

    @property
    def published_parameters(self) -> int:
        """The number of convolution weights and biases, without batch norm, as in the published tables."""
        return sum(variable.size for variable in self.variables if variable.published)
