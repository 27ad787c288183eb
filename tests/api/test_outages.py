"""PostgreSQL away: 503 and never a 201. Redis away: 201, as ever, and not slower than a second."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import kombu.pools
import pytest
from django.db import close_old_connections, connection
from pytest_django import Settings
from rest_framework.test import APIClient

from notifications import intake, waking
from notifications.models import Notification
from notifyproj.celery import app
from notifyproj.postgres.base import Rest
from tests.api.problems import problem_of
from tests.api.relay import Relay, postgres_socket
from users import throttling
from users.throttling import RateLimiter

pytestmark = pytest.mark.django_db(transaction=True)

BODY = {"user_id": "ann", "channel": "in_app", "message": "Hello"}


def post(client: APIClient) -> tuple[Any, float]:
    """The answer, and the seconds it took."""
    close_old_connections()  # as a server does at the start of each request
    started = time.monotonic()
    response = client.post("/api/v1/notifications", BODY, format="json")
    return response, time.monotonic() - started


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.fixture
def postgres(transactional_db: None, settings: Settings) -> Iterator[Relay]:
    """What stands between us and PostgreSQL; the deadline is the web process's."""
    settings.DATABASE_DEADLINE = 4.0
    place = connection.settings_dict
    before = {"HOST": place["HOST"], "PORT": place["PORT"]}
    connection.close()
    with Relay(postgres_socket(before["HOST"], before["PORT"])) as relay:
        place.update(HOST="127.0.0.1", PORT=str(relay.port))
        yield relay
        connection.close()
    place.update(before)


def unavailable(response: Any) -> None:
    assert problem_of(response, 503)["code"] == "unavailable"
    assert response["Retry-After"] == "2"


def test_a_frozen_postgresql_is_a_503_within_five_seconds(
    client_of_alice: APIClient, postgres: Relay
) -> None:
    postgres.freeze()
    response, seconds = post(client_of_alice)
    postgres.thaw()
    unavailable(response)
    assert seconds < 5
    time.sleep(Rest.SECONDS + 0.1)
    assert post(client_of_alice)[0].status_code == 201


def test_a_postgresql_that_freezes_under_an_open_connection_is_a_503_within_five_seconds(
    client_of_alice: APIClient, postgres: Relay
) -> None:
    assert post(client_of_alice)[0].status_code == 201
    postgres.freeze()
    response, seconds = post(client_of_alice)
    postgres.thaw()
    unavailable(response)
    assert seconds < 5
    time.sleep(Rest.SECONDS + 0.1)
    assert post(client_of_alice)[0].status_code == 201


def test_a_postgresql_that_is_down_is_a_503_at_once(
    client_of_alice: APIClient, postgres: Relay
) -> None:
    assert client_of_alice.get("/api/v1/notifications").status_code == 200
    postgres.__exit__()
    response, seconds = post(client_of_alice)
    unavailable(response)
    assert seconds < 1


def test_a_postgresql_that_is_down_is_seen_by_the_balancer_and_on_the_health_page(
    client: APIClient, postgres: Relay
) -> None:
    postgres.__exit__()
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    health = client.get("/api/v1/health")
    assert (health.status_code, health.json()["status"]) == (503, "down")
    assert health.json()["components"]["database"]["status"] == "down"
    assert health.json()["lanes"] == {}


def test_a_path_that_may_hold_an_address_is_not_logged_either(
    client_of_alice: APIClient, postgres: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    postgres.__exit__()
    unavailable(client_of_alice.get("/users/canary@example.com"))
    assert "canary" not in caplog.text


# --- Redis ----------------------------------------------------------------------------------------


@pytest.fixture(params=["frozen", "down"])
def _redis_away(
    request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Redis does not answer, neither as the limiter's store nor as the broker; waking is the real one."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        if request.param == "down":
            server.close()
        settings.REDIS_URL = url
        settings.RATE_LIMIT = "1000/60"
        monkeypatch.setattr(throttling, "limiter", RateLimiter())
        monkeypatch.setattr(app.conf, "broker_url", url)
        settings.CELERY_BROKER_URL = url
        monkeypatch.setattr(waking, "_waker", waking.Waker())
        monkeypatch.setattr(intake, "wake", waking.wake)
        app.pool.force_close_all()
        app._pool = None
        app.amqp._producer_pool = None
        kombu.pools.reset()
        yield
    app._pool = None
    app.amqp._producer_pool = None
    kombu.pools.reset()


@pytest.mark.usefixtures("_redis_away")
def test_without_redis_a_notification_is_accepted_within_a_second(
    client_of_alice: APIClient,
) -> None:
    for _ in range(3):
        response, seconds = post(client_of_alice)
        assert response.status_code == 201
        assert seconds < 1
    assert Notification.objects.count() == 3


@pytest.mark.usefixtures("_redis_away")
def test_without_redis_the_service_is_degraded_and_not_down(client: APIClient) -> None:
    started = time.monotonic()
    health = client.get("/api/v1/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["components"]["broker"]["status"] == "degraded"
    assert time.monotonic() - started < 1
