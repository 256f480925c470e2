"""Tells from the names of values that hubexport does not know whose network they are, for errors and reports."""

from collections.abc import Iterable
import dataclasses
from pathlib import Path
import re

from hubexport.checkpoints.huggingface_directory import named_architecture
from hubexport.errors import printable


@dataclasses.dataclass(frozen=True)
class _TellTale:
    """Names by which a network is known.

    Attributes:
        title: the network, and whose names it has.
        present: patterns, each of which the whole name of some value must match.
        absent: a pattern that no value's name may match; empty allows all.
    """

    title: str
    present: tuple[str, ...]
    absent: str = ""

    def fits(self, names: str) -> bool:
        """Tells whether names, one a line, are those of the network."""
        return all(_has(names, pattern) for pattern in self.present) and not (self.absent and _has(names, self.absent))


_OF_PYTORCH = r".+\.weight"
_TIMM_STEM = r"conv_stem\.weight"

# The first that fits counts, so that what is special comes first.
_TELL_TALES = (
    _TellTale("a MobileNet V4 of timm", (_TIMM_STEM, r"blocks\.\d+\.\d+\.(dw_start|dw_mid|pw_exp)\.conv\.weight")),
    _TellTale("a MobileNet V3 of timm", (_TIMM_STEM, r"blocks\.\d+\.\d+\.se\.conv_reduce\.weight"), r"bn2\.weight"),
    _TellTale("an EfficientNet of timm", (_TIMM_STEM, r"blocks\.\d+\.\d+\.se\.conv_reduce\.weight")),
    _TellTale("a MobileNet or EfficientNet of timm", (_TIMM_STEM, r"blocks\.\d+\.\d+\.conv(_dw|_pw|_exp)?\.weight")),
    _TellTale("a vision transformer of timm", (r"cls_token", r"blocks\.0\.attn\.qkv\.weight")),
    _TellTale("an EfficientNet of torchvision", (r"features\.0\.0\.weight", r"features\.1\.0\.block\.0\.0\.weight")),
    _TellTale("a ConvNeXt of torchvision", (r"features\.0\.0\.weight", r"features\.1\.0\.layer_scale")),
    _TellTale("a MobileNet V3 of torchvision", (r"features\.0\.0\.weight", r"features\.1\.block\.0\.0\.weight")),
    _TellTale(
        "a MobileNet V2 of torchvision", (r"features\.0\.0\.weight", r"(features\.1\.conv\.0\.0|classifier\.1)\.weight")
    ),
    _TellTale("a DenseNet of torchvision", (r"features\.conv0\.weight", r"features\.denseblock1\..+")),
    _TellTale("an AlexNet or VGG of torchvision", (r"features\.0\.weight", r"classifier\.6\.weight")),
    _TellTale("a ResNet of torchvision or timm", (r"layer1\.0\.conv1\.weight",)),
    _TellTale("an Inception V3 of torchvision", (r"Conv2d_1a_3x3\.conv\.weight", r"Mixed_5b\.branch1x1\.conv\.weight")),
    _TellTale("a GoogLeNet of torchvision", (r"inception3a\.branch1\.conv\.weight",)),
    _TellTale("a vision transformer of torchvision", (r"class_token", r"encoder\.layers\.encoder_layer_0\..+")),
    _TellTale("a MobileNet V1 of Hugging Face", (r"(mobilenet_v1\.)?conv_stem\.convolution\.weight",)),
    _TellTale("a ResNet of Hugging Face", (r"(resnet\.)?embedder\.embedder\.convolution\.weight",)),
    _TellTale("an EfficientNet of Hugging Face", (r"(efficientnet\.)?embeddings\.convolution\.weight",)),
    _TellTale("a vision transformer of Hugging Face", (r"((vit|deit)\.)?embeddings\.cls_token",)),
    _TellTale("an EfficientNet of Keras", (r"(.+/)?stem_conv/kernel", r"(.+/)?block1a_(dwconv|project_conv)/.+")),
    _TellTale("a DenseNet of Keras", (r"(.+/)?conv2_block1_1_conv/kernel", r"(.+/)?pool2_conv/kernel")),
    _TellTale("an EfficientNet of TensorFlow's TPU models", (r"efficientnet-[^/]+/stem/conv2d/kernel",)),
    _TellTale("a network of PyTorch", (_OF_PYTORCH, r".+\.running_mean")),
)

WHY = "hubexport reads networks by the names of TF-Slim, of Keras, and of Hugging Face's MobileNet V2"
FIX = "use a checkpoint of TF-Slim or a Keras file of a network that `hubexport list` shows"


def foreign_network(names: Iterable[str], directory: Path | None) -> str | None:
    """Returns what the values of no known network are, like `a MobileNet V3 of timm`; None if nothing tells it.

    Args:
        names: the names of the values.
        directory: the directory of a safetensors file, in which the settings of Hugging Face or timm may name the
            network; None for other files.
    """
    lines = "\n".join(names)
    if directory and _has(lines, _OF_PYTORCH) and (architecture := named_architecture(directory)):
        return printable(architecture)
    return next((tale.title for tale in _TELL_TALES if tale.fits(lines)), None)


def _has(names: str, pattern: str) -> bool:
    return re.search(f"^(?:{pattern})$", names, re.MULTILINE) is not None
