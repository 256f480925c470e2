"""The pages of a release: which facts they state, which claims they avoid, and that their programs run."""

import ast
from collections.abc import Iterator
import dataclasses
from importlib.metadata import version
import json
import math
import os
import re
import shutil
import subprocess
import sys

from markdown_it import MarkdownIt
from markdown_it.token import Token
import pytest
import yaml

from hubexport import ModuleSpec, build_modules, list_variants, load_variant
from hubexport.deployment_spec import deployment_requests
from hubexport.networks.registry import FAMILIES
from hubexport.release.facts import ModuleFacts, ValuesOrigin, VerificationProof
from hubexport.release.pages import model_card, module_page, publisher_page
from hubexport.variants import KINDS, VERSIONS, LabelFile, PublishedCheckpoint, PublishedFigures, Variant
from tests.command import environment
from tests.data import DATA, needs_data, published_table

_URL = "https://models.example"
_PUBLISHED = ValuesOrigin(synthetic=False, weights="averaged", source="mobilenet_v2.tgz", published=True)
_SYNTHETIC = ValuesOrigin(synthetic=True, weights="only", source="synthetic:1", published=False)
_OWN = ValuesOrigin(synthetic=False, weights="averaged", source="model.ckpt-20000", published=False)
_SHA256 = "0123456789abcdef" * 4

# A checkout of tensorflow/tfhub.dev. Its tools/validator.py checks pages.
_TFHUB_DEV = os.environ.get("HUBEXPORT_TFHUB_DEV")


def _facts(variant: str | Variant, spec: str, values: ValuesOrigin = _PUBLISHED, url: str = _URL) -> ModuleFacts:
    found = load_variant(variant) if isinstance(variant, str) else variant
    return ModuleFacts(
        variant=found,
        spec=ModuleSpec.parse(spec),
        url=url,
        values=values,
        proof=VerificationProof(passed=27, not_applicable=1, tensorflow="2.15.1"),
        sha256=_SHA256,
        bytes=8699141,
        exporter="1.2.3",
        class_names=found.class_names() if spec.startswith("classification") else None,
    )


def _as_deployment(facts: ModuleFacts, name: str) -> ModuleFacts:
    """Returns the facts about a deployment of the module."""
    [request] = deployment_requests([name], {})
    deployed = request.of(facts.variant, facts.spec)
    return dataclasses.replace(facts, spec=deployed, class_names=None, has_class_names=facts.class_names is not None)


@pytest.fixture
def flowers(small, tmp_path) -> Variant:
    """A user's variant: another publisher and dataset, named classes, and no published checkpoint."""
    (tmp_path / "flowers.txt").write_text("daisy\nrose\ntulip\npoppy\nlily\niris\naster\n")
    return small.model_copy(
        update={
            "name": "flowers",
            "publisher": "me",
            "collection": "garden",
            "dataset": "my flowers",
            "labels": LabelFile(file=str(tmp_path / "flowers.txt")),
            "license": "CC-BY-4.0",
            "checkpoint": None,
        }
    )


def _every(values: ValuesOrigin) -> Iterator[ModuleFacts]:
    for variant in list_variants():
        for kind in KINDS:
            for number in variant.family.versions:
                yield _facts(variant, f"{kind}/{number}", values)


def _words(text: str) -> str:
    """Returns a page in one line without Markdown's marks, so that a fact may span lines."""
    without_links = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return " ".join(re.sub(r"[`*]|(?m:^#+ )", "", without_links).split())


# The facts in tfhub.dev's original pages, and how ours state them.
_BOTH_SEEDS = {
    "family": r"MobileNet V2 is a family of neural networks that classify images.* efficiently on the device",
    "related tasks": r"and do related tasks",
    "authors": r"Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen",
    "paper": r"Inverted Residuals and Linear Bottlenecks: .*Segmentation\".*, 2018",
    "multiplier": r"a depth multiplier scales the number of features in the convolutional layers",
    "image sizes": r"trained for images of other sizes: with smaller images it is faster",
    "implementation": r"mobilenet_v2 as TF-Slim implements it",
    "multiples of 8": r"rounds the number of features of each layer to a multiple of 8, .* not in the paper",
    "last convolution": r"below 1\.0 does not shrink the last convolutional layer, from which feature vectors",
    "trained": r"holds a trained instance of the network",
    "pre-trained": r"one of the pre-trained models of MobileNet V2",
    "training": r"were trained on ImageNet \(ILSVRC-2012-CLS\) for image classification",
    "code": r'hub\.Module\("https://models\.example/g.*"\) height, width = hub\.get_expected_image_size\(module\)',
    "batch shape": r"\[batch_size, height, width, 3\]",
    "range": r"in the range \[0, 1\], following the conventions for image input",
    "train tags": r'the graph version with the tags \{"train"\}, in which batch norm is in training mode',
}
_SEEDS = {
    ("mobilenet_v2_075_192", "feature_vector/2"): {
        "title": r"^Module google/imagenet/mobilenet_v2_075_192/feature_vector/2 ",
        "description": r"Image feature vectors from MobileNet V2 \(depth multiplier 0\.75\), trained on ImageNet",
        "address": r"Module URL: https://models\.example/google/imagenet/mobilenet_v2_075_192/feature_vector/2 ",
        "this one": r"a depth multiplier of 0\.75 and images of 192x192 pixels",
        "task": r"packaged to turn images into feature vectors",
        "twin": r"network with its classifier is the module google/imagenet/mobilenet_v2_075_192/classification/2\.",
        "checkpoint": r"the checkpoint mobilenet_v2_0\.75_192/mobilenet_v2_0\.75_192\.ckpt in",
        "signature": r"has TensorFlow Hub's common signature for image feature vectors",
        "output": r"features = module\(images\) # \[batch_size, num_features\]",
        "name": r'signature="image_feature_vector"',
        "features": r"feature vector of an image has num_features = 1280 numbers",
        "size": r"is fixed: height x width = 192 x 192 pixels",
        "fine-tuning": r"The module can be fine-tuned\.",
        "changelog": r"Version 1 Initial release\. Version 2 Fixes UPDATE_OPS for fine-tuning",
        "issues": r"tensorflow/hub issues 85 and 86",
    },
    ("mobilenet_v2_050_96", "classification/1"): {
        "title": r"^Module google/imagenet/mobilenet_v2_050_96/classification/1 ",
        "description": r"Image classification by MobileNet V2 \(depth multiplier 0\.50\), trained on ImageNet",
        "address": r"Module URL: https://models\.example/google/imagenet/mobilenet_v2_050_96/classification/1 ",
        "this one": r"a depth multiplier of 0\.5 and images of 96x96 pixels",
        "task": r"packaged for the image classification that it was trained for",
        "twin": r"the module google/imagenet/mobilenet_v2_050_96/feature_vector/1 is smaller: it has no classification",
        "checkpoint": r"the checkpoint mobilenet_v2_0\.5_96/mobilenet_v2_0\.5_96\.ckpt in",
        "signature": r"has TensorFlow Hub's common signature for image classification",
        "output": r"logits = module\(images\) # \[batch_size, num_classes\]",
        "name": r'signature="image_classification"',
        "classes": r"an index for each of the num_classes = 1001 classes of the training",
        "also vectors": r"signature image_feature_vector also returns feature vectors",
        "size": r"is fixed: height x width = 96 x 96 pixels",
        "fine-tuning": r"can be fine-tuned in principle, but training through a large classification layer may overfit",
        "changelog": r"Version 1 Initial release\.",
    },
}
_STATED = [
    pytest.param(*module, fact, pattern, id=f"{module[1]}-{fact}")
    for module, facts in _SEEDS.items()
    for fact, pattern in {**_BOTH_SEEDS, **facts}.items()
]


