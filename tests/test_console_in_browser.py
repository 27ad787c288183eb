"""Every page of the console in Chromium: other people's text runs nothing, nothing is wider than a phone, the policy and
the scripts are at peace, and who cannot see or has no mouse can use it."""

from __future__ import annotations

from base64 import b32decode
from collections.abc import Iterator
from typing import Any

import pytest
from axe_core_python.base import AXE_SCRIPT
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests import hostile
from tests.chromium import Browser, in_chromium, sign_in
from tests.console import ROWS, pages, registered
from tests.factories import NotificationFactory, ProjectFactory
from tests.vectors import LINKS, VECTORS
from users.models import User

pytestmark = in_chromium

PHONE = (390, 844)
DESK = (1300, 1000)
#: Leave the console, or need a session of their own.
LEAVING = {"logout", "jsi18n", "login", "code"}


def shown(user: User, rows: dict[str, Any]) -> Iterator[str]:
    """The URLs that answer with a page, and not with a part of one that is there already."""
    client = Client()
    client.force_login(user)
    for page in pages():
        if page.name in LEAVING:
            continue
        for url in page.urls(rows[page.model] if page.row else None):
            response = client.get(url)
            if (
                response.status_code == 200
                and not response.streaming
                and b"<html" in response.content
            ):
                yield url


