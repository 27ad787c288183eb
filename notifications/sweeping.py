"""The sweep: every few seconds, in every worker. With the broker gone, everything still goes out.

It ends leases that ran out, expires what is too late, decides about `unknown` ones whose review time has come,
and drains lanes in which something is overdue. Any number of sweeps at once are harmless: an advisory lock of the
transaction (not of the session, which PgBouncer would mix up) lets one work and the others pass.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import close_old_connections, connection, transaction

log = structlog.get_logger(__name__)

#: The advisory lock's number: "sweep" in ASCII.
LOCK = 0x7377656570
#: Rows one statement takes at most, so that its locks are short.
CHUNK = 5000
#: Claims a row may die with, alone, before it is poison.
LAPSES_ALONE = 3
#: Seconds overdue after which the hint is taken for lost.
OVERDUE = 2.0

# Claimed, never begun: the worker died. Free again, to be claimed alone from now on (`lapses`).
FREE_LAPSED_CLAIMS = """
WITH lapsed AS (
    SELECT id FROM notifications_notification
    WHERE leased_until < now() AND status = 'pending'
    LIMIT %(chunk)s FOR UPDATE SKIP LOCKED
)
UPDATE notifications_notification n
SET leased_until = NULL, lapses = n.lapses + 1,
    status = CASE WHEN n.lapses >= %(lapses)s THEN 'failed' ELSE 'pending' END,
    failure_kind = CASE WHEN n.lapses >= %(lapses)s THEN 'technical' ELSE '' END,
    failure_code = CASE WHEN n.lapses >= %(lapses)s THEN 'poison' ELSE '' END,
    failure_detail = CASE WHEN n.lapses >= %(lapses)s
        THEN 'A worker died with this row alone, three times.' ELSE '' END
FROM lapsed WHERE n.id = lapsed.id
"""

# Begun, never settled: perhaps sent. Harmless to repeat for some providers; for the others nobody knows yet.
LAPSE_SENDING = """
WITH lapsed AS (
    SELECT id FROM notifications_notification
    WHERE leased_until < now() AND status = 'sending'
    LIMIT %(chunk)s FOR UPDATE SKIP LOCKED
)
UPDATE notifications_notification n
SET leased_until = NULL,
    status = CASE WHEN n.provider = ANY(%(repeatable)s) THEN 'pending' ELSE 'unknown' END,
    due_at = CASE WHEN n.provider = ANY(%(repeatable)s) THEN clock_timestamp() ELSE n.due_at END,
    review_at = CASE WHEN n.provider = ANY(%(repeatable)s) THEN NULL
                     ELSE clock_timestamp() + make_interval(secs => %(review_after)s) END
FROM lapsed WHERE n.id = lapsed.id
"""

EXPIRE = """
WITH late AS (
    SELECT id FROM notifications_notification
    WHERE status = 'pending' AND expires_at <= now() AND leased_until IS NULL
    LIMIT %(chunk)s FOR UPDATE SKIP LOCKED
)
UPDATE notifications_notification n SET status = 'expired' FROM late WHERE n.id = late.id
"""

# The policy for `unknown`, as its project has it now: once more, unless it is too late; or held for an operator
# (review_at NULL), as is whatever was sent again once already.
REVIEW_UNKNOWN = """
WITH reviewed AS (
    SELECT n.id, n.resends = 0 AND (n.expires_at IS NULL OR n.expires_at > now())
        AND (project.unknown_policy, n.priority)
            IN (SELECT * FROM unnest(%(policies)s::text[], %(priorities)s::text[])) AS again
    FROM notifications_notification n JOIN users_project project ON project.id = n.project_id
    WHERE n.review_at <= now() AND n.status = 'unknown'
    LIMIT %(chunk)s FOR UPDATE OF n SKIP LOCKED
)
UPDATE notifications_notification n
SET review_at = NULL,
    status = CASE WHEN reviewed.again THEN 'pending' ELSE 'unknown' END,
    resends = n.resends + CASE WHEN reviewed.again THEN 1 ELSE 0 END,
    due_at = CASE WHEN reviewed.again THEN clock_timestamp() ELSE n.due_at END
FROM reviewed WHERE n.id = reviewed.id
"""

OVERDUE_LANES = """
SELECT DISTINCT flow.lane FROM notifications_flow flow
WHERE NOT flow.paused AND EXISTS (
    SELECT FROM notifications_notification
    WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL
      AND due_at <= now() - make_interval(secs => %(overdue)s)
)
"""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows a sweep moved."""

    freed: int = 0
    lapsed: int = 0
    expired: int = 0
    reviewed: int = 0

    @property
    def has_more(self) -> bool:
        """A statement took all that one may take, so another sweep finds the rest."""
        return max(self.freed, self.lapsed, self.expired, self.reviewed) >= CHUNK