@pytest.mark.parametrize(("variant", "spec", "fact", "pattern"), _STATED)
@pytest.mark.parametrize("document", [module_page, model_card])
def test_each_fact_of_the_original_pages_is_stated(document, variant, spec, fact, pattern):
    """In the page, and in the card except for its title."""
    text = _words(document(_facts(variant, spec)))
    if document is model_card and fact == "title":
        pattern = pattern.removeprefix("^Module")
    assert re.search(pattern, text), text


@pytest.mark.parametrize(("variant", "spec"), _SEEDS)
@pytest.mark.parametrize(
    "address",
    [
        "https://arxiv.org/abs/1801.04381",
        "https://www.tensorflow.org/hub/common_signatures/images#input",
        "https://www.tensorflow.org/hub/tf1_hub_module#fine-tuning",
        "https://github.com/tensorflow/models/blob/master/research/slim/nets/mobilenet/README.md",
    ],
)
def test_the_links_of_the_original_pages_are_there(variant, spec, address):
    """They lead to the paper, the conventions and the checkpoints."""
    assert f"]({address})" in module_page(_facts(variant, spec))


@needs_data
@pytest.mark.parametrize(("variant", "spec"), _SEEDS)
def test_no_sentence_is_copied(variant, spec):
    """No ten words in a row are the original page's, except the paper's authors and title, and code."""
    original = (DATA.parent / "seeds" / f"{variant}_{spec.replace('/', '_')}.txt").read_text(encoding="utf-8")
    seen = original.split()
    runs = {" ".join(seen[start : start + 10]) for start in range(len(seen))}
    assert len(runs) > 250
    prose = re.sub(r"```.*?```|^  \* Mark Sandler.*?$", "\n", module_page(_facts(variant, spec)), flags=re.S | re.M)
    ours = _words(prose).split()
    assert not runs & {" ".join(ours[start : start + 10]) for start in range(len(ours))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", VERSIONS)
def test_the_changelog_ends_with_the_version(kind, number):
    """It says what changed in each version."""
    page = module_page(_facts("mobilenet_v2_035_96", f"{kind}/{number}"))
    changelog = page[page.index("## Changelog") : page.index("## Proof")]
    assert re.findall(r"^#### Version (.*)$", changelog, re.M) == [str(n) for n in range(1, number + 1)]
    changes = {2: "UPDATE_OPS", 3: "tensorflow-hub>=0.2.0", 4: "`hub.Module` cannot", 5: "`serving_default`"}
    assert [n for n, change in changes.items() if change in changelog] == list(range(2, number + 1))
    assert ("persistent=True" in changelog) == (number == 5)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (1, "Version 1 is the TF1 Hub format; its images have a fixed size."),
        (4, "Version 4 is a SavedModel of TensorFlow 2; its images have a fixed size."),
        (5, "Version 5 is a SavedModel of TensorFlow 2 with the signature serving_default; its images have a fixed"),
    ],
)
@pytest.mark.parametrize("document", [module_page, model_card])
def test_own_modules_have_no_history(flowers, document, number, said):
    """What changed on tfhub.dev is not what changed in a module that was never there, whoever its handle names."""
    built_in = load_variant("mobilenet_v2_075_192")
    for own in (flowers, flowers.model_copy(update={"publisher": "google", "collection": "imagenet"})):
        text = document(_facts(own, f"classification/{number}", _OWN))
        stands_for = (
            "The version stands for a format that modules of all publishers have, and counts no changes of this"
        )
        assert f"Version {stands_for} one. {said}" in _words(text)
        assert not any(word in text for word in ("tfhub.dev's", "Initial release", "## Changelog", "## Versions"))
    theirs = built_in.model_copy(update={"publisher": "me"})
    assert "Initial release" not in document(_facts(theirs, f"classification/{number}"))
    assert "Initial release" in document(_facts(built_in, f"classification/{number}"))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("mobilenet_v1_025_128", "any height and width."),
        ("inception_v3", "any height and width of at least 75 x 75 pixels."),
    ],
)
def test_own_modules_say_which_images_their_version_takes(name, sizes):
    """From version 3 on, those of some families take any size."""
    own = load_variant(name).model_copy(update={"publisher": "me"})
    text = module_page(_facts(own, "feature_vector/3"))
    assert f"Version 3 is the TF1 Hub format; its images have {sizes}" in text


