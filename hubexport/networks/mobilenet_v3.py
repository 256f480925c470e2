"""MobileNet V3: Howard et al., "Searching for MobileNetV3" (2019), and the network for Edge TPUs that followed.

Names of layers and endpoints are those of TF-Slim's `mobilenet_v3`, which counts the first convolution as layer 1.
"""

from collections.abc import Sequence
import dataclasses

from hubexport.networks.builder import Builder, Defaults, Tensor
from hubexport.networks.channels import divisible
from hubexport.networks.family import DepthMultiplier, Family, Group, Paper, PretrainedModels
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network
from hubexport.networks.ops import ActivationKind

# TF-Slim's MobileNet training scope. Depthwise kernels do not decay.
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=0.001, weight_decay=4e-5)
_DROPOUT_KEEP_PROB = 0.8
_SQUEEZE_FACTOR = 4


@dataclasses.dataclass(frozen=True)
class _Block:
    """An inverted residual.

    Attributes:
        expansion: how many times wider than its input it is inside.
        channels: of the output.
        kernel: height and width of the depthwise convolution, or of the one that widens where that does its work.
        stride: of the same convolution.
        activation: inside; the output is linear.
        squeeze: whether a squeeze-and-excite gate follows the depthwise convolution.
        fused: whether the convolution that widens does the depthwise one's work.
        residual: whether the input is added where it fits.
    """

    expansion: float
    channels: int
    kernel: int
    stride: int = 1
    activation: ActivationKind = "relu"
    squeeze: bool = False
    fused: bool = False
    residual: bool = True


@dataclasses.dataclass(frozen=True)
class _Architecture:
    """One of the networks.

    Attributes:
        root: TF-Slim's scope of the network.
        activation: of the convolutions that are in no block.
        first: channels of the first convolution.
        blocks: in order.
        last: channels of the convolution after the blocks; None if there is none but that for the features.
        features: the number of features, which a depth multiplier below 1 leaves as it is.
    """

    root: str
    activation: ActivationKind
    first: int
    blocks: Sequence[_Block]
    last: int | None
    features: int


def _swish(expansion: float, channels: int, kernel: int, stride: int = 1, squeeze: bool = False) -> _Block:
    return _Block(expansion, channels, kernel, stride, "hard_swish", squeeze)


# Table 1 of the paper.
_LARGE = _Architecture(
    root="MobilenetV3",
    activation="hard_swish",
    first=16,
    blocks=(
        _Block(1, 16, 3),
        _Block(4, 24, 3, 2),
        _Block(3, 24, 3),
        _Block(3, 40, 5, 2, squeeze=True),
        _Block(3, 40, 5, squeeze=True),
        _Block(3, 40, 5, squeeze=True),
        _swish(6, 80, 3, 2),
        _swish(2.5, 80, 3),
        _swish(184 / 80, 80, 3),
        _swish(184 / 80, 80, 3),
        _swish(6, 112, 3, squeeze=True),
        _swish(6, 112, 3, squeeze=True),
        _swish(6, 160, 5, 2, squeeze=True),
        _swish(6, 160, 5, squeeze=True),
        _swish(6, 160, 5, squeeze=True),
    ),
    last=960,
    features=1280,
)
# Table 2 of the paper.
_SMALL = _Architecture(
    root="MobilenetV3",
    activation="hard_swish",
    first=16,
    blocks=(
        _Block(1, 16, 3, 2, squeeze=True),
        _Block(72 / 16, 24, 3, 2),
        _Block(88 / 24, 24, 3),
        _swish(4, 40, 5, 2, squeeze=True),
        _swish(6, 40, 5, squeeze=True),
        _swish(6, 40, 5, squeeze=True),
        _swish(3, 48, 5, squeeze=True),
        _swish(3, 48, 5, squeeze=True),
        _swish(6, 96, 5, 2, squeeze=True),
        _swish(6, 96, 5, squeeze=True),
        _swish(6, 96, 5, squeeze=True),
    ),
    last=576,
    features=1024,
)
_EDGETPU = _Architecture(
    root="MobilenetEdgeTPU",
    activation="relu",
    first=32,
    blocks=(
        _Block(1, 16, 3, fused=True),
        _Block(8, 32, 3, 2, fused=True),
        *[_Block(4, 32, 3, fused=True)] * 3,
        _Block(8, 48, 3, 2, fused=True),
        *[_Block(4, 48, 3, fused=True)] * 3,
        _Block(8, 96, 3, 2),
        *[_Block(4, 96, 3)] * 3,
        _Block(8, 96, 3, residual=False),
        *[_Block(4, 96, 3)] * 3,
        _Block(8, 160, 5, 2),
        *[_Block(4, 160, 5)] * 3,
        _Block(8, 192, 3),
    ),
    last=None,
    features=1280,
)


