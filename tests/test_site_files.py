"""A static site in a browser without a server: the pages are files, opened by a double click."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from hubexport.site.static_site import write_site
from hubexport.system.digests import tree_files
from tests.browser import Browser, browsing
from tests.deployed_releases import DEPLOYMENTS, with_deployments
from tests.releases import Forged

pytestmark = pytest.mark.browser

_MODULE = "google/imagenet/small/classification/5"
_FIGURES = {"macs_millions": 9.0, "parameters_millions": 1.5, "top1_percent": 50.5, "pixel1_cpu_ms": 9.5}


@pytest.fixture(scope="module", name="site")
def _site(small_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site below a path, with deployments and charts."""
    forged = Forged(small_release)
    forged.record(_MODULE).update(values="trained", published=_FIGURES)
    forged.seal()
    folder = tmp_path_factory.mktemp("a site")
    release = with_deployments(forged.written(folder / "made"), folder / "dist", _MODULE, DEPLOYMENTS)
    write_site(release, folder / "hub", "https://hub.example.org/models")
    return folder / "hub"


@pytest.fixture(scope="module", name="window")
def _window() -> Iterator[Browser]:
    with browsing("file://") as browser:
        yield browser


@pytest.fixture(name="browser")
def _browser(window: Browser) -> Iterator[Browser]:
    """A window whose console must stay empty."""
    window.emulate()
    window.complaints()
    yield window
    assert window.complaints() == []


def _pages(site: Path) -> list[Path]:
    """Returns all pages that links lead to. The page for what is not found has the addresses of the server."""
    return [path for path in tree_files(site) if path.name == "index.html"]


def _is_styled(browser: Browser) -> bool:
    return browser.run("return getComputedStyle(document.querySelector('.skip')).position") == "absolute"


def test_all_pages_are_styled_and_all_links_lead_to_files(site, browser):
    """Of pages in folders of any depth, and of charts."""
    followed = 0
    for page in _pages(site):
        browser.open(str(page))
        assert _is_styled(browser), page
        assert browser.run("return [...document.images].every((image) => image.naturalWidth > 0)"), page
        for link in browser.driver.find_elements("css selector", "a[href]"):
            target = urlsplit(
                browser.run("return new URL(arguments[0].getAttribute('href'), location.href).href", link)
            )
            if target.scheme == "file":
                assert Path(unquote(target.path)).is_file(), (page, target.path)
                followed += 1
            else:
                assert target.netloc and target.netloc != "hub.example.org", (page, target)
    assert followed > 100


def test_people_find_a_module_and_return(site, browser):
    """By a search, which a reload keeps; by a point of a chart; and by the crumbs."""
    index, module = str(site / "index.html"), str(site / _MODULE / "index.html")
    browser.open(index)
    browser.one("#q").send_keys("mobilenet-v2 class")
    browser.until(lambda: browser.one("#count").text == "1 of 2 modules")
    browser.driver.refresh()
    assert browser.one("#count").text == "1 of 2 modules"
    assert browser.one("#q").get_attribute("value") == "mobilenet-v2 class"
    browser.one("#results tbody th a").click()
    assert unquote(browser.path) == module
    browser.one(".crumbs a").click()
    assert unquote(browser.path) == index
    browser.one(".search [data-clear]").click()
    assert browser.one("#count").text == "2 of 2 modules"
    browser.one(".chart-wide a circle").click()
    assert unquote(browser.path) == module
    browser.one("a[href*='/onnx/index.html']").click()
    assert unquote(browser.path) == str(site / "deployments" / _MODULE / "onnx/index.html")


def test_no_button_is_dead(site, browser):
    """Buttons sort, and copy."""
    browser.open(str(site / "index.html"))
    for button in browser.driver.find_elements("css selector", "thead button"):
        button.click()
        assert browser.run("return arguments[0].closest('th').getAttribute('aria-sort')", button) == "ascending"
    for page in _pages(site):
        browser.open(str(page))
        for button in browser.driver.find_elements("css selector", "main button"):
            if button.is_displayed() and not browser.run("return arguments[0].closest('thead')", button):
                assert button.text == "Copy" or button.get_attribute("role") == "tab", page
        if buttons := [one for one in browser.driver.find_elements("css selector", ".copy") if one.is_displayed()]:
            buttons[0].click()
            browser.until(lambda pressed=buttons[0]: pressed.text == "Copied")


def test_pages_are_readable_without_scripts(site, browser):
    """With their style, but without a form that nothing would answer."""
    with browser.without_scripts():
        browser.open(str(site / "index.html"))
        assert _is_styled(browser)
        assert browser.shown(".search") == [] and len(browser.shown("#results tbody th a")) == 2
        assert (
            len([chart for chart in browser.driver.find_elements("css selector", ".chart") if chart.is_displayed()])
            == 2
        )
