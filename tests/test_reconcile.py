"""manage.py reconcile: does the ledger add up, in itself and beside the provider's log?"""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from notifications import ids, provider_log, receipts, reconciling
from notifications.models import Inbox, Notification
from notifications.provider_log import key_of
from tests.factories import (
    AttemptFactory,
    NotificationFactory,
    ReceiptFactory,
    RecipientFactory,
    arrived,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _two_vendors(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    settings.TWILIO_ACCOUNT_SID = settings.TWILIO_AUTH_TOKEN = "example"
    settings.TWILIO_FROM = "+15005550006"


def reconcile(*args: Any) -> tuple[int, str]:
    """Exit code, and what it printed."""
    out = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("reconcile", *map(str, args), stdout=out, stderr=StringIO())
    return int(end.value.code or 0), out.getvalue()


def as_document(*args: Any) -> dict[str, Any]:
    code, out = reconcile("--json", *args)
    document: dict[str, Any] = json.loads(out)
    assert document["adds_up"] == (code == 0)
    return document


def sent(message_id: str | None = None, provider: str = "smtp", **fields: Any) -> Notification:
    """A notification with its acceptance; the id is that of our e-mails unless given."""
    notification: Notification = NotificationFactory(
        status="sent", sent_at=timezone.now(), fence=1, provider=provider, **fields
    )
    if message_id is None:
        message_id = f"<{notification.id}@notify.example.com>"
    Notification.objects.filter(id=notification.id).update(provider_message_id=message_id)
    AttemptFactory(
        notification=notification,
        provider=provider,
        outcome="accepted",
        finished_at=timezone.now(),
        provider_message_id=message_id,
    )
    return notification


def message_id(notification: Notification) -> str:
    return f"<{notification.id}@notify.example.com>"


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """Writes a provider's export."""

    def write(*lines: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "export"
        path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
        return path

    return write


# -- The ledger in itself ---------------------------------------------------------------------------------


def test_each_notification_is_counted_once_under_its_status() -> None:
    sent()
    NotificationFactory()
    NotificationFactory(status="unknown")
    document = as_document()
    assert document["total"] == 3
    assert document["statuses"] == {
        "pending": 1,
        "sending": 0,
        "sent": 1,
        "delivered": 0,
        "failed": 0,
        "cancelled": 0,
        "expired": 0,
        "unknown": 1,
    }
    assert (document["accepted"], document["differences"]) == (1, {})


def test_an_empty_ledger_adds_up() -> None:
    code, out = reconcile()
    assert code == 0
    assert "It adds up." in out


def test_what_is_sent_without_an_acceptance_is_named() -> None:
    broken = NotificationFactory(status="sent", sent_at=timezone.now(), fence=1)
    code, out = reconcile()
    assert code == 1
    assert "[sent_without_acceptance]" in out
    assert str(broken.id) in out
    assert "It adds up" not in out


def test_what_was_accepted_and_is_not_sent_is_named() -> None:
    broken = sent()
    Notification.objects.update(status="pending")
    assert as_document()["differences"] == {
        "accepted_but_open": {"count": 1, "ids": [str(broken.id)]}
    }


def test_an_inbox_that_does_not_add_up_is_named_by_its_person() -> None:
    notification = arrived(RecipientFactory())
    AttemptFactory(
        notification=notification,
        provider="inbox",
        outcome="accepted",
        finished_at=timezone.now(),
    )
    assert as_document()["adds_up"]
    Inbox.objects.update(unread=2, position=5)
    person = {"count": 1, "ids": [str(notification.recipient_id)]}
    assert as_document()["differences"] == {"inbox_count_wrong": person, "inbox_gap": person}
    assert "not how many are unread" in reconcile()[1]


def test_an_answer_that_came_too_late_is_told_and_adds_up() -> None:
    sent()
    Notification.objects.update(status="cancelled", sent_at=None)
    document = as_document()
    assert (document["accepted_late"], document["differences"]) == (1, {})


def test_what_is_sent_by_a_receipt_alone_adds_up(log: Any) -> None:
    unknown = NotificationFactory(status="unknown", fence=1)
    AttemptFactory(notification=unknown, outcome="ambiguous", finished_at=timezone.now())
    ReceiptFactory(named_id=unknown.id)
    receipts.apply_all()
    document = as_document("--provider-log", log(message_id(unknown)))
    assert document["statuses"]["delivered"] == 1
    assert document["differences"] == {}


def test_what_has_bounced_was_not_accepted_too_late_and_adds_up(log: Any) -> None:
    answered = sent()
    unanswered = NotificationFactory(status="unknown", fence=1)
    for bounced in (answered, unanswered):
        ReceiptFactory(event="bounced", named_id=bounced.id)
    receipts.apply_all()
    document = as_document("--provider-log", log(message_id(answered), message_id(unanswered)))
    assert document["statuses"]["failed"] == 2
    assert (document["accepted_late"], document["differences"]) == (0, {})


def test_a_ledger_of_many_chunks_is_counted_like_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(7):
        sent()
    broken = [NotificationFactory(status="sent", sent_at=timezone.now(), fence=1) for _ in range(4)]
    whole = as_document()
    monkeypatch.setattr(reconciling, "CHUNK", 3)
    assert as_document() == whole
    assert whole["total"] == 11
    assert whole["differences"]["sent_without_acceptance"]["ids"] == [str(n.id) for n in broken]


def test_only_so_many_ids_are_named_and_all_are_counted() -> None:
    for _ in range(3):
        NotificationFactory(status="sent", sent_at=timezone.now(), fence=1)
    difference = as_document("--ids", 2)["differences"]["sent_without_acceptance"]
    assert (difference["count"], len(difference["ids"])) == (3, 2)
    assert "and 1 more" in reconcile("--ids", 2)[1]


def test_since_and_until_are_of_when_it_was_accepted() -> None:
    now = timezone.now()
    for days in (3, 2, 1):
        sent(id=UUID(int=ids.first_of(now - timedelta(days=days)).int + 1))
    from_, to = (now - timedelta(days=days, hours=1) for days in (2, 1))
    assert as_document("--since", from_.isoformat())["total"] == 2
    assert as_document("--until", to.isoformat())["total"] == 2
    assert as_document("--since", from_.isoformat(), "--until", to.isoformat())["total"] == 1
    assert as_document("--since", "2020-01-31")["total"] == 3


# -- Beside the provider's log ----------------------------------------------------------------------------


def test_a_log_with_the_same_ids_adds_up(log: Any) -> None:
    notification, other = sent(), sent()
    path = log(message_id(notification), message_id(other).strip("<>").upper())
    document = as_document("--provider-log", path)
    assert (document["in_provider_log"], document["differences"]) == (2, {})


def test_what_the_provider_does_not_have_is_named(log: Any) -> None:
    there, missing = sent(), sent()
    assert as_document("--provider-log", log(message_id(there)))["differences"] == {
        "missing_at_provider": {"count": 1, "ids": [str(missing.id)]}
    }


def test_what_is_unknown_here_and_in_the_log_was_sent(log: Any) -> None:
    unknown = NotificationFactory(status="unknown", fence=1)
    AttemptFactory(notification=unknown)
    code, out = reconcile("--provider-log", log(message_id(unknown)))
    assert code == 1
    assert "1 unknown here, and in the provider's log: it was sent  [unknown_here]" in out
    assert str(unknown.id) in out


def test_what_is_in_the_log_and_failed_here_is_named(log: Any) -> None:
    failed = NotificationFactory(status="failed", failure_kind="technical")
    assert as_document("--provider-log", log(message_id(failed)))["differences"] == {
        "not_sent_here": {"count": 1, "ids": [str(failed.id)]}
    }


def test_what_nobody_here_has_sent_is_named_as_the_provider_writes_it(log: Any) -> None:
    stranger = "<Newsletter-7@Other.example.com>"
    assert as_document("--provider-log", log(stranger))["differences"] == {
        "not_ours": {"count": 1, "ids": [stranger]}
    }


def test_what_the_log_has_from_before_the_span_is_no_difference(log: Any) -> None:
    before = sent(id=UUID(int=ids.first_of(timezone.now() - timedelta(days=2)).int + 1))
    by_vendors_id = sent("<20260131.1@mg.example.com>")
    path = log(message_id(before), "20260131.1@mg.example.com")
    since = (timezone.now() + timedelta(hours=1)).isoformat()
    assert by_vendors_id.id
    assert as_document("--provider-log", path, "--since", since)["differences"] == {}


def test_only_the_named_providers_acceptances_are_compared(log: Any) -> None:
    sent()
    sms = sent("SM0123", provider="twilio", channel="sms")
    path = log("sid,to", "SM0123,+15005550009")
    assert as_document("--provider-log", path, "--provider", "twilio")["differences"] == {}
    assert as_document("--provider-log", path)["differences"].keys() == {"missing_at_provider"}
    assert sms.provider == "twilio"


def test_what_the_inbox_took_is_in_no_log(log: Any) -> None:
    sent("", provider="inbox", channel="in_app")
    there = sent()
    assert as_document("--provider-log", log(message_id(there)))["differences"] == {}


def test_an_acceptance_without_an_id_is_told_and_not_compared(log: Any) -> None:
    sent("")
    there = sent()
    document = as_document("--provider-log", log(message_id(there)))
    assert (document["accepted_without_id"], document["differences"]) == (1, {})


@pytest.mark.parametrize(
    ("header", "row", "args"),
    [
        ("date,Message-ID,to", "2026-01-31,{},ann@example.com", ()),
        ("date;message_id;to", "2026-01-31;{};ann@example.com", ()),
        ("date\tMessage Id\tto", '2026-01-31\t"{}"\tann@example.com', ()),
        ("message-id", "{}", ()),
        ("when,reference", "2026-01-31,{}", ("--column", "reference")),
    ],
)
def test_csv_is_read_by_its_column(log: Any, header: str, row: str, args: tuple[str, ...]) -> None:
    notification = sent()
    path = log(header, row.format(message_id(notification)), encoding="utf-8-sig")
    document = as_document("--provider-log", path, *args)
    assert (document["in_provider_log"], document["differences"]) == (1, {})


def test_a_log_of_many_batches_is_compared_like_one(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reconciling, provider_log):
        monkeypatch.setattr(module, "ASKED_TOGETHER", 2)
    path = log(*(message_id(sent()) for _ in range(5)), *(f"other-{n}" for n in range(5)))
    assert as_document("--provider-log", path)["differences"]["not_ours"]["count"] == 5


@pytest.mark.parametrize("written", [" <A@b.Example> ", "a@b.example", '"<a@B.example>"'])
def test_brackets_and_case_do_not_matter(written: str) -> None:
    assert key_of(written) == "a@b.example"


# -- Bad input --------------------------------------------------------------------------------------------


def refusal(*args: Any) -> str:
    with pytest.raises(CommandError) as refused:
        call_command("reconcile", *map(str, args), stdout=StringIO(), stderr=StringIO())
    return str(refused.value)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "", "31.01.2026"])
def test_what_is_no_date_is_refused(text: str) -> None:
    assert "--since" in refusal(f"--since={text}")


def test_a_span_that_ends_before_it_begins_is_refused() -> None:
    assert "--since must lie before" in refusal("--since=2026-02-01", "--until=2026-01-31")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal("--provider-log", tmp_path / "none")


def test_an_empty_file_is_refused(log: Any) -> None:
    assert "holds no message id" in refusal("--provider-log", log())


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.xlsx"
    path.write_bytes(b"PK\x03\x04\xff\xfe\x00")
    assert "no text in UTF-8" in refusal("--provider-log", path)


def test_a_column_that_there_is_not_is_refused_with_those_there_are(log: Any) -> None:
    path = log("date,reference", "2026-01-31,7")
    assert "It has: date, reference." in refusal("--provider-log", path, "--column", "nonsense")
    assert "Name it: --column" in refusal("--provider-log", path)


def test_a_column_without_a_log_is_refused() -> None:
    assert "--provider-log, which is missing" in refusal("--column", "id")


def test_a_database_that_is_away_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*args: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(reconciling, "_rows", away)
    assert "connection refused" in refusal()
