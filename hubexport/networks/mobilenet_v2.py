"""MobileNet V2: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018).

Names of layers and endpoints are those of TF-Slim's `mobilenet_v2`, so that its checkpoints fit and programs that look
endpoints up find them. TF-Slim counts the first convolution as layer 1, the bottleneck blocks as 2 to 18, the last
convolution as 19.
"""

from collections.abc import Iterator

from hubexport.networks.builder import Builder, Defaults, Tensor
from hubexport.networks.channels import divisible
from hubexport.networks.family import DepthMultiplier, Family, Group, Paper, PretrainedModels
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network

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

# TF-Slim's MobileNet training scope, with which the published checkpoints were trained. Depthwise kernels do not decay.
_DEFAULTS = Defaults(activation="relu6", batch_norm_epsilon=0.001, weight_decay=4e-5)
_DROPOUT_KEEP_PROB = 0.8


def mobilenet_v2(
    depth_multiplier: float,
    image_size: int,
    num_classes: int | None,
    dropout_keep_prob: float = _DROPOUT_KEEP_PROB,
) -> Network:
    """Lays out MobileNet V2 at one size.

    Args:
        depth_multiplier: scales the number of channels of every layer, of the last convolution only upwards.
        image_size: height and width of the images in pixels, a multiple of 32 (the network's total stride).
        num_classes: the number of class scores; None leaves the classifier and its variables out.
        dropout_keep_prob: the share of the features that reaches the classifier in training; 1.0 is no dropout.
    """
    b = Builder("MobilenetV2", ImageSize(image_size, image_size), _DEFAULTS)
    net = b.conv("Conv", b.images, divisible(_FIRST_CHANNELS * depth_multiplier), kernel=3, stride=2)
    b.endpoint("MobilenetV2/layer_1", net)
    for number, (expansion, channels, stride) in enumerate(_blocks(), start=2):
        scope = "expanded_conv" if number == 2 else f"expanded_conv_{number - 2}"
        net = _bottleneck(b, scope, net, number, expansion, divisible(channels * depth_multiplier), stride)
    net = b.conv("Conv_1", net, divisible(_LAST_CHANNELS * max(depth_multiplier, 1.0)))
    b.endpoint("MobilenetV2/layer_19", net)

    pooled = b.endpoint("MobilenetV2/global_pool", b.whole_average_pool("Logits/AvgPool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.dropout("Logits/Dropout", pooled, dropout_keep_prob)
        net = b.conv("Logits/Conv2d_1c_1x1", net, num_classes, batch_norm=False, activation=None)
        net = b.squeeze("Logits/Squeeze", net)
        logits = b.endpoint("MobilenetV2/Logits", b.identity("Logits/output", net))
        b.endpoint("MobilenetV2/Predictions", b.softmax("Predictions/Softmax", logits))
    return b.network(features=features, logits=logits)


def _bottleneck(
    b: Builder, scope: str, shortcut: Tensor, number: int, expansion: int, filters: int, stride: int
) -> Tensor:
    """Appends one inverted residual: widen, convolve each channel, narrow without activation, add if it fits."""
    depth = b.channels(shortcut)
    net, key = shortcut, f"MobilenetV2/layer_{number}"
    endpoints = {}
    if expansion > 1:
        net = b.conv(f"{scope}/expand", net, depth * expansion)
        net = endpoints[f"{key}/expansion_output"] = b.identity(f"{scope}/expansion_output", net)
    net = b.depthwise_conv(f"{scope}/depthwise", net, kernel=3, stride=stride)
    net = endpoints[f"{key}/depthwise_output"] = b.identity(f"{scope}/depthwise_output", net)
    net = b.conv(f"{scope}/project", net, filters, activation=None)
    if stride == 1 and depth == filters:
        net = b.add(f"{scope}/add", net, shortcut)
    net = b.identity(f"{scope}/output", net)
    for name, tensor in {key: net, **endpoints, f"{key}/output": net}.items():
        b.endpoint(name, tensor)
    return net


def _blocks() -> Iterator[tuple[int, int, int]]:
    """Yields each block's expansion factor, unscaled output channels and stride."""
    for expansion, channels, repeats, first_stride in _BOTTLENECKS:
        for repeat in range(repeats):
            yield expansion, channels, first_stride if repeat == 0 else 1


MOBILENET_V2 = Family(
    name="mobilenet_v2",
    title="MobileNet V2",
    page_tag="mobilenet-v2",
    group=Group(
        "MobileNet V2", "blocks that widen, convolve depthwise, and narrow again, for devices with little power"
    ),
    about="MobileNet V2 is a family of neural networks that classify images and do related tasks efficiently on the "
    "device. The networks come in several sizes: a depth multiplier scales the number of features in the convolutional "
    "layers. Each can also be trained for images of other sizes: with smaller images it is faster.",
    paper=Paper(
        title="Inverted Residuals and Linear Bottlenecks: Mobile Networks for Classification, Detection and "
        "Segmentation",
        authors="Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen",
        year=2018,
        url="https://arxiv.org/abs/1801.04381",
    ),
    pretrained=PretrainedModels(
        title="pre-trained models of MobileNet V2",
        page="https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet/README.md",
        archives="https://storage.googleapis.com/mobilenet_v2/checkpoints/",
    ),
    lay_out=lambda parameters, size, classes: mobilenet_v2(parameters.depth_multiplier, size.height, classes),
    telling_variable="MobilenetV2/Conv/weights",
    momentum=_DEFAULTS.batch_norm_momentum,
    parameters=DepthMultiplier,
    published_parameters=tuple(DepthMultiplier(depth_multiplier=one) for one in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
    versions=(1, 2, 3, 4, 5),
    open_from_version=None,
    size_multiple=32,
    implementation="TF-Slim rounds the number of features of each layer to a multiple of 8, a speedup that is not in "
    "the paper. A depth multiplier below 1.0 does not shrink the last convolutional layer, from which feature vectors "
    "are taken.",
    frozen_tensors={
        "features": "MobilenetV2/Logits/AvgPool:0",
        "probabilities": "MobilenetV2/Predictions/Reshape_1:0",
    },
)