_OPEN = r"By default, the size of the images is height x width = {0} x {0} pixels\. Images of other sizes work as well"
_FIXED = r"The size of the images is fixed: height x width = {0} x {0} pixels\."
_NO_V2 = r"Version 1 Initial release\. Version 3 Takes images of any height and width\. For fine-tuning, .* 0\.99"
_BENEATH_1 = (
    r"Version 1 Initial release\. When applied more than once, it updates batch norm for each application\. \w+ "
)
# Facts that tfhub.dev's pages of two more families stated, and some from TF-Slim's own graphs.
_MORE_FAMILIES = {
    ("mobilenet_v1_025_128", "classification/5"): {
        "description": r"Image classification by MobileNet V1 \(depth multiplier 0\.25\), trained on ImageNet",
        "family": r"MobileNet V1 is a family of neural networks that classify images efficiently on the device",
        "authors": r"Andrew G\. Howard, Menglong Zhu, .*, Marco Andreetto, Hartwig Adam: \"MobileNets: .*2017",
        "multiplier": r"a depth multiplier scales the number of features in all convolutional layers",
        "this one": r"with a depth multiplier of 0\.25 and images of 128x128 pixels by default",
        "checkpoint": r"mobilenet_v1_0\.25_128\.ckpt in the published archive mobilenet_v1_0\.25_128\.tgz, one of the "
        r"pre-trained models of MobileNet V1",
        "figures": r"\| top-1 accuracy on ImageNet's validation images \| 41\.5 % \| \| top-5 accuracy \| 66\.3 % \| "
        r"\| multiply-adds for one image \| 14 million \| \| parameters \| 0\.47 million \| (?!\|)",
        "costs": r"computes 13\.6 million multiply-adds",
        "values": r"holds 475,801 values; 470,329 of them are trainable",
        "classes": r"num_classes = 1001 classes",
        "size": _OPEN.format(128),
        "decay": r"weight decay \(4e-5 on all convolution weights except depthwise ones\)",
        "momentum": r"TF-Slim trains with 0\.9997\.",
        "changelog": _NO_V2
        + r".*Version 4 Becomes .* Version 5 Adds the signature serving_default\. Fixes use with tf",
    },
    ("mobilenet_v1_100_224", "feature_vector/1"): {
        "features": r"num_features = 1024 numbers",
        "size": _FIXED.format(224),
        "momentum": r"\(their decay coefficient\) is 0\.9997\.",
        "changelog": _BENEATH_1,
    },
    ("mobilenet_v1_050_160", "classification/1"): {
        "train tags": r"in which batch norm is in training mode and dropout precedes the logits, and set",
    },
    ("resnet_v2_50", "classification/3"): {
        "description": r"Image classification by ResNet V2 50, trained on ImageNet \(ILSVRC-2012-CLS\)\.",
        "family": r"ResNet V2 is a family of deep neural networks that classify images, with different numbers",
        "authors": r"Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: \"Identity Mappings in .* Networks\", 2016",
        "first paper": r"Deep Residual Learning for Image Recognition",
        "this one": r"resnet_v2_50 as TF-Slim implements it, for images of 224x224 pixels by default\. It has 50 ",
        "checkpoint": r"resnet_v2_50_2017_04_14/resnet_v2_50\.ckpt in .*, one of the pre-trained models of TF-Slim",
        "figures": r"validation images \| 75\.6 % \| \| top-5 accuracy \| 92\.8 % \| They measured accuracy on images "
        r"of 299x299 pixels, not 224x224",
        "costs": r"computes 3,482\.3 million multiply-adds",
        "values": r"have 25,524,969 weights and biases\. With batch norm, .* holds 25,615,849 values; 25,570,409",
        "size": _OPEN.format(224),
        "decay": r"weight decay: 1e-4 on all convolution weights\)",
        "train tags": r"in which batch norm is in training mode, and set",
        "momentum": r"TF-Slim trains with 0\.997\.",
        "changelog": _NO_V2,
    },
    ("vgg_16", "classification/3"): {
        "family": r"VGG is a family of neural networks that classify images, .* The networks are described in Karen",
        "values": r"The published values were trained with Caffe by the paper's authors, and converted\. They have no "
        r"background class\.",
        "costs": r"computes 15,470\.3 million multiply-adds in its convolutions\. They have 138,357,544 weights and "
        r"biases, all of which are trainable\.",
        "classes": r"num_classes = 1000 classes of the training\.",
        "size": _FIXED.format(224),
        "means": r"in the range \[0, 1\], .* scales them to the range \[0, 255\], and subtracts the mean of each color "
        r"in the training, 123\.68, 116\.78 and 103\.94\.",
        "train tags": r"in which dropout precedes the features and the logits, and set",
        "decay": r"Add the regularization losses \(TF-Slim's weight decay: 5e-4 on all convolution weights\)",
        "momentum": r"The network has no batch norm, so batch_norm_momentum has no effect\.",
        "changelog": r"Version 3 Initial release\. Needs tensorflow-hub>=0\.2\.0\. ",
    },
    ("vgg_19", "feature_vector/5"): {
        "features": r"num_features = 4096 numbers",
        "decay": r"The model's losses then include TF-Slim's weight decay \(5e-4",
        "program": r"hub\.KerasLayer\(path, trainable=True\), tf\.keras",
        "training mode": r"Set trainable=True\. In training, dropout precedes the features\. The model's losses then",
        "changelog": r"Version 5 Becomes a TensorFlow 2 SavedModel; hub\.Module cannot load it\. Adds the ",
    },
    ("resnet_v1_50_caffe", "feature_vector/5"): {
        "title": r"Image feature vectors from ResNet V1 50 from Caffe, trained on",
        "checkpoint": r"resnet_v1_50_2016_08_28/resnet_v1_50\.ckpt in .*, one of the pre-trained models of TF-Slim",
        "means": r"scales them to the range \[0, 255\], and subtracts the mean of each color",
        "size": _OPEN.format(224),
        "momentum": r"TF-Slim trains with 0\.997\.",
        "values": r"The published values were trained with Caffe by the paper's authors, and converted\. They have no ",
    },
    ("mobilenet_edgetpu_100_224", "feature_vector/5"): {
        "paper": r"The networks are described in Suyog Gupta, Berkin Akin: \"Accelerator-aware Neural .*, 2020\.",
    },
    ("inception_v3", "classification/1"): {
        "authors": r"Christian Szegedy, Vincent Vanhoucke, .*: \"Rethinking the Inception Architecture",
        "head": r"The auxiliary classifier, which serves the first training alone, is left out\.",
        "values": r"holds 23,853,833 values",
        "costs": r"computes 5,713\.2 million multiply-adds",
        "size": _FIXED.format(299),
        "train tags": r"in which batch norm is in training mode and dropout precedes the logits, and set",
        "changelog": _BENEATH_1,
    },
    ("inception_resnet_v2", "classification/5"): {
        "size": r"By default, .* = 299 x 299 pixels\. Images of other sizes of at least 75 x 75 pixels work as well",
        "decay": r"\(4e-5 on all convolution and dense weights and biases\)",
        "costs": r"million multiply-adds in its convolutions and dense layers\.",
        "changelog": r"Version 3 Takes images of any height and width of at least 75 x 75 pixels\.",
    },
    ("mobilenet_v3_large_075_224", "feature_vector/5"): {
        "description": r"Image feature vectors from MobileNet V3 large \(depth multiplier 0\.75\)",
        "features": r"num_features = 1280 numbers",
        "figures": r"\| top-1 accuracy on ImageNet's validation images \| 73\.3 % \| \| multiply-adds for one image "
        r"\| 155 million",
        "size": _FIXED.format(224),
        "changelog": r"Version 5 Initial release\. ",
    },
    ("resnet_v2_152", "feature_vector/1"): {
        "this one": r"for images of 224x224 pixels\. It has 152 layers\.",
        "features": r"num_features = 2048 numbers",
        "costs": r"computes 10,904\.6 million multiply-adds",
        "values": r"holds 58,331,648 values",
        "size": _FIXED.format(224),
        "changelog": _BENEATH_1,
    },
}


@pytest.mark.parametrize(
    ("variant", "spec", "fact", "pattern"),
    [
        pytest.param(*module, fact, pattern, id=f"{module[0]}-{module[1]}-{fact}")
        for module, facts in _MORE_FAMILIES.items()
        for fact, pattern in facts.items()
    ],
)
@pytest.mark.parametrize("document", [module_page, model_card])
def test_pages_state_the_facts_of_their_own_family(document, variant, spec, fact, pattern):
    """Figures are those of the publishers' tables, counts those of TF-Slim's graphs."""
    text = _words(document(_facts(variant, spec)))
    assert re.search(pattern, text), text


