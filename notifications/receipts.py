"""Receipts: what became of a message after its provider took it, told in any order and any number of times.

`store()` keeps what a webhook has told, once for each event, and wakes a worker. `apply()` finds the notification and
moves it, forward only: pending, sending, unknown < sent < delivered < failed by a bounce. So the end does not depend on
the order in which receipts come, nor on whether our own SETTLE has been stored by then.

A receipt whose notification is not found stays, and is looked at again, each time after twice as long: a worker may be
about to learn the provider's id of it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from django.db import DataError, IntegrityError, connection, transaction

from notifications import suppressions
from notifications.models import Suppression
from notifications.providers.events import (
    ACCEPTED,
    ARRIVED,
    REFUSED,
    Event,
    EventType,
    Forged,
    RejectReason,
    Told,
)
from notifications.retry import Verdict
from notifications.storable import storable
from notifications.suppressions import Learned
from notifications.waking import RECEIPTS, wake

log = structlog.get_logger(__name__)

#: The advisory lock's number: "receipt" in ASCII.
LOCK = 0x72656365697074
#: Receipts one transaction applies at most, so that its locks are short.
CHUNK = 1000
#: Seconds until the second look at one whose notification was not found, and the longest wait between two looks.
FIRST_WAIT, LONGEST_WAIT = 2.0, 86_400.0
#: Characters of what came that are kept of each event.
LONGEST_RAW = 64 * 1024

_KEEP = """
INSERT INTO notifications_receipt
    (provider, event_id, event, reject_reason, code, detail, occurred_at, named_id, provider_message_id, raw)
SELECT %(provider)s, event_id, event, reject_reason, code, detail,
       coalesce(occurred_at, clock_timestamp()), named_id, message_id, raw
FROM unnest(
    %(event_ids)s::text[], %(events)s::text[], %(reasons)s::text[], %(codes)s::text[], %(details)s::text[],
    %(times)s::timestamptz[], %(named)s::uuid[], %(message_ids)s::text[], %(raws)s::text[]
) AS told (event_id, event, reject_reason, code, detail, occurred_at, named_id, message_id, raw)
{condition}
ORDER BY event_id
ON CONFLICT (provider, event_id) DO NOTHING
"""
KEEP = _KEEP.format(condition="")

# The same token with the same body is the vendor, who repeats itself; with another body it is somebody else. In one
# statement, which is a transaction by itself: of a webhook's time, round trips to the database were measured at four fifths.
KEEP_ONCE = f"""
WITH spent AS (
    INSERT INTO notifications_spenttoken AS known (token, digest) VALUES (%(token)s, %(digest)s)
    ON CONFLICT (token) DO UPDATE SET digest = known.digest
    RETURNING digest = %(digest)s AS by_the_same
), kept AS ({_KEEP.format(condition="WHERE (SELECT by_the_same FROM spent)")})
SELECT by_the_same FROM spent
"""  # noqa: S608  (constants)

# By our own id, which travelled with the message; else by the provider's.
_DUE = """
SELECT due.id, due.event, due.reject_reason, due.code, due.detail, due.occurred_at, due.provider_message_id,
       coalesce(
           (SELECT id FROM notifications_notification WHERE id = due.named_id),
           (SELECT id FROM notifications_notification
            WHERE provider_message_id = due.provider_message_id AND provider_message_id <> ''
              AND provider = due.provider
            LIMIT 1)
       )
FROM (
    SELECT * FROM notifications_receipt WHERE applied_at IS NULL AND due_at <= now()
    ORDER BY due_at LIMIT %(chunk)s
) due
"""

# In one order for all, as SETTLE and forgetting do, so that it cannot deadlock with them.
_LOCK_NOTIFICATIONS = """
SELECT id, channel FROM notifications_notification WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
"""

# Forward only. Nothing is written over what has ended otherwise: the receipt alone then records it.
_MOVE = """
UPDATE notifications_notification n
SET status = told.status, leased_until = NULL, lapses = 0, review_at = NULL,
    provider_message_id = CASE WHEN n.provider_message_id <> '' THEN n.provider_message_id ELSE told.message_id END,
    sent_at = coalesce(n.sent_at, moment),
    delivered_at = CASE told.status WHEN 'delivered' THEN least(told.occurred_at, moment) END,
    failure_kind = told.kind, failure_code = told.code,
    failure_detail = CASE WHEN n.erased_at IS NULL THEN told.detail ELSE '' END
