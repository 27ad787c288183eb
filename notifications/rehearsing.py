"""A dry run: what would become of a notification if it were sent now. Stores nothing.

Who is meant, whether they can be reached and what is refused is decided by the same functions as in intake.py, so that a
rehearsal that succeeds is a promise, as long as nothing changes in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications import providers, suppressions
from notifications.circumstances import explanation_of
from notifications.content import message_of
from notifications.intake import Submission, destination_of, lane_for, planned
from notifications.models import SANDBOX_LANE, Channel, Flow, Notification
from notifications.providers.base import Message
from notifications.retry import lifetime
from notifications.sms_segments import segments
from users.directory import Destination
from users.models import Project


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The `notification` as it would be stored, which it is not; the `message` as its `provider` would get it.

    `makes_user`: its recipient is not known yet and would be made. `sms_segments` is None but for an SMS.
    """

    notification: Notification
    message: Message
    provider: str
    makes_user: bool
    sms_segments: int | None
    explanation: str
    held_by: str


def rehearse(submission: Submission) -> Rehearsal:
    """What `intake.submit()` would do. Does not look at the idempotency key.

    Raises what `submit()` raises: Refused, and Conflict for a suppressed address.
    """
    lane = lane_for(submission.channel, submission.priority, submission.live)
    destination = destination_of(submission, in_sandbox=lane == SANDBOX_LANE)
    _refuse_suppressed(submission, destination)
    notification = _as_it_would_be(submission, lane, destination)
    message = message_of(notification)
    is_sms = submission.channel == Channel.SMS
    explanation = explanation_of(notification, timezone.now(), names_staff=False)
    return Rehearsal(
        notification=notification,
        message=message,
        provider=providers.of_lane(lane) or "",
        makes_user=destination.recipient_id is None,
        sms_segments=segments(message.text).count if is_sms else None,
        explanation=explanation.sentence,
        held_by=explanation.held_by,
    )


def _refuse_suppressed(submission: Submission, destination: Destination) -> None:
    asked = [planned(submission, destination)]
    for refusal in suppressions.refusals_among(submission.project_id, asked).values():
        raise refusal


def _as_it_would_be(submission: Submission, lane: str, destination: Destination) -> Notification:
    project = Project.objects.get(pk=submission.project_id)
    flow = Flow.objects.filter(project=project, lane=lane, batch=None).first()
    now = timezone.now()
    due_at = max(submission.scheduled_for or now, now)
    return Notification(
        id=uuid7(),
        project=project,
        flow=flow or Flow(project=project, lane=lane),
        # Of who comes with a new address, the id would be one of ours, and another each time.
        user_id="" if destination.new_address else destination.user_id,
        channel=submission.channel,
        priority=submission.priority,
        live=submission.live,
        address=destination.address,
        title=submission.title,
        message=submission.message,
        html=submission.html,
        url=submission.url,
        category=submission.category,
        reference=submission.reference,
        metadata=submission.metadata,
        created_at=now,
        scheduled_for=submission.scheduled_for,
        due_at=due_at,
        expires_at=submission.expires_at or _end_of(submission, due_at),
    )


def _end_of(submission: Submission, due_at: datetime) -> datetime | None:
    lasts = lifetime(submission.channel, submission.priority)
    return due_at + lasts if lasts else None
