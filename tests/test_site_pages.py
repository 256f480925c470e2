"""The pages of a release: they agree with the index, their links work, and hostile content does no harm."""

from collections.abc import Callable, Iterator
import concurrent.futures
import contextlib
import fnmatch
import gzip
import hashlib
import io
import json
from pathlib import Path
import re
import shutil
import subprocess
import tarfile
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from hubexport.config_files import list_variants, load_variant
from hubexport.errors import ImageError
from hubexport.images.classification import Score
from hubexport.networks.family import DepthMultiplier
from hubexport.release.index import ArtifactRecord, ReleaseIndex, read_index
from hubexport.release.untrusted_folder import UntrustedFolder
from hubexport.site.catalogue import Catalogue, SearchQuery
from hubexport.site.listing import ROWS_PER_PAGE
from hubexport.site.module_tables import layer_rows
from hubexport.site.pages import Pages
from hubexport.site.snippets import snippets
from tests.html_tree import Element, tree
from tests.releases import Forged

_URL = "https://models.example.org/hub"
_ROOT = "/hub"
_HUB = "google/imagenet/small/classification/3"
_SAVED_MODEL = "google/imagenet/small/classification/5"
_FEATURES = "google/imagenet/small/feature_vector/2"
_HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}{% raw %}\u202e"


@contextlib.contextmanager
def _opened(folder: Path, **options: Any) -> Iterator[tuple[Pages, Catalogue]]:
    index = read_index(folder)
    assert index is not None
    catalogue = Catalogue(index)
    with UntrustedFolder(folder) as opened:
        yield Pages(catalogue, opened, **{"url": _URL, **options}), catalogue


@pytest.fixture(scope="module")
def pages(small_release) -> Iterator[Pages]:
    """The pages of a small release, on a server that classifies photographs."""
    with _opened(small_release, can_try=True) as (pages, _):
        yield pages


@pytest.fixture(scope="module")
def records(small_release) -> dict[str, ArtifactRecord]:
    """The records of the same release, by handle."""
    index = read_index(small_release)
    assert index is not None
    return {record.handle: record for record in index.artifacts}


@pytest.fixture(scope="module")
def index_records(small_release) -> dict[str, dict[str, Any]]:
    """The artifacts in the index, read as plain JSON, by handle."""
    index = json.loads((small_release / "index.json").read_bytes())
    return {record["handle"]: record for record in index["artifacts"]}


def _forged(small_release: Path, folder: Path, change: Callable[[Forged], object]) -> Path:
    forged = Forged(small_release)
    change(forged)
    forged.seal()
    return forged.written(folder)


def _facts(page: Element) -> dict[str, str]:
    return {one.one("dt").text: one.one("dd").text for one in page.one("dl", class_="facts").all("div")}


@pytest.mark.parametrize("handle", [_HUB, _SAVED_MODEL, _FEATURES])
def test_a_modules_page_shows_the_facts_of_the_index(pages, records, index_records, handle):
    """Each number is as in the index."""
    page, facts = tree(pages.module(records[handle])), index_records[handle]
    assert page.one("h1").text == handle
    shown = _facts(page)
    assert shown["Input"].startswith(f"{facts['image_size']} × {facts['image_size']} ")
    assert re.search(rf" {facts['parameters']:,} \([0-9,]+ trainable\)$", shown["Parameters"])
    outputs = facts["num_classes"] or facts["num_features"]
    assert shown["Output"].split()[0] == f"{outputs:,}"
    assert shown["Multiply-adds"] == f"{facts['multiply_adds'] / 1e6:.1f} M per image"
    assert shown["Download"] == f"{facts['files']['archive']['bytes'] / 1e6:.2f} MB .tar.gz"
    assert shown["License"] == "not stated"
    digests = {one["data-copy"] for one in page.all("p", class_="digest")}
    assert {file["sha256"] for file in facts["files"].values()} | {facts["sbom"]["sha256"]} < digests
    assert "1 check passed" in page.one("ul", class_="badges").text
    assert "untrained" in page.one("ul", class_="badges").text


def test_published_figures_are_shown_if_there_are_some(small_release, tmp_path):
    """Otherwise neither the catalogue nor the module's page has a place for them."""
    figures = {
        "macs_millions": 1,
        "parameters_millions": 1.5,
        "top1_percent": 71.8,
        "top5_percent": 91,
        "pixel1_cpu_ms": None,
    }
    facts = {"values": "trained", "published": figures}
    changed = _forged(small_release, tmp_path, lambda release: release.record(_SAVED_MODEL).update(facts))
    with _opened(changed) as (pages, catalogue):
        shown = _facts(tree(pages.module(catalogue.records[_SAVED_MODEL])))
        assert shown["Top-1 accuracy, published"] == "71.8% top-5 91.0%"
        assert "Latency, published" not in shown and "Top-1 accuracy, measured" not in shown
        assert shown["Multiply-adds"].endswith(" per image published: 1 M")
        assert shown["Parameters"].endswith(" trainable) published: 1.5 M")
        assert "Top-1 accuracy, published" not in _facts(tree(pages.module(catalogue.records[_HUB])))
        page = tree(pages.catalogue())
        heads = [head.text for head in page.one("thead").all("th")]
        assert [cell.text for cell in page.all("td", data_label="Top-1")] == ["71.8%", "–"]
    with _opened(small_release) as (pages, _):
        assert heads == [*(head.text for head in tree(pages.catalogue()).one("thead").all("th")), "Top-1"]


