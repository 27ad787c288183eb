"""What must always be true of the ledger: a sound ledger breaks nothing, and each kind of broken row is found."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications import changes, housekeeping, ids, invariants, queue, receipts
from notifications.inbox import marking
from notifications.invariants import INVARIANTS, breaches
from notifications.models import Circuit, Flow, Inbox, InboxEvent, Notification
from notifications.providers.base import Permanent, Sent, Temporary
from notifications.queue import Settlement
from notifications.retry import judge
from notifications.sweeping import sweep
from tests.factories import (
    AttemptFactory,
    NotificationFactory,
    ReceiptFactory,
    RecipientFactory,
    arrived,
)
from users.models import Forgetting

pytestmark = pytest.mark.django_db


def broken(**kwargs):
    """Code -> ids of what is broken."""
    return {breach.invariant.code: breach.ids for breach in breaches(**kwargs)}


def ago(**span):
    return timezone.now() - timedelta(**span)


def send(answer, provider="smtp"):
    """One notification through claim, begin and settle, by the engine's own statements."""
    NotificationFactory()
    rows = queue.claim("email.normal", "smtp", 10, 60)
    queue.begin(rows, provider, 60)
    settle(rows, answer)
    return Notification.objects.get(id=rows[0].id)


def settle(rows, answer):
    verdict = judge(answer, attempt=1, max_attempts=25, chance=0.5)
    queue.settle([Settlement(row.id, row.fence, verdict, 0.25) for row in rows], review_after=600)


def sent(status="sent", **fields):
    return NotificationFactory(status=status, sent_at=timezone.now(), **fields)


def accepted(notification, fence=1, provider="smtp"):
    return AttemptFactory(
        notification=notification,
        fence=fence,
        provider=provider,
        outcome="accepted",
        finished_at=timezone.now(),
    )


# -- What is sound --------------------------------------------------------------------------------------


def test_an_empty_ledger_is_sound():
    assert broken() == {}


def test_what_the_engine_writes_is_sound():
    for answer in (Sent(), Sent(delivered=True), Permanent("smtp_550"), Temporary("smtp_451")):
        send(answer)
    NotificationFactory()
    NotificationFactory(status="cancelled")
    changes.forget(NotificationFactory().recipient)
    assert broken() == {}


def test_one_that_is_being_sent_is_sound():
    NotificationFactory()
    queue.begin(queue.claim("email.normal", "smtp", 10, 60), "smtp", 60)
    assert Notification.objects.get().status == "sending"
    assert broken() == {}


@pytest.mark.parametrize("end", ["cancelled", "expired", "failed"])
def test_a_late_answer_to_what_has_ended_is_no_breach(end):
    notification = NotificationFactory(
        status=end, fence=1, failure_kind="technical" if end == "failed" else ""
    )
    accepted(notification)
    assert broken() == {}


def test_a_late_answer_to_a_call_before_the_policys_resend_is_no_breach():
    notification = sent(fence=2, resends=1)
    accepted(notification, fence=1)
    accepted(notification, fence=2)
    waiting = NotificationFactory(fence=2, resends=1)
    accepted(waiting, fence=1)
    assert broken() == {}


def test_an_operators_word_is_as_good_as_an_acceptance():
    notification = NotificationFactory(status="unknown", fence=1)
    AttemptFactory(notification=notification)
    changes.settle_as_arrived(notification.id)
    assert Notification.objects.get().status == "sent"
    assert broken() == {}


@pytest.mark.parametrize(("event", "status"), [("sent", "sent"), ("delivered", "delivered")])
def test_a_receipts_word_is_as_good_as_an_acceptance(event, status):
    notification = NotificationFactory(status="unknown", fence=1)
    AttemptFactory(notification=notification, outcome="ambiguous", finished_at=timezone.now())
    ReceiptFactory(event=event, named_id=notification.id)
    receipts.apply_all()
    assert Notification.objects.get().status == status
    assert broken() == {}