@pytest.mark.parametrize("document", [module_page, model_card])
@pytest.mark.parametrize("values", [_PUBLISHED, _OWN, _SYNTHETIC])
@pytest.mark.parametrize("name", ["vgg_16", "resnet_v1_50_caffe"])
def test_pages_of_own_variants_do_not_say_what_is_true_of_the_published_ones(flowers, document, values, name):
    """Such as who trained them, and how many classes they have."""
    published = load_variant(name)
    own = flowers.model_copy(update={"network": name, "family_parameters": published.family_parameters})
    own = own.model_copy(update={"image_size": 224})
    address = published.checkpoint.model_copy(update={"url": "https://garden.example/flowers.tgz"})
    of_theirs = published.model_copy(update={"num_classes": 17, "labels": None})
    for variant in (own, own.model_copy(update={"checkpoint": address}), of_theirs):
        text = document(_facts(variant, "classification/5", values))
        assert "published values" not in text and "trained with Caffe" not in text and "ackground" not in text
    assert "trained with Caffe by the paper" in document(_facts(published, "classification/5", values))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", FAMILIES)
def test_pages_say_nothing_that_is_not_true_of_their_family(network, kind):
    """Of depth multipliers, dropout, batch norm, means, and versions that it does not have; or of MobileNet V2."""
    variant = next(variant for variant in list_variants() if variant.network == network)
    family, layers = variant.family, {type(op).__name__ for op in variant.network_for(kind).ops}
    for number in family.versions:
        for document in (module_page, model_card):
            text = document(_facts(variant, f"{kind}/{number}"))
            assert ("MobileNet V2" in text) == ("MobileNet V2" in family.about)
            assert re.findall("^#+ Version ([1-5])$", text, re.M) == [
                str(one) for one in family.versions if one <= number
            ]
            assert ("issues/85" in text) == (2 in family.versions and number > 1)
            assert ("Images must have" in text) == (document is model_card and not family.takes_any_size(number))
            assert ("The size of the images is fixed" in text) == (not family.takes_any_size(number))
            assert ("depth multiplier" in text) == ("depth_multiplier" in family.parameters.model_fields)
            assert ("dropout" in text) == ("Dropout" in layers)
            assert (
                ("has no batch norm" in text) == ("BatchNorm" not in layers) == ("momentum of batch norm" not in text)
            )
            assert ("subtracts the mean" in text) == (variant.num_classes == 1000)
            assert "None" not in text.replace("[None", "")


# What `totals.json` calls variants that have other names here: TF-Slim's own ResNet V1 is the one with Caffe's classes.
_IN_TOTALS = {
    **{f"resnet_v1_{layers}": f"resnet_v1_{layers}__1001" for layers in (50, 101, 152)},
    **{f"resnet_v1_{layers}_caffe": f"resnet_v1_{layers}" for layers in (50, 101, 152)},
}
# Multiply-adds of an auxiliary head, which TF-Slim's graphs have, from its layers in `families.md`.
_AUXILIARY_MULTIPLY_ADDS = {"inception_v3": 5_683_968, "inception_v4": 6_503_168, "inception_resnet_v2": 6_707_968}


def _auxiliary_sizes(name: str) -> tuple[int, int, int]:
    """Returns the numbers of weights and biases, of trained values and of all values in a network's auxiliary head."""
    weights = trained = values = 0
    for line in (DATA / "networks" / "variables" / f"{name}.txt").read_text().splitlines():
        variable, shape, is_trained, *_ = line.split("\t")
        if "/AuxLogits/" in variable:
            size = math.prod(json.loads(shape))
            values += size
            trained += size * (is_trained == "True")
            weights += size * ("/BatchNorm/" not in variable)
    return weights, trained, values


@needs_data
def test_counts_in_pages_are_those_of_tf_slims_graphs():
    """Values, trainable values, weights and multiply-adds, in the pages of all networks, without auxiliary heads."""
    totals = json.loads((DATA / "networks" / "totals.json").read_text())
    checked = set()
    for variant in list_variants():
        name = _IN_TOTALS.get(variant.name, variant.name)
        if name not in totals:
            continue
        told = totals[name]
        checked.add(variant.network)
        keys = ("params_no_bn_infer", "trainable_params_infer", "params_infer")
        head = _auxiliary_sizes(name) if name in _AUXILIARY_MULTIPLY_ADDS else (0, 0, 0)
        weights, trained, values = (told[key] - size for key, size in zip(keys, head, strict=True))
        multiply_adds = told["macs_infer"] - _AUXILIARY_MULTIPLY_ADDS.get(name, 0)
        page = module_page(_facts(variant, "classification/5"))
        assert f"have {weights:,} weights and biases" in page, variant.name
        counts = f"holds {values:,} values; {trained:,} of them are trainable"
        assert (counts if values > weights else "all of which are trainable") in page, variant.name
        assert f"computes {multiply_adds / 1e6:,.1f} million multiply-adds" in page, variant.name
        vectors = module_page(_facts(variant, f"feature_vector/{variant.family.versions[0]}"))
        total = "They have" if values == weights else "holds"
        assert f"{total} {told['params_feature']:,} " in vectors, variant.name
        assert f"computes {told['macs_feature'] / 1e6:,.1f} million multiply-adds" in vectors, variant.name
    assert checked == {*FAMILIES} - {"mobilenet_v2"}


@pytest.mark.parametrize(
    ("figures", "rows"),
    [
        ({"top1_percent": 70.0}, ["top-1 accuracy on ImageNet's validation images | 70.0 %"]),
        ({"top5_percent": 90.0}, ["top-5 accuracy on ImageNet's validation images | 90.0 %"]),
        ({"macs_millions": 12}, ["multiply-adds for one image | 12 million"]),
        ({"parameters_millions": 1.5}, ["parameters | 1.5 million"]),
        ({"pixel1_cpu_ms": 2.5}, ["time for one image on a Pixel 1 | 2.5 ms"]),
        ({}, None),
        ({"accuracy_image_size": 299}, None),
    ],
)
def test_pages_have_the_figures_that_publishers_give(figures, rows):
    """And no others. Cards have an accuracy only if there is one."""
    own = load_variant("mobilenet_v2_100_224").model_copy(update={"published": PublishedFigures(**figures)})
    facts = _facts(own, "classification/5")
    for text in (module_page(facts), model_card(facts)):
        assert re.findall(r"^\| (.* \| .*) \|$", text, re.M) == [*(["--- | ---"] if rows else []), *(rows or [])]
        assert ("report these figures" in text) == (rows is not None) and "None" not in text.replace("[None", "")
    head = _head(model_card(facts))
    measured = [value for name, value in figures.items() if name.startswith("top")]
    assert ("model-index" in head) == ("metrics" in head) == bool(measured)
    if measured:
        assert [metric["value"] for metric in head["model-index"][0]["results"][0]["metrics"]] == measured
    assert ("The figures above are the publishers'" in model_card(facts)) == (rows is not None)


