"""What people change: cancel, retry now, read, resend, settle an unknown one, forget."""

import threading
from contextlib import suppress
from datetime import timedelta
from importlib import import_module

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications import changes, queue
from notifications.inbox import marking
from notifications.models import Attempt, Notification
from notifications.providers.base import Permanent, Sent, Temporary
from notifications.retry import judge
from notifications.sweeping import sweep
from tests.api.parallel import at_once
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


# -- an operator's word about an unknown one --------------------------------------------------------------

SETTLED = [(changes.settle_as_arrived, "sent"), (changes.give_up, "failed")]


def unknown(**fields):
    """Its worker died after BEGIN; the policy has not decided yet."""
    notification = NotificationFactory(
        **{"status": "unknown", "provider": "smtp", "fence": 1, "lane": "sandbox"}
        | {"review_at": timezone.now() - timedelta(minutes=1)}
        | fields
    )
    AttemptFactory(notification=notification)
    return notification


def answer(notification, answer):
    """The worker's answer arrives after all."""
    verdict = judge(answer, attempt=1, max_attempts=25, chance=0.5)
    queue.settle([queue.Settlement(notification.id, 1, verdict, 1.0)], 600)


def test_it_arrived_makes_it_sent_and_says_on_whose_word():
    notification = unknown()
    changes.settle_as_arrived(notification.id)
    notification.refresh_from_db()
    assert (notification.status, notification.settled_by_hand) == ("sent", True)
    assert notification.sent_at is not None
    assert notification.review_at is None
    assert Attempt.objects.get().outcome is None


def test_what_is_given_up_has_failed_and_says_why():
    notification = unknown(review_at=None)
    changes.give_up(notification.id)
    notification.refresh_from_db()
    assert (notification.status, notification.settled_by_hand) == ("failed", True)
    assert notification.failure["kind"] == "technical"
    assert notification.failure["code"] == "given_up"
    assert notification.sent_at is None


@pytest.mark.parametrize(("settle", "status"), SETTLED)
def test_what_an_operator_settled_is_left_alone_by_the_policy(settle, status):
    notification = unknown()
    settle(notification.id)
    sweep()
    notification.refresh_from_db()
    assert (notification.status, notification.resends) == (status, 0)


@pytest.mark.parametrize("late", [Sent(provider_message_id="late"), Temporary("451"), Permanent("550")])  # fmt: skip
@pytest.mark.parametrize(("settle", "status"), SETTLED)
def test_a_late_answer_does_not_overrule_the_operator_and_is_kept_in_the_attempt(
    settle, status, late
):
    notification = unknown()
    settle(notification.id)
    answer(notification, late)
    notification.refresh_from_db()
    assert notification.status == status
    assert Attempt.objects.get().outcome is not None


@pytest.mark.parametrize(("settle", "_"), SETTLED)
@pytest.mark.parametrize("late", [Sent(), Temporary("451"), Permanent("550")])
def test_an_operator_who_comes_after_the_answer_is_told_and_changes_nothing(settle, _, late):
    notification = unknown()
    answer(notification, late)
    before = Notification.objects.values().get()
    with pytest.raises(Conflict, match=f"is {before['status']} now, no longer unknown"):
        settle(notification.id)
    assert Notification.objects.values().get() == before


@pytest.mark.parametrize(("settle", "_"), SETTLED)
def test_an_operator_who_comes_after_the_policy_is_told(settle, _):
    notification = unknown()
    sweep()
    with pytest.raises(Conflict, match="is pending now"):
        settle(notification.id)


@pytest.mark.parametrize(("settle", "_"), SETTLED)
@pytest.mark.parametrize(("later", "__"), SETTLED)
def test_of_two_operators_only_the_first_is_heard(settle, _, later, __):
    notification = unknown()
    settle(notification.id)
    before = Notification.objects.values().get()
    with pytest.raises(Conflict):
        later(notification.id)
    assert Notification.objects.values().get() == before


