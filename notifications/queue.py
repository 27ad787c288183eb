"""The queue's statements: CLAIM (and its three special cases), BEGIN, SETTLE, GIVE BACK, CANCEL what is suppressed.

Each is one statement that commits by itself, and each is conditional on the row's `fence`, which every claim
raises: whoever holds an older fence can change nothing any more. Only the database's clock decides: `now()` in
WHERE, where it is an index condition (`clock_timestamp()` there was measured at 253 ms against 0.2), and
`clock_timestamp()` where the present moment is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db import connection

from notifications import pace, pausing, suppressions
from notifications.retry import Verdict
from notifications.storable import storable


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that is ours until its lease ends, with all that rendering needs.

    `suppressed`: why it must not go out, if so (suppressions.py). `probe`: its call is to find out whether an open
    circuit may close. Where its flow has a rate, it has a slot (pace.py): it begins in `wait` seconds, counted from
    the claim, and not after `begin_by`, by the database's clock.
    """

    id: UUID
    fence: int
    attempt_count: int
    channel: str
    address: str
    title: str
    message: str
    html: str
    from_email: str
    from_name: str
    reply_to: str
    suppressed: str = ""
    wait: float | None = None
    begin_by: datetime | None = None
    probe: bool = False

    @property
    def sender(self) -> str:
        """Whose circuit it belongs to: the project's own From address; empty for the service's."""
        return self.from_email if self.channel == "email" else ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one call: `seconds` is how long it took, from BEGIN's commit."""

    id: UUID
    fence: int
    verdict: Verdict
    seconds: float


# How each claim ends: the rows of `due` (id, slot, begin_by) are ours, with all that rendering needs (the fields of
# `Claimed`). Without a rate, slot and begin_by are NULL.
_TAKE_DUE = f"""
UPDATE notifications_notification n
SET leased_until = clock_timestamp() + make_interval(secs => %(lease)s), fence = n.fence + 1
FROM due, users_project project
WHERE n.id = due.id AND project.id = n.project_id
RETURNING n.id, n.fence, n.attempt_count, n.channel, n.address, n.title, n.message, n.html,
          project.from_email, project.from_name, project.reply_to,
          coalesce(({suppressions.stopped_by("n.address", "n.channel", "n.category")}), ''),
          extract(epoch FROM due.slot - clock_timestamp())::float8, due.begin_by
"""  # noqa: S608  (constants)

# `Claimed.sender`, in SQL. The sandbox has no circuits, whatever it stands in for.
SENDER = "CASE WHEN flow.lane LIKE 'email.%%' THEN project.from_email ELSE '' END"

# Whether the whole lane, or its provider, is paused. No row is looked at for that.
_IS_PAUSED = pausing.is_paused("%(lane)s", "%(provider)s")

# Flows of which something may be claimed: nobody has paused them, and the circuit of their provider and sender is
# closed.
_OPEN_FLOWS = f"""
    notifications_flow flow JOIN users_project project ON project.id = flow.project_id
    WHERE flow.lane = %(lane)s AND NOT flow.paused AND NOT {_IS_PAUSED} AND NOT EXISTS (
        SELECT FROM notifications_circuit circuit
        WHERE circuit.provider = %(provider)s AND circuit.sender = {SENDER}
          AND circuit.open_until IS NOT NULL
    )"""

# Of these, the ones without a rate: they need no slot.
_UNPACED_FLOWS = f"{_OPEN_FLOWS} AND flow.rate IS NULL"

# `active` counts the flows that have something due, so that each gets an equal share of the chunk: a
# project with a million due rows delays another's single one by at most a chunk. A row that a worker once
# died with (lapses > 0) is left to CLAIM_SUSPECT.
CLAIM = f"""
WITH active AS MATERIALIZED (
    SELECT flow.id FROM {_UNPACED_FLOWS} AND EXISTS (
        SELECT FROM notifications_notification
        WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
    )
    ORDER BY random() LIMIT %(limit)s
), due AS MATERIALIZED (
    SELECT share.id, NULL::timestamptz AS slot, NULL::timestamptz AS begin_by
    FROM active CROSS JOIN LATERAL (
        SELECT id FROM notifications_notification
        WHERE flow_id = active.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
          AND lapses = 0 AND (expires_at IS NULL OR expires_at > now())
        ORDER BY due_at
        LIMIT (SELECT ceil(%(limit)s::numeric / greatest(count(*), 1))::int FROM active)
        FOR UPDATE SKIP LOCKED
    ) share
    LIMIT %(limit)s
)
{_TAKE_DUE}"""  # noqa: S608  (a constant of this file)

