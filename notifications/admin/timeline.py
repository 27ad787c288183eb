"""What happened to a notification, in order: accepted, each attempt and receipt, what came of these for its address,
what operators did, where it was resent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.urls import reverse

from notifications.acts import RESENT
from notifications.explaining import duration
from notifications.models import Attempt, Notification, Receipt, Suppression
from notifications.providers.events import REFUSED, EventType

#: Of the acts of staff, the newest so many are shown.
MOST_ACTS = 100
#: A receipt that comes so long after what it tells says how long.
LATE = timedelta(seconds=10)

_TONES = {
    Attempt.Outcome.ACCEPTED: "good",
    Attempt.Outcome.TEMPORARY: "warning",
    Attempt.Outcome.PERMANENT: "bad",
    Attempt.Outcome.MISCONFIGURED: "bad",
    Attempt.Outcome.AMBIGUOUS: "warning",
}

_TONES_OF_RECEIPTS = {
    EventType.DELIVERED: "good",
    EventType.OPENED: "good",
    EventType.CLICKED: "good",
    EventType.DEFERRED: "warning",
    EventType.UNSUBSCRIBED: "warning",
    EventType.COMPLAINED: "bad",
    **dict.fromkeys(REFUSED, "bad"),
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


def timeline(
    notification: Notification,
    attempts: Iterable[Attempt],
    receipts: Sequence[Receipt] = (),
    suppression: Suppression | None = None,
) -> list[Event]:
    """Oldest first. `suppression` is that of its address, by whatever notification it came."""
    acts = _log_of(notification)
    made = [entry for entry in acts if entry.action_flag == ADDITION]
    resent = [entry for entry in acts if _is_resend(entry) and entry not in made]
    events = [
        _accepted(notification, made),
        *(_attempt(number, attempt) for number, attempt in enumerate(attempts, start=1)),
        *(_receipt(receipt) for receipt in receipts),
        *_arrived(notification, receipts),
        *_suppressed(notification, suppression),
        *(_act(entry) for entry in acts if entry not in made and entry not in resent),
        *_resent(notification, resent),
    ]
    return sorted(events, key=lambda event: event.at)


def _log_of(notification: Notification) -> list[LogEntry]:
    """What staff did to it, one by one or with many others, from Django's own log."""
    newest = (
        LogEntry.objects.select_related("user")
        .filter(
            content_type=get_content_type_for_model(notification), object_id=str(notification.pk)
        )
        .order_by("-action_time", "-id")
    )
    return list(newest[:MOST_ACTS])[::-1]


def _is_resend(entry: LogEntry) -> bool:
    return entry.get_change_message().startswith(RESENT)


def page_of(notification_id: object) -> str:
    return reverse("admin:notifications_notification_change", args=[notification_id])


def receipt_page(receipt_id: object) -> str:
    return reverse("admin:notifications_receipt_change", args=[receipt_id])


def suppression_page(suppression_id: object) -> str:
    return reverse("admin:notifications_suppression_change", args=[suppression_id])


def _accepted(notification: Notification, made: list[LogEntry]) -> Event:
    origin = notification.resend_of_id
    if origin:
        title, link, text = "Accepted as a resend", page_of(origin), f"of {origin}"
        return Event(
            notification.created_at, title, facts=_by(made) + _why(made), link=link, link_text=text
        )
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


def _receipt(receipt: Receipt) -> Event:
    facts = [receipt.provider]
    if receipt.reject_reason:
        facts.append(f"reason {receipt.reject_reason.replace('_', ' ')}")
    if receipt.code:
        facts.append(f"code {receipt.code}")
    delay = receipt.received_at - receipt.occurred_at
    if delay >= LATE:
        facts.append(f"came {duration(delay)} later")
    return Event(
        receipt.occurred_at,
        f"Receipt: {receipt.event}",
        tone=tone_of(receipt),
        facts=tuple(facts),
        words=receipt.detail,
        link=receipt_page(receipt.pk),
        link_text="as it came",
    )


def tone_of(receipt: Receipt) -> str:
    known = receipt.event in set(EventType)
    return _TONES_OF_RECEIPTS.get(EventType(receipt.event), "plain") if known else "plain"


def _suppressed(notification: Notification, suppression: Suppression | None) -> Iterator[Event]:
    if suppression is None or suppression.notification_id != notification.pk:
        return
    yield Event(
        suppression.created_at,
        f"Address suppressed: {short(suppression.reason)}",
        tone="warning",
        facts=(f"by {suppression.get_source_display().lower()}",),
        link=suppression_page(suppression.pk),
        link_text="on the list",
    )


def short(reason: str) -> str:
    """`hard bounce`, in the middle of a sentence."""
    return "STOP" if reason == Suppression.Reason.STOP else reason.replace("_", " ")


def _arrived(notification: Notification, receipts: Iterable[Receipt]) -> Iterator[Event]:
    said_already = any(receipt.event == EventType.DELIVERED for receipt in receipts)
    if notification.delivered_at and not said_already:
        yield Event(notification.delivered_at, "Delivered", tone="good")
    if notification.read_at:
        yield Event(notification.read_at, "Read", tone="good")
    if notification.archived_at:
        yield Event(notification.archived_at, "Archived by the person")


def _act(entry: LogEntry) -> Event:
    return Event(entry.action_time, entry.get_change_message(), tone="act", facts=_by([entry]))


def _resent(notification: Notification, resent: list[LogEntry]) -> Iterator[Event]:
    newer = getattr(notification, "resent_as", None)
    if newer:
        link, text = page_of(newer.pk), f"as {newer.pk}"
        yield Event(
            newer.created_at,
            "Resent",
            tone="act",
            facts=_by(resent) + _why(resent),
            link=link,
            link_text=text,
        )


def _by(entries: list[LogEntry]) -> tuple[str, ...]:
    return tuple(f"by {entry.user.get_username()}" for entry in entries)


def _why(entries: list[LogEntry]) -> tuple[str, ...]:
    """The reasons that were given, which stand behind what was done."""
    reasons = (entry.get_change_message().partition(": ")[2] for entry in entries)
    return tuple(f"because: {reason}" for reason in reasons if reason)
