"""manage.py settle_unknown: one answer for many unknown notifications."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from notifications import answering, ids
from notifications.models import Notification
from tests.factories import NotificationFactory

pytestmark = pytest.mark.django_db


def settle(*args: Any) -> str:
    out = StringIO()
    call_command("settle_unknown", *map(str, args), stdout=out)
    return out.getvalue()


def held(**fields: Any) -> Notification:
    notification: Notification = NotificationFactory(status="unknown", **fields)
    return notification


def status(notification: Notification) -> str:
    notification.refresh_from_db()
    return notification.status


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """A provider's export that has these."""

    def write(*notifications: Notification) -> Path:
        path = tmp_path / "export.csv"
        lines = [f"2026-01-31,<{each.id}@notify.example.com>" for each in notifications]
        path.write_text("\n".join(["date,message-id", *lines, "2026-01-31,other@example.com"]))
        return path

    return write


@pytest.mark.parametrize(
    ("answer", "becomes"), [("arrived", "sent"), ("resend", "unknown"), ("give-up", "failed")]
)
def test_all_that_are_held_get_the_answer(
    monkeypatch: pytest.MonkeyPatch, answer: str, becomes: str
) -> None:
    monkeypatch.setattr(answering, "CHUNK", 2)
    notifications = [held() for _ in range(5)]
    assert settle(answer).startswith("5 notifications: ")
    assert {status(each) for each in notifications} == {becomes}
    assert Notification.objects.filter(resend_of__in=notifications).count() == (
        5 if answer == "resend" else 0
    )
    assert settle(answer).startswith("0 notifications")


def test_what_a_policy_is_to_decide_about_and_what_is_no_longer_unknown_is_left() -> None:
    waits = held(review_at=timezone.now() + timedelta(minutes=5))
    pending = NotificationFactory()
    settle("give-up")
    assert (status(waits), status(pending)) == ("unknown", "pending")


def test_what_is_in_the_providers_log_arrived_and_the_rest_is_sent_again(log: Any) -> None:
    there, missing = held(), held()
    path = log(there)
    assert settle("resend", "--provider-log", path).startswith("1 notification: ")
    assert settle("arrived", "--provider-log", path).startswith("1 notification: ")
    assert status(there) == "sent"
    assert Notification.objects.get(resend_of__isnull=False).resend_of_id == missing.id


def test_a_log_of_e_mail_says_nothing_about_an_sms(log: Any) -> None:
    sms = held(channel="sms")
    settle("give-up", "--provider-log", log(held()))
    assert status(sms) == "unknown"


def test_only_those_of_the_span_are_answered() -> None:
    old = held(id=UUID(int=ids.first_of(timezone.now() - timedelta(days=3)).int + 1))
    new = held()
    boundary = (timezone.now() - timedelta(days=1)).isoformat()
    settle("give-up", "--until", boundary)
    assert (status(old), status(new)) == ("failed", "unknown")
    settle("arrived", "--since", boundary)
    assert status(new) == "sent"


def test_a_dry_run_only_counts() -> None:
    notification = held()
    assert settle("give-up", "--dry-run") == "1 notification: would be answered so.\n"
    assert status(notification) == "unknown"


def test_what_cannot_be_sent_again_is_left_and_said() -> None:
    held(resend_of=NotificationFactory(status="failed", failure_kind="technical"))
    already = held()
    NotificationFactory(resend_of=already)
    out = settle("resend")
    assert "1 notification: sent again" in out
    assert "1 left as they are: already_resent." in out


def test_a_log_without_an_id_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export"
    path.write_text("someone@example.com\n")
    with pytest.raises(CommandError, match="holds no message id"):
        settle("arrived", "--provider-log", path)
