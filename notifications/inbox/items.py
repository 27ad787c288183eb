"""What is in an inbox, as it is told to the person's browser: the list, the count, and what came after a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils.crypto import salted_hmac

from notifications.inbox.nudging import InboxKey
from notifications.models import InboxEvent, Notification, NotificationQuerySet

#: Changes that one look at an inbox brings. After them one looks again.
MOST_CHANGES = 100

# For many inboxes at once, each from a number of its own on: by the index (inbox, number).
_EVENTS = """
SELECT wanted.recipient_id, wanted.live, wanted.after, event.number, event.kind, event.notification_id,
       event.read_up_to, event.unread, event.at
FROM unnest(%(recipients)s::bigint[], %(lives)s::bool[], %(after)s::bigint[]) AS wanted (recipient_id, live, after)
JOIN notifications_inbox inbox ON inbox.recipient_id = wanted.recipient_id AND inbox.live = wanted.live
CROSS JOIN LATERAL (
    SELECT * FROM notifications_inboxevent WHERE inbox_id = inbox.id AND number > wanted.after
    ORDER BY number LIMIT %(limit)s
) event
ORDER BY inbox.id, wanted.after, event.number
"""

_STATES = """
SELECT inbox.recipient_id, inbox.live, inbox.position, inbox.unread
FROM unnest(%(recipients)s::bigint[], %(lives)s::bool[]) AS wanted (recipient_id, live)
JOIN notifications_inbox inbox ON inbox.recipient_id = wanted.recipient_id AND inbox.live = wanted.live
"""


@dataclass(frozen=True, slots=True)
class State:
    """The number of the last change, and how many are unread."""

    position: int = 0
    unread: int = 0

    @property
    def content(self) -> dict[str, int]:
        """As clients are told it, by the API and by the stream."""
        return {"unread": self.unread, "position": self.position}


@dataclass(frozen=True, slots=True)
class Change:
    """One numbered change, with its notification as it is now; None where that is gone, or where all were read."""

    number: int
    kind: str
    unread: int
    at: datetime
    notification_id: UUID | None
    read_up_to: int | None
    notification: Notification | None = None


def state_of(recipient_id: int, live: bool) -> State:
    """An inbox in which nothing has arrived yet has no row."""
    key = (recipient_id, live)
    return states_of([key]).get(key, State())


def states_of(inboxes: Iterable[InboxKey]) -> dict[InboxKey, State]:
    """Of those that have changed at least once."""
    keys = list(inboxes)
    with connection.cursor() as cursor:
        cursor.execute(_STATES, _columns(keys))
        return {(row[0], row[1]): State(row[2], row[3]) for row in cursor.fetchall()}


def changes_after(
    wanted: Iterable[tuple[InboxKey, int]],
) -> dict[tuple[InboxKey, int], list[Change]]:
    """What came in an inbox after a number, in order, MOST_CHANGES at most; for many at once."""
    pairs = list(wanted)
    parameters = _columns([key for key, _ in pairs])
    parameters |= {"after": [after for _, after in pairs], "limit": MOST_CHANGES}
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, parameters)
        rows = cursor.fetchall()
    notifications = as_told(Notification.objects.all()).in_bulk({row[5] for row in rows if row[5]})
    found: dict[tuple[InboxKey, int], list[Change]] = {}
    for recipient_id, live, after, *event in rows:
        change = _change(event, recipient_id, notifications)
        found.setdefault(((recipient_id, live), after), []).append(change)
    return found


def _change(
    event: Sequence[Any], recipient_id: int, notifications: Mapping[UUID, Notification]
) -> Change:
    number, kind, notification_id, read_up_to, unread, at = event
    notification = notifications.get(notification_id)
    if notification and notification.recipient_id != recipient_id:
        notification = None  # its person was forgotten
    return Change(number, kind, unread, at, notification_id, read_up_to, notification)


def _columns(keys: Sequence[InboxKey]) -> dict[str, Any]:
    return {"recipients": [key[0] for key in keys], "lives": [key[1] for key in keys]}


def as_told(rows: NotificationQuerySet) -> NotificationQuerySet:
    """Read with no more than `present` tells: not the metadata, which may be large."""
    return rows.only("recipient", *_TOLD)


#: What a browser is told of a notification, beside its position. Not `metadata`: it is the backend's own.
_TOLD = (
    "id",
    "inbox_position",
    "title",
    "message",
    "url",
    "category",
    "priority",
    "created_at",
    "delivered_at",
    "read_at",
    "archived_at",
)


def present(notification: Notification) -> dict[str, Any]:
    """The notification as `InboxItem` describes it (api/inbox.py)."""
    item = {name: getattr(notification, name) for name in _TOLD}
    item["position"] = item.pop("inbox_position")
    return item


def told(change: Change) -> tuple[str, dict[str, Any]]:
    """The name and the content of the event by which a client learns of the change.

    A notification that is gone by now is told as removed, whatever the change was: its number must not be missing.
    """
    content: dict[str, Any] = {"position": change.number, "unread": change.unread}
    if change.kind == InboxEvent.Kind.READ_ALL:
        return change.kind, content | {"read_up_to": change.read_up_to, "read_at": change.at}
    if change.notification is None or change.kind == InboxEvent.Kind.REMOVED:
        return InboxEvent.Kind.REMOVED.value, content | {"id": change.notification_id}
    return change.kind, content | {"notification": present(change.notification)}


def name_of(recipient_id: int, live: bool) -> str:
    """By which clients tell inboxes apart. Says nothing about how many there are."""
    return salted_hmac("notifyproj.inbox", f"{recipient_id}:{int(live)}").hexdigest()[:16]
