"""The addresses of a project that must not be written to: how one gets there, and what it stops.

A hard bounce, a complaint, an unsubscribe and an SMS STOP put an address there; so do people, by API, console and
import. Intake refuses a notification to it (409 `suppressed`); one that waits already is cancelled when it is claimed.

A hard bounce and a STOP stop everything. The other reasons let those categories through that the project has named as
mandatory (receipts, security): the person would get them, and has to.

An address stays when its person is forgotten: that is what keeps it from being written to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from uuid_utils.compat import uuid7

from notifications.models import Channel, Suppression
from notifications.providers.events import REFUSED, EventType, RejectReason
from users.directory import normalised
from users.refusals import Conflict

Reason = Suppression.Reason

#: Which reason stops a (project, channel, address, category), or none. `{...}` are SQL expressions of the query it
#: stands in, and the project's row is `project`.
_STOPPED_BY = """
SELECT {columns} FROM notifications_suppression suppression
WHERE suppression.address = lower({address}) AND suppression.channel = {channel}
  AND suppression.project_id = project.id
  AND (suppression.reason IN ('hard_bounce', 'stop')
       OR {category} = '' OR NOT {category} = ANY(project.mandatory_categories))
"""


def stopped_by(
    address: str, channel: str, category: str, columns: str = "suppression.reason"
) -> str:
    """The query for the reason that stops a notification, over SQL expressions."""
    return _STOPPED_BY.format(address=address, channel=channel, category=category, columns=columns)


_LISTED = "suppression.id, suppression.reason, suppression.created_at"


_STOPPED_AMONG = f"""
SELECT given.number, suppression.id, suppression.reason, suppression.created_at
FROM unnest(%(channels)s::text[], %(addresses)s::text[], %(categories)s::text[])
         WITH ORDINALITY AS given (channel, address, category, number)
CROSS JOIN users_project project
CROSS JOIN LATERAL ({stopped_by("given.address", "given.channel", "given.category", _LISTED)}) AS suppression
WHERE project.id = %(project_id)s
"""  # noqa: S608  (constants)


# The reason that stops more wins; else the first one stays, with what is behind it. The time is always the first's: the
# address has been there since then, and its id, by which lists are ordered and bounded, says the same.
_ADD = """
INSERT INTO notifications_suppression AS known
    (id, project_id, channel, address, reason, source, detail, notification_id, receipt_id, created_at)
{rows}
ON CONFLICT (address, channel, project_id) DO UPDATE
SET reason = excluded.reason, source = excluded.source, detail = excluded.detail,
    notification_id = excluded.notification_id, receipt_id = excluded.receipt_id
WHERE excluded.reason IN ('hard_bounce', 'stop') AND known.reason NOT IN ('hard_bounce', 'stop')
RETURNING id, project_id, reason
"""

# By what became of notifications. Of one address the reason that stops most, since a statement touches a row once.
_ADD_OF_NOTIFICATIONS = _ADD.format(
    rows="""
SELECT DISTINCT ON (n.project_id, n.channel, lower(n.address))
       learned.id, n.project_id, n.channel, lower(n.address), learned.reason, %(source)s, learned.detail,
       n.id, learned.receipt_id, clock_timestamp()
FROM unnest(%(ids)s::uuid[], %(notifications)s::uuid[], %(reasons)s::text[], %(details)s::text[], %(receipts)s::bigint[])
         AS learned (id, notification_id, reason, detail, receipt_id)
JOIN notifications_notification n ON n.id = learned.notification_id
WHERE n.address <> '' AND n.channel IN ('email', 'sms')
ORDER BY n.project_id, n.channel, lower(n.address), learned.reason NOT IN ('hard_bounce', 'stop'), learned.id"""
)

_ADD_ADDRESSES = _ADD.format(
    rows="""
SELECT id, %(project_id)s, channel, address, reason, %(source)s, detail, NULL, NULL, clock_timestamp()
FROM unnest(%(ids)s::uuid[], %(channels)s::text[], %(addresses)s::text[], %(reasons)s::text[], %(details)s::text[])
         AS given (id, channel, address, reason, detail)