FROM unnest(
    %(ids)s::uuid[], %(statuses)s::text[], %(times)s::timestamptz[], %(message_ids)s::text[],
    %(kinds)s::text[], %(codes)s::text[], %(details)s::text[]
) AS told (id, status, occurred_at, message_id, kind, code, detail),
(SELECT clock_timestamp() AS moment) AS clock
WHERE n.id = told.id AND (
    n.status IN ('pending', 'sending', 'unknown')
    OR (n.status = 'sent' AND told.status IN ('delivered', 'failed'))
    OR (n.status = 'delivered' AND told.status = 'failed')
)
"""

# Of a person who is forgotten by now, nothing is kept that may hold the address.
_MARK_APPLIED = """
UPDATE notifications_receipt r
SET notification_id = n.id, applied_at = clock_timestamp(),
    detail = CASE WHEN n.erased_at IS NULL THEN r.detail ELSE '' END,
    raw = CASE WHEN n.erased_at IS NULL THEN r.raw ELSE '' END
FROM unnest(%(receipts)s::bigint[], %(ids)s::uuid[]) AS found (receipt_id, id)
JOIN notifications_notification n ON n.id = found.id
WHERE r.id = found.receipt_id
"""

_POSTPONE = """
UPDATE notifications_receipt
SET due_at = clock_timestamp() + least(
        greatest(clock_timestamp() - received_at, make_interval(secs => %(first)s)),
        make_interval(secs => %(longest)s))
WHERE id = ANY(%(receipts)s) AND applied_at IS NULL
"""


# --- Storing ---------------------------------------------------------------------------------------------


def store(provider: str, told: Told, body: bytes = b"") -> None:
    """Keep what a webhook with this body has told, and have a worker apply it. What is known already changes nothing.

    Raises Forged where its one-use token came with another body before; nothing is stored then.
    """
    values = _values(provider, told.events)
    if not told.token:
        _execute(KEEP, **values)
    else:
        _keep_once(f"{provider}:{told.token}", hashlib.sha256(body).digest(), values)
    transaction.on_commit(lambda: wake(RECEIPTS), robust=True)


def note_answer(provider: str, notification_id: UUID, verdict: Verdict) -> None:
    """What the provider's own answer to a call tells beyond its outcome: of the address, of what becomes of the message."""
    if verdict.reject_reason:
        _learn_from_refusal(notification_id, verdict)
    if verdict.events:
        store(provider, Told(events=verdict.events))


def _learn_from_refusal(notification_id: UUID, verdict: Verdict) -> None:
    words = storable(f"{verdict.code}: {verdict.detail}")
    for _, channel in _rows(_LOCK_NOTIFICATIONS, {"ids": [notification_id]}):
        reason = suppressions.reason_in(channel, EventType.REJECTED, verdict.reject_reason)
        if reason:
            learned = [Learned(notification_id, reason, words)]
            suppressions.learn(learned, Suppression.Source.REFUSAL)


def _keep_once(token: str, digest: bytes, values: dict[str, Any]) -> None:
    [(by_the_same,)] = _rows(KEEP_ONCE, values | {"token": storable(token)[:255], "digest": digest})
    if not by_the_same:
        raise Forged("the token was used before, with another body")


def _values(provider: str, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "provider": provider,
        "event_ids": [storable(event.event_id)[:255] for event in events],
        "events": [str(event.event) for event in events],
        "reasons": [str(event.reject_reason or "") for event in events],
        "codes": [storable(event.code)[:100] for event in events],
        "details": [storable(event.detail)[:2000] for event in events],
        "times": [event.occurred_at for event in events],
        "named": [event.notification_id for event in events],
        "message_ids": [storable(event.provider_message_id)[:255] for event in events],
        "raws": [storable(event.raw)[:LONGEST_RAW] for event in events],
    }


# --- What receipts mean: pure ---------------------------------------------------------------------------

_RANK = {"": 0, "sent": 1, "delivered": 2, "failed": 3}
#: Another address might do; the same one will not.
_FOR_GOOD = frozenset(
    {RejectReason.INVALID, RejectReason.BOUNCED, RejectReason.SPAM, RejectReason.UNSUBSCRIBED}
)


