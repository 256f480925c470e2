"""Headless Chromium for tests, used as people use it, by pointer and keyboard; and a checker of accessibility."""

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

# Newer versions check more rules. Pinned, so that the rules change only with this line.
_AXE = "4.14.1"
_AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


class Browser:
    """A browser window.

    Attributes:
        driver: Selenium's driver.
        url: the server's address, without a slash at the end.
    """

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str) -> None:
        """Opens a path of the server."""
        self.driver.get(self.url + path)

    @property
    def path(self) -> str:
        """The path and query of the current page."""
        parts = urlsplit(self.driver.current_url)
        assert f"{parts.scheme}://{parts.netloc}" == self.url
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def one(self, selector: str) -> WebElement:
        """Returns the first such element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> list[str]:
        """Returns the texts of all such elements that are visible."""
        return [found.text for found in self.driver.find_elements(By.CSS_SELECTOR, selector) if found.is_displayed()]

    def press(self, *keys: str, shift: bool = False) -> None:
        """Presses keys one after another, holding Shift if asked to."""
        chain = ActionChains(self.driver, duration=0)
        if shift:
            chain.key_down(Keys.SHIFT)
        chain.send_keys(*keys)
        if shift:
            chain.key_up(Keys.SHIFT)
        chain.perform()

    def hover(self, element: WebElement) -> None:
        """Moves the pointer over an element."""
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a test's script in the page, outside the page's policy, and returns its result."""
        return self.driver.execute_script(script, *arguments)

    def until(self, condition: Callable[[], Found]) -> Found:
        """Waits until a condition is true, and returns it."""
        return WebDriverWait(self.driver, _TIMEOUT, 0.02).until(lambda _: condition())

    def send(self, command: str, **arguments: Any) -> Any:
        """Sends a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def emulate(self, width: int = 1280, dark: bool = False) -> None:
        """Sets the window's width and the preferred theme."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.send("Emulation.setEmulatedMedia", features=[theme, still])

    @contextlib.contextmanager
    def without_scripts(self) -> Iterator[None]:
        """Disables scripts in pages that are opened meanwhile."""
        self.send("Emulation.setScriptExecutionDisabled", value=True)
        try:
            yield
        finally:
            self.send("Emulation.setScriptExecutionDisabled", value=False)

    def complaints(self) -> list[str]:
        """Returns the console's errors and warnings since the last call, violations of the policy included."""
        lines: list[Mapping[str, Any]] = self.driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def violations(self, rules: Sequence[str] = _RULES) -> list[str]:
        """Checks the page with axe; returns each violation's rule, element and reason."""
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
    """Starts a browser; skips the test if there is none."""
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
    """Returns axe-core from `$HUBEXPORT_AXE` or, once, from npm; skips the test if there is none."""
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
