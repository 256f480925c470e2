"""The pages of `hubexport serve` in a browser: people find, read and try modules, by pointer and by keyboard."""

from collections.abc import Iterator
import json
from pathlib import Path
import re
import shutil

from PIL import Image
import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from hubexport.release.index import INDEX
from tests.browser import Browser, browsing
from tests.command import hubexport
from tests.conftest import SMALL
from tests.data import REPOSITORY
from tests.html_tree import tree
from tests.releases import as_json
from tests.serving import Server, serving

pytestmark = pytest.mark.browser

_SMALL = "/google/imagenet/small"
_CLASSIFIER = f"{_SMALL}/classification/5"
_VECTORS = [f"{_SMALL}/feature_vector/{version}" for version in range(1, 6)]
_PUBLISHED = ("mobilenet_v2_035_96", "mobilenet_v2_050_128")
_LABELS = ["tench", "shark", "hen", "owl", "newt", "crab", "bee"]
_NOWHERE = "/google/imagenet/nothing/classification/5"
_ASKED_FOR = re.compile(r"/nothing/\S+ - .* status of 404|/-/try/\S+ - .* status of 4(13|22)")
_PAGES = {
    "catalogue": "/",
    "nothing found": "/?q=inception",
    "publisher": "/google",
    "classifier": _CLASSIFIER,
    **{f"feature vectors {path[-1]}": path for path in _VECTORS},
    "not found": _NOWHERE,
}
each_page = pytest.mark.parametrize("path", [pytest.param(path, id=name) for name, path in _PAGES.items()])


