"""The bell in Chromium, on a page of another origin, with the real web and the real stream behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from notifications.inbox import marking
from notifications.inbox.entry import entry_for
from notifications.models import Notification
from tests.chromium import Browser, in_chromium
from tests.factories import RecipientFactory, arrived, arrived_together
from tests.streams import StreamServer
from tests.test_console_in_browser import findings, size
from tests.vectors import LINKS, VECTORS
from users import inbox_access
from users.models import Project, Recipient

pytestmark = in_chromium

BELL = Path(django_settings.BASE_DIR) / "static" / "notifyproj" / "bell.js"
#: Of the page's `notify-bell`.
_SHADOW = "const bell = document.querySelector('notify-bell'), root = bell.shadowRoot;"


class Site:
    """A page of another origin, with a strict policy: its own scripts, the service's, and no inline anything."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.attributes = ""
        self.policy = ""
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                is_script = self.path == "/page.js"
                kind = "text/javascript" if is_script else "text/html"
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Security-Policy", site.policy)
                self.end_headers()
                self.wfile.write((_SCRIPT if is_script else site.page).encode())

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def page(self) -> str:
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            "<title>A shop</title>"
            f'<script src="/page.js"></script><script src="{self.service}/static/notifyproj/bell.js" defer></script>'
            f'<main><h1>A shop</h1><p><notify-bell src="{self.service}" {self.attributes}></notify-bell></p></main></html>'
        )

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


#: What a page does with the bell's events.
_SCRIPT = """
window.asked = 0;
addEventListener("notify-token-expired", () => { window.asked += 1; });
"""


@pytest.fixture
def site(live_server: Any, alice: Project) -> Iterator[Site]:
    site = Site(live_server.url)
    alice.inbox_origins = [site.origin]
    alice.save()
    inbox_access.origins.forget()
    yield site
    site.stop()


@pytest.fixture
def ada(alice: Project) -> Recipient:
    return RecipientFactory(project=alice, user_id="ada")


@pytest.fixture
def bell(
    browser: Browser,
    site: Site,
    alice: Project,
    ada: Recipient,
    start_stream: Callable[..., StreamServer],
) -> Bell:
    server = start_stream()
    stream_origin = server.url.removesuffix("/api/v1/inbox/stream")
    site.policy = (
        f"default-src 'self'; script-src 'self' {site.service}; "
        f"connect-src {site.service} {stream_origin}; base-uri 'none'; object-src 'none'"
    )
    site.attributes = f'token="{entry_for(alice.pk, "ada", live=True).token}"'
    return Bell(browser, site, server)


class Bell:
    def __init__(self, browser: Browser, site: Site, server: StreamServer) -> None:
        self.browser, self.site, self.server = browser, site, server

    def open(self) -> None:
        """Until the list is there."""
        self.browser.driver.get(self.site.origin)
        self.until("bell.inbox.position >= 0")

    def js(self, script: str, *arguments: Any) -> Any:
        return self.browser.driver.execute_script(_SHADOW + script, *arguments)

    def until(self, condition: str, seconds: float = 15) -> None:
        end = time.monotonic() + seconds
        while not self.js(f"return Boolean({condition})"):
            assert time.monotonic() < end, (condition, self.state, self.browser.complaints())
            time.sleep(0.05)

    @property
    def state(self) -> Any:
        return self.js("return {position: bell.inbox.position, unread: bell.inbox.unread}")

    def badge(self) -> str:
        return str(self.js("const b = root.querySelector('.badge'); return b.hidden ? '' : b.textContent"))  # fmt: skip

    def titles(self) -> list[str]:
        return list(self.js("return [...root.querySelectorAll('li b')].map(b => b.textContent)"))

    def toasts(self) -> list[str]:
        return list(self.js("return [...root.querySelectorAll('.toast b')].map(b => b.textContent)"))  # fmt: skip

    def press(self) -> None:
        self.js("root.querySelector('button').click()")


def test_a_page_of_another_origin_shows_badge_list_and_toast(bell: Bell, ada: Recipient) -> None:
    arrived(ada, title="Of yesterday")
    bell.open()
    assert (bell.badge(), bell.toasts()) == ("1", [])
    arrived(ada, title="Just now", message="Hello, Ada.")
    bell.until("root.querySelector('.toast')")
    assert (bell.badge(), bell.toasts()) == ("2", ["Just now"])
    bell.press()
    bell.until("root.querySelector('[popover]').matches(':popover-open')")
    assert bell.titles() == ["Just now", "Of yesterday"]
    label = bell.js("return root.querySelector('button').getAttribute('aria-label')")
    assert label == "Notifications, 2 unread"
    assert bell.browser.complaints() == []


def test_a_page_that_the_project_does_not_name_shows_nothing(
    bell: Bell, alice: Project, ada: Recipient
) -> None:
    alice.inbox_origins = []
    alice.save()
    inbox_access.origins.forget()
    arrived(ada, title="Not for you")
    bell.browser.driver.get(bell.site.origin)
    time.sleep(1)
    assert bell.state == {"position": -1, "unread": 0}
    assert bell.titles() == []