def test_layers_are_those_of_the_published_network(records):
    """Keras counts 3,538,984 parameters with 1000 classes; the publishers say 300 million multiply-adds."""
    facts = {"family_parameters": DepthMultiplier(depth_multiplier=1.0), "image_size": 224, "num_classes": 1001}
    layers = layer_rows(records[_HUB].model_copy(update=facts))
    assert sum(layer.parameters for layer in layers) == 3_538_984 + 1281
    published = load_variant("mobilenet_v2_100_224").published
    assert published and published.macs_millions == 300
    assert sum(layer.multiply_adds for layer in layers) // 10**6 in (300, 301)
    by_name = {layer.name: layer for layer in layers}
    first = by_name["MobilenetV2/Conv"]
    assert (first.operation, first.shape) == ("Conv2D 3×3, stride 2, relu6", "[112, 112, 32]")
    assert (first.parameters, first.multiply_adds) == (3 * 3 * 3 * 32 + 4 * 32, 112 * 112 * 3 * 3 * 3 * 32)


def test_signatures_are_the_common_ones_for_images(pages, records):
    """As TensorFlow Hub documents them."""
    images = ["input", "images", "float32", "[None, 96, 96, 3]"]
    momentum = ["input", "batch_norm_momentum", "float32", "[]"]
    logits, features = (["output", "default", "float32", f"[None, {size}]"] for size in (7, 1280))
    section = tree(pages.module(records[_HUB])).one("section", id="signatures")
    names = [heading.text for heading in section.all("h3")]
    tables = dict(zip(names, (table.rows() for table in section.all("table"))))
    assert tables == {
        "default": [images, logits],
        "image_classification": [images, logits],
        "image_classification_with_bn_hparams": [momentum, images, logits],
        "image_feature_vector": [images, features],
        "image_feature_vector_with_bn_hparams": [momentum, images, features],
    }
    assert "[], [train]" in section.text
    assert ["output", "MobilenetV2/layer_7/output", "float32", "[None, 12, 12, 16]"] in list(section.all("table"))[
        -1
    ].rows()


def test_a_saved_models_call_and_serving_signature_are_shown(pages, records):
    """With the arguments' defaults."""
    section = tree(pages.module(records[_SAVED_MODEL])).one("section", id="signatures")
    assert [heading.text for heading in section.all("h3")] == [
        "module(inputs, training=False, return_endpoints=False, batch_norm_momentum=0.99)",
        "serving_default",
    ]
    serving = list(section.all("table"))[1].rows()
    assert serving == [
        ["input", "images", "float32", "[None, 96, 96, 3]"],
        ["output", "logits", "float32", "[None, 7]"],
    ]


def test_checks_are_those_of_the_report(small_release, pages, records):
    """All of them, with figures and limits."""
    report = json.loads((small_release / f"{_HUB}.verify.json").read_bytes())
    rows = tree(pages.module(records[_HUB])).one("section", id="checks").one("table").rows()
    assert [row[0] for row in rows] == [check["check"] for check in report["checks"]]
    assert rows[0] == ["structure.digests", "passed", "0", "0 files", report["checks"][0]["explanation"]]


def test_programs_name_this_hub(pages, records):
    """Even those in the module's own text, which was written for another address."""
    for record in records.values():
        page = tree(pages.module(record))
        address = f"{_URL}/{record.handle}"
        assert page.one("p", class_="address")["data-copy"] == address
        programs = [program.one("code") for program in page.all("pre", class_="code")]
        assert sum(f'"{address}"' in program.text for program in programs) >= 4
        assert record.inputs.url not in page.one("main").text


@pytest.mark.parametrize("handle", [_HUB, _SAVED_MODEL, _FEATURES])
def test_snippets_are_programs_for_the_format(records, handle):
    """hub.Module loads only the TF1 Hub format. Only version 5 has what Keras 3 and TensorFlow Serving call."""
    made = {one.title: one for one in snippets(records[handle], f"{_URL}/{handle}")}
    is_hub = records[handle].format == "hub"
    newer = ["TensorFlow 2", "Keras 2", "Keras 3", "TensorFlow 1", "TensorFlow Serving"]
    assert list(made) == (["TensorFlow 1", "TensorFlow 2", "Keras 2"] if is_hub else newer)
    for one in made.values():
        if one.language == "python":
            assert f'"{_URL}/{handle}"' in one.code
            compile(one.code, one.title, "exec")
    reading = {title for title, one in made.items() if '"photo.jpg"' in one.code}
    assert reading == {list(made)[0], *(title for title in made if title.startswith("Keras"))}
    assert is_hub or made["Keras 3"].remark.startswith("In TensorFlow 2.16 and newer.")
    assert ("hub.Module(" in made["TensorFlow 1"].code) == is_hub
    assert ("hub.Module cannot" in made["TensorFlow 1"].remark) == (not is_hub)
    assert (".signatures[" in made["TensorFlow 2"].code) == is_hub


def test_versions_link_to_the_newest_and_to_one_for_tensorflow_1(pages, records):
    """An old version's page links to the newest, and the newest's to one for TensorFlow 1."""
    old = tree(pages.module(records[_HUB]))
    assert [link["href"] for link in old.one("ul", class_="badges").all("a")][0] == f"{_ROOT}/{_SAVED_MODEL}"
    new = tree(pages.module(records[_SAVED_MODEL]))
    assert "newest version" in new.one("ul", class_="badges").text
    assert f"{_ROOT}/{_HUB}" in [link["href"] for link in new.one("section", id="use").all("a")]
    rows = new.one("section", id="versions").one("table").rows()
    assert [row[:2] for row in rows] == [["Version 5", "TF2 SavedModel"], ["Version 3", "TF1 Hub format"]]
    assert new.one("section", id="versions").one("a", aria_current="page")["href"] == f"{_ROOT}/{_SAVED_MODEL}"