@pytest.fixture(scope="module", name="release")
def _release(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with all five versions of `small`, and two networks with published accuracies."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(small_release, folder / "dist")
    (folder / "small.yaml").write_text(SMALL)
    for name in _PUBLISHED:
        shutil.copy(REPOSITORY / "configs" / f"{name}.yaml", folder)
    arguments = ("--config-dir", folder, "--checkpoint", "synthetic", "--output-dir", folder / "dist")
    modules = ("--module", "feature_vector/3,feature_vector/4,classification/4")
    done = hubexport(
        "release", "--variant", ",".join(["small", *_PUBLISHED]), *arguments, *modules, "--checks", "structure.digests"
    )
    assert done.returncode == 0, done.stderr
    return folder / "dist"


@pytest.fixture(scope="module", name="others")
def _others(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of two publishers and three groups, with all optional columns. Its files do not match its index."""
    folder = tmp_path_factory.mktemp("others") / "dist"
    shutil.copytree(release, folder)
    index = json.loads((folder / INDEX).read_text())
    given = next(record for record in index["artifacts"] if record["handle"] == _CLASSIFIER[1:])
    for handle in ("acme/plants/mine/classification/5", "google/imagenet/resnet_v2_50/classification/5"):
        record = {name: value for name, value in given.items() if name != "depth_multiplier"}
        record |= {"handle": handle, "variant": handle.split("/")[2], "network": "resnet_v2_50", "image_size": 224}
        record |= {"values": "trained", "published": {"top1_percent": 70.5, "pixel1_cpu_ms": 500.0}}
        record["inputs"] = record["inputs"] | {"source_date_epoch": 1735689599}
        index["artifacts"].append(record)
    index["artifacts"].sort(key=lambda record: record["handle"])
    (folder / INDEX).write_bytes(as_json(index))
    return folder


@pytest.fixture(scope="module", name="server")
def _server(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("labels")
    labels = folder / "labels.txt"
    labels.write_text("\n".join(_LABELS) + "\n")
    with serving(release, "--enable-try", "--labels", str(labels)) as server:
        yield server


@pytest.fixture(scope="module", name="window")
def _window(server: Server) -> Iterator[Browser]:
    with browsing(server.url) as browser:
        yield browser


@pytest.fixture(name="browser")
def _browser(window: Browser) -> Iterator[Browser]:
    """A fresh window; its console must stay empty unless the test reads it."""
    window.emulate()
    window.complaints()
    yield window
    assert [complaint for complaint in window.complaints() if not _ASKED_FOR.search(complaint)] == []


@pytest.fixture(scope="module", name="photograph")
def _photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "noise.png"
    noise = np.random.default_rng(3).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture(scope="module", name="modules")
def _modules(release: Path) -> dict[str, dict]:
    """The newest record of each module in the index, by unversioned handle."""
    records = json.loads((release / INDEX).read_text())["artifacts"]
    return {record["handle"].rpartition("/")[0]: record for record in sorted(records, key=lambda one: one["version"])}


def _rows(browser: Browser) -> list[str]:
    """Returns the visible modules of the list: name and kind."""
    return browser.run(
        "return [...document.querySelectorAll('#results tbody tr[data-handle]')].filter((row) => row.checkVisibility())"
        ".map((row) => `${row.cells[0].querySelector('a').innerText} ${row.cells[1].innerText}`)"
    )


def _wait_for_rows(browser: Browser, *rows: str) -> None:
    browser.until(lambda: sorted(_rows(browser)) == sorted(rows))


def _choose(browser: Browser, name: str, value: str) -> None:
    """Picks an option by keys: Chromium gets no input event for Selenium's click on an option."""
    options = [option.get_attribute("value") for option in Select(browser.one(f"#{name}")).options]
    browser.run("document.getElementById(arguments[0]).focus()", name)
    browser.press(Keys.HOME, *[Keys.ARROW_DOWN] * options.index(value))


_VECTOR_ROWS = [f"{name} feature vector" for name in ("small", *_PUBLISHED)]
_CLASSIFIER_ROWS = [f"{name} classification" for name in ("small", *_PUBLISHED)]
_ALL = [*_CLASSIFIER_ROWS, *_VECTOR_ROWS]


# Finding


def test_words_narrow_the_list(browser):
    """As they are typed. Screen readers hear how many are left, and the address keeps the search."""
    browser.open("/")
    _wait_for_rows(browser, *_ALL)
    browser.one("#q").click()
    browser.press("small")
    _wait_for_rows(browser, "small classification", "small feature vector")
    assert browser.one("#results [role=status]").text == "2 of 6 modules"
    assert browser.path == "/?q=small"
    browser.press(" vector")
    _wait_for_rows(browser, "small feature vector")
    assert browser.path == "/?q=small+vector"


def test_the_search_survives_a_reload_and_a_visit_to_a_module(browser):
    """Going back leads to the same list, which can be searched and cleared as before."""
    browser.open("/")
    browser.one("#q").send_keys("imagenet/mobilenet vector")
    _choose(browser, "size", "96")
    _wait_for_rows(browser, "mobilenet_v2_035_96 feature vector")
    browser.driver.refresh()
    _wait_for_rows(browser, "mobilenet_v2_035_96 feature vector")
    browser.one("#results tbody th a").click()
    assert browser.path == "/google/imagenet/mobilenet_v2_035_96/feature_vector/4"
    browser.driver.back()
    _wait_for_rows(browser, "mobilenet_v2_035_96 feature vector")
    assert browser.one("#q").get_attribute("value") == "imagenet/mobilenet vector"
    assert Select(browser.one("#size")).first_selected_option.text.startswith("96")
    _choose(browser, "size", "")
    _wait_for_rows(browser, *_VECTOR_ROWS[1:])
    browser.one(".search [data-clear]").click()
    _wait_for_rows(browser, *_ALL)
    assert browser.path == "/" and len(browser.shown(".chart")) == 2


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({"size": "128"}, ["mobilenet_v2_050_128 classification", "mobilenet_v2_050_128 feature vector"]),
        ({"kind": "classification"}, _CLASSIFIER_ROWS),
        ({"version": "5"}, ["small classification", "small feature vector"]),
        ({"format": "hub", "kind": "feature_vector", "version": "1"}, ["small feature vector"]),
        ({"format": "hub", "version": "5"}, []),
        ({"family": "mobilenet_v2", "kind": "feature_vector"}, _VECTOR_ROWS),
    ],
)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_choices_narrow_the_list(browser, scripts, filters, rows):
    """The script follows the server's rule."""
    if scripts:
        browser.open("/")
        for name, value in filters.items():
            _choose(browser, name, value)
        _wait_for_rows(browser, *rows)
        return
    with browser.without_scripts():
        browser.open("/")
        for name, value in filters.items():
            _choose(browser, name, value)
        browser.one(".search button").click()
        _wait_for_rows(browser, *rows)
        assert all(f"{name}={value}" in browser.path for name, value in filters.items())


