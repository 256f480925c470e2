"""Builds a network the way TF-Slim's code reads: one call per layer, with a family's defaults.

TF-Slim's naming lives here alone: what it calls the variables and nodes of a layer.
"""

import dataclasses
from typing import Literal

from hubexport.networks import ops
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network
from hubexport.networks.ops import ActivationKind, Op, Padding, Role, TensorShape, Variable
from hubexport.networks.residuals import with_branch_counts
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
        activation: follows each convolution unless the layer says otherwise.
        batch_norm_epsilon: added to each variance.
        batch_norm_scale: whether batch norms have a gamma.
        batch_norm_momentum: how much of a moving average a training step keeps.
        weight_decay: of kernels.
        depthwise_weight_decay: of the kernels of depthwise convolutions.
        published_roles: the variables that the parameter counts of the family's publishers include.
    """

    activation: ActivationKind
    batch_norm_epsilon: float
    weight_decay: float
    depthwise_weight_decay: float = 0.0
    batch_norm_scale: bool = True
    batch_norm_momentum: float = 0.997
    published_roles: frozenset[Role] = _EVERYTHING_BUT_BATCH_NORM


class Builder:
    """Collects the ops of one network.

    Args:
        root: TF-Slim's scope of the whole network, like `MobilenetV2`.
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
        batch_norm: bool = True,
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
            batch_norm: follow the convolution with batch norm; otherwise add biases.
            activation: what comes last; None leaves the layer linear. Defaults to the family's.
        """
        layer = self._scoped(scope)
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
                bias=None if batch_norm else self._variable(f"{layer}/biases", filters, "bias"),
                stride=(stride, stride),
                padding="SAME" if padding == "SAME" or (padding == "explicit" and stride == 1) else "VALID",
            )
        )
        if batch_norm:
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
        shape = (kernel, kernel, self._channels(net), 1)
        weights = self._variable(
            f"{layer}/depthwise_weights", shape, "depthwise_kernel", self._defaults.depthwise_weight_decay
        )
        net = self._append(ops.DepthwiseConv(layer, (net,), layer, kernel=weights, stride=(stride, stride)))
        net = self._batch_norm(f"{layer}/BatchNorm", layer, net)
        return self._activated(layer, net, activation)

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

    def max_pool(self, scope: str, net: Tensor, window: int, *, stride: int, padding: Padding = "SAME") -> Tensor:
        """Appends the maximum of each window of pixels."""
        return self._pool("max", scope, net, (window, window), stride, padding)

    def average_pool(self, scope: str, net: Tensor, window: int, *, stride: int, padding: Padding = "SAME") -> Tensor:
        """Appends the average of each window of pixels."""
        return self._pool("average", scope, net, (window, window), stride, padding)

    def whole_average_pool(self, scope: str, net: Tensor) -> Tensor:
        """Appends the average of the whole image as a window of fixed size, where TF-Slim has one."""
        height, width, _ = self._shapes[net]
        if height is None or width is None:
            return self.mean(scope, net)
        return self._pool("average", scope, net, (height, width), 1, "VALID")

    def mean(self, scope: str, net: Tensor) -> Tensor:
        """Appends the mean over the image, however large it is; both axes are kept."""
        name = self._scoped(scope)
        return self._append(ops.Mean(name, (net,), name))

    def add(self, scope: str, first: Tensor, second: Tensor) -> Tensor:
        """Appends the sum of two tensors."""
        name = self._scoped(scope)
        return self._append(ops.Add(name, (first, second), name))

    def dropout(self, scope: str, net: Tensor, keep_prob: float) -> Tensor:
        """Appends dropout."""
        name = self._scoped(scope)
        return self._append(ops.Dropout(name, (net,), name, keep_prob=keep_prob))

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

    def network(
        self,
        *,
        features: Tensor,
        logits: Tensor | None,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> Network:
        """Returns the network.

        Args:
            features: the feature vector.
            logits: the class scores; None in a network without classifier.
            input_range: lowest and highest value of the images that the network was trained on.
        """
        size = (self._image_size.height, self._image_size.width)
        momentum = self._defaults.batch_norm_momentum
        return Network(with_branch_counts(self._ops), self._endpoints, features, logits, size, input_range, momentum)

    def _append(self, op: Op) -> Tensor:
        if op.name in self._shapes:
            raise ValueError(f"two ops are named {op.name}")
        self._shapes[op.name] = output_shape(op, *(self._shapes[name] for name in op.inputs))
        self._ops.append(op)
        return op.name

    def _scoped(self, scope: str) -> str:
        return f"{self._root}/{scope}"

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

    def _batch_norm(self, scope: str, layer: str, net: Tensor) -> Tensor:
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
                epsilon=self._defaults.batch_norm_epsilon,
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
        net: Tensor,
        window: tuple[int, int],
        stride: int,
        padding: Padding,
    ) -> Tensor:
        name = self._scoped(scope)
        return self._append(
            ops.Pool(name, (net,), name, kind=kind, window=window, stride=(stride, stride), padding=padding)
        )
