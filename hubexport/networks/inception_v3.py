"""Inception V3: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (2015).

Names of layers and endpoints are those of TF-Slim's `inception_v3`, some of which do not say what the layers are.
"""

from hubexport.networks.family import Family, Paper, UnusedVariables, models_of_tf_slim
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
    split,
)
from hubexport.networks.network import Network

_POOL = average_pool("AvgPool_0a_3x3")
_STRIDED_POOL = max_pool("MaxPool_1a_3x3", stride=2, padding="VALID")


def _block_35(scope: str, pooled: int, wide: tuple[str, str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5")) -> Step:
    """For images of 35x35 pixels."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", 64)],
        [conv(wide[0], 48), conv(wide[1], 64, 5)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96, 3), conv("Conv2d_0c_3x3", 96, 3)],
        [_POOL, conv("Conv2d_0b_1x1", pooled)],
    )


def _block_17(scope: str, inner: int) -> Step:
    """For images of 17x17 pixels."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", 192)],
        [
            conv("Conv2d_0a_1x1", inner),
            conv("Conv2d_0b_1x7", inner, (1, 7)),
            conv("Conv2d_0c_7x1", 192, (7, 1)),
        ],
        [
            conv("Conv2d_0a_1x1", inner),
            conv("Conv2d_0b_7x1", inner, (7, 1)),
            conv("Conv2d_0c_1x7", inner, (1, 7)),
            conv("Conv2d_0d_7x1", inner, (7, 1)),
            conv("Conv2d_0e_1x7", 192, (1, 7)),
        ],
        [_POOL, conv("Conv2d_0b_1x1", 192)],
    )


def _block_8(scope: str, upright: str) -> Step:
    """For images of 8x8 pixels."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", 320)],
        [
            conv("Conv2d_0a_1x1", 384),
            split(conv("Conv2d_0b_1x3", 384, (1, 3)), conv(upright, 384, (3, 1))),
        ],
        [
            conv("Conv2d_0a_1x1", 448),
            conv("Conv2d_0b_3x3", 384, 3),
            split(conv("Conv2d_0c_1x3", 384, (1, 3)), conv("Conv2d_0d_3x1", 384, (3, 1))),
        ],
        [_POOL, conv("Conv2d_0b_1x1", 192)],
    )


_TRUNK = (
    conv("Conv2d_1a_3x3", 32, 3, stride=2, padding="VALID"),
    conv("Conv2d_2a_3x3", 32, 3, padding="VALID"),
    conv("Conv2d_2b_3x3", 64, 3),
    max_pool("MaxPool_3a_3x3", stride=2, padding="VALID"),
    conv("Conv2d_3b_1x1", 80),
    conv("Conv2d_4a_3x3", 192, 3, padding="VALID"),
    max_pool("MaxPool_5a_3x3", stride=2, padding="VALID"),
    _block_35("Mixed_5b", 32),
    _block_35("Mixed_5c", 64, wide=("Conv2d_0b_1x1", "Conv_1_0c_5x5")),
    _block_35("Mixed_5d", 64),
    mixed(
        "Mixed_6a",
        [conv("Conv2d_1a_1x1", 384, 3, stride=2, padding="VALID")],
        [
            conv("Conv2d_0a_1x1", 64),
            conv("Conv2d_0b_3x3", 96, 3),
            conv("Conv2d_1a_1x1", 96, 3, stride=2, padding="VALID"),
        ],
        [_STRIDED_POOL],
    ),
    _block_17("Mixed_6b", 128),
    _block_17("Mixed_6c", 160),
    _block_17("Mixed_6d", 160),
    _block_17("Mixed_6e", 192),
    mixed(
        "Mixed_7a",
        [conv("Conv2d_0a_1x1", 192), conv("Conv2d_1a_3x3", 320, 3, stride=2, padding="VALID")],
        [
            conv("Conv2d_0a_1x1", 192),
            conv("Conv2d_0b_1x7", 192, (1, 7)),
            conv("Conv2d_0c_7x1", 192, (7, 1)),
            conv("Conv2d_1a_3x3", 192, 3, stride=2, padding="VALID"),
        ],
        [_STRIDED_POOL],
    ),
    _block_8("Mixed_7b", upright="Conv2d_0b_3x1"),
    _block_8("Mixed_7c", upright="Conv2d_0c_3x1"),
)


def inception_v3(image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out Inception V3 without its auxiliary head, which serves its first training alone.

    Args:
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    return network_with_convolved_classes("InceptionV3", _TRUNK, "Logits/GlobalPool", image_size, num_classes)


INCEPTION_V3 = Family(
    name="inception_v3",
    title="Inception V3",
    page_tag="inception-v3",
    group=GROUP,
    about="Inception V3 is a deep neural network that classifies images. It refines Inception V2: large kernels become "
    "several small or narrow ones, one after another.",
    paper=Paper(
        title="Rethinking the Inception Architecture for Computer Vision",
        authors="Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
        year=2015,
        url="https://arxiv.org/abs/1512.00567",
    ),
    pretrained=models_of_tf_slim("inception_v3_"),
    lay_out=lambda parameters, size, classes: inception_v3(size, classes),
    telling_variable="InceptionV3/Conv2d_1a_3x3/weights",
    momentum=DEFAULTS.batch_norm_momentum,
    implementation="The auxiliary classifier, which serves the first training alone, is left out.",
    smallest_size=75,
    unused_variables=(UnusedVariables("InceptionV3/AuxLogits/*", "auxiliary head"),),
)
