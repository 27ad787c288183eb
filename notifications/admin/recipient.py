"""A recipient's page with what concerns delivery: may it be written to, what was sent, what failed and why.

`users` knows nothing of notifications, so its page is taken from there and completed here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator

from notifications.admin.inbox import EndsInboxTokens
from notifications.admin.inbox import details_of as inbox_details_of
from notifications.admin.listing import subject_of, with_beginning
from notifications.admin.timeline import short
from notifications.models import Channel, Notification, NotificationQuerySet, Status, Suppression
from notifications.newest import newest
from users.admin.recipients import RecipientAdmin
from users.console import WithDetails
from users.models import Address, Recipient
from users.reach import within

#: The newest of these are listed.
MOST_LISTED = 20
MOST_FAILURES = 10
#: Notifications that are counted and looked through for failures, the newest ones: some get a million.
MOST_LOOKED_AT = 500
#: What support is asked about. A cancelled one may be so because its address is suppressed.
NOT_ARRIVED = frozenset({Status.FAILED, Status.UNKNOWN, Status.EXPIRED, Status.CANCELLED})
#: What an entry shows; a message and its HTML part may be long.
_SHOWN = (
    "id", "status", "channel", "live", "title", "address", "provider", "failure_code",
    "failure_detail", "erased_at", "created_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """An address, and why it is not written to."""

    address: Address
    suppression: Suppression | None

    @property
    def reason(self) -> str:
        return short(self.suppression.reason) if self.suppression else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A notification in a list: what it was, in a few words."""

    notification: Notification
    what: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of the newest ones on a channel are in which status, the most frequent first."""

    channel: str
    statuses: tuple[tuple[str, str, int], ...]


admin.site.unregister(Recipient)


@admin.register(Recipient)
class NotifiedRecipientAdmin(WithDetails, EndsInboxTokens, RecipientAdmin):
    """Adds what is looked at, and the end of the person's inbox tokens; changing a recipient stays what it is in `users`."""

    def details(self, request: HttpRequest, row: Recipient) -> dict[str, Any]:
        inbox = inbox_details_of(request, row)
        return {**_reachability(request, row), **inbox, **_history(request, row)}


def _reachability(request: HttpRequest, recipient: Recipient) -> dict[str, Any]:
    """Its addresses, and for who may know, which of them are suppressed."""
    addresses = sorted(recipient.addresses.all(), key=lambda address: address.channel)
    if not request.user.has_perm("notifications.view_suppression"):
        return {"addresses": [Line(address, None) for address in addresses]}
    values = [address.value.lower() for address in addresses]
    listed = Suppression.objects.filter(address__in=values, project_id=recipient.project_id)
    by_address = {(each.channel, each.address): each for each in listed}
    return {
        "addresses": [
            Line(address, by_address.get((address.channel, address.value.lower())))
            for address in addresses
        ]
    }


def _history(request: HttpRequest, recipient: Recipient) -> dict[str, Any]:
    if not request.user.has_perm("notifications.view_notification"):
        return {"history": None}
    theirs = newest(
        within(request.user, Notification.objects.order_by()), recipient_id=recipient.pk
    )
    looked_at = list(theirs.values_list("id", "channel", "status")[:MOST_LOOKED_AT])
    wrong = [id for id, _, status in looked_at if status in NOT_ARRIVED]
    return {
        "history": _entries([id for id, _, _ in looked_at[:MOST_LISTED]]),
        "failures": _entries(wrong[:MOST_FAILURES]),
        "tallies": _tallies((channel, status) for _, channel, status in looked_at),
        "looked_at": len(looked_at),
        "may_be_more": len(looked_at) == MOST_LOOKED_AT,
        "more_failures": len(wrong) > MOST_FAILURES,
        "more_history": len(looked_at) > MOST_LISTED,
    }


def _entries(ids: list[UUID]) -> list[Entry]:
    rows: NotificationQuerySet = Notification.objects.filter(pk__in=ids).only(*_SHOWN)
    shown = with_beginning(rows).order_by("-id")
    return [Entry(notification, _what(notification)) for notification in shown]


def _what(notification: Notification) -> str:
    if notification.erased_at:
        return "erased"
    return Truncator(subject_of(notification)).chars(80) or str(notification.pk)


def _tallies(pairs: Any) -> list[Tally]:
    counts: dict[str, Counter[str]] = {}
    for channel, status in pairs:
        counts.setdefault(channel, Counter())[status] += 1
    return [
        Tally(
            Channel(channel).label,
            tuple((status, Status(status).label, n) for status, n in counts[channel].most_common()),
        )
        for channel in sorted(counts)
    ]