# A flow with a rate: its lock is the right to give out its slots, and whoever does not get it passes. It conflicts with
# no foreign key, so that a batch that is being loaded can be sent. As many rows as there are free slots within the
# horizon; what nobody used before is lost, so that nothing ever goes out in a burst.
CLAIM_PACED = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS moment
), opened AS MATERIALIZED (
    SELECT flow.id, flow.rate, greatest({pace.NEXT_SLOT}, moment) AS first_slot
    FROM clock, {_OPEN_FLOWS} AND flow.rate IS NOT NULL
      AND {pace.NEXT_SLOT} <= moment + make_interval(secs => {pace.OPENS}) AND EXISTS (
        SELECT FROM notifications_notification
        WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
          AND (expires_at IS NULL OR expires_at > now())
    )
    ORDER BY flow.next_slot_at LIMIT %(limit)s
    FOR NO KEY UPDATE OF flow SKIP LOCKED
), taken AS MATERIALIZED (
    SELECT share.id, opened.id AS flow_id, share.place, opened.rate, opened.first_slot
    FROM clock, opened CROSS JOIN LATERAL (
        SELECT due_row.id, row_number() OVER () AS place FROM (
            SELECT id FROM notifications_notification
            WHERE flow_id = opened.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
              AND lapses = 0 AND (expires_at IS NULL OR expires_at > now())
            ORDER BY due_at
            LIMIT least(%(limit)s::float8, 1 + floor(opened.rate * extract(
                epoch FROM moment + make_interval(secs => {pace.HORIZON}) - opened.first_slot)))::int
            FOR UPDATE SKIP LOCKED
        ) due_row
    ) share
    LIMIT %(limit)s
), advanced AS (
    UPDATE notifications_flow flow
    SET next_slot_at = last.first_slot + {pace.interval("last.place", "last.rate")}
    FROM (SELECT DISTINCT ON (flow_id) * FROM taken ORDER BY flow_id, place DESC) last
    WHERE flow.id = last.flow_id
), slotted AS (
    SELECT id, rate, first_slot + {pace.interval("(place - 1)", "rate")} AS slot FROM taken
), due AS (
    SELECT id, slot, slot + {pace.late("rate")} AS begin_by FROM slotted
)
{_TAKE_DUE}"""  # noqa: S608  (constants)

# When the first of the lane's flows with a rate that has something due may be claimed from: in so many seconds.
NEXT_OPENING = f"""
SELECT min(extract(epoch FROM {pace.NEXT_SLOT} - moment))::float8 - {pace.OPENS}
FROM (SELECT clock_timestamp() AS moment) AS clock, {_OPEN_FLOWS} AND flow.rate IS NOT NULL AND EXISTS (
    SELECT FROM notifications_notification
    WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
      AND (expires_at IS NULL OR expires_at > now())
)
"""  # noqa: S608  (constants)

# Where one row was `found`, and its flow has a rate: it takes the next slot. Waits for whoever gives out some now.
_TAKE_ONE_SLOT = f"""
slotted AS (
    UPDATE notifications_flow flow
    SET next_slot_at = greatest({pace.NEXT_SLOT}, moment) + {pace.interval("1", "flow.rate")}
    FROM (SELECT clock_timestamp() AS moment) AS clock, found
    WHERE flow.id = found.flow_id AND flow.rate IS NOT NULL
    RETURNING flow.id AS flow_id, flow.rate, flow.next_slot_at - {pace.interval("1", "flow.rate")} AS slot
), due AS (
    SELECT found.id, slot, slot + {pace.late("rate")} AS begin_by
    FROM found LEFT JOIN slotted USING (flow_id)
)"""  # noqa: S608  (constants)

# A flow of which a single row may be claimed: its slot comes soon.
_SLOT_IS_NEAR = (
    f"(flow.rate IS NULL OR flow.next_slot_at <= now() + make_interval(secs => {pace.HORIZON}))"
)

# One at a time, and alone: if the worker dies again, this row and no innocent neighbour is to blame.
CLAIM_SUSPECT = f"""
WITH open_flows AS (SELECT flow.id FROM {_OPEN_FLOWS} AND {_SLOT_IS_NEAR}),
found AS MATERIALIZED (
    SELECT suspect.id, open_flows.id AS flow_id FROM open_flows CROSS JOIN LATERAL (
        SELECT id FROM notifications_notification
        WHERE flow_id = open_flows.id AND status = 'pending' AND leased_until IS NULL
          AND due_at <= now() AND lapses > 0 AND (expires_at IS NULL OR expires_at > now())
        ORDER BY due_at LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) suspect
    LIMIT 1
), {_TAKE_ONE_SLOT}
{_TAKE_DUE}"""  # noqa: S608  (constants of this file)

# The time of an open circuit is over: one notification finds out whether it may close. By locking the circuit
# and moving its time, one worker probes and the others wait; if it dies, its time comes again. A suppressed one asks
# no provider: it does not move the time, so that the next one finds out.
CLAIM_PROBE = f"""
WITH found AS MATERIALIZED (
    SELECT first.id, flow.id AS flow_id, circuit.id AS circuit_id,
           EXISTS ({suppressions.stopped_by("first.address", "first.channel", "first.category")}) AS suppressed
    FROM notifications_circuit circuit, notifications_flow flow
    JOIN users_project project ON project.id = flow.project_id
    CROSS JOIN LATERAL (
        SELECT id, address, channel, category FROM notifications_notification
        WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
          AND (expires_at IS NULL OR expires_at > now())
        ORDER BY due_at LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) first
    WHERE circuit.provider = %(provider)s AND circuit.open_until <= now()
      AND flow.lane = %(lane)s AND NOT flow.paused AND NOT {_IS_PAUSED} AND {_SLOT_IS_NEAR} AND circuit.sender = {SENDER}
    LIMIT 1 FOR UPDATE OF circuit SKIP LOCKED
), probing AS (
    UPDATE notifications_circuit circuit
    SET open_until = clock_timestamp() + make_interval(secs => %(probing)s)
    FROM found WHERE circuit.id = found.circuit_id AND NOT found.suppressed
), {_TAKE_ONE_SLOT}
{_TAKE_DUE}"""  # noqa: S608  (constants of this file)

# Not what was paused, or has missed its slot, since it was claimed: the slots after it are others'.
BEGIN = f"""
WITH begun AS (
    UPDATE notifications_notification n
    SET status = 'sending', provider = %(provider)s, attempt_count = n.attempt_count + 1,
        leased_until = clock_timestamp() + make_interval(secs => %(lease)s)
    FROM unnest(%(ids)s::uuid[], %(fences)s::int[], %(senders)s::text[], %(probes)s::bool[],
                %(begin_by)s::timestamptz[]) AS claimed (id, fence, sender, probe, begin_by),
         (SELECT clock_timestamp() AS moment) AS clock
    WHERE n.id = claimed.id AND n.fence = claimed.fence AND n.status = 'pending'
      AND n.leased_until > clock_timestamp()
      AND (n.expires_at IS NULL OR n.expires_at > clock_timestamp())
      AND (claimed.begin_by IS NULL OR claimed.begin_by >= clock.moment)
      AND NOT EXISTS (
          SELECT FROM notifications_flow flow
          WHERE flow.id = n.flow_id AND (flow.paused OR {pausing.is_paused("flow.lane", "%(provider)s")})
      )
      AND (claimed.probe OR NOT EXISTS (
          SELECT FROM notifications_circuit circuit
          WHERE circuit.provider = %(provider)s AND circuit.sender = claimed.sender
            AND circuit.open_until IS NOT NULL
      ))
    RETURNING n.id, n.fence, clock.moment
)
INSERT INTO notifications_attempt
    (notification_id, fence, provider, started_at, code, detail, provider_message_id)