@pytest.mark.parametrize(
    ("number", "form", "loads", "momentum"),
    [
        (1, "hub", "tensorflow-hub 0.1.0 to 0.15", "is 0.997."),
        (2, "hub", "tensorflow-hub 0.1.0 to 0.15", "is 0.997."),
        (3, "hub", "tensorflow-hub 0.2.0 to 0.15", "is 0.99 unless"),
        (4, "saved_model_2", "TensorFlow 2.4 to 2.21", "is 0.99 unless"),
        (5, "saved_model_2", "TensorFlow 2.4 to 2.21", "is 0.99 unless"),
    ],
)
def test_the_page_of_each_version_says_what_loads_it_and_how_it_trains(number, form, loads, momentum):
    """As docs/modules.md promises."""
    page = module_page(_facts("mobilenet_v2_035_96", f"feature_vector/{number}"))
    assert f"\n<!-- format: {form} -->\n" in page
    assert loads in page and momentum in page
    assert ("with_bn_hparams" in page) == (number == 3)
    assert ("hub.KerasLayer" in page) == (number > 3)
    assert ("= hub.Module(" in page) == (number < 4)
    assert ('signatures["serving_default"]' in page) == (number == 5)


# The tags in tensorflow/tfhub.dev's tags/*.yaml that image modules can have.
_ALLOWED = {
    "dataset": {"imagenet-ilsvrc-2012-cls"},
    "format": {"hub", "saved_model_2"},
    "fine-tunable": {"true"},
    "license": {"apache-2.0", "bsd-2-clause", "bsd-3-clause", "gpl-2.0", "gpl-3.0", "lgpl-2.0", "lgpl-2.1", "lgpl-3.0"}
    | {"mit", "mpl-2.0", "cddl-1.0", "epl-2.0", "cc-by-nc-4.0", "custom"},
    "network-architecture": {"mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "inception-v1", "inception-v2"}
    | {"inception-v3", "inception-v4", "inception-resnet-v2", "resnet-v1-50", "resnet-v1-101", "resnet-v1-152"}
    | {"resnet-v2-50", "resnet-v2-101", "resnet-v2-152", "vgg-style"}
    | {"nasnet-a-mobile", "nasnet-a-large", "pnasnet-5-large", "cnn"},
    "task": {"image-classification", "image-feature-vector"},
}


def _tags(page: str) -> dict[str, str]:
    """Returns the tags in comments at the head of a page, by the rules of tfhub.dev's documentation.

    A title, one line that describes, an empty line, comments, and nothing else before the first heading.
    """
    lines = page.split("\n")
    assert re.fullmatch(r"# Module [a-z\d-]+(/[\w.-]+)+/\d+", lines[0])
    assert lines[1] and not lines[1].startswith(("<!--", "#", " ")) and not lines[2]
    tags: dict[str, str] = {}
    for line in lines[3:]:
        if line.startswith("#"):
            break
        if line:
            matched = re.fullmatch(r"<!-- ([a-z-]+): (\S+) -->", line)
            assert matched and matched[1] not in tags, line
            tags[matched[1]] = matched[2]
    return tags


@pytest.mark.parametrize(
    "values",
    [pytest.param(_PUBLISHED, marks=pytest.mark.slow), pytest.param(_SYNTHETIC, marks=pytest.mark.slow), _OWN],
    ids=["published", "synthetic", "own"],
)
def test_all_pages_follow_the_rules_of_tfhub(values):
    """The head of the page, its keys and their values, for every built-in variant, kind and version."""
    count = 0
    for facts in _every(values):
        page = module_page(facts)
        assert page.startswith(f"# Module {facts.handle}\n")
        tags = _tags(page)
        assert tags.pop("asset-path") == f"{_URL}/{facts.handle}.tar.gz"
        assert {"fine-tunable", "format", "task"} <= set(tags)
        assert all(value in _ALLOWED[key] for key, value in tags.items())
        assert tags["task"] == {"c": "image-classification", "f": "image-feature-vector"}[facts.spec.kind[0]]
        assert ("dataset" in tags) == (not values.synthetic)
        assert ("license" in tags) == (not values.synthetic and facts.variant.license is not None)
        assert page.endswith(".\n") and "\n\n\n" not in page and not re.search(r"[ \t]$", page, re.M)
        count += 1
    # 22 variants of MobileNet V2 in five versions, 26 in the four of others on tfhub.dev, 4 of MobileNet V3 in one, and
    # 10 that tfhub.dev did not have in two.
    assert count == 2 * (23 * 5 + 28 * 4 + 4 * 1 + 11 * 2)


@pytest.mark.skipif(not _TFHUB_DEV, reason="HUBEXPORT_TFHUB_DEV names no checkout of tensorflow/tfhub.dev")
@pytest.mark.parametrize("values", [_PUBLISHED, _SYNTHETIC], ids=["published", "synthetic"])
def test_tfhubs_own_validator_passes_all_pages(tmp_path, values, flowers):
    """With its allowed values. Files added to the checkout count as changed, so asset paths are validated, too."""
    root = tmp_path / "tfhub.dev"
    subprocess.run(["git", "clone", "-q", _TFHUB_DEV, root], check=True)
    shutil.rmtree(root / "assets" / "docs", ignore_errors=True)
    pages = [*_every(values), *(_facts(flowers, f"{kind}/5", _OWN) for kind in KINDS)]
    for facts in pages:
        publisher, _, name = facts.handle.partition("/")
        page = root / "assets" / "docs" / publisher / "models" / f"{name}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(module_page(facts), encoding="utf-8")
        (root / "assets" / "docs" / publisher / f"{publisher}.md").write_text(
            publisher_page(publisher), encoding="utf-8"
        )
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    command = [sys.executable, "tools/validator.py", "--verbosity=0"]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Found {len(pages) + 2} matching files - all validated successfully" in done.stderr
    assert "Skipping asset path validation" not in done.stderr


def test_a_publishers_page_has_a_title_a_description_and_no_tags():
    """tfhub.dev asks for no more."""
    title, description, empty, heading, *_ = publisher_page("me").split("\n")
    assert title == "# Publisher me"
    assert description and not empty and heading.startswith("#")
    assert "<!--" not in publisher_page("me")


@needs_data
def test_figures_are_the_publishers():
    """Each row of the publishers' table is in every page and card. Our own counts are of the same size."""
    for row in published_table():
        for document in (module_page, model_card):
            text = document(_facts(row["variant"], "classification/3"))
            for column, unit in [("top1_percent", "%"), ("top5_percent", "%"), ("pixel1_cpu_ms", "ms")]:
                assert f" | {row[column]} {unit} |\n" in text
            assert f" | {row['macs_millions']} million |\n" in text
            assert f" | {row['parameters_millions']} million |\n" in text
        computed = re.search(r"computes ([\d.]+) million multiply-adds", text)
        weights = re.search(r"convolutions have ([\d,]+) weights and biases", text)
        assert computed and int(float(computed[1])) == int(row["macs_millions"])
        assert weights and int(weights[1].replace(",", "")) // 10_000 == round(100 * float(row["parameters_millions"]))


@pytest.mark.parametrize("document", [module_page, model_card])
@pytest.mark.parametrize("spec", ["classification/5", "feature_vector/2"])
def test_the_page_of_an_untrained_module_says_so(document, spec):
    """In the first line after the title, and once more. It makes no claims that need trained values."""
    text = document(_facts("mobilenet_v2_100_224", spec, _SYNTHETIC))
    description = text[text.index("\n# Module" if text.startswith("\n") else "# ") :].split("\n", 3)[1:3]
    assert any("UNTRAINED: its values are made up" in line for line in description)
    assert text.count("UNTRAINED") >= 2 and "`synthetic:1`" in text and "an untrained instance" in text
    for claim in (
        "a trained",
        "was trained",
        "71.8",
        "91.0",
        "Apache",
        "apache",
        "imagenet-",
        ".ckpt",
        "ImageNetLabels",
    ):
        assert claim not in text, claim


@pytest.mark.parametrize("document", [module_page, model_card])
def test_own_values_claim_no_published_accuracy(document, flowers):
    """Even if the config has published figures. The page names the file of the values and the config's dataset."""
    text = document(_facts("mobilenet_v2_100_224", "classification/5", _OWN))
    assert "read from `model.ckpt-20000`, not from a published archive" in text
    assert "According to the module's config, they were trained on ImageNet (ILSVRC-2012-CLS)" in text
    for claim in ("71.8", "91.0", "mobilenet_v2_1.0_224.ckpt", "pre-trained", "model-index"):
        assert claim not in text, claim
    assert "were trained on `my flowers`" in document(_facts(flowers, "classification/5", _OWN))
    unpinned = document(_facts("resnet_v2_50", "classification/5", _OWN))
    assert (
        "this page cannot tell whether that is the one" in unpinned and "not from a published archive" not in unpinned
    )


@pytest.mark.parametrize("deployment", ["onnx", "tfjs", "tflite"])
def test_the_page_of_a_deployment_says_where_its_names_are(flowers, deployment):
    """If it has some: the page knows."""
    named = _as_deployment(_facts(flowers, "classification/5", _OWN), deployment)
    assert "The names of the classes are in " in module_page(named)
    assert "names of the classes" not in module_page(dataclasses.replace(named, has_class_names=False))


@pytest.mark.parametrize("document", [module_page, model_card])
def test_the_accuracy_of_a_deployment_is_its_own(document, flowers):
    """That of the module it was made from may be known: only of the model itself, the page says that it is not."""
    module = _facts(flowers, "classification/5", _OWN)
    assert "Their accuracy is unknown." in document(module)
    deployment = document(_as_deployment(module, "onnx"))
    assert "The accuracy of this model was not measured." in deployment and "accuracy is unknown" not in deployment


@pytest.mark.parametrize("document", [module_page, model_card])
def test_raw_values_do_not_claim_the_accuracy_of_averages(document):
    """If there may be averages, the published figures were measured with them."""
    raw = dataclasses.replace(_PUBLISHED, weights="raw", requested="raw")
    text = document(_facts("mobilenet_v2_100_224", "classification/5", raw))
    assert "plain values after the last training step, not moving averages" in text and "71.8" not in text
    assert "mobilenet_v2_1.0_224/mobilenet_v2_1.0_224.ckpt" in text
    averaged = document(_facts("mobilenet_v2_100_224", "classification/5"))
    assert "They are the moving averages" in averaged and "71.8" in averaged


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("raw", "values under the variables' own names: the checkpoint has no moving averages beside them"),
        ("only", "The checkpoint stores one value for each variable"),
        ("83 averaged, 54 raw", "or plain values where the checkpoint has no average: 83 averaged, 54 raw"),
    ],
)
@pytest.mark.parametrize("document", [module_page, model_card])
def test_the_best_values_of_a_checkpoint_have_its_published_accuracy(document, weights, said):
    """Which these are, the manifest says. Checkpoints of 2017 have no averages."""
    text = document(_facts("resnet_v2_50", "classification/3", dataclasses.replace(_PUBLISHED, weights=weights)))
    assert said in text and "| 75.6 % |" in text


