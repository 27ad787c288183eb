"""One notification from POST to hand-over: the real API, broker, Celery worker, SMTP server and HTTP vendors."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from notifications import waking
from notifications.models import Attempt, Notification
from notifications.providers.sandbox import Sandbox
from notifications.watchdog import EXIT_STATUS
from tests.factories import NotificationFactory, RecipientFactory
from tests.providers.vendors import HANG, FakeMailgun, FakeSmtp, FakeTwilio

pytestmark = pytest.mark.django_db(transaction=True)

NO_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def _really_wake(monkeypatch: pytest.MonkeyPatch, woken: list[str]) -> None:
    monkeypatch.setattr("notifications.intake.wake", waking.wake)


def use(settings: Any, vendor: Any) -> None:
    for name, value in vendor.settings.items():
        setattr(settings, name, value)


def post(client: Any, **body: Any) -> str:
    answer = client.post("/api/v1/notifications", body, format="json")
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def status_of(notification_id: str) -> str:
    return Notification.objects.get(id=notification_id).status


def test_an_email_reaches_the_smtp_server(client_of_alice, settings, start_worker, wait_until):
    with FakeSmtp() as vendor:
        use(settings, vendor)
        start_worker(EMAIL_URL=vendor.url, DEFAULT_FROM_EMAIL="shop@example.com")
        posted = post(
            client_of_alice, channel="email", recipient="ada@example.com", title="Hi", message="Yo"
        )
        wait_until(lambda: status_of(posted) == "sent")
    [mail] = vendor.accepted
    assert mail.recipients == ["ada@example.com"]
    assert mail.parsed["Subject"] == "Hi"
    assert mail.parsed["X-Notification-Id"] == posted
    assert mail.parsed["Message-ID"] == f"<{posted}@example.com>"
    assert mail.parsed.get_body(("plain",)).get_content().strip() == "Yo"
    assert "<p>Yo</p>" in mail.parsed.get_body(("html",)).get_content()


def test_an_email_reaches_mailgun(client_of_alice, settings, start_worker, wait_until):
    with FakeMailgun() as vendor:
        use(settings, vendor)
        start_worker(
            MAILGUN_API_KEY=vendor.password,
            MAILGUN_DOMAIN=vendor.domain,
            MAILGUN_API_URL=f"{vendor.url}/v3",
        )
        posted = post(client_of_alice, channel="email", recipient="ada@example.com", message="Yo")
        wait_until(lambda: status_of(posted) == "sent")
    assert vendor.accepted[0]["to"] == ["ada@example.com"]
    assert Notification.objects.get().provider == "mailgun"


def test_an_sms_reaches_twilio(client_of_alice, settings, start_worker, wait_until):
    with FakeTwilio() as vendor:
        use(settings, vendor)
        start_worker(
            TWILIO_ACCOUNT_SID=vendor.username,
            TWILIO_AUTH_TOKEN=vendor.password,
            TWILIO_FROM="+15005550006",
            TWILIO_API_URL=vendor.url,
        )
        posted = post(client_of_alice, channel="sms", recipient="+15005550009", message="Yo")
        wait_until(lambda: status_of(posted) == "sent")
    assert vendor.accepted[0]["To"] == ["+15005550009"]
    assert vendor.accepted[0]["Body"] == ["Yo"]
    assert Notification.objects.get().provider_message_id.startswith("SM")


def test_an_in_app_message_is_delivered_and_stands_in_the_history(
    client_of_alice, start_worker, wait_until
):
    start_worker()
    posted = post(client_of_alice, channel="in_app", user_id=4, message="Yo")
    wait_until(lambda: status_of(posted) == "delivered")
    history = client_of_alice.get("/users/4/notifications").json()["results"]
    assert [item["id"] for item in history] == [posted]


def test_a_refused_address_fails_with_the_servers_words_in_its_attempts(
    client_of_alice, settings, start_worker, wait_until
):
    with FakeSmtp() as vendor:
        use(settings, vendor)
        vendor.next("RCPT", "550 5.1.1 No such user")
        start_worker(EMAIL_URL=vendor.url)
        posted = post(
            client_of_alice, channel="email", recipient="nobody@example.com", message="Yo"
        )
        wait_until(lambda: status_of(posted) == "failed")
    answer = client_of_alice.get(f"/api/v1/notifications/{posted}").json()
    assert answer["failure"]["kind"] == "permanent"
    assert [attempt["outcome"] for attempt in answer["attempts"]] == ["permanent"]
    assert "No such user" in answer["attempts"][0]["detail"]


def test_a_lost_broker_message_is_delivered_by_the_sweep(
    client_of_alice, start_worker, wait_until, monkeypatch
):
    monkeypatch.setattr("notifications.intake.wake", lambda lane: None)
    start_worker()
    posted = post(client_of_alice, channel="in_app", user_id=4, message="Yo")
    wait_until(lambda: status_of(posted) == "delivered", seconds=15)


def test_with_no_broker_at_all_the_workers_still_deliver(
    client_of_alice, start_worker, wait_until, monkeypatch
):
    monkeypatch.setattr("notifications.intake.wake", lambda lane: None)
    start_worker(CELERY_BROKER_URL=NO_BROKER)
    posted = post(client_of_alice, channel="in_app", user_id=4, message="Yo")
    wait_until(lambda: status_of(posted) == "delivered", seconds=15)


def test_a_worker_killed_during_a_call_leaves_the_message_unknown_and_never_sends_it_twice(
    client_of_alice, settings, start_worker, wait_until
):
    with FakeSmtp() as vendor:
        use(settings, vendor)
        vendor.next("DOT", HANG)
        short = {"SEND_DEADLINE": 3, "SEND_LEASE_MARGIN": 1, "EMAIL_URL": vendor.url}
        worker = start_worker(**short)
        posted = post(client_of_alice, channel="email", recipient="ada@example.com", message="Yo")
        wait_until(lambda: status_of(posted) == "sending")
        worker.kill()
        worker.wait()
        start_worker(**short)
        wait_until(lambda: status_of(posted) == "unknown", seconds=20)
    assert Attempt.objects.get().outcome is None
    assert vendor.accepted == []


@pytest.mark.parametrize("broker", [{}, {"CELERY_BROKER_URL": NO_BROKER}], ids=["woken", "swept"])
def test_a_worker_that_is_told_to_stop_finishes_what_it_has_begun(
    client_of_alice, start_worker, wait_until, broker
):
    worker = start_worker(**broker)
    slow = post(client_of_alice, channel="email", recipient="slow@sandbox.test", message="Yo")
    wait_until(lambda: status_of(slow) == "sending")
    stopped_at = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    assert time.monotonic() - stopped_at < 15
    assert status_of(slow) == "sent"


def test_a_worker_in_which_nothing_moves_ends_itself(client_of_alice, start_worker):
    """Every slot holds a call that never returns, and more is due."""
    recipient = RecipientFactory()
    for _ in range(Sandbox.max_in_flight + 1):
        NotificationFactory(recipient=recipient, lane="sandbox")
    short = {"SEND_DEADLINE": 1, "SEND_LEASE_MARGIN": 1, "DATABASE_DEADLINE": 3}
    worker = start_worker("tests.stuck_worker", STANDSTILL_AFTER=4, **short)
    assert worker.wait(timeout=40) == EXIT_STATUS
