"""The examples of TF.js in the docs, in Node and in a browser; and photographs in a browser, from image to class."""

from collections.abc import Iterator
import contextlib
import functools
import http.server
import json
from pathlib import Path
import re
import subprocess
import threading

from PIL import Image
import numpy as np
import pytest

from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.options import TfjsOptions
from hubexport.deployments.tfjs_files import read_tfjs_model
from hubexport.runtime.tfjs_graph import opened_tfjs_graph
from tests.browser import browsing
from tests.data import DATA, REAL_ARCHIVE, REPOSITORY, needs_data
from tests.node import packages_or_skip

_PAGE = (REPOSITORY / "docs" / "deployments.md").read_text(encoding="utf-8")
_TIMEOUT_S = 60
_CLASSIFY = """
const [backend, files, done] = arguments;
(async () => {
    tf.wasm?.setWasmPaths("node_modules/@tensorflow/tfjs-backend-wasm/dist/");
    if (!(await tf.setBackend(backend))) {
        throw new Error(`no backend ${backend}`);
    }
    const model = await tf.loadGraphModel("model/model.json");
    const seen = {};
    for (const file of files) {
        const image = new Image();
        image.src = file;
        await image.decode();
        const probabilities = await model.predict(tf.browser.fromPixels(image).expandDims()).data();
        const best = probabilities.indexOf(Math.max(...probabilities));
        seen[file] = [best, model.metadata.class_names[best], probabilities[best]];
    }
    return [tf.getBackend(), seen];
})().then(done, (error) => done(String(error)));
"""


def _block(language: str) -> str:
    [block] = re.findall(rf"^```{language}\n(.*?)^```", _PAGE, re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serves a folder, with the packages of Node in it."""
    (folder / "node_modules").symlink_to(packages_or_skip() / "node_modules")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """A folder with the model of the docs."""
    options = TfjsOptions(softmax=True, quantize="float16")
    variant = load_variant("mobilenet_v2_035_96")
    convert("synthetic", tmp_path / "model", "tfjs", variant=variant, options=options)
    return tmp_path


@pytest.mark.consumers
def test_the_example_runs_in_node(folder):
    """Two images, two names."""
    (folder / "node_modules").symlink_to(packages_or_skip() / "node_modules")
    (folder / "example.js").write_text(_block("js"))
    done = subprocess.run(
        ["node", "example.js"], cwd=folder, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
    )
    found = re.search(r"^\[ 2, 1001 \] (\[.*\])$", done.stdout, re.DOTALL | re.MULTILINE)
    assert found, done.stdout
    names = set(load_variant("mobilenet_v2_035_96").class_names())
    assert len(re.findall("|".join(map(re.escape, names)), found[1])) >= 2


@pytest.mark.browser
def test_the_example_runs_in_a_browser(folder):
    """It shows the class that TensorFlow finds, too."""
    pixels = np.random.default_rng(1).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photograph.png")
    (folder / "index.html").write_text(_block("html"))
    with opened_tfjs_graph(read_tfjs_model(folder / "model")) as graph:
        images = pixels[np.newaxis].astype(np.float32) / np.float32(255)
        [probabilities] = graph.run({"images": images}, ["probabilities"])["probabilities"]
    with _served(folder) as url, browsing(url) as browser:
        browser.open("/index.html")
        shown = browser.until(lambda: browser.one("#answer").text)
    assert shown == load_variant("mobilenet_v2_035_96").class_names()[probabilities.argmax()]


@needs_data
@pytest.mark.browser
@pytest.mark.parametrize("backend", ["wasm", "webgl", "cpu"])
def test_photographs_are_what_they_show_in_a_browser(backend, tmp_path):
    """With real weights; the browser decodes the image, and the model maps its pixels."""
    options = TfjsOptions(softmax=True, pixels="uint8")
    variant = load_variant("mobilenet_v2_100_224")
    convert(REAL_ARCHIVE, tmp_path / "model", "tfjs", variant=variant, options=options)
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    for file in expected:
        with Image.open(DATA / "images" / file) as opened:
            resized = opened.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
            resized.save((tmp_path / file).with_suffix(".png"))
    wanted = {Path(file).with_suffix(".png").name: top3[0] for file, top3 in expected.items()}
    scripts = ("tfjs/dist/tf.min.js", "tfjs-backend-wasm/dist/tf-backend-wasm.min.js")
    tags = (f'<script src="node_modules/@tensorflow/{script}"></script>\n' for script in scripts)
    (tmp_path / "index.html").write_text("<!DOCTYPE html>\n" + "".join(tags))
    with _served(tmp_path) as url, browsing(url) as browser:
        browser.driver.set_script_timeout(_TIMEOUT_S)
        browser.open("/index.html")
        answer = browser.driver.execute_async_script(_CLASSIFY, backend, [*wanted])
    assert isinstance(answer, list), answer
    used, seen = answer
    assert used == backend
    for file, (index, label, probability) in wanted.items():
        assert seen[file][:2] == [index, label]
        assert abs(seen[file][2] - probability) < 0.5e-4 + 2e-6
