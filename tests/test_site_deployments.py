"""Deployments on the pages of a site, and in its files: they agree with the index, and hosts send them as they are."""

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import re
from typing import Any

import pytest

from hubexport.errors import UsageError
from hubexport.release.index import read_index
from hubexport.release.untrusted_folder import UntrustedFolder
from hubexport.site.catalogue import Catalogue
from hubexport.site.pages import Pages
from hubexport.site.static_site import write_site
from hubexport.site.tfjs_runtime import read_tfjs_runtime
from tests.deployed_releases import DEPLOYMENTS, with_deployments
from tests.html_tree import Element, tree

_MODULE = "google/imagenet/small/classification/5"
_BELOW = f"deployments/{_MODULE}"
_URL = "https://hub.example.org"
# What makes a script TF.js to us.
_RUNTIME = b"self.tf = {loadGraphModel() {}};"


@pytest.fixture(name="release")
def _release(deployed_release) -> Path:
    return deployed_release


@contextlib.contextmanager
def _opened(folder: Path, **options: Any) -> Iterator[tuple[Pages, Catalogue]]:
    index = read_index(folder)
    assert index is not None
    catalogue = Catalogue(index)
    with UntrustedFolder(folder) as opened:
        yield Pages(catalogue, opened, **{"url": _URL, **options}), catalogue


def _page(release: Path, handle: str, **options: Any) -> Element:
    with _opened(release, **options) as (pages, catalogue):
        if handle in catalogue.deployments:
            return tree(pages.deployment(catalogue.deployments[handle]))
        return tree(pages.module(catalogue.records[handle]))


def test_a_modules_page_lists_its_deployments(release):
    """Each format's most precise one first, with the sizes of what programs load."""
    section = _page(release, _MODULE).one("section", id="deployments")
    rows = [[row.one("th").text, *(cell.text for cell in row.all("td"))] for row in section.one("tbody").all("tr")]
    assert rows == [
        ["ONNX with float32 weights", "float32", "6.00 kB", "model.onnx"],
        ["TF.js with float32 weights", "float32", "4.00 kB", "model.json and 2 files with weights"],
        ["TF.js with float16 weights", "float16", "2.50 kB", "model.json and 2 files with weights"],
        ["TFLite with float16 weights", "float16", "1.40 kB", "model.tflite"],
        ["TFLite with int8, dynamic range weights", "int8, dynamic range", "700 bytes", "model.tflite"],
    ]
    links = {link["href"] for link in section.all("a")}
    assert links >= {f"/{_BELOW}/{name}" for name in DEPLOYMENTS}
    assert links >= {f"/{_BELOW}/tfjs/model.json", f"/{_BELOW}/tflite-dynamic/model.tflite"}


def test_each_format_has_a_program(release):
    """It loads the most precise deployment from this site."""
    section = _page(release, _MODULE).one("section", id="use")
    programs = dict(zip((head.text for head in section.all("h3")), (code.text for code in section.all("pre"))))
    assert [*programs][-3:] == ["ONNX Runtime", "TensorFlow.js", "LiteRT"]
    for name, file in (
        ("ONNX Runtime", "onnx/model.onnx"),
        ("TensorFlow.js", "tfjs/model.json"),
        ("LiteRT", "tflite-float16/model.tflite"),
    ):
        assert f'"{_URL}/{_BELOW}/{file}"' in programs[name]


def test_other_modules_have_no_such_section(release):
    """Nor a link to one."""
    page = _page(release, "google/imagenet/small/feature_vector/5")
    assert not [section for section in page.all("section") if section["id"] == "deployments"]
    assert "#deployments" not in {link["href"] for link in page.all("a")}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_has_a_page(release, name):
    """With its files and their digests, its own text, and a link to the module."""
    page = _page(release, f"{_BELOW}/{name}")
    assert page.one("h1").text == f"{_BELOW}/{name}"
    index = json.loads((release / "index.json").read_bytes())
    [record] = [record for record in index["artifacts"] if record["handle"] == f"{_BELOW}/{name}"]
    digests = {one["data-copy"] for one in page.all("p", class_="digest")}
    assert {file["sha256"] for file in record["deployment"]["contents"]} < digests
    assert "Download" in page.one("section", id="documentation").text
    assert f"/{_MODULE}" in {link["href"] for link in page.one("section", id="facts").all("a")}


@pytest.mark.parametrize(
    ("name", "options", "shown"),
    [
        ("onnx", {"layout": "nchw"}, "np.asarray(photo, np.float32).transpose(2, 0, 1)[np.newaxis] / 255"),
        ("onnx", {"softmax": True}, '[probabilities] = session.run(["probabilities"], {"images": images})'),
        ("tfjs", {"pixels": "uint8"}, "model.predict(resized.round().toInt())"),
        ("tflite-dynamic", {"pixels": "uint8"}, "np.asarray(photo, np.uint8)[np.newaxis] logits = run"),
    ],
)
def test_programs_follow_the_options(small_release, tmp_path, name, options, shown):
    """What a deployment takes and gives depends on how it was written."""
    release = with_deployments(small_release, tmp_path / "dist", _MODULE, {name: DEPLOYMENTS[name]}, **options)
    assert shown in _page(release, f"{_BELOW}/{name}").one("section", id="use").one("pre").text


def test_the_catalogue_links_to_deployments(release):
    """One of each format, beside the module's versions."""
    with _opened(release) as (pages, _):
        rows = [*tree(pages.catalogue()).one("tbody").all("tr")]
    links = [[link["href"] for link in row.all("a") if "deployments/" in link["href"]] for row in rows]
    assert [f"/{_BELOW}/{name}" for name in ("onnx", "tfjs", "tflite-float16")] in links
    assert [] in links