def test_the_twin_of_the_other_kind_is_of_the_same_version(records, small_release):
    """Or the newest version if there is no such version."""

    def copied(kind: str, version: int) -> ArtifactRecord:
        facts = {"handle": f"google/imagenet/small/{kind}/{version}", "kind": kind, "version": version}
        return records[_HUB].model_copy(update=facts)

    made = [copied("classification", 3), copied("classification", 5), copied("feature_vector", 3)]
    with UntrustedFolder(small_release) as folder:
        pages = Pages(Catalogue(ReleaseIndex(artifacts=tuple(made))), folder, url=_URL)
        for record, twin in zip(made, ("feature_vector/3", "feature_vector/3", "classification/3")):
            remark = tree(pages.module(record)).one("section", id="facts").one(class_="remark")
            assert remark.one("a")["href"] == f"{_ROOT}/google/imagenet/small/{twin}"


def _all_pages(pages: Pages, catalogue: Catalogue, slash: str) -> dict[str, Element]:
    """Returns all pages that have an address, by path."""
    found = {f"{_ROOT}/": pages.catalogue()}
    found |= {f"{_ROOT}/{name}{slash}": pages.publisher(name) for name in catalogue.publishers}
    found |= {f"{_ROOT}/{record.handle}{slash}": pages.module(record) for record in catalogue.records.values()}
    return {address: tree(text) for address, text in found.items()}


@pytest.mark.parametrize("static", [False, True])
def test_no_link_is_dead(small_release, static):
    """Each leads to a page, to an id in it, to a file of the release, or to another host."""
    with _opened(small_release, static=static, can_try=not static) as (pages, catalogue):
        known = _all_pages(pages, catalogue, "/" if static else "")
        files = {f"{_ROOT}/{path}" for path in (*catalogue.files, *pages.assets(), "index.json", "SHA256SUMS")}
        others = {f"{_ROOT}/nowhere": tree(pages.message("Not here", "Nothing is."))}
        some = next(iter(catalogue.records.values()))
        others[f"{_ROOT}/-/try/{some.handle}"] = tree(pages.trial(some, None, None))
        followed = 0
        for address, page in (known | others).items():
            ids = [element["id"] for element in page.all() if "id" in element.attributes]
            assert len(ids) == len(set(ids))
            for element in page.all():
                for name in ("href", "src", "action"):
                    if name not in element.attributes or element.attributes.get("rel") == "canonical":
                        continue
                    target = urlsplit(urljoin(f"https://models.example.org{address}", element[name]))
                    if target.netloc != "models.example.org":
                        assert element.tag == "a", "only links lead elsewhere"
                        continue
                    followed += 1
                    path = unquote(target.path)
                    if element.tag == "form" and "data-try" in element.attributes:
                        assert path.removeprefix(f"{_ROOT}/-/try/") in catalogue.records
                        continue
                    assert path in known or path in files or path == address, element
                    if target.fragment:
                        place = unquote(target.fragment)
                        assert any(one.attributes.get("id") == place for one in (known | others)[path].all()), element
        assert followed > 200


def test_canonical_addresses_are_whole(small_release):
    """For search engines. Pages that they must not list have none."""
    with _opened(small_release, static=True) as (pages, catalogue):
        record = catalogue.records[_HUB]
        assert tree(pages.module(record)).one("link", rel="canonical")["href"] == f"{_URL}/{_HUB}/"
        assert tree(pages.catalogue()).one("link", rel="canonical")["href"] == f"{_URL}/"
        for text in (pages.message("Gone", "It is gone."), pages.catalogue(SearchQuery(q="small"))):
            page = tree(text)
            assert page.one("meta", name="robots")["content"] == "noindex"
            assert not list(page.all("link", rel="canonical"))


def _check_policy(page: Element) -> None:
    """Asserts that a page has nothing that the Content-Security-Policy forbids."""
    for element in page.all():
        assert element.tag not in ("style", "iframe", "object", "embed", "base"), element.tag
        assert "style" not in element.attributes, element
        assert not any(name.startswith("on") for name in element.attributes), element
        if element.tag == "script":
            assert element["src"].startswith((f"{_ROOT}/-/script-", f"{_ROOT}/-/tabs-")) and not element.children
        if element.tag == "img":
            assert element["src"].startswith(f"{_ROOT}/-/")
        for name in ("href", "src", "action"):
            assert not (element.attributes.get(name) or "").lower().startswith(("javascript:", "data:", "//"))


def test_pages_are_accessible(small_release):
    """Language, landmarks, one h1, headings in order, labels for fields and scrolling boxes."""
    with _opened(small_release, can_try=True) as (pages, catalogue):
        record = catalogue.records[_HUB]
        some = [pages.message("Not here", "Nothing is."), pages.trial(record, [Score(1, "cat", 0.5)], None)]
        for page in (*_all_pages(pages, catalogue, "").values(), *map(tree, some)):
            _check_policy(page)
            assert page.one("html")["lang"] == "en"
            assert "width=device-width" in page.one("meta", name="viewport")["content"]
            assert len(page.one("meta", name="description")["content"]) > 5
            assert page.one("title").text
            assert page.one("a", class_="skip")["href"] == "#main"
            assert [len(list(page.all(tag))) for tag in ("main", "h1", "header", "footer")] == [1, 1, 1, 1]
            levels = [int(one.tag[1]) for one in page.one("main").all() if re.fullmatch("h[1-6]", one.tag)]
            assert levels[0] == 1 and all(below <= above + 1 for above, below in zip(levels, levels[1:])), levels
            labelled = {label["for"] for label in page.all("label")}
            for field in (*page.all("input"), *page.all("select")):
                assert field["id"] in labelled
            for box in page.all(class_="scroll"):
                assert box["tabindex"] == "0" and box["role"] == "region" and box["aria-label"]
            for head in page.all("th"):
                assert head["scope"] in ("col", "row")
            for picture in page.all("img"):
                assert "alt" in picture.attributes


def _rows(page: Element) -> list[Element]:
    """Returns the rows of modules, without the headings of their groups."""
    return [row for body in page.all("tbody") for row in body.all("tr") if "data-handle" in row.attributes]


