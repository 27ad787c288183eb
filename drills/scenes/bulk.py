"""A batch is loaded and sent while everything is broken: exactly the file's valid rows, once each."""

from __future__ import annotations

import csv
import json
import random
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

from drills.catalogue import drill
from drills.processes import Process
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack
from drills.vendor import Behaviour

NAME = "drill"
LOADED = "SELECT coalesce(max(loaded), 0) FROM notifications_batch"
ROWS_OF_BATCH = (
    "SELECT id::text, split_part(address, '@', 1) FROM notifications_notification "
    "WHERE row_number IS NOT NULL"
)


@drill(
    "bulk-command-killed",
    number=40,
    breaks="kill -9 of send_bulk, 5 times while it loads, two copies of it at once, PostgreSQL restarted in between; "
    "then ten times pause and resume",
    holds="exactly the file's valid rows, once each; nothing goes out before all is loaded",
    limit=900,
)
def bulk_command_killed(run: Run) -> None:
    rows, kills = run.scale(100_000, 12_000), run.scale(5, 2)
    with run.stack() as stack:
        file = File(stack.folder / "rows.csv", rows)
        stack.await_workers(stack.worker("worker-1"), stack.worker("worker-2"))
        for number in range(1, kills + 1):
            copies = [_send_bulk(stack, file), _send_bulk(stack, file)]
            _await_loaded(stack, number * len(file.valid) // (kills + 2))
            for copy in copies:
                copy.kill()
            run.expect("nothing goes out before all is loaded", stack.vendors.accepted == 0)
            if number == kills // 2:
                run.servers.postgres.restart_immediately()
        run.figure("rows loaded when it was killed last", _loaded(stack))
        copies = [_send_bulk(stack, file), _send_bulk(stack, file)]
        _await_started(stack)
        _pause_and_resume(run, stack, run.scale(10, 3), len(file.valid))
        run.figure("seconds until quiet", stack.wait_until_quiet(600))
        for copy in copies:
            copy.wait(60)
        _judge(run, stack, file)
        verdict = run.judge(stack)
    run.expect("none is unknown", verdict.unknown == 0)


@drill(
    "bulk-workers-killed",
    number=41,
    breaks="kill -9 of a worker, 20 times while a batch goes out",
    holds="each valid row once at the vendor, or unknown; doubled 0; the batch is completed",
    limit=900,
)
def bulk_workers_killed(run: Run) -> None:
    rows, kills = run.scale(20_000, 1_500), run.scale(20, 3)
    with run.stack() as stack:
        file = File(stack.folder / "rows.csv", rows)
        workers = [stack.worker("worker-1"), stack.worker("worker-2")]
        stack.await_workers(*workers)
        stack.vendors.tell(smtp=Behaviour(delay=0.02))
        command = _send_bulk(stack, file)
        for number in range(1, kills + 1):
            stack.await_accepted(number * len(file.valid) // (kills + 1), 300)
            random.choice(workers).kill()
        run.figure("seconds until quiet", stack.wait_until_quiet(300))
        command.wait(60)
        _judge(run, stack, file)
        verdict = run.judge(stack)
    run.figure("unknown", verdict.unknown)
    run.expect("nothing was sent again by the policy", verdict.resent == 0)


class File:
    """A CSV of so many rows, some of them bad: no address, no such phone, twice the same."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.valid: list[str] = []
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("email", "First Name", "Order"))
            for number in range(rows):
                out.writerow((self._address(number), f"Person {number}", uuid4().hex))

    def _address(self, number: int) -> str:
        if number % 100 == 13:
            return "nobody"
        if number % 100 == 14 and self.valid:
            return f"{self.valid[-1]}@Example.com"
        self.valid.append(uuid4().hex)
        return f"{self.valid[-1]}@example.com"


def _send_bulk(stack: Stack, file: File) -> Process:
    return stack.start(
        f"send_bulk-{len(stack.processes)}", "python", "manage.py", "send_bulk", str(file.path),
        "--name", NAME, "--title", "Order {{ order }}", "--message", "Hello {{ first_name }}, it is on its way.",
        "--skip-invalid", "--yes", "--max-failed", "1", revived=False,
    )  # fmt: skip


def _loaded(stack: Stack) -> int:
    [(loaded,)] = stack.query(LOADED)
    return int(loaded)


def _await_loaded(stack: Stack, number: int) -> None:
    wait_until(lambda: _loaded(stack) >= number, 120, f"{number:,} rows are not loaded")


def _await_started(stack: Stack) -> None:
    started = "SELECT 1 FROM notifications_batch WHERE started_at IS NOT NULL"
    wait_until(lambda: bool(stack.query(started)), 300, "the batch does not start")


def _pause_and_resume(run: Run, stack: Stack, times: int, rows: int) -> None:
    """At points spread over the sending."""
    late = 0
    for number in range(1, times + 1):
        stack.await_accepted(number * rows // (times + 1), 300)
        stack.manage("batch", "pause", NAME)
        time.sleep(0.5)
        paused_at = stack.vendors.accepted
        time.sleep(1)
        late = max(late, stack.vendors.accepted - paused_at)
        stack.manage("batch", "resume", NAME)
    run.figure("calls begun half a second after a pause", late)
    run.expect("a pause takes effect at once", late == 0)


def _judge(run: Run, stack: Stack, file: File) -> None:
    """The batch's rows are the file's valid ones; they become what the judge calls promised."""
    rows = stack.query(ROWS_OF_BATCH)
    counted = Counter(ref for _, ref in rows)
    run.figure("valid rows in the file", len(file.valid))
    run.expect("the ledger has exactly these", counted == Counter(file.valid))
    completed = "SELECT 1 FROM notifications_batch WHERE status = 'completed'"
    wait_until(lambda: bool(stack.query(completed)), 60, "the batch is not completed")
    with (stack.folder / "clients-batch.jsonl").open("w", encoding="utf-8") as record:
        for id, ref in rows:
            record.write(json.dumps({"ref": ref, "status": 201, "id": id}) + "\n")
