"""Who is alive. Workers say so with every sweep, beat through a task every 30 s."""

from __future__ import annotations

import time

from django.db import connection

from notifications.models import Heartbeat
from notifyproj.version import VERSION

#: Seconds after which a worker that was not heard of counts as gone.
WORKER_SILENCE = 20.0
#: The same for beat, which says something every 30 s.
SCHEDULER_SILENCE = 90.0

_BEAT = """
INSERT INTO notifications_heartbeat (name, kind, queues, version, seen_at, clock_ahead)
SELECT %(name)s, %(kind)s, %(queues)s, %(version)s, now, %(time)s - extract(epoch FROM now)
FROM clock_timestamp() AS now
ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, queues = excluded.queues,
    version = excluded.version, clock_ahead = excluded.clock_ahead
"""


def beat(name: str, kind: str, queues: str = "") -> None:
    """Record that the process `name` is alive now, by the database's clock, and how far its own is from that."""
    with connection.cursor() as cursor:
        cursor.execute(
            _BEAT,
            {
                "name": name,
                "kind": kind,
                "queues": queues,
                "version": VERSION,
                "time": time.time(),
            },
        )


def forget(name: str) -> None:
    """A process that ends in good order is not missed."""
    Heartbeat.objects.filter(name=name).delete()
