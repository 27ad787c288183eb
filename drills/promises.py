"""What must hold after every step of the model, whatever died where: the promise of docs/lifecycle.md as code.

A `Snapshot` is the ledger as the database has it; a `World` is what really happened outside of it: what the
imaginary provider took, and what callers were told. No check asks the engine for its opinion.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

#: One call: a notification's id and the fence under which it was begun.
Name = tuple[UUID, int]

#: From which status to which each actor may bring a notification. Whatever is not here never happens.
ALLOWED: dict[str, frozenset[tuple[str, str]]] = {
    "claim": frozenset(),
    "begin": frozenset({("pending", "sending")}),
    "give_back": frozenset(),
    "fail_unsent": frozenset({("pending", "failed")}),
    "settle": frozenset(
        (before, after)
        for before in ("pending", "sending", "unknown")
        for after in ("pending", "sent", "delivered", "failed", "unknown")
    ),
    "sweep": frozenset(
        {
            ("pending", "failed"),
            ("pending", "expired"),
            ("sending", "unknown"),
            ("sending", "pending"),
            ("sending", "expired"),
            ("unknown", "pending"),
        }
    ),
    "receipt": frozenset(
        {
            *(
                (before, after)
                for before in ("pending", "sending", "unknown")
                for after in ("sent", "delivered", "failed")
            ),
            *(("sent", "delivered"), ("sent", "failed"), ("delivered", "failed")),
        }
    ),
    "cancel": frozenset({("pending", "cancelled")}),
    "forget": frozenset({("pending", "cancelled")}),
    "vouch": frozenset({("unknown", "sent")}),
    "give_up": frozenset({("unknown", "failed")}),
    "observe": frozenset(),
    "retry_now": frozenset(),
    "resend": frozenset(),
    "submit": frozenset(),
}
#: Only for a provider to which the same message may be handed twice.
REPEATABLE_ONLY = frozenset({("sending", "pending"), ("sending", "expired")})
REPEATABLE = frozenset({"inbox"})
#: What may have reached a person: accepted, perhaps accepted, or never answered.
POSSIBLY_ACCEPTED = frozenset({"accepted", "ambiguous", None})
#: How far the provider's word brings a notification, and how far a status is.
REPORTED = {"unknown": 0, "sent": 1, "delivered": 2, "opened": 2, "bounced": 3}
REACHED = {"sent": 1, "delivered": 2, "failed": 3, "cancelled": 3, "expired": 3}
FINAL = frozenset({"sent", "delivered", "failed", "cancelled", "expired"})

_ROWS = """
SELECT n.id, status, fence, leased_until, due_at, expires_at, review_at, resends, lapses, attempt_count, provider,
       provider_message_id, priority, failure_kind, failure_code, sent_at, resend_of_id, erased_at, flow.paused
FROM notifications_notification n JOIN notifications_flow flow ON flow.id = n.flow_id
"""
_CALLS = """
SELECT notification_id, fence, outcome, code, provider_message_id, finished_at FROM notifications_attempt
"""
_OPEN_CIRCUITS = "SELECT provider FROM notifications_circuit WHERE open_until IS NOT NULL"


class BrokenPromiseError(AssertionError):
    """The engine did what it must never do."""


@dataclass(frozen=True)
class Row:
    """A notification as it is stored."""

    id: UUID
    status: str
    fence: int
    leased_until: datetime | None
    due_at: datetime
    expires_at: datetime | None
    review_at: datetime | None
    resends: int
    lapses: int
    attempt_count: int
    provider: str
    provider_message_id: str
    priority: str
    failure_kind: str
    failure_code: str
    sent_at: datetime | None
    resend_of_id: UUID | None
    erased_at: datetime | None
    paused: bool


@dataclass(frozen=True)
class Call:
    """An attempt as it is stored."""

    id: UUID
    fence: int
    outcome: str | None
    code: str
    provider_message_id: str
    finished_at: datetime | None


@dataclass(frozen=True)
class Snapshot:
    """All notifications and attempts, and the database's clock."""

    now: datetime
    rows: dict[UUID, Row]
    calls: dict[Name, Call]
    #: Providers that are to be left alone, but for one probe.
    open_circuits: frozenset[str]

    @property
    def unanswered(self) -> frozenset[Name]:
        return frozenset(name for name, call in self.calls.items() if call.outcome is None)

    def calls_of(self, notification_id: UUID) -> list[Call]:
        return [call for call in self.calls.values() if call.id == notification_id]


