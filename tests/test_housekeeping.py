"""What beat has removed: notifications that have ended, after RETENTION_DAYS."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications import changes, housekeeping, ids, stopping
from notifications.models import Attempt, Circuit, IdempotencyKey, Notification
from tests.factories import AttemptFactory, NotificationFactory

pytestmark = pytest.mark.django_db

_numbers = iter(range(10**6))


@pytest.fixture(autouse=True)
def _thirty_days(settings: Any) -> None:
    settings.RETENTION_DAYS = 30


def ended(status: str = "sent", *, days: float, **fields: Any) -> Notification:
    """Accepted, due and ended so many days ago, with an attempt."""
    moment = timezone.now() - timedelta(days=days)
    fields = {
        "id": UUID(int=ids.first_of(moment).int + next(_numbers)),
        "created_at": moment,
        "due_at": moment,
        "sent_at": moment if status in {"sent", "delivered"} else None,
        "failure_kind": "permanent" if status == "failed" else "",
        "fence": 1,
    } | fields
    notification: Notification = NotificationFactory(status=status, **fields)
    AttemptFactory(notification=notification)
    return notification


def prune() -> set[UUID]:
    """What is left."""
    housekeeping.prune()
    return set(Notification.objects.values_list("id", flat=True))


@pytest.mark.parametrize("status", ["sent", "delivered", "failed", "cancelled", "expired"])
def test_what_has_ended_goes_with_its_attempts_and_key(status: str) -> None:
    old, young = ended(status, days=31), ended(status, days=29)
    IdempotencyKey.objects.create(
        project=old.project, key="key", fingerprint=b"x", notification=old
    )
    assert prune() == {young.id}
    assert Attempt.objects.get().notification_id == young.id
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("status", ["pending", "sending", "unknown"])
def test_what_has_not_ended_stays(status: str) -> None:
    lease = timezone.now() + timedelta(seconds=30) if status == "sending" else None
    old = ended(status, days=400, leased_until=lease)
    assert prune() == {old.id}


def test_by_default_everything_stays(settings: Any) -> None:
    settings.RETENTION_DAYS = 0
    old = ended(days=4000)
    assert prune() == {old.id}


@pytest.mark.parametrize("days", [-30, -1, 6])
def test_a_senseless_retention_deletes_nothing(settings: Any, days: int) -> None:
    settings.RETENTION_DAYS = days
    old = ended(days=4000)
    assert prune() == {old.id}


def test_what_was_accepted_long_ago_for_a_later_day_is_as_old_as_that_day() -> None:
    scheduled = ended(days=400, due_at=timezone.now() - timedelta(days=1))
    assert prune() == {scheduled.id}


def test_what_a_younger_one_resends_stays_as_long_as_that() -> None:
    first = ended("failed", days=40)
    second = ended(days=20, resend_of=first)
    assert prune() == {first.id, second.id}


def test_a_chain_of_resends_goes_in_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CHUNK", 2)
    first = ended("failed", days=60)
    second = ended("failed", days=50, resend_of=first)
    third = ended("unknown", days=40, resend_of=ended(days=45, resend_of=second))
    assert prune() == {first.id, second.id, third.resend_of_id, third.id}
    Notification.objects.filter(id=third.id).update(status="failed", failure_kind="technical")
    assert prune() == set()


def test_many_go_in_small_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CHUNK", 2)
    held = ended("unknown", days=90)
    for _ in range(5):
        ended(days=40)
    with CaptureQueriesContext(connection) as queries:
        assert prune() == {held.id}
    deletes = [
        q for q in queries if q["sql"].startswith('DELETE FROM "notifications_notification"')
    ]
    assert len(deletes) == 3
    assert len(queries) < 50


def test_a_run_ends_in_time_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "CHUNK", 1)
    ended(days=50)
    ended(days=40)
    goes_on = iter([True, False, False])
    with monkeypatch.context() as clock:
        clock.setattr(housekeeping, "_goes_on", lambda end: next(goes_on))
        assert housekeeping.prune_notifications(end=60.0) == 1
    assert prune() == set()


def test_a_worker_that_is_to_stop_does_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    told.set()
    monkeypatch.setattr(stopping, "_stopping", told)
    old = ended(days=50)
    assert prune() == {old.id}


@pytest.mark.django_db(transaction=True)
def test_what_an_operator_is_resending_just_now_stays() -> None:
    old = ended("failed", days=50)
    found: list[int] = []

    def prune_meanwhile() -> None:
        found.append(housekeeping.prune_notifications(time.monotonic() + 5))
        connections.close_all()

    with transaction.atomic():
        resent = changes.resend(old).notification
        meanwhile = threading.Thread(target=prune_meanwhile)
        meanwhile.start()
        meanwhile.join(10)
    assert found == [0]
    assert prune() == {old.id, resent.id}


def test_a_circuit_that_nothing_has_tried_for_a_day_is_no_longer_open() -> None:
    """Its project writes from another address by now, or has nothing to send."""
    for sender, hours in (("old@example.com", 25), ("new@example.com", 23)):
        Circuit.objects.create(
            provider="smtp", sender=sender, open_until=timezone.now() - timedelta(hours=hours)
        )
    prune()
    assert Circuit.objects.get(open_until=None).sender == "old@example.com"


def test_what_was_unknown_for_long_stays_for_a_while_once_it_is_settled() -> None:
    held = ended("unknown", days=31)
    changes.settle_as_arrived(held.id)
    assert prune() == {held.id}
