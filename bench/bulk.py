"""A bulk send: how fast a file becomes durable rows, how fast these go out, and what the urgent notice of it.

* `send_bulk` of a file with two variables, all of it, from the shell's prompt back to it, beside a bare COPY of the same
  rows into the same table with the same indexes. The COPY makes neither recipients nor addresses.
* The batch's mails to a local SMTP server that keeps a ledger of recipients, beside django-post-office with the same
  mails and as many processes.
* Meanwhile `high` ones are posted: from POST to hand-over, and the API's answers, beside the same at rest. Here the mails
  go out with workers as script/server has them.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from bench import load, rows, smtp, stack, wake
from bench.figures import Figures
from notifications import batches
from notifications.models import Batch, Flow, Notification

#: Far enough ahead that nothing goes out while it is loaded.
LATER = "2099-01-01T00:00Z"
TITLE, MESSAGE = (
    "Order {{ order }}",
    "Hello {{ first_name }}, your order {{ order }} is on its way.",
)


def run(rows: int, mails: int, rate: int) -> Figures:
    figures = _loading(rows)
    port = stack.free_port()
    with smtp.sink(port):
        figures |= _sending(port, mails)
        figures |= _urgent_beside(port, mails, rate)
    return figures


# -- From a file to rows -----------------------------------------------------------------------------------


def _loading(count: int) -> Figures:
    rows.empty()
    with _file(count) as file:
        took, memory = _send_bulk(file, "loading")
        copied = _bare_copy(count)
    print(f"{count:,} rows: send_bulk {took:.1f} s, a bare COPY {copied:.1f} s", flush=True)
    return {
        "send_bulk, rows/s": count / took,
        "a bare COPY, rows/s": count / copied,
        "send_bulk of COPY's rate": copied / took,
        "send_bulk, memory, MB": memory,
    }


@contextmanager
def _file(count: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("email", "First Name", "Order"))
            out.writerows(
                (f"person{n}@example.com", f"Person {n}", 10**9 + n) for n in range(count)
            )
        yield path


def _send_bulk(file: Path, name: str) -> tuple[float, float]:
    """Seconds of the whole command, and its memory at most (MB)."""
    before = time.monotonic()
    command = [
        sys.executable,
        "manage.py",
        "send_bulk",
        str(file),
        "--project",
        "bench",
        "--name",
        name,
    ]
    command += ["--title", TITLE, "--message", MESSAGE, "--at", LATER, "--yes", "--detach"]
    rows.paused_flow("email.low")  # makes the project
    process = subprocess.Popen(
        command, cwd=stack.ROOT, env=os.environ | _ANY_VENDOR, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, status
    return time.monotonic() - before, used.ru_maxrss / 1024


_ANY_VENDOR = {
    "EMAIL_URL": "smtp://127.0.0.1:9",
    "DEFAULT_FROM_EMAIL": smtp.SENDER,
    "DATABASE_DEADLINE": "60",
}


def _bare_copy(count: int) -> float:
    """Seconds to COPY the batch's rows into the table that they were taken from, empty and with all its indexes."""
    with tempfile.TemporaryFile() as file, connection.cursor() as cursor:
        with cursor.copy("COPY notifications_notification TO STDOUT") as out:
            for data in out:
                file.write(data)
        cursor.execute("TRUNCATE notifications_notification CASCADE")
        cursor.execute("CHECKPOINT")
        file.seek(0)
        began = time.monotonic()
        with cursor.copy("COPY notifications_notification FROM STDIN") as into:
            while data := file.read(1 << 20):
                into.write(data)
        took = time.monotonic() - began
    assert Notification.objects.count() == count
    return took


# -- From rows to mails ------------------------------------------------------------------------------------


def _sending(port: int, mails: int) -> Figures:
    batch = _loaded(mails, "sending")
    before = smtp.counted(port)
    workers = [stack.worker(f"worker{n}", app="notifyproj") for n in range(smtp.PROCESSES)]
    with stack.processes(*workers, **_smtp(port)):
        time.sleep(smtp.START)
        ours = mails / _seconds_to_send(batch)
    after = smtp.counted(port)
    mails_taken, recipients = after[0] - before[0], after[2] - before[2]
    assert mails_taken == recipients == mails, (mails_taken, recipients)
    theirs = max(smtp.theirs(port, mails, threads) for threads in (5, smtp.CONNECTIONS))
    print(f"{mails:,} mails: {ours:,.0f}/s beside {theirs:,.0f}/s", flush=True)
    return {
        "mails/s": ours,
        "django-post-office, mails/s": theirs,
        "of django-post-office's rate": ours / theirs,
    }


def _loaded(count: int, name: str) -> Batch:
    rows.empty()
    with _file(count) as file:
        _send_bulk(file, name)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE notifications_notification")
    return Batch.objects.get(name=name)


def _smtp(port: int) -> dict[str, str]:
    return {
        "EMAIL_URL": f"smtp://127.0.0.1:{port}",
        "DEFAULT_FROM_EMAIL": smtp.SENDER,
        "SMTP_MAX_CONNECTIONS": str(smtp.CONNECTIONS),
    }


def _seconds_to_send(batch: Batch) -> float:
    started = time.monotonic()
    _start(batch)
    stack.until(lambda: _is_sent(batch), pause=0.05, seconds=600)
    return time.monotonic() - started


def _start(batch: Batch) -> None:
    from notifications.waking import publish

    flow = Flow.objects.get(batch=batch)
    Notification.objects.filter(flow=flow).update(due_at=batch.created_at)
    Batch.objects.filter(pk=batch.pk).update(scheduled_for=None)
    batches.start(batch.pk)
    for _ in range(smtp.PROCESSES):
        publish(flow.lane)


def _is_sent(batch: Batch) -> bool:
    waiting = Notification.objects.filter(flow=batch.flow, status__in=("pending", "sending"))
    return not waiting.exists()


# -- What the urgent notice --------------------------------------------------------------------------------


def _urgent_beside(port: int, mails: int, rate: int) -> Figures:
    batch = _loaded(mails, "beside")
    _, key = stack.make_key()
    web = stack.free_port()
    workers = (
        stack.worker("urgent", "high,normal", app="notifyproj"),
        stack.worker("bulk", "low", app="notifyproj"),
    )
    at_rest: list[float] = []
    beside: list[float] = []
    with stack.processes(stack.web(web), *workers, **_smtp(port)):
        stack.wait_for(f"http://127.0.0.1:{web}/readyz")
        time.sleep(smtp.START)
        load.paced(web, key, rate=rate, seconds=2, priority="high")
        quiet = load.paced(web, key, rate=rate, seconds=10, priority="high", took=at_rest)
        _start(batch)
        posted = load.paced(
            web, key, rate=rate, priority="high", took=beside, until=lambda: _is_sent(batch)
        )
        time.sleep(wake.END)
    took = wake.to_hand_over(posted)
    return {
        "high at rest, p99, ms": load.percentile(wake.to_hand_over(quiet), 0.99),
        "high beside the bulk, p99, ms": load.percentile(took, 0.99),
        "high beside the bulk, notifications": len(took),
        "API create at rest, p95, ms": load.percentile(sorted(at_rest), 0.95),
        "API create beside the bulk, p95, ms": load.percentile(sorted(beside), 0.95),
        "API create, p95 beside it of p95 at rest": load.percentile(sorted(beside), 0.95)
        / load.percentile(sorted(at_rest), 0.95),
    }
