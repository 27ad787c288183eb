"""What every worker runs beside its pool of tasks: the sweep, and the watchdog over both.

Imported by notifyproj/celery.py before Django's models are, hence the imports inside functions.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from notifications import stopping
from notifications.watchdog import WatchdogThread, expect, moved

log = structlog.get_logger(__name__)


class SweepThread(threading.Thread):
    """Sweeps and drains overdue lanes until the process stops, whatever becomes of the broker."""

    def __init__(self, queues: Iterable[str]) -> None:
        from notifications.models import LANES, queue_of

        super().__init__(name="sweep", daemon=True)
        self.queues = sorted(queues)
        self.lanes = [lane for lane in LANES if queue_of(lane) in self.queues]
        self.worker_name = f"worker {socket.gethostname()} {os.getpid()}"
        self.has_more = False

    def run(self) -> None:
        from notifications.circuits import probe_what_was_refused

        self._attempt(probe_what_was_refused)
        while not stopping.is_stopping():
            expect("sweep")
            self._attempt(self.sweep_once)
            # By itself: a fault in it must not keep what is overdue from going out.
            self._attempt(self.look_after_batches)
            self._attempt(self.look_after_bulk_actions)
            moved("sweep")
            stopping.wait(0 if self.has_more else settings.SWEEP_INTERVAL)
        self._say_goodbye()

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            # The database is away, or a bug: the next round tries again, and the log says so.
            log.warning("sweep_failed", error=f"{type(error).__name__}: {error}")
            connection.close()

    def sweep_once(self) -> None:
        """One chunk. Were there a million, nobody would hear of this worker until they are done."""
        from notifications.heartbeats import beat
        from notifications.receipts import CHUNK, apply
        from notifications.sweeping import overdue_lanes, sweep

        self.has_more = False
        close_old_connections()
        beat(self.worker_name, "worker", ",".join(self.queues))
        # Before the policy decides about what a receipt settles.
        receipts_looked_at, _ = apply()
        self.has_more = sweep().has_more or receipts_looked_at == CHUNK
        for lane in overdue_lanes(self.lanes):
            expect(lane)
            # No daemon: a process that ends waits until what it has begun is settled.
            threading.Thread(target=_drain_overdue, args=(lane,), daemon=False).start()

    def look_after_batches(self) -> None:
        """Start, end and pause those whose time it is; load what was uploaded, where bulk is sent from."""
        from notifications import batches
        from notifications.bulk.staged_loading import start_loading
        from notifications.models import Priority

        batches.tend()
        if Priority.LOW in self.queues:
            start_loading()

    def look_after_bulk_actions(self) -> None:
        """Go on with what operators do to many, where bulk is sent from."""
        from notifications.carrying import start_carrying
        from notifications.models import Priority

        if Priority.LOW in self.queues:
            start_carrying()

    def _say_goodbye(self) -> None:
        from notifications.heartbeats import forget

        try:
            forget(self.worker_name)
        except Exception:
            log.info("goodbye_failed", worker=self.worker_name)
        connection.close()


def _drain_overdue(lane: str) -> None:
    from notifications import delivery

    try:
        delivery.drain(lane, stopping.is_stopping)
    except Exception as error:
        log.warning("overdue_drain_failed", lane=lane, error=f"{type(error).__name__}: {error}")
        if isinstance(error, OperationalError | InterfaceError):
            moved(lane)  # The database is away: that is no standstill of ours.
    finally:
        connection.close()


class SweepStep(bootsteps.StartStopStep):
    """Runs the sweep and the watchdog beside the worker's pool, from its start to its stop."""

    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        SweepThread(worker.app.amqp.queues.consume_from).start()
        grace = settings.SEND_DEADLINE + settings.SEND_LEASE_MARGIN
        WatchdogThread(settings.STANDSTILL_AFTER, grace).start()

    def stop(self, worker: Any) -> None:
        stopping.stop()


def add_sweep_to_worker(app: Celery) -> None:
    """Every worker of the application sweeps, and claims nothing new once it is told to stop."""
    app.steps["worker"].add(SweepStep)
    worker_shutting_down.connect(_stop_claiming)


def _stop_claiming(**kwargs: object) -> None:
    stopping.stop()