def test_nothing_found(browser):
    """The page says so, and offers to clear the search."""
    browser.open("/")
    browser.one("#q").send_keys("inception")
    _wait_for_rows(browser)
    assert browser.one("#results [role=status]").text == "0 of 6 modules"
    [words] = browser.shown("#nothing")
    assert "No modules match" in words
    browser.one("#nothing a").click()
    _wait_for_rows(browser, *_ALL)
    assert browser.shown("#nothing") == []


def test_search_without_scripts(browser):
    """By the form's button; the browser's Back works."""
    with browser.without_scripts():
        browser.open("/")
        browser.one("#q").send_keys("small", Keys.ENTER)
        _wait_for_rows(browser, "small classification", "small feature vector")
        assert browser.one("#count").text == "2 of 6 modules"
        assert browser.one("#q").get_attribute("value") == "small"
        browser.driver.refresh()
        _wait_for_rows(browser, "small classification", "small feature vector")
        browser.one("#results tbody th a").click()
        browser.driver.back()
        _wait_for_rows(browser, "small classification", "small feature vector")
        browser.one(".search [data-clear]").click()
        _wait_for_rows(browser, *_ALL)
        browser.one("#q").send_keys("inception", Keys.ENTER)
        assert "No modules match" in browser.one("#nothing").text
        assert browser.run("return document.documentElement.className") == "", "no script ran"


@pytest.mark.parametrize("query", ["", "?q=net"], ids=["all", "found"])
def test_columns_sort_the_list(browser, modules, query):
    """Ascending, then descending; the header says which."""
    browser.open(f"/{query}")
    for label, fact in {"Parameters": "parameters", "Image": "image_size"}.items():
        expected = sorted(record[fact] for record in modules.values() if not query or "net" in record["handle"])
        for direction in ("ascending", "descending"):
            [head] = [
                cell for cell in browser.driver.find_elements("css selector", "#results thead th") if label in cell.text
            ]
            head.find_element("tag name", "button").click()
            values = [
                float(cell.find_element("tag name", "data").get_attribute("value"))
                for cell in browser.driver.find_elements("css selector", f"#results td[data-label='{label}']")
                if cell.is_displayed()
            ]
            assert values == expected[:: 1 if direction == "ascending" else -1]
            assert head.get_attribute("aria-sort") == direction
            assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1


def test_unknown_values_are_sorted_last(browser):
    """In both directions: feature vectors have no classes."""
    browser.open("/")
    [head] = [
        cell for cell in browser.driver.find_elements("css selector", "#results thead th") if "Classes" in cell.text
    ]
    for shown in (["7", "1,001", "1,001"], ["1,001", "1,001", "7"]):
        head.find_element("css selector", "button").click()
        assert browser.shown("#results td[data-label='Classes']") == [*shown, "–", "–", "–"]


def test_sorting_dissolves_groups_and_a_third_click_restores_them(others, window):
    """The rows stay those that were found. A group without any has no heading."""
    headings = ["acme publisher", "MobileNet V2", "ResNet V2"]
    with serving(others) as server:
        window.emulate()
        window.driver.get(server.url)
        assert window.shown("#results tr.group") == headings
        at_first = _rows(window)
        [head] = [
            cell for cell in window.driver.find_elements("css selector", "#results thead th") if "Image" in cell.text
        ]
        for _ in range(2):
            head.find_element("css selector", "button").click()
            assert window.shown("#results tr.group") == []
            assert sorted(_rows(window)) == sorted(at_first) != _rows(window)
        window.one("#q").send_keys("resnet50")
        _wait_for_rows(window, "mine classification", "resnet_v2_50 classification")
        head.find_element("css selector", "button").click()
        assert window.shown("#results tr.group") == ["acme publisher", "ResNet V2"]
        window.one("#results tbody th a")
        window.one(".search [data-clear]").click()
        window.until(lambda: _rows(window) == at_first)
        assert window.shown("#results tr.group") == headings


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["", "acme"])
def test_all_columns_fit_the_screen(others, window, width, page):
    """The table needs no scroll bar, and the page none either. Neither do charts, whose text is large enough."""
    with serving(others) as server:
        window.emulate(width)
        window.driver.get(f"{server.url}/{page}")
        assert window.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        frame = window.one(".modules")
        assert window.run("return arguments[0].scrollWidth - arguments[0].clientWidth", frame) <= 0
        assert window.violations() == []
        if not page:
            charts = [
                chart for chart in window.driver.find_elements("css selector", "svg.chart") if chart.is_displayed()
            ]
            assert len(charts) == 2
            for chart in charts:
                box = window.run("return arguments[0].getBoundingClientRect().toJSON()", chart)
                shown, drawn = box["width"], float(chart.get_dom_attribute("viewBox").split()[2])
                assert 12 * shown / drawn >= 11 and box["right"] <= width
    window.emulate()


