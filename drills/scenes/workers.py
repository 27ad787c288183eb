"""Workers are killed, frozen and told to stop, while they send."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from drills.catalogue import drill
from drills.judge import Verdict
from drills.processes import Process
from drills.run import Run
from drills.stack import Stack
from drills.vendor import Behaviour

SENDING = "SELECT id FROM notifications_notification WHERE status = 'sending'"
#: How long the oldest lease has been over, in seconds.
OVERDUE_LEASE = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(leased_until)), 0)
FROM notifications_notification WHERE leased_until IS NOT NULL
"""
#: Seconds in which a worker has started again, also on a busy machine, and has swept.
STARTED_AND_SWEPT = 25


@drill(
    "kill-workers-hold",
    number=1,
    breaks="kill -9 of a worker, 100 times in 20,000 sends; policy hold",
    holds="lost 0, doubled 0, stuck 0; unknown at most the calls in flight at the kills",
    limit=1200,
)
def kill_workers_hold(run: Run) -> None:
    sends, kills = run.scale(20_000, 600), run.scale(100, 3)
    verdict, in_flight = _kill(run, sends, kills, lambda workers: [random.choice(workers)], "low")
    run.expect("every unknown one was in flight at a kill", verdict.unknown <= in_flight)
    run.expect("nothing was sent again by the policy", verdict.resent == 0)


@drill(
    "kill-all-workers-hold",
    number=2,
    breaks="kill -9 of all workers at once, 50 times in 10,000 sends; policy hold",
    holds="as before; no lease outlives its end by more than a start and a sweep",
    limit=900,
)
def kill_all_workers_hold(run: Run) -> None:
    sends, kills = run.scale(10_000, 400), run.scale(50, 2)
    verdict, in_flight = _kill(run, sends, kills, list, "low")
    run.expect("every unknown one was in flight at a kill", verdict.unknown <= in_flight)
    run.expect("nothing was sent again by the policy", verdict.resent == 0)


@drill(
    "kill-workers-resend",
    number=3,
    breaks="kill -9 of a worker, 50 times in 10,000 sends; policy resend",
    holds="lost 0, stuck 0; doubled at most those that went unknown, none three times",
    limit=900,
)
def kill_workers_resend(run: Run) -> None:
    sends, kills = run.scale(10_000, 600), run.scale(50, 3)
    verdict, in_flight = _kill(
        run, sends, kills, lambda workers: [random.choice(workers)], "normal"
    )
    run.figure("second copies, all after a resend from unknown", verdict.resent)
    run.expect("doubled at most those that went unknown", verdict.resent <= verdict.went_unknown)
    run.expect("none three times", verdict.most_copies <= 2)
    run.expect("every unknown one was in flight at a kill", verdict.went_unknown <= in_flight)