def sweep() -> Swept:
    """Put right what no living worker will. Does nothing while another sweep is at it."""
    from notifications import providers

    policies, priorities = _resending()
    parameters = {
        "chunk": CHUNK,
        "lapses": LAPSES_ALONE,
        "repeatable": list(providers.repeatable_names()),
        "policies": policies,
        "priorities": priorities,
        "review_after": settings.UNKNOWN_REVIEW_AFTER,
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))
        if not cursor.fetchone()[0]:
            return Swept()
        swept = Swept(
            freed=_moved(cursor, FREE_LAPSED_CLAIMS, parameters),
            lapsed=_moved(cursor, LAPSE_SENDING, parameters),
            expired=_moved(cursor, EXPIRE, parameters),
            reviewed=_moved(cursor, REVIEW_UNKNOWN, parameters),
        )
    if swept != Swept():
        log.warning(
            "swept",
            freed=swept.freed,
            lapsed=swept.lapsed,
            expired=swept.expired,
            reviewed=swept.reviewed,
        )
    return swept


def _resending() -> tuple[list[str], list[str]]:
    """The pairs of a project's policy and a priority in which an `unknown` one is sent once more."""
    from notifications.models import Priority
    from notifications.retry import resends_from_unknown
    from users.models import UnknownPolicy

    pairs = [
        (policy, priority)
        for policy in UnknownPolicy.values
        for priority in Priority.values
        if resends_from_unknown(priority, policy)
    ]
    return [policy for policy, _ in pairs], [priority for _, priority in pairs]


def _moved(cursor: Any, statement: str, parameters: dict[str, Any]) -> int:
    cursor.execute(statement, parameters)
    return int(cursor.rowcount)


def overdue_lanes(overdue: float = OVERDUE) -> list[str]:
    """Lanes in which something has been due for `overdue` seconds, although nothing holds it back."""
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE_LANES, {"overdue": overdue})
        return [row[0] for row in cursor.fetchall()]


class SweepThread(threading.Thread):
    """Sweeps and drains overdue lanes until the process stops, whatever becomes of the broker."""

    def __init__(self, queues: Iterable[str]) -> None:
        super().__init__(name="sweep", daemon=True)
        self.queues = sorted(queues)
        self.worker_name = f"worker {socket.gethostname()} {os.getpid()}"

    def run(self) -> None:
        from notifications import stopping

        while not stopping.is_stopping():
            try:
                self.sweep_once()
            except Exception as error:
                # The database is away, or a bug: the next round tries again, and the log says so.
                log.warning("sweep_failed", error=f"{type(error).__name__}: {error}")
                connection.close()
            stopping.wait(settings.SWEEP_INTERVAL)
        self._say_goodbye()

    def sweep_once(self) -> None:
        from notifications import stopping
        from notifications.heartbeats import beat
        from notifications.models import queue_of

        close_old_connections()
        beat(self.worker_name, "worker", ",".join(self.queues))
        while sweep().has_more and not stopping.is_stopping():
            pass
        for lane in overdue_lanes():
            if queue_of(lane) in self.queues:
                # No daemon: a process that ends waits until what it has begun is settled.
                threading.Thread(target=_drain_overdue, args=(lane,), daemon=False).start()

    def _say_goodbye(self) -> None:
        from notifications.heartbeats import forget

        try:
            forget(self.worker_name)
        except Exception:
            log.info("goodbye_failed", worker=self.worker_name)
        connection.close()


def _drain_overdue(lane: str) -> None:
    from notifications import delivery, stopping

    try:
        delivery.drain(lane, stopping.is_stopping)
    except Exception as error:
        log.warning("overdue_drain_failed", lane=lane, error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


class SweepStep(bootsteps.StartStopStep):
    """Runs the sweep beside the worker's pool, from its start to its stop."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        SweepThread(worker.app.amqp.queues.consume_from).start()

    def stop(self, worker: Any) -> None:
        from notifications import stopping

        stopping.stop()


def add_sweep_to_worker(app: Celery) -> None:
    """Every worker of the application sweeps, and claims nothing new once it is told to stop."""
    app.steps["worker"].add(SweepStep)
    worker_shutting_down.connect(_stop_claiming)


def _stop_claiming(**kwargs: object) -> None:
    from notifications import stopping

    stopping.stop()