def test_a_bounce_after_the_acceptance_is_no_breach():
    notification = send(Sent())
    ReceiptFactory(event="bounced", named_id=notification.id)
    receipts.apply_all()
    assert Notification.objects.get().status == "failed"
    assert broken() == {}


def test_sending_twice_to_a_repeatable_provider_is_no_breach():
    notification = sent("delivered", fence=2)
    accepted(notification, fence=1, provider="inbox")
    accepted(notification, fence=2, provider="inbox")
    assert broken() == {}


def test_what_waits_in_a_paused_flow_is_not_overdue():
    notification = NotificationFactory(due_at=ago(minutes=6))
    Flow.objects.filter(id=notification.flow_id).update(paused=True)
    assert broken() == {}


def test_what_an_open_circuit_holds_back_is_not_overdue(settings):
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    _overdue()
    Circuit.objects.create(provider="smtp", open_until=timezone.now() + timedelta(minutes=1))
    assert broken() == {}


def test_what_waits_for_a_probe_that_nobody_makes_is_overdue(settings):
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    notification = _overdue()
    Circuit.objects.create(provider="smtp", open_until=ago(minutes=2))
    assert broken() == {"overdue": [notification.id]}


def test_anothers_circuit_holds_nothing_back(settings):
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    notification = _overdue()
    for provider, sender in (("smtp", "other@example.com"), ("twilio", "")):
        Circuit.objects.create(
            provider=provider, sender=sender, open_until=timezone.now() + timedelta(minutes=1)
        )
    assert broken() == {"overdue": [notification.id]}


def in_inbox(recipient=None, **fields):
    """One in-app message that was delivered, as the engine leaves it."""
    notification = arrived(recipient or RecipientFactory(), **fields)
    accepted(notification, provider="inbox")
    return notification


def test_an_inbox_that_was_read_and_put_away_and_pruned_is_sound():
    first = in_inbox()
    others = [in_inbox(first.recipient) for _ in range(4)]
    marking.mark_read(first.id)
    marking.archive(others[0].id)
    marking.mark_unread(first.id)
    marking.read_all(first.recipient_id, True, up_to=3)
    with transaction.atomic():
        housekeeping._delete([others[3].id])
    InboxEvent.objects.filter(number__lte=4).delete()
    assert broken() == {}
    assert broken(window=None) == {}


def test_changes_that_were_made_while_the_clock_was_set_back_are_sound():
    first = in_inbox()
    for number, days in enumerate((3, 0, 2, 0), start=1):
        in_inbox(first.recipient)
        InboxEvent.objects.filter(number=number).update(at=ago(days=days, seconds=1))
    assert broken() == {}


def test_the_inbox_of_somebody_who_is_being_forgotten_is_taken_apart_and_no_breach():
    notification = in_inbox()
    Forgetting.objects.create(recipient=notification.recipient)
    Notification.objects.filter(id=notification.id).update(inbox_position=None, read_at=ago(days=0))
    Inbox.objects.update(position=7)
    assert broken() == {}


def test_what_beat_has_not_taken_in_yet_is_no_breach():
    notification = in_inbox()
    Inbox.objects.all().delete()
    Notification.objects.filter(id=notification.id).update(inbox_position=None)
    assert broken() == {}


# -- What is broken ---------------------------------------------------------------------------------------


def _sending_without_attempt():
    held = timezone.now() + timedelta(seconds=30)
    notification = NotificationFactory(status="sending", fence=2, leased_until=held)
    AttemptFactory(notification=notification, fence=1)
    return notification


def _accepted_but_open():
    notification = NotificationFactory(fence=1)
    accepted(notification)
    return notification


def _accepted_by_an_older_call_that_no_resend_explains():
    notification = NotificationFactory(fence=2, status="unknown")
    accepted(notification, fence=1)
    return notification


def _accepted_twice():
    notification = sent(fence=2)
    accepted(notification, fence=1)
    accepted(notification, fence=2)
    return notification