_OVERLAPS = """
const texts = [...arguments[0].querySelectorAll("text")].map((text) => text.getBoundingClientRect());
return texts.flatMap((one, number) => texts.slice(number + 1).filter((other) =>
  Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
  && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 4)).length;
"""


@pytest.mark.parametrize("width", [1280, 1152, 700, 390, 360])
def test_texts_of_charts_do_not_overlap(others, window, width):
    """In the fonts of a real browser; their boxes are higher than their digits."""
    with serving(others) as server:
        window.emulate(width)
        window.driver.get(server.url)
        for chart in window.driver.find_elements("css selector", "svg.chart"):
            if chart.is_displayed():
                assert window.run(_OVERLAPS, chart) == 0
    window.emulate()


# Charts


def _points(browser: Browser, figure: int = 1) -> list:
    links = browser.driver.find_elements("css selector", f".charts figure:nth-child({figure}) a")
    return [link for link in links if link.is_displayed()]


@pytest.mark.parametrize("figure", [1, 2], ids=["multiply-adds", "latency"])
def test_points_link_to_modules(browser, modules, figure):
    """By a click. Pointing at one shows its name and figures."""
    browser.open("/")
    assert len(_points(browser, figure)) == len(_PUBLISHED)
    assert "here untrained" in browser.one("#costs .notes").text
    for index in range(len(_PUBLISHED)):
        browser.open("/")
        point = _points(browser, figure)[index]
        title = point.find_element("css selector", "title").get_attribute("textContent")
        browser.hover(point.find_element("css selector", "circle"))
        assert browser.run("return arguments[0].matches(':hover')", point)
        [name] = [name for name in _PUBLISHED if name in title]
        assert re.search(r"(4|5|6)[0-9.]+%", title) and title.endswith("; untrained on this hub")
        assert "chart-hollow" in point.get_attribute("class")
        point.find_element("css selector", "circle").click()
        assert browser.path.startswith(f"/google/imagenet/{name}/")
        assert browser.one("h1").text.startswith(f"google/imagenet/{name}/")


def test_points_by_keys(browser):
    """Tab moves a visible focus to them, and Enter follows their links."""
    browser.open("/")
    point = _points(browser)[0]
    browser.run("arguments[0].focus()", point)
    browser.press(Keys.TAB)
    browser.press(Keys.TAB, shift=True)
    assert browser.driver.switch_to.active_element == point
    before = point.screenshot_as_png
    browser.press(Keys.TAB)
    assert point.screenshot_as_png != before
    browser.press(Keys.TAB, shift=True)
    browser.press(Keys.ENTER)
    assert any(browser.path.startswith(f"/google/imagenet/{name}/") for name in _PUBLISHED)


# Reading


