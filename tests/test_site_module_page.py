"""What a module's page says of it in words, and that nothing is there twice."""

from collections.abc import Iterator, Mapping
import contextlib
import json
from pathlib import Path
import re
import subprocess
import sys
import tarfile
from typing import Any

from PIL import Image
import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.networks.family import DepthMultiplier
from hubexport.release.facts import MeasuredFigures, SampleClass, SampleResult
from hubexport.release.index import ArtifactRecord, ReleaseIndex, read_index
from hubexport.release.untrusted_folder import UntrustedFolder
from hubexport.site.catalogue import Catalogue
from hubexport.site.markdown import ShownElsewhere, render_markdown
from hubexport.site.module_text import citation, first_sentence, limits, shown_elsewhere
from hubexport.site.pages import Pages
from hubexport.site.siblings import Siblings
from hubexport.site.snippets import snippets
from hubexport.variants import ModuleSpec
from tests.command import environment, hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.environments import CONSUMERS, NEWEST, python_or_skip
from tests.html_tree import Element, tree

_CLASSIFIER = "google/imagenet/small/classification/5"
_SMALL = "MobileNet V2 (depth multiplier 0.35) for 96 × 96 images"
_IMAGENET = "ILSVRC-2012-CLS (ImageNet)"


@pytest.fixture(scope="module", name="records")
def _records(small_release) -> Mapping[str, ArtifactRecord]:
    index = read_index(small_release)
    assert index
    return {record.handle: record for record in index.artifacts}


@pytest.fixture(name="record")
def _record(records) -> ArtifactRecord:
    """An untrained classifier."""
    return records[_CLASSIFIER]


def _changed(record: ArtifactRecord, **facts: Any) -> ArtifactRecord:
    inputs = record.inputs.model_copy(update={"checkpoint": facts.pop("checkpoint", record.inputs.checkpoint)})
    return record.model_copy(update={"inputs": inputs, **facts})


@contextlib.contextmanager
def _opened(folder: Path, *records: ArtifactRecord) -> Iterator[Pages]:
    with UntrustedFolder(folder) as opened:
        yield Pages(Catalogue(ReleaseIndex(artifacts=records)), opened, url="https://hub.example")


_PUBLISHED = {"source": "a.tgz", "sha256": "0" * 64, "published": True}


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {},
            f"{_SMALL}, untrained: its values are made up; returns scores of 7 classes.",
        ),
        (
            {"values": "trained", "dataset": _IMAGENET, "checkpoint": _PUBLISHED, "num_classes": 1001},
            f"{_SMALL}, trained on ImageNet by Google; returns scores of 1,001 classes.",
        ),
        (
            {"values": "trained", "dataset": "my flowers", "handle": "me/garden/small/classification/5"},
            f"{_SMALL}, trained on my flowers, published by me; returns scores of 7 classes.",
        ),
        (
            {"values": "trained", "dataset": _IMAGENET, "num_classes": None, "num_features": 1280},
            f"{_SMALL}, trained on ImageNet, from a checkpoint that is not proved to be the published one; returns "
            "feature vectors of 1,280 numbers.",
        ),
        (
            {"values": "trained", "dataset": "unknown", "handle": "me/garden/small/classification/5"},
            f"{_SMALL}, trained on a dataset that this release does not name, published by me; returns scores of 7 "
            "classes.",
        ),
    ],
)
def test_the_first_sentence_says_what_a_module_is(record, facts, sentence):
    """Only values from a published archive were trained by those who published them."""
    assert first_sentence(_changed(record, **facts)) == sentence


def test_networks_from_caffe_were_trained_by_others(record):
    """TF-Slim's authors converted their values. Networks of any size say which one is the default."""
    variant = load_variant("resnet_v1_50_caffe")
    facts = {"network": variant.network, "family_parameters": variant.family_parameters, "image_size": 224}
    made = _changed(
        record, **facts, values="trained", dataset=_IMAGENET, checkpoint=_PUBLISHED, num_classes=1000, version=5
    )
    assert first_sentence(made) == (
        "ResNet V1 50 from Caffe for images of any size, 224 × 224 by default, trained on ImageNet by the authors of "
        "its paper; returns scores of 1,000 classes."
    )
    assert not any("must have" in limit for limit in limits(made))
    assert any(limit.startswith("Images may have any size, but") for limit in limits(made))


