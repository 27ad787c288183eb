"""What a person, or the backend for them, does with what has arrived: read, unread, archive, read all.

Each change of an inbox is numbered in its own transaction; what changes nothing gets no number.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from notifications.inbox import numbering
from notifications.inbox.nudging import nudge
from notifications.models import Notification, Status
from users.refusals import Conflict

_NEVER_ARRIVED = frozenset({Status.FAILED, Status.CANCELLED, Status.EXPIRED})

# In the order of their ids, as everybody locks them; the inbox's row after them.
_READ_ALL = """
WITH unread AS MATERIALIZED (
    SELECT id FROM notifications_notification
    WHERE recipient_id = %(recipient_id)s AND live = %(live)s AND inbox_position <= %(up_to)s
      AND inbox_position IS NOT NULL AND read_at IS NULL AND archived_at IS NULL
    ORDER BY id FOR UPDATE
), clock AS MATERIALIZED (
    -- Once for all: the event tells one time for them. After the locks, so not before anything that has arrived.
    SELECT clock_timestamp() AS moment FROM (SELECT count(*) FROM unread) AS locked
), read AS (
    UPDATE notifications_notification n SET read_at = clock.moment
    FROM unread, clock
    WHERE n.id = unread.id RETURNING clock.moment
), counted AS (
    SELECT count(*) AS times, min(moment) AS moment FROM read
), moved AS (
    UPDATE notifications_inbox inbox SET position = inbox.position + 1, unread = inbox.unread - counted.times
    FROM counted
    WHERE inbox.recipient_id = %(recipient_id)s AND inbox.live = %(live)s AND counted.times > 0
    RETURNING inbox.id, inbox.position, inbox.unread, counted.moment
)
INSERT INTO notifications_inboxevent (inbox_id, number, kind, read_up_to, unread, at)
SELECT id, position, 'read_all', least(%(up_to)s, position - 1), unread, moment FROM moved
RETURNING number
"""


def mark_read(notification_id: UUID) -> None:
    """Reading is not a status: it sets `read_at`, once. Raises Conflict for what never reached anybody."""
    _mark(notification_id, _read)


def mark_unread(notification_id: UUID) -> None:
    """Raises Conflict for what never reached anybody."""
    _mark(notification_id, _unread)


def archive(notification_id: UUID) -> None:
    """Put it away: it is neither listed nor counted. Raises Conflict for what is in no inbox."""
    _mark(notification_id, _archived)


def unarchive(notification_id: UUID) -> None:
    """Raises Conflict for what is in no inbox."""
    _mark(notification_id, _unarchived)


def read_all(recipient_id: int, live: bool, up_to: int) -> None:
    """Read what is unread and arrived by the change number `up_to`: what came meanwhile stays unread."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_READ_ALL, {"recipient_id": recipient_id, "live": live, "up_to": up_to})
        if cursor.fetchone():
            transaction.on_commit(lambda: nudge([(recipient_id, live)]), robust=True)


#: What is to be set, for a notification as it is; nothing where it is so already.
_Change = Callable[[Notification], dict[str, Now | None]]


def _read(notification: Notification) -> dict[str, Now | None]:
    return {} if notification.read_at else {"read_at": Now()}


def _unread(notification: Notification) -> dict[str, Now | None]:
    return {"read_at": None} if notification.read_at else {}


def _archived(notification: Notification) -> dict[str, Now | None]:
    _refuse_what_is_in_no_inbox(notification)
    return {} if notification.archived_at else {"archived_at": Now()}


def _unarchived(notification: Notification) -> dict[str, Now | None]:
    _refuse_what_is_in_no_inbox(notification)
    return {"archived_at": None} if notification.archived_at else {}


def _refuse_what_is_in_no_inbox(notification: Notification) -> None:
    if notification.inbox_position is None:
        raise Conflict("not_in_inbox", "This notification is in no inbox.", "status")


def _mark(notification_id: UUID, changed: _Change) -> None:
    with transaction.atomic():
        notification = Notification.objects.select_for_update().get(id=notification_id)
        if notification.status in _NEVER_ARRIVED:
            raise Conflict(
                "not_readable",
                "A failed, cancelled or expired notification has reached nobody who could read it.",
                "status",
            )
        values = changed(notification)
        if not values:
            return
        before = notification.is_unread
        Notification.objects.filter(id=notification_id).update(**values)
        if notification.inbox_position is not None:
            notification.refresh_from_db(fields=list(values))
            numbering.change(notification_id, int(notification.is_unread) - int(before))
