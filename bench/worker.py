"""The service's own Celery application, with a sandbox that takes its time and a task that does nothing."""

import os
import time

from notifications import providers
from notifications.providers.base import Message, Sent
from notifications.providers.deadline import Deadline
from notifications.providers.sandbox import Sandbox
from notifyproj.celery import app

#: Seconds the provider takes.
DELAY = float(os.environ.get("BENCH_DELAY", "0"))


class DelayedSandbox(Sandbox):
    def send(self, message: Message, deadline: Deadline) -> Sent:
        if DELAY:
            time.sleep(DELAY)
        return super().send(message, deadline)


providers._PROVIDERS["sandbox"] = "bench.worker.DelayedSandbox"


@app.task(name="bench.noop")
def noop() -> None:
    """What Celery alone costs."""