def _kill(
    run: Run,
    sends: int,
    kills: int,
    choose: Callable[[list[Process]], list[Process]],
    priority: str,
) -> tuple[Verdict, int]:
    """Two workers share all lanes; the chosen are killed each time that some more has been sent.

    Returns the verdict and how many calls were in flight at the kills.
    """
    stranded: set[str] = set()
    overdue = 0.0
    with run.stack() as stack:
        stack.web()
        workers = [stack.worker("worker-1"), stack.worker("worker-2")]
        stack.vendors.tell(smtp=Behaviour(delay=0.02))
        clients = stack.post(count=sends, connections=4, priority=priority)
        for number in range(1, kills + 1):
            overdue = max(overdue, _await_ended(stack, number * sends // (kills + 1)))
            for worker in choose(workers):
                worker.kill()
            stranded |= _stranded(stack)
        run.note(f"{kills} times; {sum(worker.starts for worker in workers)} workers were started")
        clients.wait(600)
        run.figure("seconds until quiet", stack.wait_until_quiet(180))
        verdict = run.judge(stack)
    run.figure("kills", kills)
    run.figure("calls in flight at the kills", len(stranded))
    run.figure("went unknown", verdict.went_unknown)
    run.figure("longest a lease was over, seconds", overdue)
    run.expect("what is stranded comes back in time", overdue <= STARTED_AND_SWEPT)
    return verdict, len(stranded)


def _await_ended(stack: Stack, number: int, seconds: float = 120) -> float:
    """Until so many are sent or unknown. Returns how long a lease had been over meanwhile, at most."""
    end, overdue = time.monotonic() + seconds, 0.0
    while stack.count("status IN ('sent', 'unknown')") < number:
        if time.monotonic() > end:
            raise TimeoutError(f"{number} have not ended after {seconds:.0f} s")
        [(now,)] = stack.query(OVERDUE_LEASE)
        overdue = max(overdue, float(now))
        time.sleep(0.05)
    return overdue


def _stranded(stack: Stack) -> set[str]:
    """The calls that nobody will settle: begun, and still so after the living have settled theirs."""
    time.sleep(0.3)
    begun = _sending(stack)
    time.sleep(0.4)
    return begun & _sending(stack)


def _sending(stack: Stack) -> set[str]:
    """Begun and not settled: the calls that are in flight, as the database knows them."""
    return {str(id) for (id,) in stack.query(SENDING)}


@drill(
    "freeze-workers",
    number=7,
    breaks="SIGSTOP of a worker for longer than every lease, then SIGCONT, 20 times; policy hold",
    holds="doubled 0, no status goes backwards; late answers count or are fenced off",
)
def freeze_workers(run: Run) -> None:
    freezes = run.scale(20, 2)
    leases = 2, 1, 3
    deadline, margin, claim = leases
    with run.stack(SEND_DEADLINE=deadline, SEND_LEASE_MARGIN=margin, CLAIM_LEASE=claim) as stack:
        stack.web()
        workers = [stack.worker("worker-1"), stack.worker("worker-2")]
        stack.await_workers(*workers)
        stack.vendors.tell(smtp=Behaviour(delay=0.05))
        clients = stack.post(rate=150, connections=4, priority="low")
        for number in range(freezes):
            worker = workers[number % 2]
            time.sleep(1 + random.random())
            worker.freeze()
            time.sleep(sum(leases))
            worker.thaw()
        clients.stop()
        run.figure("seconds until quiet", stack.wait_until_quiet())
        verdict = run.judge(stack)
        settled_late = verdict.went_unknown - verdict.unknown
        run.expect("the workers were frozen, not replaced", all(w.starts == 1 for w in workers))
        run.figure("claimed more than once", stack.count("fence > 1"))
    run.figure("freezes", freezes)
    run.figure("went unknown", verdict.went_unknown)
    run.figure("of these settled by a late answer", settled_late)
    run.expect("nothing was sent again by the policy", verdict.resent == 0)


@drill(
    "deploy-workers",
    number=32,
    breaks="SIGTERM of a worker under load, 10 times",
    holds="unknown 0, lost 0, doubled 0; each stops within 65 s",
)
def deploy_workers(run: Run) -> None:
    deployments = run.scale(10, 2)
    stops = []
    with run.stack() as stack:
        stack.web()
        workers = [stack.worker("worker-1"), stack.worker("worker-2")]
        stack.await_workers(*workers)
        stack.vendors.tell(smtp=Behaviour(delay=0.3))
        clients = stack.post(rate=60, connections=4)
        for number in range(deployments):
            worker = workers[number % 2]
            time.sleep(1 + random.random())
            stops.append(worker.terminate())
            stack.await_accepted(stack.vendors.accepted + 50)
        clients.stop()
        run.figure("seconds until quiet", stack.wait_until_quiet())
        verdict = run.judge(stack)
    run.figure("deployments", deployments)
    run.figure("longest stop, seconds", max(stops))
    run.figure("went unknown", verdict.went_unknown)
    run.expect("a deployment leaves nothing unknown", verdict.went_unknown == 0)
    run.expect("each stops within 65 s", max(stops) <= 65)
