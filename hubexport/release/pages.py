"""What people read of a module that is released: its page as tfhub.dev has them, a model card, its publisher's page.

Pages pass the validator of tensorflow/tfhub.dev. Some of what they say was written by whoever made a config or named a
file: templates get it as code spans, escaped addresses and YAML alone, in which it is text and nothing more.
"""

import dataclasses
from pathlib import PurePosixPath
import re
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
import yaml

from hubexport.checkpoints.weights_choice import ONLY
from hubexport.errors import printable
from hubexport.networks.layers import Network
from hubexport.readable_numbers import two_decimals
from hubexport.release.facts import ModuleFacts
from hubexport.variants import TF1_VERSIONS, PublishedCheckpoint, Variant

# What our own configs name as dataset, and what tfhub.dev, Hugging Face and people call it.
_IMAGENET = "ILSVRC-2012-CLS (ImageNet)"
_IMAGENET_TAG = "imagenet-ilsvrc-2012-cls"
_IMAGENET_HUGGING_FACE = "imagenet-1k"
_IMAGENET_NAME = "ImageNet (ILSVRC-2012-CLS)"

# Where TF-Slim's authors published their checkpoints.
_PRETRAINED = "https://storage.googleapis.com/mobilenet_v2/checkpoints/"

# Networks to their names for people and in tfhub.dev's tags/network_architecture.yaml.
_ARCHITECTURES = {"mobilenet_v2": ("MobileNet V2", "mobilenet-v2")}

_TASKS = {"classification": "image-classification", "feature_vector": "image-feature-vector"}
_PIPELINES = {"classification": "image-classification", "feature_vector": "image-feature-extraction"}

