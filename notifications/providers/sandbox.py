"""Carries every channel and lets nothing leave the machine; some addresses simulate what can go wrong.

| e-mail | SMS | outcome |
|---|---|---|
| `delivered@sandbox.test` | +15005550006 | taken, like every other address |
| `bounced@sandbox.test` | +15005550001 | Permanent, `bounced` |
| `temporary@sandbox.test` | +15005550002 | Temporary, at each attempt |
| `misconfigured@sandbox.test` | +15005550003 | Misconfigured |
| `ambiguous@sandbox.test` | +15005550004 | Ambiguous |
| `slow@sandbox.test` | +15005550005 | taken after 2 seconds |

What follows a plus sign does not count: `bounced+order-7@sandbox.test` bounces too. The numbers are in
the manner of Twilio's magic numbers: possible, and nobody's.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from notifications.providers.base import (
    Ambiguous,
    Message,
    Misconfigured,
    Permanent,
    Provider,
    Sent,
    Temporary,
)
from notifications.providers.deadline import Deadline

DOMAIN = "sandbox.test"
SLOW_SECONDS = 2.0


def _bounce(deadline: Deadline) -> None:
    raise Permanent("bounced", "550 5.1.1 simulated by the sandbox: no such mailbox")


def _fail_for_now(deadline: Deadline) -> None:
    raise Temporary("simulated_temporary", "421 4.3.2 simulated by the sandbox: try again later")


def _be_misconfigured(deadline: Deadline) -> None:
    raise Misconfigured(
        "simulated_misconfigured", "535 5.7.8 simulated by the sandbox: log-in failed"
    )


def _be_ambiguous(deadline: Deadline) -> None:
    raise Ambiguous("simulated_ambiguous", "simulated by the sandbox: no answer to the final dot")


def _take_time(deadline: Deadline) -> None:
    time.sleep(deadline.within(SLOW_SECONDS))


_SIMULATED: dict[str, Callable[[Deadline], None]] = {
    "bounced": _bounce,
    "temporary": _fail_for_now,
    "misconfigured": _be_misconfigured,
    "ambiguous": _be_ambiguous,
    "slow": _take_time,
    "+15005550001": _bounce,
    "+15005550002": _fail_for_now,
    "+15005550003": _be_misconfigured,
    "+15005550004": _be_ambiguous,
    "+15005550005": _take_time,
}


class Sandbox(Provider):
    name = "sandbox"
    repeatable = True
    has_circuit = False

    def send(self, message: Message, deadline: Deadline) -> Sent:
        if message.channel == "in_app":
            return Sent(delivered=True)
        simulate = _SIMULATED.get(_simulated(message))
        if simulate is not None:
            simulate(deadline)
        return Sent(
            provider_message_id=f"sandbox-{message.notification_id}",
            detail="nothing has left the machine",
        )


def _simulated(message: Message) -> str:
    """What the address asks for: its name at our domain, or the number."""
    if message.channel == "sms":
        return message.to
    name, _, domain = message.to.lower().rpartition("@")
    return name.partition("+")[0] if domain == DOMAIN else ""
