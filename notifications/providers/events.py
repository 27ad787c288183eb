"""What a provider says became of a message, in one closed vocabulary: django-anymail's.

https://anymail.dev/en/stable/sending/tracking/. Each vendor's own words are translated in the vendor's own file; one
that is not in its table becomes UNKNOWN, and is kept as it came.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class EventType(StrEnum):
    """What happened."""

    QUEUED = "queued"
    SENT = "sent"
    REJECTED = "rejected"  # the vendor did not want to send it
    FAILED = "failed"  # the vendor could not send it
    BOUNCED = "bounced"  # the other side refused it, for good
    DEFERRED = "deferred"  # the other side wants it later
    DELIVERED = "delivered"
    AUTORESPONDED = "autoresponded"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    UNKNOWN = "unknown"


#: The vendor has it, and has not said more.
ACCEPTED = frozenset({EventType.QUEUED, EventType.SENT, EventType.DEFERRED})
#: Nobody opens, clicks on or complains about what has not arrived.
ARRIVED = frozenset(
    {
        EventType.DELIVERED,
        EventType.AUTORESPONDED,
        EventType.OPENED,
        EventType.CLICKED,
        EventType.COMPLAINED,
        EventType.UNSUBSCRIBED,
    }
)
#: It will not arrive.
REFUSED = frozenset({EventType.REJECTED, EventType.FAILED, EventType.BOUNCED})


class RejectReason(StrEnum):
    """Why it was refused, where the vendor says so."""

    INVALID = "invalid"  # no such address, and never was
    BOUNCED = "bounced"  # a hard bounce, now or earlier
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"
    SPAM = "spam"  # the person has complained
    UNSUBSCRIBED = "unsubscribed"  # the person wants no more: also an SMS STOP
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of one message.

    `event_id` is the vendor's own id of the event, or made from what never changes of it: the same event has the same
    id however often it is told. `notification_id` is ours, where the message carried it along; `provider_message_id`
    the vendor's. `code` is the vendor's number or word, `detail` its sentence; `raw` what it sent, as text.
    """

    event_id: str
    event: EventType
    occurred_at: datetime | None = None
    notification_id: UUID | None = None
    provider_message_id: str = ""
    reject_reason: RejectReason | None = None
    code: str = ""
    detail: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one webhook has told, proved to be the vendor's.

    `token` is the vendor's word that may be used once, where its signature covers nothing else (Mailgun's).
    """

    events: tuple[Event, ...] = ()
    token: str = ""


class Forged(Exception):
    """Not surely from the vendor: no signature, a wrong one, or one that is too old. Nothing of it counts."""


class Unreadable(Exception):
    """From the vendor, but not a webhook that we can read."""


class NoWebhooks(LookupError):
    """This provider reports nothing, or nobody has given us the secret by which we would know that it does."""