def test_opening_a_message_reads_it_and_nothing_else(bell: Bell, ada: Recipient) -> None:
    arrived(ada, title="one")
    arrived(ada, title="two")
    bell.open()
    bell.press()
    bell.js("root.querySelector('li .item').click()")
    bell.until("bell.inbox.unread === 1")
    assert bell.badge() == "1"
    read = Notification.objects.exclude(read_at=None)
    assert [each.title for each in read] == ["two"]


def test_a_message_is_archived_and_all_are_read(bell: Bell, ada: Recipient) -> None:
    for title in ("one", "two", "three"):
        arrived(ada, title=title)
    bell.open()
    bell.press()
    bell.js("root.querySelector('li button[aria-label^=Archive]').click()")
    bell.until("root.querySelectorAll('li').length === 2")
    assert (bell.titles(), bell.badge()) == (["two", "one"], "2")
    bell.js("[...root.querySelectorAll('button')].find(b => b.textContent === 'Mark all read').click()")  # fmt: skip
    bell.until("bell.inbox.unread === 0")
    assert bell.badge() == ""
    assert Notification.objects.filter(read_at=None).count() == 1  # the archived one


def test_with_read_on_open_what_is_shown_is_read(bell: Bell, ada: Recipient) -> None:
    bell.site.attributes += " read-on-open"
    arrived_together(ada, 3)
    bell.open()
    bell.press()
    bell.until("bell.inbox.unread === 0")
    arrived(ada)
    bell.until("bell.inbox.unread === 1")


def test_older_ones_come_page_by_page(bell: Bell, ada: Recipient) -> None:
    for number in range(60):
        arrived(ada, title=str(number))
    bell.open()
    bell.press()
    assert len(bell.titles()) == 50
    bell.js("root.querySelector('.older').click()")
    bell.until("root.querySelectorAll('li').length === 60")
    assert bell.titles() == [str(number) for number in reversed(range(60))]
    assert bell.js("return root.querySelector('.older').hidden")


def test_what_changes_elsewhere_is_seen_here(bell: Bell, ada: Recipient) -> None:
    item = arrived(ada, title="one")
    bell.open()
    marking.mark_read(item.id)
    bell.until("bell.inbox.unread === 0")
    marking.mark_unread(item.id)
    bell.until("bell.inbox.unread === 1")
    Notification.objects.get(id=item.id)
    marking.archive(item.id)
    bell.until("root.querySelectorAll('li').length === 0")
    marking.unarchive(item.id)
    bell.until("root.querySelectorAll('li').length === 1")


# --- Several tabs, and what breaks -----------------------------------------------------------------------


def test_the_tabs_of_a_browser_share_one_stream_and_it_passes_on(
    bell: Bell, ada: Recipient
) -> None:
    driver = bell.browser.driver
    bell.open()
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    bell.open()
    second = driver.current_window_handle
    arrived(ada, title="one")
    bell.until("bell.inbox.unread === 1")
    held = "(await navigator.locks.query())"
    both = driver.execute_async_script(
        f"const done = arguments[0]; (async () => done([{held}.held.length, {held}.pending.length]))()"
    )
    assert both == [1, 1]
    bell.js("root.querySelector('li .item').click()")
    bell.until("bell.inbox.unread === 0")
    driver.switch_to.window(first)
    bell.until("bell.inbox.unread === 0")
    driver.close()
    driver.switch_to.window(second)
    arrived(ada, title="two")
    bell.until("bell.inbox.unread === 1")
    assert bell.titles() == ["two", "one"]


def test_what_arrives_while_the_stream_is_away_appears_once(bell: Bell, ada: Recipient) -> None:
    bell.open()
    arrived(ada, title="before")
    bell.until("bell.inbox.unread === 1")
    bell.server.kill()
    for title in ("one", "two", "three"):
        arrived(ada, title=title)
    bell.server.start()
    bell.until("bell.inbox.unread === 4", seconds=30)
    assert bell.titles() == ["three", "two", "one", "before"]
    arrived(ada, title="after")
    bell.until("bell.inbox.unread === 5", seconds=30)
    assert bell.js("return bell.inbox.position") == 5


def test_without_a_stream_it_asks_for_the_list(bell: Bell, ada: Recipient, settings: Any) -> None:
    settings.STREAM_URL = "http://127.0.0.1:1/api/v1/inbox/stream"
    bell.open()
    arrived(ada, title="one")
    bell.until("bell.inbox.unread === 1", seconds=30)


def test_when_the_token_has_ended_the_page_is_asked_for_another(
    bell: Bell, alice: Project, ada: Recipient
) -> None:
    short = entry_for(alice.pk, "ada", live=True, lifetime=timedelta(seconds=3)).token
    bell.site.attributes = f'token="{short}"'
    bell.open()
    bell.until("window.asked")
    token = entry_for(alice.pk, "ada", live=True).token
    bell.js("bell.setAttribute('token', arguments[0])", token)
    bell.until("bell.inbox.token === bell.getAttribute('token') && bell.inbox.position >= 0")
    arrived(ada)
    bell.until("bell.inbox.unread === 1")


