"""After a restore: the database does not know what was sent since the backup.

What waited or was under way then would go out once more. So it is made `unknown`, which is what it is, and held:
nothing of it moves until an operator has decided, with the provider's log beside it.

And an inbox would give the numbers of changes that browsers have seen to others: who comes back with number 150 would be
told of 151, and never of what is now 120. So all inboxes go on far ahead, and their clients load their lists anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

#: Rows a statement changes at most, so that its locks are short.
CHUNK = 5000

HOLD_SENDING = """
UPDATE notifications_notification SET status = 'unknown', leased_until = NULL, review_at = NULL
WHERE id IN (
    SELECT id FROM notifications_notification
    WHERE leased_until IS NOT NULL AND (status = 'sending' OR due_at <= now()) LIMIT %(chunk)s
)
"""

HOLD_DUE = """
UPDATE notifications_notification SET status = 'unknown', review_at = NULL
WHERE id IN (
    SELECT due.id FROM notifications_flow flow CROSS JOIN LATERAL (
        SELECT id FROM notifications_notification
        WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
        ORDER BY due_at LIMIT %(chunk)s
    ) due
    LIMIT %(chunk)s
)
"""

# The policy must not send them either.
HOLD_UNKNOWN = """
UPDATE notifications_notification SET review_at = NULL
WHERE id IN (
    SELECT id FROM notifications_notification
    WHERE review_at IS NOT NULL AND status = 'unknown' LIMIT %(chunk)s
)
"""

#: More changes than any inbox has had since the backup, and than a stream tells one by one (streaming/feeding.py).
AHEAD = 1_000_000

MOVE_INBOXES_AHEAD = """
WITH forgotten AS (DELETE FROM notifications_inboxevent)
UPDATE notifications_inbox SET position = position + %(ahead)s
"""


@dataclass(frozen=True, slots=True)
class Held:
    """How many were being sent, were due, and were unknown with a policy to decide; and how many inboxes there are."""

    sending: int
    due: int
    unknown: int
    inboxes: int


def hold() -> Held:
    """Hold all that may have gone out since the backup. No worker may run meanwhile."""
    inboxes = _execute(MOVE_INBOXES_AHEAD, {"ahead": AHEAD})
    return Held(_all(HOLD_SENDING), _all(HOLD_DUE), _all(HOLD_UNKNOWN), inboxes)


def _all(statement: str) -> int:
    """Again until it finds no more."""
    held = 0
    while found := _execute(statement, {"chunk": CHUNK}):
        held += found
    return held


def _execute(statement: str, values: dict[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)
