"""Builds a network the way TF-Slim's code reads: one call per layer, with a family's defaults.

TF-Slim's naming lives here alone: what it calls the variables and nodes of a layer.
"""

from collections.abc import Sequence
import dataclasses
from typing import Literal

from hubexport.networks import ops
from hubexport.networks.gains import with_gains
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network
from hubexport.networks.ops import ActivationKind, Op, Padding, Role, TensorShape, Variable
from hubexport.networks.shapes import output_shape

# What an image is, from a layer's side: the name of the op that gives it.
Tensor = str

# Node names as TF-Slim's graphs have them.
_ACTIVATION_NODES: dict[ActivationKind, str] = {
    "relu": "Relu",
    "relu6": "Relu6",
    "hard_sigmoid": "hard_sigmoid",
    "hard_swish": "hard_swish",
}
_EVERYTHING_BUT_BATCH_NORM = frozenset[Role]({"kernel", "depthwise_kernel", "pointwise_kernel", "bias"})


@dataclasses.dataclass(frozen=True)
class Defaults:
    """What a family's layers have in common, as TF-Slim's `arg_scope` says it.

    Attributes:
        activation: follows each convolution unless the layer says otherwise; None for none.
        batch_norm_epsilon: added to each variance; None for a family whose convolutions have biases instead.
        plain_convolutions: whether convolutions have neither batch norm nor biases unless the layer says otherwise,
            since batch norms are layers of their own.
        batch_norm_scale: whether batch norms have a gamma.
        batch_norm_momentum: how much of a moving average a training step keeps.
        weight_decay: of kernels.
        depthwise_weight_decay: of both kernels of separable convolutions, of which depthwise ones are a half.
        bias_weight_decay: of biases, those of separable convolutions left out.
        published_roles: the variables that the parameter counts of the family's publishers include.
    """

    activation: ActivationKind | None
    batch_norm_epsilon: float | None
    weight_decay: float
    plain_convolutions: bool = False
    depthwise_weight_decay: float = 0.0
    bias_weight_decay: float = 0.0
    batch_norm_scale: bool = True
    batch_norm_momentum: float = 0.997
    published_roles: frozenset[Role] = _EVERYTHING_BUT_BATCH_NORM


