"""manage.py doctor: bad surroundings are what it is for, so it names each, and never fails itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from notifications import doctor, invariants
from notifications.doctor import backlog, brokers, database, processes
from notifications.doctor.findings import Severity, error, ok, warning, worst
from notifications.heartbeats import beat
from notifications.models import Circuit, Flow, Heartbeat, Inbox, Pace
from tests.api.relay import Relay, postgres_socket
from tests.factories import (
    BatchFactory,
    NotificationFactory,
    ReceiptFactory,
    RecipientFactory,
    arrived,
)
from tests.providers.contract import configure
from tests.providers.vendors import FakeMailgun, FakeSmtp, FakeTwilio

pytestmark = pytest.mark.django_db


@pytest.fixture
def _all_alive(db: None) -> None:
    beat("worker one", "worker", "high,normal")
    beat("worker two", "worker", "low")
    beat("beat", "scheduler")


def examine(*args: str) -> tuple[int, str]:
    """Exit code, and what it printed."""
    out = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("doctor", *args, stdout=out, stderr=StringIO(), no_color=True)
    return int(end.value.code or 0), out.getvalue()


def found() -> dict[str, dict[str, str]]:
    """What is not ok, by its code; each with advice."""
    document = json.loads(examine("--json")[1])
    bad = {each["code"]: each for each in document["findings"] if each["severity"] != "ok"}
    for finding in bad.values():
        assert finding["sentence"].endswith(".")
        assert finding["advice"], finding
    return bad


# -- The command ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_all_alive")
def test_all_is_well() -> None:
    code, out = examine()
    assert code == 0, out
    assert "0 error(s), 0 warning(s)." in out
    for part in ("database", "migrations", "workers", "scheduler", "broker", "ledger", "disk"):
        assert f"ok      {part}" in out


@pytest.mark.parametrize(("severity", "code"), [(warning, 1), (error, 2)])
def test_its_exit_code_is_that_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, severity: Any, code: int
) -> None:
    findings = [
        ok("a", "Well."),
        severity("b", "a_code", "Not well.", "Do this."),
        ok("c", "Well."),
    ]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    exit_code, out = examine()
    assert exit_code == code
    assert "Not well.  [a_code]" in out
    assert "-> Do this." in out
    assert json.loads(examine("--json")[1])["status"] == ("warning" if code == 1 else "error")


def test_of_no_findings_the_worst_is_ok() -> None:
    assert worst([]) is Severity.OK


# -- The database -----------------------------------------------------------------------------------------


def test_a_database_that_is_away_is_one_finding_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*args: Any) -> None:
        raise OperationalError('password authentication failed for user "notifyproj"')

    with monkeypatch.context() as broken:
        broken.setattr(connection, "ensure_connection", away)
        broken.setattr(connection, "close", lambda: None)
        code, out = examine()
    assert code == 2
    assert "[database_unreachable]" in out
    assert "password authentication failed" in out
    assert out.count("error") == 2  # that one, and the sum
    assert "ok      broker" in out


@pytest.mark.django_db(transaction=True)
def test_a_frozen_database_is_named_in_time() -> None:
    place = connection.settings_dict
    before = {"HOST": place["HOST"], "PORT": place["PORT"]}
    connection.close()
    with Relay(postgres_socket(before["HOST"], before["PORT"])) as relay:
        place.update(HOST="127.0.0.1", PORT=str(relay.port))
        relay.freeze()
        started = time.monotonic()
        try:
            bad = found()
        finally:
            relay.thaw()
            connection.close()
            place.update(before)
    assert "database_unreachable" in bad
    assert time.monotonic() - started < 10


def test_a_user_without_rights_is_named_with_what_is_missing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE only_a_reader")
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO only_a_reader")
        cursor.execute("GRANT INSERT, UPDATE ON notifications_notification TO only_a_reader")
        cursor.execute("SET LOCAL ROLE only_a_reader")
    finding = found()["rights_missing"]
    assert finding["severity"] == "error"
    assert finding["detail"].startswith("only_a_reader lacks")
    [detail] = [each.detail for each in database.rights()]
    assert "on notifications_notification" not in detail.replace("DELETE on notifications_", "")


def test_a_user_who_may_not_even_read_gets_findings_and_no_traceback() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE nobody_at_all")
        cursor.execute("SET LOCAL ROLE nobody_at_all")
    bad = found()
    assert bad["rights_missing"]["severity"] == "error"
    assert "not_checked" not in bad  # what follows from that is not said as well


def test_tables_that_are_missing_are_unapplied_migrations() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE notifications_circuit CASCADE")
        cursor.execute("ALTER TABLE notifications_heartbeat DROP COLUMN version")
    MigrationRecorder.Migration.objects.filter(app="notifications", name__gt="0003").delete()
    bad = found()
    assert bad["migrations_unapplied"]["severity"] == "error"
    assert "notifications.0003_circuit" in bad["migrations_unapplied"]["detail"]
    assert "not_checked" not in bad


def test_an_empty_database_has_all_its_migrations_before_it() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_migrations")
    assert "migrations_unapplied" in found()


def test_a_database_of_a_newer_version_is_a_warning() -> None:
    MigrationRecorder.Migration.objects.create(
        app="notifications", name="9999_of_tomorrow", applied=timezone.now()
    )
    finding = found()["migrations_newer"]
    assert (finding["severity"], finding["detail"]) == ("warning", "notifications.9999_of_tomorrow")


@pytest.mark.parametrize("value", ["off", "local", "on"])
def test_a_commit_that_does_not_survive_a_crash_is_an_error(value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL synchronous_commit = {value}")
    assert ("commit_not_durable" in found()) == (value == "off")


def test_a_replica_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_row", lambda *args: (True, "off"))
    assert [each.code for each in database.writable()] == ["database_is_replica"]


def test_a_read_only_database_is_named() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL default_transaction_read_only = on")
    assert found()["database_read_only"]["severity"] == "error"


def test_an_old_postgresql_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_row", lambda *args: (150008,))
    assert [each.code for each in database.version()] == ["database_too_old"]


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_a_clock_that_is_wrong_by_an_hour_is_named(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    really = time.time
    monkeypatch.setattr(database.time, "time", lambda: really() + ahead)
    finding = found()["clock_skew"]
    assert "The clock of this machine is 3,600 s" in finding["sentence"]
    assert ("ahead of" in finding["sentence"]) == (ahead > 0)


@pytest.mark.parametrize(
    ("free_mb", "code"), [(100, "disk_full"), (10_000, "disk_low"), (50_000, None)]
)
def test_a_disk_that_fills_up_is_named(
    monkeypatch: pytest.MonkeyPatch, free_mb: int, code: str | None
) -> None:
    sizes = (200_000 * 1024**2, 0, free_mb * 1024**2)
    monkeypatch.setattr("shutil.disk_usage", lambda place: sizes)
    bad = found()
    assert (code in bad) if code else not {"disk_full", "disk_low"} & set(bad)


# -- Processes --------------------------------------------------------------------------------------------


def test_without_workers_and_beat_both_are_named() -> None:
    bad = found()
    assert bad["no_worker"]["severity"] == "error"
    assert bad["no_beat"]["severity"] == "warning"


@pytest.mark.usefixtures("_all_alive")
def test_a_lane_without_a_worker_is_named() -> None:
    Heartbeat.objects.filter(name="worker two").delete()
    finding = found()["queue_without_worker"]
    assert finding["severity"] == "error"
    assert "email.low, sms.low, in_app.low" in finding["sentence"]


@pytest.mark.usefixtures("_all_alive")
def test_a_stream_is_missed_where_somebody_has_an_inbox() -> None:
    assert "no_stream" not in found()
    Inbox.objects.create(recipient=RecipientFactory(), live=True)
    assert found()["no_stream"]["severity"] == "warning"
    beat("stream@here", "stream")
    assert "no_stream" not in found()


@pytest.mark.usefixtures("_all_alive")
@pytest.mark.parametrize("version", ["", "0123456789"])
def test_workers_of_two_versions_are_named(version: str) -> None:
    Heartbeat.objects.filter(name="worker two").update(version=version)
    finding = found()["versions_differ"]
    assert finding["severity"] == "warning"
    assert f"worker two: {version or 'older'}" in finding["detail"]


def test_an_older_workers_heartbeat_is_still_taken() -> None:
    """Its INSERT does not know the new columns."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_heartbeat (name, kind, queues, seen_at) "
            "VALUES ('old', 'worker', 'high,normal,low', now())"
        )
    assert [process.version for process in processes.alive()] == [""]