@dataclass
class World:
    """What really happened, whatever the database says."""

    #: Calls that left a worker: BEGIN had said yes.
    handed_over: list[Name] = field(default_factory=list)
    #: How often the provider took each notification.
    accepted: Counter[UUID] = field(default_factory=Counter)
    #: Calls that are to find out whether an open circuit may close.
    probes: set[Name] = field(default_factory=set)
    #: The answers that a worker has stored, the first of each call.
    answered: dict[Name, str] = field(default_factory=dict)
    #: `resends` of the notification when each call began.
    resends_at: dict[Name, int] = field(default_factory=dict)
    #: What callers were told is stored, and what they were told is cancelled.
    stored: set[UUID] = field(default_factory=set)
    cancelled: set[UUID] = field(default_factory=set)
    #: Of these an operator said that they arrived; nobody else needs to know it.
    vouched: set[UUID] = field(default_factory=set)
    #: What the provider has reported of each notification that it took.
    reported: defaultdict[UUID, set[str]] = field(default_factory=lambda: defaultdict(set))
    #: The project's answer to `unknown`: "resend", "hold" or empty for what the priority says.
    policy: str = ""
    #: The calls of a notification that had begun when an operator resent it.
    begun_when_resent: dict[UUID, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What was done: the actors at once, and the calls that each of them may change (None: any)."""

    actors: tuple[str, ...]
    names: tuple[frozenset[Name] | None, ...]

    def allows(self, before: str, after: str) -> bool:
        """Also one after the other, where two were at it at once."""
        pairs = [ALLOWED[actor] for actor in self.actors]
        if before == after or any((before, after) in allowed for allowed in pairs):
            return True
        return any(
            (before, between) in first and (between, after) in second
            for first in pairs
            for second in pairs
            if first is not second
            for between in {to for _, to in first}
        )


def take_snapshot() -> Snapshot:
    with connection.cursor() as cursor:

        def ask(statement: str) -> list[Any]:
            cursor.execute(statement)
            return list(cursor.fetchall())

        [[now]] = ask("SELECT clock_timestamp()")
        return Snapshot(
            now,
            {values[0]: Row(*values) for values in ask(_ROWS)},
            {values[:2]: Call(*values) for values in ask(_CALLS)},
            frozenset(provider for (provider,) in ask(_OPEN_CIRCUITS)),
        )


def check_step(step: Step, before: Snapshot, after: Snapshot, world: World) -> None:
    """Raises BrokenPromiseError where the step did what it must not."""
    for row in before.rows.values():
        _promise(row.id in after.rows, "an accepted notification is gone", row)
        _check_transition(step, row, after.rows[row.id])
        _check_fence(step, row, after.rows[row.id])
    for name, call in before.calls.items():
        _promise(name in after.calls, "an attempt is gone", call)
        unchanged = after.calls[name] == call
        _promise(unchanged or call.outcome is None, "an outcome was written twice", call)
    for row in after.rows.values():
        _check_begin(before, row, world)
        _check_row(row, after, world)
    _check_world(after, world)


def _check_transition(step: Step, before: Row, after: Row) -> None:
    change = (before.status, after.status)
    forward = step.allows(*change)
    _promise(forward, f"{step.actors} made {change[0]} {change[1]}", after)
    if change in REPEATABLE_ONLY and set(step.actors) == {"sweep"}:
        _promise(after.provider in REPEATABLE, "what may have been sent is due again", after)
    if before.status in FINAL:
        _promise(before.sent_at == after.sent_at, "an end was written a second time", after)
        _promise(after.resends == before.resends, "an end was resent in the same row", after)


def _check_fence(step: Step, before: Row, after: Row) -> None:
    claims = step.actors.count("claim")
    _promise(before.fence <= after.fence <= before.fence + claims, "the fence jumped", after)
    claimed = before.leased_until is None and after.leased_until is not None
    if claimed and after.status == "pending":
        _promise(after.fence > before.fence, "a claim did not raise the fence", after)
        _promise(not before.paused, "a paused flow was claimed", after)
    if None in step.names or before == after:
        return
    named = {name for names in step.names if names is not None for name in names}
    owned = named & {(before.id, before.fence), (after.id, after.fence)}
    _promise(owned, f"{step.actors} changed what was not theirs, or no longer", after)


def _check_begin(earlier: Snapshot, after: Row, world: World) -> None:
    """What goes out was somebody's, whose lease held, not too late, and no open circuit stood in its way."""
    before = earlier.rows.get(after.id)
    if after.status != "sending" or before is None or before.status == "sending":
        return
    held = before.leased_until is not None and before.leased_until > earlier.now
    _promise(held, "a row was begun without a lease that holds", after)
    # As it was then: forgetting a person ends the time of what is in flight, so that it is not tried again.
    too_late = before.expires_at is not None and before.expires_at <= earlier.now
    _promise(not too_late, "an expired row was begun", after)
    closed = after.provider not in earlier.open_circuits
    probe = (after.id, after.fence) in world.probes
    _promise(closed or probe, "a row was begun although the circuit is open", after)


def _check_row(row: Row, after: Snapshot, world: World) -> None:
    calls = after.calls_of(row.id)
    open_call = after.calls.get((row.id, row.fence))
    if row.status == "sending":
        _promise(open_call and open_call.outcome is None, "sending without an open attempt", row)
    _promise(row.review_at is None or row.status == "unknown", "a review of what is known", row)
    _promise(row.lapses >= 0, "fewer than no lapses", row)
    _promise(0 <= row.attempt_count <= len(calls), "attempts counted wrongly", row)
    if row.status == "failed":
        _promise(row.failure_kind and row.failure_code, "failed without a reason", row)
    if row.status in {"sent", "delivered"} and row.id not in world.vouched:
        _promise(world.accepted[row.id], "sent, but the provider never took it", row)
        answered = any(call.outcome == "accepted" for call in calls)
        _promise(answered or world.reported[row.id], "sent without a record", row)
    if row.provider not in REPEATABLE:
        _check_copies(row, calls, world)


def _check_copies(row: Row, calls: list[Call], world: World) -> None:
    """Twice only where a resend from `unknown` says so, and by policy never three times."""
    _promise(row.resends <= (world.policy != "hold"), "the policy resent it too often", row)
    _promise(world.accepted[row.id] <= 1 + row.resends, "the provider took it too often", row)
    possible = [call for call in calls if call.outcome in POSSIBLY_ACCEPTED]
    turns = Counter(world.resends_at[call.id, call.fence] for call in possible)
    twice = any(count > 1 for count in turns.values())
    _promise(not twice, "handed over again without a resend in the record", row, possible)
    if row.id in world.begun_when_resent:
        begun = len(calls)
        _promise(
            begun <= world.begun_when_resent[row.id], "tried again after an operator's resend", row
        )


def _check_world(after: Snapshot, world: World) -> None:
    _promise(world.stored <= set(after.rows), "a caller was told 201, and it is not there")
    for name in world.handed_over:
        _promise(name in after.calls, "a call that nobody recorded before it left", name)
    for name, outcome in world.answered.items():
        recorded = after.calls[name].outcome
        _promise(recorded == outcome, f"the answer {outcome} is recorded as {recorded}", name)
    for notification_id in world.cancelled:
        status = after.rows[notification_id].status
        _promise(status == "cancelled", f"told cancelled, and it is {status}", notification_id)


def check_settled(names: Iterable[Name], before: Snapshot, after: Snapshot) -> None:
    """An acceptance that is still the row's own makes it sent; an end that came first stays."""
    for name in names:
        row, call = before.rows[name[0]], after.calls.get(name)
        if call is None or call.outcome != "accepted" or before.calls[name].outcome is not None:
            continue
        ours = row.fence == name[1] and row.status in {"sending", "unknown", "pending"}
        status = after.rows[name[0]].status
        _promise(status in {"sent", "delivered"} or not ours, "an acceptance was lost", row)


def is_at_rest(after: Snapshot) -> bool:
    """Nothing more happens by itself."""
    return all(
        row.status in FINAL or (row.status == "unknown" and row.review_at is None)
        for row in after.rows.values()
    )


def check_rest(after: Snapshot, world: World) -> None:
    """With healthy workers and time, all reach an end, or an `unknown` that only an operator decides."""
    waiting = [row for row in after.rows.values() if row.status not in FINAL]
    _promise(is_at_rest(after), "never came to an end", *waiting)
    resent = {row.resend_of_id for row in after.rows.values()}
    for row in waiting:
        by_policy = world.policy == "hold" or (world.policy == "" and row.priority == "low")
        held = by_policy or row.resends or row.id in resent or row.erased_at
        late = row.expires_at is not None and row.expires_at <= after.now
        _promise(held or late, "held, although the policy says resend", row)


def check_reported(after: Snapshot, world: World) -> None:
    """What was reported is applied, in whatever order it came; or the notification had ended otherwise."""
    for notification_id, events in world.reported.items():
        row = after.rows[notification_id]
        farthest = max((REPORTED[event] for event in events), default=0)
        _promise(REACHED.get(row.status, 0) >= farthest, "a receipt was lost", row, events)


def _promise(holds: object, complaint: str, *evidence: object) -> None:
    if not holds:
        raise BrokenPromiseError(": ".join([complaint, *map(str, evidence)]))
