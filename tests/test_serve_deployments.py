"""`hubexport serve` and deployments: their files, their pages, and the addresses that tfhub.dev had for programs."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.tfjs_files import read_tfjs_model
from hubexport.runtime.tfjs_graph import opened_tfjs_graph
from tests.deployed_releases import with_deployments
from tests.node import run_node
from tests.serving import Server, serving

_CLASSES = "google/imagenet/small/classification"
_BELOW = f"deployments/{_CLASSES}/5"
_BYTES = "application/octet-stream"


@pytest.fixture(scope="module", name="server")
def _server(deployed_release: Path) -> Iterator[Server]:
    with serving(deployed_release, "--url", "https://models.example/hub") as server:
        yield server


@pytest.mark.parametrize(
    ("target", "file", "media_type"),
    [
        (f"{_BELOW}/onnx/model.onnx", "onnx/model.onnx", _BYTES),
        (f"{_BELOW}/tfjs/model.json", "tfjs/model.json", "application/json"),
        (f"{_BELOW}/tfjs/model.json?tfjs-format=file", "tfjs/model.json", "application/json"),
        (f"{_BELOW}/tfjs-float16/model.json?tfjs-format=file", "tfjs-float16/model.json", "application/json"),
        (f"{_CLASSES}/5/model.json?tfjs-format=file", "tfjs/model.json", "application/json"),
        (f"{_CLASSES}/5/group1-shard1of2.bin?tfjs-format=file", "tfjs/group1-shard1of2.bin", _BYTES),
        (f"{_CLASSES}/5?lite-format=tflite", "tflite-float16/model.tflite", _BYTES),
        (f"{_BELOW}/tflite-dynamic?lite-format=tflite", "tflite-dynamic/model.tflite", _BYTES),
    ],
)
def test_programs_get_models(server, deployed_release, target, file, media_type):
    """At a module's address the most precise one; pages of other sites may load them, and browsers keep them."""
    answer = server.get(f"/{target}", origin="https://elsewhere.example")
    assert (answer.status, answer.body) == (200, (deployed_release / _BELOW / file).read_bytes())
    assert answer.headers["content-type"] == media_type
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "immutable" in answer.headers["cache-control"]
    assert server.get(f"/{target}", if_none_match=answer.headers["etag"]).status == 304
    assert server.get(f"/{target}", range="bytes=1-1").body == answer.body[1:2]


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        (f"{_CLASSES}/3?lite-format=tflite", 404, "not available for TensorFlow Lite"),
        (f"{_CLASSES}/3?tfjs-format=file", 404, "not available for TensorFlow.js"),
        (f"{_CLASSES}/3/model.json?tfjs-format=file", 404, "not available for TensorFlow.js"),
        (f"{_BELOW}/onnx?lite-format=tflite", 404, "not available for TensorFlow Lite"),
        (f"{_CLASSES}/5?lite-format=task", 400, "lite-format must be tflite"),
        (f"{_CLASSES}/5/model.json?tfjs-format=zip", 400, "tfjs-format must be file"),
        (f"{_CLASSES}/5?tfjs-format=compressed", 404, f"Load /{_CLASSES}/5/model.json?tfjs-format=file"),
        (f"{_CLASSES}/5/group1-shard9of2.bin?tfjs-format=file", 404, "no such file"),
        (f"{_CLASSES}/5/hubexport.json?tfjs-format=file", 404, "no such file"),
        (f"{_CLASSES}/5/../5/model.json?tfjs-format=file", 404, "Nothing with this name"),
        ("nothing/model.json?tfjs-format=file", 404, "Nothing with this name"),
    ],
)
def test_answers_without_a_model_say_why(server, target, status, message):
    """Programs show them to people."""
    answer = server.get(f"/{target}")
    assert answer.status == status
    assert message in answer.text


@pytest.mark.parametrize(
    ("target", "location"),
    [
        (f"{_CLASSES}/model.json?tfjs-format=file", f"{_CLASSES}/5/model.json?tfjs-format=file"),
        (f"{_CLASSES}?lite-format=tflite", f"{_CLASSES}/5?lite-format=tflite"),
        (f"{_BELOW}/onnx/", f"{_BELOW}/onnx"),
    ],
)
def test_redirects(server, target, location):
    """From handles without a version to the newest one, and from handles with a slash. Pages of other sites follow."""
    answer = server.get(f"/{target}")
    assert answer.status in (301, 302)
    assert answer.headers["location"] == f"/hub/{location}"
    assert answer.headers["access-control-allow-origin"] == "*"


