"""ResNet V1: He et al., "Deep Residual Learning for Image Recognition" (2015).

Names of layers and endpoints are those of TF-Slim's `resnet_v1`. As there, the last unit of a block has the stride.

Two families have each network. The modules of tfhub.dev took images in [-1, 1], and their checkpoints were never
published. The published checkpoints are Caffe's, whose images are other ones.
"""

from hubexport.networks import caffe
from hubexport.networks.builder import Builder, Defaults, Tensor
from hubexport.networks.family import Family, Group, Paper
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network

# Per block: bottleneck channels, and the stride of its last unit. The output has four times the channels.
_BLOCKS = ((64, 2), (128, 2), (256, 2), (512, 1))
_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# TF-Slim's ResNet training scope.
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-5, weight_decay=1e-4)


def resnet_v1(num_layers: int, image_size: ImageSize, num_classes: int | None, *, from_caffe: bool = False) -> Network:
    """Lays out ResNet V1.

    Args:
        num_layers: 50, 101 or 152.
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
        from_caffe: whether it takes images as Caffe's does: up to 255, without the mean of each channel.
    """
    root = f"resnet_v1_{num_layers}"
    b = Builder(root, image_size, _DEFAULTS)
    net = b.endpoint(f"{root}/conv1", b.conv("conv1", b.images, 64, kernel=7, stride=2, padding="explicit"))
    net = b.max_pool("pool1", net, 3, stride=2)
    for block, ((filters, stride), units) in enumerate(zip(_BLOCKS, _UNITS[num_layers], strict=True), start=1):
        for unit in range(1, units + 1):
            scope = f"block{block}/unit_{unit}/bottleneck_v1"
            net = _bottleneck(b, root, scope, net, filters, stride if unit == units else 1)
        b.endpoint(f"{root}/block{block}", net)

    pooled = b.endpoint(f"{root}/global_pool", b.mean("pool5", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.conv("logits", pooled, num_classes, batch_norm=False, activation=None)
        b.endpoint(f"{root}/logits", net)
        logits = b.endpoint(f"{root}/spatial_squeeze", b.squeeze("SpatialSqueeze", net))
        b.endpoint(f"{root}/predictions", b.softmax("predictions/Softmax", logits))
    if from_caffe:
        return b.network(
            features=features, logits=logits, input_range=caffe.INPUT_RANGE, channel_means=caffe.CHANNEL_MEANS
        )
    return b.network(features=features, logits=logits)


def _bottleneck(b: Builder, root: str, scope: str, net: Tensor, filters: int, stride: int) -> Tensor:
    """Appends one unit: narrow, convolve, widen, and add the input or a projection of it."""
    if b.channels(net) != 4 * filters:
        shortcut = b.conv(f"{scope}/shortcut", net, 4 * filters, stride=stride, activation=None)
        b.endpoint(f"{root}/{scope}/shortcut", shortcut)
    elif stride > 1:
        shortcut = b.max_pool(f"{scope}/shortcut", net, 1, stride=stride)
    else:
        shortcut = net
    net = b.endpoint(f"{root}/{scope}/conv1", b.conv(f"{scope}/conv1", net, filters))
    net = b.conv(f"{scope}/conv2", net, filters, kernel=3, stride=stride, padding="explicit")
    b.endpoint(f"{root}/{scope}/conv2", net)
    net = b.endpoint(f"{root}/{scope}/conv3", b.conv(f"{scope}/conv3", net, 4 * filters, activation=None))
    net = b.add(f"{scope}/add", shortcut, net)
    return b.endpoint(f"{root}/{scope}", b.activation(f"{scope}/Relu", net, "relu"))


_GROUP = Group("ResNet V1", "deep networks whose blocks add their output to their input")
_ABOUT = (
    "ResNet V1 is a family of deep neural networks that classify images, with different numbers of layers. Each group "
    "of convolutions adds its output to its input, so that even many layers can be trained."
)
_PAPER = Paper(
    title="Deep Residual Learning for Image Recognition",
    authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
    year=2015,
    url="https://arxiv.org/abs/1512.03385",
)


def _implementation(num_layers: int) -> str:
    return (
        f"It has {num_layers} layers. Where the paper halves height and width in the first unit of a block, TF-Slim "
        "does so in the last unit of the block before."
    )


def _family(num_layers: int) -> Family:
    return Family(
        name=f"resnet_v1_{num_layers}",
        title=f"ResNet V1 {num_layers}",
        page_tag=f"resnet-v1-{num_layers}",
        group=_GROUP,
        about=_ABOUT,
        paper=_PAPER,
        pretrained=None,
        lay_out=lambda parameters, size, classes: resnet_v1(num_layers, size, classes),
        telling_variable=f"resnet_v1_{num_layers}/conv1/weights",
        momentum=_DEFAULTS.batch_norm_momentum,
        implementation=_implementation(num_layers),
    )


def _caffe_family(num_layers: int) -> Family:
    return Family(
        name=f"resnet_v1_{num_layers}_caffe",
        title=f"ResNet V1 {num_layers} from Caffe",
        page_tag=f"resnet-v1-{num_layers}",
        group=_GROUP,
        about=f"{_ABOUT} Those from Caffe take images as the paper's authors prepared them there.",
        paper=_PAPER,
        pretrained=caffe.pretrained_models("resnet_v1_"),
        lay_out=lambda parameters, size, classes: resnet_v1(num_layers, size, classes, from_caffe=True),
        telling_variable=f"resnet_v1_{num_layers}/conv1/weights",
        momentum=_DEFAULTS.batch_norm_momentum,
        published_classes=caffe.CLASSES,
        versions=(3, 5),
        implementation=_implementation(num_layers),
        unused_variables=(caffe.mean_rgb(f"resnet_v1_{num_layers}"),),
    )


RESNET_V1_FAMILIES = (*map(_family, _UNITS), *map(_caffe_family, _UNITS))