def _accepted_three_times_with_one_resend():
    notification = sent(fence=3, resends=1)
    for fence in (1, 2, 3):
        accepted(notification, fence=fence)
    return notification


def _sent_without_acceptance():
    notification = sent(fence=1)
    AttemptFactory(notification=notification, fence=1)
    return notification


def _sent_although_the_receipt_is_anothers():
    ReceiptFactory(notification=NotificationFactory(status="cancelled"), applied_at=timezone.now())
    ReceiptFactory()
    return _sent_without_acceptance()


def _attempt_without_claim():
    notification = sent(fence=1)
    accepted(notification, fence=1)
    AttemptFactory(notification=notification, fence=2)
    return notification


def _erased_with_content():
    return NotificationFactory(status="cancelled", erased_at=ago(hours=1), address="")


def _overdue():
    return NotificationFactory(due_at=ago(minutes=6))


def _lease_not_swept():
    return NotificationFactory(leased_until=ago(minutes=2), fence=1)


def _lease_too_long():
    return NotificationFactory(leased_until=timezone.now() + timedelta(hours=1), fence=1)


def _expiry_not_swept():
    return NotificationFactory(expires_at=ago(minutes=2))


def _review_not_swept():
    return NotificationFactory(status="unknown", review_at=ago(minutes=2))


def _delivered_not_in_inbox():
    notification = sent("delivered", channel="in_app", fence=1)
    accepted(notification, provider="inbox")
    Notification.objects.filter(id=notification.id).update(sent_at=ago(minutes=4))
    return notification


def _inbox_count_wrong():
    notification = in_inbox()
    Notification.objects.filter(id=notification.id).update(read_at=timezone.now())
    return notification.recipient


def _inbox_that_counts_what_is_put_away():
    notification = in_inbox(live=False)
    Notification.objects.filter(id=notification.id).update(archived_at=timezone.now())
    return notification.recipient


def _inbox_whose_position_is_of_no_change():
    notification = in_inbox()
    Inbox.objects.update(position=2)
    return notification.recipient


def _inbox_whose_position_is_behind():
    notification = in_inbox()
    in_inbox(notification.recipient)
    Inbox.objects.update(position=1)
    return notification.recipient


def _inbox_gap():
    notification = in_inbox()
    for _ in range(3):
        in_inbox(notification.recipient)
    InboxEvent.objects.filter(number=3).delete()
    return notification.recipient


BROKEN = [
    ("sending_without_attempt", _sending_without_attempt),
    ("accepted_but_open", _accepted_but_open),
    ("accepted_but_open", _accepted_by_an_older_call_that_no_resend_explains),
    ("accepted_twice", _accepted_twice),
    ("accepted_twice", _accepted_three_times_with_one_resend),
    ("sent_without_acceptance", _sent_without_acceptance),
    ("sent_without_acceptance", _sent_although_the_receipt_is_anothers),
    ("attempt_without_claim", _attempt_without_claim),
    ("erased_with_content", _erased_with_content),
    ("overdue", _overdue),
    ("lease_not_swept", _lease_not_swept),
    ("lease_too_long", _lease_too_long),
    ("expiry_not_swept", _expiry_not_swept),
    ("review_not_swept", _review_not_swept),
    ("delivered_not_in_inbox", _delivered_not_in_inbox),
    ("inbox_count_wrong", _inbox_count_wrong),
    ("inbox_count_wrong", _inbox_that_counts_what_is_put_away),
    ("inbox_gap", _inbox_gap),
    ("inbox_gap", _inbox_whose_position_is_of_no_change),
    ("inbox_gap", _inbox_whose_position_is_behind),
]


@pytest.mark.parametrize(("code", "make"), BROKEN, ids=[make.__name__[1:] for _, make in BROKEN])
def test_a_broken_row_is_found_and_only_by_its_own_invariant(code, make):
    row = make()
    assert broken() == {code: [row.id]}


def test_every_invariant_has_a_broken_row_above():
    assert {invariant.code for invariant in INVARIANTS} == {code for code, _ in BROKEN}