def _shown_handles(page: Element) -> list[str]:
    return [row["data-handle"] for row in _rows(page)]


def test_the_catalogue_lists_each_module_once_with_its_versions(pages, index_records):
    """Newest version first."""
    page = tree(pages.catalogue())
    handles = sorted({handle.rpartition("/")[0] for handle in index_records})
    assert _shown_handles(page) == handles
    for row, handle in zip(_rows(page), handles, strict=True):
        versions = sorted(
            (record["version"] for record in index_records.values() if record["handle"].startswith(f"{handle}/"))
        )[::-1]
        links = list(row.all("a", class_="version"))
        assert [link["href"] for link in links] == [f"{_ROOT}/{handle}/{version}" for version in versions]
        assert row.one("th").one("a")["href"] == links[0]["href"]
        assert row.one("b", class_="warn").text == "untrained"
    assert page.one(id="count").text == "2 of 2 modules"
    assert "data-complete" in page.one("table").attributes


def _by_others(record: ArtifactRecord, handle: str, **facts: Any) -> ArtifactRecord:
    """Returns a copy of a record with another handle."""
    _, _, variant, kind, version = handle.split("/")
    update = {"handle": handle, "variant": variant, "kind": kind, "version": int(version), **facts}
    return record.model_copy(update=update)


def _shown_groups(page: Element) -> list[tuple[str | None, list[str]]]:
    """Returns the headings of the groups in a table of modules, and the handles below each."""
    found = []
    for body in page.all("tbody"):
        heading, *_ = [row for row in body.all("tr", class_="group")] or [None]
        handles = [row["data-handle"] for row in body.all("tr") if "data-handle" in row.attributes]
        found.append((heading and heading.text, handles))
    return found


def test_modules_are_grouped_by_family_after_those_of_others(small_release, records):
    """Families are in the order of the networks' documentation; those of one group together."""
    record = records[_SAVED_MODEL]
    others = [_by_others(record, f"{name}/classification/5") for name in ("local/own/x", "acme/b/y", "acme/a/z")]
    with UntrustedFolder(small_release) as folder:
        pages = Pages(Catalogue(_all_variants(record, *others)), folder, url=_URL)
        groups = _shown_groups(tree(pages.catalogue()))
        heads = [head.text for head in tree(pages.catalogue()).one("thead").all("th")]
        [(heading, alone)] = _shown_groups(tree(pages.publisher("acme")))
    assert groups[0] == ("acme publisher", ["acme/a/z/classification", "acme/b/y/classification"])
    assert groups[1] == ("local publisher", ["local/own/x/classification"])
    assert (heading, alone) == (None, groups[0][1])
    titles = [heading for heading, _ in groups[2:]]
    assert (
        titles
        == "MobileNet V1, MobileNet V2, MobileNet V3, Inception, ResNet V1, ResNet V2, VGG, NASNet-A, PNASNet-5".split(
            ", "
        )
    )
    named = {heading: [handle.split("/")[2] for handle in handles] for heading, handles in groups}
    assert set(named["MobileNet V2"]) == _variants_like("mobilenet_v2_*")
    assert set(named["Inception"]) == _variants_like("inception_*")
    assert named["MobileNet V2"][:2] == ["mobilenet_v2_035_96", "mobilenet_v2_035_128"]
    assert sum(map(len, named.values())) == len(list_variants()) + 3
    assert "Publisher" in heads
    assert {variant.publisher for variant in list_variants()} == {"google"}


def test_the_catalogue_has_few_columns(pages, records, small_release):
    """Those of publishers, dates and accuracy only where they tell modules apart."""
    common = ["Module", "Kind", "Versions", "Image", "Classes", "Parameters", "Multiply-adds", "Download"]
    page = tree(pages.catalogue())
    assert [head.text for head in page.one("thead").all("th")] == common
    record = records[_SAVED_MODEL]
    dated = record.model_copy(update={"inputs": record.inputs.model_copy(update={"source_date_epoch": 1735689599})})
    index = ReleaseIndex(artifacts=(_by_others(record, "acme/own/x/feature_vector/5", num_classes=None), dated))
    with UntrustedFolder(small_release) as folder:
        page = tree(Pages(Catalogue(index), folder, url=_URL).catalogue())
    assert [head.text for head in page.one("thead").all("th")] == [*common[:3], "Publisher", "Date", *common[3:]]
    cells = [
        {cell["data-label"]: cell.text for cell in row.all("td") if "data-label" in cell.attributes}
        for row in _rows(page)
    ]
    assert [row["Publisher"] for row in cells] == ["acme", "google"]
    assert [row["Date"] for row in cells] == ["–", "2024-12-31"]
    assert [row["Classes"] for row in cells] == ["–", "7"]
    archive = json.loads((small_release / "index.json").read_text())["artifacts"][1]["files"]["archive"]
    [_, download] = page.all("td", data_label="Download")
    assert (download.one("data")["value"], archive["path"]) == (str(archive["bytes"]), f"{_SAVED_MODEL}.tar.gz")


_MEASURED = SimpleNamespace(top1_percent=61.5, top5_percent=None, images=50000, dataset="my flowers")


