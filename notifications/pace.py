"""Pace: exact rates over all workers, by slots in PostgreSQL.

A flow with a rate has a `next_slot_at`. Whoever claims from it (queue.CLAIM_PACED) takes the next slots, one for each
row, a little ahead of their time, and begins each row at its slot. A slot that nobody took in time is lost, and so is
one that was taken and missed (queue.BEGIN asks the database's clock): then the row takes another. So nothing bunches up,
whatever becomes of a worker: in no second there are more than the rate, a few percent and one.

A provider has slots too, those of all its lanes and workers together (`PROVIDER_RATES`). They are taken for rows that are
in hand, shortly before their calls, and by urgent ones a little earlier than by others: so an urgent one waits for an
interval or two, not for a queue. A provider that says "too many" (429) costs the message nothing and lowers the pace, to half
of what went; it doubles again every minute, by a formula that nobody has to apply.

No counter in Redis, which is emptied or frozen one day, and no bucket, which lets a burst through.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import connection

from notifications.models import SANDBOX_LANE, Flow, Pace
from notifications.providers import configuration

if TYPE_CHECKING:
    from notifications.queue import Claimed

log = structlog.get_logger(__name__)

#: Seconds ahead of their time for which slots are taken.
HORIZON = 0.1
#: Slots are given out when the next is nearer than this (seconds), so that one claim takes several.
OPENS = 0.05
#: Seconds by which a slot may be missed: a second then holds at most 3 % more, and one. For slow rates half of
#: their interval may, which makes no more than that one.
LATE = 0.03
#: Longest time ahead (seconds) for which a slot is ever taken.
LONGEST_SHARE = 5.0
#: Longest interval between two slots, in seconds.
LONGEST_INTERVAL = 86400

#: After a provider said "too many": no lower than this (calls a second), whatever had gone.
LOWEST = 1.0
#: Seconds in which the pace doubles again.
DOUBLES_EVERY = 60.0
#: Seconds after which a lowered pace is forgotten, where no rate is configured: by then it is 8 times what went.
FORGOTTEN_AFTER = 4 * DOUBLES_EVERY
#: Calls that began less than this (seconds) after the pace was lowered tell nothing new: not all workers knew.
BURST = 2.0
#: Seconds of the past in which is counted what went, and attempts that are looked at most for that.
MEASURED, MOST_MEASURED = 5.0, 5000
#: Seconds after which a process asks again whether another one has lowered the pace.
REFRESH = 1.0


def interval(count: str, rate: str) -> str:
    """SQL: the time that `count` slots take at `rate` a second."""
    return f"make_interval(secs => least({count} / {rate}, {LONGEST_INTERVAL}))"


def late(rate: str) -> str:
    """SQL: by how much a slot may be missed."""
    return f"make_interval(secs => least(greatest({LATE}, 0.5 / {rate}), {LONGEST_INTERVAL}))"


#: SQL: a flow's next slot, at a `moment`. One that is further ahead than the rate can have put it comes from a lower
#: rate of before, and counts no more. (Half a second: another worker's moment may have been later than ours.)
NEXT_SLOT = f"""
CASE WHEN flow.next_slot_at > moment + make_interval(secs => {HORIZON + 0.5}) + {interval("1", "flow.rate")}
     THEN moment ELSE flow.next_slot_at END"""


class Timetable:
    """Rows that are ours and begin at their moment, by this process's clock. Of one drain, for its thread alone."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, int, Claimed]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, rows: Iterable[Claimed], now: float) -> None:
        """`now` (monotonic seconds) is when their claim was answered, so that none begins before its slot."""
        for row in rows:
            heapq.heappush(self._rows, (now + (row.wait or 0.0), next(self._order), row))

    def due(self, now: float) -> list[Claimed]:
        """Those whose moment has come; no longer here."""
        rows = []
        while self._rows and self._rows[0][0] <= now:
            rows.append(heapq.heappop(self._rows)[2])
        return rows

    def until_next(self) -> float:
        """Seconds until the next moment; infinite where there is none."""
        return self._rows[0][0] - time.monotonic() if self._rows else float("inf")

    def clear(self) -> list[Claimed]:
        rows, self._rows = [row for _, _, row in self._rows], []
        return rows


# -- a provider's pace ----------------------------------------------------------------------------------

_LOWERED = f"""
(pace.lowered_to * power(2, least(extract(epoch FROM moment - pace.lowered_at)::float8 / {DOUBLES_EVERY}, 60)))"""

#: SQL: calls a second at a `moment`; NULL where there is no limit. `rate` is the configured one, or NULL.
_RATE = f"""
CASE WHEN %(rate)s::float8 IS NULL AND pace.lowered_at < moment - make_interval(secs => {FORGOTTEN_AFTER})
     THEN NULL ELSE least(%(rate)s::float8, {_LOWERED}) END"""

