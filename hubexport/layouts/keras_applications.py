"""Networks of `keras.applications` that hubexport cannot take, and why, though TF-Slim has one of that name.

Read in Keras' source code, and seen by comparing outputs; tests build each of them with Keras.
"""

from collections.abc import Iterable
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Application:
    """A network of Keras.

    Attributes:
        title: what Keras calls it.
        telling: a pattern for the name of a layer that it alone has.
        difference: what it does that no network of ours does, as the end of "…, which".
    """

    title: str
    telling: str
    difference: str


_NOT_THERE = "is not among the networks of TF-Slim that hubexport has"

_APPLICATIONS = (
    Application("ResNet V2", "post_bn", "pads with zeros before its first pool, unlike TF-Slim's"),
    Application(
        "ResNet",
        "conv2_block1_1_conv|res2a_branch2a",
        "strides in the first convolution of a block, where TF-Slim's strides at the end of the block before",
    ),
    Application("MobileNetV3", r"\w*expanded_conv\w*[_/]squeeze_excite.*", "has 1/6 in its gates, TF-Slim's 0.16667"),
    Application("NASNet", "normal_conv_1_0|normal_A_block_.*", "pads with zeros before its pools, unlike TF-Slim's"),
    Application("Xception", "block1_conv1_bn", _NOT_THERE),
    Application("VGG", "block1_conv1", "takes the colors of images as BGR, TF-Slim's as RGB"),
    Application("DenseNet", r"conv2_block1_0_bn", _NOT_THERE),
    Application("EfficientNet", "block1a_.*", _NOT_THERE),
    Application("ConvNeXt", "convnext_.*", _NOT_THERE),
    Application("RegNet", "regnet.*_stem_conv", _NOT_THERE),
)


def application_with(layer_names: Iterable[str]) -> Application | None:
    """Returns the network of `keras.applications` that has layers of these names; None for others."""
    names = [*layer_names]
    return next((one for one in _APPLICATIONS if any(re.fullmatch(one.telling, name) for name in names)), None)
