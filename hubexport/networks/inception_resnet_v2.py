"""Inception-ResNet V2: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections" (2016).

Names of layers and endpoints are those of TF-Slim's `inception_resnet_v2`.
"""

from collections.abc import Iterable
import dataclasses

from hubexport.networks.builder import Builder, Tensor
from hubexport.networks.family import Family, Paper, UnusedVariables, models_of_tf_slim
from hubexport.networks.image_size import ImageSize
from hubexport.networks.inception import (
    DEFAULTS,
    DROPOUT_KEEP_PROB,
    GROUP,
    Step,
    average_pool,
    conv,
    join_branches,
    max_pool,
    mixed,
    trunk,
)
from hubexport.networks.network import Network

_STRIDED_POOL = max_pool("MaxPool_1a_3x3", stride=2, padding="VALID")
_STEM = (
    conv("Conv2d_1a_3x3", 32, 3, stride=2, padding="VALID"),
    conv("Conv2d_2a_3x3", 32, 3, padding="VALID"),
    conv("Conv2d_2b_3x3", 64, 3),
    max_pool("MaxPool_3a_3x3", stride=2, padding="VALID"),
    conv("Conv2d_3b_1x1", 80),
    conv("Conv2d_4a_3x3", 192, 3, padding="VALID"),
    max_pool("MaxPool_5a_3x3", stride=2, padding="VALID"),
    mixed(
        "Mixed_5b",
        [conv("Conv2d_1x1", 96)],
        [conv("Conv2d_0a_1x1", 48), conv("Conv2d_0b_5x5", 64, 5)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96, 3), conv("Conv2d_0c_3x3", 96, 3)],
        [average_pool("AvgPool_0a_3x3"), conv("Conv2d_0b_1x1", 64)],
    ),
)
_MIXED_6A = mixed(
    "Mixed_6a",
    [conv("Conv2d_1a_3x3", 384, 3, stride=2, padding="VALID")],
    [
        conv("Conv2d_0a_1x1", 256),
        conv("Conv2d_0b_3x3", 256, 3),
        conv("Conv2d_1a_3x3", 384, 3, stride=2, padding="VALID"),
    ],
    [_STRIDED_POOL],
)
_MIXED_7A = mixed(
    "Mixed_7a",
    [conv("Conv2d_0a_1x1", 256), conv("Conv2d_1a_3x3", 384, 3, stride=2, padding="VALID")],
    [conv("Conv2d_0a_1x1", 256), conv("Conv2d_1a_3x3", 288, 3, stride=2, padding="VALID")],
    [
        conv("Conv2d_0a_1x1", 256),
        conv("Conv2d_0b_3x3", 288, 3),
        conv("Conv2d_1a_3x3", 320, 3, stride=2, padding="VALID"),
    ],
    [_STRIDED_POOL],
)
# The branches of the residual blocks, which have the size of their images in pixels in their names.
_BLOCK_35 = (
    [conv("Conv2d_1x1", 32)],
    [conv("Conv2d_0a_1x1", 32), conv("Conv2d_0b_3x3", 32, 3)],
    [conv("Conv2d_0a_1x1", 32), conv("Conv2d_0b_3x3", 48, 3), conv("Conv2d_0c_3x3", 64, 3)],
)
_BLOCK_17 = (
    [conv("Conv2d_1x1", 192)],
    [conv("Conv2d_0a_1x1", 128), conv("Conv2d_0b_1x7", 160, (1, 7)), conv("Conv2d_0c_7x1", 192, (7, 1))],
)
_BLOCK_8 = (
    [conv("Conv2d_1x1", 192)],
    [conv("Conv2d_0a_1x1", 192), conv("Conv2d_0b_1x3", 224, (1, 3)), conv("Conv2d_0c_3x1", 256, (3, 1))],
)


def inception_resnet_v2(image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out Inception-ResNet V2 without its auxiliary head, which serves its first training alone.

    Args:
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    root = "InceptionResnetV2"
    # Unlike the other Inception networks', its biases decay.
    b = Builder(root, image_size, dataclasses.replace(DEFAULTS, bias_weight_decay=DEFAULTS.weight_decay))
    net = trunk(b, root, _STEM)
    for number in range(1, 11):
        net = _residual(b, f"Repeat/block35_{number}", net, _BLOCK_35, 0.17)
    net = b.endpoint(f"{root}/Mixed_6a", _MIXED_6A.append(b, "Mixed_6a", net))
    for number in range(1, 21):
        net = _residual(b, f"Repeat_1/block17_{number}", net, _BLOCK_17, 0.10)
    b.endpoint(f"{root}/PreAuxLogits", net)
    net = b.endpoint(f"{root}/Mixed_7a", _MIXED_7A.append(b, "Mixed_7a", net))
    for number in range(1, 10):
        net = _residual(b, f"Repeat_2/block8_{number}", net, _BLOCK_8, 0.20)
    net = _residual(b, "Block8", net, _BLOCK_8, 1.0, rectified=False)
    net = b.endpoint(f"{root}/Conv2d_7b_1x1", b.conv("Conv2d_7b_1x1", net, 1536))

    pooled = b.endpoint(f"{root}/global_pool", b.mean("Logits/global_pool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.squeeze("Logits/Flatten", pooled)
        net = b.endpoint(f"{root}/PreLogitsFlatten", b.dropout("Logits/Dropout", net, DROPOUT_KEEP_PROB))
        logits = b.endpoint(f"{root}/Logits", b.fully_connected("Logits/Logits", net, num_classes))
        b.endpoint(f"{root}/Predictions", b.softmax("Logits/Predictions", logits))
    return b.network(features=features, logits=logits)


def _residual(
    b: Builder, scope: str, net: Tensor, branches: Iterable[Iterable[Step]], factor: float, rectified: bool = True
) -> Tensor:
    """Appends branches, brings them to the depth of their input, and adds them to it, made smaller."""
    joined = join_branches(b, scope, net, branches)
    up = b.conv(f"{scope}/Conv2d_1x1", joined, b.channels(net), batch_norm=False, activation=None)
    net = b.add(f"{scope}/add", net, b.scale(f"{scope}/mul", up, factor))
    return b.activation(f"{scope}/Relu", net, "relu") if rectified else net


INCEPTION_RESNET_V2 = Family(
    name="inception_resnet_v2",
    title="Inception-ResNet V2",
    page_tag="inception-resnet-v2",
    group=GROUP,
    about="Inception-ResNet V2 is a deep neural network that classifies images. It joins two ideas: blocks of "
    "convolutions side by side, as in the Inception networks, add their output to their input, as in ResNets.",
    paper=Paper(
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        authors="Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi",
        year=2016,
        url="https://arxiv.org/abs/1602.07261",
    ),
    pretrained=models_of_tf_slim("inception_resnet_v2_"),
    lay_out=lambda parameters, size, classes: inception_resnet_v2(size, classes),
    telling_variable="InceptionResnetV2/Conv2d_1a_3x3/weights",
    momentum=DEFAULTS.batch_norm_momentum,
    implementation="The auxiliary classifier, which serves the first training alone, is left out.",
    smallest_size=75,
    unused_variables=(UnusedVariables("InceptionResnetV2/AuxLogits/*", "auxiliary head"),),
)
