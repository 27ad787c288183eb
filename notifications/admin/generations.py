"""A notification and its resends, of which each is a notification of its own: the whole chain, from the first one on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import JSONField
from django.db.models.expressions import RawSQL

from notifications.models import Notification, Status

#: So many are looked for before it, and behind it.
MOST = 50

# By the primary key to the one it was resent from, by the unique index of resend_of to the one that it was resent as.
_CHAIN = """
WITH RECURSIVE earlier (id, resend_of_id, steps) AS (
    SELECT notifications_notification.id, notifications_notification.resend_of_id, 0
    UNION ALL
    SELECT n.id, n.resend_of_id, steps + 1
    FROM earlier JOIN notifications_notification n ON n.id = earlier.resend_of_id WHERE steps < %s
), later (id, steps) AS (
    SELECT notifications_notification.id, 0
    UNION ALL
    SELECT n.id, steps + 1
    FROM later JOIN notifications_notification n ON n.resend_of_id = later.id WHERE steps < %s
)
SELECT jsonb_agg(jsonb_build_array(n.id, n.status, n.created_at) ORDER BY place)
FROM (SELECT id, -steps AS place FROM earlier UNION SELECT id, steps FROM later) AS chain
JOIN notifications_notification n USING (id)
"""


@dataclass(frozen=True, slots=True)
class Generation:
    """One of the chain."""

    id: UUID
    status: Status
    created_at: datetime


def chain_beside() -> RawSQL:
    """An expression that reads the chain together with its notification, which saves the page a query."""
    return RawSQL(_CHAIN, (MOST, MOST), output_field=JSONField())  # noqa: S611  (a constant)


def generations(notification: Notification) -> list[Generation]:
    """The oldest first; empty where it was never resent and is no resend. It was read with `chain=chain_beside()`."""
    chain = notification.chain  # type: ignore[attr-defined]
    if len(chain) == 1:
        return []
    return [
        Generation(UUID(id), Status(status), datetime.fromisoformat(at)) for id, status, at in chain
    ]
