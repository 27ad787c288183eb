"""What people change: cancel, retry now, read, resend, forget."""

from datetime import timedelta

import pytest
from django.utils import timezone

from notifications import changes, queue
from notifications.models import Attempt, Notification
from notifications.sweeping import sweep
from tests.factories import AttemptFactory, NotificationFactory
from users.models import Address, Recipient
from users.refusals import Conflict, Refused

pytestmark = pytest.mark.django_db


def test_a_waiting_one_is_cancelled():
    notification = NotificationFactory()
    changes.cancel(notification.id)
    notification.refresh_from_db()
    assert notification.status == "cancelled"


def test_a_claimed_one_that_has_not_begun_is_cancelled_and_never_sent():
    notification = NotificationFactory()
    claimed = queue.claim("email.normal", "smtp", 1, 60)
    changes.cancel(notification.id)
    assert queue.begin(claimed, "smtp", 60) == set()


def test_cancelling_twice_is_fine():
    notification = NotificationFactory(status="cancelled")
    changes.cancel(notification.id)


@pytest.mark.parametrize("status", ["sent", "delivered", "failed", "expired", "unknown"])
def test_what_has_left_or_ended_cannot_be_cancelled(status):
    notification = NotificationFactory(
        status=status, sent_at=timezone.now(), failure_kind="permanent"
    )
    with pytest.raises(Conflict, match=status):
        changes.cancel(notification.id)


def test_retry_now_makes_it_due_at_once_and_wakes_its_lane(
    woken, django_capture_on_commit_callbacks
):
    notification = NotificationFactory(due_at=timezone.now() + timedelta(hours=1))
    with django_capture_on_commit_callbacks(execute=True):
        changes.retry_now(notification.id)
    notification.refresh_from_db()
    assert notification.due_at <= timezone.now()
    assert woken == ["email.normal"]


def test_only_a_waiting_one_can_be_tried_now():
    notification = NotificationFactory(status="cancelled")
    with pytest.raises(Conflict):
        changes.retry_now(notification.id)


def test_a_resend_is_a_new_notification_with_the_same_content_that_names_the_first(woken):
    first = NotificationFactory(
        status="failed",
        failure_kind="permanent",
        title="T",
        message="M",
        reference="r",
        metadata={"a": 1},
        lane="sandbox",
    )
    again = changes.resend(first).notification
    again.refresh_from_db()
    assert again.resend_of_id == first.id
    assert again.status == "pending"
    for name in ("title", "message", "address", "reference", "metadata", "recipient", "channel"):
        assert getattr(again, name) == getattr(first, name)


def test_pressing_resend_twice_sends_once():
    first = NotificationFactory(status="expired", lane="sandbox")
    newer = changes.resend(first).notification
    with pytest.raises(Conflict, match=str(newer.id)):
        changes.resend(first)
    assert Notification.objects.count() == 2


def test_the_next_resend_starts_from_the_newest():
    first = NotificationFactory(status="expired", lane="sandbox")
    second = changes.resend(first).notification
    Notification.objects.filter(id=second.id).update(status="expired")
    third = changes.resend(second).notification
    assert third.resend_of_id == second.id


def test_what_is_waiting_is_not_resent_even_if_the_page_showed_it_as_failed():
    seen = NotificationFactory(status="failed", failure_kind="permanent")
    Notification.objects.update(status="pending", failure_kind="")
    with pytest.raises(Conflict):
        changes.resend(seen)


def test_an_unknown_one_that_an_operator_resent_is_not_resent_by_the_policy_too():
    unknown = NotificationFactory(
        status="unknown", review_at=timezone.now() - timedelta(minutes=1), lane="sandbox"
    )
    changes.resend(unknown)
    sweep()
    unknown.refresh_from_db()
    assert unknown.status == "unknown"


def test_reading_sets_the_time_once_and_unreading_clears_it():
    notification = NotificationFactory(status="delivered", sent_at=timezone.now())
    changes.mark_read(notification.id)
    notification.refresh_from_db()
    first = notification.read_at
    changes.mark_read(notification.id)
    notification.refresh_from_db()
    assert notification.read_at == first is not None
    changes.mark_unread(notification.id)
    notification.refresh_from_db()
    assert notification.read_at is None


def test_what_reached_nobody_cannot_be_read():
    notification = NotificationFactory(status="cancelled")
    with pytest.raises(Conflict):
        changes.mark_read(notification.id)


def test_a_forgotten_person_leaves_ids_and_nothing_else():
    sent = NotificationFactory(
        status="sent", sent_at=timezone.now(), title="T", html="<b>", metadata={"a": 1}
    )
    waiting = NotificationFactory(recipient=sent.recipient)
    AttemptFactory(notification=sent, detail="550 ada@example.com unknown")
    changes.forget(sent.recipient)
    sent.refresh_from_db()
    waiting.refresh_from_db()
    assert (sent.status, waiting.status) == ("sent", "cancelled")
    for each in (sent, waiting):
        assert (each.address, each.title, each.message, each.html) == ("", "", "", "")
        assert (each.metadata, each.recipient) == ({}, None)
        assert each.user_id
    assert Attempt.objects.get().detail == ""
    assert not Recipient.objects.exists()
    assert not Address.objects.exists()


def test_what_was_in_flight_when_the_person_was_forgotten_is_not_tried_again():
    notification = NotificationFactory()
    rows = queue.claim("email.normal", "smtp", 1, 60)
    queue.begin(rows, "smtp", 60)
    changes.forget(notification.recipient)
    Notification.objects.update(status="pending", leased_until=None)
    assert queue.claim("email.normal", "smtp", 1, 60) == []


def test_a_forgotten_persons_notification_cannot_be_resent():
    notification = NotificationFactory(status="sent", sent_at=timezone.now())
    changes.forget(notification.recipient)
    with pytest.raises(Conflict, match="forgotten"):
        changes.resend(notification)


@pytest.mark.django_db(transaction=True)
def test_a_refused_resend_leaves_no_trace_of_the_flow_it_made(settings):
    """Kept in memory after the rollback, its id would break every later notification of the lane."""
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    first = NotificationFactory(status="expired", address="", lane="sandbox")
    with pytest.raises(Refused):
        changes.resend(first)
    Notification.objects.filter(id=first.id).update(address="ada@example.com")
    assert changes.resend(first).notification.flow.lane == "email.normal"
