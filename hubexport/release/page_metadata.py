"""What programs read in a module's page and card: the tags of tfhub.dev, and the front matter for other hubs."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from hubexport.release.page_facts import IMAGENET_NAME, PageFacts, one_line

# ImageNet's names on tfhub.dev, and on Hugging Face.
_IMAGENET_TAG = "imagenet-ilsvrc-2012-cls"
_IMAGENET_HUGGING_FACE = "imagenet-1k"

_TASKS = {"classification": "image-classification", "feature_vector": "image-feature-vector"}
_PIPELINES = {"classification": "image-classification", "feature_vector": "image-feature-extraction"}

# Hugging Face's names of libraries, and tags, by the format.
_LIBRARIES = {
    **dict.fromkeys(("hub", "saved_model_2"), "tensorflow-hub"),
    **{"onnx": "onnx", "tfjs": "tfjs", "tflite": "tflite"},
}
_FORMAT_TAGS = {
    **dict.fromkeys(("hub", "saved_model_2"), ("tensorflow", "saved-model")),
    **{"onnx": ("onnx",), "tfjs": ("tensorflow", "tfjs"), "tflite": ("tensorflow", "tflite")},
}
# Kaggle's names of frameworks.
_KAGGLE_FRAMEWORKS = {"onnx": "onnx", "tfjs": "tfJs", "tflite": "tfLite"}

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


def page_tags(m: PageFacts) -> dict[str, str]:
    """Returns the facts in comments at the head of a page. tfhub.dev refuses other keys, and most other values."""
    tags = {
        "asset-path": m.asset_path,
        **({"parent-model": m.parent} if m.parent else {}),
        "task": _TASKS[m.kind],
        "fine-tunable": "false" if m.parent else "true",
        "format": m.facts.format,
        "network-architecture": m.family.page_tag,
    }
    if m.imagenet:
        tags["dataset"] = _IMAGENET_TAG
    if license_id := _license(m):
        tags["license"] = license_id if license_id in _TFHUB_LICENSES else "custom"
    return tags


def _license(m: PageFacts) -> str | None:
    """Returns the license of the values in lower case; None if it is not known, or the values are synthetic.

    SPDX renamed `GPL-2.0` to `GPL-2.0-only`; others kept the old name.
    """
    license_id = m.variant.license
    return license_id.lower().removesuffix("-only") if license_id and not m.facts.values.synthetic else None


def front_matter(m: PageFacts) -> dict[str, Any]:
    """Returns the facts at the head of a card, for Hugging Face and, under `kaggle`, for Kaggle."""
    license_id = _license(m)
    card: dict[str, Any] = {}
    if license_id in _HUGGING_FACE_LICENSES:
        card["license"] = license_id
    elif license_id:
        card |= {"license": "other", "license_name": license_id}
    card |= {
        "library_name": _LIBRARIES[m.facts.format],
        "pipeline_tag": _PIPELINES[m.kind],
        "tags": [*_FORMAT_TAGS[m.facts.format], m.variant.network, "tf-slim", "vision"],
    }
    if m.facts.values.synthetic:
        card["tags"].append("untrained")
    if m.imagenet:
        card["datasets"] = [_IMAGENET_HUGGING_FACE]
        if metrics := _metrics(m):
            card |= {"metrics": ["accuracy"], "model-index": [_model_index(m, metrics)]}
    return card | {"kaggle": _kaggle(m, license_id)}


def _metrics(m: PageFacts) -> list[dict[str, Any]]:
    """Returns the published accuracies that hold for the module."""
    if not m.claims_figures or m.kind != "classification" or not m.variant.published:
        return []
    figures = {"Top-1": m.variant.published.top1_percent, "Top-5": m.variant.published.top5_percent}
    return [
        {"type": "accuracy", "name": f"{name} accuracy in percent", "value": value}
        for name, value in figures.items()
        if value is not None
    ]


def _model_index(m: PageFacts, metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    assert m.variant.checkpoint, "the figures are those of a published checkpoint"
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": _IMAGENET_HUGGING_FACE, "name": IMAGENET_NAME, "split": "validation"},
        "metrics": list(metrics),
        "source": {"name": "the checkpoint's publishers", "url": m.variant.checkpoint.url},
    }
    return {"name": m.facts.handle, "results": [result]}


def _kaggle(m: PageFacts, license_id: str | None) -> dict[str, Any]:
    """Returns the fields of Kaggle's `model-instance-metadata.json`. Kaggle replaces the slugs by its own names."""
    variation = m.variant.name.removeprefix(m.variant.network)
    fields: dict[str, Any] = {
        "ownerSlug": _slug(m.variant.publisher),
        "modelSlug": _slug(m.variant.network),
        "instanceSlug": _slug(f"{variation}-{m.kind}"),
        "framework": _KAGGLE_FRAMEWORKS.get(m.facts.format, "tensorFlow1" if m.tf1 else "tensorFlow2"),
        "overview": m.description,
        "usage": f"See [the module's page]({m.url}.md).",
    }
    if license_id in _KAGGLE_LICENSES:
        fields["licenseName"] = _KAGGLE_LICENSES[license_id]
    trained_on = [one_line(m.variant.dataset)] if m.dataset and not m.facts.values.synthetic else []
    return fields | {"fineTunable": m.parent is None, "trainingData": trained_on, "modelInstanceType": "Unspecified"}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
