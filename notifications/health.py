"""Is it well? Each component asked once, each with an end to the waiting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from notifications import providers
from notifications.heartbeats import SCHEDULER_SILENCE, WORKER_SILENCE
from notifications.models import Channel

#: Seconds the broker has for an answer.
BROKER_DEADLINE = 0.5
#: Seconds a lane may be overdue before the service is called degraded, or, with nothing going out, down.
OVERDUE_DEGRADED = 30.0
OVERDUE_DOWN = 300.0

OK, DEGRADED, DOWN = "ok", "degraded", "down"

# `waiting` is counted up to a thousand: health must not cost more the longer the queue is.
LANES = """
SELECT flow.lane, sum(due.waiting), max(due.overdue)
FROM notifications_flow flow CROSS JOIN LATERAL (
    SELECT count(*) AS waiting,
           coalesce(extract(epoch FROM now() - min(due_at)), 0) AS overdue
    FROM (SELECT due_at FROM notifications_notification
          WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
          ORDER BY due_at LIMIT 1000) AS first
) due
WHERE NOT flow.paused GROUP BY flow.lane ORDER BY flow.lane
"""

HEARTBEATS = """
SELECT kind, count(*), string_agg(DISTINCT queues, ',')
FROM notifications_heartbeat
WHERE seen_at > now() - make_interval(secs => CASE kind WHEN 'worker' THEN %s ELSE %s END)
GROUP BY kind
"""


@dataclass(frozen=True, slots=True)
class Component:
    status: str
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"status": self.status, "detail": self.detail}


def health() -> dict[str, Any]:
    """`{status, environment, components, lanes}`; each component is `{status, detail}`, each lane `{waiting, overdue_seconds}`."""
    try:
        lanes = _lanes()
        components = {"database": Component(OK, "answers")} | _processes()
    except (DatabaseError, InterfaceError) as error:
        lanes = {}
        components = {"database": Component(DOWN, f"does not answer: {type(error).__name__}")}
    components["broker"] = _broker()
    components |= _providers()
    return {
        "status": _overall(components, lanes),
        "environment": settings.ENVIRONMENT,
        "components": {name: component.as_json() for name, component in components.items()},
        "lanes": lanes,
    }


def _overall(components: dict[str, Component], lanes: dict[str, Any]) -> str:
    """Down: nothing can be stored, or nothing goes out. The broker alone never makes it so: the sweep goes on."""
    longest = max((lane["overdue_seconds"] for lane in lanes.values()), default=0)
    workers = components.get("workers")
    nothing_goes_out = longest > OVERDUE_DOWN and workers is not None and workers.status != OK
    if components["database"].status == DOWN or nothing_goes_out:
        return DOWN
    all_well = all(component.status == OK for component in components.values())
    return OK if all_well and longest <= OVERDUE_DEGRADED else DEGRADED


def _lanes() -> dict[str, dict[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(LANES)
        return {
            lane: {"waiting": int(waiting), "overdue_seconds": int(overdue)}
            for lane, waiting, overdue in cursor.fetchall()
        }


def _processes() -> dict[str, Component]:
    with connection.cursor() as cursor:
        cursor.execute(HEARTBEATS, (WORKER_SILENCE, SCHEDULER_SILENCE))
        alive = {kind: (count, queues) for kind, count, queues in cursor.fetchall()}
    return {"workers": _workers(*alive.get("worker", (0, ""))), "scheduler": _scheduler(alive)}


def _workers(count: int, queues: str) -> Component:
    missing = {"high", "normal", "low"} - set((queues or "").split(","))
    if not count:
        return Component(DOWN, "no worker was heard of in the last 20 s")
    if missing:
        return Component(DEGRADED, f"{count} alive, but none for: {', '.join(sorted(missing))}")
    return Component(OK, f"{count} alive")


def _scheduler(alive: dict[str, Any]) -> Component:
    if "scheduler" in alive:
        return Component(OK, "alive")
    return Component(
        DEGRADED, "beat was not heard of in the last 90 s; housekeeping waits, delivery does not"
    )


def _broker() -> Component:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=BROKER_DEADLINE,
        socket_connect_timeout=BROKER_DEADLINE,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    except redis.RedisError as error:
        detail = f"does not answer ({type(error).__name__}); the workers' sweep delivers without it"
        return Component(DEGRADED, detail)
    finally:
        client.close()
    return Component(OK, "answers")


def _providers() -> dict[str, Component]:
    return {f"provider.{channel}": _provider(channel) for channel in Channel.values}


def _provider(channel: str) -> Component:
    name = providers.for_channel(channel)
    if name:
        return Component(OK, name)
    if settings.SANDBOX:
        return Component(OK, "sandbox: nothing leaves this machine")
    return Component(DEGRADED, "no provider is configured; live notifications are refused")
