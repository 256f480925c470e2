"""The facts about a released module that templates may use, safe in the places where they use them.

Some texts come from strangers, who wrote a config or named a file. Templates get these only as code spans and escaped
addresses, where they cannot be anything but text.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
import re
from urllib.parse import quote, urlsplit

from hubexport.config_files import is_builtin
from hubexport.deployment_spec import DeploymentSpec
from hubexport.errors import printable
from hubexport.networks.costs import multiply_adds
from hubexport.networks.family import PretrainedModels
from hubexport.networks.ops import BatchNorm, Dropout, MatMul, Role
from hubexport.readable_numbers import two_decimals
from hubexport.release.facts import ModuleFacts
from hubexport.variants import BUILTIN_PUBLISHER, TF1_VERSIONS, TF2_VERSIONS, ModuleSpec, is_known_dataset

# ImageNet's name in our own configs, and for people.
IMAGENET = "ILSVRC-2012-CLS (ImageNet)"
IMAGENET_NAME = "ImageNet (ILSVRC-2012-CLS)"
# What a network was trained on if its config does not tell.
UNNAMED_DATASET = "a dataset that this release does not name"
# What people call weights by their role, after "all" and the name of their layers.
_WEIGHTS: Mapping[Role, str] = {
    "kernel": "ordinary",
    "depthwise_kernel": "depthwise",
    "pointwise_kernel": "pointwise",
}


class PageFacts:
    """The facts about a module for templates; every text is safe in the places where templates put it.

    Attributes:
        facts: the facts that the caller gave.
        variant: the module's variant.
        kind: `feature_vector` or `classification`.
        version: 1 to 5.
        tf1: whether the module has the TF1 Hub format.
        other: the handle of the module of the other kind.
        family: the network's family.
        network: the module's network.
        any_size: whether images may have any height and width.
        url: the module's address, safe in comments, links and strings of programs.
        title: the first line of its page.
        asset_path: the address of what users load.
        parent: the handle of the module that it is a deployment of; None for a module.
        dataset: the dataset's well-known name, or a code span; None if nobody said what it is.
        imagenet: whether the network was trained on ImageNet.
        classes: code spans with the names of the first and the last class; None if the module has no labels.
        classes_known: whether the classes are a background class and ImageNet's 1000.
        source: a code span with the name of the values' source.
        checkpoint: a code span with the checkpoint's path in its published archive; None if the values do not come from
            that archive.
        archive: a code span with the archive's name, or None.
        archive_url: the archive's address, or None.
        pretrained: where TF-Slim's authors published the checkpoint; None if it is another's.
        may_be_published: whether the values may come from the published archive, of which the config has no SHA-256.
        has_figures: whether the checkpoint's publishers gave figures.
        claims_figures: whether the published accuracy was measured with these values.
        measured_with: code spans with the images on which accuracy was measured, their preprocessing, and the program
            that ran the module; empty if it was not measured.
        sample_of: code spans with the photograph of the sample result, and the program that ran the module; empty if
            there is none.
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
        self.family = variant.family
        self.network = variant.network_for(spec.kind, spec.version)
        self.any_size = self.family.takes_any_size(spec.version)
        self.url = _address(f"{facts.url}/{facts.handle}")
        self.title = page_title(spec, facts.handle)
        self.asset_path = _address(f"{facts.url}/{asset_path(spec, facts.handle)}")
        self.parent = variant.handle(spec.module) if isinstance(spec, DeploymentSpec) else None
        self.dataset = _dataset(variant.dataset)
        self.imagenet = variant.dataset == IMAGENET and not values.synthetic
        names = facts.class_names
        self.classes = (_code(names[0]), _code(names[-1])) if names else None
        self.classes_known = self.imagenet and variant.num_classes == 1001 and not names
        self.source = _code(values.source)
        self.checkpoint: str | None = None
        self.archive: str | None = None
        self.archive_url: str | None = None
        self.pretrained: PretrainedModels | None = None
        figures = variant.published.model_dump(exclude={"accuracy_image_size"}) if variant.published else {}
        self.has_figures = any(figure is not None for figure in figures.values())
        self.claims_figures = False
        measured = facts.measured
        self.measured_with = (
            [_code(text or "") for text in (measured.dataset, measured.preprocessing, measured.engine)]
            if measured
            else []
        )
        sample = facts.sample
        self.sample_of = [_code(sample.photograph), _code(sample.engine)] if sample else []
        unpinned = variant.checkpoint is not None and variant.checkpoint.sha256 is None
        self.may_be_published = unpinned and not values.published and not values.synthetic
        if values.published and variant.checkpoint:
            url = variant.checkpoint.url
            archive = PurePosixPath(urlsplit(url).path).name
            # Like `mobilenet_v2_0.75_192/mobilenet_v2_0.75_192.ckpt`.
            self.checkpoint = _code(re.sub(r"\.(tgz|tar\.gz)$", "", archive) + f"/{variant.checkpoint.name}")
            self.archive = _code(archive)
            self.archive_url = _address(url)
            published = self.family.pretrained
            self.pretrained = published if published and url.startswith(published.archives) else None
            # The published figures were measured with the moving averages of variables that have them.
            self.claims_figures = self.has_figures and values.requested != "raw"

    @property
    def parameters(self) -> str:
        """The parameters of the network in its family, like `depth multiplier of 0.75`; empty if it has none."""
        named = (f"{name.replace('_', ' ')} of {value:g}" for name, value in self.variant.family_parameters)
        return " and a ".join(named)

    @property
    def quantization(self) -> str:
        """How the values of a deployment are quantized, as it follows the name of its format; empty if they are not."""
        spec = self.facts.spec
        quantization = getattr(spec.options, "quantize", "none") if isinstance(spec, DeploymentSpec) else "none"
        return "" if quantization == "none" else f", with values quantized to {quantization}"

    @property
    def published_values(self) -> str:
        """What is true of the family's published values, if the variant is one of those; otherwise empty."""
        published, checkpoint = self.family.pretrained, self.variant.checkpoint
        if published is None or checkpoint is None or not checkpoint.url.startswith(published.archives):
            return ""
        return published.about if self.variant.num_classes == self.family.published_classes else ""

    @property
    def measured_on(self) -> str:
        """What the published accuracy was measured on, as it follows the name of the accuracy."""
        return " on ImageNet's validation images" if self.imagenet else ""

    @property
    def has_history(self) -> bool:
        """Whether the module is a published one, whose versions came one after the other on tfhub.dev."""
        return self.variant.publisher == BUILTIN_PUBLISHER and is_builtin(self.variant.name)

    @property
    def first_tf2_version(self) -> int:
        """The first version of the family's modules that is a SavedModel of TensorFlow 2."""
        return min(version for version in self.family.versions if version in TF2_VERSIONS)

    @property
    def batch_norm(self) -> bool:
        """Whether the network has batch norm."""
        return any(isinstance(op, BatchNorm) for op in self.network.ops)

    @property
    def training_mode(self) -> str:
        """What the network does in training alone."""
        modes = ["batch norm is in training mode"] if self.batch_norm else []
        last = self.network.dropout
        earlier = [op for op in self.network.ops if isinstance(op, Dropout) and op != last]
        if dropped := ["the features"] * bool(earlier) + ["the logits"] * bool(last):
            modes.append(f"dropout precedes {' and '.join(dropped)}")
        return " and ".join(modes) or "the network computes what it does in inference"

    @property
    def from_smallest_size(self) -> str:
        """The smallest size of images, as it follows what they are; empty if there is none."""
        smallest = self.family.smallest_size
        return f" of at least {smallest} x {smallest} pixels" if smallest > 1 else ""

    @property
    def weighted_layers(self) -> str:
        """The kinds of layers that have weights."""
        dense = any(isinstance(op, MatMul) for op in self.network.ops)
        return "convolutions and dense layers" if dense else "convolutions"

    @property
    def weight_decay(self) -> str:
        """How much which variables decay, like `4e-5 on all convolution weights except depthwise ones`."""
        by_decay: dict[float, list[Role]] = {}
        for variable in self.network.variables:
            roles = by_decay.setdefault(variable.weight_decay, [])
            if variable.role not in roles:
                roles.append(variable.role)
        spared = by_decay.pop(0.0, [])
        return " and ".join(
            f"{_scientific(decay)} on {self._decaying(roles, len(by_decay) == 1, spared)}"
            for decay, roles in by_decay.items()
        )

    def _decaying(self, roles: Sequence[Role], only: bool, spared: Sequence[Role]) -> str:
        layer = "convolution" if self.weighted_layers == "convolutions" else "convolution and dense"
        biases = " and biases" if "bias" in roles else ""
        if not only:
            return f"{'/'.join(_WEIGHTS[role] for role in roles if role in _WEIGHTS)} {layer} weights{biases}"
        others = [_WEIGHTS[role] for role in spared if role in _WEIGHTS]
        return f"all {layer} weights{biases}" + (f" except {' and '.join(others)} ones" if others else "")

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds for one image of the default size."""
        return sum(multiply_adds(self.network.at_default_size()).values())

    @property
    def num_weights(self) -> int:
        """The number of weights and biases, without batch norm's."""
        counted = {*_WEIGHTS, "bias"}
        return sum(variable.size for variable in self.network.variables if variable.role in counted)

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
        values = f"trained on {self.dataset or UNNAMED_DATASET}"
        if self.facts.values.synthetic:
            values = "UNTRAINED: its values are made up"
        task = "Image feature vectors from" if self.kind == "feature_vector" else "Image classification by"
        parameters = ", ".join(
            f"{name.replace('_', ' ')} {two_decimals(value)}" for name, value in self.variant.family_parameters
        )
        return f"{task} {self.family.title}{f' ({parameters})' if parameters else ''}, {values}."


def page_title(spec: ModuleSpec, handle: str) -> str:
    """Returns the first line of an artifact's page."""
    what = spec.deployment.title if isinstance(spec, DeploymentSpec) else "Module"
    return f"# {what} {handle}"


def asset_path(spec: ModuleSpec, handle: str) -> str:
    """Returns the path in the release of what users load: the archive, or the main file of a deployment."""
    return f"{handle}/{spec.deployment.file}" if isinstance(spec, DeploymentSpec) else f"{handle}.tar.gz"


def _dataset(name: str) -> str | None:
    if not is_known_dataset(name):
        return None
    return IMAGENET_NAME if name == IMAGENET else _code(name)


def _scientific(number: float) -> str:
    """Returns a small number as people write it.

    Example:
        >>> _scientific(0.0001), _scientific(4e-5)
        ('1e-4', '4e-5')
    """
    mantissa, exponent = f"{number:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


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