def test_people_get_a_page_at_a_deployments_handle(server):
    """It links to the model."""
    answer = server.get(f"/{_BELOW}/onnx", accept="text/html")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f'href="/hub/{_BELOW}/onnx/model.onnx"' in answer.text
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (f"{_BELOW}/onnx/model.onnx", "small-classification-5-onnx.onnx"),
        (f"{_CLASSES}/5?lite-format=tflite", "small-classification-5-tflite-float16.tflite"),
        (f"{_BELOW}/tfjs/model.json", None),
    ],
)
def test_saved_models_have_telling_names(server, target, name):
    """But files that name each other keep theirs."""
    disposition = server.get(f"/{target}").headers.get("content-disposition")
    assert disposition == (name and f'attachment; filename="{name}"')


def test_downloads_of_models_are_counted(deployed_release):
    """Once each, by the file that programs load first; not parts of them, and not the files with weights."""
    with serving(deployed_release) as server:
        server.get(f"/{_CLASSES}/5/model.json?tfjs-format=file")
        server.get(f"/{_CLASSES}/5/group1-shard1of2.bin?tfjs-format=file")
        server.get(f"/{_BELOW}/onnx/model.onnx", range="bytes=0-9")
        server.get(f"/{_BELOW}/onnx/model.onnx", "HEAD")
        server.get(f"/{_BELOW}/onnx/hubexport.json")
        counted = [line for line in server.get("/metrics").text.splitlines() if "hubexport_downloads_total{" in line]
    assert counted == [f'hubexport_downloads_total{{handle="{_BELOW}/tfjs"}} 1.0']


def test_with_tokens_models_need_one(deployed_release, tmp_path):
    """Pages of other sites cannot send it."""
    (tmp_path / "tokens").write_text("a-token-of-many-characters\n")
    with serving(deployed_release, "--token-file", str(tmp_path / "tokens")) as server:
        assert server.get(f"/{_BELOW}/onnx/model.onnx").status == 401
        answer = server.get(f"/{_BELOW}/onnx/model.onnx", authorization="Bearer a-token-of-many-characters")
    assert answer.status == 200
    assert "private" in answer.headers["cache-control"]


def test_tfjs_is_an_asset_if_it_is_given(deployed_release, tmp_path):
    """Under the name of its content, which browsers keep."""
    script = b"self.tf = {loadGraphModel() {}};"
    (tmp_path / "tf.js").write_bytes(script)
    with serving(deployed_release, "--tfjs", str(tmp_path / "tf.js")) as server:
        page = server.get(f"/{_CLASSES}/5").text
        [name] = {part.partition('"')[0] for part in page.split('data-runtime="')[1:]}
        answer = server.get(name)
    assert (answer.status, answer.body) == (200, script)
    assert answer.headers["content-type"] == "text/javascript"
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.consumers
def test_tfjs_loads_models_by_handle(small_release, tmp_path):
    """With `fromTFHub`, by the module's handle, by one without a version, and by the deployment's own."""
    variant = load_variant("small", small_release.parent)
    model = convert("synthetic:3", tmp_path / "model", "tfjs", variant=variant)
    files = {file.name: file.read_bytes() for file in model.iterdir()}
    release = with_deployments(small_release, tmp_path / "dist", f"{_CLASSES}/5", {"tfjs": files})
    with opened_tfjs_graph(read_tfjs_model(model)) as graph:
        [wanted] = graph.run({"images": np.full([1, 96, 96, 3], 0.5, np.float32)}, ["logits"])["logits"]
    with serving(release) as server:
        for handle in (f"{_CLASSES}/5", f"{_CLASSES}/5/", _CLASSES, f"{_BELOW}/tfjs"):
            task = {"handle": f"{server.url}/{handle}", "shape": [1, 96, 96, 3]}
            seen = run_node("load_from_hub.js", task, tmp_path)
            assert seen["shape"] == [1, 7]
            np.testing.assert_allclose(seen["values"], wanted, rtol=0, atol=2e-5 * max(1, np.abs(wanted).max()))