def test_networks_of_any_size_may_have_a_smallest_one(record):
    """Smaller images are refused."""
    variant = load_variant("inception_v3")
    facts = {"network": variant.network, "family_parameters": variant.family_parameters, "image_size": 299}
    [limit, *_] = limits(_changed(record, **facts, values="trained", dataset=_IMAGENET, version=5))
    assert limit.startswith("Images must have at least 75 × 75 pixels, but it was made for 299 × 299 pixels:")


@pytest.mark.parametrize("values", ["trained", "synthetic"])
def test_an_unknown_dataset_has_no_name(small_release, record, values):
    """A config that was made from a checkpoint alone says `unknown`, which is no dataset."""
    unknown = _changed(record, values=values, dataset="unknown")
    assert not any("unknown" in limit for limit in limits(unknown))
    told = any("does not say what it was trained on" in limit for limit in limits(unknown))
    assert told == (values == "trained")
    with _opened(small_release, unknown) as pages:
        facts = tree(pages.module(unknown)).one(id="facts")
    [dataset] = [row.one("dd").text for row in facts.all("div") if row.one("dt").text == "Dataset"]
    assert dataset == {"trained": "not stated", "synthetic": "none"}[values]


def test_limits_are_those_of_the_module(record):
    """An untrained module has learned nothing that could be limited."""
    assert [limit.split(".")[0] for limit in limits(record)] == [
        "It is untrained: its outputs mean nothing",
        "Images must have 96 × 96 pixels, with red, green and blue",
    ]
    trained = limits(_changed(record, values="trained", dataset=_IMAGENET))
    assert any("ImageNet's photographs" in limit for limit in trained) and any(
        "7 classes" in limit for limit in trained
    )
    own = " ".join(limits(_changed(record, values="trained", dataset="flowers", num_classes=None)))
    assert "learned from flowers alone" in own and "ImageNet" not in own and "classes" not in own


def test_the_citation_is_bibtex(record):
    """With the paper's authors, as BibTeX separates them."""
    entry = citation(record)
    assert entry.startswith("@misc{sandler2018mobilenetv2,\n")
    assert re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE) == [
        (
            "title",
            "{Inverted Residuals and Linear Bottlenecks: Mobile Networks for Classification, Detection and "
            "Segmentation}",
        ),
        ("author", "Mark Sandler and Andrew Howard and Menglong Zhu and Andrey Zhmoginov and Liang-Chieh Chen"),
        ("year", "2018"),
        ("url", record.family.paper.url),
    ]


def _sized(record: ArtifactRecord, multiplier: float, size: int, version: int = 5) -> ArtifactRecord:
    name = f"net_{int(100 * multiplier)}_{size}"
    return _changed(
        record,
        handle=f"google/imagenet/{name}/classification/{version}",
        variant=name,
        version=version,
        format="hub" if version < 4 else "saved_model_2",
        image_size=size,
        family_parameters=DepthMultiplier(depth_multiplier=multiplier),
    )


def test_siblings_are_a_click_away(small_release, record):
    """Those of the same kind, in the same version or format, by multiplier and then by size."""
    others = [
        _sized(record, 1.4, 224),
        _sized(record, 0.5, 224),
        _sized(record, 0.5, 96, 3),
        _sized(record, 0.5, 96, 2),
    ]
    elsewhere = _changed(record, handle="me/garden/small/classification/5")
    vectors = _changed(record, handle="google/imagenet/small/feature_vector/5", kind="feature_vector", num_classes=None)
    with _opened(small_release, record, *others, elsewhere, vectors) as pages:
        section = tree(pages.module(record)).one("section", id="siblings")
        assert [link.text for link in section.all("a")] == ["0.35 96 px", "0.50 96 px", "0.50 224 px", "1.40 224 px"]
        assert [link["href"].rpartition("/")[2] for link in section.all("a")] == ["5", "3", "5", "5"]
        assert section.one("a", aria_current="page").text == "0.35 96 px"
        assert "siblings" not in {one.attributes.get("id") for one in tree(pages.module(vectors)).all("section")}


