"""The service's own Celery application, with a sandbox that takes its time and a task that does nothing."""

import itertools
import os
import time

from notifications import providers
from notifications.providers.base import Message, Sent
from notifications.providers.deadline import Deadline
from notifications.providers.sandbox import Sandbox
from notifyproj.celery import app

#: Seconds the provider takes, and takes for each hundredth call.
DELAY = float(os.environ.get("BENCH_DELAY", "0"))
HUNDREDTH_DELAY = float(os.environ.get("BENCH_HUNDREDTH_DELAY", DELAY))

_calls = itertools.count(1)


class DelayedSandbox(Sandbox):
    def send(self, message: Message, deadline: Deadline) -> Sent:
        delay = DELAY if next(_calls) % 100 else HUNDREDTH_DELAY
        if delay:
            time.sleep(delay)
        return super().send(message, deadline)


for name in ("sandbox", "smtp"):
    providers._PROVIDERS[name] = "bench.worker.DelayedSandbox"


@app.task(name="bench.noop")
def noop() -> None:
    """What Celery alone costs."""
