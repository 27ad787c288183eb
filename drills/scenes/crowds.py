"""Too many of everything at once."""

from __future__ import annotations

from drills.catalogue import drill
from drills.run import Run

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@drill(
    "crowd",
    number=26,
    breaks="three workers that sweep all the time, two drains from a shell and two beats, at once, on 20,000",
    holds="doubled 0, deadlocks 0, unknown 0",
    limit=1200,
)
def crowd(run: Run) -> None:
    sends = run.scale(20_000, 600)
    with run.stack(
        email="mailgun", SWEEP_INTERVAL=0.1, SEND_DEADLINE=20, SEND_LEASE_MARGIN=20, CLAIM_LEASE=60
    ) as stack:
        stack.web()
        clients = stack.post(count=sends, connections=6)
        workers = [stack.worker(f"worker-{number}") for number in range(3)]
        stack.beat("beat-1")
        stack.beat("beat-2")
        drains = [
            stack.start(f"drain-{number}", "python", "manage.py", "drain") for number in range(2)
        ]
        clients.wait(900)
        stack.await_accepted(sends)
        run.figure("seconds until quiet", stack.wait_until_quiet())
        run.note(f"the drains from a shell ran {sum(drain.starts for drain in drains)} times")
        verdict = run.judge(stack)
        [(deadlocks,)] = stack.query(DEADLOCKS)
        run.expect("no worker died", all(worker.starts == 1 for worker in workers))
    run.figure("deadlocks", deadlocks)
    run.figure("went unknown", verdict.went_unknown)
    run.expect("no deadlock", deadlocks == 0)
    run.expect("nothing became unknown", verdict.went_unknown == 0)
