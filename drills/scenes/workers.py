"""Workers die, freeze and stop."""

from __future__ import annotations

import random
import time

from drills.catalogue import drill
from drills.judge import Verdict
from drills.run import Run
from drills.stack import Stack
from drills.vendor import Behaviour

SENDING = "SELECT id FROM notifications_notification WHERE status = 'sending'"


@drill(
    "kill-workers-hold",
    number=1,
    breaks="kill -9 of a worker, 100 times in 20,000 sends; policy hold",
    holds="lost 0, doubled 0, stuck 0; unknown at most the calls in flight at the kills",
    limit=1200,
)
def kill_workers_hold(run: Run) -> None:
    verdict, in_flight = _kill_workers(run, priority="low")
    run.expect("every unknown one was in flight at a kill", verdict.unknown <= in_flight)
    run.expect("nothing was sent again by the policy", verdict.resent == 0)


def _kill_workers(run: Run, *, priority: str) -> tuple[Verdict, int]:
    """Two workers share all lanes; one of them is killed each time some more have been sent."""
    sends, kills = run.scale(20_000, 1_000), run.scale(100, 6)
    with run.stack() as stack:
        stack.web()
        workers = [stack.worker("worker-1"), stack.worker("worker-2")]
        stack.vendors.tell(smtp=Behaviour(delay=0.02))
        clients = stack.post(count=sends, connections=4, priority=priority)
        stranded: set[str] = set()
        for number in range(1, kills + 1):
            _await_accepted(stack, number * sends // (kills + 1))
            random.choice(workers).kill()
            stranded |= _stranded(stack)
        run.note(f"{kills} workers killed; {sum(w.starts for w in workers)} were started")
        clients.wait(600)
        run.figure("seconds until quiet", stack.wait_until_quiet(180))
        verdict = run.judge(stack)
        run.figure("kills", kills)
        run.figure("calls in flight at the kills", len(stranded))
        run.figure("went unknown", verdict.went_unknown)
        return verdict, len(stranded)


def _await_accepted(stack: Stack, number: int, seconds: float = 120) -> None:
    """Until the vendor has taken so many. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while stack.vendors.accepted < number:
        if time.monotonic() > end:
            raise TimeoutError(f"the vendor has not taken {number} after {seconds:.0f} s")
        time.sleep(0.02)


def _stranded(stack: Stack) -> set[str]:
    """The calls that nobody will settle: begun, and still so after the living have settled theirs."""
    time.sleep(0.3)
    begun = _sending(stack)
    time.sleep(0.4)
    return begun & _sending(stack)


def _sending(stack: Stack) -> set[str]:
    """Begun and not settled: the calls that are in flight, as the database knows them."""
    return {str(id) for (id,) in stack.query(SENDING)}
