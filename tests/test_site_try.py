"""Photographs in the visitor's own browser, on a page of a static site: with TF.js, and with nothing uploaded."""

from collections.abc import Iterator
import contextlib
import functools
import http.server
import json
from pathlib import Path
import threading
from typing import Any

from PIL import Image
import numpy as np
import pytest

from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployments.options import TfjsOptions
from hubexport.site.http_headers import SECURITY
from hubexport.site.static_site import write_site
from hubexport.site.tfjs_runtime import read_tfjs_runtime
from tests.browser import Browser, browsing
from tests.command import hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.deployed_releases import with_deployments
from tests.node import packages_or_skip

pytestmark = pytest.mark.browser

_SMALL = "google/imagenet/small/classification/5"
_REAL = "google/imagenet/mobilenet_v2_100_224/classification/5"
_ANSWERED = "#answer .scores, #answer.fail"
_PIXELS = """
const [name, size, done] = arguments;
fetch(name).then((response) => response.blob()).then(decoded)
    .then((image) => done([...resized(image, size)]), (error) => done(String(error)));
"""


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Sends a site's files with the headers that its `_headers` asks for."""

    asked: list[tuple[str, str]] = []

    def log_request(self, *_: object) -> None:
        """Notes the request."""
        self.asked.append((self.command, self.path))

    def end_headers(self) -> None:
        """Adds the policy, and keeps browsers from answering a later test."""
        for name, value in SECURITY.items():
            self.send_header(name, value)
        self.send_header("cache-control", "no-store")
        super().end_headers()


