"""Every change of an inbox gets the next number of its counter row, and moves its count, in the change's transaction.

Locks are taken in one order by all: notifications by their ids, then inboxes by recipient. An inbox's row stays locked
until the change is committed, so its numbers become visible in their order and without a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from notifications.inbox.nudging import nudge
from notifications.models import InboxEvent, Notification

Kind = InboxEvent.Kind

#: Rows one transaction takes in or out at most.
CHUNK = 500

# `changing` (a notification, its inbox, and by how much the inbox's count moves) -> the inboxes' rows, locked in their
# order and moved; and from them the number of each change, recorded. `place` and `sum` are those of one change among its
# inbox's; `places` and `sums` those of all.
_NUMBERED = """
changed AS MATERIALIZED (
    SELECT changing.*, row_number() OVER in_turn AS place, sum(delta) OVER in_turn AS sum,
           count(*) OVER inbox AS places, sum(delta) OVER inbox AS sums
    FROM changing
    WINDOW inbox AS (PARTITION BY recipient_id, live), in_turn AS (inbox ORDER BY id ROWS UNBOUNDED PRECEDING)
), grown AS (
    INSERT INTO notifications_inbox (recipient_id, live, position, unread)
    SELECT recipient_id, live, count(*), sum(delta) FROM changed GROUP BY recipient_id, live ORDER BY recipient_id, live
    ON CONFLICT (recipient_id, live) DO UPDATE SET
        position = notifications_inbox.position + excluded.position,
        unread = notifications_inbox.unread + excluded.unread
    RETURNING id, recipient_id, live, position, unread
), numbered AS (
    SELECT changed.id, grown.id AS inbox_id, grown.recipient_id, grown.live,
           grown.position - places + place AS number, grown.unread - sums + sum AS unread
    FROM changed JOIN grown USING (recipient_id, live)
), recorded AS (
    INSERT INTO notifications_inboxevent (inbox_id, number, kind, notification_id, unread, at)
    SELECT inbox_id, number, %(kind)s, id, unread, clock_timestamp() FROM numbered
)"""

# What was delivered in-app and is in no inbox yet. Which of its rows the caller has locked already.
_ARRIVE = f"""
WITH changing AS MATERIALIZED (
    SELECT id, recipient_id, live, CASE WHEN read_at IS NULL THEN 1 ELSE 0 END AS delta
    FROM notifications_notification
    WHERE id = ANY(%(ids)s::uuid[]) AND channel = 'in_app' AND status = 'delivered'
      AND inbox_position IS NULL AND recipient_id IS NOT NULL
    ORDER BY id FOR UPDATE
), {_NUMBERED}, placed AS (
    UPDATE notifications_notification n SET inbox_position = numbered.number
    FROM numbered WHERE n.id = numbered.id
)
SELECT DISTINCT recipient_id, live FROM numbered
"""  # noqa: S608  (constants)

_CHANGE = f"""
WITH changing AS (
    SELECT n.id, n.recipient_id, n.live, change.delta
    FROM unnest(%(ids)s::uuid[], %(deltas)s::int[]) AS change (id, delta)
    JOIN notifications_notification n ON n.id = change.id
    WHERE n.inbox_position IS NOT NULL AND n.recipient_id IS NOT NULL
), {_NUMBERED}
SELECT DISTINCT recipient_id, live FROM numbered
"""  # noqa: S608  (constants)


def arrive(ids: Sequence[UUID]) -> None:
    """Take into their inboxes what of these was delivered in-app and is in none yet. May be repeated.

    Call it in the transaction that delivers them.
    """
    if ids:
        _number(_ARRIVE, kind=Kind.CREATED, ids=sorted(ids))


def change(notification_id: UUID, delta: int) -> None:
    """Number a change of one that is in its inbox; `delta` is by how much the count of unread ones moves.

    Call it in the transaction that makes the change and has locked the notification.
    """
    _number(_CHANGE, kind=Kind.UPDATED, ids=[notification_id], deltas=[delta])


def remove(rows: Iterable[Notification]) -> None:
    """Take these, which the caller has locked and is about to delete, out of their inboxes."""
    rows = sorted((row for row in rows if row.inbox_position is not None), key=lambda row: row.id)
    if rows:
        deltas = [-int(row.is_unread) for row in rows]
        _number(_CHANGE, kind=Kind.REMOVED, ids=[row.id for row in rows], deltas=deltas)


def _number(statement: str, **parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        changed = cursor.fetchall()
    if changed:
        transaction.on_commit(lambda: nudge(changed), robust=True)


def take_in_what_was_left() -> int:
    """What a process of an older release has delivered since the last time, or before there were inboxes, oldest first.

    Returns how many; fewer than CHUNK means that none are left.
    """
    left = Notification.objects.not_in_inbox().order_by("id").values_list("id", flat=True)
    ids = list(left[:CHUNK])
    if ids:
        with transaction.atomic():
            arrive(ids)
    return len(ids)
