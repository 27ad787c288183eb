"""A real PgBouncer in transaction mode before PostgreSQL: each transaction may be in another session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import close_old_connections, connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import delivery, housekeeping, waking
from notifications.models import Notification
from notifications.sweeping import Swept, sweep
from notifyproj.postgres.base import Rest
from tests.api.parallel import at_once
from tests.api.problems import problem_of
from tests.factories import NotificationFactory, UserFactory
from tests.providers.vendors import FakeSmtp
from tests.test_pipeline import use

# Debian has it where an ordinary user's PATH does not look.
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed (Debian: pgbouncer)"),
]

#: What PgBouncer follows for each client, and sets again in whatever session the client is given.
FOLLOWED = {
    *("TimeZone", "client_encoding", "DateStyle", "standard_conforming_strings"),
    "application_name",
}
URL = "/api/v1/notifications"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class PgBouncer:
    """A PgBouncer of our own, set as docs/operations.md says; it lets everybody in."""

    def __init__(self, directory: Path, database: dict[str, Any], pool_size: int) -> None:
        self.port = free_port()
        target = {"host": database["HOST"], "port": database["PORT"] or 5432}
        target |= {"user": database["USER"], "password": database["PASSWORD"]}
        words = " ".join(f"{key}='{value}'" for key, value in target.items() if value)
        self._ini = directory / "pgbouncer.ini"
        self._ini.write_text(
            f"[databases]\n* = {words}\n"
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_type = any\nunix_socket_dir =\n"
            f"listen_port = {self.port}\npool_mode = transaction\ndefault_pool_size = {pool_size}\n"
            + ("user = nobody\n" if os.geteuid() == 0 else "")
        )
        self.start()

    def start(self) -> None:
        assert PROGRAM
        self._process = subprocess.Popen([PROGRAM, "--quiet", str(self._ini)])

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self) -> psycopg.Connection[Any]:
        """Another client, which opens a transaction with its first statement."""
        name = connection.settings_dict["NAME"]
        return psycopg.connect(host="127.0.0.1", port=self.port, dbname=name, user="anyone")

    @contextmanager
    def one_session_taken(self) -> Iterator[psycopg.Connection[Any]]:
        """Another client keeps one session, as long as its transaction is open."""
        with self.connect() as other:
            other.execute("SELECT 1")
            yield other

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def behind_pgbouncer(
    transactional_db: None, tmp_path: Path, wait_until: Callable[..., None]
) -> Iterator[Callable[[int], PgBouncer]]:
    """Puts a PgBouncer with so many sessions between us and PostgreSQL."""
    place = connection.settings_dict
    before = {"HOST": place["HOST"], "PORT": place["PORT"]}
    started: list[PgBouncer] = []

    def start(pool_size: int) -> PgBouncer:
        bouncer = PgBouncer(tmp_path, place, pool_size)
        started.append(bouncer)
        wait_until(bouncer.answers)
        connection.close()
        place.update(HOST="127.0.0.1", PORT=str(bouncer.port))
        return bouncer

    yield start
    connection.close()
    place.update(before)
    for bouncer in started:
        bouncer.kill()


def post(client: APIClient, **changes: Any) -> Any:
    close_old_connections()  # as a server does at the start of each request
    body = {"user_id": "ann", "channel": "in_app", "message": "Hello"}
    key = changes.pop("key", "")
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
    return client.post(URL, body | changes, format="json", **headers)


def use_everything(client: APIClient) -> None:
    """Each thing that speaks to the database, once."""
    console = Client()
    console.force_login(UserFactory(is_superuser=True))
    posted = post(client, key="k1")
    assert posted.status_code == post(client, key="k1").status_code == 201
    delivery.drain("in_app.normal")
    later = timezone.now() + timedelta(hours=1)
    scheduled = post(client, scheduled_for=later.isoformat())
    cancelled = client.patch(
        f"{scheduled['Location']}/status", {"status": "cancelled"}, format="json"
    )
    assert cancelled.status_code == 200
    for page in (URL, "/users/ann/notifications", "/api/v1/health", posted["Location"]):
        assert client.get(page).status_code == 200
    for page in ("/admin/", "/admin/notifications/notification/"):
        assert console.get(page).status_code == 200
    sweep()
    housekeeping.prune()
    statuses = Notification.objects.order_by("created_at").values_list("status", flat=True)
    assert list(statuses) == ["delivered", "cancelled"]


def test_one_session_is_enough_for_everything_and_nothing_stays_in_it(
    client_of_alice: APIClient, behind_pgbouncer: Callable[[int], PgBouncer]
) -> None:
    bouncer = behind_pgbouncer(1)
    use_everything(client_of_alice)
    with bouncer.one_session_taken() as other:
        changed = other.execute("SELECT name FROM pg_settings WHERE source = 'session'").fetchall()
        assert {name for (name,) in changed} <= FOLLOWED
        for what in (
            "pg_prepared_statements",
            "pg_cursors WHERE name <> ''",
            # Of this database: those of the tests beside this one are in the same view.
            "pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
            "WHERE locktype = 'advisory' AND datname = current_database()",
            "pg_listening_channels()",
            "pg_class WHERE relpersistence = 't'",
        ):
            assert other.execute(f"SELECT count(*) FROM {what}").fetchone() == (0,), what


def session_and_zone() -> tuple[int, str]:
    """Of one transaction of ours."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), current_setting('TimeZone')")
        return cursor.fetchone()


