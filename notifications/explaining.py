"""Why a notification is where it is, and what happens next: one plain sentence or two. Pure.

Operators read it in the admin; whoever shows a notification to people can use it as well. It tells what the
engine's own rules (queue.py, sweeping.py, retry.py, receipts.py) will do, and decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifications.models import (
    GIVEN_UP,
    Attempt,
    Batch,
    Channel,
    Circuit,
    FailureKind,
    Notification,
    Pause,
    Receipt,
    Status,
    Suppression,
)
from notifications.providers.events import ACCEPTED, ARRIVED, REFUSED, EventType
from notifications.retry import resends_from_unknown

#: A provider's words are quoted up to here; the attempt or the receipt has them in full.
LONGEST_QUOTE = 200

_SIMULATED = " The sandbox only simulates: nothing has left the machine."

#: What a receipt says, after "reported that".
_REPORTED = {
    EventType.QUEUED: "it took it",
    EventType.SENT: "it passed it on",
    EventType.DEFERRED: "the other side wants it later",
    EventType.REJECTED: "it would not send it",
    EventType.FAILED: "it could not send it",
    EventType.BOUNCED: "it bounced",
    EventType.DELIVERED: "it arrived",
    EventType.AUTORESPONDED: "an automatic answer came back",
    EventType.OPENED: "it was opened",
    EventType.CLICKED: "a link in it was clicked",
    EventType.COMPLAINED: "the person called it spam",
    EventType.UNSUBSCRIBED: "the person wants no more",
}


@dataclass(frozen=True, slots=True)
class _Told:
    """What the receipts of a notification tell: of each kind the one that counts."""

    accepted: Receipt | None
    arrived: Receipt | None
    refused: Receipt | None
    objection: Receipt | None

    @classmethod
    def by(cls, receipts: Iterable[Receipt]) -> _Told:
        told = sorted(receipts, key=lambda receipt: receipt.occurred_at)
        return cls(
            accepted=_first(reversed(told), ACCEPTED),
            arrived=_first(told, ARRIVED),
            refused=_first(told, REFUSED),
            objection=_first(told, (EventType.COMPLAINED, EventType.UNSUBSCRIBED)),
        )


def _first(receipts: Iterable[Receipt], events: Iterable[str]) -> Receipt | None:
    return next((receipt for receipt in receipts if receipt.event in events), None)


def explain(
    notification: Notification,
    last: Attempt | None,
    now: datetime,
    *,
    paused: bool = False,
    resent: bool = False,
    policy: str = "",
    circuit: Circuit | None = None,
    limits: str = "",
    receipts: Sequence[Receipt] = (),
    suppression: Suppression | None = None,
    batch: Batch | None = None,
    pause: Pause | None = None,
) -> str:
    """`last` is the newest attempt; `paused` whether its flow is; `resent` whether a newer one took its place;
    `policy` its project's for `unknown` ones (users.models.UnknownPolicy); `circuit` the open one that holds it;
    `limits` the rates of its flow and provider, in sentences (pace.limits); `receipts` what came of it; `suppression`
    that of its address; `batch` the one of which it is a row; `pause` the one of its lane or provider.
    """
    if notification.erased_at:
        return f"Erased {ago(notification.erased_at, now)}: the person was forgotten, and nothing is left to send."
    told = _Told.by(receipts)
    match notification.status:
        case Status.PENDING:
            waiting = _pending(notification, last, now, paused, circuit, limits, batch, pause)
            return f"{waiting}{_never_to_go(notification, now, suppression)}"
        case Status.SENDING:
            return f"Being sent: {_provider(notification)} has had it for {_since(last, now)}."
        case Status.SENT:
            return _sent(notification, last, now, told)
        case Status.DELIVERED:
            return _delivered(notification, last, now, told, suppression)
        case Status.FAILED:
            return _failed(notification, last, now, resent, told, suppression)
        case Status.CANCELLED:
            return _cancelled(notification, last, now, told, suppression)
        case Status.EXPIRED:
            return _expired(notification, last, now, told)
        case _:
            return _unknown(notification, last, now, resent, policy)


def held_by(
    notification: Notification,
    now: datetime,
    *,
    paused: bool = False,
    circuit: Circuit | None = None,
    limits: str = "",
    batch: Batch | None = None,
    pause: Pause | None = None,
    suppression: Suppression | None = None,
) -> str:
    """What keeps a waiting notification from going out: `expiry`, `worker` (one has just taken it), `suppression`, `batch`,
    `pause` (of its lane or provider), `flow`, `schedule` (its time is ahead), `circuit` or `rate`; empty: nothing does.
    """
    is_ahead = notification.due_at > now
    reasons = {
        "expiry": _is_too_late(notification, now),
        "worker": bool(notification.leased_until and notification.leased_until > now),
        "suppression": suppression is not None,
        "batch": bool(batch and batch.status != Batch.Status.RUNNING),
        "pause": pause is not None,
        "flow": paused,
        "schedule": is_ahead,
        "circuit": circuit is not None,
        "rate": bool(limits),
    }
    is_waiting = notification.status == Status.PENDING and not notification.erased_at
    return next((name for name, holds in reasons.items() if is_waiting and holds), "")


def _pending(
    notification: Notification,
    last: Attempt | None,
    now: datetime,
    paused: bool,
    circuit: Circuit | None,
    limits: str,
    batch: Batch | None,
    pause: Pause | None,
) -> str:
    holder = held_by(
        notification,
        now,
        paused=paused,
        circuit=circuit,
        limits=limits,
        batch=batch,
        pause=pause,
    )
    match holder:
        case "expiry":
            return f"Too late: it was worth sending until {moment(notification.expires_at)}, and expires within seconds."
        case "worker":
            return "Being prepared: a worker has just taken it."
        case "batch" if batch:
            return _waits_for(batch)
        case "pause" if pause:
            return f"Held: {paused_by(pause, now)}. It goes out once that is resumed.{_until(notification)}"
        case "flow":
            return f"Held: its flow is paused. It goes out once somebody lets the flow run again.{_until(notification)}"
        case "circuit" if circuit:
            return f"Held: {trouble(circuit, now)}. That costs it no attempt.{_until(notification)}"
        case "rate":
            return f"Waiting for its turn. {limits}{_until(notification)}"
    when = _when(notification, last, now)
    held = f" At present {trouble(circuit, now)}." if circuit else ""
    return f"{when}{_in_brackets(notification, last)}.{held}{_until(notification)}"


def paused_by(pause: Pause, now: datetime) -> str:
    """What is paused, for how long, by whom and why."""
    who = f" by {pause.paused_by}" if pause.paused_by else ""
    reason = f": '{_quoted('', pause.reason)}'" if pause.reason else ""
    since = duration(now - pause.paused_at)
    return f"{pause.target} is paused for {since} now{who}{reason}"


def _waits_for(batch: Batch) -> str:
    words = f"It waits: its batch '{batch.name}' is"
    match batch.status:
        case Batch.Status.LOADING:
            return f"{words} still being loaded."
        case Batch.Status.READY if batch.starts_by_itself and batch.scheduled_for:
            return f"{words} ready, and starts at {moment(batch.scheduled_for)}."
        case Batch.Status.READY:
            return f"{words} ready, and was not started yet."
        case Batch.Status.CANCELLED:
            return f"It does not go out: its batch '{batch.name}' is cancelled, and so is this within seconds."
        case _:
            return f"{words} {batch.status}."


def _is_too_late(notification: Notification, now: datetime) -> bool:
    return notification.expires_at is not None and notification.expires_at <= now


def trouble(circuit: Circuit, now: datetime) -> str:
    """Why nothing is sent through an open circuit, since when, and when that is tried again."""
    since = f", for {duration(now - circuit.opened_at)} now" if circuit.opened_at else ""
    words = _quoted(circuit.code, circuit.detail)
    in_brackets = f" ({words})" if words else ""
    return f"{_what_is_wrong(circuit)}{since}{in_brackets}; next try {next_try(circuit, now)}"


def _what_is_wrong(circuit: Circuit) -> str:
    provider, sender = circuit.provider, circuit.sender
    of_sender = f" with the sender {sender}" if sender else ""
    match circuit.cause:
        case Circuit.Cause.REFUSED:
            return f"{provider} refuses our account{f' or the sender {sender}' if sender else ''}"
        case Circuit.Cause.THROTTLED:
            return f"{provider} wants a pause{of_sender}"
        case Circuit.Cause.UNREACHABLE:
            return f"{provider} cannot be reached{of_sender}"
        case _:
            return f"too many calls to {provider}{of_sender} fail"


def next_try(circuit: Circuit, now: datetime) -> str:
    """When a probe goes out: one waiting notification, by whose answer the circuit closes or stays open."""
    if circuit.open_until and circuit.open_until > now:
        return ahead(circuit.open_until, now)
    return "with the next one due"


def _when(notification: Notification, last: Attempt | None, now: datetime) -> str:
    if notification.due_at > now:
        what = "next attempt" if last else "to be sent"
        return f"Waiting: {what} {ahead(notification.due_at, now)}"
    overdue = now - notification.due_at
    if overdue < timedelta(seconds=2):
        return "Waiting: due now"
    return f"Waiting for a worker: overdue by {duration(overdue)}"


def _in_brackets(notification: Notification, last: Attempt | None) -> str:
    if last is None:
        return (
            f" (as scheduled, {moment(notification.due_at)})" if notification.scheduled_for else ""
        )
    if last.outcome == Attempt.Outcome.MISCONFIGURED:
        return f" ({_said(last)}; that is our account's fault and costs no attempt)"
    return f" (attempt {notification.attempt_count + 1}; {_said(last)})"


def _until(notification: Notification) -> str:
    until = notification.expires_at
    return f" It is given up at {moment(until)}." if until else ""


def _never_to_go(notification: Notification, now: datetime, suppression: Suppression | None) -> str:
    """What the claim does to a waiting one (queue.CANCEL_SUPPRESSED)."""
    if suppression is None or _is_too_late(notification, now):
        return ""
    words = f"its address is suppressed ({suppression.reason})"
    return f" But {words}: it is cancelled instead of sent{_unless(notification, suppression)}."


def _unless(notification: Notification, suppression: Suppression) -> str:
    """The exception from a suppression, where one is possible (suppressions.stopped_by)."""
    certain = suppression.reason in Suppression.ABSOLUTE or not notification.category
    return "" if certain else ", unless its category is mandatory"


def _sent(notification: Notification, last: Attempt | None, now: datetime, told: _Told) -> str:
    if notification.settled_by_hand and not (_accepted(last) or told.accepted):
        when = ago(notification.sent_at, now)
        return f"Sent, on an operator's word {when}: it arrived. {_provider(notification)} has not said so ({_said(last)})."
    sent = f"Sent: {_provider(notification)} accepted it {ago(notification.sent_at, now)}."
    if notification.provider == "sandbox":
        return f"{sent}{_SIMULATED}"
    if notification.provider == "smtp":
        return f"{sent} SMTP tells nothing after that: whether it arrived is not known."
    settled = _settled_by(told.accepted, last)
    return f"{sent}{settled} No receipt has come yet that says whether it arrived{_deferred(told, now)}."


def _deferred(told: _Told, now: datetime) -> str:
    if told.accepted is None or told.accepted.event != EventType.DEFERRED:
        return ""
    return f"; {_reported(told.accepted, now)}{_words_of(told.accepted)}"


def _settled_by(receipt: Receipt | None, last: Attempt | None) -> str:
    """Where the call itself did not end well: why the notification has not stayed there."""
    if receipt is None or last is None or _accepted(last):
        return ""
    return f" The receipt settled what the call had left open ({_said(last)})."


def _delivered(
    notification: Notification,
    last: Attempt | None,
    now: datetime,
    told: _Told,
    suppression: Suppression | None,
) -> str:
    read = f", read {ago(notification.read_at, now)}" if notification.read_at else ""
    if told.arrived is None:
        where = "stored in the inbox" if notification.channel == Channel.IN_APP else "delivered"
        return f"Delivered: {where} {ago(notification.delivered_at, now)}{read}."
    arrived = f"Delivered: {_reported(told.arrived, now)}{read}.{_settled_by(told.arrived, last)}"
    if told.objection and told.objection is not told.arrived:
        arrived += f" After that, {_reported(told.objection, now)}."
    if suppression:
        arrived += f" Its address is suppressed ({suppression.reason})."
    return f"{arrived}{_SIMULATED}" if notification.provider == "sandbox" else arrived


def _failed(
    notification: Notification,
    last: Attempt | None,
    now: datetime,
    resent: bool,
    told: _Told,
    suppression: Suppression | None,
) -> str:
    again = _again(notification, resent, suppression)
    if notification.sent_at:
        # Only a receipt fails what was accepted.
        return f"Failed: {_bounced(notification, last, now, told)} {again}"
    answer = _quoted(notification.failure_code, notification.failure_detail)
    provider = _provider(notification)
    since = _told_since(told, now)
    if notification.failure_code == GIVEN_UP:
        what_is_known = since or f" {_given_up(provider, last)}"
        return f"Failed: an operator gave it up.{what_is_known} {again}"
    match notification.failure_kind:
        case FailureKind.PERMANENT:
            return f"Failed: {provider} refused it for good ({answer}).{since} {again}"
        case FailureKind.TEMPORARY:
            attempts = counted(notification.attempt_count, "attempt")
            return f"Failed: given up after {attempts}; at last {provider} said {answer}.{since} {again}"
        case _:
            return f"Failed by a fault of ours ({answer}).{since} {again}"


def _again(notification: Notification, resent: bool, suppression: Suppression | None) -> str:
    if resent:
        return "It was resent since, as a new notification."
    if suppression is None:
        return "Nothing more happens by itself; a resend tries it as a new notification."
    return (
        f"Nothing more happens by itself: its address is suppressed ({suppression.reason}), and a resend is refused "
        f"until it is taken off the list{_unless(notification, suppression)}."
    )


def _bounced(notification: Notification, last: Attempt | None, now: datetime, told: _Told) -> str:
    """That a provider took it, and what its receipt said; of one that is gone by now, what was kept of it."""
    answer = _quoted(notification.failure_code, notification.failure_detail)
    if told.refused is None:
        return f"{_provider(notification)} took it, and reported later that it did not arrive ({answer})."
    before = " It had reported before that it arrived." if told.arrived else ""
    took = f"{told.refused.provider} took it, and {_what(told.refused, now)} ({answer})."
    return f"{took}{before}{_settled_by(told.refused, last)}"


def _told_since(told: _Told, now: datetime) -> str:
    """What receipts say of one that had ended otherwise by then: that stays, and they alone record it."""
    if told.arrived:
        return f" Yet {_reported(told.arrived, now)}: the person has it."
    if told.refused:
        return f" Later, {_reported(told.refused, now)}{_words_of(told.refused)}."
    if told.accepted:
        return f" Yet {_reported(told.accepted, now)}: the person may have it."
    return ""


def _given_up(provider: str, last: Attempt | None) -> str:
    if _accepted(last):
        return f"{provider} accepted it after all, as a late answer says: the person may have it."
    return f"Whether {provider} accepted it is not known ({_said(last)})."


def _cancelled(
    notification: Notification,
    last: Attempt | None,
    now: datetime,
    told: _Told,
    suppression: Suppression | None,
) -> str:
    cancelled = f"Cancelled {_before_or_after(last)}"
    if notification.failure_code == "suppressed":
        verb = "is" if suppression else "was"
        cancelled += f": the address {verb} suppressed ({notification.failure_detail})"
    return f"{cancelled}.{_told_since(told, now)} Nothing more happens by itself."


def _expired(notification: Notification, last: Attempt | None, now: datetime, told: _Told) -> str:
    until = moment(notification.expires_at)
    tried = f"{_said(last)} at last" if last else "it was never tried"
    since = _told_since(told, now)
    return f"Expired: it was worth sending until {until}; {tried}.{since} Nothing more happens by itself."


def _unknown(
    notification: Notification, last: Attempt | None, now: datetime, resent: bool, policy: str
) -> str:
    provider = _provider(notification)
    why = f"Unknown: {provider} may or may not have accepted it ({_said(last)})."
    if notification.review_at is None and resent:
        return f"{why} It was resent since, as a new notification."
    if notification.review_at is None:
        return f"{why} It is held for an operator, who says that it arrived, resends it, or gives it up."
    when = ahead(notification.review_at, now)
    in_time = notification.expires_at is None or notification.expires_at > notification.review_at
    again = resends_from_unknown(notification.priority, policy) and not notification.resends
    if again and in_time:
        return f"{why} Unless a late answer settles it, it is sent once more {when}; the person may then get it twice."
    return f"{why} Unless a late answer settles it, it is left to an operator {when}."


def _before_or_after(last: Attempt | None) -> str:
    return f"after an attempt ({_said(last)})" if last else "before it was sent"


def _accepted(last: Attempt | None) -> bool:
    return last is not None and last.outcome == Attempt.Outcome.ACCEPTED


def _provider(notification: Notification) -> str:
    return notification.provider or "the provider"


def _reported(receipt: Receipt, now: datetime) -> str:
    return f"{receipt.provider} {_what(receipt, now)}"


def _what(receipt: Receipt, now: datetime) -> str:
    words = _REPORTED[EventType(receipt.event)]
    return f"reported {ago(receipt.occurred_at, now)} that {words}"


def _words_of(receipt: Receipt) -> str:
    words = _quoted(receipt.code, receipt.detail)
    return f" ({words})" if words else ""


def _since(last: Attempt | None, now: datetime) -> str:
    return duration(now - last.started_at) if last else "a moment"


def _said(last: Attempt | None) -> str:
    if last is None or not last.outcome:
        return "no answer came"
    if not (last.code or last.detail):
        return f"{last.provider}: {last.get_outcome_display().lower()}"
    return f"{last.provider} said {_quoted(last.code, last.detail)}"


def _quoted(code: str, detail: str) -> str:
    """The provider's own words; its code only where it has none."""
    words = " ".join(detail.split()) or code
    return words if len(words) <= LONGEST_QUOTE else f"{words[: LONGEST_QUOTE - 1].rstrip()}…"


# --- Numbers and times in words --------------------------------------------------------------------------


def counted(number: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`, `1,000 attempts`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(span: timedelta) -> str:
    """In the one or two units a person would say: `42 s`, `3 min`, `2 h 5 min`, `3 days`."""
    seconds = max(round(span.total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return counted(hours // 24, "day")


def ago(then: datetime | None, now: datetime) -> str:
    if then is None:
        return "at an unknown time"
    return "just now" if now - then < timedelta(seconds=1) else f"{duration(now - then)} ago"


def ahead(then: datetime, now: datetime) -> str:
    return "now" if then - now < timedelta(seconds=1) else f"in {duration(then - now)}"


def moment(then: datetime | None) -> str:
    return f"{then:%-d %b %Y, %H:%M} UTC" if then else "an unknown time"
