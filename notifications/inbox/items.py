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
from notifications.models import Inbox, InboxEvent, Notification

#: Changes that one look at an inbox brings; a client that has missed more loads its list anew.
MOST_EVENTS = 500

# For many inboxes at once, each from its own number on: by the index (inbox, number), and the notification by its key.
_EVENTS = """
SELECT inbox.recipient_id, inbox.live, event.number, event.kind, event.notification_id, event.read_up_to, event.unread,
       event.at
FROM unnest(%(recipients)s::bigint[], %(lives)s::bool[], %(after)s::bigint[]) AS wanted (recipient_id, live, after)
JOIN notifications_inbox inbox ON inbox.recipient_id = wanted.recipient_id AND inbox.live = wanted.live
CROSS JOIN LATERAL (
    SELECT * FROM notifications_inboxevent WHERE inbox_id = inbox.id AND number > wanted.after
    ORDER BY number LIMIT %(limit)s
) event
ORDER BY inbox.id, event.number
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
    found = Inbox.objects.filter(recipient_id=recipient_id, live=live)
    return State(*(found.values_list("position", "unread").first() or ()))


def states_of(inboxes: Iterable[InboxKey]) -> dict[InboxKey, State]:
    """Of those that have changed at least once."""
    keys = list(inboxes)
    with connection.cursor() as cursor:
        cursor.execute(_STATES, _columns(keys))
        return {(row[0], row[1]): State(row[2], row[3]) for row in cursor.fetchall()}


def changes_after(numbers: Mapping[InboxKey, int]) -> dict[InboxKey, list[Change]]:
    """Of each inbox, what came after the number given for it, in order; at most MOST_EVENTS of each."""
    parameters = _columns(list(numbers)) | {"after": list(numbers.values()), "limit": MOST_EVENTS}
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, parameters)
        rows = cursor.fetchall()
    notifications = _notifications({row[4] for row in rows if row[4]})
    found: dict[InboxKey, list[Change]] = {}
    for recipient_id, live, number, kind, notification_id, read_up_to, unread, at in rows:
        notification = notifications.get(notification_id)
        if notification and notification.recipient_id != recipient_id:
            notification = None  # its person was forgotten
        change = Change(number, kind, unread, at, notification_id, read_up_to, notification)
        found.setdefault((recipient_id, live), []).append(change)
    return found


def _columns(keys: Sequence[InboxKey]) -> dict[str, Any]:
    return {"recipients": [key[0] for key in keys], "lives": [key[1] for key in keys]}


def _notifications(ids: Iterable[UUID]) -> dict[UUID, Notification]:
    told = Notification.objects.only("recipient", *_TOLD)
    return told.in_bulk(list(ids))


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
