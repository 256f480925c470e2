"""The facts about a released module that templates may use, safe in the places where they use them.

Some texts come from strangers, who wrote a config or named a file. Templates get these only as code spans and escaped
addresses, where they cannot be anything but text.
"""

import dataclasses
from pathlib import PurePosixPath
import re
from urllib.parse import quote, urlsplit

from hubexport.checkpoints.weights_choice import ONLY
from hubexport.errors import printable
from hubexport.networks.layers import Network
from hubexport.readable_numbers import two_decimals
from hubexport.release.facts import ModuleFacts
from hubexport.variants import TF1_VERSIONS, PublishedCheckpoint, Variant

# ImageNet's name in our own configs, and for people.
_IMAGENET = "ILSVRC-2012-CLS (ImageNet)"
IMAGENET_NAME = "ImageNet (ILSVRC-2012-CLS)"
# The address at which TF-Slim's authors published their checkpoints.
_PRETRAINED = "https://storage.googleapis.com/mobilenet_v2/checkpoints/"
# The names of networks for people.
_ARCHITECTURES = {"mobilenet_v2": "MobileNet V2"}


@dataclasses.dataclass(frozen=True)
class PageFacts:
    """The facts about a module for templates; every text is safe in the places where templates put it.

    Attributes:
        facts: the facts that the caller gave.
        network: the module's network.
        architecture: the network's name for people.
        url: the module's address, safe in comments, links and strings of programs.
        other: the handle of the module of the other kind.
        depth: the depth multiplier, with two decimals if that is exact.
        tf1: whether the module has the TF1 Hub format.
        imagenet: whether the network was trained on ImageNet.
        classes_known: whether the classes are a background class and ImageNet's 1000.
        dataset: the dataset's well-known name, or a code span.
        checkpoint: a code span with the checkpoint's path in its published archive; None if the values do not come from
            that archive.
        archive: a code span with the archive's name, or None.
        archive_url: the archive's address, or None.
        pretrained: whether TF-Slim's authors published the checkpoint.
        source: a code span with the name of the values' source.
        claims_figures: whether the published accuracy was measured with these values.
    """

    facts: ModuleFacts
    network: Network
    architecture: str
    url: str
    other: str
    depth: str
    tf1: bool
    imagenet: bool
    classes_known: bool
    dataset: str
    checkpoint: str | None
    archive: str | None
    archive_url: str | None
    pretrained: bool
    source: str
    claims_figures: bool

    @property
    def kind(self) -> str:
        return self.facts.spec.kind

    @property
    def version(self) -> int:
        return self.facts.spec.version

    @property
    def variant(self) -> Variant:
        return self.facts.variant

    @property
    def weight_decay(self) -> str:
        return f"{self.network.weight_decay:g}".replace("e-0", "e-")

    @property
    def num_values(self) -> int:
        """How many numbers the module holds, batch norm's included."""
        return sum(variable.size for variable in self.network.variables)

    @property
    def num_trainable(self) -> int:
        return sum(variable.size for variable in self.network.variables if variable.trainable)

    @property
    def endpoint(self) -> str:
        """The name of an intermediate output, for an example."""
        names = list(self.network.endpoints)
        return names[len(names) // 2]

    @property
    def description(self) -> str:
        """The module's purpose, in one line."""
        values = f"trained on {self.dataset}"
        if self.facts.values.synthetic:
            values = "UNTRAINED: its values are made up"
        task = "Image feature vectors from" if self.kind == "feature_vector" else "Image classification by"
        return f"{task} {self.architecture} (depth multiplier {self.depth}), {values}."


def page_facts(facts: ModuleFacts) -> PageFacts:
    """Prepares the facts about a module for templates."""
    variant, spec, values = facts.variant, facts.spec, facts.values
    imagenet = variant.dataset == _IMAGENET and not values.synthetic
    checkpoint = variant.checkpoint if values.published else None
    other = "classification" if spec.kind == "feature_vector" else "feature_vector"
    return PageFacts(
        facts=facts,
        network=variant.network_for(spec.kind),
        architecture=_ARCHITECTURES.get(variant.network, variant.network),
        url=_address(f"{facts.url}/{facts.handle}"),
        other=variant.handle(spec.model_copy(update={"kind": other})),
        depth=two_decimals(variant.depth_multiplier),
        tf1=spec.version in TF1_VERSIONS,
        imagenet=imagenet,
        classes_known=imagenet and variant.num_classes == 1001 and not variant.labels,
        dataset=IMAGENET_NAME if variant.dataset == _IMAGENET else _code(variant.dataset),
        checkpoint=_code(_path_in_archive(checkpoint)) if checkpoint else None,
        archive=_code(_file_name(checkpoint.url)) if checkpoint else None,
        archive_url=_address(checkpoint.url) if checkpoint else None,
        pretrained=checkpoint is not None and checkpoint.url.startswith(_PRETRAINED),
        source=_code(values.source),
        # The published figures were measured with the moving averages.
        claims_figures=checkpoint is not None
        and values.weights in ("averaged", ONLY)
        and variant.published is not None,
    )


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def _path_in_archive(checkpoint: PublishedCheckpoint) -> str:
    """Returns a checkpoint's path in its archive, like `mobilenet_v2_0.75_192/mobilenet_v2_0.75_192.ckpt`."""
    archive = re.sub(r"\.(tgz|tar\.gz)$", "", _file_name(checkpoint.url))
    return f"{archive}/{checkpoint.name}"


def one_line(text: str) -> str:
    """Returns a stranger's text in one line that is safe to print."""
    return printable(" ".join(text.split())) or "(unnamed)"


def _code(text: str) -> str:
    """Returns a stranger's text as a code span, in which nothing has a meaning in Markdown but the span's end.

    Example:
        >>> print(_code("flowers"), _code("<b>`"))
        `flowers` `` <b>` ``
    """
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _address(url: str) -> str:
    """Returns an address in which every character that could end a link, a comment or a string is escaped.

    Example:
        >>> _address('https://models.example/a">-->(b)')
        'https://models.example/a%22%3E--%3E%28b%29'
    """
    return quote(url, safe=":/?#[]@!$&'*+,;=%~")