SELECT id, fence, %(provider)s, moment, '', '', '' FROM begun
RETURNING notification_id
"""  # noqa: S608  (a constant of pausing.py)

# The rows are locked first, in one order for all, so that it cannot deadlock with forgetting a person. What became
# of that meanwhile counts: an erased one gets no vendor's words, which may hold the address; one that an operator
# has resent is not tried again.
#
# Joined through the attempt, whose outcome is written once: a SETTLE that is repeated because its answer was
# lost on the way changes nothing the second time. A late answer still counts (`unknown`, or `pending` again but
# not yet claimed); nothing is ever written over cancelled, failed or expired: the attempt alone then records it.
SETTLE = """
WITH settled AS (
    SELECT * FROM unnest(
        %(ids)s::uuid[], %(fences)s::int[], %(statuses)s::text[], %(outcomes)s::text[],
        %(codes)s::text[], %(details)s::text[], %(message_ids)s::text[], %(kinds)s::text[],
        %(waits)s::float8[], %(spent)s::bool[], %(seconds)s::float8[]
    ) AS s (id, fence, status, outcome, code, detail, message_id, kind, wait, spent, seconds)
), locked AS MATERIALIZED (
    SELECT n.id, n.erased_at IS NOT NULL AS erased, n.settled_by_hand OR EXISTS (
        SELECT FROM notifications_notification newer WHERE newer.resend_of_id = n.id
    ) AS resent
    FROM notifications_notification n JOIN settled ON settled.id = n.id
    ORDER BY n.id FOR UPDATE OF n
), judged AS (
    SELECT settled.id, fence, outcome, code, message_id, wait, spent, seconds, resent,
           CASE WHEN erased THEN '' ELSE detail END AS detail,
           CASE WHEN resent AND status = 'pending' THEN 'failed' ELSE status END AS status,
           CASE WHEN resent AND status = 'pending' THEN 'temporary' ELSE kind END AS kind
    FROM settled JOIN locked ON locked.id = settled.id
), answered AS (
    UPDATE notifications_attempt a
    SET outcome = s.outcome, code = s.code, detail = s.detail, provider_message_id = s.message_id,
        finished_at = a.started_at + make_interval(secs => s.seconds)
    FROM judged s
    WHERE a.notification_id = s.id AND a.fence = s.fence AND a.outcome IS NULL
    RETURNING a.notification_id
)
UPDATE notifications_notification n
SET status = s.status, leased_until = NULL, lapses = 0,
    provider_message_id = CASE WHEN s.message_id <> '' THEN s.message_id ELSE n.provider_message_id END,
    failure_kind = s.kind,
    failure_code = CASE WHEN s.kind <> '' THEN s.code ELSE '' END,
    failure_detail = CASE WHEN s.kind <> '' THEN s.detail ELSE '' END,
    attempt_count = n.attempt_count - CASE WHEN s.spent THEN 0 ELSE 1 END,
    due_at = CASE WHEN s.wait IS NULL THEN n.due_at
                  ELSE moment + make_interval(secs => s.wait) END,
    sent_at = CASE WHEN s.outcome = 'accepted' THEN moment ELSE n.sent_at END,
    delivered_at = CASE WHEN s.status = 'delivered' THEN moment ELSE n.delivered_at END,
    review_at = CASE WHEN s.status = 'unknown' AND NOT s.resent
                     THEN moment + make_interval(secs => %(review_after)s) END
