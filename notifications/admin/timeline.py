"""What happened to a notification, in order: accepted, each attempt, what operators did, where it was resent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.db.models import QuerySet
from django.urls import reverse

from notifications.admin.acts import RESENT
from notifications.models import Attempt, Notification

_TONES = {
    Attempt.Outcome.ACCEPTED: "good",
    Attempt.Outcome.TEMPORARY: "warning",
    Attempt.Outcome.PERMANENT: "bad",
    Attempt.Outcome.MISCONFIGURED: "bad",
    Attempt.Outcome.AMBIGUOUS: "warning",
}


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the timeline. `words` are somebody else's: a provider's, quoted as they came."""

    at: datetime
    title: str
    tone: str = "plain"
    facts: tuple[str, ...] = ()
    words: str = ""
    link: str = ""
    link_text: str = ""


def timeline(notification: Notification, attempts: Iterable[Attempt]) -> list[Event]:
    """Oldest first."""
    acts = list(_log_of(notification))
    made = [entry for entry in acts if entry.action_flag == ADDITION]
    resent = [entry for entry in acts if entry.get_change_message() == RESENT and entry not in made]
    events = [
        _accepted(notification, made),
        *(_attempt(number, attempt) for number, attempt in enumerate(attempts, start=1)),
        *_arrived(notification),
        *(_act(entry) for entry in acts if entry not in made and entry not in resent),
        *_resent(notification, resent),
    ]
    return sorted(events, key=lambda event: event.at)


def _log_of(notification: Notification) -> QuerySet[LogEntry]:
    """What staff did to it, from Django's own log."""
    return (
        LogEntry.objects.select_related("user")
        .filter(
            content_type=get_content_type_for_model(notification), object_id=str(notification.pk)
        )
        .order_by("action_time")
    )


def page_of(notification_id: object) -> str:
    return reverse("admin:notifications_notification_change", args=[notification_id])


def _accepted(notification: Notification, made: list[LogEntry]) -> Event:
    origin = notification.resend_of_id
    if origin:
        title, link, text = "Accepted as a resend", page_of(origin), f"of {origin}"
        return Event(notification.created_at, title, facts=_by(made), link=link, link_text=text)
    key = notification.api_key
    fact = f"by the API key {key}" if key else "without an API key"
    return Event(notification.created_at, "Accepted", facts=(fact,))


def _attempt(number: int, attempt: Attempt) -> Event:
    """The number counts calls; one for which our account was at fault costs the notification none."""
    outcome = attempt.get_outcome_display() if attempt.outcome else "No answer"
    facts = [attempt.provider]
    if attempt.duration_ms is not None:
        facts.append(f"{attempt.duration_ms:,} ms")
    if attempt.code:
        facts.append(f"code {attempt.code}")
    if attempt.provider_message_id:
        facts.append(f"its id {attempt.provider_message_id}")
    return Event(
        attempt.started_at,
        f"Call {number}: {outcome[0].lower()}{outcome[1:]}",
        tone=_TONES.get(Attempt.Outcome(attempt.outcome), "plain")
        if attempt.outcome
        else "warning",
        facts=tuple(facts),
        words=attempt.detail,
    )


def _arrived(notification: Notification) -> Iterator[Event]:
    if notification.delivered_at:
        yield Event(notification.delivered_at, "Delivered", tone="good")
    if notification.read_at:
        yield Event(notification.read_at, "Read", tone="good")


def _act(entry: LogEntry) -> Event:
    return Event(entry.action_time, entry.get_change_message(), tone="act", facts=_by([entry]))


def _resent(notification: Notification, resent: list[LogEntry]) -> Iterator[Event]:
    newer = getattr(notification, "resent_as", None)
    if newer:
        link, text = page_of(newer.pk), f"as {newer.pk}"
        yield Event(
            newer.created_at, "Resent", tone="act", facts=_by(resent), link=link, link_text=text
        )


def _by(entries: list[LogEntry]) -> tuple[str, ...]:
    return tuple(f"by {entry.user.get_username()}" for entry in entries)
