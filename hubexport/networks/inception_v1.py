"""Inception V1, or GoogLeNet: Szegedy et al., "Going Deeper with Convolutions" (2014), with batch norm.

Names of layers and endpoints are those of TF-Slim's `inception_v1`, which has no auxiliary heads.
"""

from hubexport.networks.builder import Builder
from hubexport.networks.family import Family, Paper, models_of_tf_slim
from hubexport.networks.image_size import ImageSize
from hubexport.networks.inception import DEFAULTS, DROPOUT_KEEP_PROB, GROUP, Step, conv, max_pool, mixed, trunk
from hubexport.networks.network import Network


def _block(
    scope: str,
    narrow: int,
    middle: tuple[int, int],
    wide: tuple[int, int],
    pooled: int,
    wide_scope: str = "Conv2d_0b_3x3",
) -> Step:
    """A row of the paper's table 1. TF-Slim has 3x3 where the paper has 5x5."""
    return mixed(
        scope,
        [conv("Conv2d_0a_1x1", narrow)],
        [conv("Conv2d_0a_1x1", middle[0]), conv("Conv2d_0b_3x3", middle[1], 3)],
        [conv("Conv2d_0a_1x1", wide[0]), conv(wide_scope, wide[1], 3)],
        [max_pool("MaxPool_0a_3x3"), conv("Conv2d_0b_1x1", pooled)],
    )


_TRUNK = (
    conv("Conv2d_1a_7x7", 64, 7, stride=2),
    max_pool("MaxPool_2a_3x3", stride=2),
    conv("Conv2d_2b_1x1", 64),
    conv("Conv2d_2c_3x3", 192, 3),
    max_pool("MaxPool_3a_3x3", stride=2),
    _block("Mixed_3b", 64, (96, 128), (16, 32), 32),
    _block("Mixed_3c", 128, (128, 192), (32, 96), 64),
    max_pool("MaxPool_4a_3x3", stride=2),
    _block("Mixed_4b", 192, (96, 208), (16, 48), 64),
    _block("Mixed_4c", 160, (112, 224), (24, 64), 64),
    _block("Mixed_4d", 128, (128, 256), (24, 64), 64),
    _block("Mixed_4e", 112, (144, 288), (32, 64), 64),
    _block("Mixed_4f", 256, (160, 320), (32, 128), 128),
    max_pool("MaxPool_5a_2x2", 2, stride=2),
    _block("Mixed_5b", 256, (160, 320), (32, 128), 128, wide_scope="Conv2d_0a_3x3"),
    _block("Mixed_5c", 384, (192, 384), (48, 128), 128),
)


def inception_v1(image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out Inception V1.

    Args:
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    b = Builder("InceptionV1", image_size, DEFAULTS)
    net = trunk(b, "InceptionV1", _TRUNK)
    pooled = b.endpoint("InceptionV1/global_pool", b.mean("Logits/global_pool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.dropout("Logits/Dropout_0b", pooled, DROPOUT_KEEP_PROB)
        net = b.conv("Logits/Conv2d_0c_1x1", net, num_classes, batch_norm=False, activation=None)
        logits = b.endpoint("InceptionV1/Logits", b.squeeze("Logits/SpatialSqueeze", net))
        b.endpoint("InceptionV1/Predictions", b.softmax("Logits/Predictions/Softmax", logits))
    return b.network(features=features, logits=logits)


INCEPTION_V1 = Family(
    name="inception_v1",
    title="Inception V1",
    page_tag="inception-v1",
    group=GROUP,
    about="Inception V1, also known as GoogLeNet, is a deep neural network that classifies images. Its blocks "
    "convolve the same image with kernels of several sizes side by side, and join what they find.",
    paper=Paper(
        title="Going Deeper with Convolutions",
        authors="Christian Szegedy, Wei Liu, Yangqing Jia, Pierre Sermanet, Scott Reed, Dragomir Anguelov, "
        "Dumitru Erhan, Vincent Vanhoucke, Andrew Rabinovich",
        year=2014,
        url="https://arxiv.org/abs/1409.4842",
    ),
    pretrained=models_of_tf_slim("inception_v1_"),
    lay_out=lambda parameters, size, classes: inception_v1(size, classes),
    telling_variable="InceptionV1/Conv2d_1a_7x7/weights",
    momentum=DEFAULTS.batch_norm_momentum,
    implementation="TF-Slim has batch norm, which came later, and 3x3 kernels where the paper has 5x5; the paper's "
    "auxiliary classifiers are left out.",
)