@pytest.mark.parametrize("newer", [True, False], ids=["clipboard", "page without https"])
def test_programs_are_copied(browser, newer):
    """As shown, and as valid Python. Without https, browsers have only the older clipboard API."""
    browser.send(
        "Browser.grantPermissions", origin=browser.url, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    browser.open(_CLASSIFIER)
    browser.run("window.kept = navigator.clipboard")
    if not newer:
        browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    blocks = browser.driver.find_elements("css selector", "#use .block")
    tabs = browser.driver.find_elements("css selector", "#use [role='tab']")
    assert len(blocks) >= 2
    for tab, block in zip(tabs, blocks, strict=True):
        tab.click()
        browser.run("return kept.writeText('nothing yet')")
        pressed = block.find_element("css selector", "button")
        pressed.click()
        browser.until(lambda pressed=pressed: pressed.text == "Copied")
        assert browser.one("#announcement").text == "Copied"
        copied = browser.run("return kept.readText()")
        assert copied == block.find_element("tag name", "code").text + "\n"
        assert f"{browser.url}{_CLASSIFIER}" in copied
        if "import" in copied.split("\n")[0]:
            compile(copied, "copied", "exec")
        assert browser.driver.switch_to.active_element == pressed


_TABS = ["TensorFlow 2", "Keras 2", "Keras 3", "TensorFlow 1", "TensorFlow Serving"]


def _shown_panels(browser: Browser) -> list[str]:
    return browser.run(
        "return [...document.querySelectorAll('[data-tabs] > [id]')].filter((one) => one.checkVisibility())"
        ".map((one) => one.id)"
    )


def _chosen_tab(browser: Browser) -> str:
    """Returns the text of the chosen tab, which is the only one that the Tab key reaches."""
    [tab] = browser.driver.find_elements("css selector", "[role='tab'][aria-selected='true']")
    assert [one.text for one in browser.driver.find_elements("css selector", "[role='tab'][tabindex='0']")] == [
        tab.text
    ]
    assert tab.get_attribute("aria-controls") in _shown_panels(browser)
    return tab.text


def test_programs_are_in_tabs(browser):
    """One is shown at a time. Arrows, Home and End go from one to the other, and around."""
    browser.open(_CLASSIFIER)
    assert browser.shown("[role='tab']") == _TABS
    assert (_chosen_tab(browser), len(_shown_panels(browser))) == (_TABS[0], 1)
    browser.one("[role='tab']").click()
    for key, chosen in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_RIGHT, 2),
        (Keys.ARROW_LEFT, 1),
        (Keys.END, 4),
        (Keys.ARROW_RIGHT, 0),
        (Keys.ARROW_LEFT, 4),
        (Keys.HOME, 0),
    ):
        browser.press(key)
        assert (_chosen_tab(browser), len(_shown_panels(browser))) == (_TABS[chosen], 1)
        assert browser.driver.switch_to.active_element.text == _TABS[chosen]


def test_a_tab_has_an_address(browser):
    """Choosing one changes the page's address, which leads back to it, also from a page that is open already."""
    browser.open(_CLASSIFIER)
    browser.driver.find_elements("css selector", "[role='tab']")[2].click()
    assert browser.driver.current_url == f"{browser.url}{_CLASSIFIER}#use-keras-3"
    browser.driver.refresh()
    assert (_chosen_tab(browser), _shown_panels(browser)) == ("Keras 3", ["use-keras-3"])
    browser.run("location.hash = 'use-tensorflow-1'")
    browser.until(lambda: _chosen_tab(browser) == "TensorFlow 1")
    browser.run("location.hash = 'files'")
    assert _chosen_tab(browser) == "TensorFlow 1"


def test_without_scripts_programs_are_one_below_another(browser):
    """Each under its own heading."""
    with browser.without_scripts():
        browser.open(_CLASSIFIER)
    assert browser.shown("#use h3") == _TABS
    assert len(browser.shown("#use pre")) == len(_TABS)
    assert browser.shown("[role='tab']") == []


def test_handles_and_digests_are_copied(browser, modules):
    """Completely, although a narrow page shows only their beginnings."""
    browser.send(
        "Browser.grantPermissions", origin=browser.url, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
    )
    browser.emulate(360)
    browser.open(_CLASSIFIER)
    record = modules[_CLASSIFIER[1:].rpartition("/")[0]]
    for selector, expected in {
        "h1": record["handle"],
        "#use .address": f"{browser.url}/{record['handle']}",
        "#files .digest": record["files"]["archive"]["sha256"],
    }.items():
        browser.one(f"{selector} button").click()
        browser.until(lambda expected=expected: browser.run("return navigator.clipboard.readText()") == expected)


