"""The page to try it in Chromium: one sends and sees it ring, read and told; the call beside the form is the form's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
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
from tests.test_console_in_browser import (
    _PRESSABLE,
    PHONE,
    findings,
    owned,
    size,
    too_wide,
    walked,
)
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


def test_a_mail_is_sent_seen_to_move_and_opened(browser: Browser) -> None:
    browser.open(TRY)
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


# --- For everybody -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_nothing_serious_to_say(browser: Browser, theme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.driver.set_script_timeout(30)
    browser.open(TRY)
    assert not findings(browser)
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
    missed = [e.get_attribute("outerHTML")[:200] for e in wanted if e.id not in reached]
    assert (missed, unseen) == ([], [])