FROM judged s JOIN answered ON answered.notification_id = s.id,
     (SELECT clock_timestamp() AS moment) AS clock
WHERE n.id = s.id AND n.fence = s.fence
  AND (n.status IN ('sending', 'unknown') OR (n.status = 'pending' AND n.leased_until IS NULL))
"""

GIVE_BACK = """
UPDATE notifications_notification n SET leased_until = NULL
FROM unnest(%(ids)s::uuid[], %(fences)s::int[]) AS claimed (id, fence)
WHERE n.id = claimed.id AND n.fence = claimed.fence AND n.status = 'pending'
"""

# What cannot be rendered has no attempt: no provider was asked.
FAIL_UNSENT = """
UPDATE notifications_notification n
SET status = 'failed', leased_until = NULL,
    failure_kind = 'technical', failure_code = %(code)s, failure_detail = %(detail)s
WHERE n.id = %(id)s AND n.fence = %(fence)s AND n.status = 'pending'
"""


# Of what a worker has claimed and not begun.
CANCEL_SUPPRESSED = """
UPDATE notifications_notification n
SET status = 'cancelled', leased_until = NULL,
    failure_kind = 'permanent', failure_code = 'suppressed', failure_detail = claimed.reason
FROM unnest(%(ids)s::uuid[], %(fences)s::int[], %(reasons)s::text[]) AS claimed (id, fence, reason)
WHERE n.id = claimed.id AND n.fence = claimed.fence AND n.status = 'pending'
"""


def claim(lane: str, provider: str, limit: int, lease: float) -> list[Claimed]:
    """Take up to `limit` due rows of the lane for `lease` seconds, an equal share from each flow without a rate."""
    return _claim(CLAIM, lane=lane, provider=provider, limit=limit, lease=lease)


def claim_paced(lane: str, provider: str, limit: int, lease: float) -> list[Claimed]:
    """Take up to `limit` due rows of the lane's flows with a rate, as many as have slots within the horizon."""
    return _claim(CLAIM_PACED, lane=lane, provider=provider, limit=limit, lease=lease)


