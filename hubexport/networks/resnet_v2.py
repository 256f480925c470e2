"""ResNet V2: He et al., "Identity Mappings in Deep Residual Networks" (2016), where batch norm and ReLU come first.

Names of layers and endpoints are those of TF-Slim's `resnet_v2`. As there, the last unit of a block has the stride.
"""

from hubexport.networks.builder import Builder, Defaults, Tensor
from hubexport.networks.family import Family, Group, Paper, models_of_tf_slim
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network

# Per block: bottleneck channels, and the stride of its last unit. The output has four times the channels.
_BLOCKS = ((64, 2), (128, 2), (256, 2), (512, 1))
_UNITS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# TF-Slim's ResNet training scope.
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-5, weight_decay=1e-4)


def resnet_v2(num_layers: int, image_size: ImageSize, num_classes: int | None) -> Network:
    """Lays out ResNet V2.

    Args:
        num_layers: 50, 101 or 152.
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    root = f"resnet_v2_{num_layers}"
    b = Builder(root, image_size, _DEFAULTS)
    net = b.conv("conv1", b.images, 64, kernel=7, stride=2, padding="explicit", batch_norm=False, activation=None)
    b.endpoint(f"{root}/conv1", net)
    net = b.max_pool("pool1", net, 3, stride=2)
    for block, ((filters, stride), units) in enumerate(zip(_BLOCKS, _UNITS[num_layers], strict=True), start=1):
        for unit in range(1, units + 1):
            scope = f"block{block}/unit_{unit}/bottleneck_v2"
            net = _bottleneck(b, root, scope, net, filters, stride if unit == units else 1)
        b.endpoint(f"{root}/block{block}", net)
    net = b.batch_norm("postnorm", net)

    pooled = b.endpoint(f"{root}/global_pool", b.mean("pool5", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.conv("logits", pooled, num_classes, batch_norm=False, activation=None)
        b.endpoint(f"{root}/logits", net)
        logits = b.endpoint(f"{root}/spatial_squeeze", b.squeeze("SpatialSqueeze", net))
        b.endpoint(f"{root}/predictions", b.softmax("predictions/Softmax", logits))
    return b.network(features=features, logits=logits)


def _bottleneck(b: Builder, root: str, scope: str, net: Tensor, filters: int, stride: int) -> Tensor:
    """Appends one unit: normalize, narrow, convolve, widen, and add the input or a projection of it."""
    preactivated = b.batch_norm(f"{scope}/preact", net)
    if b.channels(net) != 4 * filters:
        shortcut = b.conv(
            f"{scope}/shortcut", preactivated, 4 * filters, stride=stride, batch_norm=False, activation=None
        )
        b.endpoint(f"{root}/{scope}/shortcut", shortcut)
    elif stride > 1:
        shortcut = b.max_pool(f"{scope}/shortcut", net, 1, stride=stride)
    else:
        shortcut = net
    net = b.endpoint(f"{root}/{scope}/conv1", b.conv(f"{scope}/conv1", preactivated, filters))
    net = b.conv(f"{scope}/conv2", net, filters, kernel=3, stride=stride, padding="explicit")
    b.endpoint(f"{root}/{scope}/conv2", net)
    net = b.conv(f"{scope}/conv3", net, 4 * filters, batch_norm=False, activation=None)
    b.endpoint(f"{root}/{scope}/conv3", net)
    return b.endpoint(f"{root}/{scope}", b.add(f"{scope}/add", shortcut, net))


_GROUP = Group("ResNet V2", "as ResNet V1, with batch norm and ReLU before the convolutions, not after them")


def _family(num_layers: int) -> Family:
    return Family(
        name=f"resnet_v2_{num_layers}",
        title=f"ResNet V2 {num_layers}",
        page_tag=f"resnet-v2-{num_layers}",
        group=_GROUP,
        about="ResNet V2 is a family of deep neural networks that classify images, with different numbers of layers. "
        'In a ResNet, introduced by ["Deep Residual Learning for Image Recognition"](https://arxiv.org/abs/1512.03385) '
        "in 2015, each group of convolutions adds its output to its input. In version 2, batch norm and ReLU come "
        "before the convolutions, not after them.",
        paper=Paper(
            title="Identity Mappings in Deep Residual Networks",
            authors="Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
            year=2016,
            url="https://arxiv.org/abs/1603.05027",
        ),
        pretrained=models_of_tf_slim("resnet_v2_"),
        lay_out=lambda parameters, size, classes: resnet_v2(num_layers, size, classes),
        telling_variable=f"resnet_v2_{num_layers}/conv1/weights",
        momentum=_DEFAULTS.batch_norm_momentum,
        implementation=f"It has {num_layers} layers. Where the paper halves height and width in the first unit of a "
        "block, TF-Slim does so in the last unit of the block before.",
    )


RESNET_V2_FAMILIES = tuple(_family(num_layers) for num_layers in _UNITS)
