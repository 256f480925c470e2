"""The facts about a released module that templates may use, safe in the places where they use them.

Some texts come from strangers, who wrote a config or named a file. Templates get these only as code spans and escaped
addresses, where they cannot be anything but text.
"""

from pathlib import PurePosixPath
import re
from urllib.parse import quote, urlsplit

from hubexport.checkpoints.weights_choice import ONLY
from hubexport.errors import printable
from hubexport.networks.costs import multiply_adds, published_parameters
from hubexport.readable_numbers import two_decimals
from hubexport.release.facts import ModuleFacts
from hubexport.variants import TF1_VERSIONS

# ImageNet's name in our own configs, and for people.
_IMAGENET = "ILSVRC-2012-CLS (ImageNet)"
IMAGENET_NAME = "ImageNet (ILSVRC-2012-CLS)"
# The address at which TF-Slim's authors published their checkpoints.
_PRETRAINED = "https://storage.googleapis.com/mobilenet_v2/checkpoints/"
# The names of networks for people.
_ARCHITECTURES = {"mobilenet_v2": "MobileNet V2"}


class PageFacts:
    """The facts about a module for templates; every text is safe in the places where templates put it.

    Attributes:
        facts: the facts that the caller gave.
        variant: the module's variant.
        kind: `feature_vector` or `classification`.
        version: 1 to 5.
        tf1: whether the module has the TF1 Hub format.
        other: the handle of the module of the other kind.
        network: the module's network.
        architecture: the network's name for people.
        url: the module's address, safe in comments, links and strings of programs.
        depth: the depth multiplier, with two decimals if that is exact.
        dataset: the dataset's well-known name, or a code span.
        imagenet: whether the network was trained on ImageNet.
        classes_known: whether the classes are a background class and ImageNet's 1000.
        source: a code span with the name of the values' source.
        checkpoint: a code span with the checkpoint's path in its published archive; None if the values do not come from
            that archive.
        archive: a code span with the archive's name, or None.
        archive_url: the archive's address, or None.
        pretrained: whether TF-Slim's authors published the checkpoint.
        claims_figures: whether the published accuracy was measured with these values.
    """

    def __init__(self, facts: ModuleFacts) -> None:
        variant, spec, values = facts.variant, facts.spec, facts.values
        self.facts = facts
        self.variant = variant
        self.kind = spec.kind
        self.version = spec.version
        self.tf1 = spec.version in TF1_VERSIONS
        other = "classification" if spec.kind == "feature_vector" else "feature_vector"
        self.other = variant.handle(spec.model_copy(update={"kind": other}))
        self.network = variant.network_for(spec.kind, spec.version)
        self.architecture = _ARCHITECTURES.get(variant.network, variant.network)
        self.url = _address(f"{facts.url}/{facts.handle}")
        self.depth = two_decimals(getattr(variant.family_parameters, "depth_multiplier", 1.0))
        self.dataset = IMAGENET_NAME if variant.dataset == _IMAGENET else _code(variant.dataset)
        self.imagenet = variant.dataset == _IMAGENET and not values.synthetic
        self.classes_known = self.imagenet and variant.num_classes == 1001 and not variant.labels
        self.source = _code(values.source)
        self.checkpoint: str | None = None
        self.archive: str | None = None
        self.archive_url: str | None = None
        self.pretrained = self.claims_figures = False
        if values.published and variant.checkpoint:
            url = variant.checkpoint.url
            archive = PurePosixPath(urlsplit(url).path).name
            # Like `mobilenet_v2_0.75_192/mobilenet_v2_0.75_192.ckpt`.
            self.checkpoint = _code(re.sub(r"\.(tgz|tar\.gz)$", "", archive) + f"/{variant.checkpoint.name}")
            self.archive = _code(archive)
            self.archive_url = _address(url)
            self.pretrained = url.startswith(_PRETRAINED)
            # The published figures were measured with the moving averages.
            self.claims_figures = variant.published is not None and values.weights in ("averaged", ONLY)

    @property
    def weight_decay(self) -> str:
        return f"{max(variable.weight_decay for variable in self.network.variables):g}".replace("e-0", "e-")

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds for one image of the default size."""
        return sum(multiply_adds(self.network.at_default_size()).values())

    @property
    def published_parameters(self) -> int:
        """The number of weights and biases, without batch norm's."""
        return published_parameters(self.network)

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