READ_RATE = f"""
SELECT {_RATE} FROM notifications_pace pace, (SELECT clock_timestamp() AS moment) AS clock
WHERE provider = %(provider)s
"""  # noqa: S608  (constants)

# Like a flow's (queue.CLAIM_PACED), but whoever comes second waits: a moment, for there is one row for all. Without a
# slot within the horizon, `count` is 0.
TAKE_SLOTS = f"""
WITH locked AS MATERIALIZED (
    SELECT pace.next_slot_at, {_RATE} AS rate, moment
    FROM notifications_pace pace, (SELECT clock_timestamp() AS moment) AS clock
    WHERE provider = %(provider)s FOR UPDATE OF pace
), opened AS MATERIALIZED (
    SELECT rate, greatest(moment, CASE
               WHEN next_slot_at > moment + make_interval(secs => 1) + {interval("1", "rate")} THEN moment
               ELSE next_slot_at END) AS first_slot,
           moment + make_interval(secs => greatest(%(horizon)s, least(%(share)s / rate, {LONGEST_SHARE}))) AS horizon
    FROM locked
), granted AS MATERIALIZED (
    SELECT *, CASE WHEN first_slot > horizon THEN 0 ELSE least(%(wanted)s::float8,
        1 + floor(rate * extract(epoch FROM horizon - first_slot)))::int END AS count
    FROM opened
), advanced AS (
    UPDATE notifications_pace pace
    SET next_slot_at = granted.first_slot + {interval("granted.count", "granted.rate")}
    FROM granted WHERE pace.provider = %(provider)s AND granted.count > 0 AND granted.rate IS NOT NULL
)
SELECT rate, count, first_slot + {late("rate")},
       extract(epoch FROM first_slot - clock_timestamp())::float8,
       extract(epoch FROM first_slot - horizon)::float8
FROM granted
"""  # noqa: S608  (constants)

MAKE = """
INSERT INTO notifications_pace (provider, next_slot_at) VALUES (%(provider)s, clock_timestamp())
ON CONFLICT (provider) DO NOTHING
"""

# Half of what was accepted lately (where nothing was, of what was tried), or of the rate that was kept, whichever is less.
LOWER = f"""
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS moment
), recent AS MATERIALIZED (
    SELECT provider, started_at, outcome FROM notifications_attempt ORDER BY id DESC LIMIT {MOST_MEASURED}
), went AS (
    SELECT coalesce(nullif(count(*) FILTER (WHERE outcome = 'accepted'), 0), count(*))
           / greatest(1, extract(epoch FROM min(moment) - min(started_at)))::float8 AS rate
    FROM recent, clock
    WHERE provider = %(provider)s
      AND started_at > moment - make_interval(secs => {MEASURED})
)
INSERT INTO notifications_pace AS pace (provider, next_slot_at, lowered_to, lowered_at)
SELECT %(provider)s, moment, greatest({LOWEST}, least(%(rate)s::float8, went.rate) / 2), moment FROM clock, went
ON CONFLICT (provider) DO UPDATE
SET lowered_to = greatest({LOWEST}, least(
        excluded.lowered_to,
        (SELECT {_RATE} FROM (SELECT excluded.lowered_at AS moment) AS clock) / 2)),
    lowered_at = excluded.lowered_at
WHERE pace.lowered_at IS NULL
   OR pace.lowered_at < excluded.lowered_at - make_interval(secs => %(seconds)s + {BURST})
RETURNING lowered_to
"""  # noqa: S608  (constants)


@dataclass(frozen=True, slots=True)
class Precedence:
    """How early one may take a provider's slots: whoever may earlier comes first.

    `horizon` in seconds; at slow rates a share of the interval between two slots, where that is more, but no longer than
    LONGEST_SHARE: the row is leased meanwhile.
    """

    horizon: float
    share: float


ORDINARY = Precedence(0.015, 0.0)
URGENT = Precedence(0.03, 0.5)
#: Before urgent ones, with one row: what others get now and then, so that a flood of urgent ones does not stop them.
IN_TURN = Precedence(0.06, 1.5)


@dataclass(frozen=True, slots=True)
class Slots:
    """The next `count` slots of a provider: the first in `wait` seconds, to be used until `begin_by`, then `rate` a second.

    `opens_in`: in how many seconds the first could be had; negative where it was.
    """

    count: int
    rate: float
    wait: float
    begin_by: datetime
    opens_in: float

    @property
    def next_opening(self) -> float:
        """In how many seconds there is another, after these."""
        return self.opens_in + self.count / self.rate

    def give_out(self, rows: list[Claimed]) -> list[Claimed]:
        """The first `count` rows with their slots. A row that has one of its flow must keep both."""
        return [
            self._with_slot(row, place / self.rate) for place, row in enumerate(rows[: self.count])
        ]

    def _with_slot(self, row: Claimed, later: float) -> Claimed:
        begin_by = self.begin_by + timedelta(seconds=later)
        return replace(
            row,
            wait=self.wait + later,
            begin_by=min(begin_by, row.begin_by) if row.begin_by else begin_by,
        )


