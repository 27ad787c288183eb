"""Notifications a second by POST /notifications/batch, beside the same ones posted one by one.

To people who exist, live key, limiter and logging on, commit synchronous. The single calls come over 16 connections, at
which they are about fastest, the calls of 1,000 over four. They take turns, and the ratio is the median of the rounds'.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

from bench import load, stack
from bench.create import CREATE, Measured, Server, line
from bench.figures import Figures

BATCH = "/api/v1/notifications/batch"
ITEMS = 1000
SINGLE_CONNECTIONS, BATCH_CONNECTIONS = 16, 4


def run(seconds: float, rounds: int) -> Figures:
    project, key = stack.make_key()
    _make_people(project.pk)
    singles = [load.request_of(CREATE, _body(_item(number)), key) for number in range(ITEMS)]
    batch = load.request_of(
        BATCH, _body({"notifications": [_item(number) for number in range(ITEMS)]}), key
    )
    port = stack.free_port()
    with stack.processes(stack.web(port)) as (web,):
        stack.wait_for(f"http://127.0.0.1:{port}/readyz")
        server = Server(web.pid, port, key)
        _measure(server, singles, [batch], seconds=1)  # warm up
        pairs = [_measure(server, singles, [batch], seconds) for _ in range(rounds)]
    median = statistics.median
    return {
        "batch/single": median(b.rate * ITEMS / s.rate for s, b in pairs),
        "batch/single by CPU of the web": median(s.cpu * ITEMS / b.cpu for s, b in pairs),
        "single: notifications /s": median(s.rate for s, _ in pairs),
        "batch: notifications /s": median(b.rate * ITEMS for _, b in pairs),
        "batch: p50 ms of a call": median(b.p50 for _, b in pairs),
        "batch: web us a notification": median(b.cpu / ITEMS for _, b in pairs),
    }


def _measure(
    server: Server, singles: list[bytes], batches: list[bytes], seconds: float
) -> tuple[Measured, Measured]:
    single = server.measured(
        lambda: load.send(server.port, singles, SINGLE_CONNECTIONS, seconds), seconds, "201"
    )
    batch = server.measured(
        lambda: load.send(server.port, batches, BATCH_CONNECTIONS, seconds), seconds, "200"
    )
    print(f"single {line(single)}   batch of {ITEMS:,} {line(batch)}")
    return single, batch


def _make_people(project_id: int) -> None:
    from users.models import Address, Recipient

    people = Recipient.objects.bulk_create(
        Recipient(project_id=project_id, user_id=f"user{number}") for number in range(ITEMS)
    )
    Address.objects.bulk_create(
        Address(
            project_id=project_id,
            recipient=person,
            channel="email",
            value=f"{person.user_id}@example.com",
        )
        for person in people
    )


def _item(number: int) -> dict[str, Any]:
    return {
        "user_id": f"user{number}",
        "channel": "email",
        "title": "Your order has shipped",
        "message": "Hello, your order is on its way. It should reach you within two days.",
        "category": "shipping",
        "metadata": {"order": number},
    }


def _body(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()
