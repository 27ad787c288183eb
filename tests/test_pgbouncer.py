"""Everything works through PgBouncer in transaction mode, where the next transaction may be on another connection."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.urls import reverse
from django.utils import timezone

from notifications import delivery, sweeping
from notifications.models import Attempt, Notification, Status
from tests.factories import NotificationFactory, RecipientFactory, UserFactory
from tests.pgbouncer import POOL, PgBouncer
from tests.providers.vendors import FakeSmtp
from tests.test_pipeline import post, status_of, use

pytestmark = pytest.mark.django_db(transaction=True)

BODY = {"channel": "in_app", "user_id": 4, "message": "Yo"}


@pytest.fixture
def directly() -> Iterator[psycopg.Connection[Any]]:
    """PostgreSQL itself, as an onlooker."""
    place = connection.settings_dict
    parts = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    found = {name: place[part] for name, part in parts.items() if place[part]}
    with psycopg.connect(dbname=place["NAME"], autocommit=True, **found) as onlooker:
        yield onlooker


@pytest.fixture(autouse=True)
def pgbouncer(directly: Any, tmp_path: Any) -> Iterator[PgBouncer]:
    """This process reaches its database through it, until the test has ended."""
    place = connection.settings_dict
    before = {name: place[name] for name in ("HOST", "PORT", "USER")}
    with PgBouncer(tmp_path, place) as server:
        connection.close()
        place.update(HOST="127.0.0.1", PORT=str(server.port), USER="anybody")
        yield server
        connection.close()
        place.update(before)


def at_once(times: int, act: Callable[[int], Any]) -> list[Any]:
    """What comes of it in as many threads, each with a connection of its own."""
    start = threading.Barrier(times)

    def run(number: int) -> Any:
        start.wait()
        try:
            return act(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


def connections_of_pgbouncer(directly: Any) -> int:
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    return int(directly.execute(others).fetchone()[0])


def locks_held(directly: Any) -> int:
    advisory = """
        SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE locktype = 'advisory' AND datname = current_database()
    """
    return int(directly.execute(advisory).fetchone()[0])


# --- The connection -------------------------------------------------------------------------------


def test_our_connection_prepares_no_statements():
    connection.ensure_connection()
    assert connection.connection.prepare_threshold is None


def test_two_transactions_are_on_two_connections():
    def backend() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    at_once(POOL * 2, lambda number: backend())
    assert len({backend() for _ in range(POOL * 2)}) == POOL


def test_options_in_the_connection_are_refused(pgbouncer):
    """Hence the advice to set time-outs by role."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(pgbouncer.url, options="-c lock_timeout=5s")


# --- What we do through it ------------------------------------------------------------------------


def test_more_requests_at_once_than_connections_are_all_accepted(
    alice, make_client, pgbouncer, directly
):
    def request(number: int) -> int:
        return make_client(alice).post("/api/v1/notifications", BODY, format="json").status_code

    assert at_once(POOL * 8, request) == [201] * POOL * 8
    assert Notification.objects.count() == POOL * 8
    assert connections_of_pgbouncer(directly) <= POOL


def test_one_idempotency_key_at_once_is_one_notification(alice, make_client, directly):
    def request(number: int) -> Any:
        client = make_client(alice)
        headers = {"Idempotency-Key": "order-1"}
        return client.post("/api/v1/notifications", BODY, format="json", headers=headers)

    answers = at_once(POOL * 4, request)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert Notification.objects.count() == 1
    again = request(0)
    assert again.status_code == 201
    assert again.json()["id"] == str(Notification.objects.get().id)
    assert locks_held(directly) == 0


def test_some_are_listed_and_one_is_cancelled(client_of_alice):
    ids = {post(client_of_alice, **BODY) for _ in range(6)}
    one = ids.pop()
    path = f"/api/v1/notifications/{one}/status"
    cancelled = client_of_alice.patch(path, {"status": "cancelled"}, format="json")
    assert cancelled.status_code == 200, cancelled.content
    assert status_of(one) == "cancelled"
    page = client_of_alice.get("/api/v1/notifications?status=pending&limit=3").json()
    rest = client_of_alice.get(page["next"]).json()
    assert {item["id"] for item in page["results"] + rest["results"]} == ids


def test_the_console_lists_searches_and_shows(client):
    notification = NotificationFactory(recipient=RecipientFactory(user_id="ada-lovelace"))
    client.force_login(UserFactory(is_superuser=True))
    changelist = reverse("admin:notifications_notification_changelist")
    for path in (
        changelist,
        f"{changelist}?q={notification.address}",
        reverse("admin:notifications_notification_change", args=[notification.id]),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "ada-lovelace" in answer.content.decode()


def test_drains_of_one_lane_at_once_send_each_once(directly):
    recipient = RecipientFactory()
    for _ in range(60):
        NotificationFactory(recipient=recipient, channel="in_app")
    at_once(POOL * 2, lambda number: delivery.drain("in_app.normal"))
    assert set(Notification.objects.values_list("status", flat=True)) == {"delivered"}
    assert Attempt.objects.count() == 60
    assert connections_of_pgbouncer(directly) <= POOL


def test_sweeps_at_once_expire_once_and_keep_no_lock(directly):
    NotificationFactory(expires_at=timezone.now())
    swept = at_once(POOL * 2, lambda number: sweeping.sweep())
    assert sum(each.expired for each in swept) == 1
    assert Notification.objects.get().status == Status.EXPIRED
    assert locks_held(directly) == 0


def test_a_worker_delivers(client_of_alice, settings, pgbouncer, start_worker, wait_until):
    with FakeSmtp() as vendor:
        use(settings, vendor)
        start_worker(DATABASE_URL=pgbouncer.url, EMAIL_URL=vendor.url)
        posted = [
            post(client_of_alice, channel="email", recipient=f"ada{n}@example.com", message="Yo")
            for n in range(30)
        ]
        wait_until(lambda: all(status_of(each) == "sent" for each in posted), seconds=30)
    accepted = [mail.parsed["X-Notification-Id"] for mail in vendor.accepted]
    assert sorted(accepted) == sorted(posted)
