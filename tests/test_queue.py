"""CLAIM, BEGIN, SETTLE, GIVE BACK: what each may change, and what it must not."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from notifications import changes, queue
from notifications.models import Attempt, Flow, Notification
from notifications.providers.base import Ambiguous, Misconfigured, Permanent, Sent, Temporary
from notifications.queue import Settlement
from notifications.retry import judge
from tests.factories import NotificationFactory, ProjectFactory, RecipientFactory

pytestmark = pytest.mark.django_db

LANE = "email.normal"


def claim(limit=10, lease=60.0):
    return queue.claim(LANE, "smtp", limit, lease)


def begin(rows, lease=60.0):
    return queue.begin(rows, "smtp", lease)


def settle(row, answer, attempt=1):
    verdict = judge(answer, attempt=attempt, max_attempts=25, chance=0.5)
    queue.settle([Settlement(row.id, row.fence, verdict, 0.25)], review_after=600)


def lapse(notification):
    """The lease ran out a while ago."""
    Notification.objects.filter(id=notification.id).update(
        leased_until=Now() - timedelta(minutes=1)
    )


def reload(row):
    return Notification.objects.get(id=row.id)


# -- claim --------------------------------------------------------------------------------------------


def test_a_claim_takes_what_is_due_and_leaves_the_rest():
    due = NotificationFactory()
    NotificationFactory(due_at=timezone.now() + timedelta(hours=1))
    NotificationFactory(status="cancelled")
    NotificationFactory(priority="high")
    assert [row.id for row in claim()] == [due.id]


def test_a_claimed_row_is_not_claimed_twice():
    NotificationFactory()
    assert len(claim()) == 1
    assert claim() == []


def test_a_claim_moves_the_lease_and_the_fence_but_never_the_due_time():
    notification = NotificationFactory()
    [row] = claim()
    stored = reload(row)
    assert (stored.fence, stored.due_at) == (1, notification.due_at)
    assert stored.leased_until > timezone.now() + timedelta(seconds=50)


def test_a_paused_flow_is_not_claimed():
    notification = NotificationFactory()
    Flow.objects.filter(id=notification.flow_id).update(paused=True)
    assert claim() == []


def test_what_has_expired_is_not_claimed():
    NotificationFactory(expires_at=timezone.now() - timedelta(minutes=1))
    assert claim() == []


def test_the_oldest_due_go_first():
    now = timezone.now() - timedelta(minutes=1)
    ids = [
        NotificationFactory(recipient=recipient, due_at=now - timedelta(minutes=age)).id
        for recipient in [RecipientFactory()]
        for age in (1, 3, 2)
    ]
    assert {row.id for row in claim(limit=2)} == {ids[1], ids[2]}


def test_a_project_with_many_due_rows_leaves_others_their_share():
    busy, quiet = (RecipientFactory(project=ProjectFactory()) for _ in range(2))
    now = timezone.now()
    for _ in range(30):
        NotificationFactory(recipient=busy, due_at=now - timedelta(hours=1))
    single = NotificationFactory(recipient=quiet)
    claimed = claim(limit=10)
    assert len(claimed) == 6  # half of the chunk for the busy one, and the single one
    assert single.id in {row.id for row in claimed}


def test_a_claim_reads_few_pages_however_many_rows_wait():
    """Behind thousands of future and thousands of paused rows."""
    recipient = RecipientFactory()
    later = timezone.now() + timedelta(days=1)
    seed = NotificationFactory(recipient=recipient, due_at=later)
    paused = NotificationFactory(recipient=RecipientFactory(), due_at=later - timedelta(days=2))
    Flow.objects.filter(id=paused.flow_id).update(paused=True)
    for each in (seed, paused):
        Notification.objects.bulk_create(
            [_copy(each) for _ in range(3000)],
            batch_size=1000,
        )
    due = NotificationFactory(recipient=recipient)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification")
        cursor.execute("ANALYZE notifications_flow")
        cursor.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {queue.CLAIM}",
            {"lane": LANE, "provider": "smtp", "limit": 10, "lease": 60},
        )
        plan = cursor.fetchone()[0][0]["Plan"]
    assert plan["Actual Rows"] == 1
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 150
    assert reload(due).fence == 1


def _copy(notification):
    fields = {
        field.attname: getattr(notification, field.attname) for field in Notification._meta.fields
    }
    from uuid_utils.compat import uuid7

    return Notification(**(fields | {"id": uuid7()}))


# -- begin --------------------------------------------------------------------------------------------


def test_begin_records_the_attempt_before_anything_is_sent():
    NotificationFactory()
    rows = claim()
    assert begin(rows) == {rows[0].id}
    stored = reload(rows[0])
    assert (stored.status, stored.attempt_count, stored.provider) == ("sending", 1, "smtp")
    attempt = Attempt.objects.get()
    assert (attempt.fence, attempt.outcome) == (stored.fence, None)


def test_a_row_cancelled_after_its_claim_is_not_begun():
    NotificationFactory()
    rows = claim()
    changes.cancel(rows[0].id)
    assert begin(rows) == set()
    assert not Attempt.objects.exists()


def test_a_row_whose_lease_has_ended_is_not_begun():
    NotificationFactory()
    rows = claim()
    lapse(rows[0])
    assert begin(rows) == set()


def test_a_row_that_was_claimed_again_is_not_begun_by_the_first():
    NotificationFactory()
    first = claim()
    Notification.objects.update(leased_until=None)
    second = claim()
    assert begin(first) == set()
    assert begin(second) == {second[0].id}


def test_what_expired_between_claim_and_begin_is_not_begun():
    NotificationFactory()
    rows = claim()
    Notification.objects.update(expires_at=Now() - timedelta(minutes=1))
    assert begin(rows) == set()


# -- settle -------------------------------------------------------------------------------------------


def begun():
    NotificationFactory()
    rows = claim()
    begin(rows)
    return rows[0]


def test_an_accepted_one_is_sent():
    row = begun()
    settle(row, Sent(provider_message_id="<1@example.com>"))
    stored = reload(row)
    assert (stored.status, stored.provider_message_id) == ("sent", "<1@example.com>")
    assert stored.sent_at is not None
    assert stored.leased_until is None
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.duration_ms) == ("accepted", 250)


def test_an_in_app_one_is_delivered_at_once():
    row = begun()
    settle(row, Sent(delivered=True))
    stored = reload(row)
    assert stored.status == "delivered"
    assert stored.delivered_at == stored.sent_at


def test_a_refused_one_fails_with_the_providers_words():
    row = begun()
    settle(row, Permanent("smtp_550", "no such mailbox"))
    assert reload(row).failure == {
        "kind": "permanent",
        "code": "smtp_550",
        "detail": "no such mailbox",
    }


def test_a_temporary_error_makes_it_due_again_later():
    row = begun()
    settle(row, Temporary("smtp_451", "later", retry_after=120))
    stored = reload(row)
    assert (stored.status, stored.attempt_count, stored.failure) == ("pending", 1, None)
    assert stored.due_at > timezone.now() + timedelta(seconds=110)
    assert claim() == []


def test_our_own_misconfiguration_spends_no_attempt():
    row = begun()
    settle(row, Misconfigured("smtp_535", "log-in failed"))
    stored = reload(row)
    assert (stored.status, stored.attempt_count) == ("pending", 0)


def test_an_ambiguous_answer_leaves_it_visibly_unknown():
    row = begun()
    settle(row, Ambiguous("timed_out"))
    stored = reload(row)
    assert (stored.status, stored.failure) == ("unknown", None)
    assert stored.review_at > timezone.now() + timedelta(seconds=590)


def test_settling_twice_changes_nothing_the_second_time():
    row = begun()
    settle(row, Misconfigured("smtp_535"))
    settle(row, Misconfigured("smtp_535"))
    assert reload(row).attempt_count == 0


def test_a_late_answer_still_settles_what_had_become_unknown():
    row = begun()
    Notification.objects.update(status="unknown", leased_until=None)
    settle(row, Sent(provider_message_id="late"))
    assert reload(row).status == "sent"


def test_a_late_answer_stops_a_resend_that_nobody_has_claimed_yet():
    row = begun()
    Notification.objects.update(status="pending", leased_until=None)
    settle(row, Sent(provider_message_id="late"))
    assert reload(row).status == "sent"


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_late_answer_never_overwrites_an_end_and_is_kept_in_the_attempt(status):
    row = begun()
    Notification.objects.update(status=status, leased_until=None)
    settle(row, Sent(provider_message_id="late"))
    assert reload(row).status == status
    assert Attempt.objects.get().provider_message_id == "late"


def test_a_late_answer_of_an_older_claim_changes_only_its_own_attempt():
    row = begun()
    Notification.objects.update(status="pending", leased_until=None)
    [second] = claim()
    begin([second])
    settle(row, Permanent("smtp_550"))
    assert reload(row).status == "sending"
    assert list(Attempt.objects.values_list("outcome", flat=True)) == ["permanent", None]


def test_words_that_postgresql_cannot_store_are_stored_without_them():
    row = begun()
    settle(row, Permanent("smtp_550", "no\x00such \ud800 mailbox"))
    assert reload(row).failure_detail == "nosuch ? mailbox"


def test_a_forgotten_persons_address_does_not_come_back_in_the_vendors_words():
    row = begun()
    changes.forget(Notification.objects.get().recipient)
    settle(row, Permanent("smtp_550", "<ann@example.com>: user unknown"))
    assert reload(row).failure_detail == ""
    assert Attempt.objects.get().detail == ""
    assert Attempt.objects.get().outcome == "permanent"


def resent_from_unknown():
    row = begun()
    Notification.objects.update(status="unknown", leased_until=None)
    NotificationFactory(resend_of_id=row.id)
    return row


def test_what_an_operator_has_resent_is_not_tried_again_after_a_late_answer():
    row = resent_from_unknown()
    settle(row, Temporary("smtp_451", "later"))
    assert (reload(row).status, reload(row).failure_kind) == ("failed", "temporary")


def test_what_an_operator_has_resent_is_not_resent_by_the_policy_after_a_late_answer():
    row = resent_from_unknown()
    settle(row, Ambiguous("timed_out"))
    assert (reload(row).status, reload(row).review_at) == ("unknown", None)


# -- give back ----------------------------------------------------------------------------------------


def test_what_is_given_back_can_be_claimed_at_once():
    NotificationFactory()
    queue.give_back(claim())
    assert len(claim()) == 1
    assert Notification.objects.get().lapses == 0


def test_what_another_has_claimed_meanwhile_is_not_given_back():
    NotificationFactory()
    first = claim()
    Notification.objects.update(leased_until=None)
    claim()
    queue.give_back(first)
    assert Notification.objects.get().leased_until is not None
