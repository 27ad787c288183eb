"""The sweep: every few seconds, in every worker. With the broker gone, everything still goes out.

It ends leases that ran out, expires what is too late, decides about `unknown` ones whose review time has come,
and finds lanes in which something is overdue, which the worker then drains (worker.py). Any number of sweeps at
once are harmless: an advisory lock of the transaction (not of the session, which PgBouncer would mix up) lets one
work and the others pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction

from notifications import pausing, providers, queue
from notifications.delivery import provider_of
from notifications.models import Priority
from notifications.retry import resends_from_unknown
from users.models import UnknownPolicy

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

# Of the lanes that this release knows and has a provider for. One that is paused, or whose circuit is open, is not
# overdue but held; its next probe is.
OVERDUE_LANES = f"""
SELECT DISTINCT flow.lane
FROM unnest(%(lanes)s::text[], %(providers)s::text[]) AS carried (lane, provider)
JOIN notifications_flow flow USING (lane)
JOIN users_project project ON project.id = flow.project_id
LEFT JOIN notifications_circuit circuit
    ON circuit.provider = carried.provider AND circuit.sender = {queue.SENDER}
WHERE NOT flow.paused AND NOT {pausing.is_paused("flow.lane", "carried.provider")}
  AND (circuit.open_until IS NULL OR circuit.open_until <= now()) AND EXISTS (
    SELECT FROM notifications_notification
    WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL
      AND due_at <= now() - make_interval(secs => %(overdue)s)
)
"""  # noqa: S608  (constants)


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


def overdue_lanes(lanes: Iterable[str], overdue: float = OVERDUE) -> list[str]:
    """Which of the lanes have had something due for `overdue` seconds, although nothing holds it back."""
    carried = {lane: provider.name for lane in lanes if (provider := provider_of(lane))}
    parameters: dict[str, Any] = {
        "lanes": list(carried),
        "providers": list(carried.values()),
        "overdue": overdue,
    }
    with connection.cursor() as cursor:
        cursor.execute(OVERDUE_LANES, parameters)
        return [row[0] for row in cursor.fetchall()]
