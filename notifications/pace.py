"""Pace: exact rates over all workers, by slots in PostgreSQL.

A flow with a rate has a `next_slot_at`. Whoever claims from it (queue.CLAIM_PACED) takes the next slots, one for each
row, a little ahead of their time, and begins each row at its slot. A slot that nobody took in time is lost, and so is
one that was taken and missed (queue.BEGIN asks the database's clock): then the row takes another. So nothing bunches up,
whatever becomes of a worker: in no second there are more than the rate, a few percent and one.

No counter in Redis, which is emptied or frozen one day, and no bucket, which lets a burst through.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notifications.queue import Claimed

#: Seconds ahead of their time for which slots are taken.
HORIZON = 0.1
#: Slots are given out when the next is nearer than this (seconds), so that one claim takes several.
OPENS = 0.05
#: Seconds by which a slot may be missed: a second then holds at most 2.5 % more, and one. For slow rates half of
#: their interval may, which makes no more than that one.
LATE = 0.025
#: Longest interval between two slots, in seconds.
LONGEST_INTERVAL = 86400


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