def _minimalistic(architecture: _Architecture) -> _Architecture:
    """Returns an architecture with ReLU, 3x3 kernels and without gates, which runs fast on any hardware."""
    blocks = [dataclasses.replace(one, kernel=3, activation="relu", squeeze=False) for one in architecture.blocks]
    return dataclasses.replace(architecture, activation="relu", blocks=blocks)


def mobilenet_v3(
    architecture: _Architecture, depth_multiplier: float, image_size: ImageSize, num_classes: int | None
) -> Network:
    """Lays out MobileNet V3.

    Args:
        architecture: which of the networks.
        depth_multiplier: scales the number of channels of every layer, that of the features only upwards.
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    root = architecture.root
    b = Builder(root, image_size, dataclasses.replace(_DEFAULTS, activation=architecture.activation))
    net = b.conv("Conv", b.images, divisible(architecture.first * depth_multiplier), kernel=3, stride=2)
    b.endpoint(f"{root}/layer_1", net)
    layer = 1
    for number, block in enumerate(architecture.blocks):
        layer += 1
        scope = f"expanded_conv_{number}" if number else "expanded_conv"
        net = _append_block(b, f"{root}/layer_{layer}", scope, net, block, divisible(block.channels * depth_multiplier))
    num_features = divisible(architecture.features * max(depth_multiplier, 1.0))
    if architecture.last is None:
        net = b.endpoint(f"{root}/layer_{layer + 1}", b.conv("Conv_1", net, num_features))
    else:
        net = b.conv("Conv_1", net, divisible(architecture.last * depth_multiplier))
        b.endpoint(f"{root}/layer_{layer + 1}", net)
        net = b.endpoint(f"{root}/layer_{layer + 2}", b.whole_average_pool("AvgPool2D/AvgPool", net))
        net = b.endpoint(f"{root}/layer_{layer + 3}", b.conv("Conv_2", net, num_features, batch_norm=False))

    pooled = b.endpoint(f"{root}/global_pool", b.whole_average_pool("Logits/AvgPool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.dropout("Logits/Dropout", pooled, _DROPOUT_KEEP_PROB)
        net = b.conv("Logits/Conv2d_1c_1x1", net, num_classes, batch_norm=False, activation=None)
        net = b.squeeze("Logits/Squeeze", net)
        logits = b.endpoint(f"{root}/Logits", b.identity("Logits/output", net))
        b.endpoint(f"{root}/Predictions", b.softmax("Predictions/Softmax", logits))
    return b.network(features=features, logits=logits)


def _append_block(b: Builder, key: str, scope: str, shortcut: Tensor, block: _Block, filters: int) -> Tensor:
    """Appends one inverted residual: widen, convolve each channel, gate, narrow without activation, add if it fits."""
    depth = b.channels(shortcut)
    inner = divisible(depth * block.expansion)
    net = shortcut
    endpoints = {}
    if inner > depth:
        kernel, stride = (block.kernel, block.stride) if block.fused else (1, 1)
        net = b.conv(f"{scope}/expand", net, inner, kernel=kernel, stride=stride, activation=block.activation)
        net = endpoints[f"{key}/expansion_output"] = b.identity(f"{scope}/expansion_output", net)
    if not block.fused:
        net = b.depthwise_conv(
            f"{scope}/depthwise", net, kernel=block.kernel, stride=block.stride, activation=block.activation
        )
        net = endpoints[f"{key}/depthwise_output"] = b.identity(f"{scope}/depthwise_output", net)
    if block.squeeze:
        net = _squeeze_excite(b, f"{scope}/squeeze_excite", net)
    net = b.conv(f"{scope}/project", net, filters, activation=None)
    if block.residual and block.stride == 1 and depth == filters:
        net = b.add(f"{scope}/add", net, shortcut)
    net = b.identity(f"{scope}/output", net)
    for name, tensor in {key: net, **endpoints, f"{key}/output": net}.items():
        b.endpoint(name, tensor)
    return net


def _squeeze_excite(b: Builder, scope: str, net: Tensor) -> Tensor:
    """Appends a gate per channel, which the whole image opens or closes."""
    channels = b.channels(net)
    gate = b.mean(f"{scope}/Mean", net)
    gate = b.conv(f"{scope}/Conv", gate, divisible(channels / _SQUEEZE_FACTOR), batch_norm=False, activation="relu")
    gate = b.conv(f"{scope}/Conv_1", gate, channels, batch_norm=False, activation="hard_sigmoid")
    return b.multiply(f"{scope}/mul", gate, net)


_GROUP = Group("MobileNet V3", "blocks that a search by machine found, some with gates, for devices with little power")
_ABOUT = (
    "MobileNet V3 is a family of neural networks that classify images efficiently on the device. A search by machine "
    "found their layers: those of MobileNet V2, some with gates that weigh each channel by what the whole image shows."
)
_MINIMALISTIC_ABOUT = (
    f"{_ABOUT} The minimalistic ones do without gates, without 5x5 kernels and with ReLU alone, so that they run "
    "fast on any hardware."
)


_PAPER = Paper(
    title="Searching for MobileNetV3",
    authors="Andrew Howard, Mark Sandler, Grace Chu, Liang-Chieh Chen, Bo Chen, Mingxing Tan, Weijun Wang, Yukun Zhu, "
    "Ruoming Pang, Vijay Vasudevan, Quoc V. Le, Hartwig Adam",
    year=2019,
    url="https://arxiv.org/abs/1905.02244",
)
_EDGETPU_PAPER = Paper(
    title="Accelerator-aware Neural Network Design using AutoML",
    authors="Suyog Gupta, Berkin Akin",
    year=2020,
    url="https://arxiv.org/abs/2003.02838",
)


def _family(
    name: str,
    title: str,
    about: str,
    architecture: _Architecture,
    telling: str,
    versions: tuple[int, ...],
    paper: Paper = _PAPER,
) -> Family:
    return Family(
        name=name,
        title=title,
        page_tag="mobilenet-v3",
        group=_GROUP,
        about=about,
        paper=paper,
        pretrained=PretrainedModels(
            title="pre-trained models of MobileNet V3",
            page="https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet/README.md",
            archives="https://storage.googleapis.com/mobilenet_",
        ),
        lay_out=lambda parameters, size, classes: mobilenet_v3(
            architecture, parameters.depth_multiplier, size, classes
        ),
        telling_variable=f"{architecture.root}/{telling}",
        momentum=_DEFAULTS.batch_norm_momentum,
        parameters=DepthMultiplier,
        published_parameters=tuple(DepthMultiplier(depth_multiplier=one) for one in (0.75, 1.0)),
        versions=versions,
        open_from_version=None,
        size_multiple=32,
        implementation="TF-Slim rounds the number of features of each layer to a multiple of 8. A depth multiplier "
        "below 1.0 does not shrink the last convolutional layer, from which feature vectors are taken.",
    )


# The minimalistic ones come last: the others have all their variables, and differ in the shapes of some.
MOBILENET_V3_FAMILIES = (
    _family(
        "mobilenet_v3_large",
        "MobileNet V3 large",
        _ABOUT,
        _LARGE,
        "expanded_conv_14/squeeze_excite/Conv/weights",
        versions=(5,),
    ),
    _family(
        "mobilenet_v3_small",
        "MobileNet V3 small",
        _ABOUT,
        _SMALL,
        "expanded_conv/squeeze_excite/Conv/weights",
        versions=(5,),
    ),
    _family(
        "mobilenet_v3_large_minimalistic",
        "MobileNet V3 large minimalistic",
        _MINIMALISTIC_ABOUT,
        _minimalistic(_LARGE),
        "expanded_conv_14/project/weights",
        versions=(3, 5),
    ),
    _family(
        "mobilenet_v3_small_minimalistic",
        "MobileNet V3 small minimalistic",
        _MINIMALISTIC_ABOUT,
        _minimalistic(_SMALL),
        "expanded_conv_10/project/weights",
        versions=(3, 5),
    ),
    _family(
        "mobilenet_edgetpu",
        "MobileNet EdgeTPU",
        "MobileNet EdgeTPU is a neural network of the MobileNet V3 family that classifies images efficiently on Edge "
        "TPUs. Its early layers are plain 3x3 convolutions, which these compute faster than depthwise ones.",
        _EDGETPU,
        "Conv/weights",
        versions=(3, 5),
        paper=_EDGETPU_PAPER,
    ),
)