@pytest.mark.parametrize("document", [module_page, model_card])
@pytest.mark.parametrize("spec", ["classification/2", "feature_vector/5", "classification/5/onnx"])
@pytest.mark.parametrize("values", [_OWN, _PUBLISHED, _SYNTHETIC])
def test_an_unknown_dataset_is_not_named(flowers, document, spec, values):
    """A config that `build --name` printed says `unknown`: pages say that they cannot tell."""
    variant = flowers.model_copy(update={"dataset": "unknown"})
    if values.published:
        variant = variant.model_copy(update={"checkpoint": load_variant("mobilenet_v2_075_192").checkpoint})
    facts = _facts(variant, spec.removesuffix("/onnx"), values)
    if spec.endswith("/onnx"):
        facts = _as_deployment(facts, "onnx")
    text = document(facts).replace("accuracy is unknown", "")
    assert "unknown" not in text
    trained = not values.synthetic
    assert ("trained on a dataset that this release does not name" in text) == trained
    assert ("for image classification; the module's config does not say on which images." in text) == trained
    if document is model_card:
        assert _head(text)["kaggle"]["trainingData"] == []
        assert ("This release does not say what it was trained on." in text) == trained
        intended = "Use it to classify images into its 7 classes, or fine-tune it"
        assert (intended in text) == (trained and spec in ("classification/2", "classification/5"))


def test_the_page_of_an_own_variant_has_its_own_facts(flowers):
    """Handle, classes, labels, license and dataset. Tags for which tfhub.dev knows no value are left out."""
    page = module_page(_facts(flowers, "classification/5", _OWN))
    assert page.startswith("# Module me/garden/flowers/classification/5\nImage classification by MobileNet V2 ")
    assert "`num_classes` = 7 classes" in page
    assert "in the module's `assets/labels.txt`, one per line, from `daisy` for class 0 to `aster` for class 6." in page
    assert "ImageNet" not in page.replace("common_signatures", "") and "background" not in page
    assert "Their license is CC-BY-4.0." in page
    tags = _tags(page)
    assert tags["license"] == "custom" and "dataset" not in tags
    assert "labels.txt" not in module_page(_facts(flowers, "feature_vector/5", _OWN))
    unlicensed = flowers.model_copy(update={"license": None})
    assert "icense" not in module_page(_facts(unlicensed, "classification/5", _OWN))


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        (
            "mobilenet_v2_100_224",
            "from `background` for class 0 to `toilet tissue, toilet paper, bathroom tissue` for class 1000.",
        ),
        (
            "vgg_16",
            "from `tench, Tinca tinca` for class 0 to `toilet tissue, toilet paper, bathroom tissue` for class 999.",
        ),
    ],
)
def test_pages_say_where_imagenets_names_are_and_whether_there_is_a_background(variant, said):
    """In the module itself; no address is needed."""
    page = module_page(_facts(variant, "classification/5"))
    assert f"in the module's `assets/labels.txt`, one per line, {said}" in page and "ImageNetLabels" not in page