@pytest.mark.parametrize(
    ("facts", "weights", "shown"),
    [
        pytest.param({"values": "trained", "published": {"top1_percent": 71.8}}, "auto", "71.8%", id="published"),
        pytest.param({"values": "trained", "published": {"top1_percent": 71.8}}, "raw", None, id="of averages"),
        pytest.param({"values": "synthetic", "published": {"top1_percent": 71.8}}, "auto", None, id="synthetic"),
        pytest.param({"values": "trained", "published": {"top1_percent": 718.0}}, "auto", None, id="malformed"),
        pytest.param({"values": "trained", "published": {"top5_percent": 91.0}}, "auto", None, id="another figure"),
        pytest.param({"values": "trained", "published": None}, "auto", None, id="none"),
        pytest.param(
            {"values": "trained", "measured": _MEASURED}, "auto", "61.5% measured, 50,000 images", id="measured"
        ),
        pytest.param(
            {"values": "trained", "published": {"top1_percent": 71.8}, "measured": _MEASURED},
            "auto",
            "71.8%",
            id="both",
        ),
    ],
)
def test_the_catalogue_shows_only_the_accuracy_of_a_modules_own_values(records, small_release, facts, weights, shown):
    """That of its publishers, or one that was measured here, which is marked."""
    record = records[_SAVED_MODEL]
    facts = facts | {"inputs": record.inputs.model_copy(update={"weights": weights})}
    index = ReleaseIndex(artifacts=(record.model_copy(update=facts),))
    with UntrustedFolder(small_release) as folder:
        page = tree(Pages(Catalogue(index), folder, url=_URL).catalogue())
    assert [cell.text for cell in page.all("td", data_label="Top-1")] == ([shown] if shown else [])
    if shown and "measured" in shown:
        assert page.one("span", title="Measured on 50,000 images of my flowers").text == "measured, 50,000 images"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (SearchQuery(q="CLASS small"), ["classification"]),
        (SearchQuery(version="1"), ["feature_vector"]),
        (SearchQuery(kind="classification", format="hub"), ["classification"]),
        (SearchQuery(size="96", family="mobilenet_v2"), ["classification", "feature_vector"]),
        (SearchQuery(version="2", format="saved_model_2"), []),
        (SearchQuery(values="synthetic", version="3"), ["classification"]),
        (SearchQuery(values="trained"), []),
        (SearchQuery(q=_HOSTILE), []),
    ],
)
def test_a_search_works_without_scripts(pages, query, found):
    """The page lists the matches, and the form keeps the search."""
    page = tree(pages.catalogue(query))
    _check_policy(page)
    assert _shown_handles(page) == [f"google/imagenet/small/{kind}" for kind in found]
    assert page.one(id="q")["value"] == query.q
    for name in ("family", "size", "kind", "version", "format"):
        chosen = [option["value"] for option in page.one("select", id=name).all() if "selected" in option.attributes]
        assert chosen == ([getattr(query, name)] if getattr(query, name) else [])
    assert ("hidden" in page.one(id="nothing").attributes) == bool(found)
    assert page.one(id="nothing").one("a").attributes["href"] == f"{_ROOT}/"
    assert page.one("form", id="search")["action"] == f"{_ROOT}/"
    assert ("data-complete" in page.one("table").attributes) == (len(found) == 2)


def test_static_sites_have_no_search_without_scripts(small_release):
    """No server could answer it."""
    with _opened(small_release, static=True) as (pages, _):
        assert "hidden" in tree(pages.catalogue()).one("form", id="search").attributes
    with _opened(small_release) as (pages, _):
        assert "hidden" not in tree(pages.catalogue()).one("form", id="search").attributes


@pytest.fixture(scope="module")
def many(records) -> Catalogue:
    """A catalogue of 450 modules in 900 versions."""
    made = []
    for number in range(450):
        for version in (3, 5):
            handle = f"google/imagenet/small_{number:03}/classification/{version}"
            facts = {"handle": handle, "version": version, "variant": f"small_{number:03}"}
            made.append(records[_HUB].model_copy(update=facts))
    return Catalogue(ReleaseIndex(artifacts=tuple(made)))


def test_a_server_puts_two_hundred_modules_on_a_page(many, small_release):
    """Pages link to each other, and keep the search."""
    with UntrustedFolder(small_release) as folder:
        pages = Pages(many, folder, url=_URL)
        shown = []
        for number, size in ((1, ROWS_PER_PAGE), (2, ROWS_PER_PAGE), (3, 50)):
            page = tree(pages.catalogue(SearchQuery(version="5"), number))
            assert len(_shown_handles(page)) == size
            assert "data-complete" not in page.one("table").attributes
            shown += _shown_handles(page)
            links = {link["rel"]: link["href"] for link in page.one("nav", aria_label="Pages").all("a")}
            wanted = {"prev": number - 1, "next": number + 1}
            first = {1: "?version=5"}
            assert links == {
                rel: f"{_ROOT}/{first.get(other, f'?version=5&page={other}')}"
                for rel, other in wanted.items()
                if 1 <= other <= 3
            }
        assert shown == sorted(handle.rpartition("/")[0] for handle in many.records)[::2]
        assert pages.catalogue(SearchQuery(), 99) == pages.catalogue(SearchQuery(), 3)
        assert pages.catalogue(SearchQuery(), -1) == pages.catalogue(SearchQuery(), 1)
        assert len(_shown_handles(tree(Pages(many, folder, url=_URL, static=True).catalogue()))) == 450
        assert len(_shown_handles(tree(pages.publisher("google")))) == ROWS_PER_PAGE


def test_charts_link_to_modules(small_release, tmp_path):
    """The catalogue has one chart for each cost."""
    figures = {"macs_millions": 9, "parameters_millions": 1.5, "top1_percent": 50, "top5_percent": 70}
    figures["pixel1_cpu_ms"] = 9.5
    facts = {"values": "trained", "published": figures}
    changed = _forged(small_release, tmp_path, lambda release: release.record(_SAVED_MODEL).update(facts))
    with _opened(changed) as (pages, _):
        page = tree(pages.catalogue())
        figures = list(page.all("figure"))
        for figure in figures:
            for screen in ("chart-wide", "chart-narrow"):
                drawn = figure.one("div", class_=screen).one("svg")
                assert [link["href"] for link in drawn.all("a")] == [f"{_ROOT}/{_SAVED_MODEL}"]
        assert len(figures) == 2
        _check_policy(page)
        ids = [element["id"] for element in page.all() if "id" in element.attributes]
        assert len(ids) == len(set(ids))
        assert not list(tree(pages.catalogue(SearchQuery(q="small"))).all("figure"))


