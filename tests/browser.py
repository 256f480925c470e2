"""A Chromium without a window, driven as a person would: by clicks, keys and looks; and a checker of accessibility."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import os
from pathlib import Path
import shutil
import subprocess
import tarfile
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from hubexport.system.cache_folder import cache_dir
from hubexport.system.digests import file_sha256

Found = TypeVar("Found")

_CHROMIUM = shutil.which("chromium")
_DRIVER = shutil.which("chromedriver")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
)
_TIMEOUT = 15

# A newer one knows more rules: what has to hold changes only when this line does.
_AXE = "4.14.1"
_AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


class Browser:
    """One window.

    Attributes:
        driver: what drives it.
        url: of the server whose pages it looks at, without a slash at the end.
    """

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str) -> None:
        """Goes to an address of the server."""
        self.driver.get(self.url + path)

    @property
    def path(self) -> str:
        """Where it is: the path and the query."""
        parts = urlsplit(self.driver.current_url)
        assert f"{parts.scheme}://{parts.netloc}" == self.url
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def one(self, selector: str) -> WebElement:
        """The first such element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> list[str]:
        """The texts of all such elements that are to be seen."""
        return [found.text for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def press(self, *keys: str, shift: bool = False) -> None:
        """Presses keys, one after the other, maybe while Shift is held."""
        chain = ActionChains(self.driver, duration=0)
        if shift:
            chain.key_down(Keys.SHIFT)
        chain.send_keys(*keys)
        if shift:
            chain.key_up(Keys.SHIFT)
        chain.perform()

    def hover(self, element: WebElement) -> None:
        """Puts the pointer over an element."""
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script of the test's in the page, which its policy does not bind, and returns what it returns."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Found]) -> Found:
        """Waits until something is true, and returns it."""
        return WebDriverWait(self.driver, _TIMEOUT, 0.02).until(lambda _: condition())

    def say(self, command: str, **arguments: Any) -> Any:
        """Says something in the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def look(self, width: int = 1280, dark: bool = False) -> None:
        """Takes another width, and the other theme."""
        self.say("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.say("Emulation.setEmulatedMedia", features=[theme, still])

    @contextlib.contextmanager
    def without_scripts(self) -> Iterator[None]:
        """Runs no script of the pages that are opened meanwhile."""
        self.say("Emulation.setScriptExecutionDisabled", value=True)
        try:
            yield
        finally:
            self.say("Emulation.setScriptExecutionDisabled", value=False)

    def complaints(self) -> list[str]:
        """Returns what the console said since it was asked last: errors, what the policy forbade, and warnings."""
        lines: list[Mapping[str, Any]] = self.driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def violations(self, rules: Sequence[str] = _RULES) -> list[str]:
        """Lets axe look at the page as it is, and returns what breaks a rule: the rule, the element, and why."""
        if not self.run("return window.axe !== undefined"):
            self.run(_axe())
        found = self.driver.execute_async_script(
            "axe.run({runOnly: arguments[0]}).then(arguments[1], (error) => arguments[1](String(error)))", list(rules)
        )
        assert isinstance(found, dict) and found["passes"], found
        return [
            f"{rule['id']}: {node['html']}: {node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]


@contextlib.contextmanager
def browsing(url: str) -> Iterator[Browser]:
    """Starts a browser, or skips the test where there is none."""
    if not _CHROMIUM or not _DRIVER:
        pytest.skip("needs Chromium and its driver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(_DRIVER))
    try:
        driver.set_page_load_timeout(_TIMEOUT)
        driver.set_script_timeout(_TIMEOUT)
        yield Browser(driver, url)
    finally:
        driver.quit()


def _axe() -> str:
    """Returns axe-core: the file that `$HUBEXPORT_AXE` names, or what npm brings, once; without, skips the test."""
    if named := os.environ.get("HUBEXPORT_AXE"):
        return Path(named).read_text()
    kept = cache_dir() / "tests" / f"axe-core-{_AXE}.min.js"
    if not kept.exists():
        _fetch_axe(kept)
    assert file_sha256(kept) == _AXE_SHA256, f"{kept} is not axe-core {_AXE}"
    return kept.read_text()


def _fetch_axe(kept: Path) -> None:
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("needs axe-core: name its axe.min.js in HUBEXPORT_AXE, or install npm")
    kept.parent.mkdir(parents=True, exist_ok=True)
    command = [npm, "pack", f"axe-core@{_AXE}", "--pack-destination", str(kept.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip(f"needs axe-core, which npm did not bring: {done.stderr[-300:]}")
    packed = kept.parent / f"axe-core-{_AXE}.tgz"
    with tarfile.open(packed) as tar:
        script = tar.extractfile("package/axe.min.js")
        assert script is not None
        kept.write_bytes(script.read())
    packed.unlink()