def test_versions_link_to_each_other(browser):
    """The newest links to the oldest in its table; an old one says that there is a newer one."""
    browser.open(_VECTORS[-1])
    for path in _VECTORS[::-1]:
        [link] = [
            link
            for link in browser.driver.find_elements("css selector", "#versions a")
            if link.text == f"Version {path[-1]}"
        ]
        link.click()
        browser.until(lambda path=path: browser.path == path)
        assert browser.one("#versions [aria-current]").text == f"Version {path[-1]}"
        assert browser.one("h1 span").text == path[1:]
    browser.one(f".badges a[href$='{_VECTORS[-1]}']").click()
    assert browser.path == _VECTORS[-1]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_details_open_by_keys(browser, scripts):
    """All of them, with or without scripts."""
    browser.open("/")
    if scripts:
        browser.open(_CLASSIFIER)
        _open_details(browser)
    else:
        with browser.without_scripts():
            browser.open(_CLASSIFIER)
            _open_details(browser)


def _open_details(browser: Browser) -> None:
    summaries = browser.driver.find_elements("css selector", "summary")
    assert len(summaries) == 3
    for summary, key in zip(summaries, (Keys.ENTER, Keys.SPACE, Keys.ENTER), strict=True):
        table = summary.find_element("xpath", "..//table")
        assert not table.is_displayed()
        browser.run("arguments[0].focus()", summary)
        browser.press(key)
        browser.until(table.is_displayed)


def test_no_link_is_dead(server):
    """Links of all pages to this server work, and fragments exist."""
    pages: dict[str, set[str]] = {}
    waiting = [path for path in _PAGES.values() if path != _NOWHERE]
    linked: set[tuple[str, str, str]] = set()
    while waiting:
        path = waiting.pop()
        if path in pages:
            continue
        answer = server.get(path, accept="text/html")
        assert answer.status == 200, (path, linked)
        is_page = answer.headers["content-type"].startswith("text/html")
        elements = list(tree(answer.text).all()) if is_page else []
        pages[path] = {element["id"] for element in elements if "id" in element.attributes}
        for element in elements:
            for name in ("href", "src"):
                target, _, place = (element.attributes.get(name) or "").partition("#")
                target = target.removeprefix(server.url)
                if element.attributes.get(name) and (not target or target.startswith("/")):
                    linked.add((path, target or path, place))
                    waiting.append(target or path)
    assert len(pages) > 40
    assert [link for link in linked if link[2] and link[2] not in pages[link[1]]] == []


# Trying


def _tried(browser: Browser) -> list[str]:
    """Waits for the response, and returns the classes."""
    browser.until(lambda: browser.shown("#answer .scores .label"))
    classes = browser.shown("#answer .scores .label")
    assert len(classes) == 5 and all(re.fullmatch(rf"({'|'.join(_LABELS)}) class \d", text) for text in classes)
    return classes


@pytest.fixture(scope="module", name="expected")
def _expected(server: Server, photograph: Path) -> list[str]:
    """The classes that programs get for the photograph."""
    body = b'--x\r\nContent-Disposition: form-data; name="image"; filename="p.png"\r\n\r\n'
    body += photograph.read_bytes() + b"\r\n--x--\r\n"
    headers = {"accept": "application/json", "content_type": "multipart/form-data; boundary=x"}
    answer = server.get(f"/-/try{_CLASSIFIER}", "POST", body, **headers)
    return [f"{score['label']} class {score['index']}" for score in json.loads(answer.body)["top"]]


def test_a_photograph_is_chosen(browser, photograph, expected):
    """Its classes appear below and are announced. Another photograph can follow."""
    browser.open(_CLASSIFIER)
    for _ in range(2):
        browser.one("#image").send_keys(str(photograph))
        assert _tried(browser) == expected
        assert browser.run("return document.activeElement.id") == "answer"
        assert browser.one(".drop img").get_attribute("alt")
        assert browser.until(lambda: browser.run("return document.querySelector('.drop img').naturalWidth")) == 96
    assert len(browser.driver.find_elements("css selector", "#answer")) == 1


