"""MobileNet V2 as a layer list: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018).

Layers and endpoints have the names of TF-Slim's `mobilenet_v2`, so that its checkpoints fit and programs find the
endpoints that they look up. TF-Slim counts the first convolution as layer 1, the bottleneck blocks as 2 to 18, and the
last convolution as 19.
"""

from collections.abc import Iterator

from hubexport.networks.layers import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool,
    Identity,
    Input,
    Layer,
    Network,
    Softmax,
    SpatialSqueeze,
)

# Table 2 of the paper: (expansion factor, output channels, repeats, stride of the first repeat).
_BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_FIRST_CHANNELS = 32
_LAST_CHANNELS = 1280

# The defaults of TF-Slim's MobileNet training scope, which trained the published checkpoints.
_BATCH_NORM_EPSILON = 0.001
_WEIGHT_DECAY = 4e-5
_DROPOUT_KEEP_PROB = 0.8


def mobilenet_v2(
    depth_multiplier: float,
    image_size: int,
    num_classes: int | None,
    dropout_keep_prob: float = _DROPOUT_KEEP_PROB,
) -> Network:
    """Lays out MobileNet V2 at one size.

    Args:
        depth_multiplier: the factor of each layer's number of channels; the last convolution is never narrowed.
        image_size: height and width of the images in pixels, a multiple of 32 (the network's total stride).
        num_classes: the number of class scores; None leaves out the classifier and its variables.
        dropout_keep_prob: the share of the features that reaches the classifier in training; 1.0 means no dropout.
    Returns:
        The network for images [batch, image_size, image_size, 3] with intensities in [-1, 1].
    """
    net: list[Layer] = [Input("MobilenetV2/input", (), shape=(image_size, image_size, 3))]
    endpoints: dict[str, str] = {}

    depth = _divisible(_FIRST_CHANNELS * depth_multiplier)
    net.append(_conv("Conv", net[-1], depth, kernel_size=3, stride=2))
    endpoints["MobilenetV2/layer_1"] = net[-1].name

    for number, (expansion, channels, stride) in enumerate(_blocks(), start=2):
        scope = "expanded_conv" if number == 2 else f"expanded_conv_{number - 2}"
        outputs = _divisible(channels * depth_multiplier)
        block = _bottleneck(scope, net[-1], depth, depth * expansion, outputs, stride)
        net += block
        depth = outputs
        endpoints[f"MobilenetV2/layer_{number}"] = net[-1].name
        for layer in block:
            if isinstance(layer, Identity):
                endpoints[f"MobilenetV2/layer_{number}/{layer.name.rpartition('/')[2]}"] = layer.name

    last_depth = _divisible(_LAST_CHANNELS * max(depth_multiplier, 1.0))
    net.append(_conv("Conv_1", net[-1], last_depth))
    endpoints["MobilenetV2/layer_19"] = net[-1].name

    pool = GlobalAveragePool("MobilenetV2/Logits/AvgPool", (net[-1].name,))
    endpoints["MobilenetV2/global_pool"] = pool.name
    # The name of this node in tfhub.dev's modules; retraining scripts look it up.
    features = SpatialSqueeze("hub_output/feature_vector/SpatialSqueeze", (pool.name,))
    net += [pool, features]

    logits = None
    if num_classes is not None:
        net += _classifier(pool, num_classes, dropout_keep_prob)
        logits = endpoints["MobilenetV2/Logits"] = "MobilenetV2/Logits/output"
        endpoints["MobilenetV2/Predictions"] = "MobilenetV2/Predictions/Softmax"

    return Network(
        layers=tuple(net),
        endpoints=endpoints,
        features=features.name,
        logits=logits,
        input_range=(-1.0, 1.0),
        batch_norm_epsilon=_BATCH_NORM_EPSILON,
        weight_decay=_WEIGHT_DECAY,
    )


def _divisible(channels: float) -> int:
    """Rounds to a multiple of 8, at least 8 and at least 0.9 times the argument, like TF-Slim's `_make_divisible`."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _blocks() -> Iterator[tuple[int, int, int]]:
    """Yields each block's expansion factor, unscaled output channels and stride."""
    for expansion, channels, repeats, first_stride in _BOTTLENECKS:
        for repeat in range(repeats):
            yield expansion, channels, first_stride if repeat == 0 else 1


def _conv(scope: str, source: Layer, filters: int, *, kernel_size: int = 1, stride: int = 1) -> Conv2D:
    return Conv2D(
        f"MobilenetV2/{scope}",
        (source.name,),
        filters=filters,
        kernel_size=kernel_size,
        stride=stride,
        activation="relu6",
    )


def _bottleneck(scope: str, source: Layer, depth: int, inner_depth: int, outputs: int, stride: int) -> list[Layer]:
    """Lays out one inverted residual: widen, convolve each channel, narrow without activation, add if shapes agree."""
    prefix = f"MobilenetV2/{scope}"
    block: list[Layer] = [source]
    if inner_depth > depth:
        block.append(_conv(f"{scope}/expand", source, inner_depth))
        block.append(Identity(f"{prefix}/expansion_output", (block[-1].name,)))
    block.append(
        DepthwiseConv2D(f"{prefix}/depthwise", (block[-1].name,), kernel_size=3, stride=stride, activation="relu6")
    )
    block.append(Identity(f"{prefix}/depthwise_output", (block[-1].name,)))
    block.append(Conv2D(f"{prefix}/project", (block[-1].name,), filters=outputs, kernel_size=1))
    if stride == 1 and depth == outputs:
        block.append(Add(f"{prefix}/add", (block[-1].name, source.name)))
    block.append(Identity(f"{prefix}/output", (block[-1].name,)))
    return block[1:]


def _classifier(pool: Layer, num_classes: int, dropout_keep_prob: float) -> list[Layer]:
    scope = "MobilenetV2/Logits"
    dropout = Dropout(f"{scope}/Dropout", (pool.name,), keep_prob=dropout_keep_prob)
    scores = Conv2D(f"{scope}/Conv2d_1c_1x1", (dropout.name,), filters=num_classes, kernel_size=1, batch_norm=False)
    squeeze = SpatialSqueeze(f"{scope}/Squeeze", (scores.name,))
    logits = Identity(f"{scope}/output", (squeeze.name,))
    return [dropout, scores, squeeze, logits, Softmax("MobilenetV2/Predictions/Softmax", (logits.name,))]
