"""The pages in a real browser: Chromium, with nothing to load from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.utils import timezone
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from notifications import batches, delivery, receipts
from notifications.bulk import staged_loading
from notifications.models import Batch, Notification
from tests.chromium import Browser, in_chromium, sign_in
from tests.factories import (
    ApiKeyFactory,
    AttemptFactory,
    NotificationFactory,
    ProjectFactory,
    RecipientFactory,
)
from users.models import ApiKey

pytestmark = in_chromium


def test_a_key_typed_in_at_docs_sends_a_real_notification(browser: Browser) -> None:
    key = ApiKeyFactory()
    browser.open("/docs")
    browser.click(".btn.authorize")
    browser.type(".auth-container input", key.token)
    browser.click(".auth-btn-wrapper .authorize")
    browser.click(".auth-btn-wrapper .btn-done")
    browser.click("#operations-notifications-notifications_create .opblock-summary-control")
    browser.click("#operations-notifications-notifications_create .try-out__btn")
    browser.click("#operations-notifications-notifications_create .execute")
    browser.find("#operations-notifications-notifications_create .live-responses-table", "201")
    assert Notification.objects.get().api_key_id == key.pk
    assert browser.loaded_from() == {browser.url}


def test_the_customer_says_the_mail_never_came(browser: Browser, settings: Any) -> None:
    settings.SANDBOX = True
    first = NotificationFactory(
        address="Delivered@sandbox.test",
        status="failed",
        failure_kind="temporary",
        failure_code="452",
        failure_detail="Mailbox full",
        provider="smtp",
        lane="sandbox",
    )
    AttemptFactory(
        notification=first,
        outcome="temporary",
        code="452",
        detail="Mailbox full",
        finished_at=timezone.now(),
    )
    sign_in(browser)
    browser.click("a", "Notifications")
    browser.type("#searchbar", "Dee Livered <delivered@SANDBOX.test>" + Keys.ENTER)
    browser.find("body", "e-mail address")
    browser.click("#result_list a", "Hello")
    browser.find(".ntf-explanation", "Mailbox full")
    browser.click("a", "Resend")
    browser.click("button", "Resend")
    assert not Notification.objects.filter(resend_of=first), "a reason is asked for"
    browser.type("textarea[name=reason]", "The mailbox has room again.")
    browser.click("button", "Resend")
    browser.find("body", "resent")
    newer = Notification.objects.get(resend_of=first)
    delivery.drain("sandbox")
    receipts.apply_all(lambda: False)
    browser.click("a", str(newer.pk))
    browser.find(".ntf-state", "Delivered")
    browser.find(".ntf-timeline", "The mailbox has room again.")
    assert browser.loaded_from() == {browser.url}


def test_the_html_that_a_caller_sent_runs_nothing_and_loads_nothing(
    browser: Browser, live_server: Any
) -> None:
    attack = (
        "<script>top.owned = true</script>"
        f"<img src='{live_server.url}/livez' onerror='top.owned = true'>"
        "<h1>Still readable</h1>"
    )
    notification = NotificationFactory(
        recipient=RecipientFactory(user_id="<script>owned = true</script>"),
        title="<img src=x onerror='owned = true'>",
        message="</textarea><script>owned = true</script>",
        html=attack,
        status="sent",
        sent_at=timezone.now(),
    )
    sign_in(browser)
    browser.open(f"/admin/notifications/notification/{notification.pk}/change/")
    frame = browser.find("iframe")
    browser.driver.switch_to.frame(frame)
    browser.find("h1", "Still readable")
    assert browser.driver.execute_script("return document.images[0].naturalWidth") == 0
    browser.driver.switch_to.default_content()
    assert browser.driver.execute_script("return window.owned") is None


def test_reloading_the_page_that_shows_a_new_key_makes_no_second_one(browser: Browser) -> None:
    project = ProjectFactory(name="Shop")
    sign_in(browser)
    browser.open("/admin/users/apikey/add/")
    Select(browser.driver.find_element(By.NAME, "project")).select_by_value(str(project.pk))
    browser.type("input[name=name]", "backend" + Keys.ENTER)
    assert browser.find("#key").get_attribute("value").startswith("ntf_live_")
    browser.driver.refresh()
    browser.find("#result_list", "backend")
    assert ApiKey.objects.count() == 1


def test_a_file_is_uploaded_looked_at_started_and_seen_to_complete(
    browser: Browser, tmp_path: Path, settings: Any
) -> None:
    settings.SANDBOX = True
    ProjectFactory(name="Shop")
    rows = tmp_path / "customers.csv"
    rows.write_text(
        "email,First Name\nada@example.com,Ada\nbob@example.com,<script>owned=1</script>\n"
    )
    sign_in(browser)
    browser.open("/admin/notifications/batch/")
    browser.click("a", "Send to many")
    browser.type("input[name=name]", "Spring <b>sale</b>")
    browser.find("input[name=file]").send_keys(str(rows))
    browser.type("input[name=title]", "News for {{ first_name }}")
    browser.type("textarea[name=message]", "Hello {{ first_name }}!")
    browser.type("textarea[name=html]", "<p id=hello>Hello {{ first_name }}!</p>")
    Select(browser.driver.find_element(By.NAME, "live")).select_by_value("test")
    browser.click("button", "Upload and check")
    browser.find("body", "waits for a worker")
    # The page itself finds out what the worker does meanwhile.
    staged_loading.load_next()
    browser.driver.switch_to.frame(browser.find("iframe"))
    browser.find("#hello", "Hello Ada!")
    browser.driver.switch_to.default_content()
    browser.click("a", "Send now")
    browser.click("button", "Send now")
    browser.find("#batch-live", "0 of 2 done")
    delivery.drain("sandbox")
    browser.find("#batch-live", "2 of 2 done")
    batches.tend()
    browser.find("#batch-live", "Completed")
    assert Batch.objects.get().status == "completed"
    assert browser.driver.execute_script("return window.owned") is None
    assert browser.loaded_from() == {browser.url}