def _drop(browser: Browser, element: str, path: Path) -> None:
    """Drops a file from the desktop on an element."""
    browser.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", element)
    box = browser.run("return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", element)
    place = {"x": box["x"] + 30, "y": box["y"] + min(30, box["height"] / 2)}
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", type=kind, data=data, **place)


@pytest.mark.parametrize("element", [".drop", "h1", "#signatures table"])
def test_a_photograph_is_dropped(browser, element, photograph, expected):
    """On the field, or beside it."""
    browser.open(_CLASSIFIER)
    _drop(browser, element, photograph)
    assert _tried(browser) == expected
    assert browser.path == _CLASSIFIER


def test_a_file_that_is_no_photograph(browser, tmp_path):
    """The page says what is wrong and what to do. The console shows only the response's status."""
    text = tmp_path / "words.png"
    text.write_text("words")
    browser.open(_CLASSIFIER)
    browser.one("#image").send_keys(str(text))
    browser.until(lambda: browser.shown("#answer [role=alert]"))
    assert "choose an undamaged JPEG, PNG, WebP, GIF or BMP image" in browser.one("#answer").text
    assert browser.driver.find_elements("css selector", ".drop img") == []


def test_a_photograph_that_is_too_large(browser, tmp_path):
    """The page says so, each time."""
    large = tmp_path / "large.png"
    large.write_bytes(bytes(11 << 20))
    browser.open(_CLASSIFIER)
    for _ in range(2):
        browser.one("#image").send_keys(str(large))
        browser.until(lambda: browser.shown("#answer.fail"))
        assert "10 MiB" in browser.one("#answer").text
        assert browser.one("#announcement").text == browser.one("#answer").text
    assert len(browser.shown("#try > :not(h2, form)")) == 1


def test_trying_without_scripts(browser, photograph, expected, tmp_path):
    """The response is a page, with a form for another photograph."""
    text = tmp_path / "words.png"
    text.write_text("words")
    with browser.without_scripts():
        browser.open(_CLASSIFIER)
        browser.one("#image").send_keys(str(photograph))
        browser.one(".try button").click()
        assert _tried(browser) == expected
        assert browser.path == f"/-/try{_CLASSIFIER}"
        browser.one("#image").send_keys(str(text))
        browser.one(".try button").click()
        browser.until(lambda: browser.shown("#answer [role=alert]"))
        assert "choose an undamaged JPEG, PNG, WebP, GIF or BMP image" in browser.one("#answer").text
        browser.one(f".crumbs a[href='{_CLASSIFIER}']").click()
        assert browser.one("h1").text.startswith(_CLASSIFIER[1:])


# Accessibility

# Everything that the Tab key must reach. Of tabs, it reaches the chosen one; arrows reach the others.
_REACHABLE = """
return [...document.querySelectorAll("a[href], button:not([tabindex='-1']), input, select, summary, [tabindex='0']")]
    .filter((element) => element.checkVisibility({visibilityProperty: true}))
    .map((element) => element.outerHTML.slice(0, 200));
"""
# Where the focus was, and how wide its visible ring was.
_WATCH = """
window.visited = [];
document.addEventListener("focusin", ({target}) => {
  const circle = target.querySelector(":scope > circle");
  const style = getComputedStyle(target.type === "file" ? target.labels[0] : circle ?? target);
  const edge = circle ? style.strokeWidth : style.outlineStyle === "none" ? "0" : style.outlineWidth;
  visited.push([target.outerHTML.slice(0, 200), parseFloat(edge) - (circle ? 1.5 : 0)]);
});
"""


@pytest.mark.parametrize("path", ["/", "/?q=inception", _CLASSIFIER, _VECTORS[0], "/google"])
def test_keys_reach_everything(browser, path):
    """In the page's order, forwards and backwards. The focus is visible and never trapped."""
    browser.open(path)
    reachable = browser.run(_REACHABLE)
    assert "Skip to content" in reachable[0] and len(reachable) > 10
    browser.run(_WATCH)
    browser.press(*[Keys.TAB] * len(reachable))
    forth = browser.run("return visited.splice(0)")
    browser.press(*[Keys.TAB] * (len(reachable) - 1), shift=True)
    back = browser.run("return visited.splice(0)")
    assert [element for element, _ in forth] == reachable
    assert [element for element, _ in back] == reachable[-2::-1]
    assert [element for element, ring in forth + back if ring < 2] == []


