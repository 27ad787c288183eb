"""Celery's part: retries for the database and the broker alone, housekeeping, and queues with workers."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from notifications import delivery, tasks
from notifications.models import Heartbeat, IdempotencyKey
from notifications.retry import judge
from tests.factories import NotificationFactory


def test_a_drain_that_meets_a_missing_database_is_retried_by_celery(monkeypatch):
    calls = []

    def fail_twice(lane, stopping):
        calls.append(lane)
        if len(calls) < 3:
            raise OperationalError("the database is away")

    monkeypatch.setattr(delivery, "drain", fail_twice)
    assert tasks.drain.apply(args=["email.high"]).successful()
    assert calls == ["email.high"] * 3


def test_a_bug_is_not_retried(monkeypatch):
    calls = []

    def fail(lane, stopping):
        calls.append(lane)
        raise ZeroDivisionError

    monkeypatch.setattr(delivery, "drain", fail)
    assert not tasks.drain.apply(args=["email.high"]).successful()
    assert len(calls) == 1


@pytest.mark.django_db
def test_beat_is_seen_through_a_worker():
    tasks.beat_is_alive.apply()
    assert Heartbeat.objects.get().kind == "scheduler"


@pytest.mark.django_db
def test_housekeeping_forgets_keys_after_seven_days_and_processes_after_one():
    notification = NotificationFactory()
    for name, age in (("old", 8), ("young", 6)):
        IdempotencyKey.objects.create(
            project=notification.project,
            key=name,
            fingerprint=b"x",
            notification=notification,
            created_at=timezone.now() - timedelta(days=age),
        )
    Heartbeat.objects.create(name="gone", seen_at=timezone.now() - timedelta(days=2))
    tasks.housekeeping.apply()
    assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["young"]
    assert not Heartbeat.objects.exists()


def test_a_providers_error_is_never_a_celery_retry():
    """It is a row that becomes due again."""
    from notifications.providers.base import Temporary

    assert judge(Temporary("x"), attempt=1, max_attempts=25, chance=0.5).wait is not None
    assert Temporary not in tasks.RetriedTask.autoretry_for
