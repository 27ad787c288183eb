"""What beat has removed from time to time. Nothing that delivery needs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from notifications import bulk_actions, counting, ids, stopping
from notifications.inbox import numbering
from notifications.models import (
    CallCount,
    Circuit,
    CountedHour,
    Heartbeat,
    HourlyCount,
    IdempotencyKey,
    InboxEvent,
    Notification,
    Receipt,
    SpentToken,
)

log = structlog.get_logger(__name__)

#: Rows a transaction deletes at most, so that it holds its locks for a moment only.
CHUNK = 5000
#: Seconds one run takes at most; the next one goes on. Beat asks for one every 10 minutes.
LONGEST_RUN = 60.0
#: As long as an idempotency key: one that outlived its notification would let the same request send again.
SHORTEST_RETENTION_DAYS = settings.IDEMPOTENCY_KEY_TTL // 86400


#: What numbering.remove() looks at.
_OF_INBOX = ("id", "inbox_position", "read_at", "archived_at")

#: A signature is refused after five minutes (providers/anymail_webhooks.py); its token need not be known for longer.
TOKENS_KEPT = timedelta(hours=1)
#: For which a receipt whose notification is not found is kept: of another application's mail, mostly.
UNMATCHED_KEPT = timedelta(days=30)


def prune(seconds: float = LONGEST_RUN) -> None:
    """Delete idempotency keys past their 7 days, processes long gone, receipts that never found their notification, the
    rows of bulk actions that ended a month ago, and what RETENTION_DAYS says.

    Close circuits that nothing has tried for a day: their provider or their project's sender is another one by now,
    and they would be reported as open for ever.
    """
    end = time.monotonic() + seconds
    Circuit.objects.filter(open_until__lt=Now() - timedelta(days=1)).update(
        open_until=None, trips=0
    )
    Heartbeat.objects.filter(seen_at__lt=Now() - timedelta(days=1)).delete()
    SpentToken.objects.filter(spent_at__lt=Now() - TOKENS_KEPT).delete()
    prune_inbox_events(end)
    prune_counts(end)
    prune_unmatched_receipts(end)
    _delete_all(bulk_actions.old_rows(), end)
    keys = prune_keys(end)
    notifications = prune_notifications(end)
    if keys or notifications:
        log.info("pruned", idempotency_keys=keys, notifications=notifications)


def prune_keys(end: float) -> int:
    """Until `end` (of the monotonic clock). Returns how many."""
    age = timedelta(seconds=settings.IDEMPOTENCY_KEY_TTL)
    return _delete_all(IdempotencyKey.objects.filter(created_at__lt=Now() - age), end)


def prune_counts(end: float) -> int:
    """Figures that no page looks back at, until `end` (of the monotonic clock). Returns how many."""
    calls, span = CallCount.objects.all(), CallCount.Span
    old = (
        calls.filter(span=span.MINUTE, began_at__lt=Now() - counting.MINUTES_OF_CALLS_KEPT),
        calls.filter(span=span.HOUR, began_at__lt=Now() - counting.HOURS_OF_CALLS_KEPT),
        HourlyCount.objects.filter(hour__lt=Now() - counting.HOURS_KEPT),
        CountedHour.objects.filter(hour__lt=Now() - counting.HOURS_KEPT),
    )
    return sum(_delete_all(rows, end) for rows in old)


def prune_inbox_events(end: float) -> int:
    """Until `end` (of the monotonic clock). Returns how many. A client that still misses one of them starts anew."""
    age = timedelta(days=settings.INBOX_EVENTS_KEPT)
    return _delete_all(InboxEvent.objects.filter(at__lt=Now() - age), end)


def prune_unmatched_receipts(end: float) -> int:
    """Until `end` (of the monotonic clock). Returns how many."""
    old = Receipt.objects.filter(notification=None, received_at__lt=Now() - UNMATCHED_KEPT)
    return _delete_all(old, end)


def _delete_all(rows: QuerySet[Any], end: float) -> int:
    pruned = 0
    while _goes_on(end) and (chunk := list(rows.values_list("pk", flat=True)[:CHUNK])):
        rows.filter(pk__in=chunk).delete()
        pruned += len(chunk)
    return pruned


def prune_notifications(end: float) -> int:
    """Delete what has ended and is older than RETENTION_DAYS, with its attempts, until `end`. Returns how many.

    What another names in `resend_of` goes after that one, so the ledger is gone through until nothing more is found.
    """
    if settings.RETENTION_DAYS < SHORTEST_RETENTION_DAYS:
        return 0
    pruned = 0
    while found := sum(_prune_once(end)):
        pruned += found
    return pruned


def _prune_once(end: float) -> Iterator[int]:
    """Once through the old ones, in the order of their ids: what was deleted is not come across again."""
    last = ids.FIRST
    while _goes_on(end):
        with transaction.atomic():
            chunk = list(_old().filter(id__gt=last).values_list("id", flat=True)[:CHUNK])
            yield _delete(chunk)
        if len(chunk) < CHUNK:
            return
        last = chunk[-1]


def _goes_on(end: float) -> bool:
    """A worker that is to stop does not wait for this either."""
    return time.monotonic() < end and not stopping.is_stopping()


def _old() -> QuerySet[Notification]:
    """Accepted, due and ended that long ago, and not named by another. Locked, so that nobody resends them now."""
    before = timezone.now() - timedelta(days=settings.RETENTION_DAYS)
    newer = Notification.objects.filter(resend_of=OuterRef("id"))
    return (
        Notification.objects.filter(
            ~Exists(newer),
            # One that was unknown for long may have been settled a moment ago.
            Q(sent_at=None) | Q(sent_at__lt=before),
            id__lt=ids.first_of(before),
            status__in=Notification.FINISHED,
            due_at__lt=before,
        )
        .order_by("id")
        .select_for_update(skip_locked=True)
    )


def _delete(chunk: list[UUID]) -> int:
    """Those of the locked ones that nobody has resent while we came to lock them. Returns how many."""
    deletable = Notification.objects.filter(id__in=chunk, resent_as=None)
    numbering.remove(deletable.exclude(inbox_position=None).only(*_OF_INBOX))
    return deletable.only("id").delete()[1].get("notifications.Notification", 0)
