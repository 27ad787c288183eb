"""The page to try it in Chromium: one sends and sees it ring, read and told; the call beside the form is the form's."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from notifications import delivery, receipts
from notifications.models import Channel, Notification, Priority, lane_of
from notifications.playground.curl import curl
from notifications.playground.forms import TryForm
from tests.chromium import Browser, in_chromium
from tests.factories import ApiKeyFactory, ProjectFactory
from tests.streams import StreamServer
from tests.test_console_in_browser import (
    _PRESSABLE,
    PHONE,
    findings,
    owned,
    size,
    too_wide,
    walked,
)
from tests.vectors import VECTORS
from users.models import Project

pytestmark = in_chromium

TRY = "/try/"
DRAINED = [lane_of(channel, priority) for channel in Channel for priority in Priority]
AWKWARD = "It's $HOME `date` \\ \"quoted\" !! %s \u00fc \U0001f514 '\\''"


@pytest.fixture(autouse=True)
def shop(settings: Any) -> Project:
    settings.SANDBOX = True
    return ProjectFactory(name="Shop")


def fill(browser: Browser, **values: str) -> None:
    """As if typed, and as fast."""
    script = (
        "const field = document.getElementById('try-form').elements[arguments[0]];"
        "field.value = arguments[1]; field.dispatchEvent(new Event('input', {bubbles: true}));"
    )
    for name, value in values.items():
        browser.driver.execute_script(script, name, value)


def choose(browser: Browser, channel: str) -> None:
    browser.click(f".channels label:has([value={channel}])")


def send(browser: Browser) -> None:
    browser.click("#try-form button.main")


def deliver() -> None:
    """What the workers do."""
    for lane in (*DRAINED, "sandbox"):
        delivery.drain(lane)
    receipts.apply_all(lambda: False)


def until(browser: Browser, holds: Callable[[], object], words: str) -> None:
    WebDriverWait(browser.driver, 15, 0.1, ignored_exceptions=[Exception]).until(
        lambda _: holds(), words
    )


def text(browser: Browser, css: str) -> str:
    return str(browser.driver.execute_script("return document.querySelector(arguments[0]).textContent", css))  # fmt: skip


# --- Sending, and what becomes of it ---------------------------------------------------------------------


def test_a_mail_is_sent_seen_to_move_and_opened(
    browser: Browser, start_stream: Callable[..., StreamServer]
) -> None:
    start_stream()
    open_with_bells(browser)
    choose(browser, "email")
    fill(browser, html="<h1 id=hi>Hello from the mail</h1>")
    send(browser)
    browser.find(".outbox li", "Pending")
    browser.find("#told", "Accepted, for ada@example.com.")
    deliver()
    browser.find(".outbox li", "The sandbox only simulates: nothing has left the machine.")
    browser.click(".outbox a", "Open")
    browser.driver.switch_to.frame(browser.find("iframe"))
    browser.find("#hi", "Hello from the mail")
    browser.driver.switch_to.default_content()
    browser.click("summary", "The text part")
    browser.find(".shown pre", "It is on its way")
    assert browser.complaints() == []


def test_an_sms_is_opened_with_its_segments(browser: Browser) -> None:
    browser.open(TRY)
    choose(browser, "sms")
    fill(browser, message="ç" * 80)
    send(browser)
    browser.click(".outbox a", "Open")
    browser.find(".shown", "80 characters, 2 segments")


def test_what_is_wrong_is_said_at_its_field_and_nothing_else_is_lost(browser: Browser) -> None:
    browser.open(TRY)
    choose(browser, "email")
    fill(browser, recipient="nobody", message="Kept")
    send(browser)
    browser.find("#recipient-error", "This is not an e-mail address.")
    assert browser.driver.switch_to.active_element.get_attribute("name") == "recipient"
    assert browser.find("#message").get_attribute("value") == "Kept"
    fill(browser, recipient="ada@example.com")
    send(browser)
    browser.find(".outbox li", "ada@example.com")
    assert not browser.driver.find_elements(By.CSS_SELECTOR, "#recipient-error")
    assert Notification.objects.get().message == "Kept"


def test_the_form_sends_without_scripts_too(browser: Browser) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.open(TRY)
    send(browser)
    browser.find(".outbox li", "Your order has shipped")
    notification = Notification.objects.get()
    assert (notification.channel, notification.user_id) == ("in_app", "ada")


# --- The call ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["email", "sms", "in_app"])
def test_the_call_that_is_shown_is_the_forms_own(browser: Browser, channel: str) -> None:
    given = {
        "recipient": "o'brien@example.com",
        "title": AWKWARD,
        "message": f"{AWKWARD}\n\tand\x7f a second\u2028 line",
        "html": "<p>It's</p>\n<p>HTML</p>",
        "url": "https://example.com/?a='b'",
    }
    browser.open(TRY)
    choose(browser, channel)
    fill(browser, **given)
    Select(browser.find("#priority")).select_by_value("high")
    expected = TryForm(given | {"channel": channel, "priority": "high", "delay": "0"}).body()
    assert text(browser, "#curl") == curl(browser.url, expected)


def test_the_call_that_is_shown_is_stored_by_the_service(browser: Browser, shop: Project) -> None:
    key = ApiKeyFactory(project=shop)
    browser.open(TRY)
    fill(browser, title=AWKWARD, message=f"{AWKWARD}\nsecond line")
    Select(browser.find("#delay")).select_by_value("60")
    environment = os.environ | {"API_KEY": key.token}
    shown = text(browser, "#curl")
    ran = subprocess.run(["bash", "-c", shown], env=environment, capture_output=True, text=True)
    assert "HTTP/1.1 201 Created" in ran.stdout
    notification = Notification.objects.get()
    assert (notification.title, notification.user_id) == (AWKWARD, "ada")
    assert notification.message == f"{AWKWARD}\nsecond line"
    assert notification.scheduled_for is not None


# --- The bells -----------------------------------------------------------------------------------------------

_BELL = (
    "document.querySelector('notify-bell[data-user=' + CSS.escape(arguments[0]) + ']').shadowRoot"
)
#: What of a bell is to be seen, in words.
_SEEN = f"""
const parts = [...{_BELL}.querySelectorAll("*")].filter(each => each.checkVisibility({{checkOpacity: true, checkVisibilityCSS: true}}));
return parts.flatMap(each => [...each.childNodes]).filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.data).join("|");
"""


def seen(browser: Browser, user: str) -> str:
    return str(browser.driver.execute_script(_SEEN, user))


def count(browser: Browser, user: str) -> int:
    """As a screen reader is told it. -1 for a bell that has not loaded its list yet."""
    script = f"return {_BELL}.querySelector('button').getAttribute('aria-label')"
    label = str(browser.driver.execute_script(script, user))
    return int((re.findall(r"\d+", label) or ["-1"])[0])


def press_bell(browser: Browser, user: str) -> None:
    browser.driver.execute_script(f"{_BELL}.querySelector('button').click()", user)


def open_with_bells(browser: Browser, unread: int = 0) -> None:
    """Waits until both are in. `unread`: of Ada."""
    browser.open(TRY)
    until(browser, lambda: count(browser, "ada") == unread, "the bell of Ada")
    until(browser, lambda: count(browser, "ben") == 0, "the bell of Ben")


def quick(browser: Browser, user: str) -> None:
    browser.click("form[data-quick] button", f"Send to {user.capitalize()}")
    browser.find("#told", f"Accepted, for {user}.")
    deliver()


def links(browser: Browser) -> list[str]:
    """Of the list of what was sent, newest first."""
    rows = browser.driver.find_elements(By.CSS_SELECTOR, ".outbox a")
    return [row.get_attribute("href") for row in rows]


def test_what_is_sent_to_ada_rings_her_bell_and_no_other(
    browser: Browser, start_stream: Callable[..., StreamServer]
) -> None:
    start_stream()
    open_with_bells(browser)
    quick(browser, "ada")
    until(browser, lambda: "Your order has shipped" in seen(browser, "ada"), "a toast")
    until(browser, lambda: count(browser, "ada") == 1, "a badge")
    assert count(browser, "ben") == 0
    quick(browser, "ben")
    until(browser, lambda: count(browser, "ben") == 1, "the other badge")
    assert count(browser, "ada") == 1
    assert "Your order has shipped" not in seen(browser, "ben")
    assert browser.complaints() == []


def test_reading_in_one_tab_changes_the_other(
    browser: Browser, start_stream: Callable[..., StreamServer]
) -> None:
    start_stream()
    open_with_bells(browser)
    first = browser.driver.current_window_handle
    browser.driver.switch_to.new_window("tab")
    open_with_bells(browser)
    second = browser.driver.current_window_handle
    quick(browser, "ada")
    until(browser, lambda: count(browser, "ada") == 1, "the badge in the second tab")
    browser.driver.switch_to.window(first)
    until(browser, lambda: count(browser, "ada") == 1, "the badge in the first tab")
    press_bell(browser, "ada")
    until(browser, lambda: "Mark all read" in seen(browser, "ada"), "the panel")
    script = f"[...{_BELL}.querySelectorAll('button')].find(b => b.textContent.includes('Mark all read')).click()"
    browser.driver.execute_script(script, "ada")
    until(browser, lambda: count(browser, "ada") == 0, "nothing unread")
    browser.driver.switch_to.window(second)
    until(browser, lambda: count(browser, "ada") == 0, "nothing unread in the other tab")


def test_what_arrives_while_the_stream_is_killed_appears_once(
    browser: Browser, start_stream: Callable[..., StreamServer]
) -> None:
    server = start_stream()
    open_with_bells(browser)
    quick(browser, "ada")
    until(browser, lambda: count(browser, "ada") == 1, "the first one")
    server.kill()
    for number in ("one", "two", "three"):
        fill(browser, recipient="ada", title=f"While away: {number}", message="Still here")
        send(browser)
        browser.find(".outbox li", f"While away: {number}")
        deliver()
    server.start()
    until(browser, lambda: count(browser, "ada") == 4, "all three")
    press_bell(browser, "ada")
    for number in ("one", "two", "three"):
        until(browser, lambda n=number: f"While away: {n}" in seen(browser, "ada"), number)
    script = f"return [...{_BELL}.querySelectorAll('li')].map(each => each.textContent).join('|')"
    listed = str(browser.driver.execute_script(script, "ada"))
    assert [listed.count(f"While away: {n}") for n in ("one", "two", "three")] == [1, 1, 1]
    assert count(browser, "ben") == 0


# --- Text that must stay text --------------------------------------------------------------------------------

#: Posts the form with each of these values, and has the list look anew.
_POST = """
const done = arguments[arguments.length - 1];
const form = document.getElementById("try-form");
const csrfmiddlewaretoken = form.elements.csrfmiddlewaretoken.value;
const post = (given) => fetch(form.action, {method: "POST", body: new URLSearchParams({csrfmiddlewaretoken, ...given})});
(async () => {
  const answers = [];
  for (const given of arguments[0]) answers.push((await post(given)).status);
  document.dispatchEvent(new Event("visibilitychange"));
  done(answers);
})();
"""


def sevens() -> Iterator[tuple[str, ...]]:
    """So many that each is among the fifteen of the list, once in-app and once as a mail."""
    left = iter(VECTORS)
    while some := tuple(islice(left, 7)):
        yield some


def was_hit(browser: Browser) -> bool:
    return browser.driver.execute_script("return window.hit") is not None


def test_none_of_forty_vectors_runs_on_any_page_to_try_it(
    browser: Browser, start_stream: Callable[..., StreamServer]
) -> None:
    start_stream()
    browser.driver.set_script_timeout(30)
    assert len(VECTORS) >= 40
    for number, vectors in enumerate(sevens()):
        open_with_bells(browser, unread=7 * number)
        in_app = [{"channel": "in_app", "recipient": "ada", "title": v, "message": v} for v in vectors]  # fmt: skip
        mails = [one | {"channel": "email", "recipient": "ada@example.com", "html": one["title"]} for one in in_app]  # fmt: skip
        answers = browser.driver.execute_async_script(_POST, in_app + mails)
        assert set(answers) == {200}
        deliver()
        newest = str(Notification.objects.latest("id").pk)
        until(browser, lambda pk=newest: pk in links(browser)[0], "the list")
        until(browser, lambda v=vectors[-1]: v in seen(browser, "ada"), "a toast")
        press_bell(browser, "ada")
        assert not was_hit(browser), vectors
        # The policy would stop a script that is in the page; none is to come so far.
        assert browser.complaints() == []
        # The mails, which came last, and one in-app: all of these are shown by the same lines.
        for link in links(browser)[: len(mails) + 1]:
            browser.driver.get(link)
            assert not was_hit(browser), link
            for frame in browser.driver.find_elements(By.TAG_NAME, "iframe"):
                browser.driver.switch_to.frame(frame)
                assert not was_hit(browser), link
                browser.driver.switch_to.default_content()
                assert not was_hit(browser), link
        browser.complaints()


# --- For everybody -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_nothing_serious_to_say(browser: Browser, theme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.driver.set_script_timeout(30)
    open_with_bells(browser)
    press_bell(browser, "ada")
    until(browser, lambda: "Notifications" in seen(browser, "ada"), "the panel")
    assert not findings(browser)
    press_bell(browser, "ada")
    choose(browser, "email")
    fill(browser, recipient="nobody")
    send(browser)
    browser.find("#recipient-error")
    fill(browser, recipient="bounced@sandbox.test")
    send(browser)
    browser.find(".outbox li", "Pending")
    deliver()
    browser.find(".outbox li", "Failed")
    assert not findings(browser)
    browser.click(".outbox a", "Open")
    browser.find("iframe")
    assert not findings(browser)


def test_nothing_is_wider_than_a_phone(browser: Browser) -> None:
    size(browser, *PHONE)
    long = "W" * 255
    browser.open(f"{TRY}?left={long}&right={long}")
    for channel in ("email", "sms", "in_app"):
        choose(browser, channel)
        assert not too_wide(browser), channel
    fill(browser, recipient=long, title=long, message=long * 4)
    send(browser)
    browser.find(".outbox li", "W")
    assert not too_wide(browser)
    browser.click(".outbox a", "Open")
    browser.find(".shown")
    assert not too_wide(browser)
    assert not owned(browser)


def test_tab_comes_to_everything_that_can_be_pressed_and_shows_where_it_is(
    browser: Browser,
) -> None:
    browser.open(TRY)
    send(browser)
    browser.find(".outbox a", "Open")
    browser.open(TRY)
    wanted = browser.driver.execute_script(_PRESSABLE)
    assert len(wanted) > 12
    reached, unseen = walked(browser)
    # The ring of a bell is within it.
    unseen = [html for html in unseen if not html.startswith("<notify-bell")]
    missed = [e.get_attribute("outerHTML")[:200] for e in wanted if e.id not in reached]
    assert (missed, unseen) == ([], [])
