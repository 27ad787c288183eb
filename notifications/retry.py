"""When to try again: pure policy. Attempt, error and chance in; seconds, or never, out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.providers.events import Event

#: Longest wait between two attempts, in seconds.
LONGEST_WAIT = 3600.0
#: What a provider may ask for at most, in seconds: a typing error of theirs must not park a message for years.
LONGEST_RETRY_AFTER = 24 * 3600.0
#: Half the width of the first wait, in seconds; it doubles with every attempt.
FIRST_WAIT = 15.0

#: How long a notification stays worth sending where the caller does not say: a repaired password must
#: not release yesterday's one-time codes.
HIGH_PRIORITY_LIFETIME = timedelta(hours=1)
CHANNEL_LIFETIME = {
    "email": timedelta(hours=72),
    "sms": timedelta(hours=12),
    "in_app": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer of a provider means for its notification.

    `status` is the one to store; `wait` (seconds) says when a `pending` one is due again; `spent` is False
    where the attempt must not count. `outcome` is the attempt's. `reject_reason` says what is wrong with the address,
    and `events` what the provider has told at once of what becomes of the message (providers/events.py).
    """

    status: str
    outcome: str
    code: str = ""
    detail: str = ""
    provider_message_id: str = ""
    failure_kind: str = ""
    wait: float | None = None
    spent: bool = True
    reject_reason: str = ""
    events: tuple[Event, ...] = ()

    @property
    def tells_more(self) -> bool:
        """More than what is stored with the notification and its attempt."""
        return bool(self.reject_reason or self.events)


def lifetime(channel: str, priority: str) -> timedelta | None:
    """How long after its time a notification without `expires_at` may still go out; None: for ever."""
    limit = CHANNEL_LIFETIME[channel]
    if limit is None or priority != "high":
        return limit
    return min(limit, HIGH_PRIORITY_LIFETIME)


def backoff(attempt: int, chance: float, retry_after: float | None = None) -> float:
    """Seconds to wait after attempt number `attempt` (from 1): full jitter, `chance` in [0, 1).

    Full jitter spreads those who failed together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). What the provider asked
    for in Retry-After is a floor, never a ceiling.
    """
    ceiling = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 20))
    return max(min(retry_after or 0.0, LONGEST_RETRY_AFTER), chance * ceiling)


def judge(
    answer: Sent | ProviderError,
    *,
    attempt: int,
    max_attempts: int,
    chance: float,
    misconfigured_wait: float = 30.0,
) -> Verdict:
    """What the provider's answer to attempt number `attempt` (from 1) means.

    `misconfigured_wait` (seconds, give or take a quarter) is until what our own account's fault has stopped is due
    again. By then its circuit is open, and holds it longer.
    """
    if isinstance(answer, Sent):
        return Verdict(
            status="delivered" if answer.delivered else "sent",
            outcome="accepted",
            detail=answer.detail,
            provider_message_id=answer.provider_message_id,
            events=answer.events,
        )
    if isinstance(answer, Temporary):
        return _temporary(answer, attempt, max_attempts, chance)
    if isinstance(answer, Misconfigured):
        return Verdict(
            status="pending",
            outcome="misconfigured",
            code=answer.code,
            detail=answer.detail,
            wait=misconfigured_wait * (0.75 + chance / 2),
            spent=False,
        )
    if isinstance(answer, Permanent):
        return Verdict(
            status="failed",
            outcome="permanent",
            code=answer.code,
            detail=answer.detail,
            failure_kind="permanent",
            reject_reason=answer.reject_reason or "",
        )
    assert isinstance(answer, Ambiguous), answer
    return Verdict(
        status="unknown",
        outcome="ambiguous",
        code=answer.code,
        detail=answer.detail,
        events=answer.events,
    )


def _temporary(answer: Temporary, attempt: int, max_attempts: int, chance: float) -> Verdict:
    if answer.throttled:
        # We were too fast: no fault of the message, however often it is the one that learns it.
        return Verdict(
            status="pending",
            outcome="temporary",
            code=answer.code,
            detail=answer.detail,
            wait=backoff(1, chance, answer.retry_after),
            spent=False,
        )
    if attempt >= max_attempts:
        return Verdict(
            status="failed",
            outcome="temporary",
            code=answer.code,
            detail=answer.detail,
            failure_kind="temporary",
        )
    return Verdict(
        status="pending",
        outcome="temporary",
        code=answer.code,
        detail=answer.detail,
        wait=backoff(attempt, chance, answer.retry_after),
    )


def resends_from_unknown(priority: str, policy: str) -> bool:
    """Whether an `unknown` one is sent once more after its review time, or held for an operator.

    `policy` is its project's: `resend`, `hold`, or empty for what its priority says. Urgent and ordinary ones
    are sent: a second copy is better than none. Bulk is held.
    """
    return policy == "resend" or (policy != "hold" and priority != "low")
