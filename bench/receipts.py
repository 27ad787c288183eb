"""Webhooks of Mailgun: how many a second are taken, how fast they are applied, and what a burst does to the API.

* Taken: distinct signed events, made beforehand, beside an empty view of the same server, as `create` measures.
* Applied: by one worker, so many stored ones, half of which name their notification by the provider's id alone.
* A burst: more a second than can be taken, over 64 connections, beside notifications posted at a steady pace; each is
  timed from when it should have been posted. A worker sends and applies meanwhile.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from uuid import UUID

from django.db import connection

from bench import load, rows, stack
from bench.create import CONNECTIONS, EMPTY, Measured, Server, line
from bench.figures import Figures
from drills import webhooks
from notifications import receipts
from notifications.models import Notification, Receipt

#: More webhooks a second than this machine takes.
MOST_PER_SECOND = 3_000
#: Connections of the burst.
BURST_CONNECTIONS = 64
#: Notifications posted a second meanwhile, over so many connections that none waits for a free one.
API_RATE, API_CONNECTIONS = 50, 100
#: Seconds until the worker has started.
START = 8.0

_SENT = """
UPDATE notifications_notification
SET status = 'sent', sent_at = now(), provider = 'mailgun', provider_message_id = '<' || id || '@mg.example.com>'
"""
_STORED = """
INSERT INTO notifications_receipt (provider, event_id, event, reject_reason, code, detail, occurred_at, named_id,
                                   provider_message_id, raw)
SELECT 'mailgun', id, 'delivered', '', '', 'OK', now(), CASE WHEN number % 2 = 0 THEN id END,
       provider_message_id, repeat('a Mailgun event is about so long. ', 45)
FROM (SELECT id, provider_message_id, row_number() OVER () AS number FROM notifications_notification) sent
"""


def run(seconds: float, rounds: int, stored: int, rate: int, burst: float) -> Figures:
    _, key = stack.make_key()
    applied = _apply_rate(stored)
    port = stack.free_port()
    with stack.processes(
        stack.web(port),
        stack.worker("worker"),
        LOG_LEVEL="INFO",  # each request is logged, as `create` has it
        MAILGUN_WEBHOOK_SIGNING_KEY=webhooks.MAILGUN_SIGNING_KEY,
    ) as (web, worker):
        stack.wait_for(f"http://127.0.0.1:{port}/readyz")
        time.sleep(START)
        beside = _beside_a_burst(port, key, rate, burst)
        worker.terminate()
        worker.wait(60)
        server = Server(web.pid, port, key)
        taken: Figures = {}
        for connections in CONNECTIONS:
            taken |= _side_by_side(server, connections, seconds, rounds)
    return taken | applied | beside


# --- Taken ---------------------------------------------------------------------------------------------------


def _side_by_side(server: Server, connections: int, seconds: float, rounds: int) -> Figures:
    pairs = []
    for _ in range(rounds):
        empty = server.measure(EMPTY, connections, seconds)
        hook = _measure_hook(server, connections, seconds)
        print(f"{connections} connections: empty {line(empty)}   webhook {line(hook)}")
        pairs.append((empty, hook))
    at = f"{connections} connection{'s' if connections > 1 else ''}"
    median = statistics.median
    return {
        f"{at}, webhook/empty": median(h.rate / e.rate for e, h in pairs),
        f"{at}, by CPU": median(e.cpu / h.cpu for e, h in pairs),
        f"{at}, webhooks /s": median(h.rate for _, h in pairs),
        f"{at}, p50, ms": median(h.p50 for _, h in pairs),
        f"{at}, p99, ms": median(h.p99 for _, h in pairs),
    }


def _measure_hook(server: Server, connections: int, seconds: float) -> Measured:
    requests = _requests([UUID(int=0)] * int(MOST_PER_SECOND * seconds))
    before = Receipt.objects.count()
    found = server.measured(
        lambda: load.send(server.port, requests, connections, seconds), seconds, "200"
    )
    assert Receipt.objects.count() - before >= found.rate * seconds, "some were told twice"
    return found


def _requests(ids: Iterable[UUID]) -> list[bytes]:
    """A signed event for each notification, as it goes over the wire."""
    return [
        webhooks.mailgun(
            webhooks.mailgun_event("delivered", str(id), "ada@example.com", f"{id}@mg.example.com")
        ).request("127.0.0.1")
        for id in ids
    ]


# --- Applied -------------------------------------------------------------------------------------------------


def _apply_rate(stored: int) -> Figures:
    _fill_with_sent(stored)
    with connection.cursor() as cursor:
        cursor.execute(_STORED)
        cursor.execute("VACUUM ANALYZE notifications_receipt")
    begun = time.perf_counter()
    applied = receipts.apply_all()
    took = time.perf_counter() - begun
    assert applied == stored, applied
    assert Notification.objects.filter(status="delivered").count() == stored
    print(f"{applied:,} applied in {took:.1f} s")
    return {"applied /s": applied / took}


def _fill_with_sent(count: int) -> None:
    rows.empty()
    rows.fill(rows.paused_flow("email.normal"), count)
    with connection.cursor() as cursor:
        cursor.execute(_SENT)
        cursor.execute("VACUUM ANALYZE notifications_notification")


# --- A burst -------------------------------------------------------------------------------------------------


def _beside_a_burst(port: int, key: str, rate: int, seconds: float) -> Figures:
    ids = list(Notification.objects.values_list("id", flat=True)[: int(rate * seconds)])
    Receipt.objects.all().delete()
    Notification.objects.update(status="sent", delivered_at=None)
    _post(port, key, seconds=2)  # warm up
    at_rest = _post(port, key, seconds=10)
    with load.offered(port, _requests(ids), rate, BURST_CONNECTIONS) as statuses:
        beside = _post(port, key, seconds=seconds)
    print(f"answers to the burst: {dict(statuses)}")
    stack.until(lambda: not Receipt.objects.filter(applied_at=None).exists(), pause=0.2)
    assert Receipt.objects.count() >= statuses["200"], "some are lost"
    return {
        "burst: answered 2xx /s": statuses["200"] / seconds,
        "burst: answered otherwise": statuses.total() - statuses["200"],
        **_percentiles("at rest", at_rest),
        **_percentiles("beside the burst", beside),
        "API p95, burst/rest": _percentile(beside, 0.95) / _percentile(at_rest, 0.95),
    }


def _post(port: int, key: str, seconds: float) -> list[float]:
    """Milliseconds from when each should have been posted to its answer."""
    took: list[float] = []
    load.paced(port, key, API_RATE, seconds, took=took, connections=API_CONNECTIONS)
    return took


def _percentiles(name: str, took: list[float]) -> Figures:
    return {
        f"API {name}, p50, ms": _percentile(took, 0.5),
        f"API {name}, p95, ms": _percentile(took, 0.95),
    }


def _percentile(took: list[float], share: float) -> float:
    return load.percentile(sorted(took), share)