def configured_rates() -> dict[str, float]:
    """Calls a second by provider, of PROVIDER_RATES. Raises ValueError with words for whoever has written it."""
    return dict(_read(each) for each in settings.PROVIDER_RATES)


def _read(pair: str) -> tuple[str, float]:
    name, equals, number = (part.strip() for part in pair.partition("="))
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    if not (name and equals and rate > 0 and math.isfinite(rate)):
        raise ValueError(f"{pair.strip()!r} is not provider=number, with a number above 0.")
    return name, rate


class ProviderPace:
    """How fast a provider is called by this process and all others. For many threads."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self._configured = configured_rates().get(provider)
        self._rate: float | None = None
        self._asked_at = float("-inf")
        self._lowered_at = float("-inf")

    def rate(self) -> float | None:
        """Calls a second at present, known to a second; None: as fast as it goes."""
        if time.monotonic() - self._asked_at > REFRESH:
            found = self._execute(READ_RATE)
            self._rate = found[0] if found else self._configured
            self._asked_at = time.monotonic()
        return self._rate

    def take(self, wanted: int, precedence: Precedence) -> Slots | None:
        """The next slots, at most as many as wanted; None where there is no limit any more."""
        asked = {"wanted": wanted, "horizon": precedence.horizon, "share": precedence.share}
        found = self._execute(TAKE_SLOTS, **asked) or self._make_and_take(asked)
        if found is None or found[0] is None:
            return None
        rate, count, begin_by, wait, opens_in = found
        return Slots(count, rate, wait, begin_by, opens_in)

    def _make_and_take(self, asked: dict[str, Any]) -> Any:
        if self._configured is None:
            return None
        with connection.cursor() as cursor:
            cursor.execute(MAKE, {"provider": self.provider})
        return self._execute(TAKE_SLOTS, **asked)

    def lower(self, seconds: float) -> None:
        """It said "too many" to a call that began so many seconds ago. Of a burst of such answers only the first counts.

        Raises what the database raises; the next such answer shows it again.
        """
        now = time.monotonic()
        if now - seconds - BURST < self._lowered_at:
            return
        found = self._execute(LOWER, seconds=seconds)
        self._lowered_at, self._asked_at = now, float("-inf")
        if found:
            log.warning("pace_lowered", provider=self.provider, calls_a_second=round(found[0], 2))

    def _execute(self, statement: str, **parameters: Any) -> Any:
        names = {"provider": self.provider, "rate": self._configured}
        with connection.cursor() as cursor:
            cursor.execute(statement, names | parameters)
            return cursor.fetchone()


@dataclass(frozen=True, slots=True)
class Lowered:
    """A provider whose pace is lowered: to so many calls a second at present."""

    provider: str
    rate: float
    since: datetime

    @property
    def sentence(self) -> str:
        return (
            f"{self.provider} has said at {self.since:%H:%M:%S} UTC that we are too fast: it gets {self.rate:,.3g} calls "
            "a second at present."
        )


def lowered() -> Iterator[Lowered]:
    """Each provider that is called more slowly than it would be."""
    configured = configured_rates()
    for pace in Pace.objects.filter(lowered_at__isnull=False).order_by("provider"):
        usual = configured.get(pace.provider)
        rate = ProviderPace(pace.provider).rate()
        if rate is not None and pace.lowered_at and rate != usual:
            yield Lowered(pace.provider, rate, pace.lowered_at)


def limits(flow: Flow) -> str:
    """What keeps the flow from going as fast as it could, in sentences: its rate, and its provider's; empty: nothing."""
    provider = _provider_of(flow.lane)
    configured = configured_rates().get(provider or "")
    told = [f"At most {flow.rate:,g} a second, over all workers."] if flow.rate else []
    if configured:
        told.append(f"{provider} gets at most {configured:,g} calls a second, of all flows.")
    told += [each.sentence for each in lowered() if each.provider == provider]
    return " ".join(told)


def _provider_of(lane: str) -> str | None:
    return None if lane == SANDBOX_LANE else configuration.vendor_of(lane.partition(".")[0])


_paces: dict[str, ProviderPace] = {}


def pace_of(provider: str) -> ProviderPace:
    """The process's one pace of a provider."""
    return _paces.setdefault(provider, ProviderPace(provider))


def forget() -> None:
    """For tests: what this process knows."""
    _paces.clear()