def test_the_sweep_puts_right_what_only_waited_for_it():
    _lease_not_swept()
    _expiry_not_swept()
    _review_not_swept()
    sweep()
    Notification.objects.update(due_at=timezone.now())
    assert broken() == {}


# -- How much it looks at ---------------------------------------------------------------------------------


def test_only_so_many_ids_are_named():
    for _ in range(3):
        _overdue()
    assert len(broken(limit=2)["overdue"]) == 2


def test_what_was_made_before_the_window_is_seen_only_when_asked_for():
    old = sent(id=UUID(int=ids.first_of(ago(days=2)).int + 1))
    assert broken() == {}
    assert broken(window=None) == {"sent_without_acceptance": [old.id]}


def test_of_a_busy_day_only_the_newest_are_looked_at(monkeypatch):
    first, second = (sent() for _ in range(2))
    monkeypatch.setattr(invariants, "NEWEST", 0)
    assert broken() == {"sent_without_acceptance": [second.id]}
    assert broken(window=None) == {"sent_without_acceptance": [first.id, second.id]}


def test_a_look_that_takes_too_long_is_given_up_and_said(monkeypatch):
    slow = invariants.Invariant("slow", "SELECT NULL::uuid FROM pg_sleep(30)", "", "")
    monkeypatch.setattr(invariants, "INVARIANTS", (slow,))
    assert broken(deadline=0.05) == {"slow": None}


def test_an_id_says_when_it_was_made():
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    made = uuid7()
    assert ids.first_of(before) < made < ids.first_of(before + timedelta(minutes=1))


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.code)
def test_no_invariant_reads_the_whole_table(invariant):
    """Ten thousand finished ones of last week, which nothing of today's look may touch."""
    with connection.cursor() as cursor:
        # The rows that other tests rolled back lie dead in the tables until a vacuum, and would be counted here.
        cursor.execute("TRUNCATE notifications_notification CASCADE")
    last_week = [UUID(int=ids.first_of(ago(days=7)).int + number) for number in range(10_000)]
    flow, project = (
        sent().flow_id,
        Notification.objects.get().project_id,
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_notification (id, project_id, flow_id, user_id, channel, priority, live,"
            " address, title, message, html, url, category, reference, metadata, status, failure_kind,"
            " failure_code, failure_detail, provider, provider_message_id, fence, attempt_count, lapses, resends, sent_at)"
            " SELECT id, %s, %s, '7', 'email', 'normal', true, '', '', '', '', '', '', '', '{}', 'sent', '', '',"
            " '', 'smtp', '', 1, 1, 0, 0, now() FROM unnest(%s::uuid[]) AS id",
            (project, flow, last_week),
        )
        cursor.execute(
            "INSERT INTO notifications_attempt (notification_id, fence, provider, started_at, finished_at,"
            " outcome, code, detail, provider_message_id)"
            " SELECT id, 1, 'smtp', now(), now(), 'accepted', '', '', '' FROM notifications_notification"
        )
        cursor.execute(
            "ANALYZE notifications_notification, notifications_attempt, notifications_flow"
        )
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {invariant.statement}",
            invariants.parameters(),
        )
        plan = cursor.fetchone()[0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60


@pytest.mark.parametrize("invariant", invariants.OF_INBOXES, ids=lambda invariant: invariant.code)
def test_of_inboxes_only_those_that_changed_lately_are_looked_at(invariant):
    """Ten thousand changes of last week's."""
    inboxes = [Inbox(recipient_id=number, live=True, position=100) for number in range(1, 101)]
    Inbox.objects.bulk_create(inboxes)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_inboxevent (inbox_id, number, kind, unread, at)"
            " SELECT id, number, 'updated', 0, now() - interval '6 days'"
            " FROM notifications_inbox, generate_series(1, 100) number"
        )
        cursor.execute("ANALYZE notifications_inbox, notifications_inboxevent")
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {invariant.statement}",
            invariants.parameters(),
        )
        plan = cursor.fetchone()[0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60