def test_the_next_transaction_of_a_connection_may_be_in_another_session(
    behind_pgbouncer: Callable[[int], PgBouncer],
) -> None:
    """What the other tests rest on; and in each session the time zone is ours."""
    bouncer = behind_pgbouncer(2)
    first, zone = session_and_zone()
    with bouncer.one_session_taken():
        second, zone_there = session_and_zone()
    assert first != second
    assert zone == zone_there == "UTC"


def test_parallel_requests_with_one_key_make_one_notification(
    client_of_alice: APIClient, behind_pgbouncer: Callable[[int], PgBouncer]
) -> None:
    behind_pgbouncer(3)
    answers = at_once(60, lambda number: post(client_of_alice, key=f"k{number // 20}"))
    assert set(Counter(answer.status_code for answer in answers)) <= {201, 409}
    assert {problem_of(answer, 409)["code"] for answer in answers if answer.status_code == 409} <= {
        "idempotency_key_in_use"
    }
    assert Notification.objects.count() == 3
    assert post(client_of_alice, key="k0")["Idempotent-Replayed"] == "true"


def test_each_sweep_is_let_in_whatever_session_the_one_before_had(
    behind_pgbouncer: Callable[[int], PgBouncer],
) -> None:
    bouncer = behind_pgbouncer(2)
    ago = timezone.now() - timedelta(minutes=1)
    lapsed = {"status": "sending", "provider": "smtp", "leased_until": ago, "fence": 1}
    NotificationFactory(**lapsed)
    assert sweep() == Swept(lapsed=1)
    with bouncer.one_session_taken():
        NotificationFactory(**lapsed)
        assert sweep() == Swept(lapsed=1)


@pytest.mark.parametrize("sessions", [1, 3])
def test_workers_share_the_work_and_send_each_mail_once(
    client_of_alice: APIClient,
    behind_pgbouncer: Callable[[int], PgBouncer],
    start_worker: Callable[..., Any],
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
    sessions: int,
) -> None:
    monkeypatch.setattr("notifications.intake.wake", waking.wake)
    with FakeSmtp() as vendor:
        use(settings, vendor)
        behind_pgbouncer(sessions)
        for _ in range(2):
            start_worker(EMAIL_URL=vendor.url)
        mail = {"channel": "email", "recipient": "ada@example.com"}
        posted = [post(client_of_alice, **mail).json()["id"] for _ in range(50)]
        wait_until(lambda: Notification.objects.filter(status="sent").count() == 50, seconds=30)
    arrived = [mail.parsed["X-Notification-Id"] for mail in vendor.accepted]
    assert sorted(arrived) == sorted(posted)


def test_no_free_session_is_a_503_within_five_seconds(
    client_of_alice: APIClient, behind_pgbouncer: Callable[[int], PgBouncer], settings: Any
) -> None:
    settings.DATABASE_DEADLINE = 4.0
    bouncer = behind_pgbouncer(1)
    assert post(client_of_alice).status_code == 201
    with bouncer.one_session_taken():
        started = time.monotonic()
        assert problem_of(post(client_of_alice), 503)["code"] == "unavailable"
        assert time.monotonic() - started < 5
    time.sleep(Rest.SECONDS + 0.1)
    assert post(client_of_alice).status_code == 201


def test_a_pgbouncer_that_was_killed_and_started_again_costs_nothing_but_503s(
    client_of_alice: APIClient,
    behind_pgbouncer: Callable[[int], PgBouncer],
    wait_until: Callable[..., None],
) -> None:
    bouncer = behind_pgbouncer(2)
    assert post(client_of_alice).status_code == 201
    bouncer.kill()
    assert problem_of(post(client_of_alice), 503)["code"] == "unavailable"
    bouncer.start()
    wait_until(bouncer.answers)
    assert post(client_of_alice).status_code == 201
    assert Notification.objects.count() == 2
