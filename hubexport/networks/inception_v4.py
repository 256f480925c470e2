"""Inception V4: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections" (2016).

Names of layers and endpoints are those of TF-Slim's `inception_v4`.
"""

from hubexport.networks.builder import Builder
from hubexport.networks.family import Family, Paper, UnusedVariables, models_of_tf_slim
from hubexport.networks.image_size import ImageSize
from hubexport.networks.inception import (
    DEFAULTS,
    DROPOUT_KEEP_PROB,
    GROUP,
    Step,
    average_pool,
    conv,
    max_pool,
    mixed,
    split,
    trunk,
)
from hubexport.networks.network import Network

_POOL = average_pool("AvgPool_0a_3x3")
_STRIDED_POOL = max_pool("MaxPool_1a_3x3", stride=2, padding="VALID")


def _block_a(scope: str) -> Step:
    """The paper's figure 4."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", 96)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96, 3)],
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_0b_3x3", 96, 3), conv("Conv2d_0c_3x3", 96, 3)],
        [_POOL, conv("Conv2d_0b_1x1", 96)],
    )


def _block_b(scope: str) -> Step:
    """The paper's figure 5."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", 384)],
        [conv("Conv2d_0a_1x1", 192), conv("Conv2d_0b_1x7", 224, (1, 7)), conv("Conv2d_0c_7x1", 256, (7, 1))],
        [
            conv("Conv2d_0a_1x1", 192),
            conv("Conv2d_0b_7x1", 192, (7, 1)),
            conv("Conv2d_0c_1x7", 224, (1, 7)),
            conv("Conv2d_0d_7x1", 224, (7, 1)),
            conv("Conv2d_0e_1x7", 256, (1, 7)),
        ],
        [_POOL, conv("Conv2d_0b_1x1", 128)],
    )


def _block_c(scope: str) -> Step:
    """The paper's figure 6."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", 256)],
        [
            conv("Conv2d_0a_1x1", 384),
            split(conv("Conv2d_0b_1x3", 256, (1, 3)), conv("Conv2d_0c_3x1", 256, (3, 1))),
        ],
        [
            conv("Conv2d_0a_1x1", 384),
            conv("Conv2d_0b_3x1", 448, (3, 1)),
            conv("Conv2d_0c_1x3", 512, (1, 3)),
            split(conv("Conv2d_0d_1x3", 256, (1, 3)), conv("Conv2d_0e_3x1", 256, (3, 1))),
        ],
        [_POOL, conv("Conv2d_0b_1x1", 256)],
    )


_TRUNK = (
    conv("Conv2d_1a_3x3", 32, 3, stride=2, padding="VALID"),
    conv("Conv2d_2a_3x3", 32, 3, padding="VALID"),
    conv("Conv2d_2b_3x3", 64, 3),
    mixed(
        "Mixed_3a",
        [max_pool("MaxPool_0a_3x3", stride=2, padding="VALID")],
        [conv("Conv2d_0a_3x3", 96, 3, stride=2, padding="VALID")],
    ),
    mixed(
        "Mixed_4a",
        [conv("Conv2d_0a_1x1", 64), conv("Conv2d_1a_3x3", 96, 3, padding="VALID")],
        [
            conv("Conv2d_0a_1x1", 64),
            conv("Conv2d_0b_1x7", 64, (1, 7)),
            conv("Conv2d_0c_7x1", 64, (7, 1)),
            conv("Conv2d_1a_3x3", 96, 3, padding="VALID"),
        ],
    ),
    mixed("Mixed_5a", [conv("Conv2d_1a_3x3", 192, 3, stride=2, padding="VALID")], [_STRIDED_POOL]),
    *(_block_a(f"Mixed_5{letter}") for letter in "bcde"),
    mixed(
        "Mixed_6a",
        [conv("Conv2d_1a_3x3", 384, 3, stride=2, padding="VALID")],
        [
            conv("Conv2d_0a_1x1", 192),
            conv("Conv2d_0b_3x3", 224, 3),
            conv("Conv2d_1a_3x3", 256, 3, stride=2, padding="VALID"),
        ],
        [_STRIDED_POOL],
    ),
    *(_block_b(f"Mixed_6{letter}") for letter in "bcdefgh"),
    mixed(
        "Mixed_7a",
        [conv("Conv2d_0a_1x1", 192), conv("Conv2d_1a_3x3", 192, 3, stride=2, padding="VALID")],
        [
            conv("Conv2d_0a_1x1", 256),
            conv("Conv2d_0b_1x7", 256, (1, 7)),
            conv("Conv2d_0c_7x1", 320, (7, 1)),
            conv("Conv2d_1a_3x3", 320, 3, stride=2, padding="VALID"),
        ],
        [_STRIDED_POOL],
    ),
    *(_block_c(f"Mixed_7{letter}") for letter in "bcd"),
)


def inception_v4(image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out Inception V4 without its auxiliary head, which serves its first training alone.

    Args:
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    b = Builder("InceptionV4", image_size, DEFAULTS)
    net = trunk(b, "InceptionV4", _TRUNK)
    pooled = b.endpoint("InceptionV4/global_pool", b.mean("Logits/global_pool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.dropout("Logits/Dropout_1b", pooled, DROPOUT_KEEP_PROB)
        net = b.endpoint("InceptionV4/PreLogitsFlatten", b.squeeze("Logits/PreLogitsFlatten", net))
        logits = b.endpoint("InceptionV4/Logits", b.fully_connected("Logits/Logits", net, num_classes))
        b.endpoint("InceptionV4/Predictions", b.softmax("Logits/Predictions", logits))
    return b.network(features=features, logits=logits)


INCEPTION_V4 = Family(
    name="inception_v4",
    title="Inception V4",
    page_tag="inception-v4",
    group=GROUP,
    about="Inception V4 is a deep neural network that classifies images. It has more blocks than Inception V3, and "
    "the same ones at each size of the image.",
    paper=Paper(
        title="Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
        authors="Christian Szegedy, Sergey Ioffe, Vincent Vanhoucke, Alex Alemi",
        year=2016,
        url="https://arxiv.org/abs/1602.07261",
    ),
    pretrained=models_of_tf_slim("inception_v4_"),
    lay_out=lambda parameters, size, classes: inception_v4(size, classes),
    telling_variable="InceptionV4/Conv2d_1a_3x3/weights",
    momentum=DEFAULTS.batch_norm_momentum,
    implementation="The auxiliary classifier, which serves the first training alone, is left out.",
    versions=(3, 5),
    smallest_size=75,
    unused_variables=(UnusedVariables("InceptionV4/AuxLogits/*", "auxiliary head"),),
)
