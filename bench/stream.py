"""The inbox's stream: 1,000 open streams of 1,000 people in one process.

So many in-app notifications a second, spread over all of them and sent by the API and real workers; each client looks whether the
numbers of its events have a gap or a repeat. Then from the POST to the client: at rest, and while 100,000 mails of low
priority drain, to a provider that answers at once, so that they take all the processor they can get.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

import psutil
from django.utils import timezone

from bench import load, rows, stack
from bench.figures import Figures
from bench.mixed import LANE, SMTP, _is_drained
from bench.wake import START
from notifications.inbox.entry import entry_for
from notifications.models import Inbox, InboxEvent
from notifications.waking import publish
from users.models import Project

#: Notifications in one call of the load.
IN_A_CALL = 10
#: POSTs a second while one measures how long they take to the client.
GENTLY = 20
#: Seconds until everything has arrived.
END = 4.0


@dataclass(frozen=True)
class Heard:
    """What the clients wrote down: when each was told of a notification, and the numbers that each has seen."""

    at: dict[UUID, float]
    numbers: dict[int, list[int]]


def run(streams: int, rate: int, seconds: float, low: int) -> Figures:
    project, key = stack.make_key()
    web, stream = stack.free_port(), stack.free_port()
    flow = rows.paused_flow(LANE)
    rows.fill(flow, low)
    _allow_files(streams * 2 + 200)
    with stack.processes(
        stack.web(web),
        stack.stream(stream),
        stack.worker("urgent", "high,normal"),
        stack.worker("bulk", "low"),
        STREAM_CONNECTIONS=str(streams + 100),
        **SMTP,
    ) as processes:
        stack.wait_for(f"http://127.0.0.1:{web}/readyz")
        stack.wait_for(f"http://127.0.0.1:{stream}/livez")
        time.sleep(START)
        empty = _memory(processes[1])
        with _listening(project, streams, stream) as events:
            idle = _memory(processes[1])
            load.paced(web, key, rate=GENTLY, seconds=2, body=_body(streams))  # warm up
            at_rest = load.paced(web, key, rate=GENTLY, seconds=10, body=_body(streams))
            loaded = timezone.now()
            _offer(web, key, streams, rate, seconds)
            full = _memory(processes[1])
            time.sleep(1)
            flow.paused = False
            flow.save()
            started = timezone.now()
            publish(LANE)
            busy = load.paced(web, key, rate=GENTLY, until=_is_drained, body=_body(streams))
            took = (timezone.now() - started).total_seconds()
            time.sleep(END)
        heard = _heard(events)
    under_load = _numbered(loaded, started)
    return {
        "streams": streams,
        "memory of the process without streams, MB": empty,
        "with all of them open, MB": idle,
        "after the load, MB": full,
        **_nothing_lost(heard),
        "events a second while loaded": len(under_load) / seconds,
        "commit to client under the load, p50, ms": _from_commit(heard, under_load, 0.5),
        "commit to client under the load, p95, ms": _from_commit(heard, under_load, 0.95),
        "POST to client at rest, p50, ms": _from_post(heard, at_rest, 0.5),
        "POST to client at rest, p95, ms": _from_post(heard, at_rest, 0.95),
        "POST to client beside the bulk, p50, ms": _from_post(heard, busy, 0.5),
        "POST to client beside the bulk, p95, ms": _from_post(heard, busy, 0.95),
        "of these, commit to client, p95, ms": _from_commit(heard, _numbered(started), 0.95),
        "bulk meanwhile, /s": low / took,
    }


def _body(streams: int):  # type: ignore[no-untyped-def]
    numbers = itertools.count()
    return lambda: {
        "user_id": f"person-{next(numbers) % streams}",
        "channel": "in_app",
        "message": "Hello",
    }


def _offer(port: int, key: str, streams: int, rate: int, seconds: float) -> None:
    """By calls of a few, to people in a random order."""
    requests = _requests(key, streams, int(rate * seconds) // IN_A_CALL)
    with load.offered(port, requests, rate / IN_A_CALL, connections=4):
        time.sleep(seconds)


def _requests(key: str, streams: int, count: int) -> list[bytes]:
    draw = random.Random(8)
    return [
        load.request_of(
            "/api/v1/notifications/batch",
            json.dumps(
                {
                    "notifications": [
                        {
                            "user_id": f"person-{draw.randrange(streams)}",
                            "channel": "in_app",
                            "priority": "normal",
                            "title": "Your order has shipped",
                            "message": "Hello, your order is on its way.",
                        }
                        for _ in range(IN_A_CALL)
                    ]
                }
            ).encode(),
            key,
        )
        for _ in range(count)
    ]


@contextmanager
def _listening(project: Project, streams: int, port: int) -> Iterator[Path]:
    """All streams are open while the block runs. Yields where it is written what they are told."""
    folder = Path(os.environ["VAR_DIR"])
    tokens, events = folder / "stream.tokens", folder / "stream.events"
    texts = [
        entry_for(project.pk, f"person-{number}", live=True).token for number in range(streams)
    ]
    tokens.write_text("\n".join(texts))
    command = [sys.executable, "-m", "bench.listeners", str(port), str(tokens), str(events)]
    with subprocess.Popen(command, cwd=stack.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield events
        finally:
            process.terminate()


def _heard(events: Path) -> Heard:
    at: dict[UUID, float] = {}
    numbers = defaultdict(list)
    for line in events.read_text().splitlines():
        client, event, number, notification, moment = line.split()
        if event != "count":
            numbers[int(client)].append(int(number))
        if notification != "-":
            at[UUID(notification)] = float(moment)
    return Heard(at, numbers)


def _nothing_lost(heard: Heard) -> Figures:
    """Each client must have seen 1, 2, 3 ... up to where its inbox is."""
    there = sum(Inbox.objects.values_list("position", flat=True))
    seen = sum(len(numbers) for numbers in heard.numbers.values())
    once = sum(len(set(numbers)) for numbers in heard.numbers.values())
    disorder = sum(
        numbers != list(range(1, len(numbers) + 1)) for numbers in heard.numbers.values()
    )
    return {
        "events": there,
        "lost": there - once,
        "given twice": seen - once,
        "clients with a gap": disorder,
    }


def _numbered(since: datetime, until: datetime | None = None) -> dict[UUID, datetime]:
    """What arrived in an inbox meanwhile, and when."""
    arrived = InboxEvent.objects.filter(kind=InboxEvent.Kind.CREATED, at__gte=since)
    if until:
        arrived = arrived.filter(at__lt=until)
    return dict(arrived.values_list("notification_id", "at"))


def _from_commit(heard: Heard, numbered: dict[UUID, datetime], share: float) -> float:
    """From when the change was numbered, just before its commit."""
    took = [(heard.at[id] - at.timestamp()) * 1000 for id, at in numbered.items() if id in heard.at]
    return load.percentile(sorted(took), share)


def _from_post(heard: Heard, posted: load.Posted, share: float) -> float:
    """What was never heard of took for ever."""
    took = sorted((heard.at.get(id, math.inf) - at) * 1000 for id, at in posted.items())
    return load.percentile(took, share)


def _memory(process: subprocess.Popen[bytes]) -> float:
    """Of the process that holds the streams: granian's worker."""
    (worker,) = psutil.Process(process.pid).children()
    return float(worker.memory_info().rss) / 1e6


def _allow_files(count: int) -> None:
    """For those who are started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
