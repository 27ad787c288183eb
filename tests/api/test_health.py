"""GET /health, /livez and /readyz."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from notifications.heartbeats import beat
from notifications.models import Circuit, Heartbeat
from tests.factories import NotificationFactory

pytestmark = pytest.mark.django_db

EVERY_COMPONENT = {
    "database",
    "migrations",
    "clocks",
    "disk",
    "broker",
    "counters",
    "workers",
    "versions",
    "scheduler",
    "circuits",
    "pauses",
    "provider.email",
    "provider.sms",
    "provider.in_app",
}


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notifications.health.ANSWER_REMEMBERED", 0.0)


def health(client: Client, expect: int = 200) -> dict[str, Any]:
    response = client.get("/api/v1/health")
    assert response.status_code == expect, response.content
    assert response["Cache-Control"] == "no-store"
    document: dict[str, Any] = response.json()
    return document


@pytest.fixture
def _all_alive() -> None:
    beat("worker one", "worker", "high,normal")
    beat("worker two", "worker", "low")
    beat("beat", "scheduler")


def overdue(seconds: float, **kwargs: Any) -> None:
    moment = timezone.now() - timedelta(seconds=seconds)
    NotificationFactory(created_at=moment, due_at=moment, **kwargs)


@pytest.mark.usefixtures("_all_alive")
@pytest.mark.parametrize("path", ["/health", "/health/", "/api/v1/health", "/api/v1/health/"])
def test_all_is_well(client: Client, path: str) -> None:
    document = client.get(path).json()
    assert set(document) == {"status", "environment", "components", "lanes"}
    assert (document["status"], document["environment"]) == ("ok", "development")
    assert set(document["components"]) == EVERY_COMPONENT
    assert {item["status"] for item in document["components"].values()} == {"ok"}
    assert all(set(item) == {"status", "detail"} for item in document["components"].values())


@pytest.mark.usefixtures("_all_alive")
def test_each_lane_says_what_waits_and_for_how_long(client: Client) -> None:
    overdue(20.5, channel="email", priority="high")
    overdue(5.5, channel="email", priority="high")
    overdue(-60, channel="sms", priority="low")
    lanes = health(client)["lanes"]
    assert lanes["email.high"] == {"waiting": 2, "overdue_seconds": 20}
    assert lanes["sms.low"] == {"waiting": 0, "overdue_seconds": 0}


@pytest.mark.usefixtures("_all_alive")
def test_a_lane_that_is_overdue_for_long_is_degraded(client: Client) -> None:
    overdue(40)
    assert health(client)["status"] == "degraded"


def test_many_who_ask_at_once_cost_the_database_one_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.health.ANSWER_REMEMBERED", 60.0)
    first = health(client)
    with CaptureQueriesContext(connection) as captured:
        assert health(client) == first
    assert len(captured) == 0


def test_it_is_down_when_nothing_goes_out(client: Client) -> None:
    overdue(400)
    assert health(client, expect=503)["status"] == "down"


def test_without_workers_and_with_nothing_to_do_it_is_degraded(client: Client) -> None:
    document = health(client)
    assert document["status"] == "degraded"
    assert document["components"]["workers"]["status"] == "down"
    assert document["components"]["scheduler"]["status"] == "degraded"


@pytest.mark.usefixtures("_all_alive")
def test_a_queue_that_no_worker_serves_is_named(client: Client) -> None:
    Heartbeat.objects.filter(name="worker two").delete()
    workers = health(client)["components"]["workers"]
    assert workers["status"] == "down"
    assert "the queue low" in workers["detail"]
    assert "email.low" in workers["detail"]


@pytest.mark.usefixtures("_all_alive")
@pytest.mark.parametrize(
    ("kind", "silent", "component"), [("worker", 21, "workers"), ("scheduler", 91, "scheduler")]
)
def test_who_is_silent_counts_as_gone(
    client: Client, kind: str, silent: float, component: str
) -> None:
    Heartbeat.objects.filter(kind=kind).update(seen_at=timezone.now() - timedelta(seconds=silent))
    assert health(client)["components"][component]["status"] != "ok"


@pytest.mark.usefixtures("_all_alive")
def test_a_channel_without_a_vendor_is_degraded_where_the_sandbox_does_not_carry_it(
    client: Client, settings: Settings
) -> None:
    settings.SANDBOX = False
    document = health(client)
    assert document["status"] == "degraded"
    assert document["components"]["provider.email"]["status"] == "degraded"
    assert document["components"]["provider.in_app"] == {"status": "ok", "detail": "inbox."}


def test_it_tells_no_secret_and_asks_for_no_key(client: Client, settings: Settings) -> None:
    settings.TWILIO_ACCOUNT_SID = settings.TWILIO_AUTH_TOKEN = "canary-secret"
    settings.TWILIO_FROM = "+15005550006"
    text = str(health(client))
    assert "canary-secret" not in text
    assert str(settings.REDIS_URL) not in text


def test_a_bad_key_does_not_matter(client: Client) -> None:
    assert client.get("/health", HTTP_AUTHORIZATION="Bearer no").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_balancer_gets_one_word(client: Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert response["Content-Type"] == "text/plain"


def test_livez_asks_no_database(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        client.get("/livez")


# --- Bad surroundings ------------------------------------------------------------------------------------


def component(client: Client, name: str) -> dict[str, str]:
    found: dict[str, str] = health(client)["components"][name]
    return found


def test_workers_of_another_version_are_named(client: Client) -> None:
    beat("worker one", "worker", "high,normal,low")
    Heartbeat.objects.update(version="of-before")
    assert component(client, "versions") == {
        "status": "degraded",
        "detail": "1 of 1 processes run another version of the code than this one.",
    }


def test_a_worker_whose_clock_is_wrong_by_an_hour_is_named(client: Client) -> None:
    beat("worker one", "worker", "high,normal,low")
    Heartbeat.objects.update(clock_ahead=-3600)
    assert component(client, "clocks") == {
        "status": "degraded",
        "detail": "The clock of a worker is 3,600 s behind the database's.",
    }


def test_unapplied_migrations_are_named(client: Client) -> None:
    MigrationRecorder.Migration.objects.filter(app="notifications", name="0003_circuit").delete()
    found = component(client, "migrations")
    assert found["status"] == "down"
    assert found["detail"].startswith("1 of this version's database migrations")


def test_a_database_user_without_rights_makes_it_down(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE stranger_to_our_tables")
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger_to_our_tables")
        cursor.execute("SET LOCAL ROLE stranger_to_our_tables")
    document = health(client, expect=503)
    assert document["components"]["database"]["status"] == "down"
    assert "may not read or change" in document["components"]["database"]["detail"]
    assert "stranger_to_our_tables" not in str(document)


def test_a_commit_that_may_be_forgotten_is_named_and_does_not_make_it_down(client: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    document = health(client)
    assert document["status"] == "degraded"
    assert document["components"]["database"]["detail"].startswith("synchronous_commit is off")


def test_a_disk_that_is_almost_full_is_named_without_saying_where(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: (10**11, 10**11 - 10**8, 10**8))
    found = component(client, "disk")
    assert found["status"] == "down"
    assert "/" not in found["detail"]


def test_an_open_circuit_is_named_without_the_vendors_words(client: Client) -> None:
    Circuit.objects.create(
        provider="smtp",
        opened_at=timezone.now(),
        open_until=timezone.now() + timedelta(minutes=1),
        cause="refused",
        code="smtp_535",
        detail="canary words",
    )
    document = health(client)
    assert document["components"]["circuits"]["status"] == "down"
    assert "smtp" in document["components"]["circuits"]["detail"]
    assert "canary" not in str(document)


@pytest.mark.parametrize("url", ["nonsense", "http://redis.example.com/", "redis://host:port/0"])
def test_a_broker_url_that_is_none_is_named(client: Client, settings: Settings, url: str) -> None:
    settings.CELERY_BROKER_URL = settings.REDIS_URL = url
    assert component(client, "broker")["status"] == "down"
    assert component(client, "counters")["status"] == "degraded"


@pytest.mark.usefixtures("_all_alive")
def test_what_an_open_circuit_holds_back_is_not_called_overdue(
    client: Client, settings: Settings
) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    overdue(400.5)
    assert health(client)["lanes"]["email.normal"]["overdue_seconds"] >= 400
    Circuit.objects.create(provider="smtp", open_until=timezone.now() + timedelta(minutes=1))
    assert health(client)["lanes"]["email.normal"] == {"waiting": 1, "overdue_seconds": 0}


@pytest.mark.usefixtures("_all_alive")
def test_what_seldom_changes_is_asked_once_for_many_requests(client: Client) -> None:
    with CaptureQueriesContext(connection) as first:
        health(client)
    with CaptureQueriesContext(connection) as second:
        health(client)
    assert len(second) < len(first) / 2
