"""How fast due rows go out, beside the rate at which Celery consumes tasks that do nothing.

Two worker processes, as on two cores; the provider answers at once, after 20 ms, after 100 ms, or after 100 ms but
for one call in a hundred, which takes 10 s. `steady` is the middle three fifths of the rows, by `sent_at`: without
the first claims and without the last calls, for which most slots are idle.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import psutil
import redis
from django.conf import settings
from django.db import connection

from bench import rows, stack
from bench.figures import Figures
from notifications.models import SANDBOX_LANE, Notification
from notifications.providers.sandbox import Sandbox
from notifications.waking import publish
from notifyproj.celery import app

NOOPS = 10_000
WORKERS = 2
SLOTS = Sandbox.max_in_flight * WORKERS
#: Seconds until a worker has started.
START = 8.0

RATES = """
SELECT count(*) / extract(epoch FROM max(sent_at) - %(started)s),
       0.6 * count(*) / extract(epoch FROM percentile_disc(0.8) WITHIN GROUP (ORDER BY sent_at)
                                         - percentile_disc(0.2) WITHIN GROUP (ORDER BY sent_at))
FROM notifications_notification
"""


@dataclass(frozen=True)
class Delivered:
    """Rows a second from the first hint to the last answer, and in the middle; MB of the larger worker."""

    whole: float
    steady: float
    memory: float


@dataclass(frozen=True)
class Latency:
    """Seconds that a call takes, and each hundredth call."""

    ordinary: float
    hundredth: float

    @property
    def mean(self) -> float:
        return 0.99 * self.ordinary + 0.01 * self.hundredth


LATENCIES = {
    "20 ms": Latency(0.02, 0.02),
    "100 ms": Latency(0.1, 0.1),
    "100 ms, 1 % 10 s": Latency(0.1, 10),
}


def run(rows: int) -> Figures:
    noop = _celery_noop_rate()
    at_once = _deliver(rows, Latency(0, 0))
    figures = {
        "Celery's no-op tasks, prefork of 2, /s": noop,
        "0 ms, /s": at_once.whole,
        "0 ms, of Celery's no-op rate": at_once.whole / noop,
    }
    memory = [at_once.memory]
    for name, latency in LATENCIES.items():
        possible = SLOTS / latency.mean
        delivered = _deliver(int(min(rows, possible * 15)), latency)
        figures |= {
            f"{name}, /s": delivered.whole,
            f"{name}, of {SLOTS} slots / latency": delivered.whole / possible,
            f"{name}, steady, of {SLOTS} slots / latency": delivered.steady / possible,
        }
        memory.append(delivered.memory)
    return figures | {"memory of a worker process (RSS), MB": max(memory)}


def _celery_noop_rate() -> float:
    client = redis.Redis.from_url(settings.REDIS_URL)
    queue = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] + "low"
    client.delete(queue)
    for _ in range(NOOPS):
        app.send_task("bench.noop", queue="low")
    command = [*stack.worker("noop", "low"), "-P", "prefork", "-c", "2"]
    with stack.processes(command):
        stack.until(lambda: client.llen(queue) < NOOPS * 0.9)
        counted, started = client.llen(queue), time.monotonic()
        stack.until(lambda: client.llen(queue) < NOOPS * 0.1)
        return float((counted - client.llen(queue)) / (time.monotonic() - started))


def _deliver(count: int, latency: Latency) -> Delivered:
    rows.empty()
    flow = rows.paused_flow(SANDBOX_LANE)
    rows.fill(flow, count)
    with stack.processes(
        *(stack.worker(f"worker{number}") for number in range(WORKERS)),
        BENCH_DELAY=str(latency.ordinary),
        BENCH_HUNDREDTH_DELAY=str(latency.hundredth),
    ) as workers:
        time.sleep(START)
        flow.paused = False
        flow.save()
        started = rows.database_now()
        for _ in range(WORKERS):
            publish(SANDBOX_LANE)
        waiting = Notification.objects.filter(status__in=("pending", "sending"))
        stack.until(lambda: not waiting.exists(), pause=0.02)
        memory = max(map(_resident, workers))
    assert Notification.objects.filter(status="sent", attempt_count=1).count() == count
    with connection.cursor() as cursor:
        cursor.execute(RATES, {"started": started})
        whole, steady = cursor.fetchone()
    return Delivered(float(whole), float(steady), memory)


def _resident(process: subprocess.Popen[bytes]) -> float:
    return float(psutil.Process(process.pid).memory_info().rss / 2**20)
