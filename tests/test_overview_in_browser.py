"""The first page in a real browser: it keeps itself up to date, and takes nothing out of anybody's hands."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from notifications import pausing
from notifications.models import LANES, Heartbeat, HourlyCount, Pause
from notifyproj.version import VERSION
from tests.chromium import Browser, in_chromium, sign_in
from tests.factories import NotificationFactory, ProjectFactory

pytestmark = in_chromium

#: As if the operator had looked at something else for a moment, and came back.
LOOK_NOW = "document.dispatchEvent(new Event('visibilitychange'))"
FOCUSED = "return document.activeElement.getAttribute('href')"


@pytest.fixture
def _alive() -> None:
    queues = ",".join({lane.partition(".")[2] or "normal" for lane in LANES})
    Heartbeat.objects.create(name="worker", kind="worker", queues=queues, version=VERSION)
    Heartbeat.objects.create(name="beat", kind="scheduler")


@pytest.mark.usefixtures("_alive")
def test_it_shows_what_has_changed_and_leaves_the_focus_where_it_was(
    browser: Browser,
) -> None:
    NotificationFactory(due_at=timezone.now() + timedelta(hours=1))
    sign_in(browser)
    browser.find(".ntf-sentence", "Everything is going out.")
    link = browser.find("a[href*='email.normal/pause']")
    browser.driver.execute_script("arguments[0].focus()", link)
    pausing.pause("sms.high", None, "<b>wrong</b> texts")
    browser.driver.execute_script(LOOK_NOW)
    browser.find(".ntf-sentence", "sms.high is paused")
    browser.find(".ntf-sentence", "<b>wrong</b> texts")
    assert "email.normal/pause" in browser.driver.execute_script(FOCUSED)
    assert browser.loaded_from() == {browser.url}


@pytest.mark.usefixtures("_alive")
def test_a_table_that_was_unfolded_stays_so(browser: Browser) -> None:
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    row: dict[str, Any] = {"project": ProjectFactory(), "channel": "sms", "live": True}
    counted = HourlyCount.objects.create(hour=hour, status="sent", count=3, **row)
    sign_in(browser)
    browser.click(".ntf-overview summary", "SMS as a table")
    browser.find(".ntf-table td", "3")
    HourlyCount.objects.filter(pk=counted.pk).update(count=4)
    for _ in range(6):  # the charts are not asked for each time
        browser.driver.execute_script(LOOK_NOW)
        browser.find(".ntf-overview summary")
        browser.driver.execute_async_script("setTimeout(arguments[0], 300)")
    browser.find(".ntf-table td", "4")


@pytest.mark.usefixtures("_alive")
def test_a_lane_is_paused_and_resumed_by_keyboard_and_form(browser: Browser) -> None:
    NotificationFactory(due_at=timezone.now() + timedelta(hours=1))
    sign_in(browser)
    browser.click("a[href*='email.normal/pause']")
    browser.type("input[name=reason]", "wrong prices\n")
    browser.find(".ntf-sentence", "email.normal is paused")
    assert Pause.objects.get().reason == "wrong prices"
    browser.click("a[href*='email.normal/resume']")
    browser.click("button[type=submit].ntf-button", "Resume")
    browser.find(".ntf-sentence", "Everything is going out.")
    assert not Pause.objects.exists()
