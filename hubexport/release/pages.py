"""Writes what people read about a released module: its page in tfhub.dev's format, a model card, a publisher's page.

Pages pass the validator of tensorflow/tfhub.dev. Some of their words come from strangers, who wrote a config or named a
file. Templates get these only as code spans, escaped addresses and YAML, where they cannot be anything but text.
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
from hubexport.release.facts import ModuleFacts
from hubexport.variants import TF1_VERSIONS, PublishedCheckpoint, Variant

# The names of ImageNet: in our own configs, on tfhub.dev, on Hugging Face, and for people.
_IMAGENET = "ILSVRC-2012-CLS (ImageNet)"
_IMAGENET_TAG = "imagenet-ilsvrc-2012-cls"
_IMAGENET_HUGGING_FACE = "imagenet-1k"
_IMAGENET_NAME = "ImageNet (ILSVRC-2012-CLS)"

# The address at which TF-Slim's authors published their checkpoints.
_PRETRAINED = "https://storage.googleapis.com/mobilenet_v2/checkpoints/"

# The names of a network for people, and in tfhub.dev's tags/network_architecture.yaml.
_ARCHITECTURES = {"mobilenet_v2": ("MobileNet V2", "mobilenet-v2")}

_TASKS = {"classification": "image-classification", "feature_vector": "image-feature-vector"}
_PIPELINES = {"classification": "image-classification", "feature_vector": "image-feature-extraction"}

# tfhub.dev's tags/license.yaml; the tag of any other license is `custom`.
_TFHUB_LICENSES = (
    *("apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-nc-4.0", "cddl-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0"),
    *("lgpl-2.0", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0"),
)
# SPDX's names that Hugging Face's cards may use; any other license is `other`, with a name.
_HUGGING_FACE_LICENSES = (
    *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0"),
    *("cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc0-1.0", "epl-2.0", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0"),
    "unlicense",
)
# Kaggle's names of licenses, by SPDX's; it takes no others.
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
class _PageFacts:
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


def module_page(facts: ModuleFacts) -> str:
    """Returns a module's page, in Markdown as tfhub.dev wants it. The same facts give the same page."""
    page_facts = _page_facts(facts)
    return _render("module_page.md", m=page_facts, metadata=_metadata(page_facts))


def model_card(facts: ModuleFacts) -> str:
    """Returns a module's model card: the facts of its page, in the form that Hugging Face and Kaggle want.

    Returns:
        YAML between lines of dashes, then Markdown. The key `kaggle` has the fields of Kaggle's
        `model-instance-metadata.json`. The same facts give the same card.
    """
    page_facts = _page_facts(facts)
    front_matter = yaml.safe_dump(
        _front_matter(page_facts), sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=False
    )
    return _render("model_card.md", m=page_facts, front_matter=front_matter)


def publisher_page(publisher: str) -> str:
    """Returns a publisher's page, in Markdown. Without it, tfhub.dev refuses the pages of the publisher's modules."""
    return _render("publisher_page.md", publisher=publisher)