# Of tags/license.yaml; what is not among them is `custom`.
_TFHUB_LICENSES = (
    *("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-nc-4.0", "cddl-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0"),
    *("lgpl-2.0", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0"),
)
# Of SPDX's names, those that Hugging Face's cards may say as they are; what is not among them is `other`, and a name.
_HUGGING_FACE_LICENSES = (
    *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0"),
    *("cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc0-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0"),
    "unlicense",
)
# SPDX's names to those that Kaggle offers; it takes no others.
_KAGGLE_LICENSES = {
    "agpl-3.0": "GNU Affero General Public License 3.0",
    "apache-2.0": "Apache 2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-3.0": "Attribution 3.0 Unported (CC BY 3.0)",
    "cc-by-4.0": "Attribution 4.0 International (CC BY 4.0)",
    "cc-by-nc-4.0": "Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0",
    "cc-by-nd-4.0": "Attribution-NoDerivatives 4.0 International (CC BY-ND 4.0)",
    "cc-by-sa-3.0": "CC BY-SA 3.0",
    "cc-by-sa-4.0": "CC BY-SA 4.0",
    "cc0-1.0": "CC0: Public Domain",
    "gpl-2.0": "GPL 2",
    "gpl-3.0": "GPL 3",
    "lgpl-3.0": "GNU Lesser General Public License 3.0",
    "mit": "MIT",
}


@dataclasses.dataclass(frozen=True)
class _Words:
    """What the templates say of a module; every text in it is safe where they put it.

    Attributes:
        url: of the module, fit for comments, links and strings in programs.
        other: the handle of its twin of the other kind.
        depth: the depth multiplier, with two decimals where they are enough.
        imagenet: whether it knows ImageNet.
        classes_known: whether its classes are ImageNet's 1000 after a background class.
        dataset: its well-known name, or a code span.
        checkpoint: a code span with the checkpoint as its archive holds it; None unless its values are of that archive.
        archive, archive_url: a code span with that archive's name, and where it is.
        pretrained: whether it is one of those that TF-Slim's authors published.
        source: a code span with the name of what the values are of.
        claims_figures: whether the publishers' accuracy is that of these values.
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
        """The name of an intermediate result, for an example."""
        names = list(self.network.endpoints)
        return names[len(names) // 2]

    @property
    def description(self) -> str:
        """What the module does, in one line."""
        values = f"trained on {self.dataset}"
        if self.facts.values.synthetic:
            values = "UNTRAINED: its values are made up"
        task = "Image feature vectors from" if self.kind == "feature_vector" else "Image classification by"
        return f"{task} {self.architecture} (depth multiplier {self.depth}), {values}."


def module_page(facts: ModuleFacts) -> str:
    """Returns a module's page, in the format of tfhub.dev's documentation.

    Returns:
        Markdown, the same for the same facts; to be written as UTF-8.
    """
    words = _words(facts)
    return _render("module_page.md", m=words, metadata=_metadata(words))


def model_card(facts: ModuleFacts) -> str:
    """Returns a module's model card: the facts of its page, told the way Hugging Face and Kaggle want them.

    Returns:
        YAML between lines of dashes, under `kaggle` what belongs into Kaggle's `model-instance-metadata.json`, and then
        Markdown; the same for the same facts; to be written as UTF-8.
    """
    words = _words(facts)
    front_matter = yaml.safe_dump(
        _front_matter(words), sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=False
    )
    return _render("model_card.md", m=words, front_matter=front_matter)


def publisher_page(publisher: str) -> str:
    """Returns the page of a publisher, without which tfhub.dev takes no pages of its modules."""
    return _render("publisher_page.md", publisher=publisher)


def _words(facts: ModuleFacts) -> _Words:
    variant, spec, values = facts.variant, facts.spec, facts.values
    imagenet = variant.dataset == _IMAGENET and not values.synthetic
    checkpoint = variant.checkpoint if values.published else None
    other = "classification" if spec.kind == "feature_vector" else "feature_vector"
    return _Words(
        facts=facts,
        network=variant.network_for(spec.kind),
        architecture=_ARCHITECTURES.get(variant.network, (variant.network,))[0],
        url=_address(f"{facts.url}/{facts.handle}"),
        other=variant.handle(spec.model_copy(update={"kind": other})),
        depth=two_decimals(variant.depth_multiplier),
        tf1=spec.version in TF1_VERSIONS,
        imagenet=imagenet,
        classes_known=imagenet and variant.num_classes == 1001 and not variant.labels,
        dataset=_IMAGENET_NAME if variant.dataset == _IMAGENET else _code(variant.dataset),
        checkpoint=_code(_inside(checkpoint)) if checkpoint else None,
        archive=_code(_file_name(checkpoint.url)) if checkpoint else None,
        archive_url=_address(checkpoint.url) if checkpoint else None,
        pretrained=checkpoint is not None and checkpoint.url.startswith(_PRETRAINED),
        source=_code(values.source),
        # They were measured with the moving averages.
        claims_figures=checkpoint is not None
        and values.weights in ("averaged", ONLY)
        and variant.published is not None,
    )


def _metadata(words: _Words) -> dict[str, str]:
    """Returns what stands in comments at the head of a page; tfhub.dev refuses other keys, and most other values."""
    tags = {
        "asset-path": f"{words.url}.tar.gz",
        "task": _TASKS[words.kind],
        "fine-tunable": "true",
        "format": words.facts.format,
    }
    if words.variant.network in _ARCHITECTURES:
        tags["network-architecture"] = _ARCHITECTURES[words.variant.network][1]
    if words.imagenet:
        tags["dataset"] = _IMAGENET_TAG
    if license_id := _license(words):
        tags["license"] = license_id if license_id in _TFHUB_LICENSES else "custom"
    return tags


def _license(words: _Words) -> str | None:
    """Returns the license of the values in lower case; None if nobody says, or nobody trained them.

    SPDX's `GPL-2.0-only` is what it once called, and others still call, `GPL-2.0`.
    """
    license_id = words.variant.license
    return license_id.lower().removesuffix("-only") if license_id and not words.facts.values.synthetic else None


def _front_matter(words: _Words) -> dict[str, Any]:
    license_id = _license(words)
    card: dict[str, Any] = {}
    if license_id in _HUGGING_FACE_LICENSES:
        card["license"] = license_id
    elif license_id:
        card |= {"license": "other", "license_name": license_id}
    card |= {
        "library_name": "tensorflow-hub",
        "pipeline_tag": _PIPELINES[words.kind],
        "tags": ["tensorflow", "saved-model", words.variant.network, "tf-slim", "vision"],
    }
    if words.facts.values.synthetic:
        card["tags"].append("untrained")
    if words.imagenet:
        card["datasets"] = [_IMAGENET_HUGGING_FACE]
        if words.claims_figures and words.kind == "classification":
            card |= {"metrics": ["accuracy"], "model-index": [_model_index(words)]}
    return card | {"kaggle": _kaggle(words, license_id)}


def _model_index(words: _Words) -> dict[str, Any]:
    published, checkpoint = words.variant.published, words.variant.checkpoint
    assert published and checkpoint
    metrics = [
        {"type": "accuracy", "name": "Top-1 accuracy in percent", "value": published.top1_percent},
        {"type": "accuracy", "name": "Top-5 accuracy in percent", "value": published.top5_percent},
    ]
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": _IMAGENET_HUGGING_FACE, "name": _IMAGENET_NAME, "split": "validation"},
        "metrics": metrics,
        "source": {"name": "the checkpoint's publishers", "url": checkpoint.url},
    }
    return {"name": words.facts.handle, "results": [result]}


def _kaggle(words: _Words, license_id: str | None) -> dict[str, Any]:
    """Returns the fields of Kaggle's `model-instance-metadata.json`; it replaces the slugs by its own names."""
    variation = words.variant.name.removeprefix(f"{words.variant.network}_")
    fields: dict[str, Any] = {
        "ownerSlug": _slug(words.variant.publisher),
        "modelSlug": _slug(words.variant.network),
        "instanceSlug": _slug(f"{variation}-{words.kind}"),
        "framework": "tensorFlow1" if words.tf1 else "tensorFlow2",
        "overview": words.description,
        "usage": f"See [the module's page]({words.url}.md).",
    }
    if license_id in _KAGGLE_LICENSES:
        fields["licenseName"] = _KAGGLE_LICENSES[license_id]
    trained_on = [] if words.facts.values.synthetic else [_one_line(words.variant.dataset)]
    return fields | {"fineTunable": True, "trainingData": trained_on, "modelInstanceType": "Unspecified"}


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def _inside(checkpoint: PublishedCheckpoint) -> str:
    """Returns the checkpoint with its archive's name before it: `mobilenet_v2_0.75_192/mobilenet_v2_0.75_192.ckpt`."""
    archive = re.sub(r"\.(tgz|tar\.gz)$", "", _file_name(checkpoint.url))
    return f"{archive}/{checkpoint.name}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _one_line(text: str) -> str:
    return printable(" ".join(text.split())) or "(unnamed)"


def _code(text: str) -> str:
    """Returns a stranger's text as a code span, the one place in Markdown where nothing but its end means anything.

    Example:
        >>> print(_code("flowers"), _code("<b>`"))
        `flowers` `` <b>` ``
    """
    line = _one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _address(url: str) -> str:
    """Returns an address without what would end a link, a comment or a string in a program.

    Example:
        >>> _address('https://models.example/a">-->(b)')
        'https://models.example/a%22%3E--%3E%28b%29'
    """
    return quote(url, safe=":/?#[]@!$&'*+,;=%~")


def _render(template: str, **words: Any) -> str:
    return _ENVIRONMENT.get_template(template).render(**words)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("hubexport.release"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
