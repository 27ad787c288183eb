"""Carries every channel and lets nothing leave the machine; some addresses simulate what becomes of a message.

| e-mail | SMS | the call | and then |
|---|---|---|---|
| `delivered@sandbox.test` | +15005550006 | taken | `delivered` |
| `slow@sandbox.test` | +15005550005 | taken after 2 seconds | `delivered` |
| `deferred@sandbox.test` | +15005550010 | taken | `deferred`, then `delivered` |
| `opened@sandbox.test` | | taken | `delivered`, `opened` |
| `bounced@sandbox.test` | +15005550001 | taken | `bounced`: `failed`, and suppressed |
| `soft-bounced@sandbox.test` | +15005550007 | taken | `bounced` without a fault of the address: `failed`, not suppressed |
| `complained@sandbox.test` | | taken | `delivered`, `complained`: suppressed |
| `unsubscribed@sandbox.test` | +15005550008 | taken | `delivered`, `unsubscribed` (SMS: STOP): suppressed |
| `refused@sandbox.test` | +15005550009 | Permanent: no such address | suppressed |
| `temporary@sandbox.test` | +15005550002 | Temporary, at each attempt | |
| `misconfigured@sandbox.test` | +15005550003 | Misconfigured | |
| `ambiguous@sandbox.test` | +15005550004 | Ambiguous | nothing: the policy decides |
| `late@sandbox.test` | +15005550011 | Ambiguous | `delivered`, which settles it |

Every other address is taken, and stays `sent`. What follows a plus sign does not count: `bounced+order-7@sandbox.test`
bounces too. The numbers are in the manner of Twilio's magic numbers: possible, and nobody's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from notifications.providers.base import (
    Ambiguous,
    Message,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.providers.deadline import Deadline
from notifications.providers.events import Event, EventType, RejectReason

DOMAIN = "sandbox.test"
SLOW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Simulation:
    """What becomes of a message: what its call raises, if anything, after `seconds`; and what is told later."""

    error: Callable[[], ProviderError] | None = None
    events: tuple[EventType, ...] = ()
    reject_reason: RejectReason | None = None
    words: str = "simulated by the sandbox"
    seconds: float = 0.0


def _refusal() -> ProviderError:
    words = "550 5.1.1 simulated by the sandbox: no such mailbox"
    return Permanent("refused", words, reject_reason=RejectReason.INVALID)


def _for_now() -> ProviderError:
    return Temporary("simulated_temporary", "421 4.3.2 simulated by the sandbox: try again later")


def _misconfigured() -> ProviderError:
    words = "535 5.7.8 simulated by the sandbox: log-in failed"
    return Misconfigured("simulated_misconfigured", words)


def _ambiguous() -> ProviderError:
    return Ambiguous("simulated_ambiguous", "simulated by the sandbox: no answer to the final dot")


_DELIVERED = Simulation(events=(EventType.DELIVERED,))
_SLOW = replace(_DELIVERED, seconds=SLOW_SECONDS)
_DEFERRED = Simulation(events=(EventType.DEFERRED, EventType.DELIVERED))
_BOUNCED = Simulation(
    events=(EventType.BOUNCED,),
    reject_reason=RejectReason.BOUNCED,
    words="550 5.1.1 simulated by the sandbox: no such mailbox",
)
_SOFT_BOUNCED = Simulation(
    events=(EventType.BOUNCED,),
    reject_reason=RejectReason.TIMED_OUT,
    words="452 4.2.2 simulated by the sandbox: the mailbox was full for days",
)
_UNSUBSCRIBED = Simulation(events=(EventType.DELIVERED, EventType.UNSUBSCRIBED))
_REFUSED = Simulation(error=_refusal)
_TEMPORARY = Simulation(error=_for_now)
_MISCONFIGURED = Simulation(error=_misconfigured)
_AMBIGUOUS = Simulation(error=_ambiguous)
_LATE = Simulation(error=_ambiguous, events=(EventType.DELIVERED,))

SIMULATIONS: dict[str, Simulation] = {
    "delivered": _DELIVERED,
    "slow": _SLOW,
    "deferred": _DEFERRED,
    "opened": Simulation(events=(EventType.DELIVERED, EventType.OPENED)),
    "bounced": _BOUNCED,
    "soft-bounced": _SOFT_BOUNCED,
    "complained": Simulation(events=(EventType.DELIVERED, EventType.COMPLAINED)),
    "unsubscribed": _UNSUBSCRIBED,
    "refused": _REFUSED,
    "temporary": _TEMPORARY,
    "misconfigured": _MISCONFIGURED,
    "ambiguous": _AMBIGUOUS,
    "late": _LATE,
    "+15005550001": _BOUNCED,
    "+15005550002": _TEMPORARY,
    "+15005550003": _MISCONFIGURED,
    "+15005550004": _AMBIGUOUS,
    "+15005550005": _SLOW,
    "+15005550006": _DELIVERED,
    "+15005550007": _SOFT_BOUNCED,
    "+15005550008": _UNSUBSCRIBED,
    "+15005550009": _REFUSED,
    "+15005550010": _DEFERRED,
    "+15005550011": _LATE,
}
_ORDINARY = Simulation()


class Sandbox(Provider):
    name = "sandbox"
    repeatable = True
    has_circuit = False

    def send(self, message: Message, deadline: Deadline) -> Sent:
        if message.channel == "in_app":
            return Sent(delivered=True)
        simulated = SIMULATIONS.get(_simulated(message), _ORDINARY)
        if simulated.seconds:
            time.sleep(deadline.within(simulated.seconds))
        events = _events(simulated, message)
        if simulated.error is not None:
            error = simulated.error()
            if isinstance(error, Ambiguous):
                error.events = events
            raise error
        return Sent(
            provider_message_id=_message_id(message),
            detail="nothing has left the machine",
            events=events,
        )


def _message_id(message: Message) -> str:
    return f"sandbox-{message.notification_id}"


def _events(simulated: Simulation, message: Message) -> tuple[Event, ...]:
    """A millisecond apart, so that they have an order; the same message has the same ones each time."""
    now = datetime.now(UTC)
    return tuple(
        Event(
            event_id=f"{message.notification_id}:{event}",
            event=event,
            occurred_at=now + timedelta(milliseconds=number),
            notification_id=message.notification_id,
            provider_message_id=_message_id(message),
            reject_reason=simulated.reject_reason,
            detail=simulated.words,
            raw=json.dumps({"event": event, "simulated": True}),
        )
        for number, event in enumerate(simulated.events)
    )


def _simulated(message: Message) -> str:
    """What the address asks for: its name at our domain, or the number."""
    if message.channel == "sms":
        return message.to
    name, _, domain = message.to.lower().rpartition("@")
    return name.partition("+")[0] if domain == DOMAIN else ""