def test_when_the_token_is_revoked_the_callback_brings_another(
    bell: Bell, alice: Project, ada: Recipient
) -> None:
    bell.open()
    inbox_access.revoke(ada)
    token = entry_for(alice.pk, "ada", live=True).token
    bell.js("bell.renewed = 0; bell.renew = async () => { bell.renewed += 1; return arguments[0]; }", token)  # fmt: skip
    bell.until("bell.renewed")
    arrived(ada)
    bell.until("bell.inbox.unread === 1")
    assert bell.js("return bell.renewed") == 1


def test_what_one_does_with_a_token_that_has_just_ended_is_done_with_the_next(
    bell: Bell, alice: Project, ada: Recipient
) -> None:
    arrived(ada, title="one")
    bell.open()
    token = entry_for(alice.pk, "ada", live=True).token
    bell.js("bell.renew = async () => arguments[0]; bell.inbox.token = 'ended'", token)
    bell.press()
    bell.js("root.querySelector('li .item').click()")
    bell.until("bell.inbox.unread === 0")


# --- What it shows is text -------------------------------------------------------------------------------


def test_none_of_forty_vectors_runs_as_title_message_or_link(bell: Bell, ada: Recipient) -> None:
    assert len(VECTORS) == 40
    bell.site.policy = ""  # nothing but the bell's own care keeps them from running
    bell.open()
    for number, vector in enumerate(VECTORS):
        arrived(ada, title=vector, message=vector, url=LINKS[number % len(LINKS)])
    bell.until("bell.inbox.position === 40")
    bell.press()
    bell.until("root.querySelectorAll('li').length === 40")
    assert bell.titles() == list(reversed(VECTORS))
    hrefs = bell.js("return [...root.querySelectorAll('[href]')].map(a => a.href)")
    assert hrefs == []
    bell.js("root.querySelectorAll('.item, .toast').forEach(each => each.click())")
    time.sleep(0.5)
    assert bell.browser.driver.execute_script("return window.hit") is None
    tags = bell.js("return [...new Set([...root.querySelectorAll('*')].map(e => e.localName))]")
    assert set(tags) <= {"button", "i", "span", "div", "header", "strong", "ul", "li", "b", "time"}


def test_a_web_address_is_a_link(bell: Bell, ada: Recipient) -> None:
    arrived(ada, title="one", url="https://example.com/orders/7?a=b")
    bell.open()
    assert bell.js("return root.querySelector('li a').href") == "https://example.com/orders/7?a=b"


# --- For everybody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_nothing_serious_to_say(bell: Bell, ada: Recipient, theme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    bell.browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    bell.browser.driver.set_script_timeout(30)
    bell.site.policy = "default-src * 'unsafe-inline' 'unsafe-eval'"
    arrived(ada, title="read", read_at="2026-01-01T00:00:00Z")
    arrived(ada, title="one", message="Hello", url="https://example.com/")
    bell.open()
    arrived(ada, title="two")
    bell.until("root.querySelector('.toast')")
    bell.press()
    assert not findings(bell.browser)


def test_it_is_used_with_the_keyboard_alone(bell: Bell, ada: Recipient) -> None:
    arrived(ada, title="one")
    arrived(ada, title="two")
    bell.open()

    def press(*keys: str) -> None:
        ActionChains(bell.browser.driver).send_keys(*keys).perform()

    def focused() -> str:
        return str(bell.js("const e = root.activeElement; return e && (e.getAttribute('aria-label') || e.textContent)"))  # fmt: skip

    press(Keys.TAB)
    assert focused() == "Notifications, 2 unread"
    press(Keys.ENTER)
    bell.until("root.querySelector('[popover]').matches(':popover-open')")
    press(Keys.TAB)
    assert focused() == "Mark all read"
    press(Keys.TAB)
    assert focused().startswith("two")
    press(Keys.ENTER)
    bell.until("bell.inbox.unread === 1")
    assert focused().startswith("two")
    press(Keys.TAB)
    assert focused() == "Archive two"
    press(Keys.ESCAPE)
    bell.until("!root.querySelector('[popover]').matches(':popover-open')")
    assert focused() == "Notifications, 1 unread"


def test_it_fits_a_phone(bell: Bell, ada: Recipient) -> None:
    size(bell.browser, 390, 844)
    arrived(ada, title="W" * 200, message="W" * 400)
    bell.open()
    arrived(ada, title="W" * 200)
    bell.until("root.querySelector('.toast')")
    bell.press()
    for css in ("[popover]", ".toast", "li"):
        box = bell.js(f"const b = root.querySelector('{css}').getBoundingClientRect(); return [b.left, b.right]")  # fmt: skip
        assert 0 <= box[0] < box[1] <= 390, css
    assert bell.browser.driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_it_is_one_small_file_without_a_dependency() -> None:
    source = BELL.read_text(encoding="utf-8")
    assert len(source.encode()) <= 12_000
    for word in ("import ", "innerHTML", "outerHTML", "insertAdjacent", "eval(", "document.write"):
        assert word not in source