class Builder:
    """Collects the ops of one network.

    Args:
        root: TF-Slim's scope of the whole network, like `MobilenetV2`; empty for none.
        image_size: the images that the network takes.
        defaults: those of the family.
    Attributes:
        images: the network's input.
    """

    def __init__(self, root: str, image_size: ImageSize, defaults: Defaults) -> None:
        self._root = root
        self._image_size = image_size
        self._defaults = defaults
        self._ops: list[Op] = []
        self._shapes: dict[Tensor, TensorShape] = {}
        self._endpoints: dict[str, Tensor] = {}
        name = self._scoped("input")
        self.images = self._append(ops.Input(name, (), name, shape=image_size.shape))

    def conv(
        self,
        scope: str,
        net: Tensor,
        filters: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: Padding | Literal["explicit"] = "SAME",
        batch_norm: bool | Literal["default"] = "default",
        activation: ActivationKind | Literal["default"] | None = "default",
    ) -> Tensor:
        """Appends a convolution, and batch norm or biases, and an activation.

        Args:
            scope: below the network's root.
            net: the input.
            filters: the number of output channels.
            kernel: height and width in pixels, or one length for both.
            stride: in pixels, the same in both directions.
            padding: `explicit` pads as if the kernel were centred on every stride-th pixel, whatever the image's size:
                TF-Slim's `conv2d_same`.
            batch_norm: follow the convolution with batch norm; otherwise add biases. Defaults to what the family does.
            activation: what comes last; None leaves the layer linear. Defaults to the family's.
        """
        layer = self._scoped(scope)
        normalized, biased = self._ending(batch_norm)
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        if padding == "explicit" and stride > 1:
            net = self._pad_for(layer, net, height, width)
        weights = self._kernel(f"{layer}/weights", (height, width, self._channels(net), filters))
        net = self._append(
            ops.Conv(
                layer,
                (net,),
                layer,
                kernel=weights,
                bias=self._bias(f"{layer}/biases", filters, self._defaults.bias_weight_decay) if biased else None,
                stride=(stride, stride),
                padding="SAME" if padding == "SAME" or (padding == "explicit" and stride == 1) else "VALID",
            )
        )
        if normalized:
            net = self._batch_norm(f"{layer}/BatchNorm", layer, net)
        return self._activated(layer, net, activation)

    def depthwise_conv(
        self,
        scope: str,
        net: Tensor,
        *,
        kernel: int,
        stride: int = 1,
        activation: ActivationKind | Literal["default"] | None = "default",
    ) -> Tensor:
        """Appends a convolution of each channel by itself with batch norm: `separable_conv2d` without pointwise half.

        Args:
            scope: below the network's root.
            net: the input.
            kernel: height and width in pixels.
            stride: in pixels, the same in both directions.
            activation: what comes last; None leaves the layer linear. Defaults to the family's.
        """
        layer = self._scoped(scope)
        net = self._depthwise_conv(layer, layer, net, kernel, 1, stride)
        net = self._batch_norm(f"{layer}/BatchNorm", layer, net)
        return self._activated(layer, net, activation)

    def separable_conv(
        self,
        scope: str,
        net: Tensor,
        filters: int,
        *,
        kernel: int,
        multiplier: int = 1,
        stride: int = 1,
        batch_norm: bool | Literal["default"] = "default",
        activation: ActivationKind | Literal["default"] | None = "default",
    ) -> Tensor:
        """Appends a convolution of each channel by itself and one of single pixels, and batch norm or biases.

        Args:
            scope: below the network's root.
            net: the input.
            filters: the number of output channels.
            kernel: height and width in pixels.
            multiplier: the number of channels that the first half makes of each input channel.
            stride: in pixels, the same in both directions.
            batch_norm: follow the convolutions with batch norm; otherwise add biases. Defaults to what the family does.
            activation: what comes last; None leaves the layer linear. Defaults to the family's.
        """
        layer = self._scoped(scope)
        normalized, biased = self._ending(batch_norm)
        net = self._depthwise_conv(f"{layer}/depthwise", layer, net, kernel, multiplier, stride)
        decay = self._defaults.depthwise_weight_decay
        shape = (1, 1, self._channels(net), filters)
        weights = self._variable(f"{layer}/pointwise_weights", shape, "pointwise_kernel", decay)
        bias = self._bias(f"{layer}/biases", filters, 0.0) if biased else None
        net = self._append(ops.Conv(layer, (net,), layer, kernel=weights, bias=bias))
        if normalized:
            net = self._batch_norm(f"{layer}/BatchNorm", layer, net)
        return self._activated(layer, net, activation)

    def fully_connected(self, scope: str, net: Tensor, outputs: int) -> Tensor:
        """Appends a linear dense layer; its input is a row without image axes."""
        layer = self._scoped(scope)
        kernel = self._kernel(f"{layer}/weights", (self._channels(net), outputs))
        bias = self._bias(f"{layer}/biases", outputs, self._defaults.bias_weight_decay)
        return self._append(ops.MatMul(layer, (net,), layer, kernel=kernel, bias=bias))

    def batch_norm(
        self, scope: str, net: Tensor, *, activation: ActivationKind | Literal["default"] | None = "default"
    ) -> Tensor:
        """Appends a batch norm of its own, and an activation; its variables lie right below its scope."""
        layer = self._scoped(scope)
        return self._activated(layer, self._batch_norm(layer, layer, net), activation)

    def activation(self, scope: str, net: Tensor, kind: ActivationKind) -> Tensor:
        """Appends an activation of its own."""
        name = self._scoped(scope)
        return self._append(ops.Activation(name, (net,), name, kind=kind))

    def max_pool(self, scope: str, net: Tensor, window: int, *, stride: int = 1, padding: Padding = "SAME") -> Tensor:
        """Appends the maximum of each window of pixels."""
        return self._pool("max", scope, "MaxPool", net, window, stride, padding)

    def average_pool(
        self, scope: str, net: Tensor, window: int, *, stride: int = 1, padding: Padding = "SAME"
    ) -> Tensor:
        """Appends the average of each window of pixels."""
        return self._pool("average", scope, "AvgPool", net, window, stride, padding)

    def pad(self, scope: str, net: Tensor, *, before: tuple[int, int] = (0, 0), after: tuple[int, int]) -> Tensor:
        """Appends zeros around the image: rows and columns before it and after it."""
        name = self._scoped(scope)
        return self._append(ops.Pad(name, (net,), name, before=before, after=after))

    def slice(self, scope: str, net: Tensor, begin: tuple[int, int]) -> Tensor:
        """Drops the first rows and columns of the image."""
        name = self._scoped(scope)
        return self._append(ops.Slice(name, (net,), name, begin=begin))

    def whole_average_pool(self, scope: str, net: Tensor) -> Tensor:
        """Appends the average of the whole image as a window of fixed size, where TF-Slim has one."""
        height, width, _ = self._shapes[net]
        if height is None or width is None:
            return self.mean(scope, net)
        name = self._scoped(scope)
        window = (height, width)
        return self._append(ops.Pool(name, (net,), name, kind="average", window=window, padding="VALID"))

    def mean(self, scope: str, net: Tensor) -> Tensor:
        """Appends the mean over the image, however large it is; both axes are kept."""
        name = self._scoped(scope)
        return self._append(ops.Mean(name, (net,), name))

    def add(self, scope: str, first: Tensor, second: Tensor) -> Tensor:
        """Appends the sum of two tensors."""
        name = self._scoped(scope)
        return self._append(ops.Add(name, (first, second), name))

    def multiply(self, scope: str, first: Tensor, second: Tensor) -> Tensor:
        """Appends the product of two tensors; one of them may be a single pixel."""
        name = self._scoped(scope)
        return self._append(ops.Multiply(name, (first, second), name))

    def scale(self, scope: str, net: Tensor, factor: float) -> Tensor:
        """Appends a multiplication with a constant."""
        name = self._scoped(scope)
        return self._append(ops.Scale(name, (net,), name, factor=factor))

    def concat(self, scope: str, nets: Sequence[Tensor]) -> Tensor:
        """Appends the channels of all tensors, one tensor after another."""
        name = self._scoped(scope)
        return self._append(ops.Concat(name, tuple(nets), name))

    def dropout(self, scope: str, net: Tensor, keep_prob: float) -> Tensor:
        """Appends dropout."""
        name = self._scoped(scope)
        return self._append(ops.Dropout(name, (net,), name, keep_prob=keep_prob))

    def drop_path(self, scope: str, net: Tensor, keep_prob: float) -> Tensor:
        """Appends dropout of all values of an image at once."""
        name = self._scoped(scope)
        return self._append(ops.DropPath(name, (net,), name, keep_prob=keep_prob))

    def squeeze(self, scope: str, net: Tensor) -> Tensor:
        """Appends the removal of the image axes, which must be of length 1."""
        name = self._scoped(scope)
        return self._append(ops.Squeeze(name, (net,), name))

    def softmax(self, scope: str, net: Tensor) -> Tensor:
        """Appends the probabilities of logits."""
        name = self._scoped(scope)
        return self._append(ops.Softmax(name, (net,), name))

    def identity(self, scope: str, net: Tensor) -> Tensor:
        """Gives a tensor a second name."""
        name = self._scoped(scope)
        return self._append(ops.Identity(name, (net,), name))

    def features(self, net: Tensor) -> Tensor:
        """Appends the feature vector: a pooled image without its axes."""
        # The node name under which tfhub.dev's modules gave their features; retraining scripts look it up.
        name = "hub_output/feature_vector/SpatialSqueeze"
        return self._append(ops.Squeeze(name, (net,), name))

    def endpoint(self, key: str, net: Tensor) -> Tensor:
        """Makes a tensor public under a key, and returns the tensor."""
        self._endpoints[key] = net
        return net

    def channels(self, net: Tensor) -> int:
        """Returns the number of channels of a tensor."""
        return self._channels(net)

    def size(self, net: Tensor) -> TensorShape:
        """Returns height and width of a tensor's images; None is an open one."""
        return self._shapes[net][:2]

    def is_pixel(self, net: Tensor) -> bool:
        """Returns whether a tensor's images are of one pixel, whatever the size of the network's images."""
        return self.size(net) == (1, 1)

    def network(
        self,
        *,
        features: Tensor,
        logits: Tensor | None,
        input_range: tuple[float, float] = (-1.0, 1.0),
        channel_means: tuple[float, ...] | None = None,
    ) -> Network:
        """Returns the network.

        Args:
            features: the feature vector.
            logits: the class scores; None in a network without classifier.
            input_range: lowest and highest value of the images that the network was trained on, before means are
                subtracted.
            channel_means: what is subtracted from each channel of these images; None for nothing.
        """
        size = (self._image_size.height, self._image_size.width)
        return Network(
            with_gains(self._ops, input_range),
            self._endpoints,
            features,
            logits,
            size,
            input_range,
            momentum=self._defaults.batch_norm_momentum,
            channel_means=channel_means,
        )

    def _append(self, op: Op) -> Tensor:
        if op.name in self._shapes:
            raise ValueError(f"two ops are named {op.name}")
        self._shapes[op.name] = output_shape(op, *(self._shapes[name] for name in op.inputs))
        self._ops.append(op)
        return op.name

    def _scoped(self, scope: str) -> str:
        return f"{self._root}/{scope}" if self._root else scope

    def _ending(self, batch_norm: bool | Literal["default"]) -> tuple[bool, bool]:
        """Tells whether batch norm follows a convolution, and whether the convolution has biases."""
        if batch_norm != "default":
            return batch_norm, not batch_norm
        if self._defaults.plain_convolutions:
            return False, False
        has_batch_norm = self._defaults.batch_norm_epsilon is not None
        return has_batch_norm, not has_batch_norm

    def _channels(self, net: Tensor) -> int:
        channels = self._shapes[net][-1]
        assert channels is not None, "channels are never open"
        return channels

    def _variable(self, name: str, shape: int | tuple[int, ...], role: Role, weight_decay: float = 0.0) -> Variable:
        return Variable(
            name,
            (shape,) if isinstance(shape, int) else shape,
            role,
            weight_decay,
            trainable=role not in ("moving_mean", "moving_variance"),
            published=role in self._defaults.published_roles,
        )

    def _kernel(self, name: str, shape: tuple[int, ...]) -> Variable:
        return self._variable(name, shape, "kernel", self._defaults.weight_decay)

    def _bias(self, name: str, channels: int, weight_decay: float) -> Variable:
        return self._variable(name, channels, "bias", weight_decay)

    def _depthwise_conv(self, name: str, layer: str, net: Tensor, kernel: int, multiplier: int, stride: int) -> Tensor:
        decay = self._defaults.depthwise_weight_decay
        shape = (kernel, kernel, self._channels(net), multiplier)
        weights = self._variable(f"{layer}/depthwise_weights", shape, "depthwise_kernel", decay)
        return self._append(ops.DepthwiseConv(name, (net,), layer, kernel=weights, stride=(stride, stride)))

    def _batch_norm(self, scope: str, layer: str, net: Tensor) -> Tensor:
        epsilon = self._defaults.batch_norm_epsilon
        assert epsilon is not None, "a family with batch norm has an epsilon"
        channels = self._channels(net)
        return self._append(
            ops.BatchNorm(
                scope,
                (net,),
                layer,
                beta=self._variable(f"{scope}/beta", channels, "beta"),
                gamma=self._variable(f"{scope}/gamma", channels, "gamma") if self._defaults.batch_norm_scale else None,
                moving_mean=self._variable(f"{scope}/moving_mean", channels, "moving_mean"),
                moving_variance=self._variable(f"{scope}/moving_variance", channels, "moving_variance"),
                epsilon=epsilon,
            )
        )

    def _activated(self, layer: str, net: Tensor, activation: ActivationKind | Literal["default"] | None) -> Tensor:
        kind = self._defaults.activation if activation == "default" else activation
        if kind is None:
            return net
        return self._append(ops.Activation(f"{layer}/{_ACTIVATION_NODES[kind]}", (net,), layer, kind=kind))

    def _pad_for(self, layer: str, net: Tensor, height: int, width: int) -> Tensor:
        before = ((height - 1) // 2, (width - 1) // 2)
        after = (height - 1 - before[0], width - 1 - before[1])
        return self._append(ops.Pad(f"{layer}/Pad", (net,), layer, before=before, after=after))

    def _pool(
        self,
        kind: Literal["max", "average"],
        scope: str,
        node: str,
        net: Tensor,
        window: int,
        stride: int,
        padding: Padding,
    ) -> Tensor:
        layer = self._scoped(scope)
        return self._append(
            ops.Pool(
                f"{layer}/{node}",
                (net,),
                layer,
                kind=kind,
                window=(window, window),
                stride=(stride, stride),
                padding=padding,
            )
        )
