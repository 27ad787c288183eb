"""Workers, streams and beat, by their heartbeats: who is alive, for which lanes, with which code and which clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.db import connection

from notifications.doctor.database import CLOCK_TOLERANCE, skew
from notifications.doctor.findings import Finding, error, ok, warning
from notifications.heartbeats import SCHEDULER_SILENCE, WORKER_SILENCE
from notifications.models import LANES, Inbox, queue_of
from notifyproj.version import VERSION

ALIVE = """
SELECT name, kind, queues, version, clock_ahead FROM notifications_heartbeat
WHERE seen_at > now() - make_interval(secs => CASE kind WHEN 'scheduler' THEN %s ELSE %s END)
ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that was heard of lately; `clock_ahead` in seconds, of the database's."""

    name: str
    kind: str
    queues: str
    version: str
    clock_ahead: float


def alive() -> list[Process]:
    with connection.cursor() as cursor:
        cursor.execute(ALIVE, (SCHEDULER_SILENCE, WORKER_SILENCE))
        return [Process(*row) for row in cursor.fetchall()]


def serves(lane: str) -> bool:
    """Whether a worker that looks after the lane was heard of lately."""
    return any(queue_of(lane) in process.queues.split(",") for process in alive())


def examine() -> Iterator[Finding]:
    yield from judged(alive())


def judged(processes: Sequence[Process]) -> Iterator[Finding]:
    """What is to be said of those that are alive."""
    workers = [process for process in processes if process.kind == "worker"]
    streams = [process for process in processes if process.kind == "stream"]
    yield from _workers(workers)
    yield _scheduler(any(process.kind == "scheduler" for process in processes))
    if streams or Inbox.objects.exists():
        yield _streams(streams)
    if workers:
        yield _versions([*workers, *streams])
    yield from (
        skew(f"a {process.kind}", process.clock_ahead, process.name)
        for process in (*workers, *streams)
        if abs(process.clock_ahead) > CLOCK_TOLERANCE
    )


def _workers(workers: list[Process]) -> Iterator[Finding]:
    if not workers:
        yield error(
            "workers",
            "no_worker",
            f"No worker was heard of in the last {WORKER_SILENCE:.0f} s: nothing goes out.",
            "Start the workers (README, Deployment) and look at their logs. Until then manage.py drain sends what "
            "is due.",
        )
        return
    served = {queue for worker in workers for queue in worker.queues.split(",")}
    waiting = [lane for lane in LANES if queue_of(lane) not in served]
    for queue in sorted({queue_of(lane) for lane in waiting}):
        lanes = ", ".join(lane for lane in waiting if queue_of(lane) == queue)
        yield error(
            "workers",
            "queue_without_worker",
            f"No worker serves the queue {queue}: what is in its lanes waits ({lanes}).",
            f"Start a worker with -Q {queue}, or add it to the queues of one that runs. manage.py drain sends what "
            "is due until then.",
        )
    if not waiting:
        yield ok("workers", f"{len(workers)} alive.", ", ".join(worker.name for worker in workers))


def _scheduler(is_alive: bool) -> Finding:
    if is_alive:
        return ok("scheduler", "Beat is alive.")
    return warning(
        "scheduler",
        "no_beat",
        f"Beat was not heard of in the last {SCHEDULER_SILENCE:.0f} s; housekeeping waits, delivery does not.",
        "Start celery beat, one for the whole installation. It speaks through the broker and a worker: if these "
        "do not run, begin there.",
    )


def _streams(streams: list[Process]) -> Finding:
    if streams:
        names = ", ".join(stream.name for stream in streams)
        return ok("stream", f"{len(streams)} alive.", names)
    return warning(
        "stream",
        "no_stream",
        f"No stream was heard of in the last {WORKER_SILENCE:.0f} s: open pages learn of in-app messages late, when "
        "they ask.",
        "Start the process `stream` (README, Deployment) and look at its log. What is in the inboxes is not touched.",
    )


def _versions(processes: list[Process]) -> Finding:
    others = [process for process in processes if process.version != VERSION]
    if not others:
        return ok("versions", "All processes run the same code.", VERSION)
    return warning(
        "versions",
        "versions_differ",
        f"{len(others)} of {len(processes)} processes run another version of the code than this one.",
        "During an upgrade this passes. Else restart what was forgotten: workers, stream, web and beat, on every machine.",
        f"here {VERSION}; "
        + ", ".join(f"{process.name}: {process.version or 'older'}" for process in others[:5]),
    )
