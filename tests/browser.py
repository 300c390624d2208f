"""A real browser for the pages that tunesmith makes: headless Chromium, driven by selenium, with what its console and its network said.

Nothing is downloaded: Chromium and chromedriver are those of the system (Debian: ``apt install chromium chromium-driver``, which
``.ci/run`` does), and every name but loopback leads nowhere. Where one of them is absent, the tests that need them skip and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMEDRIVER = ("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # a container's root can't use the sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class Browser:
    """One window of headless Chromium.

    Attributes:
        driver: selenium's driver, for everything that has no method here.
    """

    def __init__(self, driver: WebDriver) -> None:
        self.driver = driver
        self._console: list[str] = []
        self._requests: list[str] = []
        self._width: int | None = None

    def open(self, address: str | Path) -> None:
        """Load an address or a local file."""
        self.driver.get(address.resolve().as_uri() if isinstance(address, Path) else address)

    def resize(self, width: int, height: int = 900) -> None:
        """Make the page ``width`` by ``height`` CSS pixels, narrower than a window can be, too; below 600 it behaves as a phone's."""
        self._width = width
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, on: bool = True) -> None:
        """Let the page see a user who prefers dark colours, or light ones."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def press(self, *keys: str) -> None:
        """Type keys at whatever has the focus, as a user of the keyboard does."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def wait_for(self, script: str, *, seconds: float = 60) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda driver: driver.execute_script(f"return {script}"))
        except TimeoutException:
            shown = self.driver.execute_script("return document.body.innerText")
            pytest.fail(f"never true: {script}\nthe page shows:\n{shown}\nthe console says: {self.console_errors()}")

    def screenshot(self, path: Path, *, whole_page: bool = False) -> Path:
        """Write a PNG of what is seen, or of the whole page, and return its path."""
        import base64

        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole_page})
        path.write_bytes(base64.b64decode(picture["data"]))
        return path

    def width_beyond(self) -> int:
        """Return by how many CSS pixels the page is wider than the screen; 0 when nothing has to be scrolled sideways."""
        wide, seen = self.driver.execute_script("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        return int(wide - (self._width or seen))  # a phone gives a page that doesn't name its width 980 pixels, and shrinks it

    def console_errors(self) -> list[str]:
        """Return what the console said at level SEVERE since the test began: exceptions, failed loads, refusals of the page's CSP."""
        self._console += [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return list(self._console)

    def requests(self) -> list[str]:
        """Return every address that pages asked for since the test began; ``data:`` and the like are none."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated"):
                self._requests.append(message["params"].get("url") or message["params"]["request"]["url"])
        return [address for address in self._requests if urlsplit(address).scheme in ("http", "https", "ws", "wss", "file")]

    def outside_requests(self) -> list[str]:
        """Return the addresses beyond this machine that pages asked for since the test began."""
        return [address for address in self.requests() if not address.startswith("file:") and urlsplit(address).hostname not in LOOPBACK]

    def forget(self) -> None:
        """Begin anew: an empty page of the usual size, nothing stored, nothing logged."""
        self.driver.get("about:blank")
        for command in ("Emulation.clearDeviceMetricsOverride", "Network.clearBrowserCookies"):
            self.driver.execute_cdp_cmd(command, {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self._console, self._requests, self._width = [], [], None


def find_program(names: tuple[str, ...]) -> str | None:
    """Return the path of the first of these programs that is installed."""
    return next((path for path in map(shutil.which, names) if path), None)


def start_driver(chromium: str, chromedriver: str, profile: str) -> WebDriver:
    """Start Chromium with its logs on.

    Args:
        chromium, chromedriver: paths of the programs, so that selenium looks for none.
        profile: an empty folder for what the browser keeps.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={profile}", "--window-size=1200,900"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=chromedriver, env={**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"})
    return webdriver.Chrome(options=options, service=service)


@pytest.fixture(scope="session")
def chromium_window() -> Iterator[Browser]:
    """The one Chromium of a test run; tests use ``browser``."""
    pytest.importorskip("selenium", reason="the browser is driven by selenium (extra 'test')")
    chromium, chromedriver = find_program(CHROMIUM), find_program(CHROMEDRIVER)
    if chromium is None or chromedriver is None:
        missing = "chromium" if chromium is None else "chromedriver"
        pytest.skip(f"{missing} is not installed (Debian: apt install chromium chromium-driver)")
    with tempfile.TemporaryDirectory(prefix="tunesmith-browser-", ignore_cleanup_errors=True) as profile:
        driver = start_driver(chromium, chromedriver, profile)
        try:
            yield Browser(driver)
        finally:
            driver.quit()


@pytest.fixture
def browser(chromium_window: Browser) -> Browser:
    """A clean window of headless Chromium; skips where there is none."""
    chromium_window.forget()
    return chromium_window
