"""Send what is due from a shell, when there is no worker at all. Beside workers it does no harm: they share the work."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Count, Max

from notifications import delivery, receipts, stopping, sweeping
from notifications.doctor import backlog
from notifications.explaining import counted
from notifications.models import LANES, Attempt

#: Seconds between two looks at whether somebody wants it to stop, and between two lines of progress.
LOOK_EVERY, TELL_EVERY = 0.2, 5.0


class Command(BaseCommand):
    help = (
        "Sends what is due now, until nothing is: for when no worker runs. It also frees what a worker that died had "
        "taken. Ctrl-C, or SIGTERM, claims nothing new and finishes what is in flight. Exit code 1 when something "
        "that is due was left."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--lane",
            action="append",
            choices=LANES,
            metavar="LANE",
            help=f"may be given several times; default: all of {', '.join(LANES)}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        lanes = options["lane"] or list(LANES)
        self.since = Attempt.objects.aggregate(last=Max("id"))["last"] or 0
        self.interrupts = self.told_interrupts = 0
        self.told = ""
        try:
            with self._stopped_by_signals(), ThreadPoolExecutor(len(LANES)) as threads:
                self._drain(threads, lanes)
            self._tell_progress()
            left = [lane for lane in backlog.lanes() if lane.name in lanes and lane.waiting]
        except (OperationalError, InterfaceError) as error:
            raise CommandError(f"The database does not answer: {error}") from error
        if left:
            named = ", ".join(f"{lane.name} ({lane.waiting:,})" for lane in left)
            self.stdout.write(
                f"Still due: {named}. manage.py doctor says why, unless you stopped it."
            )
            sys.exit(1)
        self.stdout.write("Nothing is due any more.")

    def _drain(self, threads: ThreadPoolExecutor, lanes: list[str]) -> None:
        """All lanes at once, as a worker does; once more while that has sent anything."""
        while not stopping.is_stopping():
            receipts.apply_all(stopping.is_stopping)
            sweeping.sweep()
            due = sweeping.overdue_lanes(lanes, overdue=0)
            drains = [threads.submit(_drain_lane, lane) for lane in due]
            self._watch(drains)
            if not sum(drain.result() for drain in drains):
                return

    def _watch(self, drains: list[Future[int]]) -> None:
        """Until they have ended, tell how far they are."""
        looks = 0
        while wait(drains, timeout=LOOK_EVERY).not_done:
            self._tell_interrupts()
            looks += 1
            if looks % round(TELL_EVERY / LOOK_EVERY) == 0:
                self._tell_progress()

    def _tell_interrupts(self) -> None:
        if self.interrupts == self.told_interrupts:
            return
        self.told_interrupts = self.interrupts
        again = (
            "Still finishing"
            if self.interrupts > 1
            else "Stopping: nothing new is claimed. Finishing"
        )
        self.stderr.write(
            f"{again} what is in flight, {settings.SEND_DEADLINE:g} s at most. Ending it by force "
            "would leave unknown what became of that."
        )

    def _tell_progress(self) -> None:
        """Calls since the start, by outcome; those of workers that run beside it among them."""
        outcomes = (
            Attempt.objects.filter(id__gt=self.since, outcome__isnull=False)
            .values("outcome")
            .annotate(count=Count("id"))
        )
        counts = sorted((row["outcome"], row["count"]) for row in outcomes)
        total = counted(sum(count for _, count in counts), "call")
        named = ", ".join(f"{count:,} {outcome}" for outcome, count in counts)
        line = f"{total}: {named}." if counts else f"{total}."
        if line != self.told:
            self.stdout.write(line)
            self.told = line

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        def stop(signum: int, frame: object) -> None:
            self.interrupts += 1
            stopping.stop()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _drain_lane(lane: str) -> int:
    try:
        return delivery.drain(lane, stopping.is_stopping)
    finally:
        connection.close()
