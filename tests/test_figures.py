"""The console's figures: made of counts, divided and bounded as they say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications import figures
from tests.factories import CallCountFactory, HourlyCountFactory
from users.models import Project

pytestmark = pytest.mark.django_db

NOW = timezone.now()
HOUR = figures.hour_of(NOW)


def accepted(by: str = "channel", **options: Any) -> list[figures.Hour]:
    return figures.accepted(NOW - timedelta(hours=24), NOW, by, **options)


def test_an_hours_notifications_are_told_by_channel_and_status(
    alice: Project, stranger: Project
) -> None:
    HourlyCountFactory(project=alice, hour=HOUR, status="sent", count=1)
    HourlyCountFactory(project=stranger, hour=HOUR, status="sent", count=2)
    HourlyCountFactory(project=alice, hour=HOUR, channel="sms", status="failed", count=4)
    before = HOUR - timedelta(hours=1)
    HourlyCountFactory(project=alice, hour=before, status="unknown", count=8)
    assert accepted() == [
        (before, "email", {"unknown": 8}),
        (HOUR, "email", {"sent": 3}),
        (HOUR, "sms", {"failed": 4}),
    ]
    assert accepted("status") == [
        (before, "unknown", {"unknown": 8}),
        (HOUR, "failed", {"failed": 4}),
        (HOUR, "sent", {"sent": 3}),
    ]


def test_those_of_some_projects_only(alice: Project, stranger: Project) -> None:
    HourlyCountFactory(project=alice, hour=HOUR, count=1)
    HourlyCountFactory(project=stranger, hour=HOUR, count=2)
    assert accepted(project_ids=[alice.pk]) == [(HOUR, "email", {"sent": 1})]
    assert accepted(project_ids=[]) == []


def test_there_is_no_other_division() -> None:
    with pytest.raises(ValueError, match="channel, status, category"):
        accepted("project_id")


def test_a_lane_names_the_codes_that_failed_most() -> None:
    for code, calls in (("550", 4), ("421", 3), ("", 2), ("554", 1)):
        CallCountFactory(outcome="temporary", code=code, calls=calls)
    CallCountFactory(calls=90)
    # This module may have been read long before its tests run.
    now = timezone.now()
    CallCountFactory(calls=500, began_at=now - timedelta(minutes=61))
    CallCountFactory(lane="sms.high", outcome="", code="", calls=5)
    found = figures.lanes(now)
    assert set(found) == {"email.normal", "sms.high"}
    mails = found["email.normal"]
    assert (mails.calls, mails.failed) == (100, 10)
    assert mails.codes == [("550", 4), ("421", 3), ("temporary", 2)]
    assert found["sms.high"].codes == [("no_answer", 5)]


def test_the_pace_is_of_the_last_five_minutes_that_are_surely_counted() -> None:
    minute = NOW.replace(second=0, microsecond=0)
    now = minute + timedelta(seconds=30)
    # A call is counted when it is surely over, two minutes after, by a task of every minute.
    for minutes, calls in ((1, 1000), (2, 1000), (3, 1000), (4, 10), (8, 20), (9, 1000)):
        CallCountFactory(began_at=minute - timedelta(minutes=minutes), calls=calls)
    CallCountFactory(outcome="permanent", code="550", began_at=minute - timedelta(minutes=5))
    assert figures.lanes(now)["email.normal"].per_minute == 30 / 5


def test_a_providers_hours_say_how_many_and_how_long() -> None:
    before = HOUR - timedelta(hours=1)
    CallCountFactory(span="hour", began_at=before, bucket=7, calls=50)
    CallCountFactory(span="hour", began_at=before, bucket=8, calls=45)
    CallCountFactory(
        span="hour", began_at=before, bucket=10, calls=5, outcome="temporary", lane="email.low"
    )
    CallCountFactory(span="hour", began_at=before, bucket=0, calls=3, outcome="")
    CallCountFactory(span="hour", began_at=HOUR, calls=1, outcome="", bucket=0)
    CallCountFactory(span="hour", began_at=HOUR - timedelta(hours=24), calls=1)
    first, second = figures.calls(24, NOW)["smtp"]
    assert (first.began_at, first.calls, first.accepted) == (before, 103, 95)
    assert first.p50_ms == 256
    assert first.p95_ms == 512
    assert second == figures.ProviderHour(HOUR, 1, 0, None, None)


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0: 10}, 0.5, 1.0),
        ({3: 4}, 0.5, 12.0),
        ({3: 1, 5: 1}, 0.5, 16.0),
        ({3: 1, 5: 1}, 1.0, 64.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(
    buckets: dict[int, int], share: float, expected: float | None
) -> None:
    assert figures.quantile(buckets, share) == expected


def test_the_ledger_is_not_read() -> None:
    with CaptureQueriesContext(connection) as asked:
        accepted()
        figures.lanes(NOW)
        figures.calls(24, NOW)
    assert len(asked) == 3
    tables = ("notifications_hourlycount", "notifications_callcount")
    assert all(any(f'FROM "{table}"' in query["sql"] for table in tables) for query in asked)
    assert not any("JOIN" in query["sql"] for query in asked)
