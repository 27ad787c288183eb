"""Does it add up? Every accepted notification in one state, every sent one with its acceptance, each inbox's count with
what is in it, and the provider's own list of what it took beside ours.

The ledger is gone through in chunks of ids, so that millions of rows need little memory and no long transaction; what
must hold of each chunk are the invariants (invariants.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from notifications import ids, providers
from notifications.invariants import OF_HISTORY, OF_INBOXES, parameters
from notifications.models import Notification
from notifications.provider_log import ASKED_TOGETHER, ProviderLog, batches, key_of, notification_in

#: Notifications that are looked at together.
CHUNK = 10_000

# Where the next chunk begins.
BOUNDARY = """
SELECT id FROM notifications_notification WHERE id >= %(since)s AND id < %(until)s
ORDER BY id OFFSET %(chunk)s LIMIT 1
"""

STATUSES = """
SELECT status, count(*) FROM notifications_notification
WHERE id >= %(since)s AND id < %(until)s GROUP BY status
"""

ACCEPTED = """
SELECT n.sent_at IS NULL, a.notification_id, a.provider_message_id, a.provider = ANY(%(compared)s)
FROM notifications_attempt a JOIN notifications_notification n ON n.id = a.notification_id
WHERE a.notification_id >= %(since)s AND a.notification_id < %(until)s AND a.outcome = 'accepted'
ORDER BY a.notification_id
"""

MISSING_AT_PROVIDER = "missing_at_provider"
UNKNOWN_HERE = "unknown_here"
NOT_SENT_HERE = "not_sent_here"
NOT_OURS = "not_ours"

#: What each difference means. The others are invariants.
MEANINGS = {invariant.code: invariant.meaning for invariant in (*OF_HISTORY, *OF_INBOXES)} | {
    MISSING_AT_PROVIDER: "accepted by the provider, as we have it, but not in its log",
    UNKNOWN_HERE: "unknown here, and in the provider's log: it was sent",
    NOT_SENT_HERE: "in the provider's log, but not sent as we have it",
    NOT_OURS: "in the provider's log, but no notification of ours",
}

_SENT = {"sent", "delivered"}


@dataclass
class Difference:
    """How many, and the first of them: ids of notifications, or of the provider where there is none."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass
class Reconciliation:
    """What was counted. It adds up when there are no differences."""

    most: int
    statuses: Counter[str] = field(default_factory=Counter)
    #: Acceptances, by whether the notification was sent (it may have bounced since), or had been cancelled, failed or
    #: expired by then.
    accepted: int = 0
    accepted_late: int = 0
    #: Acceptances that cannot be looked up at the provider, which gave no id.
    without_id: int = 0
    in_log: int = 0
    differences: dict[str, Difference] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.statuses.total()

    @property
    def adds_up(self) -> bool:
        return not self.differences

    def differs(self, code: str, found: Iterable[object]) -> None:
        for each in found:
            difference = self.differences.setdefault(code, Difference())
            difference.count += 1
            if len(difference.first) < self.most:
                difference.first.append(str(each))


def reconcile(
    since: datetime | None = None,
    until: datetime | None = None,
    log: ProviderLog | None = None,
    provider: str = "",
    most: int = 20,
    progress: Callable[[int], None] = lambda count: None,
) -> Reconciliation:
    """Go through what was accepted in [since, until). At most `most` ids are named for each difference.

    `log` is compared with what `provider` accepted; without a name, with what any provider with a log did.
    """
    result = Reconciliation(most)
    compared = _compared(provider) if log else []
    for first, end in _chunks(since, until):
        _look_at(first, end, result, compared, log)
        progress(result.total)
    _look_at_inboxes(result)
    if log:
        result.in_log = len(log)
        for some in batches(log.not_known(), ASKED_TOGETHER):
            _look_up(some, result)
    return result


def _compared(provider: str) -> list[str]:
    """The inbox and the sandbox keep no log."""
    if provider:
        return [provider]
    return sorted(
        {name for channel in ("email", "sms") if (name := providers.for_channel(channel))}
    )


def _chunks(since: datetime | None, until: datetime | None) -> Iterator[tuple[UUID, UUID]]:
    first = ids.first_of(since) if since else ids.FIRST
    end = ids.first_of(until) if until else ids.LAST
    while boundary := _rows(BOUNDARY, {"since": first, "until": end, "chunk": CHUNK}):
        [(next_one,)] = boundary
        yield first, next_one
        first = next_one
    yield first, end


def _look_at(
    first: UUID, end: UUID, result: Reconciliation, compared: list[str], log: ProviderLog | None
) -> None:
    span = {"since": first, "until": end}
    result.statuses.update(dict(_rows(STATUSES, span)))
    for invariant in OF_HISTORY:
        broken = _rows(invariant.statement, parameters(None, CHUNK) | span)
        result.differs(invariant.code, (id for (id,) in broken))
    accepted = _rows(ACCEPTED, span | {"compared": compared})
    result.accepted += len(accepted)
    result.accepted_late += sum(is_unsent for is_unsent, *_ in accepted)
    if log:
        _compare([row[1:3] for row in accepted if row[3]], result, log)


def _look_at_inboxes(result: Reconciliation) -> None:
    """As they are now, all of which a change is kept, whenever what is in them was accepted."""
    for invariant in OF_INBOXES:
        broken = _rows(invariant.statement, parameters(None, CHUNK))
        result.differs(invariant.code, (id for (id,) in broken))


def _compare(accepted: list[Any], result: Reconciliation, log: ProviderLog) -> None:
    """Our (notification, the provider's id) beside the log."""
    pairs = [(id, key_of(written)) for id, written in accepted]
    result.without_id += sum(not key for _, key in pairs)
    found = log.know([key for _, key in pairs if key])
    result.differs(MISSING_AT_PROVIDER, (id for id, key in pairs if key and key not in found))


def _look_up(written: list[str], result: Reconciliation) -> None:
    """What the log has and the span has not: sent at another time, not known to be sent, or nobody's."""
    spelled = {spelling: each for each in written for spelling in _spellings(each)}
    elsewhere = Notification.objects.filter(provider_message_id__in=list(spelled))
    known = {
        spelled[spelling] for spelling in elsewhere.values_list("provider_message_id", flat=True)
    }
    named = {each: notification_in(each) for each in written if each not in known}
    asked = Notification.objects.filter(id__in=[id for id in named.values() if id])
    # What has bounced was sent before.
    statuses = {
        id: "sent" if sent_at else status
        for id, status, sent_at in asked.values_list("id", "status", "sent_at")
    }
    for each, id in named.items():
        status = statuses.get(id) if id else None
        if status is None:
            result.differs(NOT_OURS, [each])
        elif status not in _SENT:
            result.differs(UNKNOWN_HERE if status == "unknown" else NOT_SENT_HERE, [id])


def _spellings(written: str) -> set[str]:
    bare = written.strip().strip("\"'").removeprefix("<").removesuffix(">")
    return {bare, f"<{bare}>", key_of(written), f"<{key_of(written)}>"}


def _rows(statement: str, values: dict[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
