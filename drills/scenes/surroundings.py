"""Bad surroundings: clocks that are wrong, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from drills.catalogue import drill
from drills.run import CannotRun, Run
from drills.servers import wait_until
from drills.stack import Servers, Stack

#: Debian's package `faketime`, on any architecture.
FAKETIME = "usr/lib/*/faketime/libfaketimeMT.so.1"
HOUR = 3600


@drill(
    "clocks-wrong",
    number=28,
    breaks="one worker's clock is an hour fast, another's an hour slow, web's is right; both are killed now and then",
    holds="lost 0, doubled 0; nothing expires before its time; /health names the clocks",
)
def clocks_wrong(run: Run) -> None:
    sends = run.scale(3000, 300)
    with run.stack() as stack:
        stack.web()
        workers = [
            stack.worker(name, **_clock(offset))
            for name, offset in (("fast", HOUR), ("slow", -HOUR))
        ]
        stack.await_workers(*workers)
        stack.post_and_wait(sends, priority="low")
        for worker in workers * run.scale(5, 1):
            time.sleep(1)
            worker.kill()
        stack.wait_until_quiet()
        named = "clock" in _health(stack)
        verdict = run.judge(stack)
        expired = stack.count("status = 'expired'")
    run.figure("unknown", verdict.unknown)
    run.expect(f"nothing has expired ({expired})", expired == 0)
    run.expect("/health names the clocks", named)


def _clock(offset: int) -> dict[str, str]:
    """For a process whose clock is so many seconds wrong."""
    library = next(Path("/").glob(FAKETIME), None)
    if library is None:
        raise CannotRun("libfaketime is not here (Debian's package faketime)")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{offset:+d}s",
        # The monotonic clock of a machine is never wrong by a step.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def _health(stack: Stack) -> str:
    done = subprocess.run(
        ["curl", "-s", f"{stack.url}/health"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.stdout


@drill(
    "disk-full",
    number=29,
    breaks="the disk of PostgreSQL fills up under 50 requests a second, until nothing can be stored",
    holds="nothing but 201 and 503; once there is room again all goes on by itself; every 201 is there, lost 0",
)
def disk_full(run: Run) -> None:
    with (
        _small_disk() as disk,
        _servers_on(disk) as servers,
        # The record and the ledger are elsewhere.
        Stack(replace(servers, var=run.servers.var), "disk-full") as stack,
    ):
        stack.web()
        stack.await_workers(stack.worker("worker"))
        clients = stack.post(rate=50, connections=8, priority="low")
        stack.await_accepted(50)
        ballast = _fill(disk)
        run.note("the disk is full")
        time.sleep(run.scale(30, 15))
        stored = stack.vendors.accepted
        ballast.unlink()
        run.note("there is room again")
        if not servers.postgres.answers:
            servers.postgres.start()  # As a process manager does.
        run.figure("delivering again after, seconds", stack.await_accepted(stored + 50))
        clients.stop()
        stack.wait_until_quiet()
        verdict = run.judge(stack)
        statuses = Counter(answer.status for answer in stack.answers)
    run.figure("answered 503", statuses[503])
    run.figure("unknown", verdict.unknown)
    run.expect("something was refused", statuses[503] > 0)
    run.expect(f"nothing but 201 and 503 ({dict(statuses)})", set(statuses) <= {201, 503})


#: Bytes of the disk: a new cluster, its log, and room for a while.
DISK = 400_000_000


@contextmanager
def _small_disk() -> Iterator[Path]:
    """A file system of its own, in memory. Raises CannotRun where this may not be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        options = f"size={DISK},mode=755"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise CannotRun("a small file system cannot be mounted here (that takes root)")
        Path(folder).parent.chmod(0o755)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=False)


@contextmanager
def _servers_on(disk: Path) -> Iterator[Servers]:
    servers = Servers.start(disk / "var")
    try:
        yield servers
    finally:
        servers.stop()


def _fill(disk: Path) -> Path:
    """Take all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, _until_full():
        while True:
            file.write(bytes(1_000_000))
            file.flush()
    wait_until(lambda: _free(disk) < 2_000_000, 10, "the disk does not fill")
    return ballast


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


def _free(disk: Path) -> int:
    free = os.statvfs(disk)
    return free.f_bavail * free.f_frsize
