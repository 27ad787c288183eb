"""Who is alive. Workers say so with every sweep, beat through a task every 30 s."""

from __future__ import annotations

from django.db import connection

from notifications.models import Heartbeat

#: Seconds after which a worker that was not heard of counts as gone.
WORKER_SILENCE = 20.0
#: The same for beat, which says something every 30 s.
SCHEDULER_SILENCE = 90.0

_BEAT = """
INSERT INTO notifications_heartbeat (name, kind, queues, seen_at)
VALUES (%s, %s, %s, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, queues = excluded.queues
"""


def beat(name: str, kind: str, queues: str = "") -> None:
    """Record that the process `name` is alive now, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(_BEAT, (name, kind, queues))


def forget(name: str) -> None:
    """A process that ends in good order is not missed."""
    Heartbeat.objects.filter(name=name).delete()