ORDER BY channel, address"""
)


@dataclass(frozen=True, slots=True)
class Learned:
    """That a notification's address must not be written to, and by which receipt, if by one."""

    notification_id: UUID
    reason: str
    detail: str = ""
    receipt_id: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An address as it is stored, and why it is to be on the list."""

    channel: str
    address: str
    reason: str = Reason.MANUAL
    detail: str = ""


_BY_REJECTION = {
    RejectReason.INVALID: Reason.HARD_BOUNCE,
    RejectReason.BOUNCED: Reason.HARD_BOUNCE,
    RejectReason.SPAM: Reason.COMPLAINT,
    RejectReason.UNSUBSCRIBED: Reason.UNSUBSCRIBE,
}


def reason_in(channel: str, event: str, reject_reason: str) -> str:
    """Why an event puts its address on the list; "" where it does not, as a soft bounce (providers/events.py)."""
    if event == EventType.COMPLAINED:
        return Reason.COMPLAINT
    if event == EventType.UNSUBSCRIBED:
        reason = Reason.UNSUBSCRIBE
    elif event in REFUSED and reject_reason in _BY_REJECTION:
        reason = _BY_REJECTION[RejectReason(reject_reason)]
    else:
        return ""
    is_stop = reason == Reason.UNSUBSCRIBE and channel == Channel.SMS
    return Reason.STOP if is_stop else reason


def learn(learned: Sequence[Learned], source: str) -> int:
    """Put the notifications' addresses on their projects' lists. Returns how many are there anew."""
    if not learned:
        return 0
    return _add(
        _ADD_OF_NOTIFICATIONS,
        ids=[uuid7() for _ in learned],
        notifications=[each.notification_id for each in learned],
        reasons=[each.reason for each in learned],
        details=[each.detail for each in learned],
        receipts=[each.receipt_id for each in learned],
        source=source,
    )


def add(project_id: int, entries: Iterable[Entry], source: str) -> int:
    """Put addresses on the project's list. Returns how many were not there, or stop more than before."""
    # A statement touches a row once; of two entries for one address that counts which would if they came one by one.
    given: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        address = entry.channel, entry.address.lower()
        known = given.setdefault(address, entry)
        if entry.reason in Suppression.ABSOLUTE and known.reason not in Suppression.ABSOLUTE:
            given[address] = entry
    if not given:
        return 0
    return _add(
        _ADD_ADDRESSES,
        ids=[uuid7() for _ in given],
        channels=[channel for channel, _ in given],
        addresses=[address for _, address in given],
        reasons=[entry.reason for entry in given.values()],
        details=[entry.detail for entry in given.values()],
        project_id=project_id,
        source=source,
    )


def remove(project_id: int, suppression_id: UUID) -> bool:
    """Take an address off the project's list: it may be written to again. False where it is not there (any more)."""
    removed, _ = Suppression.objects.filter(pk=suppression_id, project_id=project_id).delete()
    return removed > 0


def _add(statement: str, **parameters: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return len(cursor.fetchall())


def entry_for(channel: str, address: str, reason: str = Reason.MANUAL, detail: str = "") -> Entry:
    """An entry for an address in any spelling. Raises Refused, naming the field."""
    return Entry(channel, normalised(channel, address, "address").lower(), reason, detail)


def find(project_id: int, channel: str, address: str) -> Suppression | None:
    """The project's entry for an address as it is stored."""
    listed = Suppression.objects.filter(address=address.lower(), channel=channel)
    return listed.filter(project_id=project_id).first()


def refusal_of(project_id: int, channel: str, address: str, field: str) -> Conflict:
    """What intake answers: the reason, and since when."""
    listed = find(project_id, channel, address)
    if listed is None:
        # Taken off the list in between.
        return Conflict("suppressed", "This address was suppressed a moment ago. Try again.", field)
    return _refusal(field, listed.id, listed.reason, listed.created_at)


def _refusal(field: str, suppression_id: UUID, reason: str, since: datetime) -> Conflict:
    return Conflict(
        "suppressed",
        f"This address is suppressed: {reason}, since {since:%Y-%m-%dT%H:%M:%SZ}. Nothing is "
        f"sent to it until it is taken off the list: DELETE /api/v1/suppressions/{suppression_id}.",
        field,
    )


@dataclass(frozen=True, slots=True)
class Planned:
    """Where a notification is to go, and the `field` that said so."""

    channel: str
    address: str
    category: str
    field: str


def refusals_among(project_id: int, planned: Sequence[Planned]) -> dict[int, Conflict]:
    """What intake answers to those that are stopped, by their position."""
    with connection.cursor() as cursor:
        cursor.execute(
            _STOPPED_AMONG,
            {
                "project_id": project_id,
                "channels": [each.channel for each in planned],
                "addresses": [each.address for each in planned],
                "categories": [each.category for each in planned],
            },
        )
        return {
            number - 1: _refusal(planned[number - 1].field, *listed)
            for number, *listed in cursor.fetchall()
        }