def test_a_long_list_of_siblings_is_cut(record):
    """Around the module itself."""
    many = [_sized(record, 0.5, 32 * number) for number in range(1, 101)]
    found = Siblings(Catalogue(ReleaseIndex(artifacts=tuple(many)))).of(many[70])
    assert found and len(found.records) == 48 and found.left_out == 52
    assert many[70] in found.records


def test_a_forged_version_of_another_kind_has_a_page(small_release, record):
    """Its siblings cannot be told."""
    forged = _changed(record, handle="google/imagenet/small/classification/4", version=4, kind="feature_vector")
    with _opened(small_release, record, forged, _sized(record, 0.5, 96)) as pages:
        ids = {one.attributes.get("id") for one in tree(pages.module(forged)).all("section")}
    assert "use" in ids and "siblings" not in ids


def test_measured_accuracy_stands_beside_the_published_one(small_release, record):
    """Each says whose it is."""
    measured = MeasuredFigures(
        top1_percent=70.123,
        top5_percent=89.5,
        images=50_000,
        dataset="validation <b>",
        preprocessing="as it should be",
        engine="TensorFlow 2.15.1",
        values_sha256="0" * 64,
    )
    figures = {"top1_percent": 71.8, "top5_percent": 91.0}
    made = _changed(record, values="trained", measured=measured, published=figures)
    with _opened(small_release, made) as pages:
        section = tree(pages.module(made)).one("section", id="facts")
    facts = {one.one("dt").text: one.one("dd").text for one in section.one("dl").all("div")}
    assert facts["Top-1 accuracy, published"] == "71.8% top-5 91.0%"
    assert facts["Top-1 accuracy, measured"] == "70.12% top-5 89.50% of 50,000 images"
    [remark] = [one.text for one in section.all(class_="remark") if "measured accuracy" in one.text]
    assert "the releaser’s" in remark and "“validation <b>”" in remark and "was not measured again" in remark


def test_a_sample_result_stands_below_the_first_program(small_release, record):
    """In the form that it prints, with names as text. The page's text does not repeat it, and other tabs have none."""
    sample = SampleResult(
        photograph="grace <b>.jpg",
        classes=(
            SampleClass(number=653, name="military <i>uniform</i>", probability=0.7526),
            SampleClass(number=1, name=None, probability=0.0312),
        ),
        engine="TensorFlow 2.15.1",
        values_sha256="0" * 64,
    )
    made = _changed(record, sample=sample)
    with _opened(small_release, made) as pages:
        section = tree(pages.module(made)).one("section", id="use")
    first, *others = [one for one in section.all("div") if one.attributes.get("id")]
    program, printed = first.all("pre")
    assert "{probabilities[number]:6.1%}" in program.text
    assert printed.raw_text == " 75.3%  military <i>uniform</i>\n  3.1%  class 1"
    [*_, remark] = first.all(class_="remark")
    assert remark.text.startswith("What hubexport classify found in grace <b>.jpg, with TensorFlow 2.15.1.")
    assert others and all(len([*one.all("pre")]) == 1 for one in others)
    assert {"sample result"} == shown_elsewhere(made, {}).sections - shown_elsewhere(record, {}).sections


def test_a_page_shows_no_accuracy_of_other_values(small_release, record):
    """The published one is of trained values, and made-up ones do not have it."""
    made = _changed(record, values="synthetic", published={"top1_percent": 71.8})
    with _opened(small_release, made) as pages:
        assert "71.8" not in tree(pages.module(made)).one("section", id="facts").text


_TEXT = """\
# Title
The description.

Before.

## Usage

Program.

### Below usage

Kept.

    program()

## Other

Kept, too. [Usage](#usage)
"""


