"""Chromium for the tests of pages, with nothing to load from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.factories import UserFactory

PROGRAMS = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
MISSING = [name for name, path in PROGRAMS.items() if path is None]

#: Of each module that uses it.
in_chromium = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(bool(MISSING), reason=f"no {' and no '.join(MISSING)} on this machine"),
]


class Browser:
    """Chromium at this test's own server."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def find(self, css: str, text: str = "") -> WebElement:
        """The first visible element, waited for, that matches and shows the text."""

        def visible(driver: Any) -> WebElement | None:
            elements = driver.find_elements(By.CSS_SELECTOR, css)
            shown = (e for e in elements if e.is_displayed() and text in e.text)
            return next(shown, None)

        found: WebElement = WebDriverWait(self.driver, 15, ignored_exceptions=[Exception]).until(
            visible, f"no {css} with {text!r} on {self.driver.current_url}"
        )
        return found

    def click(self, css: str, text: str = "") -> None:
        element = self.find(css, text)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def type(self, css: str, text: str) -> None:
        element = self.find(css)
        element.send_keys(Keys.CONTROL, "a")
        element.send_keys(text)

    def complaints(self) -> list[str]:
        """What the browser's console says since it was last asked: errors of scripts, what a policy forbade."""
        found = self.driver.get_log("browser")
        return [entry["message"] for entry in found if entry["level"] in {"WARNING", "SEVERE"}]

    def loaded_from(self) -> set[str]:
        """Where everything on this page came from."""
        script = "return performance.getEntriesByType('resource').map(e => new URL(e.name).origin)"
        return set(self.driver.execute_script(script))


@pytest.fixture
def browser(live_server: Any, tmp_path: Any) -> Iterator[Browser]:
    options = ChromeOptions()
    options.binary_location = PROGRAMS["chromium"] or ""
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        f"--user-data-dir={tmp_path}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(PROGRAMS["chromedriver"]))
    yield Browser(driver, live_server.url)
    driver.quit()


def sign_in(browser: Browser) -> None:
    UserFactory(username="olga", is_superuser=True)
    browser.open("/admin/")
    browser.type("input[name=username]", "olga")
    browser.type("input[name=password]", "a-long-passphrase" + Keys.ENTER)
    browser.find("body", "Notifications")
