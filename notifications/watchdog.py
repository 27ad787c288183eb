"""The watchdog: a worker in which nothing moves although something is due ends itself, and is restarted.

Whatever stands still (a call that never returns although its socket was shut down, a thread that cannot be started, a
bug) is not mended from within. The sweep says what it expects to move; a drain says when something does. Only
time that passes without any movement counts: a database or a broker that is away is not a standstill.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import structlog

from notifications import stopping

log = structlog.get_logger(__name__)

#: What the process manager sees (EX_SOFTWARE of sysexits.h); it starts the worker again.
EXIT_STATUS = 70
#: Seconds between two looks.
LOOK_EVERY = 1.0


class Watchdog:
    """What is expected to move, and since when. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: dict[str, float] = {}

    def expect(self, what: str) -> None:
        """From now on, unless it was expected already, `what` should move."""
        with self._lock:
            self._expected.setdefault(what, time.monotonic())

    def moved(self, what: str) -> None:
        with self._lock:
            self._expected.pop(what, None)

    def standing_still(self, seconds: float) -> list[str]:
        """What has been expected for so long in vain."""
        before = time.monotonic() - seconds
        with self._lock:
            return sorted(what for what, since in self._expected.items() if since < before)


_watchdog = Watchdog()
expect = _watchdog.expect
moved = _watchdog.moved


class WatchdogThread(threading.Thread):
    """Looks every second; ends the process when something stands still for `seconds`.

    First it has nothing new claimed, and gives the calls that still move the time of one (`grace`, in seconds).
    """

    def __init__(
        self,
        seconds: float,
        grace: float,
        *,
        watchdog: Watchdog = _watchdog,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._seconds, self._grace = seconds, grace
        self._watchdog, self._end = watchdog, end

    def run(self) -> None:
        while not stopping.wait(LOOK_EVERY):
            if still := self._watchdog.standing_still(self._seconds):
                log.critical("standstill", what=still, seconds=self._seconds)
                stopping.stop()
                time.sleep(self._grace)
                self._end(EXIT_STATUS)
                return
