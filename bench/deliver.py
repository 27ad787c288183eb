"""How fast due rows go out, beside the rate at which Celery consumes tasks that do nothing.

Two worker processes, as on two cores; the provider answers at once, or after 100 ms.
"""

from __future__ import annotations

import time

import redis
from django.conf import settings
from django.db import connection

from bench import stack
from bench.figures import Figures
from notifications import intake
from notifications.models import SANDBOX_LANE, Flow, Notification
from notifications.providers.sandbox import Sandbox
from notifications.waking import publish
from notifyproj.celery import app
from users.models import Project, Recipient

NOOPS = 10_000
WORKERS = 2

FILL = """
INSERT INTO notifications_notification (
    id, project_id, flow_id, recipient_id, user_id, channel, priority, live, address, title, message,
    html, url, category, reference, metadata, status, failure_kind, failure_code, failure_detail,
    provider, provider_message_id, created_at, due_at, fence, attempt_count, lapses, resends)
SELECT uuidv7(), %s, %s, %s, 'user123', 'email', 'normal', true, 'ada@example.com', 'Hello',
       'Hello Ada, your order is on its way.', '', '', '', '', '{}', 'pending', '', '', '', '', '',
       now(), now(), 0, 0, 0, 0
FROM generate_series(1, %s)
"""


def run(rows: int) -> Figures:
    noop = _celery_noop_rate()
    at_once = _deliver(rows, delay=0.0)
    slots = Sandbox.max_in_flight * WORKERS
    slow = _deliver(min(rows, slots * 80), delay=0.1)
    return {
        "Celery's no-op tasks, prefork of 2, /s": noop,
        "deliver, 0 ms, /s": at_once,
        "deliver, 0 ms, of Celery's no-op rate": at_once / noop,
        "deliver, 100 ms, /s": slow,
        "deliver, 100 ms, of slots / latency": slow / (slots / 0.1),
    }


def _celery_noop_rate() -> float:
    client = redis.Redis.from_url(settings.REDIS_URL)
    queue = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] + "low"
    client.delete(queue)
    for _ in range(NOOPS):
        app.send_task("bench.noop", queue="low")
    command = [*stack.worker("noop", "low"), "-P", "prefork", "-c", "2"]
    with stack.processes(command):
        _until(lambda: client.llen(queue) < NOOPS * 0.9)
        counted, started = client.llen(queue), time.monotonic()
        _until(lambda: client.llen(queue) < NOOPS * 0.1)
        return float((counted - client.llen(queue)) / (time.monotonic() - started))


def _deliver(rows: int, delay: float) -> float:
    flow = _fill(rows)
    with stack.processes(
        *(stack.worker(f"worker{number}") for number in range(WORKERS)), BENCH_DELAY=str(delay)
    ):
        time.sleep(8)
        flow.update(paused=False)
        started = time.monotonic()
        for _ in range(WORKERS):
            publish(SANDBOX_LANE)
        waiting = Notification.objects.filter(status__in=("pending", "sending"))
        _until(lambda: not waiting.exists(), pause=0.02)
        took = time.monotonic() - started
    assert Notification.objects.filter(status="sent", attempt_count=1).count() == rows
    return rows / took


def _fill(rows: int):  # type: ignore[no-untyped-def]
    """So many due rows in one paused flow."""
    intake.forget_flows()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE notifications_notification, notifications_flow CASCADE")
    project, _ = Project.objects.get_or_create(name="bench")
    recipient, _ = Recipient.objects.get_or_create(project=project, user_id="user123")
    flow = Flow.objects.filter(id=intake.flow_of(project.pk, SANDBOX_LANE))
    flow.update(paused=True)
    with connection.cursor() as cursor:
        cursor.execute(FILL, (project.pk, flow.get().pk, recipient.pk, rows))
        cursor.execute("VACUUM ANALYZE notifications_notification")
    return flow


def _until(reached, pause: float = 0.005, seconds: float = 120) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(pause)
