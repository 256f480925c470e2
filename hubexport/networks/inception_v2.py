"""Inception V2, or BN-Inception: Ioffe and Szegedy, "Batch Normalization" (2015).

Names of layers and endpoints are those of TF-Slim's `inception_v2`.
"""

from hubexport.networks.family import Family, Paper, models_of_tf_slim
from hubexport.networks.image_size import ImageSize
from hubexport.networks.inception import (
    DEFAULTS,
    GROUP,
    Step,
    average_pool,
    conv,
    max_pool,
    mixed,
    network_with_convolved_classes,
)
from hubexport.networks.network import Network

# The channels that the first half of the first layer makes of red, green and blue each.
_FIRST_MULTIPLIER = 8


def _first(scope: str, filters: int) -> Step:
    """The separable first layer, the one without batch norm."""
    return Step(
        scope,
        lambda b, path, net: b.separable_conv(
            path, net, filters, kernel=7, multiplier=_FIRST_MULTIPLIER, stride=2, batch_norm=False
        ),
    )


def _block(scope: str, narrow: int, middle: tuple[int, int], double: tuple[int, int], pool: Step, pooled: int) -> Step:
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", narrow)],
        [conv("Conv2d_0a_1x1", middle[0]), conv("Conv2d_0b_3x3", middle[1], 3)],
        [
            conv("Conv2d_0a_1x1", double[0]),
            conv("Conv2d_0b_3x3", double[1], 3),
            conv("Conv2d_0c_3x3", double[1], 3),
        ],
        [pool, conv("Conv2d_0b_1x1", pooled)],
    )


def _strided_block(scope: str, middle: tuple[int, int], double: tuple[int, int]) -> Step:
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", middle[0]), conv("Conv2d_1a_3x3", middle[1], 3, stride=2)],
        [
            conv("Conv2d_0a_1x1", double[0]),
            conv("Conv2d_0b_3x3", double[1], 3),
            conv("Conv2d_1a_3x3", double[1], 3, stride=2),
        ],
        [max_pool("MaxPool_1a_3x3", stride=2)],
    )


_AVERAGE = average_pool("AvgPool_0a_3x3")
_TRUNK = (
    _first("Conv2d_1a_7x7", 64),
    max_pool("MaxPool_2a_3x3", stride=2),
    conv("Conv2d_2b_1x1", 64),
    conv("Conv2d_2c_3x3", 192, 3),
    max_pool("MaxPool_3a_3x3", stride=2),
    _block("Mixed_3b", 64, (64, 64), (64, 96), _AVERAGE, 32),
    _block("Mixed_3c", 64, (64, 96), (64, 96), _AVERAGE, 64),
    _strided_block("Mixed_4a", (128, 160), (64, 96)),
    _block("Mixed_4b", 224, (64, 96), (96, 128), _AVERAGE, 128),
    _block("Mixed_4c", 192, (96, 128), (96, 128), _AVERAGE, 128),
    _block("Mixed_4d", 160, (128, 160), (128, 160), _AVERAGE, 96),
    _block("Mixed_4e", 96, (128, 192), (160, 192), _AVERAGE, 96),
    _strided_block("Mixed_5a", (128, 192), (192, 256)),
    _block("Mixed_5b", 352, (192, 320), (160, 224), _AVERAGE, 128),
    _block("Mixed_5c", 352, (192, 320), (192, 224), max_pool("MaxPool_0a_3x3"), 128),
)


def inception_v2(image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out Inception V2.

    Args:
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    return network_with_convolved_classes("InceptionV2", _TRUNK, "Logits/global_pool", image_size, num_classes)


INCEPTION_V2 = Family(
    name="inception_v2",
    title="Inception V2",
    page_tag="inception-v2",
    group=GROUP,
    about="Inception V2 is a deep neural network that classifies images. It has the blocks of Inception V1, and "
    "introduced batch norm: the values of each channel are brought to the same mean and variance, which lets it "
    "train faster.",
    paper=Paper(
        title="Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
        authors="Sergey Ioffe, Christian Szegedy",
        year=2015,
        url="https://arxiv.org/abs/1502.03167",
    ),
    pretrained=models_of_tf_slim("inception_v2_"),
    lay_out=lambda parameters, size, classes: inception_v2(size, classes),
    telling_variable="InceptionV2/Conv2d_1a_7x7/depthwise_weights",
    momentum=DEFAULTS.batch_norm_momentum,
    implementation="Its first layer is a separable convolution.",
)