def size(browser: Browser, width: int, height: int) -> None:
    """Of the page, without a window's border."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


#: Which element it is, if any: the innermost that sticks out and that nothing around it scrolls or cuts off.
_TOO_WIDE = """
if (document.documentElement.scrollWidth <= innerWidth) return null;
const out = [...document.body.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
const named = out.slice(-3).map(e => e.outerHTML.replace(/W{20,}/g, "W…").slice(0, 160));
return document.documentElement.scrollWidth + ": " + named.join(" / ");
"""


def too_wide(browser: Browser) -> str:
    return browser.driver.execute_script(_TOO_WIDE) or ""


def owned(browser: Browser) -> bool:
    return browser.driver.execute_script("return window.owned") is not None


def test_hostile_text_runs_nothing_and_fits_a_phone_on_every_page(browser: Browser) -> None:
    sign_in(browser)
    user = User.objects.get(username="olga")
    rows = hostile.world(user)
    size(browser, *PHONE)
    browser.complaints()
    found: list[str] = []
    for url in shown(user, rows):
        browser.open(url)
        if owned(browser):
            found.append(f"{url} ran a script")
        if wide := too_wide(browser):
            found.append(f"{url} is too wide: {wide}")
        found += [f"{url}: {said}" for said in browser.complaints()]
    assert not found, "\n".join(found)


# --- Without eyes, without a mouse -----------------------------------------------------------------------

#: unfold's own, which no template or stylesheet of ours reaches, each with its reason.
NOT_OURS = {".help-tooltip": "a hint of Django's chooser of permissions (SelectFilter2.js)"}

_AXE = """
const done = arguments[arguments.length - 1];
axe.run({exclude: arguments[0]}, {resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
  .then(result => done(result.violations), error => done([{id: String(error), impact: "critical", nodes: []}]));
"""


def test_none_of_forty_vectors_runs_in_the_console(browser: Browser) -> None:
    """As title, message, HTML and link: in the list, and on a page of five each."""
    sign_in(browser)
    project = ProjectFactory(name="Shop")
    urls = [reverse("admin:notifications_notification_changelist")]
    for first in range(0, len(VECTORS), 5):
        text = "\n".join(VECTORS[first : first + 5])
        link = LINKS[first // 5]
        values = {"title": text, "message": text, "html": text, "url": link, "category": text[:100]}
        row = NotificationFactory(project=project, channel=_CHANNELS[first % 2], **values)
        urls.append(reverse("admin:notifications_notification_change", args=[row.pk]))
    for url in urls:
        browser.open(url)
        assert not _was_hit(browser), url
        for frame in browser.driver.find_elements(By.TAG_NAME, "iframe"):
            browser.driver.switch_to.frame(frame)
            assert not _was_hit(browser), url
            browser.driver.switch_to.default_content()
            assert not _was_hit(browser), url
        hrefs = browser.driver.execute_script(
            "return [...document.querySelectorAll('a[href]')].map(a => a.protocol)"
        )
        assert set(hrefs) <= {"http:", "https:"}, url


_CHANNELS = ("email", "in_app")


def _was_hit(browser: Browser) -> bool:
    return browser.driver.execute_script("return window.hit") is not None


def findings(browser: Browser) -> list[str]:
    """What axe calls serious or critical, and where."""
    browser.driver.execute_script(AXE_SCRIPT)
    violations = browser.driver.execute_async_script(_AXE, [[css] for css in NOT_OURS])
    return [
        f"{violation['id']}: {node['target']} {node['html'][:150]} | {node['failureSummary'][-200:]}"
        for violation in violations
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"] or [{"target": "", "html": "", "failureSummary": ""}]
    ]


def set_theme(browser: Browser, theme: str) -> None:
    browser.driver.execute_script("localStorage.setItem('adminTheme', arguments[0])", f'"{theme}"')


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_has_nothing_serious_to_say_of_any_page(browser: Browser, theme: str) -> None:
    sign_in(browser)
    user = User.objects.get(username="olga")
    project = ProjectFactory(name="Shop")
    rows = {label: ROWS[label](project) for label in registered()}
    browser.driver.set_script_timeout(30)
    size(browser, *DESK)
    set_theme(browser, theme)
    found: list[str] = []
    for url in shown(user, rows):
        browser.open(url)
        is_dark = browser.driver.execute_script(
            "return document.documentElement.classList.contains('dark')"
        )
        assert is_dark == (theme == "dark"), url
        found += [f"{url}: {finding}" for finding in findings(browser)]
    assert not found, "\n".join(found)


def test_axe_has_nothing_serious_to_say_of_signing_in(browser: Browser) -> None:
    browser.open(reverse("admin:login"))
    assert not findings(browser)
    browser.open("/")
    assert not findings(browser)


#: What can be pressed, and is to be seen.
_PRESSABLE = """
const pressable = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
return [...document.querySelectorAll("#content-main, #content, main")].slice(0, 1).flatMap(
  part => [...part.querySelectorAll(pressable)]
).filter(e => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true}) && !e.disabled && e.tabIndex >= 0
  && e.getClientRects().length && !(e.type === "radio"));
"""
_FOCUSED = """
const focused = document.activeElement;
if (!focused || focused === document.body) return null;
const style = getComputedStyle(focused);
const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
return [focused, ring || style.boxShadow !== "none"];
"""


def walked(browser: Browser, most: int = 400) -> tuple[set[str], list[str]]:
    """What Tab comes to, once around; and of that what does not show it."""
    reached: set[str] = set()
    unseen: list[str] = []
    browser.driver.execute_script("document.activeElement.blur()")
    last = ""
    for _ in range(most):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        focused = browser.driver.execute_script(_FOCUSED)
        if focused is None or (focused[0].id in reached and focused[0].id != last):
            break
        # A date has several places to stop at.
        last = focused[0].id
        reached.add(focused[0].id)
        if not focused[1]:
            unseen.append(focused[0].get_attribute("outerHTML")[:200])
    return reached, unseen


def test_tab_comes_to_everything_that_can_be_pressed_and_shows_where_it_is(
    browser: Browser,
) -> None:
    sign_in(browser)
    project = ProjectFactory(name="Shop")
    notification = ROWS["notifications.notification"](project)
    found: list[str] = []
    for url in (
        reverse("admin:index"),
        reverse("admin:notifications_notification_changelist"),
        reverse("admin:notifications_notification_change", args=[notification.pk]),
        reverse("admin:notifications_notification_confirm", args=[notification.pk, "cancel"]),
        reverse("admin:notifications_batch_add"),
        reverse("admin:second_factor"),
    ):
        browser.open(url)
        wanted = browser.driver.execute_script(_PRESSABLE)
        assert wanted, url
        reached, unseen = walked(browser)
        found += [f"{url}: Tab does not come to {e.get_attribute('outerHTML')[:200]}" for e in wanted if e.id not in reached]  # fmt: skip
        found += [f"{url}: no ring around {html}" for html in unseen]
    assert not found, "\n".join(found)


def test_a_second_factor_is_set_up_and_asked_for(browser: Browser) -> None:
    """Each step on a phone, seen by axe and without a complaint of the policy."""

    def look() -> None:
        assert findings(browser) == []
        assert too_wide(browser) == ""
        assert browser.complaints() == []

    sign_in(browser)
    browser.complaints()
    size(browser, *PHONE)
    browser.open(reverse("admin:second_factor"))
    look()
    browser.click("button", "Set up")
    secret = browser.find("#secret").text.replace(" ", "")
    browser.find("img.ntf-qr")
    assert browser.driver.execute_script(
        "return document.querySelector('.ntf-qr').naturalWidth > 0"
    )
    look()
    browser.type("input[name=code]", f"{totp(b32decode(secret)):06}")
    browser.click("button", "Confirm")
    recovery_code = browser.find(".ntf-codes code").text
    look()
    browser.driver.refresh()
    browser.find("h2", "Signing in asks for a second factor")
    look()
    browser.driver.delete_all_cookies()
    browser.open(reverse("admin:notifications_batch_changelist"))
    browser.type("input[name=username]", "olga")
    browser.type("input[name=password]", "a-long-passphrase" + Keys.ENTER)
    browser.find("label", "Code")
    look()
    browser.type("input[name=code]", recovery_code + Keys.ENTER)
    browser.find("a", "Send to many")