@pytest.mark.parametrize("late", [Sent(), Permanent("550")])
def test_what_was_seen_as_unknown_and_has_its_answer_by_now_is_not_resent(late):
    seen = unknown()
    answer(seen, late)
    with pytest.raises(Conflict, match="no longer unknown"):
        changes.resend(seen)
    assert Notification.objects.count() == 1


def test_what_was_given_up_can_still_be_resent():
    notification = unknown()
    changes.give_up(notification.id)
    notification.refresh_from_db()
    assert changes.resend(notification).notification.resend_of_id == notification.id


def test_only_what_nobody_decides_about_any_more_is_held_for_an_operator():
    held = unknown(review_at=None)
    unknown()
    changes.resend(unknown(review_at=None))
    changes.give_up(unknown(review_at=None).id)
    NotificationFactory()
    assert Notification.objects.held().get() == held


@pytest.mark.django_db(transaction=True)
def test_a_late_answer_that_waits_for_a_resend_to_commit_does_not_try_the_first_one_again():
    """The answer's statement began before the resend was stored, so it cannot see the newer notification."""
    notification = unknown()
    late = threading.Thread(target=_answer_in_its_own_session, args=(notification,))
    with transaction.atomic():
        changes.resend(notification)
        late.start()
        _wait_until_somebody_waits_for_a_lock()
    late.join()
    notification.refresh_from_db()
    assert (notification.status, notification.failure_kind) == ("failed", "temporary")


@pytest.mark.django_db(transaction=True)
def test_operators_the_policy_and_late_answers_at_once_leave_each_with_one_ending():
    notifications = [unknown() for _ in range(25)]

    def resend_all():
        for seen in notifications:
            with suppress(Conflict):
                changes.resend(seen)

    def settle_all(settle):
        for seen in notifications:
            with suppress(Conflict):
                settle(seen.id)

    def answer_all():
        for seen in notifications:
            answer(seen, Temporary("451"))

    actors = [
        resend_all,
        sweep,
        answer_all,
        lambda: settle_all(changes.settle_as_arrived),
        lambda: settle_all(changes.give_up),
    ]
    at_once(len(actors), lambda number: actors[number](), threads=len(actors))
    for each in Notification.objects.filter(resend_of=None):
        resent = Notification.objects.filter(resend_of=each).exists()
        # Whatever goes out again does so in one way only, and never after an operator's word.
        assert not (each.status == "pending" and (resent or each.settled_by_hand)), each.status
        assert each.status in {"pending", "sent", "failed", "unknown"}
        assert (each.status != "sent") or each.settled_by_hand


def test_what_was_resent_before_a_resend_was_noted_in_the_row_is_not_held():
    """By the migration that has added the column."""
    held, resent = unknown(review_at=None), unknown(review_at=None)
    NotificationFactory(resend_of=resent)
    migration = import_module("notifications.migrations.0006_held_index")
    with connection.cursor() as cursor:
        cursor.execute(migration.MARK_RESENT)
    assert Notification.objects.held().get() == held


def _answer_in_its_own_session(notification):
    answer(notification, Temporary("451"))
    connection.close()


def _wait_until_somebody_waits_for_a_lock():
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(waiting)
            if cursor.fetchone()[0]:
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")


def test_reading_sets_the_time_once_and_unreading_clears_it():
    notification = NotificationFactory(status="delivered", sent_at=timezone.now())
    marking.mark_read(notification.id)
    notification.refresh_from_db()
    first = notification.read_at
    marking.mark_read(notification.id)
    notification.refresh_from_db()
    assert notification.read_at == first is not None
    marking.mark_unread(notification.id)
    notification.refresh_from_db()
    assert notification.read_at is None


def test_what_reached_nobody_cannot_be_read():
    notification = NotificationFactory(status="cancelled")
    with pytest.raises(Conflict):
        marking.mark_read(notification.id)


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
