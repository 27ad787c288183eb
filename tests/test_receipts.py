"""What receipts do to their notifications: in any order, any number of times, before or after our own SETTLE."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications import changes, delivery, housekeeping, queue, receipts
from notifications.models import Notification, Receipt, SpentToken, Status, Suppression
from notifications.providers.events import Event, EventType, Forged, RejectReason, Told
from notifications.queue import Settlement
from notifications.retry import Verdict
from notifications.sweeping import sweep
from notifications.waking import RECEIPTS
from tests.factories import AttemptFactory, NotificationFactory, ReceiptFactory, SuppressionFactory
from users.models import Project

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ACCEPTED = Verdict(status="sent", outcome="accepted", provider_message_id="<1@mg.example.com>")


def sent(**fields: Any) -> Notification:
    """One that Mailgun has taken."""
    taken = {"status": "sent", "sent_at": timezone.now(), "provider": "mailgun"}
    return NotificationFactory(**taken | {"provider_message_id": "<1@mg.example.com>"} | fields)


def being_sent(**fields: Any) -> Notification:
    lease = {"status": "sending", "leased_until": timezone.now() + timedelta(minutes=1), "fence": 1}
    notification: Notification = NotificationFactory(**lease | {"provider": "mailgun"} | fields)
    AttemptFactory(notification=notification, provider="mailgun")
    return notification


def tell(*events: str, of: Notification | None = None, **fields: Any) -> None:
    """The provider reports, one event after the other, and a worker applies what has come."""
    named = {"named_id": of.id} if of else {}
    for event in events:
        ReceiptFactory(event=event, **named | fields)
    receipts.apply_all()


def again(notification: Notification) -> Notification:
    notification.refresh_from_db()
    return notification


# --- Finding the notification -----------------------------------------------------------------------


def test_a_receipt_finds_its_notification_by_the_providers_id() -> None:
    notification = sent()
    tell("delivered", provider_message_id="<1@mg.example.com>")
    assert again(notification).status == Status.DELIVERED
    assert Receipt.objects.get().notification == notification


def test_the_same_id_at_another_provider_is_another_message() -> None:
    notification = sent(provider="twilio")
    tell("delivered", provider_message_id="<1@mg.example.com>")
    assert again(notification).status == Status.SENT


def test_our_own_id_which_travelled_with_the_message_counts_first() -> None:
    other, notification = sent(), sent(provider_message_id="")
    tell("delivered", of=notification, provider_message_id="<1@mg.example.com>")
    assert again(notification).status == Status.DELIVERED
    assert again(other).status == Status.SENT


def test_one_that_names_nothing_of_ours_stays_and_is_looked_at_more_and_more_rarely() -> None:
    came = timezone.now() - timedelta(hours=1)
    tell("delivered", provider_message_id="<unknown@example.com>", received_at=came)
    receipt = Receipt.objects.get()
    assert receipt.applied_at is None
    assert receipt.due_at - timezone.now() > timedelta(minutes=59)


def test_it_is_applied_when_its_notification_appears() -> None:
    tell("delivered", provider_message_id="<1@mg.example.com>")
    notification = sent()
    Receipt.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    receipts.apply_all()
    assert again(notification).status == Status.DELIVERED


def test_a_receipt_is_not_applied_twice() -> None:
    notification = sent()
    tell("delivered", of=notification)
    applied_at = Receipt.objects.get().applied_at
    assert receipts.apply_all() == 0
    assert Receipt.objects.get().applied_at == applied_at


def test_more_than_a_chunk_is_applied_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "CHUNK", 3)
    notifications = [sent(provider_message_id=f"<{n}@x>") for n in range(8)]
    for notification in notifications:
        ReceiptFactory(named_id=notification.id)
    assert receipts.apply_all() == 8
    assert {again(each).status for each in notifications} == {Status.DELIVERED}


def test_one_that_cannot_be_applied_holds_up_no_other_and_is_looked_at_again() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE notifications_notification ADD CONSTRAINT never CHECK (failure_code <> 'never')"
        )
    bad, good = sent(), sent(provider_message_id="<2@x>")
    ReceiptFactory(named_id=bad.id, event="bounced", code="never")
    ReceiptFactory(named_id=good.id)
    assert receipts.apply_all() == 1
    assert again(good).status == Status.DELIVERED
    assert again(bad).status == Status.SENT
    left = Receipt.objects.get(applied_at=None)
    assert (left.named_id, left.due_at > timezone.now()) == (bad.id, True)


# --- Forward only -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ("queued", "sent"),
        ("sent", "sent"),
        ("deferred", "sent"),
        ("delivered", "delivered"),
        ("opened", "delivered"),
        ("clicked", "delivered"),
        ("complained", "delivered"),
        ("unsubscribed", "delivered"),
        ("autoresponded", "delivered"),
        ("bounced", "failed"),
        ("rejected", "failed"),
        ("failed", "failed"),
        ("subscribed", "unknown"),
        ("unknown", "unknown"),
    ],
)
def test_each_event_settles_an_unknown_one_by_what_it_proves(event: str, status: str) -> None:
    notification = sent(status="unknown", sent_at=None, review_at=timezone.now())
    tell(event, of=notification)
    assert again(notification).status == status
    assert (notification.review_at is None) == (status != "unknown")


@pytest.mark.parametrize("order", list(itertools.permutations(["queued", "sent", "delivered"])))
def test_the_order_in_which_they_come_does_not_matter(order: tuple[str, ...]) -> None:
    together, apart = sent(), sent(provider_message_id="<2@x>")
    tell(*order, of=together)
    for event in order:
        tell(event, of=apart)
    assert again(together).status == again(apart).status == Status.DELIVERED


@pytest.mark.parametrize("order", list(itertools.permutations(["sent", "delivered", "bounced"])))
def test_a_bounce_after_delivery_fails_it_in_whatever_order(order: tuple[str, ...]) -> None:
    notification = sent()
    for event in order:
        tell(event, of=notification, detail="550 no such user" if event == "bounced" else "")
    assert again(notification).status == Status.FAILED
    assert notification.failure == {
        "kind": "temporary",
        "code": "bounced",
        "detail": "550 no such user",
    }
    assert notification.delivered_at is None
    assert Receipt.objects.filter(notification=notification).count() == 3


EVENTS = st.lists(st.sampled_from(sorted(EventType)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=40)
@given(events=EVENTS, data=st.data())
def test_any_events_in_any_order_and_any_chunks_end_the_same(events: list[str], data: Any) -> None:
    shuffled = data.draw(st.permutations(events))
    first, second = sent(provider_message_id=""), sent(provider_message_id="")
    tell(*events, of=first)
    for event in shuffled:
        tell(event, of=second)
    assert again(first).status == again(second).status


def test_a_hard_bounce_is_a_permanent_failure() -> None:
    notification = sent()
    tell("bounced", of=notification, reject_reason="bounced", code="twilio_30005")
    assert again(notification).failure_kind == "permanent"
    assert notification.failure_code == "twilio_30005"


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_nothing_is_written_over_what_has_ended_otherwise(status: str) -> None:
    notification = sent(status=status, failure_kind="technical" if status == "failed" else "")
    tell("delivered", of=notification)
    assert again(notification).status == status
    assert Receipt.objects.get().notification == notification


def test_the_time_of_delivery_is_the_providers_but_never_ahead_of_ours() -> None:
    early, late = sent(), sent(provider_message_id="<2@x>")
    tell("delivered", of=early, occurred_at=NOW)
    tell("delivered", of=late, occurred_at=timezone.now() + timedelta(days=9))
    assert again(early).delivered_at == NOW
    delivered_at = again(late).delivered_at
    assert delivered_at is not None
    assert delivered_at < timezone.now() + timedelta(seconds=1)


# --- Before our own SETTLE, and instead of it ---------------------------------------------------------


def test_a_receipt_before_our_settle_is_not_taken_back_by_it() -> None:
    notification = being_sent()
    tell("delivered", of=notification, provider_message_id="<1@mg.example.com>")
    assert again(notification).status == Status.DELIVERED
    assert notification.leased_until is None
    queue.settle([Settlement(notification.id, 1, ACCEPTED, 0.1)], review_after=600)
    assert again(notification).status == Status.DELIVERED
    assert notification.attempts.get().outcome == "accepted"


def test_a_receipt_settles_what_a_dead_worker_left_and_nothing_is_sent_again() -> None:
    notification = being_sent(leased_until=timezone.now() - timedelta(minutes=1))
    sweep()
    assert again(notification).status == Status.UNKNOWN
    tell("delivered", of=notification, provider_message_id="<1@mg.example.com>")
    assert again(notification).status == Status.DELIVERED
    assert notification.provider_message_id == "<1@mg.example.com>"
    assert queue.claim("email.normal", "mailgun", 10, 60) == []


def test_one_that_the_policy_has_made_due_again_is_not_sent_a_second_time() -> None:
    notification = NotificationFactory(fence=1, attempt_count=1, resends=1)
    AttemptFactory(notification=notification, outcome="ambiguous", finished_at=timezone.now())
    tell("delivered", of=notification)
    assert again(notification).status == Status.DELIVERED
    assert queue.claim("email.normal", "smtp", 10, 60) == []


def test_a_claimed_one_is_not_begun_once_a_receipt_has_settled_it() -> None:
    notification = NotificationFactory()
    rows = queue.claim("email.normal", "smtp", 10, 60)
    tell("delivered", of=notification)
    assert queue.begin(rows, "smtp", 40) == set()


def test_the_sweep_of_a_worker_applies_before_the_policy_decides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from notifications.worker import SweepThread

    monkeypatch.setattr("notifications.worker.close_old_connections", lambda: None)
    past = timezone.now() - timedelta(minutes=1)
    notification = sent(status="unknown", sent_at=None, review_at=past)
    ReceiptFactory(named_id=notification.id)
    SweepThread([]).sweep_once()
    assert again(notification).status == Status.DELIVERED
    assert notification.resends == 0


# --- Storing -----------------------------------------------------------------------------------------


def event(**fields: Any) -> Event:
    return Event(**{"event_id": "1", "event": EventType.DELIVERED} | fields)


def test_an_event_is_kept_once_however_often_it_is_told(
    woken: list[str], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            receipts.store("mailgun", Told(events=(event(), event(event_id="2"))))
        receipts.store("twilio", Told(events=(event(),)))
    assert Receipt.objects.count() == 3
    assert set(woken) == {RECEIPTS}


def test_a_token_may_be_told_again_with_the_same_body_and_with_no_other() -> None:
    told = Told(events=(event(),), token="t")
    receipts.store("mailgun", told, b"body")
    receipts.store("mailgun", told, b"body")
    forged = Told(events=(event(event_id="2"),), token="t")
    with pytest.raises(Forged):
        receipts.store("mailgun", forged, b"other")
    assert Receipt.objects.get().event_id == "1"


def test_what_postgresql_cannot_store_is_kept_without_it() -> None:
    odd = event(event_id="a\x00b", detail="x\ud800y\x00", raw="\x00", code="c" * 300)
    receipts.store("mailgun", Told(events=(odd,)))
    kept = Receipt.objects.get()
    assert (kept.event_id, kept.detail, kept.raw, len(kept.code)) == ("ab", "x?y", "", 100)


# --- Suppression by receipts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "event", "reject_reason", "reason"),
    [
        ("email", "bounced", "bounced", "hard_bounce"),
        ("email", "bounced", "invalid", "hard_bounce"),
        ("email", "bounced", "timed_out", ""),
        ("email", "bounced", "blocked", ""),
        ("email", "bounced", "other", ""),
        ("email", "bounced", "", ""),
        ("email", "deferred", "bounced", ""),
        ("email", "delivered", "", ""),
        ("email", "complained", "", "complaint"),
        ("email", "unsubscribed", "", "unsubscribe"),
        ("email", "rejected", "spam", "complaint"),
        ("email", "rejected", "unsubscribed", "unsubscribe"),
        ("email", "rejected", "bounced", "hard_bounce"),
        ("email", "failed", "other", ""),
        ("sms", "failed", "unsubscribed", "stop"),
        ("sms", "bounced", "invalid", "hard_bounce"),
        ("sms", "unsubscribed", "", "stop"),
    ],
)
def test_what_suppresses_an_address_and_what_does_not(
    channel: str, event: str, reject_reason: str, reason: str
) -> None:
    address = "Ann@example.com" if channel == "email" else "+15005550006"
    notification = sent(channel=channel, address=address)
    tell(event, of=notification, reject_reason=reject_reason, detail="in its words")
    listed = list(Suppression.objects.values_list("address", "reason", "source", "detail"))
    assert listed == ([(address.lower(), reason, "receipt", "in its words")] if reason else [])


def test_the_receipt_and_the_notification_behind_it_are_kept_with_it() -> None:
    notification = sent()
    tell("complained", of=notification)
    listed = Suppression.objects.get()
    assert listed.project == notification.project
    assert listed.notification == notification
    assert listed.receipt == Receipt.objects.get()


def test_the_reason_that_stops_more_takes_the_others_place_and_not_the_other_way_round() -> None:
    notification = sent()
    tell("complained", of=notification)
    tell("bounced", of=notification, reject_reason="bounced")
    assert Suppression.objects.get().reason == "hard_bounce"
    tell("complained", of=notification)
    assert Suppression.objects.get().reason == "hard_bounce"


def test_of_reasons_that_come_together_the_one_that_stops_most_counts() -> None:
    notification = sent()
    ReceiptFactory(event="complained", named_id=notification.id)
    ReceiptFactory(event="bounced", reject_reason="bounced", named_id=notification.id)
    receipts.apply_all()
    assert Suppression.objects.get().reason == "hard_bounce"


def test_a_providers_refusal_of_the_address_suppresses_it_with_the_same_answer() -> None:
    notification = being_sent(channel="sms", address="+15005550006")
    refused = Verdict(
        status="failed",
        outcome="permanent",
        code="twilio_21610",
        failure_kind="permanent",
        reject_reason=RejectReason.UNSUBSCRIBED,
    )
    receipts.note_answer("twilio", notification.id, refused)
    listed = Suppression.objects.get()
    assert (listed.reason, listed.source) == ("stop", "refusal")
    assert listed.notification == notification


# --- Forgetting and housekeeping ---------------------------------------------------------------------------


def test_forgetting_a_person_erases_what_the_receipts_hold_and_keeps_the_address_suppressed() -> (
    None
):
    notification = sent()
    tell("complained", of=notification, detail="ann wrote", raw='{"to": "ann@example.com"}')
    assert notification.recipient
    assert changes.forget(notification.recipient)
    receipt, listed = Receipt.objects.get(), Suppression.objects.get()
    assert (receipt.detail, receipt.raw, listed.detail) == ("", "", "")
    assert listed.address == notification.address
    assert (listed.notification, listed.receipt) == (None, None)


def test_a_receipt_about_somebody_forgotten_is_kept_without_what_it_says() -> None:
    notification = sent(erased_at=timezone.now(), address="")
    tell("bounced", of=notification, reject_reason="bounced", detail="no ann here", raw="ann")
    receipt = Receipt.objects.get()
    assert (receipt.detail, receipt.raw) == ("", "")
    assert again(notification).failure_detail == ""
    assert not Suppression.objects.exists()


def test_housekeeping_removes_spent_tokens_and_receipts_that_never_found_anything() -> None:
    long_ago = timezone.now() - timedelta(days=31)
    notification = sent()
    tell("delivered", of=notification, received_at=long_ago)
    ReceiptFactory(received_at=long_ago)
    fresh = ReceiptFactory()
    SpentToken.objects.create(token="old", digest=b"", spent_at=timezone.now() - timedelta(hours=2))
    SpentToken.objects.create(token="new", digest=b"")
    housekeeping.prune()
    assert set(Receipt.objects.values_list("notification_id", "id")) >= {(None, fresh.id)}
    assert Receipt.objects.filter(notification=None).count() == 1
    assert Receipt.objects.filter(notification=notification).count() == 1
    assert [spent.token for spent in SpentToken.objects.all()] == ["new"]


def test_a_notification_is_deleted_with_its_receipts_and_leaves_its_suppression() -> None:
    notification = sent()
    tell("complained", of=notification)
    notification.delete()
    assert not Receipt.objects.exists()
    assert Suppression.objects.get().receipt is None


# --- The recheck at the claim --------------------------------------------------------------------------------


def test_one_that_waits_is_cancelled_when_its_address_has_been_suppressed_meanwhile(
    alice: Project,
) -> None:
    waiting = NotificationFactory(
        recipient__project=alice, address="Ann@sandbox.test", lane="sandbox"
    )
    other = NotificationFactory(
        recipient__project=alice, address="bob@sandbox.test", lane="sandbox"
    )
    SuppressionFactory(project=alice, address="ann@sandbox.test", reason="complaint")
    delivery.drain("sandbox")
    assert again(waiting).status == Status.CANCELLED
    assert waiting.failure == {"kind": "permanent", "code": "suppressed", "detail": "complaint"}
    assert not waiting.attempts.exists()
    assert again(other).status == Status.SENT


# --- The sandbox --------------------------------------------------------------------------------------------


def sandboxed(address: str, **fields: Any) -> Notification:
    notification: Notification = NotificationFactory(address=address, lane="sandbox", **fields)
    delivery.drain("sandbox")
    receipts.apply_all()
    return again(notification)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "number", "status", "events", "reason"),
    [
        ("delivered", "+15005550006", "delivered", ["delivered"], ""),
        ("bounced", "+15005550001", "failed", ["bounced"], "hard_bounce"),
        ("soft-bounced", "+15005550007", "failed", ["bounced"], ""),
        ("deferred", "+15005550010", "delivered", ["deferred", "delivered"], ""),
        ("refused", "+15005550009", "failed", [], "hard_bounce"),
        ("ambiguous", "+15005550004", "unknown", [], ""),
        ("late", "+15005550011", "delivered", ["delivered"], ""),
        ("opened", "", "delivered", ["delivered", "opened"], ""),
        ("complained", "", "delivered", ["delivered", "complained"], "complaint"),
        ("unsubscribed", "", "delivered", ["delivered", "unsubscribed"], "unsubscribe"),
        ("", "+15005550008", "delivered", ["delivered", "unsubscribed"], "stop"),
        ("ann", "+15005550099", "sent", [], ""),
    ],
)
def test_the_sandbox_sends_real_receipts(
    name: str, number: str, status: str, events: list[str], reason: str
) -> None:
    addresses = {"email": f"{name}+1@sandbox.test" if name else "", "sms": number}
    for channel, address in addresses.items():
        if not address:
            continue
        notification = sandboxed(address, channel=channel)
        assert notification.status == status
        assert [receipt.event for receipt in notification.receipts.all()] == events
        listed = Suppression.objects.filter(address=address)
        assert [each.reason for each in listed] == ([reason] if reason else [])


def test_the_same_message_sent_twice_into_the_sandbox_has_each_event_once() -> None:
    from notifications import providers
    from notifications.providers.base import Message
    from notifications.providers.deadline import Deadline

    message = Message(
        notification_id=uuid4(), channel="email", to="delivered@sandbox.test", text="Hello"
    )
    for _ in range(2):
        answer = providers.get("sandbox").send(message, Deadline(1))
        receipts.store("sandbox", Told(events=answer.events))
    assert Receipt.objects.count() == 1