def test_sections_are_left_out_by_their_headings():
    """Only the text of that heading, and of the description only the line below the title."""
    shown = ShownElsewhere({"", "usage", "nothing"}, programs={"below usage"})
    made = tree(str(render_markdown(_TEXT, resolve=lambda href: href, without_title=True, elsewhere=shown).html))
    assert [one.text.removesuffix(" #") for one in made.all() if re.fullmatch("h[2-6]|p", one.tag)] == [
        "Before.",
        "Below usage",
        "Kept.",
        "Other",
        "Kept, too. Usage",
    ]
    whole = tree(str(render_markdown(_TEXT, resolve=lambda href: href, without_title=True).html))
    assert all(text in whole.text for text in ("The description.", "Program.", "program()"))
    assert "program()" not in made.text


def _sentences(element: Element) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+|\n", element.text) if len(part.split()) > 5]


@pytest.mark.parametrize("handle", [_CLASSIFIER, "google/imagenet/small/feature_vector/2"])
def test_nothing_is_there_twice(small_release, records, handle):
    """Neither a section nor a sentence of the Markdown page; its programs load the module in other ways."""
    with _opened(small_release, *records.values()) as pages:
        page = tree(pages.module(records[handle]))
    headings = [one.text.removesuffix(" #") for one in page.all() if re.fullmatch("h[23]", one.tag)]
    assert len(set(headings)) == len(headings)
    assert {"Network", "Training", "Fine-tuning", "Version"} < set(headings)
    assert not {"Usage", "Proof", "Overview", "UNTRAINED"} & set(headings)
    documentation = page.one("section", id="documentation")
    rest = page.one("main").text.replace(documentation.text, "")
    assert [one for one in _sentences(documentation) if one in rest] == []


def _make_labels(folder: Path, *arguments: str) -> Path:
    (folder / "flowers.yaml").write_text(
        "network: mobilenet_v2\ndepth_multiplier: 0.35\nimage_size: 96\nnum_classes: 3\ndataset: flowers\n"
        "labels: flowers.txt\nmodules: [classification/3, classification/5]\n"
    )
    (folder / "flowers.txt").write_text("daisy\n<b>rose</b>\ntulip\n")
    made = ("release", "--variant", "flowers", "--config-dir", folder, "--checkpoint", "synthetic", *arguments)
    done = hubexport(*made, "--output-dir", folder / "dist", "--checks", "structure.digests")
    assert done.returncode == 0, done.stderr
    return folder / "dist"


def test_a_page_has_the_names_of_the_classes(tmp_path):
    """As the module has them, from class 0 on. Its program reads them, too."""
    release = _make_labels(tmp_path)
    index = read_index(release)
    assert index
    with _opened(release, *index.artifacts) as pages:
        page = tree(pages.module(index.artifacts[1]))
    section = page.one("section", id="classes")
    assert section.one("summary").text == "3 classes, from daisy to tulip"
    assert section.one("ol")["start"] == "0"
    assert [item.text for item in section.all("li")] == ["daisy", "<b>rose</b>", "tulip"]
    assert "assets/labels.txt" in page.one(id="use-tensorflow-2").one("code").text


def test_modules_without_names_have_no_list(small_release, record):
    """Their program prints numbers."""
    with _opened(small_release, record) as pages:
        page = tree(pages.module(record))
    assert "classes" not in {one.attributes.get("id") for one in page.all("section")}
    assert "class {number}" in page.one(id="use-tensorflow-2").one("code").raw_text