def _everything_hostile(release: Forged) -> None:
    for record in release.index["artifacts"]:
        record.update(variant=_HOSTILE, dataset=_HOSTILE, license=_HOSTILE)
        record["inputs"]["exporter"] = _HOSTILE
        record["checks"]["tensorflow"] = _HOSTILE
    for handle in (_HUB, _SAVED_MODEL):
        release.edit_json("verification", _make_report_hostile, handle)
        link, program = f"[{_HOSTILE}](javascript:alert(1))", f"```{_HOSTILE}\n{_HOSTILE}\n```"
        page = f"# {_HOSTILE}\n\n## {_HOSTILE}\n\n{_HOSTILE}\n\n{link}\n\n{program}"
        release.files[release.path("page", handle)] = page.encode()
    release.files["google/google.md"] = f"# {_HOSTILE}\n\n{_HOSTILE}".encode()


def _make_report_hostile(report: dict[str, Any]) -> None:
    report["checks"] = [
        {"check": _HOSTILE, "status": "fail", "explanation": _HOSTILE, "measured": 2.5, "limit": 1, "unit": _HOSTILE}
    ]
    report["versions"] = {_HOSTILE: _HOSTILE}


def test_untrusted_text_stays_text(small_release, tmp_path):
    """Everywhere."""

    def change(release: Forged) -> None:
        _everything_hostile(release)
        for file in release.index["publishers"]:
            content = release.files[file["path"]]
            file.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

    with _opened(_forged(small_release, tmp_path, change), can_try=True) as (pages, catalogue):
        shown = _all_pages(pages, catalogue, "")
        scores = [Score(1, _HOSTILE, 0.5), Score(2, None, float("nan"))]
        error = ImageError(_HOSTILE, why=_HOSTILE, fix=_HOSTILE)
        record = catalogue.records[_HUB]
        shown |= {"trial": tree(pages.trial(record, scores, None)), "error": tree(pages.trial(record, None, error))}
        shown["message"] = tree(pages.message(_HOSTILE, _HOSTILE))
        for address, page in shown.items():
            _check_policy(page)
            is_module = address.startswith(f"{_ROOT}/google/imagenet/")
            assert len(list(page.all("script"))) == (2 if is_module else 1), address
            assert _HOSTILE in page.one("main").text, address
        assert "failed" in shown[f"{_ROOT}/{_HUB}"].one("section", id="checks").one("table").text


@pytest.mark.parametrize(
    ("role", "section", "says"),
    [
        ("page", "documentation", "cannot be shown: it is missing"),
        ("verification", "checks", "cannot be shown: the report is missing"),
        ("archive", "signatures", "cannot be shown: the archive is missing"),
    ],
)
def test_a_page_says_what_is_missing(small_release, tmp_path, role, section, says):
    """In the place of the missing part."""
    folder = shutil.copytree(small_release, tmp_path / "dist")
    (folder / {"page": f"{_HUB}.md", "verification": f"{_HUB}.verify.json", "archive": f"{_HUB}.tar.gz"}[role]).unlink()
    with _opened(folder) as (pages, catalogue):
        page = tree(pages.module(catalogue.records[_HUB]))
        assert says in page.one("section", id=section).text
        assert sum(" cannot be shown" in notice.text for notice in page.all(class_="notice")) == 1


@pytest.mark.parametrize("role", ["page", "verification"])
def test_a_page_shows_no_changed_file(small_release, tmp_path, role):
    """A file must have the listed digest."""
    folder = shutil.copytree(small_release, tmp_path / "dist")
    path = folder / {"page": f"{_HUB}.md", "verification": f"{_HUB}.verify.json"}[role]
    path.write_bytes(path.read_bytes().replace(b"a", b"o"))
    with _opened(folder) as (pages, catalogue):
        assert "its SHA-256 is" in pages.module(catalogue.records[_HUB])


def test_records_may_list_fewer_files(pages, records):
    """A page needs none of them."""
    page = tree(pages.module(records[_HUB].model_copy(update={"files": {}, "license": "MIT"})))
    assert sum("is not listed" in notice.text for notice in page.all(class_="notice")) == 3
    assert "Download" not in _facts(page)


def _packed(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), 1)


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        pytest.param(_packed(("a", bytes(64 << 20)), ("saved_model.pb", b"x")), "near its start", id="bomb"),
        pytest.param(_packed(("saved_model.pb", bytes(17 << 20))), "near its start", id="large"),
        pytest.param(_packed(("saved_model.pb", b"\xff\xff")), "cannot be decoded", id="none"),
        pytest.param(_packed(("hubexport.json", b"{}")), "no saved_model.pb", id="missing"),
        pytest.param(b"no archive", "is damaged", id="garbage"),
    ],
)
def test_archives_are_read_within_bounds(small_release, tmp_path, archive, says):
    """The page of a damaged archive has no signatures."""
    folder = shutil.copytree(small_release, tmp_path / "dist")
    (folder / f"{_HUB}.tar.gz").write_bytes(archive)
    with _opened(folder) as (pages, catalogue):
        section = tree(pages.module(catalogue.records[_HUB])).one("section", id="signatures")
        assert says in section.one(class_="notice").text


def test_a_text_that_is_too_long_is_not_rendered(small_release, tmp_path):
    """The page links to the file."""

    def change(release: Forged) -> None:
        release.files[f"{_HUB}.md"] = b"[" * 100_000

    with _opened(_forged(small_release, tmp_path, change)) as (pages, catalogue):
        page = tree(pages.module(catalogue.records[_HUB]))
        assert "too many for this page" in page.one("section", id="documentation").text
        assert f"{_ROOT}/{_HUB}.md" in [link["href"] for link in page.one("section", id="files").all("a")]


