"""What is around a notification, gathered for explaining.py: its calls and receipts, and what may hold it back.

The console's page, the API's `/explain` and a dry run all ask here, so that they never tell different stories.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifications import pace, pausing, providers, suppressions
from notifications.explaining import explain, held_by
from notifications.models import (
    SANDBOX_LANE,
    Attempt,
    Channel,
    Circuit,
    Notification,
    Pause,
    Receipt,
    Status,
    Suppression,
)

#: Of the receipts, the newest so many are read: a newsletter may be opened thousands of times.
MOST_RECEIPTS = 100


@dataclass(frozen=True, slots=True)
class Explanation:
    """`sentence` says why it is where it is and what comes next; `held_by` what keeps a waiting one (explaining.held_by).

    `attempts` and `receipts` in order, of the latter the newest `MOST_RECEIPTS`; `suppression` is that of its address.
    """

    sentence: str
    held_by: str
    attempts: list[Attempt]
    receipts: list[Receipt]
    suppression: Suppression | None


def explanation_of(
    notification: Notification, now: datetime, *, names_staff: bool = True
) -> Explanation:
    """Asks what it needs: some eight small queries, fewer where project, flow, batch and resend come with the row.

    `names_staff`: whether who paused something, and that person's words, may be told.
    """
    attempts = list(notification.attempts.all())
    receipts = _receipts_of(notification)
    suppression = suppressions.find(
        notification.project_id, notification.channel, notification.address
    )
    holders = _holders_of(notification, names_staff)
    sentence = explain(
        notification,
        attempts[-1] if attempts else None,
        now,
        resent=hasattr(notification, "resent_as"),
        policy=notification.project.unknown_policy,
        receipts=receipts,
        suppression=suppression,
        **holders,
    )
    return Explanation(
        sentence=sentence,
        held_by=held_by(
            notification, now, suppression=_stopping(notification, suppression), **holders
        ),
        attempts=attempts,
        receipts=receipts,
        suppression=suppression,
    )


def _receipts_of(notification: Notification) -> list[Receipt]:
    newest = notification.receipts.order_by("-occurred_at", "-id").defer("raw")
    return list(newest[:MOST_RECEIPTS])[::-1]


def _stopping(notification: Notification, suppression: Suppression | None) -> Suppression | None:
    """The one that stops it (suppressions.stopped_by): a mandatory category goes out in spite of some."""
    is_mandatory = notification.category in notification.project.mandatory_categories
    if suppression and is_mandatory and suppression.reason not in Suppression.ABSOLUTE:
        return None
    return suppression


def _holders_of(notification: Notification, names_staff: bool) -> dict[str, Any]:
    """What may keep a waiting notification from going out; of any other, nothing is asked."""
    flow = notification.flow
    if notification.status != Status.PENDING:
        return {"batch": flow.batch}
    pause = pausing.holding(flow.lane, providers.of_lane(flow.lane) or "")
    return {
        "batch": flow.batch,
        "paused": flow.paused,
        "pause": pause if names_staff or pause is None else _without_names(pause),
        "circuit": _open_circuit_of(notification),
        "limits": pace.limits(flow),
    }


def _without_names(pause: Pause) -> Pause:
    return Pause(target=pause.target, paused_at=pause.paused_at)


def _open_circuit_of(notification: Notification) -> Circuit | None:
    """The one that keeps it from being claimed (queue.SENDER)."""
    if notification.flow.lane == SANDBOX_LANE:
        return None
    provider = providers.for_channel(notification.channel)
    sender = notification.project.from_email if notification.channel == Channel.EMAIL else ""
    of_sender = Circuit.objects.filter(provider=provider or "", sender=sender)
    return of_sender.filter(open_until__isnull=False).first()