def test_an_own_published_checkpoint_is_named_by_its_archive(flowers):
    """It is not called one of TF-Slim's."""
    checkpoint = PublishedCheckpoint(
        url="https://a.example/x/flowers.tar.gz?key=1", sha256="0" * 64, name="model.ckpt-7"
    )
    figures = PublishedFigures(macs_millions=1, parameters_millions=0.5, top1_percent=93.5, top5_percent=99.0)
    own = flowers.model_copy(update={"checkpoint": checkpoint, "published": figures})
    page = module_page(_facts(own, "classification/5", dataclasses.replace(_PUBLISHED, weights="only")))
    assert (
        "`flowers/model.ckpt-7` in the published archive [`flowers.tar.gz`](https://a.example/x/flowers.tar.gz?key=1)."
        in page
    )
    assert "| 93.5 % |" in page and "pre-trained" not in page and "Pixel" not in page and "ImageNet" not in page


def _tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").parse(text):
        yield token
        yield from token.children or []


_HOSTILE = [
    "--> <script>alert(1)</script> <!--",
    "`code` ``more`` [link](https://evil.example) ![image](x)",
    "# heading\n\n---\nlicense: mit\n# Module google/x/1",
    "* list\n- other\n1. third\n```python\nimport os\n```",
    "a | b | c\n| --- |\n<b>bold</b> &amp; **x** _y_ \\` {{ 7 * 7 }} {% raw %}",
    "'quoted' \"twice\": {a: [b]} # no comment\t\x1b[31m\u202e\x00",
    "`",
    "",
]


@pytest.mark.parametrize("text", _HOSTILE, ids=range(len(_HOSTILE)))
@pytest.mark.parametrize("spec", ["classification/2", "feature_vector/5"])
def test_texts_of_strangers_add_no_markup(flowers, tmp_path, text, spec):
    """The page has the same elements as with a harmless text, wherever the text is."""

    def documents(dataset: str, source: str) -> tuple[str, str]:
        (tmp_path / "flowers.txt").write_text(f"{dataset}\nrose\n{dataset}\n")
        facts = _facts(flowers.model_copy(update={"dataset": dataset}), spec, dataclasses.replace(_OWN, source=source))
        return module_page(facts), model_card(facts)

    for ours, harmless in zip(documents(text, text), documents("harmless", "harmless")):
        head, other = _head(ours), _head(harmless)
        assert set(head) == set(other) and set(head.get("kaggle", ())) == set(other.get("kaggle", ()))
        tokens, expected = list(_tokens(_body(ours))), list(_tokens(_body(harmless)))
        assert [token.type for token in tokens] == [token.type for token in expected]
        assert [token.content for token in tokens if token.type == "html_block"] == [
            token.content for token in expected if token.type == "html_block"
        ]
        changed = [token for token, before in zip(tokens, expected) if token.content != before.content]
        assert {token.type for token in changed} == {"inline", "code_inline"}
        assert all(line.isprintable() for line in ours.split("\n"))
        assert all(token.attrs == before.attrs for token, before in zip(tokens, expected))
    assert _tags(module_page(_facts(flowers.model_copy(update={"dataset": text}), spec, _OWN)))


def test_texts_of_strangers_are_shown_unchanged(flowers):
    """Only line breaks change."""
    facts = _facts(flowers.model_copy(update={"dataset": "50% <b>`red`</b>\n & _blue_"}), "classification/5", _OWN)
    spans = [token.content for token in _tokens(module_page(facts)) if token.type == "code_inline"]
    assert "50% <b>`red`</b> & _blue_" in spans
    assert _head(model_card(facts))["kaggle"]["trainingData"] == ["50% <b>`red`</b> & _blue_"]


def test_addresses_cannot_end_the_markup_around_them(flowers):
    """Neither a comment, a link, nor a string of a program."""
    url = 'https://models.example/a"b>c) d`-->é'
    checkpoint = PublishedCheckpoint(url='https://a.example/)"`-->.tgz', sha256="0" * 64, name="x")
    own = flowers.model_copy(update={"checkpoint": checkpoint})
    page = module_page(_facts(own, "classification/5", url=url))
    quoted = "https://models.example/a%22b%3Ec%29%20d%60--%3E%C3%A9"
    assert _tags(page)["asset-path"] == f"{quoted}/me/garden/flowers/classification/5.tar.gz"
    assert "](https://a.example/%29%22%60--%3E.tgz)" in page
    for program in _programs(page):
        ast.parse(program)
        assert f'("{quoted}/me' in program or f'= "{quoted}/me' in program


def _head(card: str) -> dict:
    """Returns the facts between the first two lines of dashes; none in a page."""
    return yaml.safe_load(card.split("\n---\n")[0]) if card.startswith("---\n") else {}


def _body(document: str) -> str:
    """Returns the text that follows them."""
    return document.partition("\n---\n")[2] if document.startswith("---\n") else document


def test_front_matter_has_what_hugging_face_reads():
    """Keys, identifiers, and the publishers' accuracy in the layout of a model index."""
    head = _head(model_card(_facts("mobilenet_v2_100_224", "classification/5")))
    assert head["license"] == "apache-2.0"
    assert head["pipeline_tag"] == "image-classification"
    assert head["library_name"] == "tensorflow-hub"
    assert head["datasets"] == ["imagenet-1k"] and head["metrics"] == ["accuracy"]
    [entry] = head["model-index"]
    assert entry["name"] == "google/imagenet/mobilenet_v2_100_224/classification/5"
    [result] = entry["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"]["type"] == "imagenet-1k" and result["dataset"]["name"] == "ImageNet (ILSVRC-2012-CLS)"
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [
        ("accuracy", 71.8),
        ("accuracy", 91.0),
    ]


def test_front_matter_claims_no_more_than_is_true(flowers):
    """Feature vectors have no accuracy, synthetic values no dataset, and own values neither."""
    vectors = _head(model_card(_facts("mobilenet_v2_100_224", "feature_vector/5")))
    assert vectors["pipeline_tag"] == "image-feature-extraction"
    assert "datasets" in vectors and not {"model-index", "metrics"} & set(vectors)
    made_up = _head(model_card(_facts("mobilenet_v2_100_224", "classification/5", _SYNTHETIC)))
    assert "untrained" in made_up["tags"] and not {"license", "datasets", "model-index"} & set(made_up)
    own = _head(model_card(_facts(flowers, "classification/5", _OWN)))
    assert own["license"] == "cc-by-4.0" and not {"datasets", "model-index"} & set(own)


@pytest.mark.parametrize(
    ("license_id", "tfhub", "hugging_face", "kaggle"),
    [
        ("Apache-2.0", "apache-2.0", "apache-2.0", "Apache 2.0"),
        ("MIT", "mit", "mit", "MIT"),
        ("GPL-2.0-only", "gpl-2.0", "gpl-2.0", "GPL 2"),
        ("GPL-3.0-or-later", "custom", "other", None),
        ("CC0-1.0", "custom", "cc0-1.0", "CC0: Public Domain"),
        ("CDDL-1.0", "cddl-1.0", "other", None),
        ("LicenseRef-mine", "custom", "other", None),
    ],
)
def test_licenses_have_the_names_of_each_site(flowers, license_id, tfhub, hugging_face, kaggle):
    """A license that a site does not know is `other` with a name, or is left out."""
    facts = _facts(flowers.model_copy(update={"license": license_id}), "classification/5", _OWN)
    assert _tags(module_page(facts))["license"] == tfhub
    head = _head(model_card(facts))
    assert head["license"] == hugging_face
    assert head.get("license_name") == (license_id.lower() if hugging_face == "other" else None)
    assert head["kaggle"].get("licenseName") == kaggle