def test_relative_links_lead_into_the_release(small_release, tmp_path):
    """They are relative to the Markdown file; the page may be in another folder."""

    def change(release: Forged) -> None:
        text = "# T\n\n[card](3.card.md) [new](5#try) [twin](../feature_vector/2) [up](../../../../../x) [no](4.md)"
        release.files[f"{_HUB}.md"] = text.encode()

    folder = _forged(small_release, tmp_path, change)
    for static, slash in ((False, ""), (True, "/")):
        with _opened(folder, static=static) as (pages, catalogue):
            prose = tree(pages.module(catalogue.records[_HUB])).one(class_="prose")
            assert [urljoin(f"{_ROOT}/{_HUB}{slash}", link["href"]) for link in prose.all("a")] == [
                f"{_ROOT}/{_HUB}.card.md",
                f"{_ROOT}/{_SAVED_MODEL}{slash}#try",
                f"{_ROOT}/{_FEATURES}{slash}",
            ]


def test_photographs_can_be_tried_where_the_server_classifies(small_release):
    """On pages of classification modules. Pages of feature vectors link to them."""
    with _opened(small_release, can_try=True) as (pages, catalogue):
        form = tree(pages.module(catalogue.records[_HUB])).one("form", class_="try")
        assert (form["action"], form["method"], form["enctype"]) == (
            f"{_ROOT}/-/try/{_HUB}",
            "post",
            "multipart/form-data",
        )
        field = form.one("input")
        assert (field["name"], field["type"], field["accept"]) == ("image", "file", "image/*")
        other = tree(pages.module(catalogue.records["google/imagenet/small/feature_vector/5"]))
        assert not list(other.all("form"))
        assert f"{_ROOT}/{_SAVED_MODEL}#try" in [link["href"] for link in other.all("a") if "href" in link.attributes]
    with _opened(small_release) as (pages, catalogue):
        assert not any(
            "form" in pages.module(record).split("<main")[1].split() for record in catalogue.records.values()
        )
        assert "#try" not in pages.module(catalogue.records[_HUB])


def test_the_answer_to_a_photograph_has_classes_or_an_error(pages, records):
    """Classes have words and bars, best first."""
    page = tree(pages.trial(records[_HUB], [Score(208, "dog", 0.8314), Score(3, None, 0.0002)], None))
    answer = page.one(id="answer")
    assert [item.text for item in answer.all("li")] == ["dog class 208 83.1%", "class 3 < 0.1%"]
    assert [float(bar["value"]) for bar in answer.all("progress")] == [0.8314, 0.0002]
    assert "this answer means nothing" in answer.one("p", class_="warn").text
    trained = records[_HUB].model_copy(update={"values": "trained"})
    assert "means nothing" not in pages.trial(trained, [Score(208, "dog", 0.8314)], None)
    wrong = ImageError("cannot read the image", why="it is no picture", fix="choose another one")
    notice = tree(pages.trial(records[_HUB], None, wrong)).one(role="alert")
    assert [line.text for line in notice.all("p")] == [
        "cannot read the image",
        "it is no picture",
        "choose another one",
    ]


def test_assets_are_named_after_their_content(pages):
    """So browsers may keep them. The style sheet includes the charts' colours."""
    assets = pages.assets()
    assert len(assets) == 4
    for path, content in assets.items():
        found = re.fullmatch(r"-/(style|script|tabs|icon)-([0-9a-f]{8})\.(css|js|svg)", path)
        assert found and hashlib.sha256(content).hexdigest().startswith(found[2])
    [style] = [content.decode() for path, content in assets.items() if path.endswith(".css")]
    assert ".chart-point" in style and "url(" not in style and "@import" not in style


def test_pages_are_the_same_in_all_threads_and_at_all_times(small_release):
    """A server renders some at the same time, and keeps them."""
    with _opened(small_release, can_try=True) as (first, catalogue), _opened(small_release, can_try=True) as (
        second,
        _,
    ):
        wanted = {record.handle: first.module(record) for record in catalogue.records.values()}
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            made = threads.map(second.module, [*catalogue.records.values()] * 3)
            assert list(made) == list(wanted.values()) * 3


def test_pages_are_small(pages, records):
    """A module's page, with all its tables, is no larger than a photograph."""
    assert all(len(pages.module(record).encode()) < 90_000 for record in records.values())
    assert len(pages.catalogue().encode()) < 10_000