def _page_facts(facts: ModuleFacts) -> _PageFacts:
    variant, spec, values = facts.variant, facts.spec, facts.values
    imagenet = variant.dataset == _IMAGENET and not values.synthetic
    checkpoint = variant.checkpoint if values.published else None
    other = "classification" if spec.kind == "feature_vector" else "feature_vector"
    return _PageFacts(
        facts=facts,
        network=variant.network_for(spec.kind),
        architecture=_ARCHITECTURES.get(variant.network, (variant.network,))[0],
        url=_address(f"{facts.url}/{facts.handle}"),
        other=variant.handle(spec.model_copy(update={"kind": other})),
        depth=_two_decimals(variant.depth_multiplier),
        tf1=spec.version in TF1_VERSIONS,
        imagenet=imagenet,
        classes_known=imagenet and variant.num_classes == 1001 and not variant.labels,
        dataset=_IMAGENET_NAME if variant.dataset == _IMAGENET else _code(variant.dataset),
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


def _metadata(m: _PageFacts) -> dict[str, str]:
    """Returns the facts in comments at the head of a page. tfhub.dev refuses other keys, and most other values."""
    tags = {
        "asset-path": f"{m.url}.tar.gz",
        "task": _TASKS[m.kind],
        "fine-tunable": "true",
        "format": m.facts.format,
    }
    if m.variant.network in _ARCHITECTURES:
        tags["network-architecture"] = _ARCHITECTURES[m.variant.network][1]
    if m.imagenet:
        tags["dataset"] = _IMAGENET_TAG
    if license_id := _license(m):
        tags["license"] = license_id if license_id in _TFHUB_LICENSES else "custom"
    return tags


def _license(m: _PageFacts) -> str | None:
    """Returns the license of the values in lower case; None if it is not known, or the values are synthetic.

    SPDX renamed `GPL-2.0` to `GPL-2.0-only`; others kept the old name.
    """
    license_id = m.variant.license
    return license_id.lower().removesuffix("-only") if license_id and not m.facts.values.synthetic else None


def _front_matter(m: _PageFacts) -> dict[str, Any]:
    license_id = _license(m)
    card: dict[str, Any] = {}
    if license_id in _HUGGING_FACE_LICENSES:
        card["license"] = license_id
    elif license_id:
        card |= {"license": "other", "license_name": license_id}
    card |= {
        "library_name": "tensorflow-hub",
        "pipeline_tag": _PIPELINES[m.kind],
        "tags": ["tensorflow", "saved-model", m.variant.network, "tf-slim", "vision"],
    }
    if m.facts.values.synthetic:
        card["tags"].append("untrained")
    if m.imagenet:
        card["datasets"] = [_IMAGENET_HUGGING_FACE]
        if m.claims_figures and m.kind == "classification":
            card |= {"metrics": ["accuracy"], "model-index": [_model_index(m)]}
    return card | {"kaggle": _kaggle(m, license_id)}


def _model_index(m: _PageFacts) -> dict[str, Any]:
    published, checkpoint = m.variant.published, m.variant.checkpoint
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
    return {"name": m.facts.handle, "results": [result]}


def _kaggle(m: _PageFacts, license_id: str | None) -> dict[str, Any]:
    """Returns the fields of Kaggle's `model-instance-metadata.json`. Kaggle replaces the slugs by its own names."""
    variation = m.variant.name.removeprefix(f"{m.variant.network}_")
    fields: dict[str, Any] = {
        "ownerSlug": _slug(m.variant.publisher),
        "modelSlug": _slug(m.variant.network),
        "instanceSlug": _slug(f"{variation}-{m.kind}"),
        "framework": "tensorFlow1" if m.tf1 else "tensorFlow2",
        "overview": m.description,
        "usage": f"See [the module's page]({m.url}.md).",
    }
    if license_id in _KAGGLE_LICENSES:
        fields["licenseName"] = _KAGGLE_LICENSES[license_id]
    trained_on = [] if m.facts.values.synthetic else [_one_line(m.variant.dataset)]
    return fields | {"fineTunable": True, "trainingData": trained_on, "modelInstanceType": "Unspecified"}


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def _path_in_archive(checkpoint: PublishedCheckpoint) -> str:
    """Returns a checkpoint's path in its archive, like `mobilenet_v2_0.75_192/mobilenet_v2_0.75_192.ckpt`."""
    archive = re.sub(r"\.(tgz|tar\.gz)$", "", _file_name(checkpoint.url))
    return f"{archive}/{checkpoint.name}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _two_decimals(number: float) -> str:
    return f"{number:.2f}" if round(number, 2) == number else f"{number:g}"


def _one_line(text: str) -> str:
    return printable(" ".join(text.split())) or "(unnamed)"


def _code(text: str) -> str:
    """Returns a stranger's text as a code span, in which nothing has a meaning in Markdown but the span's end.

    Example:
        >>> print(_code("flowers"), _code("<b>`"))
        `flowers` `` <b>` ``
    """
    line = _one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}"


def _address(url: str) -> str:
    """Returns an address in which every character that could end a link, a comment or a string is escaped.

    Example:
        >>> _address('https://models.example/a">-->(b)')
        'https://models.example/a%22%3E--%3E%28b%29'
    """
    return quote(url, safe=":/?#[]@!$&'*+,;=%~")


def _render(template: str, **context: Any) -> str:
    return _ENVIRONMENT.get_template(template).render(**context)


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("hubexport.release"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