def test_a_heartbeat_tells_how_far_the_clock_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    really = time.time
    monkeypatch.setattr("notifications.heartbeats.time.time", lambda: really() - 3600)
    beat("worker one", "worker", "high,normal,low")
    assert Heartbeat.objects.get().clock_ahead == pytest.approx(-3600, abs=5)
    monkeypatch.undo()
    assert found()["clock_skew"]["detail"] == "worker one"


# -- Broker and Redis -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("redis://:canary-password@127.0.0.1:1/0", "broker_unreachable"),
        ("amqp://guest:canary-password@127.0.0.1:1//", "broker_unreachable"),
        ("amqp://a:b@127.0.0.1:1//;amqp://a:canary-password@127.0.0.1:1//", "broker_unreachable"),
        ("carrier-pigeon://127.0.0.1/", "broker_url_wrong"),
        ("nonsense", "broker_url_wrong"),
    ],
)
def test_a_wrong_broker_is_named_without_its_password(settings: Any, url: str, code: str) -> None:
    settings.CELERY_BROKER_URL = url
    bad = found()
    assert code in bad
    assert "counters_unreachable" not in bad
    assert "canary-password" not in str(bad)


def test_a_redis_that_is_away_leaves_the_rate_limit_off(settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    bad = found()
    assert bad["counters_unreachable"]["severity"] == "warning"
    assert "broker_unreachable" not in bad


def test_a_redis_that_throws_keys_away_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = {"maxmemory": 10**8, "maxmemory_policy": "allkeys-lru"}
    monkeypatch.setattr(redis.Redis, "info", lambda *args: memory)
    assert "allkeys-lru" in found()["redis_evicts"]["sentence"]


# -- Providers --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_all_alive")
def test_providers_are_asked_over_a_real_connection(settings: Any) -> None:
    with FakeMailgun() as mailgun, FakeTwilio() as twilio:
        configure(settings, mailgun.settings | twilio.settings)
        settings.DEFAULT_FROM_EMAIL = "Example <notifications@example.com>"
        code, out = examine()
        assert code == 0, out
        assert "mailgun takes our messages." in out
        assert "twilio takes our messages." in out
        assert (mailgun.connections, twilio.connections) == (1, 1)
        assert (mailgun.accepted, twilio.accepted) == ([], [])


def test_a_provider_that_refuses_us_is_an_error_in_its_words(settings: Any) -> None:
    with FakeTwilio() as twilio:
        configure(settings, twilio.settings | {"TWILIO_AUTH_TOKEN": "canary-token"})
        finding = found()["provider_refuses"]
    assert (finding["component"], finding["severity"]) == ("provider.sms", "error")
    assert "Authenticate" in finding["detail"]
    assert "canary-token" not in str(finding)


def test_a_provider_that_is_down_is_an_error(settings: Any) -> None:
    with FakeSmtp() as smtp:
        configure(settings, smtp.settings)
    assert "connection_failed" in found()["provider_unreachable"]["detail"]


def test_a_channel_without_a_provider_is_a_warning(settings: Any) -> None:
    settings.SANDBOX = False
    assert found()["no_provider"]["severity"] == "warning"


def test_what_system_checks_find_is_named_with_their_hint(settings: Any) -> None:
    settings.MAILGUN_API_KEY = "key-example"
    finding = found()["notifications.E001"]
    assert (finding["component"], finding["severity"]) == ("configuration", "error")


# -- What waits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "severity"), [(40, "warning"), (310, "error")])
def test_a_lane_that_is_overdue_is_named(settings: Any, seconds: int, severity: str) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    NotificationFactory(due_at=timezone.now() - timedelta(seconds=seconds))
    bad = found()
    assert bad["lane_overdue"]["severity"] == severity
    assert ("overdue" in bad) == (severity == "error")  # the invariant, with ids


def test_a_lane_whose_provider_was_taken_away_is_named() -> None:
    NotificationFactory(due_at=timezone.now() - timedelta(seconds=40))
    assert "email.normal" in found()["lane_without_provider"]["sentence"]


def test_an_open_circuit_is_named_with_the_vendors_words() -> None:
    for provider, cause in (("smtp", "refused"), ("twilio", "unreachable")):
        Circuit.objects.create(
            provider=provider,
            opened_at=timezone.now(),
            open_until=timezone.now() + timedelta(minutes=1),
            cause=cause,
            detail="535 go away",
        )
    findings = list(backlog.circuits())
    assert [each.severity for each in findings] == [Severity.ERROR, Severity.WARNING]
    assert "535 go away" in findings[0].detail


def test_a_provider_that_said_we_are_too_fast_is_named_with_what_it_gets_now() -> None:
    Pace.objects.create(provider="smtp", lowered_to=4, lowered_at=timezone.now())
    told = found()["provider_throttled"]
    assert told["severity"] == "warning"
    assert "smtp" in told["sentence"]
    assert "4.0 calls a second" in told["sentence"]


def test_a_provider_that_has_recovered_is_not_named() -> None:
    earlier = timezone.now() - timedelta(minutes=5)
    Pace.objects.create(provider="smtp", lowered_to=4, lowered_at=earlier)
    assert "provider_throttled" not in found()


@pytest.mark.parametrize("of", ["the flow", "the provider", "nobody"])
def test_what_waits_for_its_slot_is_not_overdue(settings: Any, of: str) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    flow = NotificationFactory(due_at=timezone.now() - timedelta(minutes=20)).flow
    rate = 0.1 if of == "the flow" else None
    Flow.objects.filter(id=flow.id).update(rate=rate, next_slot_at=timezone.now())
    if of == "the provider":
        Pace.objects.create(provider="smtp", next_slot_at=timezone.now())
    assert ({"lane_overdue", "overdue"} <= found().keys()) == (of == "nobody")


def test_a_flow_whose_slots_nobody_takes_is_overdue(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    flow = NotificationFactory(due_at=timezone.now() - timedelta(minutes=20)).flow
    earlier = timezone.now() - timedelta(minutes=10)
    Flow.objects.filter(id=flow.id).update(rate=5, next_slot_at=earlier)
    assert "lane_overdue" in found()


def test_a_paused_flow_is_named() -> None:
    Flow.objects.filter(id=NotificationFactory().flow_id).update(paused=True)
    assert "email.normal" in found()["flow_paused"]["detail"]


def test_a_paused_batch_is_named_with_its_reason_and_is_no_paused_flow() -> None:
    BatchFactory(name="Spring", status="paused", reason="Most of it failed.")
    BatchFactory(name="Summer", status="ready")
    assert "flow_paused" not in found()
    assert found()["batch_paused"]["sentence"].startswith("1 batch(es)")
    assert found()["batch_paused"]["detail"] == "Spring: Most of it failed."


def test_what_is_held_for_an_operator_is_counted() -> None:
    NotificationFactory(status="unknown")
    NotificationFactory(status="unknown", settled_by_hand=True)
    NotificationFactory(status="unknown", review_at=timezone.now())
    NotificationFactory(status="unknown", erased_at=timezone.now(), address="", message="")
    assert found()["unknown_held"]["sentence"].startswith("1 notification(s)")


def test_receipts_that_nobody_applies_are_counted() -> None:
    ReceiptFactory(due_at=timezone.now() - timedelta(minutes=5))
    ReceiptFactory(due_at=timezone.now() + timedelta(minutes=5))
    assert found()["receipts_waiting"]["sentence"].startswith("1 receipt")


def test_a_broken_ledger_is_named_by_its_invariant() -> None:
    broken = NotificationFactory(status="sent", sent_at=timezone.now())
    finding = found()["sent_without_acceptance"]
    assert (finding["severity"], finding["detail"]) == ("error", str(broken.id))


def test_an_inbox_that_counts_wrong_is_named_by_its_person() -> None:
    person = arrived(RecipientFactory()).recipient
    Inbox.objects.update(unread=7)
    finding = found()["inbox_count_wrong"]
    assert finding["sentence"].startswith("1 recipient(s): ")
    assert (finding["severity"], finding["detail"]) == ("error", str(person.pk))


def test_an_invariant_that_could_not_be_asked_in_time_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breach = invariants.Breach(invariants.INVARIANTS[0], None)
    monkeypatch.setattr(invariants, "breaches", lambda: iter([breach]))
    assert found()["not_checked"]["detail"] == "sending_without_attempt"


def test_an_examination_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Iterator[Any]:
        raise RuntimeError("a bug")
        yield

    monkeypatch.setattr(brokers, "examine", fail)
    assert found()["not_checked"]["detail"] == "RuntimeError: a bug"


# -- As its own process -----------------------------------------------------------------------------------


def run_doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "doctor", "--no-color"],
        env=os.environ | {"REDIS_URL": django_settings.REDIS_URL} | environment,
        cwd=django_settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_database_that_there_is_not_ends_with_2_and_no_traceback() -> None:
    place = connection.settings_dict
    host = quote(place["HOST"], safe="")
    url = f"postgres://{place['USER']}@{host}/there_is_none"
    run = run_doctor(DATABASE_URL=url)
    assert run.returncode == 2, run.stderr
    assert "[database_unreachable]" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "nonsense"),
        ("DATABASE_URL", "postgres://user:canary-password@127.0.0.1:port/name"),
        ("REDIS_URL", "nonsense"),
        ("REDIS_URL", "http://127.0.0.1/"),
    ],
)
def test_a_setting_that_cannot_be_read_ends_with_2_and_names_it(variable: str, value: str) -> None:
    run = run_doctor(**({"DATABASE_URL": "postgres://127.0.0.1:1/x"} | {variable: value}))
    assert run.returncode == 2, run.stderr
    assert f"Configuration error: {variable}" in run.stderr
    assert "Traceback" not in run.stderr
    assert "canary-password" not in run.stderr
