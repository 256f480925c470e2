"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014).

Names of layers and endpoints are those of TF-Slim's `vgg_16` and `vgg_19`, where dense layers are convolutions.
"""

from hubexport.networks import caffe
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.family import Family, Group, Paper
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network

# Channels per group, and how many convolutions each group has. The paper calls the networks D and E.
_CHANNELS = (64, 128, 256, 512, 512)
_REPEATS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_DENSE_CHANNELS = 4096
_DENSE_KERNEL = 7

# TF-Slim's VGG scope.
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=None, weight_decay=5e-4)
_DROPOUT_KEEP_PROB = 0.5


def vgg(num_layers: int, image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out VGG.

    Args:
        num_layers: 16 or 19.
        image_size: the images that it takes, at least 224 pixels. Of larger ones the features are averaged.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    root = f"vgg_{num_layers}"
    b = Builder(root, image_size, _DEFAULTS)
    net = b.images
    for group, (channels, repeats) in enumerate(zip(_CHANNELS, _REPEATS[num_layers], strict=True), start=1):
        for repeat in range(1, repeats + 1):
            scope = f"conv{group}/conv{group}_{repeat}"
            net = b.endpoint(f"{root}/{scope}", b.conv(scope, net, channels, kernel=3))
        net = b.endpoint(f"{root}/pool{group}", b.max_pool(f"pool{group}", net, 2, stride=2, padding="VALID"))
    net = b.conv("fc6", net, _DENSE_CHANNELS, kernel=_DENSE_KERNEL, padding="VALID")
    b.endpoint(f"{root}/fc6", net)
    net = b.dropout("dropout6", net, _DROPOUT_KEEP_PROB)
    net = b.endpoint(f"{root}/fc7", b.conv("fc7", net, _DENSE_CHANNELS))
    if not b.is_pixel(net):
        net = b.endpoint(f"{root}/global_pool", b.mean("global_pool", net))

    features = b.features(net)
    logits = None
    if num_classes is not None:
        net = b.dropout("dropout7", net, _DROPOUT_KEEP_PROB)
        net = b.conv("fc8", net, num_classes, activation=None)
        logits = b.endpoint(f"{root}/fc8", b.squeeze("fc8/squeezed", net))
    return b.network(features=features, logits=logits, input_range=caffe.INPUT_RANGE, channel_means=caffe.CHANNEL_MEANS)


_GROUP = Group("VGG", "3x3 convolutions, and three dense layers with most of the parameters")


def _family(num_layers: int) -> Family:
    return Family(
        name=f"vgg_{num_layers}",
        title=f"VGG {num_layers}",
        page_tag="vgg-style",
        group=_GROUP,
        about="VGG is a family of neural networks that classify images, with different numbers of layers: groups of "
        "3x3 convolutions, and three dense layers, which have most of the parameters.",
        paper=Paper(
            title="Very Deep Convolutional Networks for Large-Scale Image Recognition",
            authors="Karen Simonyan, Andrew Zisserman",
            year=2014,
            url="https://arxiv.org/abs/1409.1556",
        ),
        pretrained=caffe.pretrained_models("vgg_"),
        lay_out=lambda parameters, size, classes: vgg(num_layers, size, classes),
        telling_variable=f"vgg_{num_layers}/conv1/conv1_1/weights",
        momentum=_DEFAULTS.batch_norm_momentum,
        published_classes=caffe.CLASSES,
        versions=(3, 5),
        open_from_version=None,
        smallest_size=224,
        implementation=f"It has {num_layers} layers with weights; the dense ones are convolutions in TF-Slim. The "
        "feature vector is the output of the second dense layer.",
        unused_variables=(caffe.mean_rgb(f"vgg_{num_layers}"),),
    )


VGG_FAMILIES = tuple(map(_family, _REPEATS))
