"""/stats: what was accepted when, and what has become of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from notifications.models import CountedHour
from tests.api.problems import problem_of
from tests.api.test_schema import valid
from tests.factories import HourlyCountFactory
from users.models import Project

pytestmark = pytest.mark.django_db

URL = "/api/v1/stats"
HOUR = timezone.now().replace(minute=0, second=0, microsecond=0)
NONE = dict.fromkeys(
    ("pending", "sending", "sent", "delivered", "failed", "cancelled", "expired", "unknown"), 0
)


def at(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def results(client: APIClient, **parameters: str) -> list[dict[str, Any]]:
    response = client.get(URL, parameters)
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["results"]
    return found


def test_the_last_day_by_channel_is_told_where_nothing_is_asked_for(
    client_of_alice: APIClient, alice: Project, stranger: Project
) -> None:
    HourlyCountFactory(project=alice, hour=HOUR, status="sent", count=7)
    HourlyCountFactory(project=alice, hour=HOUR, status="sent", category="orders", count=1)
    HourlyCountFactory(project=alice, hour=HOUR, status="failed", failure_code="550", count=2)
    HourlyCountFactory(project=alice, hour=HOUR, channel="sms", status="unknown", count=3)
    HourlyCountFactory(project=alice, hour=HOUR - timedelta(hours=26), count=50)
    HourlyCountFactory(project=stranger, hour=HOUR, count=100)
    counted = CountedHour.objects.create(hour=HOUR, counted_at=HOUR + timedelta(minutes=1))
    answer = client_of_alice.get(URL).json()
    assert (answer["by"], answer["interval"]) == ("channel", "hour")
    assert answer["counted_at"] == at(counted.counted_at)
    assert answer["results"] == [
        {"at": at(HOUR), "channel": "email", "total": 10} | NONE | {"sent": 8, "failed": 2},
        {"at": at(HOUR), "channel": "sms", "total": 3} | NONE | {"unknown": 3},
    ]


@pytest.mark.parametrize(
    ("by", "keys"), [("status", ["failed", "sent"]), ("category", ["", "<b>orders</b>"])]
)
def test_it_can_be_divided_otherwise(
    client_of_alice: APIClient, alice: Project, by: str, keys: list[str]
) -> None:
    HourlyCountFactory(project=alice, hour=HOUR, status="sent", category="", count=1)
    HourlyCountFactory(project=alice, hour=HOUR, status="failed", category="<b>orders</b>", count=2)
    found = results(client_of_alice, by=by)
    assert [item[by] for item in found] == keys
    assert sum(item["sent"] for item in found) == 1
    assert sum(item["failed"] for item in found) == 2
    assert sum(item["total"] for item in found) == 3


def test_a_long_period_is_told_by_the_day(client_of_alice: APIClient, alice: Project) -> None:
    day = HOUR.replace(hour=0) - timedelta(days=3)
    for hour in (0, 5, 23):
        HourlyCountFactory(project=alice, hour=day + timedelta(hours=hour), count=2)
    period = {"from": at(day - timedelta(days=20)), "to": at(HOUR)}
    (found,) = results(client_of_alice, **period)
    assert (found["at"], found["total"]) == (at(day), 6)
    assert len(results(client_of_alice, **period, interval="hour")) == 3
    by_day = results(client_of_alice, **{"from": at(day), "to": at(HOUR)}, interval="day")
    assert [item["total"] for item in by_day] == [6]


def test_a_period_begins_with_its_hour_and_ends_before_to(
    client_of_alice: APIClient, alice: Project
) -> None:
    for hours in (1, 2, 3):
        HourlyCountFactory(project=alice, hour=HOUR - timedelta(hours=hours), count=hours)
    period = {
        "from": at(HOUR - timedelta(hours=2) + timedelta(minutes=59)),
        "to": at(HOUR - timedelta(hours=1)),
    }
    assert [item["total"] for item in results(client_of_alice, **period)] == [2]


def test_what_test_keys_sent_can_be_told_apart(client_of_alice: APIClient, alice: Project) -> None:
    HourlyCountFactory(project=alice, hour=HOUR, live=True, count=1)
    HourlyCountFactory(project=alice, hour=HOUR, live=False, count=2)
    totals = [results(client_of_alice, live=live)[0]["total"] for live in ("true", "false")]
    assert totals == [1, 2]
    assert results(client_of_alice)[0]["total"] == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("form=2030-01-01T00:00:00Z", "form"),
        ("from=yesterday", "from"),
        ("to=2030-01-01T00:00:00", "to"),
        ("from=0001-01-01T00:00:00Z&to=0001-01-01T00:00:00%2B23:00", "to"),
        ("to=0001-01-01T00:30:00Z", "from"),
        ("from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "from"),
        ("from=2030-01-01T00:00:00Z", "from"),
        ("from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
        ("from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z&interval=hour", "interval"),
        ("by=colour", "by"),
        ("by=project_id", "by"),
        ("interval=minute", "interval"),
        ("live=perhaps", "live"),
    ],
)
def test_a_wrong_parameter_is_named(client_of_alice: APIClient, query: str, field: str) -> None:
    document = problem_of(client_of_alice.get(f"{URL}?{query}"), 400)
    assert [error["field"] for error in document["errors"]] == [field]


def test_an_empty_answer_is_one_as_well(client_of_alice: APIClient) -> None:
    answer = client_of_alice.get(URL).json()
    assert (answer["results"], answer["counted_at"]) == ([], None)


def test_it_is_as_described(client_of_alice: APIClient, alice: Project) -> None:
    HourlyCountFactory(project=alice, hour=HOUR, count=1)
    answer = client_of_alice.get(URL).json()
    valid(answer, "Stats")
    described = {"at", "channel", "total", *NONE}
    assert set(answer["results"][0]) == described


def test_the_ledger_is_not_read(client_of_alice: APIClient) -> None:
    client_of_alice.get(URL)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        client_of_alice.get(URL, {"by": "category"})
    assert len(asked) <= 3
    assert not any("notifications_notification" in query["sql"] for query in asked)
