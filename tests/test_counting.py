"""What is counted is what is there: once each, whoever counts at the same time and whenever it is broken off."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from notifications import counting, housekeeping, ids, stopping
from notifications.models import (
    Attempt,
    CallCount,
    CountedHour,
    HourlyCount,
    Notification,
    Watermark,
)
from tests.api.parallel import at_once
from tests.factories import AttemptFactory, NotificationFactory
from users.models import Project

pytestmark = pytest.mark.django_db

NOW = timezone.now()
THIS_HOUR = NOW.replace(minute=0, second=0, microsecond=0)
LONG_AGO = NOW - timedelta(minutes=10)


def in_time() -> float:
    return time.monotonic() + 60


def accepted_in(hour: Any, **fields: Any) -> Notification:
    """A notification whose id was made in that hour."""
    chance = NotificationFactory.build(recipient=None, project=None, flow_id=0, user_id="").id
    moment = ids.first_of(hour + timedelta(minutes=1)).int | (chance.int & (2**80 - 1))
    return NotificationFactory(id=UUID(int=moment), **fields)


def attempt(**fields: Any) -> Attempt:
    started_at = fields.pop("started_at", LONG_AGO)
    fields.setdefault("outcome", "accepted")
    took = timedelta(milliseconds=fields.pop("took_ms", 5))
    return AttemptFactory(
        started_at=started_at,
        finished_at=started_at + took if fields["outcome"] else None,
        **fields,
    )


def counted_calls(span: str = "hour") -> Counter[Any]:
    rows = CallCount.objects.filter(span=span)
    return Counter({(c.lane, c.provider, c.outcome, c.code): c.calls for c in rows})


def hour_counts() -> Counter[Any]:
    rows = HourlyCount.objects.values_list(
        "hour", "project_id", "channel", "status", "category", "count"
    )
    return Counter({row[:-1]: row[-1] for row in rows})


# --- Calls ----------------------------------------------------------------------------------------


def test_each_call_is_counted_once_in_its_minute_and_its_hour(alice: Project) -> None:
    mail = NotificationFactory(recipient__project=alice, priority="high")
    attempt(notification=mail, fence=1)
    attempt(notification=mail, fence=2)
    attempt(notification=mail, fence=3, outcome="temporary", code="421 4.7.0")
    attempt(notification=mail, fence=4, outcome=None)
    for _ in range(3):
        counting.count_calls(in_time())
    expected = {
        ("email.high", "smtp", "accepted", ""): 2,
        ("email.high", "smtp", "temporary", "421 4.7.0"): 1,
        ("email.high", "smtp", "", ""): 1,
    }
    assert counted_calls("hour") == counted_calls("minute") == expected


def test_a_call_that_may_not_be_over_stops_the_mark_and_is_counted_later(alice: Project) -> None:
    old = attempt()
    fresh = attempt(started_at=timezone.now(), outcome=None)
    behind = attempt()
    counting.count_calls(in_time())
    assert Watermark.objects.get().last_id == old.id
    Attempt.objects.filter(id=fresh.id).update(
        started_at=LONG_AGO, finished_at=NOW, outcome="permanent", code="550 5.1.1"
    )
    counting.count_calls(in_time())
    assert Watermark.objects.get().last_id == behind.id
    assert counted_calls() == {
        ("email.normal", "smtp", "accepted", ""): 2,
        ("email.normal", "smtp", "permanent", "550 5.1.1"): 1,
    }


@pytest.mark.parametrize(
    ("milliseconds", "bucket"), [(0, 0), (1.9, 0), (2, 1), (3.9, 1), (4, 2), (8, 3), (1024, 10)]
)
def test_a_bucket_begins_at_its_power_of_two(milliseconds: float, bucket: int) -> None:
    attempt(took_ms=milliseconds)
    counting.count_calls(in_time())
    assert CallCount.objects.get(span="hour").bucket == bucket


def test_a_count_that_is_killed_before_its_end_counts_nothing_and_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempt()
    with monkeypatch.context() as patch:
        patch.setattr(Watermark, "save", _killed)
        with pytest.raises(KeyboardInterrupt):
            counting.count_calls(in_time())
    assert not CallCount.objects.exists()
    counting.count_calls(in_time())
    assert sum(counted_calls().values()) == 1


def _killed(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def test_much_is_counted_chunk_by_chunk_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "CHUNK", 2)
    for _ in range(5):
        attempt()
    assert counting.count_calls(time.monotonic() - 1) == 0
    assert not CallCount.objects.exists()
    assert counting.count_calls(in_time()) == 3
    assert sum(counted_calls().values()) == 5


def test_a_worker_that_is_to_stop_counts_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt()
    monkeypatch.setattr(stopping, "is_stopping", lambda: True)
    counting.count()
    assert not CallCount.objects.exists()


def test_what_began_long_ago_is_in_its_hour_alone() -> None:
    attempt(started_at=NOW - timedelta(days=2))
    attempt(started_at=NOW - timedelta(days=200))
    counting.count_calls(in_time())
    assert sum(counted_calls("hour").values()) == 1
    assert not counted_calls("minute")


def test_a_code_for_each_call_does_not_make_a_row_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "MOST_CODES", 4)
    for number in range(4):
        for _ in range(4 - number):
            attempt(outcome="permanent", code=f"<b>{number}</b>")
    counting.count_calls(in_time())
    for _ in range(2):
        attempt(outcome="permanent", code="<b>0</b>")
        attempt(outcome="permanent", code=f"new {number}")
    counting.count_calls(in_time())
    codes = Counter({c.code: c.calls for c in CallCount.objects.filter(span="hour")})
    assert codes == {"<b>0</b>": 6, "<b>1</b>": 3, "other": 5}


@pytest.mark.django_db(transaction=True)
def test_what_one_is_counting_another_leaves(alice: Project) -> None:
    attempt(notification=NotificationFactory(recipient__project=alice))
    Watermark.objects.create(name=counting.MARK)
    counting.note_hours(THIS_HOUR)
    with transaction.atomic():
        Watermark.objects.select_for_update().get()
        list(CountedHour.objects.select_for_update())
        assert counted_by(1, counting.count_calls) == counted_by(1, counting.count_hours) == [0]
    assert counted_by(1, counting.count_calls) == [1]
    assert counted_by(1, counting.count_hours)[0] > 0


@pytest.mark.django_db(transaction=True)
def test_several_that_count_at_once_count_once(
    alice: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "CHUNK", 2)
    mail = accepted_in(THIS_HOUR, recipient__project=alice)
    for number in range(20):
        attempt(notification=mail, fence=number + 1)
    counted_by(4, counting.count_calls)
    counted_by(4, counting.count_hours)
    # Whoever found the mark taken has left: one is always there to go on, and the next run does.
    counting.count_calls(in_time())
    assert sum(counted_calls("hour").values()) == sum(counted_calls("minute").values()) == 20
    assert sum(hour_counts().values()) == 1


def counted_by(threads: int, count: Callable[[float], int]) -> list[int]:
    return at_once(threads, lambda _: count(in_time()), threads)


# --- Hours ----------------------------------------------------------------------------------------


def test_an_hours_counts_are_those_of_a_plain_count(alice: Project, stranger: Project) -> None:
    for hours_ago in (0, 1, 30):
        hour = THIS_HOUR - timedelta(hours=hours_ago)
        for project in (alice, stranger):
            accepted_in(hour, recipient__project=project, category="receipts", created_at=hour)
            accepted_in(hour, recipient__project=project, channel="sms", created_at=hour)
            accepted_in(hour, recipient__project=project, status="cancelled", created_at=hour)
    counting.count_hours(in_time())
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT date_trunc('hour', uuid_extract_timestamp(id)), project_id, channel, status, category, count(*) "
            "FROM notifications_notification GROUP BY 1, 2, 3, 4, 5"
        )
        plain = Counter({row[:-1]: row[-1] for row in cursor.fetchall()})
    assert sum(plain.values()) == 18
    assert hour_counts() == plain


def test_what_changes_later_is_counted_again_when_the_hour_is_due(alice: Project) -> None:
    hour = THIS_HOUR - timedelta(hours=9)
    mail = accepted_in(hour, recipient__project=alice, created_at=hour)
    counting.count_hours(in_time())
    Notification.objects.filter(id=mail.id).update(
        status="delivered", sent_at=NOW, delivered_at=NOW
    )
    counting.count_hours(in_time())
    assert HourlyCount.objects.get().status == "pending"
    CountedHour.objects.update(counted_at=NOW - timedelta(hours=2, minutes=30))
    counting.count_hours(in_time())
    assert HourlyCount.objects.get().status == "delivered"


def test_the_present_hour_is_due_every_minute() -> None:
    counting.count_hours(in_time())
    assert THIS_HOUR not in counting._due_hours()
    CountedHour.objects.update(counted_at=timezone.now() - timedelta(seconds=61))
    assert THIS_HOUR in counting._due_hours()


def test_an_hour_that_was_never_counted_waits_for_none_that_is_only_due_again() -> None:
    counting.note_hours(NOW - timedelta(hours=30))
    CountedHour.objects.filter(hour__gte=THIS_HOUR).update(
        counted_at=timezone.now() - timedelta(seconds=70)
    )
    due = counting._due_hours()
    assert due[0] == THIS_HOUR - timedelta(hours=1)
    assert due[-1] >= THIS_HOUR
    CountedHour.objects.filter(hour__gte=THIS_HOUR).update(
        counted_at=timezone.now() - timedelta(seconds=130)
    )
    assert counting._due_hours()[0] >= THIS_HOUR


def test_a_ledger_that_was_never_counted_is_from_its_oldest_on(alice: Project) -> None:
    oldest = THIS_HOUR - timedelta(days=45)
    accepted_in(oldest, recipient__project=alice, created_at=oldest)
    accepted_in(THIS_HOUR, recipient__project=alice)
    counting.count_hours(in_time())
    assert {count.hour for count in HourlyCount.objects.all()} == {oldest, THIS_HOUR}


def test_what_retention_deletes_from_the_ledger_stays_counted(
    alice: Project, settings: Any
) -> None:
    settings.RETENTION_DAYS = 20
    old = THIS_HOUR - timedelta(days=21)
    accepted_in(
        old,
        recipient__project=alice,
        status="cancelled",
        created_at=old,
        due_at=old,
    )
    counting.count_hours(in_time())
    housekeeping.prune()
    assert not Notification.objects.exists()
    CountedHour.objects.update(counted_at=NOW - timedelta(days=15))
    counting.count_hours(in_time())
    assert HourlyCount.objects.get(hour=old).count == 1


def test_an_hour_older_than_a_month_is_counted_once(alice: Project) -> None:
    old = THIS_HOUR - timedelta(days=31)
    accepted_in(old, recipient__project=alice, created_at=old)
    counting.count_hours(in_time())
    CountedHour.objects.update(counted_at=NOW - timedelta(days=20))
    assert old not in counting._due_hours()


def test_forgotten_people_stay_counted(alice: Project) -> None:
    mail = accepted_in(THIS_HOUR, recipient__project=alice)
    Notification.objects.filter(id=mail.id).update(
        status="cancelled", erased_at=NOW, address="", message="", recipient=None
    )
    counting.count_hours(in_time())
    assert HourlyCount.objects.get().count == 1


def test_a_category_for_each_notification_does_not_make_a_row_of_each(
    alice: Project, stranger: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "MOST_CATEGORIES", 2)
    for category in ("", "a", "a", "b", "b", "c", "d"):
        accepted_in(THIS_HOUR, recipient__project=alice, category=category)
    accepted_in(THIS_HOUR, recipient__project=stranger, category="d")
    counting.count_hours(in_time())
    counts = {(c.project_id, c.category): c.count for c in HourlyCount.objects.all()}
    assert counts == {
        (alice.id, ""): 1,
        (alice.id, "a"): 2,
        (alice.id, "b"): 2,
        (alice.id, "other"): 2,
        (stranger.id, "d"): 1,
    }


# --- How long it is kept --------------------------------------------------------------------------


def test_old_figures_are_removed(alice: Project) -> None:
    attempt(started_at=NOW - timedelta(hours=2))
    counting.count_calls(in_time())
    CountedHour.objects.create(hour=THIS_HOUR - timedelta(days=401))
    accepted_in(THIS_HOUR, recipient__project=alice)
    counting.count_hours(in_time())
    housekeeping.prune()
    assert CallCount.objects.count() == 2
    assert HourlyCount.objects.get(project=alice).count == 1
    assert not CountedHour.objects.filter(hour__lt=NOW - timedelta(days=400)).exists()
    CallCount.objects.update(began_at=NOW - timedelta(hours=4))
    HourlyCount.objects.update(hour=THIS_HOUR - timedelta(days=401))
    housekeeping.prune()
    assert [count.span for count in CallCount.objects.all()] == ["hour"]
    assert not HourlyCount.objects.exists()
    CallCount.objects.update(began_at=NOW - timedelta(days=91))
    housekeeping.prune()
    assert not CallCount.objects.exists()