# Runs a program that reads a photograph in the folder where it is.
def _printed(code: str, folder: Path, python: str | Path = sys.executable) -> str:
    (folder / "program.py").write_text(code)
    done = subprocess.run(
        [python, "program.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=200,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("version", [3, 5])
def test_the_first_program_classifies_a_photograph(tmp_path, version):
    """It prints the classes that TensorFlow's own frozen graph finds, by name, best first."""
    variant = load_variant("mobilenet_v2_100_224")
    spec = ModuleSpec(kind="classification", version=version)
    [module] = build_modules(variant, [spec], checkpoint=str(REAL_ARCHIVE), output_dir=tmp_path)
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    name = next(name for name in expected if name.startswith("dragonfly") or name.startswith("bird"))
    (tmp_path / "photo.jpg").write_bytes((DATA / "images" / name).read_bytes())
    record = ArtifactRecord.model_construct(
        handle=variant.handle(spec),
        kind="classification",
        version=version,
        format="hub" if version == 3 else "saved_model_2",
        image_size=224,
    )
    first, *others = snippets(record, str(module), has_labels=True)
    lines = _printed(first.code, tmp_path).splitlines()
    assert len(lines) == 5
    [keras] = [one for one in others if one.title == "Keras 2"]
    assert re.fullmatch(
        rf" *\d+\.\d%  {re.escape(expected[name][0][1])}", _printed(keras.code, tmp_path).splitlines()[0]
    )
    assert re.fullmatch(rf" *\d+\.\d%  {re.escape(expected[name][0][1])}", lines[0]), lines
    percents = [float(line.split("%")[0]) for line in lines]
    assert percents == sorted(percents, reverse=True) and 0 < percents[0] <= 100
    # The programs resize in other ways than the reference, which resizes with Pillow.
    assert abs(percents[0] - 100 * expected[name][0][2]) < 15


def _unpacked(release: Path, record: ArtifactRecord, folder: Path) -> ArtifactRecord:
    """Unpacks a module to `module`, beside a photograph."""
    with tarfile.open(release / record.files["archive"].path) as tar:
        tar.extractall(folder / "module", filter="data")
    pixels = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    "handle",
    [
        *("classification/3", "classification/5", "feature_vector/5"),
        pytest.param("feature_vector/2", marks=pytest.mark.prove),
    ],
)
def test_all_programs_for_this_python_run(small_release, records, tmp_path, handle):
    """Those of a page, on a photograph, from the packed module."""
    record = _unpacked(small_release, records[f"google/imagenet/small/{handle}"], tmp_path)
    for snippet in snippets(record, str(tmp_path / "module")):
        if snippet.title == "Keras 3" or snippet.language != "python" or "1.15 only" in snippet.code:
            continue
        result = "features" if record.kind == "feature_vector" else "logits"
        printed = _printed(f"{snippet.code}\nprint({result}.shape)\n", tmp_path)
        assert str(record.num_classes or 1280) in printed.splitlines()[-1], snippet.title


@pytest.mark.consumers
@pytest.mark.parametrize(
    ("consumer", "handle", "title"),
    [
        ("newest", "classification/5", "TensorFlow 2"),
        ("newest", "classification/5", "Keras 3"),
        ("newest", "feature_vector/5", "Keras 3"),
        ("newest", "classification/3", "TensorFlow 2"),
        ("tf1.15", "classification/3", "TensorFlow 1"),
        ("tf1.15", "classification/5", "TensorFlow 1"),
        ("tf1.7", "feature_vector/2", "TensorFlow 1"),
    ],
)
def test_programs_run_in_other_tensorflows(small_release, records, tmp_path, consumer, handle, title):
    """Those that the development environment cannot run, as the page has them; in the oldest, as their comment says."""
    [found] = [one for one in (NEWEST, *CONSUMERS) if one.name == consumer]
    record = _unpacked(small_release, records[f"google/imagenet/small/{handle}"], tmp_path)
    [code] = [one.code for one in snippets(record, str(tmp_path / "module")) if one.title == title]
    if consumer == "tf1.7":
        code = code.replace("import tensorflow.compat.v1 as tf", "import tensorflow as tf").replace(
            "tf.disable_eager_execution()", ""
        )
    result = "features" if record.kind == "feature_vector" else "logits"
    printed = _printed(f"{code}\nprint({result}.shape)\n", tmp_path, python_or_skip(found))
    assert str(record.num_classes or 1280) in printed.splitlines()[-1]