def test_a_deployments_text_names_this_sites_addresses(release):
    """Even if the release was made for another site."""
    text = _page(release, f"{_BELOW}/onnx").one("section", id="documentation").text
    assert f"{_URL}/{_BELOW}/onnx/" in text and "YOUR_HUB" not in text


def test_browsers_try_the_smaller_model(release):
    """The form names TF.js and the model; it shows itself once its script runs."""
    page = _page(release, _MODULE, tfjs=_RUNTIME, can_try=True)
    form = page.one("form", class_="try")
    assert form["data-model"] == f"/{_BELOW}/tfjs-float16/model.json"
    assert (form["data-size"], form["data-output"], form["data-mapped"]) == ("96", "logits", "float")
    assert re.fullmatch(r"/-/tf-[0-9a-f]{8}\.js", form["data-runtime"])
    assert "hidden" in form.attributes and "action" not in form.attributes
    assert [script for script in page.all("script") if script["src"].startswith("/-/try-")]


def test_browsers_try_weights_of_8_bits_last(small_release, tmp_path):
    """They are the smallest, but may rank the classes otherwise."""
    small = {**DEPLOYMENTS["tfjs"], "group1-shard1of2.bin": b"0"}
    release = with_deployments(
        small_release, tmp_path / "two", _MODULE, {"tfjs-uint8": small, "tfjs": DEPLOYMENTS["tfjs"]}
    )
    assert _page(release, _MODULE, tfjs=_RUNTIME).one("form")["data-model"] == f"/{_BELOW}/tfjs/model.json"
    release = with_deployments(small_release, tmp_path / "one", _MODULE, {"tfjs-uint8": small})
    assert _page(release, _MODULE, tfjs=_RUNTIME).one("form")["data-model"] == f"/{_BELOW}/tfjs-uint8/model.json"


@pytest.mark.parametrize(
    ("handle", "options", "action"),
    [
        pytest.param(_MODULE, {}, None, id="neither"),
        pytest.param(_MODULE, {"can_try": True}, f"/-/try/{_MODULE}", id="server"),
        pytest.param("google/imagenet/small/classification/3", {"tfjs": _RUNTIME}, None, id="no deployment"),
        pytest.param(
            "google/imagenet/small/classification/3",
            {"tfjs": _RUNTIME, "can_try": True},
            "/-/try/google/imagenet/small/classification/3",
            id="no deployment, server",
        ),
    ],
)
def test_without_a_model_or_tfjs_browsers_try_nothing(release, handle, options, action):
    """The server does, if it may."""
    page = _page(release, handle, **options)
    assert [form["action"] for form in page.all("form")] == ([action] if action else [])
    assert not [script for script in page.all("script") if "/-/try-" in script["src"]]
    assert ("#try" in {link["href"] for link in page.all("a")}) == bool(action)


def test_a_feature_vectors_page_leads_to_the_trial(release):
    """On the page of the module that classifies."""
    handle = "google/imagenet/small/feature_vector/5"
    assert f"/{_MODULE}#try" in {link["href"] for link in _page(release, handle, tfjs=_RUNTIME).all("a")}
    assert f"/{_MODULE}#try" not in {link["href"] for link in _page(release, handle).all("a")}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"export const loadGraphModel = 1;", "is not a script that defines tf", id="module"),
        pytest.param(b"self.tf = {};", "is not a script that defines tf", id="other"),
        pytest.param(_RUNTIME + b"Function('return this')()", "Content-Security-Policy forbids", id="eval"),
        pytest.param(None, "No such file or directory", id="missing"),
    ],
)
def test_other_files_are_not_tfjs(tmp_path, content, why):
    """A page that cannot run what it promises is worse than none."""
    if content is not None:
        (tmp_path / "tf.js").write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read_tfjs_runtime(tmp_path / "tf.js")
    assert why in raised.value.why


def test_tfjs_is_found_in_its_package(tmp_path):
    """In the variant that evaluates no text."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/tf.es2017.min.js").write_bytes(_RUNTIME)
    (tmp_path / "dist/tf.min.js").write_bytes(b"another one")
    assert read_tfjs_runtime(tmp_path) == _RUNTIME


def test_a_static_site_has_the_models_and_their_pages(release, tmp_path):
    """Each file as the release has it, TF.js under the name of its content, and the addresses for programs."""
    write_site(release, tmp_path / "site", f"{_URL}/models", tfjs=_RUNTIME)
    for name, files in DEPLOYMENTS.items():
        assert (tmp_path / f"site/{_BELOW}/{name}/index.html").is_file()
        for file, content in files.items():
            assert (tmp_path / f"site/{_BELOW}/{name}/{file}").read_bytes() == content
    [runtime] = (tmp_path / "site/-").glob("tf-*.js")
    assert runtime.read_bytes() == _RUNTIME
    models = json.loads((tmp_path / "site/hub.json").read_bytes())["models"]
    assert models[f"{_MODULE}/model.json?tfjs-format=file"] == f"{_BELOW}/tfjs/model.json"
    assert models[f"{_MODULE}?lite-format=tflite"] == f"{_BELOW}/tflite-float16/model.tflite"
    assert models[f"{_BELOW}/tflite-dynamic?lite-format=tflite"] == f"{_BELOW}/tflite-dynamic/model.tflite"
    assert not [address for address in models if "hubexport.json" in address]
    lines = (tmp_path / "site/models.map").read_text().splitlines()
    assert lines == [f'"/models/{address}" "/models/{path}";' for address, path in models.items()]
