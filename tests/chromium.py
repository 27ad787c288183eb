"""Chromium for the tests of pages, with nothing to load from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from selenium.common.exceptions import WebDriverException
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


class Chromium:
    """One for all tests of a process, since it takes seconds to start; each test finds it as if it were new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._driver: Chrome | None = None

    @property
    def driver(self) -> Chrome:
        if self._driver is None:
            service = ChromeService(PROGRAMS["chromedriver"])
            self._driver = Chrome(options=self._options(), service=service)
        return self._driver

    def _options(self) -> ChromeOptions:
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
            f"--user-data-dir={self._folder}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        return options

    def forget(self, url: str) -> None:
        """Whatever a test has left: its tabs, with what they emulate, cookies, storage and complaints."""
        try:
            self._forget(self.driver, url)
        except WebDriverException:
            self.quit()

    @staticmethod
    def _forget(driver: Chrome, url: str) -> None:
        old = driver.window_handles
        driver.switch_to.new_window("tab")
        fresh = driver.current_window_handle
        for each in old:
            driver.switch_to.window(each)
            driver.close()
        driver.switch_to.window(fresh)
        driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        everything = {"origin": url, "storageTypes": "all"}
        driver.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
        driver.get_log("browser")

    def quit(self) -> None:
        driver, self._driver = self._driver, None
        if driver:
            driver.quit()


#: The server's threads keep theirs, as long as a browser keeps a connection to it.
_END_OTHER_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture(scope="session")
def chromium(
    django_db_setup: None,
    live_server: Any,
    django_db_blocker: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Chromium]:
    """Set up after the database, and so ended before it is removed."""
    started = Chromium(tmp_path_factory.mktemp("chromium"))
    yield started
    started.quit()
    # So that the database can be removed.
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(_END_OTHER_SESSIONS)


@pytest.fixture
def browser(live_server: Any, chromium: Chromium) -> Iterator[Browser]:
    yield Browser(chromium.driver, live_server.url)
    chromium.forget(live_server.url)


def sign_in(browser: Browser) -> None:
    UserFactory(username="olga", is_superuser=True)
    browser.open("/admin/")
    browser.type("input[name=username]", "olga")
    browser.type("input[name=password]", "a-long-passphrase" + Keys.ENTER)
    browser.find("body", "Notifications")
