"""What must always be true of the ledger, as SQL: each statement returns the ids of notifications that break it, or of
recipients whose inbox does.

`manage.py doctor` asks all of them, and so do the drills. They are cheap beside millions of rows: those that concern
what is open go by a partial index, the others look at the notifications of the last day, and of these at the newest
200,000 at most, by their ids (ids.py); of inboxes, at those that have changed within the last day.

`parameters()` has the values that the statements name: `since` and `until` (ids), `limit`, `repeatable` (providers to
which the same message may be handed twice), `lanes` beside their `providers`, `longest_lease`, `overdue`, `unswept` and
`not_taken_in` (seconds), `changed_since` (a moment), and how many `changes` of inboxes are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from notifications import ids, providers
from notifications.models import LANES, SANDBOX_LANE
from notifications.queue import SENDER

#: How far back a look goes where no index serves.
WINDOW = timedelta(days=1)
#: Notifications of that time that are looked at, at most; `reconcile` looks at all.
NEWEST = 200_000
#: For which the changes of inboxes are surely kept, while older ones are being deleted.
CHANGES_KEPT = timedelta(days=settings.INBOX_EVENTS_KEPT) - timedelta(hours=1)
#: Changes of inboxes that are looked at, at most; `reconcile` looks at all that are kept.
NEWEST_CHANGES = 20_000
#: Ids that are named at most; one broken row is bad enough.
LIMIT = 20
#: Seconds that something may be due while nothing holds it back.
OVERDUE = 300.0
#: Seconds within which the sweep, that runs every few, has surely come round.
UNSWEPT = 60.0
#: Seconds within which beat, that looks for them each minute, has surely taken those into their inboxes that a process of
#: an older release has delivered.
NOT_TAKEN_IN = 180.0
#: Seconds one statement may take.
DEADLINE = 15.0


@dataclass(frozen=True, slots=True)
class Invariant:
    """`meaning` says what is wrong with the rows found, `advice` what to do about it; `of` what has these ids."""

    code: str
    statement: str
    meaning: str
    advice: str
    of: str = "notification"


@dataclass(frozen=True, slots=True)
class Breach:
    """Rows that break an invariant, LIMIT of them at most. `ids` is None where the look took too long."""

    invariant: Invariant
    ids: list[UUID] | list[int] | None


_TELL_US = (
    "This is a fault of the service itself: look at the rows' attempts, keep the workers' logs of that time, "
    "and report it."
)
_SWEEP = "The workers' sweep does this every few seconds: look whether a worker runs, and for sweep_failed in its log."

# That nothing is claimed of a `flow`, since its provider's circuit is open; one whose probe is long due holds nothing.
HELD_BY_CIRCUIT = f"""
EXISTS (
    SELECT FROM unnest(%(lanes)s::text[], %(providers)s::text[]) AS carried (lane, provider)
    JOIN notifications_circuit circuit USING (provider)
    JOIN users_project project ON project.id = flow.project_id
    WHERE carried.lane = flow.lane AND circuit.sender = {SENDER}
      AND circuit.open_until > now() - make_interval(secs => %(unswept)s)
)"""

# That what is due of a `flow` waits for slots, which are being given out: its own, or its provider's (pace.py).
HELD_BY_PACE = """
(flow.rate IS NOT NULL AND flow.next_slot_at > now() - make_interval(secs => %(unswept)s) OR EXISTS (
    SELECT FROM unnest(%(lanes)s::text[], %(providers)s::text[]) AS carried (lane, provider)
    JOIN notifications_pace pace USING (provider)
    WHERE carried.lane = flow.lane AND pace.next_slot_at > now() - make_interval(secs => %(unswept)s)
))"""

# That a `flow` is of a lane, or of a provider, that somebody has paused.
HELD_BY_PAUSE = """
EXISTS (
    SELECT FROM notifications_pause pause
    WHERE pause.target = flow.lane
       OR (flow.lane, pause.target) IN (SELECT * FROM unnest(%(lanes)s::text[], %(providers)s::text[]))
)"""

# Inboxes of which a change is kept that was made lately, and the number of the first such. One whose person is being
# forgotten is taken apart, and goes with them.
CHANGED = """
SELECT inbox.*, lately.first FROM (
    SELECT inbox_id, min(number) AS first FROM (
        SELECT inbox_id, number FROM notifications_inboxevent WHERE at >= %(changed_since)s
        ORDER BY at DESC LIMIT %(changes)s
    ) event GROUP BY inbox_id
) lately
JOIN notifications_inbox inbox ON inbox.id = lately.inbox_id
WHERE NOT EXISTS (SELECT FROM users_forgetting forgetting WHERE forgetting.recipient_id = inbox.recipient_id)
"""

# OFFSET 0 keeps a look at the attempts of each row by index. Made into a join, it reads the whole table wherever
# the statistics say that this is no more work.
INVARIANTS = (
    Invariant(
        "sending_without_attempt",
        """
        SELECT n.id FROM notifications_notification n
        WHERE n.leased_until IS NOT NULL AND n.status = 'sending' AND NOT EXISTS (
            SELECT FROM notifications_attempt a WHERE a.notification_id = n.id AND a.fence = n.fence)
        LIMIT %(limit)s
        """,
        "being sent, but the call was not recorded before it began",
        _TELL_US,
    ),
    # A late answer to an older call is recorded in its attempt alone, and so is one to what is cancelled, failed
    # or expired. Neither is a breach: the record says what happened.
    Invariant(
        "accepted_but_open",
        """
        SELECT n.id FROM notifications_notification n
        WHERE n.id >= %(since)s AND n.id < %(until)s AND n.status IN ('pending', 'sending', 'unknown') AND EXISTS (
            SELECT FROM notifications_attempt a
            WHERE a.notification_id = n.id AND a.outcome = 'accepted'
              AND NOT (a.fence < n.fence AND (n.resends > 0 OR a.provider = ANY(%(repeatable)s)))
            OFFSET 0)
        LIMIT %(limit)s
        """,
        "a provider accepted it, and yet it is not sent",
        _TELL_US + " Pause its flow first: it may go out twice.",
    ),
    # The duplicate meter: each acceptance beyond the first needs a resend that explains it.
    Invariant(
        "accepted_twice",
        """
        SELECT n.id FROM notifications_notification n
        JOIN (SELECT notification_id, count(*) AS times FROM notifications_attempt
              WHERE notification_id >= %(since)s AND notification_id < %(until)s AND outcome = 'accepted'
                AND NOT provider = ANY(%(repeatable)s)
              GROUP BY notification_id HAVING count(*) > 1) accepted ON accepted.notification_id = n.id
        WHERE accepted.times > 1 + n.resends
        LIMIT %(limit)s
        """,
        "accepted more often than resends explain: a person got it twice",
        _TELL_US,
    ),
    # A provider that reports on a message has had it.
    Invariant(
        "sent_without_acceptance",
        """
        SELECT n.id FROM notifications_notification n
        WHERE n.id >= %(since)s AND n.id < %(until)s AND n.status IN ('sent', 'delivered')
          AND NOT n.settled_by_hand AND NOT EXISTS (
            SELECT FROM notifications_attempt a WHERE a.notification_id = n.id AND a.outcome = 'accepted' OFFSET 0)
          AND NOT EXISTS (SELECT FROM notifications_receipt r WHERE r.notification_id = n.id OFFSET 0)
        LIMIT %(limit)s
        """,
        "sent, but neither an attempt nor a receipt nor an operator says that a provider accepted it",
        _TELL_US + " Look for it in the provider's log; resend what is not there.",
    ),
    Invariant(
        "attempt_without_claim",
        """
        SELECT n.id FROM notifications_notification n
        WHERE n.id >= %(since)s AND n.id < %(until)s AND EXISTS (
            SELECT FROM notifications_attempt a
            WHERE a.notification_id = n.id AND (a.fence > n.fence OR a.fence < 1) OFFSET 0)
        LIMIT %(limit)s
        """,
        "has an attempt that no claim of it explains: its fence is lower than the number of its attempts",
        _TELL_US,
    ),
    Invariant(
        "erased_with_content",
        """
        SELECT n.id FROM notifications_notification n
        WHERE n.id >= %(since)s AND n.id < %(until)s AND n.erased_at IS NOT NULL
          AND (n.address <> '' OR n.title <> '' OR n.message <> '' OR n.html <> '' OR n.recipient_id IS NOT NULL)
        LIMIT %(limit)s
        """,
        "its person was forgotten, and yet it holds an address or content",
        _TELL_US + " Forget the person once more.",
    ),
    Invariant(
        "overdue",
        f"""
        SELECT due.id FROM notifications_flow flow CROSS JOIN LATERAL (
            SELECT id FROM notifications_notification
            WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL
              AND due_at <= now() - make_interval(secs => %(overdue)s)
              AND (expires_at IS NULL OR expires_at > now())
            ORDER BY due_at LIMIT %(limit)s
        ) due
        WHERE NOT flow.paused AND NOT {HELD_BY_PAUSE} AND NOT {HELD_BY_CIRCUIT} AND NOT {HELD_BY_PACE}
        LIMIT %(limit)s
        """,  # noqa: S608  (constants)
        "due for more than five minutes, although nothing holds it back",
        "Look whether a worker serves its lane and what its log says; without any, manage.py drain sends it.",
    ),
    Invariant(
        "lease_not_swept",
        """
        SELECT id FROM notifications_notification
        WHERE leased_until < now() - make_interval(secs => %(unswept)s)
        LIMIT %(limit)s
        """,
        "its worker's time has long run out, and nobody has taken it back",
        _SWEEP,
    ),
    Invariant(
        "lease_too_long",
        """
        SELECT id FROM notifications_notification
        WHERE leased_until > clock_timestamp() + make_interval(secs => %(longest_lease)s)
        LIMIT %(limit)s
        """,
        "leased for longer than any worker may",
        "Have CLAIM_LEASE, SEND_DEADLINE or SEND_LEASE_MARGIN been lowered since? Then it ends by itself. Else the "
        "database's clock was set back: the lease ends when that time has come again.",
    ),
    Invariant(
        "expiry_not_swept",
        """
        SELECT id FROM notifications_notification
        WHERE status = 'pending' AND leased_until IS NULL
          AND expires_at < now() - make_interval(secs => %(unswept)s)
        LIMIT %(limit)s
        """,
        "too late to be sent, and not marked as expired",
        _SWEEP,
    ),
    Invariant(
        "review_not_swept",
        """
        SELECT id FROM notifications_notification
        WHERE review_at < now() - make_interval(secs => %(unswept)s) AND status = 'unknown'
        LIMIT %(limit)s
        """,
        "unknown, and the time at which its policy decides has passed",
        _SWEEP,
    ),
    Invariant(
        "delivered_not_in_inbox",
        """
        SELECT id FROM notifications_notification
        WHERE channel = 'in_app' AND status = 'delivered' AND inbox_position IS NULL AND recipient_id IS NOT NULL
          AND sent_at < now() - make_interval(secs => %(not_taken_in)s)
        LIMIT %(limit)s
        """,
        "delivered in-app, but not in its person's inbox",
        "Processes of an older release deliver so, and beat takes theirs in each minute (take_into_inboxes, on the queue "
        "low): look whether it runs, and a worker for that queue. Millions of an upgrade take some minutes.",
    ),
    Invariant(
        "inbox_count_wrong",
        f"""
        SELECT recipient_id FROM ({CHANGED}) inbox
        WHERE unread <> (
            SELECT count(*) FROM notifications_notification n
            WHERE n.recipient_id = inbox.recipient_id AND n.live = inbox.live AND n.inbox_position IS NOT NULL
              AND n.read_at IS NULL AND n.archived_at IS NULL)
        LIMIT %(limit)s
        """,  # noqa: S608  (constants)
        "the count of unread ones in the inbox is not how many are unread",
        _TELL_US,
        "recipient",
    ),
    # The numbers are looked at, not the times: a clock may have been set back between two changes.
    Invariant(
        "inbox_gap",
        f"""
        SELECT recipient_id FROM ({CHANGED}) inbox CROSS JOIN LATERAL (
            SELECT count(*) AS kept, max(number) AS last FROM notifications_inboxevent
            WHERE inbox_id = inbox.id AND number >= inbox.first
        ) event
        WHERE event.last <> inbox.position OR event.kept <> event.last - inbox.first + 1
        LIMIT %(limit)s
        """,  # noqa: S608  (constants)
        "the changes of the inbox have a gap, or lead to another position than the inbox has",
        _TELL_US + " Its clients load their list anew by themselves.",
        "recipient",
    ),
)


#: Those about what a provider has accepted; each looks at a span of ids alone.
OF_HISTORY = tuple(
    invariant
    for invariant in INVARIANTS
    if invariant.code
    in {"accepted_but_open", "accepted_twice", "sent_without_acceptance", "attempt_without_claim"}
)


#: Those about inboxes: not by spans of ids.
OF_INBOXES = tuple(
    invariant
    for invariant in INVARIANTS
    if invariant.code in {"delivered_not_in_inbox", "inbox_count_wrong", "inbox_gap"}
)


def parameters(window: timedelta | None = WINDOW, limit: int = LIMIT) -> dict[str, Any]:
    """What the statements ask for. `window` None: all that was ever made, which takes its time."""
    begun_lease = settings.SEND_DEADLINE + settings.SEND_LEASE_MARGIN
    return {
        "since": ids.first_of(timezone.now() - window) if window else ids.FIRST,
        "until": ids.LAST,
        "limit": limit,
        "repeatable": providers.repeatable_names(),
        **carriers(),
        "longest_lease": max(settings.CLAIM_LEASE, begun_lease) + UNSWEPT,
        "overdue": OVERDUE,
        "unswept": UNSWEPT,
        "not_taken_in": NOT_TAKEN_IN,
        "changed_since": timezone.now() - min(window or CHANGES_KEPT, CHANGES_KEPT),
        "changes": NEWEST_CHANGES if window else None,
    }


def carriers() -> dict[str, list[str]]:
    """Each lane beside the provider that carries it, where there is one. The sandbox has no circuits, and is left out."""
    channels = {lane: lane.partition(".")[0] for lane in LANES if lane != SANDBOX_LANE}
    carried = {
        lane: name for lane, channel in channels.items() if (name := providers.for_channel(channel))
    }
    return {"lanes": list(carried), "providers": list(carried.values())}


def breaches(
    window: timedelta | None = WINDOW, limit: int = LIMIT, deadline: float = DEADLINE
) -> Iterator[Breach]:
    """Ask every invariant, each for `deadline` seconds at most; yields those that are broken or took too long.

    Raises DatabaseError or InterfaceError when the database does not answer or has no such tables.
    """
    values = parameters(window, limit)
    if window:
        values["since"] = max(values["since"], _first_of_newest(NEWEST))
    for invariant in INVARIANTS:
        try:
            found = _ids(invariant, values, deadline)
        except OperationalError as error:
            if not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise
            yield Breach(invariant, None)
        else:
            if found:
                yield Breach(invariant, found)


def _first_of_newest(count: int) -> UUID:
    """The id from which on there are so many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM notifications_notification ORDER BY id DESC OFFSET %s LIMIT 1", (count,)
        )
        row = cursor.fetchone()
    return UUID(str(row[0])) if row else ids.FIRST


def _ids(invariant: Invariant, values: dict[str, Any], deadline: float) -> list[UUID] | list[int]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true)", (str(int(deadline * 1000)),)
        )
        cursor.execute(invariant.statement, values)
        return [row[0] for row in cursor.fetchall()]