@each_page
def test_the_first_tab_stop_skips_the_header(browser, path):
    """It leads to the content, where Tab goes on."""
    browser.open(path)
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to content"
    browser.press(Keys.ENTER, Keys.TAB)
    assert browser.run("return document.activeElement === document.querySelector('main :is(a, input)')")


@each_page
def test_no_page_scrolls_sideways_on_a_phone(browser, path):
    """Wide content scrolls in its own frame."""
    browser.emulate(360)
    browser.open(path)
    browser.run("for (const details of document.querySelectorAll('details')) details.open = true")
    assert browser.run("return document.documentElement.scrollWidth") == 360
    assert browser.run("return document.querySelector('h1').getBoundingClientRect().right") <= 360


@each_page
def test_two_themes(browser, path):
    """The page is dark if the user prefers it, and light otherwise."""
    colours = []
    for dark in (False, True):
        browser.emulate(dark=dark)
        browser.open(path)
        style = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        colours.append([sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in browser.run(style)])
    (light_page, light_text), (dark_page, dark_text) = colours
    assert light_page > 600 > 200 > light_text
    assert dark_text > 600 > 200 > dark_page


# Rules that the theme may affect.
_COLOUR_RULES = ("color-contrast", "link-in-text-block")


def _check_accessibility(browser: Browser) -> None:
    """Asserts that the page has no violations, in both themes and on a phone."""
    browser.run("for (const details of document.querySelectorAll('details')) details.open = true")
    # The rows of long tables are alike, and axe is slow.
    browser.run("for (const row of document.querySelectorAll('details tbody tr:nth-child(n + 6)')) row.remove()")
    assert browser.violations() == []
    browser.emulate(360)
    assert browser.violations() == []
    browser.emulate(dark=True)
    assert browser.violations(_COLOUR_RULES) == []


@each_page
def test_no_page_breaks_a_rule_of_accessibility(browser, path):
    """The rules of WCAG 2.0 to 2.2 that a program can check, and axe's best practices."""
    browser.open(path)
    _check_accessibility(browser)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("whole", [True, False], ids=["classes", "error"])
def test_no_answer_breaks_a_rule_of_accessibility(browser, photograph, tmp_path, scripts, whole):
    """Neither in the module's page nor in a page of its own."""
    text = tmp_path / "words.png"
    text.write_text("words")
    chosen = str(photograph if whole else text)
    if scripts:
        browser.open(_CLASSIFIER)
        browser.one("#image").send_keys(chosen)
        browser.until(lambda: browser.shown("#answer .scores, #answer .fail"))
    else:
        with browser.without_scripts():
            browser.open(_CLASSIFIER)
            browser.one("#image").send_keys(chosen)
            browser.one(".try button").click()
        browser.until(lambda: browser.path.startswith("/-/try/") and browser.shown("#answer"))
    _check_accessibility(browser)


@pytest.mark.parametrize(
    ("harm", "rule"),
    [
        ("document.querySelector('h1').style.color = '#ccc'", "color-contrast"),
        ("document.querySelector('#q').labels[0].remove(); document.querySelector('#q').placeholder = ''", "label"),
        ("document.documentElement.lang = ''", "html-has-lang"),
    ],
)
def test_the_checker_finds_violations(browser, harm, rule):
    """Otherwise the tests above would prove nothing."""
    browser.open("/")
    browser.run(harm)
    assert any(found.startswith(f"{rule}: ") for found in browser.violations())


def test_the_console_is_read(browser):
    """Violations of the policy and errors; otherwise an empty console would prove nothing."""
    browser.open("/")
    browser.run("document.head.append(document.createElement('style')); document.head.lastChild.textContent = 'a {}'")
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())
    browser.run("setTimeout(() => { throw new Error('told') })")
    browser.until(lambda: any("told" in complaint for complaint in browser.complaints()))
