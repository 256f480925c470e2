"""The programs on the pages of deployments run as they are, and compute what the network computes."""

from collections.abc import Iterator
import contextlib
import functools
import http.server
import json
from pathlib import Path
import subprocess
import threading

from PIL import Image
import numpy as np
import pytest
from selenium.webdriver.support.wait import WebDriverWait

from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.formats.conversion_writers import Target
from hubexport.networks.numpy_forward import Forward
from hubexport.variants import Variant
from tests.browser import browsing
from tests.deployed_releases import with_deployments
from tests.environments import LITERT, ONNX, python_or_skip
from tests.html_tree import tree
from tests.node import packages_or_skip
from tests.serving import Server, serving

_MODULE = "google/imagenet/small/classification/5"
_SEED = 3
# A page that runs a program of the page of a deployment; its modules come from its own server.
_PAGE = """\
<!DOCTYPE html>
<script type="importmap">{"imports": {"@tensorflow/tfjs": "/tfjs/tf.fesm.min.js"}}</script>
<img src="image.png">
<script type="module">
await document.querySelector("img").decode();
%s
document.title = JSON.stringify([logits.shape, [...await logits.data()]]);
</script>
"""


@pytest.fixture(name="variant", scope="module")
def _variant(small_release) -> Variant:
    return load_variant("small", small_release.parent)


@pytest.fixture(name="hub", scope="module")
def _hub(small_release, variant, tmp_path_factory) -> Iterator[Server]:
    """Serves a release with a deployment in each format, with made-up values."""
    folder = tmp_path_factory.mktemp("hub")
    targets: dict[str, tuple[Target, str]] = {
        "onnx": ("onnx", "model.onnx"),
        "tfjs": ("tfjs", ""),
        "tflite": ("tflite", "model.tflite"),
    }
    for name, (to, file) in targets.items():
        if file:
            (folder / name).mkdir()
        convert(f"synthetic:{_SEED}", folder / name / file, to, variant=variant)
    deployments = {name: {file.name: file.read_bytes() for file in (folder / name).iterdir()} for name in targets}
    release = with_deployments(small_release, folder / "dist", _MODULE, deployments)
    with serving(release) as server:
        yield server


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _program(hub: Server, name: str) -> str:
    page = tree(hub.get(f"/deployments/{_MODULE}/{name}").text)
    return str(page.one("section", id="use").one("pre").raw_text)


def _assert_right(variant: Variant, intensity: float, shape: list[int], values: list[float]) -> None:
    """Compares with the network in NumPy, on an image of one colour."""
    network = variant.network_for("classification")
    weights = {variable.name: synthetic_value(variable, _SEED) for variable in network.variables}
    images = np.full([1, 96, 96, 3], intensity)
    [logits] = Forward(network, weights, images).run([network.logits])[network.logits]
    assert shape == [1, 7]
    np.testing.assert_allclose(values, logits, rtol=0, atol=2e-5 * max(1, np.abs(logits).max()))


@pytest.mark.consumers
@pytest.mark.parametrize(("name", "environment"), [("onnx", ONNX), ("tflite", LITERT)], ids=["onnx", "tflite"])
def test_python_programs(hub, variant, tmp_path, name, environment):
    """Where nothing but the packages that the page names is installed."""
    program = tmp_path / "program.py"
    Image.new("RGB", (50, 40), (102, 102, 102)).save(tmp_path / "photo.jpg")
    told = "\nimport json\nprint(json.dumps([list(logits.shape), logits[0].tolist()]))\n"
    program.write_text(_program(hub, name) + told)
    done = subprocess.run(
        [python_or_skip(environment), program], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    _assert_right(variant, 0.4, *json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.browser
def test_the_program_for_browsers(hub, variant, tmp_path):
    """On a page of another site, which loads the model from the hub."""
    (tmp_path / "tfjs").symlink_to(packages_or_skip() / "node_modules/@tensorflow/tfjs/dist")
    (tmp_path / "index.html").write_text(_PAGE % _program(hub, "tfjs"))
    Image.new("RGB", (50, 40), (102, 102, 102)).save(tmp_path / "image.png")
    with _served(tmp_path) as url, browsing(url) as browser:
        browser.open("/")
        wait = WebDriverWait(browser.driver, 60)
        wait.until(lambda driver: driver.title)
        _assert_right(variant, 0.4, *json.loads(browser.driver.title))