@dataclass(frozen=True, slots=True)
class Found:
    """A receipt with its notification. The fields are those that _DUE selects."""

    id: int
    event: str
    reject_reason: str
    code: str
    detail: str
    occurred_at: datetime
    provider_message_id: str
    notification_id: UUID | None

    @property
    def status(self) -> str:
        """What it makes of its notification; "" where it says nothing about that."""
        if self.event in REFUSED:
            return "failed"
        if self.event in ARRIVED:
            return "delivered"
        return "sent" if self.event in ACCEPTED else ""

    @property
    def failure(self) -> tuple[str, str, str]:
        """(kind, code, detail) of the notification, all empty where it has not failed."""
        if self.status != "failed":
            return "", "", ""
        kind = "permanent" if self.reject_reason in _FOR_GOOD else "temporary"
        return kind, self.code or self.event, self.detail


def farthest(receipts: Iterable[Found]) -> Found:
    """The one that brings the notification farthest; of several, the one that happened first."""
    return min(receipts, key=lambda each: (-_RANK[each.status], each.occurred_at, each.id))


# --- Applying --------------------------------------------------------------------------------------------


def apply_all(stopping: Callable[[], bool] = lambda: False) -> int:
    """Apply what is due, chunk by chunk, until nothing is or `stopping` says so. Returns how many were applied."""
    applied = 0
    while not stopping():
        looked_at, found = apply()
        applied += found
        if looked_at < CHUNK:
            break
    return applied


def apply() -> tuple[int, int]:
    """Apply one chunk. Returns how many were looked at, and of how many the notification was found.

    One at a time, over all workers: (0, 0) while another is at it, which does not end before it finds nothing more.
    """
    with transaction.atomic():
        [(is_alone,)] = _rows("SELECT pg_try_advisory_xact_lock(%(lock)s)", {"lock": LOCK})
        if not is_alone:
            return 0, 0
        due = [Found(*row) for row in _rows(_DUE, {"chunk": CHUNK})]
        found = _apply_what_can_be(due)
        left = [each.id for each in due if each not in found]
        if left:
            _execute(_POSTPONE, receipts=left, first=FIRST_WAIT, longest=LONGEST_WAIT)
    if found:
        log.info("receipts_applied", count=len(found), not_found=len(left))
    return len(due), len(found)


def _apply_what_can_be(due: list[Found]) -> set[Found]:
    """Those that were applied. One that cannot be stored must not hold up the others; it is looked at again later."""
    try:
        with transaction.atomic():
            return _apply(due)
    except (DataError, IntegrityError):
        if len(due) == 1:
            log.exception("receipt_refused", receipt=due[0].id)
            return set()
        return set().union(*(_apply_what_can_be([each]) for each in due))


def _apply(due: list[Found]) -> set[Found]:
    """Those whose notification is there."""
    named = [each.notification_id for each in due if each.notification_id]
    channels = dict(_rows(_LOCK_NOTIFICATIONS, {"ids": named})) if named else {}
    found = [each for each in due if each.notification_id in channels]
    if found:
        _move(found)
        suppressions.learn(list(_learned(found, channels)), Suppression.Source.RECEIPT)
        ids = [each.notification_id for each in found]
        _execute(_MARK_APPLIED, receipts=[each.id for each in found], ids=ids)
    return set(found)


def _move(found: Iterable[Found]) -> None:
    of_notification = defaultdict(list)
    for each in found:
        of_notification[each.notification_id].append(each)
    deciding = [farthest(receipts) for receipts in of_notification.values()]
    moving = [each for each in deciding if each.status]
    failures = [each.failure for each in moving]
    _execute(
        _MOVE,
        ids=[each.notification_id for each in moving],
        statuses=[each.status for each in moving],
        times=[each.occurred_at for each in moving],
        message_ids=[each.provider_message_id for each in moving],
        kinds=[kind for kind, _, _ in failures],
        codes=[code for _, code, _ in failures],
        details=[detail for _, _, detail in failures],
    )


def _learned(found: Iterable[Found], channels: dict[UUID, str]) -> Iterator[Learned]:
    for each in found:
        assert each.notification_id
        channel = channels[each.notification_id]
        reason = suppressions.reason_in(channel, each.event, each.reject_reason)
        if reason:
            yield Learned(each.notification_id, reason, each.detail, each.id)


def _rows(statement: str, values: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def _execute(statement: str, **values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