@contextlib.contextmanager
def _served(site: Path) -> Iterator[str]:
    _Handler.asked.clear()
    handler = functools.partial(_Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _tfjs() -> bytes:
    return read_tfjs_runtime(packages_or_skip() / "node_modules/@tensorflow/tfjs")


@pytest.fixture(name="site", scope="module")
def _site(small_release, config_dir_of_small, tmp_path_factory) -> Path:
    """A small site whose model has seven classes with made-up values, which takes pixels as they are."""
    folder = tmp_path_factory.mktemp("small")
    variant = load_variant("small", config_dir_of_small)
    convert("synthetic", folder / "model", "tfjs", variant=variant, options=TfjsOptions(pixels="uint8", softmax=True))
    files = {file.name: file.read_bytes() for file in (folder / "model").iterdir()}
    release = with_deployments(small_release, folder / "dist", _SMALL, {"tfjs": files}, pixels="uint8", softmax=True)
    write_site(release, folder / "site", "http://127.0.0.1", tfjs=_tfjs())
    return folder / "site"


@pytest.fixture(name="config_dir_of_small", scope="module")
def _config_dir_of_small(small_release) -> Path:
    return Path(small_release.parent)


@pytest.fixture(name="window", scope="module")
def _window(site) -> Iterator[Browser]:
    with _served(site) as url, browsing(url) as browser:
        browser.driver.set_script_timeout(60)
        yield browser


@pytest.fixture(name="browser")
def _browser(window) -> Browser:
    """The page, freshly opened."""
    browser: Browser = window
    browser.open(f"/{_SMALL}/")
    browser.complaints()
    return browser


def _choose(browser: Browser, file: Path) -> None:
    """Chooses a file, and waits for the answer."""
    browser.one("#image").send_keys(str(file))
    for _ in range(4):
        with contextlib.suppress(Exception):
            browser.until(lambda: browser.shown(_ANSWERED))
            return
    raise AssertionError(browser.shown("#try"))


@needs_data
@pytest.mark.slow
def test_photographs_are_what_they_show(tmp_path):
    """The same classes as those of `hubexport classify`, in the same order; and nothing is uploaded."""
    arguments = ("--variant", "mobilenet_v2_100_224", "--module", "classification/5", "--checkpoint", REAL_ARCHIVE)
    done = hubexport("release", *arguments, "--output-dir", tmp_path / "dist", "--checks", "structure.digests")
    assert done.returncode == 0, done.stderr
    convert(REAL_ARCHIVE, tmp_path / "model", "tfjs", variant=load_variant("mobilenet_v2_100_224"))
    files = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    release = with_deployments(tmp_path / "dist", tmp_path / "deployed", _REAL, {"tfjs": files})
    write_site(release, tmp_path / "site", "http://127.0.0.1", tfjs=_tfjs())
    expected: dict[str, list[Any]] = json.loads((DATA / "images" / "expected_top3.json").read_text())
    with _served(tmp_path / "site") as url, browsing(url) as browser:
        browser.open(f"/{_REAL}/")
        assert browser.complaints() == []
        for file, top3 in expected.items():
            browser.run("document.getElementById('answer')?.remove()")
            _choose(browser, DATA / "images" / file)
            shown = [line.split("\n") for line in browser.shown("#answer li")]
            assert len(shown) == 5
            for (label, percent), (index, name, probability) in zip(shown, top3):
                assert label == f"{name} class {index}"
                found = 0.0005 if percent.startswith("<") else float(percent.rstrip("%")) / 100
                assert abs(found - probability) < 0.002, (file, name, percent, probability)
        assert not [line for line in browser.complaints() if "Content Security Policy" in line]
    assert {method for method, _ in _Handler.asked} == {"GET"}
    assert sum(path.endswith("/model.json") for _, path in _Handler.asked) == 1


def test_the_answer_is_shown_and_accessible(browser, tmp_path):
    """Seven classes with made-up values; the page says so, and the answer gets the focus."""
    Image.effect_noise((300, 200), 90).convert("RGB").save(tmp_path / "noise.png")
    _choose(browser, tmp_path / "noise.png")
    assert len(browser.shown("#answer .scores li")) == 5
    percents = [float(text.lstrip("< ").rstrip("%")) for text in browser.shown("#answer .percent")]
    assert percents == sorted(percents, reverse=True) and 0 < percents[0] <= 100
    assert browser.run("return document.activeElement.id") == "answer"
    assert "this answer means nothing" in browser.shown("#answer .notice")[0]
    browser.run("for (const row of document.querySelectorAll('details tbody tr:nth-child(n + 6)')) row.remove()")
    assert browser.violations() == []


def test_a_deployments_page_is_accessible(browser):
    """Also on a phone, where nothing is wider than the page."""
    browser.open(f"/deployments/{_SMALL}/tfjs/")
    assert browser.violations() == []
    browser.emulate(360)
    assert browser.violations() == []
    assert browser.run("return document.documentElement.scrollWidth") == 360
    browser.emulate()


def test_a_file_that_is_no_photograph(browser, tmp_path):
    """The page says what to do; a photograph after that is classified."""
    (tmp_path / "words.png").write_text("words")
    _choose(browser, tmp_path / "words.png")
    assert "Choose an undamaged JPEG" in browser.one("#answer.fail").text
    Image.new("RGB", (50, 50), "red").save(tmp_path / "red.png")
    browser.one("#image").send_keys(str(tmp_path / "red.png"))
    browser.until(lambda: browser.shown("#answer .scores"))


def test_a_model_that_does_not_load(browser, site, tmp_path):
    """The page says so, and tries again with the next photograph."""
    Image.new("RGB", (50, 50), "red").save(tmp_path / "red.png")
    model = site / f"deployments/{_SMALL}/tfjs/model.json"
    content = model.read_bytes()
    model.unlink()
    try:
        _choose(browser, tmp_path / "red.png")
        assert "The model did not load" in browser.one("#answer.fail").text
    finally:
        model.write_bytes(content)
    browser.one("#image").send_keys(str(tmp_path / "red.png"))
    browser.until(lambda: browser.shown("#answer .scores"))


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        pytest.param((333, 500), "RGB", id="smaller"),
        pytest.param((40, 300), "RGB", id="wider"),
        pytest.param((30, 20), "RGB", id="larger"),
        pytest.param((96, 96), "RGB", id="same"),
        pytest.param((1, 1), "L", id="gray"),
        pytest.param((300, 200), "RGBA", id="transparent"),
    ],
)
def test_images_are_resized_as_pillow_does(browser, site, size, mode):
    """Transparent areas become white. The order of two steps depends on Pillow's version, which moves one level."""
    shape = (size[1], size[0], *([len(mode)] if len(mode) > 1 else []))
    pixels = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    if mode == "RGBA":
        pixels[..., 3] = np.where(pixels[..., 3] < 128, 0, 255)
    image = Image.fromarray(pixels)
    image.save(site / "image.png")
    white = Image.new("RGBA", size, "white")
    wanted = (
        Image.alpha_composite(white, image.convert("RGBA")).convert("RGB").resize((96, 96), Image.Resampling.BILINEAR)
    )
    found = browser.driver.execute_async_script(_PIXELS, "/image.png", 96)
    assert isinstance(found, list), found
    difference = np.abs(np.array(found).reshape(96, 96, 3) - np.asarray(wanted, np.int16))
    assert difference.max() <= 1


def test_photographs_are_turned_upright(browser, site):
    """As their EXIF data says."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48, 0] = 255  # Its left half is red.
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees clockwise: what was left is at the top.
    Image.fromarray(pixels).save(site / "turned.jpg", exif=exif, quality=100)
    found = browser.driver.execute_async_script(_PIXELS, "/turned.jpg", 96)
    assert isinstance(found, list), found
    red = np.array(found).reshape(96, 96, 3)[..., 0]
    assert red[:40].min() > 240 and red[-40:].max() < 15


def test_a_page_opened_as_a_file_promises_nothing(browser, site):
    """Nor does one without scripts: they say what is needed."""
    assert browser.one("form.try").is_displayed() and not browser.one("#untried").is_displayed()
    with browser.without_scripts():
        browser.open(f"/{_SMALL}/")
        assert not browser.one("form.try").is_displayed()
        assert "runs scripts" in browser.one("#untried").text
    browser.driver.get((site / _SMALL / "index.html").as_uri())
    assert not browser.one("form.try").is_displayed()
    assert "opened as a file" in browser.one("#untried").text
