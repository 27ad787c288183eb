"""`wake(lane)`: tell the workers that something is due, without ever failing or holding up the caller.

A wake-up is a hint and no more: the row in PostgreSQL is the queue entry, and the workers' own sweep finds it
if the hint is lost. So a thread of its own publishes, and what a frozen Redis blocks is that thread alone (measured:
a publish then blocks 4 to 14 s). Lanes marked while it publishes are published right after, so the last row of a
burst has a hint of its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from notifications.models import Priority, queue_of

log = structlog.get_logger(__name__)

DRAIN_TASK = "notifications.tasks.drain"
RECEIPTS_TASK = "notifications.tasks.apply_receipts"
#: Marked like a lane: receipts have come that are to be applied.
RECEIPTS = "receipts"
#: Seconds between two hints for the same burst: ten times what publishing the last one took, so that hints take
#: a tenth of one thread's time at most. On a busy machine publishing takes longer, and hints come more rarely.
SHORTEST_PAUSE = 0.01
LONGEST_PAUSE = 0.25
#: Hints that may lie unread in a queue, at about a kilobyte each. When there are so many, nobody reads them.
MOST_UNREAD = 1_000
#: Seconds between two looks at how many there are.
LOOK_PAUSE = 1.0
#: Seconds to wait after the broker has refused a hint.
BROKER_AWAY_PAUSE = 1.0


def wake(lane: str) -> None:
    """Mark the lane, or RECEIPTS, and return at once."""
    _waker.mark(lane)


def publish(lane: str) -> None:
    """Send the lane's wake-up to the broker. Raises what the broker's client raises."""
    from notifyproj.celery import app

    if lane == RECEIPTS:
        app.send_task(RECEIPTS_TASK)
    else:
        app.send_task(DRAIN_TASK, args=(lane,))


def _queue_of(lane: str) -> str:
    """Receipts settle what is `unknown`, also what is urgent: not behind bulk."""
    return Priority.NORMAL.value if lane == RECEIPTS else queue_of(lane)


def route(name: str, args: tuple[Any, ...], *rest: Any, **options: Any) -> dict[str, str] | None:
    """Celery's router: a wake-up, also a retried one, goes to the workers that look after its lane."""
    if name == RECEIPTS_TASK:
        return {"queue": _queue_of(RECEIPTS)}
    return {"queue": _queue_of(args[0])} if name == DRAIN_TASK else None


def hint(lanes: set[str]) -> None:
    """publish() each, but for a queue that no worker reads: when one does again, its sweep finds what is due."""
    for lane in lanes:
        if not _unread.are_too_many(_queue_of(lane)):
            publish(lane)


def pause_after(took: float) -> float:
    """Seconds without a hint after one that took so many to publish."""
    return min(max(SHORTEST_PAUSE, took * 10), LONGEST_PAUSE)


class Unread:
    """Whether a queue's hints pile up, asked once in `LOOK_PAUSE` seconds, and not before the first was published."""

    def __init__(self) -> None:
        self._looked_at: dict[str, float] = {}
        self._too_many: dict[str, bool] = {}

    def are_too_many(self, queue: str) -> bool:
        now = time.monotonic()
        if now - self._looked_at.setdefault(queue, now) > LOOK_PAUSE:
            self._looked_at[queue] = now
            self._too_many[queue] = _count(queue) >= MOST_UNREAD
        return self._too_many.get(queue, False)


def _count(queue: str) -> int:
    from notifyproj.celery import app

    with app.producer_or_acquire() as producer:
        # Before a passive look kombu asks Redis for the queue without its prefix, and so finds none.
        passive = producer.connection.transport.driver_type != "redis"
        return int(producer.channel.queue_declare(queue, passive=passive).message_count)


class Waker:
    """Publishes what was marked from a daemon thread, which starts with the first mark (and anew after a fork)."""

    def __init__(self, publish: Callable[[set[str]], None] = hint) -> None:
        self._publish = publish
        self._begin()
        # In a forked child the parent's thread is not there, and may have held the lock.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._condition = threading.Condition()
        self._marked: set[str] = set()
        self._pid = 0

    def mark(self, name: str) -> None:
        with self._condition:
            self._marked.add(name)
            self._start_thread_once_per_process()
            self._condition.notify()

    def _start_thread_once_per_process(self) -> None:
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        threading.Thread(target=self._publish_for_ever, name="waker", daemon=True).start()

    def _publish_for_ever(self) -> None:
        while True:
            time.sleep(self._publish_marked())

    def _publish_marked(self) -> float:
        """Publish what is marked, waiting for a mark first. Returns the seconds to pause."""
        with self._condition:
            while not self._marked:
                self._condition.wait()
            marked, self._marked = self._marked, set()
        started = time.monotonic()
        try:
            self._publish(marked)
        except Exception as error:
            # Not marked again: the sweep finds what is due. One line a second is enough to tell.
            log.warning("wake_failed", marked=sorted(marked)[:12], error=type(error).__name__)
            return BROKER_AWAY_PAUSE
        return pause_after(time.monotonic() - started)


_unread = Unread()
_waker = Waker()