def _themes() -> dict[str, dict[str, str]]:
    """Returns the colours of both themes, by name."""
    style = (Path(__file__).parents[1] / "hubexport" / "site" / "assets" / "style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = re.compile(r"--([\w-]+): (#[0-9a-f]{6});")
    return {"light": dict(colours.findall(light)), "dark": dict(colours.findall(dark))}


def _contrast(one: str, other: str) -> float:
    """Returns the contrast of two colours, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_have_enough_contrast(theme):
    """WCAG 2 asks for 4.5:1 for text, and 3:1 for the edges of fields."""
    colours = _themes()[theme]
    grounds = ("page", "raised", "sunken")
    pairs = [(text, ground) for text in ("text", "muted") for ground in grounds]
    pairs += [(text, ground) for text in ("accent", "pass") for ground in ("page", "raised")]
    pairs += [(name, "raised") for name in colours if name.startswith("code-")]
    pairs += [(name, f"{name}-tint") for name in ("accent", "pass", "warn", "fail", "plain-2")]
    pairs += [("text", "warn-tint"), ("text", "fail-tint"), ("on-accent", "accent"), ("accent", "sunken")]
    for text, ground in pairs:
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for ground in ("page", "raised"):
        assert _contrast(colours["control"], colours[ground]) >= 3, ground


_NODE = """
const vm = require("vm"), fs = require("fs");
const [rows, queries] = JSON.parse(fs.readFileSync(0, "utf8"));
globalThis.location = { protocol: "http:" };
globalThis.document = {
  documentElement: { classList: { add() {} } }, querySelectorAll: () => [], getElementById: () => null,
};
vm.runInThisContext(fs.readFileSync(process.argv[1], "utf8"));
const version = (dataset) => ({ dataset });
const made = rows.map(({ versions, ...dataset }) => ({ dataset, querySelectorAll: () => versions.map(version) }));
console.log(JSON.stringify(queries.map((query) => made.map((row) => fits(row, query)))));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="no node is installed")
def test_the_script_finds_what_the_server_finds(pages, small_release):
    """Both implement the same rule."""
    words = ["", "small", "CLASSIFICATION/3", "made up", "mobilenet", "small/feature_vector/2 made", " google  5 "]
    words += ["MobileNet-v2 0.35", "- /", "mobilenet35"]
    queries = [
        SearchQuery(q=q, kind=kind, version=version, format=form, size=size, values=values)
        for q in words
        for kind in ("", "classification")
        for version in ("", "2", "5")
        for form in ("", "hub")
        for size, values in (("", ""), ("96", "synthetic"), ("96", "trained"), ("224", ""))
    ]
    with _opened(small_release) as (_, catalogue):
        for query, found in zip(queries, _found_by_script(tree(pages.catalogue()), queries), strict=True):
            assert found == {record.handle.rpartition("/")[0] for record in catalogue.select(query)}, query


def _found_by_script(page: Element, queries: list[SearchQuery]) -> list[set[str]]:
    """Returns the unversioned handles that the page's script finds for each query."""
    rows = [
        {name.removeprefix("data-"): value for name, value in row.attributes.items()}
        | {
            "versions": [
                {"version": one["data-version"], "format": one["data-format"]}
                for one in row.all("a", class_="version")
                if "data-version" in one.attributes
            ]
        }
        for row in _rows(page)
    ]
    script = Path(__file__).parents[1] / "hubexport" / "site" / "assets" / "script.js"
    done = subprocess.run(
        ["node", "-e", _NODE, str(script)],
        input=json.dumps([rows, [vars(query) for query in queries]]),
        capture_output=True,
        text=True,
        check=True,
    )
    return [{row["handle"] for row, fits in zip(rows, one) if fits} for one in json.loads(done.stdout)]


def _all_variants(record: ArtifactRecord, *others: ArtifactRecord) -> ReleaseIndex:
    """Returns an index with a classification module of each built-in variant, and others."""
    facts = ("network", "family_parameters", "image_size", "num_classes", "dataset")
    made = [
        record.model_copy(
            update={
                **{fact: getattr(variant, fact) for fact in facts},
                "handle": f"google/imagenet/{variant.name}/classification/5",
                "variant": variant.name,
            }
        )
        for variant in list_variants()
    ]
    return ReleaseIndex(artifacts=tuple(sorted([*made, *others], key=lambda one: one.handle)))


def _variants_like(*patterns: str) -> set[str]:
    return {one.name for one in list_variants() if any(fnmatch.fnmatch(one.name, pattern) for pattern in patterns)}


# What people type, and which built-in variants they mean.
_SPELLINGS = {
    "mobilenetv2": ["mobilenet_v2_*"],
    "mobilenet-v2": ["mobilenet_v2_*"],
    "MobileNet V2": ["mobilenet_v2_*"],
    "mobilenet_v2": ["mobilenet_v2_*"],
    "mobilenetv2 0.75": ["mobilenet_v2_075_*"],
    "v2 1.4": ["mobilenet_v2_140_*"],
    "inception v3": ["inception_v3*"],
    "inceptionv3": ["inception_v3*"],
    "Inception-V3": ["inception_v3*"],
    "resnet50": ["resnet_v?_50*"],
    "ResNet-50": ["resnet_v?_50*"],
    "resnetv2": ["resnet_v2_*", "inception_resnet_v2"],
    "resnet v1 101": ["resnet_v1_101*"],
    "inceptionresnet": ["inception_resnet_v2"],
    "vgg16": ["vgg_16*"],
    "nasnet mobile": ["*nasnet_mobile"],
    "imagenet/mobilenet_v1": ["mobilenet_v1_*"],
    "imagenet/mobilenetv1": [],
    "v22": [],
    "mobilenetv3 v1": [],
}


@pytest.mark.skipif(not shutil.which("node"), reason="no node is installed")
def test_names_are_found_however_they_are_spelled(small_release, records):
    """By the server and by the script; and modules of people's own by the names of their networks."""
    facts = {"publisher": "acme", "variant": "flowers", "dataset": "flowers", "num_classes": 5}
    facts |= {"network": "resnet_v2_50", "family_parameters": load_variant("resnet_v2_50").family_parameters}
    facts["handle"] = "acme/plants/flowers/classification/5"
    own = records[_SAVED_MODEL].model_copy(update={name: facts[name] for name in facts if name != "publisher"})
    catalogue = Catalogue(_all_variants(records[_SAVED_MODEL], own))
    queries = [SearchQuery(q=words) for words in _SPELLINGS]
    with UntrustedFolder(small_release) as folder:
        page = tree(Pages(catalogue, folder, url=_URL).catalogue())
    for query, by_script in zip(queries, _found_by_script(page, queries), strict=True):
        expected = {f"google/imagenet/{name}/classification" for name in _variants_like(*_SPELLINGS[query.q])}
        if query.q in ("resnet50", "ResNet-50", "resnetv2"):
            expected.add("acme/plants/flowers/classification")
        assert {record.handle.rpartition("/")[0] for record in catalogue.select(query)} == expected, query.q
        assert by_script == expected, query.q
        assert expected or not _SPELLINGS[query.q]
