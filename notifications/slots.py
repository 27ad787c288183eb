"""Slots: how many calls a process has in flight to one provider, shared by the lanes that it carries.

SMTP servers limit connections, and each thread keeps one; so the threads belong to the provider, not to the lane.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from notifications.providers.base import Provider

#: So often a lane yields to an urgent one that waits before it gets one slot.
YIELDS = 10


class Slots:
    """A provider's threads. A lane takes slots before it claims, and gives each back when its call is settled.

    An urgent lane that finds none gets the next that are free: until then others are given none. So urgent
    messages wait for one call to end, not for a queue. Each tenth time another lane gets one all the same, so
    that a flood of urgent ones slows it down and does not stop it.
    """

    def __init__(self, provider: Provider) -> None:
        self.size = self._free = provider.max_in_flight
        self.pool = ThreadPoolExecutor(self.size, thread_name_prefix=f"send-{provider.name}")
        self._lock = threading.Lock()
        #: Lane -> what to call when a slot is free, for those that found none.
        self._waiting: dict[str, Callable[[], None]] = {}
        self._urgent_waiting: set[str] = set()
        #: Lane -> how often it has yielded since it last got a slot.
        self._yielded: Counter[str] = Counter()

    def take(self, lane: str, wanted: int, when_free: Callable[[], None]) -> int:
        """How many of the wanted slots the lane has now. With none, `when_free` is called once there may be."""
        urgent = lane.endswith(".high")
        with self._lock:
            self._urgent_waiting.discard(lane)
            taken = min(wanted, self._free)
            if taken and self._urgent_waiting and not urgent:
                taken = min(taken, self._after_yielding(lane))
            self._free -= taken
            if not taken:
                self._waiting[lane] = when_free
                self._urgent_waiting |= {lane} if urgent else set()
            return taken

    def _after_yielding(self, lane: str) -> int:
        """How many slots a lane gets while an urgent one waits: none, and each tenth time one."""
        self._yielded[lane] += 1
        if self._yielded[lane] < YIELDS:
            return 0
        del self._yielded[lane]
        return 1

    def give_back(self, count: int) -> None:
        if not count:
            return
        with self._lock:
            self._free += count
            waiting, self._waiting = self._waiting, {}
        for when_free in waiting.values():
            when_free()

    def leave(self, lane: str) -> None:
        """The lane's drain has ended: nobody need wait for it."""
        with self._lock:
            self._waiting.pop(lane, None)
            self._urgent_waiting.discard(lane)


_slots: dict[str, Slots] = {}
_making = threading.Lock()


def slots_of(provider: Provider) -> Slots:
    """The process's slots of the provider. They outlive a drain: a provider keeps a connection in each thread."""
    with _making:
        if provider.name not in _slots:
            _slots[provider.name] = Slots(provider)
        return _slots[provider.name]
