"""How many mails a second reach a local SMTP server, beside django-post-office's `send_queued_mail`.

The same mails, the same server, the same number of processes, on the same PostgreSQL. Ours are two workers that run
already when the queue is opened; theirs is timed from the call of `send_queued_mail_until_done`, without the start of
Python. Theirs with its own five threads a process, and with as many as we have connections; the better one counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from smtplib import SMTP

from bench import rows, stack
from bench.figures import Figures
from notifications.models import Notification
from notifications.rendering import render
from notifications.waking import publish

LANE = "email.normal"
PROCESSES = 2
SENDER = "shop@example.com"
#: Connections of each of our workers.
CONNECTIONS = 16
#: Seconds until a worker has started.
START = 8.0


def run(mails: int, rounds: int) -> Figures:
    port = stack.free_port()
    ratios, ours, others = [], [], []
    with sink(port):
        for number in range(1, rounds + 1):
            ours.append(_ours(port, mails))
            others.append(max(theirs(port, mails, threads) for threads in (5, CONNECTIONS)))
            ratios.append(ours[-1] / others[-1])
            print(f"round {number}: {ours[-1]:,.0f}/s beside {others[-1]:,.0f}/s")
    return {
        "mails/s": statistics.median(ours),
        "django-post-office, mails/s": statistics.median(others),
        "of django-post-office's rate": statistics.median(ratios),
    }


@contextmanager
def sink(port: int) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "bench.sink", str(port)], cwd=stack.ROOT)
    try:
        stack.until(lambda: _answers(port))
        yield
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        counted(port)
    except OSError:
        return False
    return True


def counted(port: int) -> tuple[int, int, int]:
    """Mails and bytes that the server has taken so far, and for how many different recipients."""
    with SMTP("127.0.0.1", port) as client:
        _, words = client.docmd("XCOUNT")
    mails, size, recipients = map(int, words.split())
    return mails, size, recipients


def _ours(port: int, mails: int) -> float:
    rows.empty()
    flow = rows.paused_flow(LANE)
    rows.fill(flow, mails)
    workers = [stack.worker(f"worker{number}", app="notifyproj") for number in range(PROCESSES)]
    with (
        stack.processes(
            *workers,
            EMAIL_URL=f"smtp://127.0.0.1:{port}",
            DEFAULT_FROM_EMAIL=SENDER,
            SMTP_MAX_CONNECTIONS=str(CONNECTIONS),
        ),
        taking(port, mails),
    ):
        time.sleep(START)
        flow.paused = False
        flow.save()
        started = time.monotonic()
        for _ in range(PROCESSES):
            publish(LANE)
        waiting = Notification.objects.filter(status__in=("pending", "sending"))
        stack.until(lambda: not waiting.exists(), pause=0.02)
        took = time.monotonic() - started
    assert Notification.objects.filter(status="sent", attempt_count=1).count() == mails
    return mails / took


def theirs(port: int, mails: int, threads: int) -> float:
    with taking(port, mails):
        done = subprocess.run(
            [sys.executable, "-m", "bench.post_office", str(mails), str(PROCESSES)],
            cwd=stack.ROOT,
            env=os.environ | {"BENCH_SMTP_PORT": str(port), "BENCH_THREADS": str(threads)},
            input=json.dumps(content()),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return mails / float(done.stdout.split()[-1])


@contextmanager
def taking(port: int, mails: int) -> Iterator[None]:
    """The server takes that many mails meanwhile, of the size that all have."""
    before = counted(port)
    yield
    after = counted(port)
    assert after[0] - before[0] == mails, f"{after[0] - before[0]} of {mails} mails arrived"
    size = (after[1] - before[1]) / mails
    _sizes.append(size)
    assert max(_sizes) < 1.05 * min(_sizes), f"mails of different sizes: {_sizes}"


_sizes: list[float] = []


def content() -> dict[str, str]:
    """The mail that ours are, rendered."""
    notification = Notification.objects.first()
    assert notification is not None
    message = render(_Content(notification), SENDER)
    return {name: value for name, value in asdict(message).items() if isinstance(value, str)}


class _Content:
    """A notification with what a claim brings of its project."""

    from_email = from_name = reply_to = ""

    def __init__(self, notification: Notification) -> None:
        self.__dict__.update(notification.__dict__)