def test_front_matter_has_what_kaggle_asks_for(flowers):
    """The fields of Kaggle's model-instance-metadata.json."""
    kaggle = _head(model_card(_facts("mobilenet_v2_075_192", "feature_vector/2")))["kaggle"]
    overview = "Image feature vectors from MobileNet V2 (depth multiplier 0.75), trained on ImageNet (ILSVRC-2012-CLS)."
    assert kaggle == {
        "ownerSlug": "google",
        "modelSlug": "mobilenet-v2",
        "instanceSlug": "075-192-feature-vector",
        "framework": "tensorFlow1",
        "overview": overview,
        "usage": f"See [the module's page]({_URL}/google/imagenet/mobilenet_v2_075_192/feature_vector/2.md).",
        "licenseName": "Apache 2.0",
        "fineTunable": True,
        "trainingData": ["ILSVRC-2012-CLS (ImageNet)"],
        "modelInstanceType": "Unspecified",
    }
    resnet = _head(model_card(_facts("resnet_v2_50", "feature_vector/5")))["kaggle"]
    assert (resnet["modelSlug"], resnet["instanceSlug"]) == ("resnet-v2-50", "feature-vector")
    own = _head(model_card(_facts(flowers, "classification/4", _OWN)))["kaggle"]
    assert (own["ownerSlug"], own["instanceSlug"], own["framework"]) == ("me", "flowers-classification", "tensorFlow2")
    made_up = _head(model_card(_facts(flowers, "classification/4", _SYNTHETIC)))["kaggle"]
    assert made_up["trainingData"] == [] and "UNTRAINED" in made_up["overview"]


@pytest.mark.parametrize("document", [module_page, model_card])
@pytest.mark.parametrize("tensorflow", ["2.15.1", None])
def test_the_last_section_describes_the_verification(document, tensorflow):
    """The archive's size and digest, the number of passed checks, and where to find more."""
    facts = _facts("mobilenet_v2_075_192", "feature_vector/2")
    facts = dataclasses.replace(facts, proof=facts.proof.model_copy(update={"tensorflow": tensorflow}))
    proof = document(facts).rpartition("\n## ")[2]
    assert proof.startswith("Proof\n")
    for stated in (
        "`2.tar.gz`: 8,699,141 bytes",
        f"\n    {_SHA256}\n",
        "hubexport 1.2.3",
        "27 checks passed, none failed",
    ):
        assert stated in proof
    assert "`2.verify.json`" in proof and "`2.provenance.json`" in proof
    assert ("TensorFlow 2.15.1 ran the module" in proof) == (tensorflow is not None)
    assert ("None of them ran the module in TensorFlow." in proof) == (tensorflow is None)


def _programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


# Runs each program, and prints the shape of its result. To save time, it does not optimize graphs that run once, does
# not trace Keras' loop, and loads no module twice. This changes no result.
_RUNNER = """
import functools, json, sys
import tensorflow as tf
from tensorflow_hub import module_v2
import tensorflow_hub as hub

tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
tf.config.run_functions_eagerly(True)
hub.load = module_v2.load = functools.cache(module_v2.load)

shapes = []
for program in json.load(sys.stdin):
    names = {}
    if "disable_eager_execution" in program:
        tf.compat.v1.disable_eager_execution()
        with tf.Graph().as_default():
            exec(program, names)
    else:
        exec(program, names)
    if "features" in names or "logits" in names:
        shape = (names["features"] if "features" in names else names["logits"]).shape
    else:
        shape = names["model"].compute_output_shape([None, *names["images"].shape[1:]])
        assert names["model"].losses
    shapes.append([None if n is None else int(n) for n in shape])
print(json.dumps(shapes))
"""


def _first_seen(variant: Variant, url: str) -> Iterator[tuple[ModuleSpec, str]]:
    """Yields the programs in the pages of four versions; each once, even if pages have it with other versions.

    Feature vectors start from the oldest version and classification from the newest, so that each version has some.
    """
    counts = {}
    versions = variant.family.versions[-4:]
    for kind, numbers in (("feature_vector", versions), ("classification", versions[::-1])):
        seen = set()
        for number in numbers:
            spec = ModuleSpec(kind=kind, version=number)
            programs = _programs(module_page(_facts(variant, str(spec), _SYNTHETIC, url=url)))
            counts[number] = len(programs)
            for program in programs:
                assert program.count(f'"{url}/{variant.handle(spec)}"') == 1
                if (text := program.replace(f'/{number}"', '/N"')) not in seen:
                    seen.add(text)
                    yield spec, program
        assert counts == {number: 4 if number == 5 else 3 for number in versions}


@pytest.mark.skipif(
    not version("tensorflow-hub").startswith("0.15"), reason="tensorflow-hub 0.15 is the last with hub.Module"
)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("mobilenet_v2_035_96", marks=pytest.mark.slow),
        pytest.param("mobilenet_v1_025_128", marks=pytest.mark.prove),
        pytest.param("resnet_v2_50", marks=pytest.mark.prove),
        pytest.param("vgg_16", marks=pytest.mark.prove),
    ],
)
def test_programs_in_pages_run(tmp_path, name):
    """Programs that build graphs run in one process, the others in another. Both find the modules where they look."""
    variant = load_variant(name)
    versions = variant.family.versions[-4:]
    specs = [ModuleSpec(kind=kind, version=number) for number in versions for kind in KINDS]
    build_modules(variant, specs, checkpoint="synthetic", output_dir=tmp_path)
    programs = list(_first_seen(variant, str(tmp_path)))
    features = {"mobilenet_v2_035_96": 1280, "mobilenet_v1_025_128": 256, "resnet_v2_50": 2048, "vgg_16": 4096}[name]
    assert {spec.version for spec, _ in programs} == {*versions} and len(programs) == {4: 16, 2: 14}[len(versions)]
    running = []
    for graphs in (True, False):
        chosen = [(spec, program) for spec, program in programs if ("disable_eager" in program) == graphs]
        process = subprocess.Popen(
            [sys.executable, "-c", _RUNNER],
            env=environment(),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(tmp_path / f"stderr-{graphs}").open("w"),
        )
        process.stdin.write(json.dumps([program for _, program in chosen]))
        process.stdin.close()
        running.append((graphs, chosen, process))
    for graphs, chosen, process in running:
        printed = process.stdout.read()
        assert process.wait() == 0, (tmp_path / f"stderr-{graphs}").read_text()[-3000:]
        shapes = json.loads(printed.splitlines()[-1])
        assert len(shapes) == len(chosen) >= 4
        for (spec, program), shape in zip(chosen, shapes):
            trains = "trainable=True" in program
            width = variant.num_classes if spec.kind == "classification" else 2 if trains else features
            assert shape == [4 if graphs and trains else None if graphs or trains else 1, width], program
