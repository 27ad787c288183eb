"""Circuits: a provider that refuses our account, asks for a pause or is down is left alone for a while.

A circuit belongs to a (provider, sender), is stored in PostgreSQL and so shared by all workers. While it is open,
nothing of it is claimed or begun: what waits stays `pending`, untouched, and others go on. When its time is over, one
notification is sent as a probe (queue.PROBE): the circuit closes, or stays open twice as long.

What opens one is seen by each process for itself (`Tally`): whoever first has seen enough opens it for all.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import connection

from notifications.models import Circuit
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.storable import storable

log = structlog.get_logger(__name__)

#: Seconds for which calls are counted, at least; at most twice as many.
WINDOW = 30.0
#: The share of failures that opens a circuit, of at least so many calls in the window.
FAILING_SHARE, FAILING_CALLS = 0.5, 20
#: So many calls in a row that found no connection open it.
UNREACHABLE_CALLS = 5

OPEN = """
INSERT INTO notifications_circuit (provider, sender, opened_at, open_until, trips, cause, code, detail)
SELECT %(provider)s, %(sender)s, moment, moment + make_interval(secs => %(rest)s), 1,
       %(cause)s, %(code)s, %(detail)s
FROM clock_timestamp() AS moment
ON CONFLICT (provider, sender) DO UPDATE
SET opened_at = excluded.opened_at, open_until = excluded.open_until, trips = 1,
    cause = excluded.cause, code = excluded.code, detail = excluded.detail
WHERE notifications_circuit.open_until IS NULL
"""

# A probe failed: twice as long, but not shorter than the provider asks for and not longer than the longest.
STAY_OPEN = """
UPDATE notifications_circuit
SET open_until = clock_timestamp() + make_interval(
        secs => least(%(longest)s, greatest(%(rest)s, %(first)s * power(2, least(trips, 20))))),
    trips = least(trips + 1, 20), cause = %(cause)s, code = %(code)s, detail = %(detail)s
WHERE provider = %(provider)s AND sender = %(sender)s AND open_until IS NOT NULL
"""

CLOSE = """
UPDATE notifications_circuit SET open_until = NULL, trips = 0
WHERE provider = %(provider)s AND sender = %(sender)s AND open_until IS NOT NULL
"""

# Settings may have been repaired. Not where the provider asked for a pause: that it gets.
PROBE_REFUSED = """
UPDATE notifications_circuit SET open_until = clock_timestamp()
WHERE open_until > clock_timestamp() AND cause = 'refused'
"""


@dataclass(frozen=True, slots=True)
class Sign:
    """What one call says about the provider. `cause` is empty where it works; `rest` (seconds) was asked for."""

    cause: str = ""
    code: str = ""
    detail: str = ""
    rest: float = 0.0


WORKS = Sign()


def sign_of(answer: Sent | ProviderError) -> Sign:
    """What an answer says about the provider, as distinct from the message."""
    if isinstance(answer, Misconfigured):
        return Sign(Circuit.Cause.REFUSED, answer.code, answer.detail)
    if isinstance(answer, Ambiguous):
        return Sign(Circuit.Cause.FAILING, answer.code, answer.detail)
    if not isinstance(answer, Temporary) or answer.recipient_only:
        return WORKS
    if answer.retry_after:
        return Sign(Circuit.Cause.THROTTLED, answer.code, answer.detail, answer.retry_after)
    if answer.throttled:
        # It works, and we are too fast: the pace is lowered instead (pace.py).
        return WORKS
    unreachable = answer.code == "connection_failed"
    cause = Circuit.Cause.UNREACHABLE if unreachable else Circuit.Cause.FAILING
    return Sign(cause, answer.code, answer.detail)


class Tally:
    """What one process has seen of one (provider, sender) lately. Pure: `now` is given, in seconds."""

    def __init__(self) -> None:
        self._began = 0.0
        self._earlier = self._calls = self._failures = self._earlier_failures = 0
        self._unreachable = 0

    def opens_with(self, sign: Sign, now: float) -> bool:
        """Count the call. Whether the circuit has to open now."""
        self._roll(now)
        self._calls += 1
        if not sign.cause:
            self._unreachable = 0
            return False
        self._failures += 1
        unreachable = sign.cause == Circuit.Cause.UNREACHABLE
        self._unreachable = self._unreachable + 1 if unreachable else 0
        at_once = sign.cause in (Circuit.Cause.REFUSED, Circuit.Cause.THROTTLED)
        return at_once or self._unreachable >= UNREACHABLE_CALLS or self._fails_too_often()

    def _fails_too_often(self) -> bool:
        calls = self._calls + self._earlier
        failures = self._failures + self._earlier_failures
        return calls >= FAILING_CALLS and failures >= calls * FAILING_SHARE

    def _roll(self, now: float) -> None:
        """Forget what is older than two windows."""
        if now - self._began < WINDOW:
            return
        recent = now - self._began < 2 * WINDOW
        self._earlier = self._calls if recent else 0
        self._earlier_failures = self._failures if recent else 0
        self._calls = self._failures = 0
        self._began = now


@dataclass(frozen=True, slots=True)
class Observation:
    """What the call for one notification of a sender has shown; `probe`: an open circuit waits for it."""

    sender: str
    sign: Sign
    probe: bool = False


class Breaker:
    """Opens and closes the circuits of one provider, from what this process sees. For many threads."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self._lock = threading.Lock()
        self._tallies: dict[str, Tally] = defaultdict(Tally)

    def note(self, observations: Iterable[Observation]) -> None:
        """Raises what the database raises. What is lost by that shows itself again with the next call."""
        now = time.monotonic()
        for each in observations:
            if each.probe:
                self._end_probe(each)
            elif self._opens(each, now):
                self._open(each)

    def _opens(self, each: Observation, now: float) -> bool:
        with self._lock:
            opens = self._tallies[each.sender].opens_with(each.sign, now)
            if opens:
                # What it has seen is said; it begins anew when the circuit has closed.
                del self._tallies[each.sender]
            return opens

    def _open(self, each: Observation) -> None:
        rest = min(max(each.sign.rest, settings.CIRCUIT_FIRST_REST), settings.CIRCUIT_LONGEST_REST)
        if self._execute(OPEN, each, rest=rest):
            self._tell("circuit_opened", each)

    def _end_probe(self, each: Observation) -> None:
        if each.sign.cause:
            limits = {
                "first": settings.CIRCUIT_FIRST_REST,
                "longest": settings.CIRCUIT_LONGEST_REST,
            }
            if self._execute(STAY_OPEN, each, rest=each.sign.rest, **limits):
                self._tell("circuit_stays_open", each)
        elif self._execute(CLOSE, each):
            self._tell("circuit_closed", each)

    def _execute(self, statement: str, each: Observation, **parameters: float) -> int:
        names = {"provider": self.provider, "sender": each.sender}
        said = {
            "cause": each.sign.cause,
            "code": storable(each.sign.code)[:100],
            "detail": storable(each.sign.detail)[:2000],
        }
        with connection.cursor() as cursor:
            cursor.execute(statement, {**names, **said, **parameters})
            return int(cursor.rowcount)

    def _tell(self, event: str, each: Observation) -> None:
        log.warning(
            event,
            provider=self.provider,
            sender=each.sender or "(own)",
            cause=str(each.sign.cause),
            code=each.sign.code,
        )


def probe_what_was_refused() -> None:
    """A worker that starts may have repaired settings: whoever refused our account is asked again at once."""
    with connection.cursor() as cursor:
        cursor.execute(PROBE_REFUSED)
