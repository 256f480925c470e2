"""MobileNet V1: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision" (2017).

Names of layers and endpoints are those of TF-Slim's `mobilenet_v1`.
"""

from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.family import DepthMultiplier, Family, Group, Paper, PretrainedModels
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network

# Table 1 of the paper: (output channels, stride) of the pairs of a depthwise and a pointwise convolution.
_PAIRS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
_FIRST_CHANNELS = 32
_MIN_DEPTH = 8

# TF-Slim's MobileNet V1 training scope. Depthwise kernels do not decay.
_DEFAULTS = Defaults(activation="relu6", batch_norm_epsilon=0.001, batch_norm_momentum=0.9997, weight_decay=4e-5)
_DROPOUT_KEEP_PROB = 0.999


def mobilenet_v1(
    depth_multiplier: float,
    image_size: ImageSize,
    num_classes: int | None,
    dropout_keep_prob: float = _DROPOUT_KEEP_PROB,
) -> Network:
    """Lays out MobileNet V1.

    Args:
        depth_multiplier: scales the number of channels of every layer.
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
        dropout_keep_prob: the share of the features that reaches the classifier in training; 1.0 is no dropout.
    """
    b = Builder("MobilenetV1", image_size, _DEFAULTS)
    net = b.conv("Conv2d_0", b.images, _depth(_FIRST_CHANNELS * depth_multiplier), kernel=3, stride=2)
    b.endpoint("MobilenetV1/Conv2d_0", net)
    for number, (channels, stride) in enumerate(_PAIRS, start=1):
        net = b.depthwise_conv(f"Conv2d_{number}_depthwise", net, kernel=3, stride=stride)
        b.endpoint(f"MobilenetV1/Conv2d_{number}_depthwise", net)
        net = b.conv(f"Conv2d_{number}_pointwise", net, _depth(channels * depth_multiplier))
        b.endpoint(f"MobilenetV1/Conv2d_{number}_pointwise", net)

    pooled = b.endpoint("MobilenetV1/global_pool", b.mean("Logits/global_pool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.dropout("Logits/Dropout_1b", pooled, dropout_keep_prob)
        net = b.conv("Logits/Conv2d_1c_1x1", net, num_classes, batch_norm=False, activation=None)
        logits = b.endpoint("MobilenetV1/Logits", b.squeeze("Logits/SpatialSqueeze", net))
        b.endpoint("MobilenetV1/Predictions", b.softmax("Predictions/Softmax", logits))
    return b.network(features=features, logits=logits)


def _depth(channels: float) -> int:
    return max(int(channels), _MIN_DEPTH)


MOBILENET_V1 = Family(
    name="mobilenet_v1",
    title="MobileNet V1",
    page_tag="mobilenet-v1",
    group=Group("MobileNet V1", "networks of depthwise convolutions, for devices with little power"),
    about="MobileNet V1 is a family of neural networks that classify images efficiently on the device. Its layers are "
    "depthwise convolutions, each followed by a 1x1 convolution. The networks come in several sizes: a depth "
    "multiplier scales the number of features in all convolutional layers, the last one included. Each can also be "
    "trained for images of other sizes: with smaller images it is faster.",
    paper=Paper(
        title="MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
        authors="Andrew G. Howard, Menglong Zhu, Bo Chen, Dmitry Kalenichenko, Weijun Wang, Tobias Weyand, "
        "Marco Andreetto, Hartwig Adam",
        year=2017,
        url="https://arxiv.org/abs/1704.04861",
    ),
    pretrained=PretrainedModels(
        title="pre-trained models of MobileNet V1",
        page="https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet_v1.md",
        archives="https://storage.googleapis.com/download.tensorflow.org/models/mobilenet_v1_",
    ),
    lay_out=lambda parameters, size, classes: mobilenet_v1(parameters.depth_multiplier, size, classes),
    telling_variable="MobilenetV1/Conv2d_0/weights",
    momentum=_DEFAULTS.batch_norm_momentum,
    parameters=DepthMultiplier,
    published_parameters=tuple(DepthMultiplier(depth_multiplier=one) for one in (0.25, 0.5, 0.75, 1.0)),
    size_multiple=32,
    implementation="TF-Slim's activations are ReLU6; the paper's are ReLU.",
    frozen_tensors={
        "features": "MobilenetV1/Logits/AvgPool_1a/AvgPool:0",
        "probabilities": "MobilenetV1/Predictions/Reshape_1:0",
    },
)