def next_opening(lane: str, provider: str) -> float | None:
    """In how many seconds `claim_paced` finds something (negative: since when); None where nothing of it is due."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT_OPENING, {"lane": lane, "provider": provider})
        opening: float | None = cursor.fetchone()[0]
        return opening


def claim_suspect(lane: str, provider: str, lease: float) -> list[Claimed]:
    """Take at most one row that a worker once died with."""
    return _claim(CLAIM_SUSPECT, lane=lane, provider=provider, lease=lease)


def claim_probe(lane: str, provider: str, lease: float, probing: float) -> list[Claimed]:
    """Take at most one row that is to try an open circuit; no other will for `probing` seconds."""
    rows = _claim(CLAIM_PROBE, lane=lane, provider=provider, lease=lease, probing=probing)
    return [replace(row, probe=True) for row in rows]


def _claim(statement: str, **parameters: Any) -> list[Claimed]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return [Claimed(*row) for row in cursor.fetchall()]


def begin(rows: Sequence[Claimed], provider: str, lease: float) -> set[UUID]:
    """Record, before a byte leaves, that these are being sent. Returns the ids that may be."""
    rows = sorted(rows, key=attrgetter("id"))
    parameters = {
        "senders": [row.sender for row in rows],
        "probes": [row.probe for row in rows],
        "begin_by": [row.begin_by for row in rows],
        "provider": provider,
        "lease": lease,
    }
    with connection.cursor() as cursor:
        cursor.execute(BEGIN, _names(rows) | parameters)
        return {row[0] for row in cursor.fetchall()}


def settle(settlements: Sequence[Settlement], review_after: float) -> None:
    """Record what became of the calls. May be repeated; only the first time has an effect."""
    settlements = sorted(settlements, key=attrgetter("id"))
    verdicts = [settlement.verdict for settlement in settlements]
    with connection.cursor() as cursor:
        cursor.execute(
            SETTLE,
            _names(settlements)
            | {
                "statuses": [verdict.status for verdict in verdicts],
                "outcomes": [verdict.outcome for verdict in verdicts],
                "codes": [storable(verdict.code)[:100] for verdict in verdicts],
                "details": [storable(verdict.detail)[:2000] for verdict in verdicts],
                "message_ids": [
                    storable(verdict.provider_message_id)[:255] for verdict in verdicts
                ],
                "kinds": [verdict.failure_kind for verdict in verdicts],
                "waits": [verdict.wait for verdict in verdicts],
                "spent": [verdict.spent for verdict in verdicts],
                "seconds": [settlement.seconds for settlement in settlements],
                "review_after": review_after,
            },
        )


def give_back(rows: Sequence[Claimed]) -> None:
    """Free rows that were claimed and will not be begun now."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(GIVE_BACK, _names(rows))


def cancel_suppressed(rows: Sequence[Claimed]) -> None:
    """Cancel those claimed rows whose address must not be written to. No provider was asked."""
    rows = sorted(rows, key=attrgetter("id"))
    with connection.cursor() as cursor:
        reasons = {"reasons": [row.suppressed for row in rows]}
        cursor.execute(CANCEL_SUPPRESSED, _names(rows) | reasons)


def fail_unsent(row: Claimed, code: str, detail: str) -> None:
    """Fail a claimed row for which no provider was asked."""
    with connection.cursor() as cursor:
        parameters: dict[str, Any] = {
            "id": row.id,
            "fence": row.fence,
            "code": code,
            "detail": storable(detail)[:2000],
        }
        cursor.execute(FAIL_UNSENT, parameters)


def _names(rows: Iterable[Claimed | Settlement]) -> dict[str, Any]:
    rows = sorted(rows, key=attrgetter("id"))
    return {"ids": [row.id for row in rows], "fences": [row.fence for row in rows]}
