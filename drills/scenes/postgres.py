"""PostgreSQL is restarted, frozen and cut off in the middle of a commit. It is the queue, so nothing goes on without."""

from __future__ import annotations

import time

from drills.catalogue import drill
from drills.judge import Answer
from drills.relay import CommitCutter
from drills.run import Run
from drills.servers import wait_until

#: What a client may be answered while PostgreSQL is away.
ALLOWED = {201, 503}
#: Seconds within which a request is answered, whatever PostgreSQL does.
ANSWERED_WITHIN = 5.0


@drill(
    "postgres-restarted",
    number=13,
    breaks="PostgreSQL is restarted at once (no checkpoint, sessions cut), 5 times, under 50 requests a second",
    holds="every 201 is there afterwards, nothing but 503 in between; lost 0, doubled 0 (policy hold)",
)
def postgres_restarted(run: Run) -> None:
    restarts, downs = run.scale(5, 2), []
    with run.stack() as stack:
        stack.web()
        worker = stack.worker("worker")
        stack.await_workers(worker)
        clients = stack.post(rate=50, connections=40, priority="low")
        for _ in range(restarts):
            stack.await_accepted(stack.vendors.accepted + 100)
            downs.append(run.servers.postgres.restart_immediately())
        stack.await_accepted(stack.vendors.accepted + 100)
        clients.stop()
        run.figure("seconds until quiet", stack.wait_until_quiet())
        verdict = run.judge(stack)
        statuses = [answer.status for answer in stack.answers]
        run.expect("the worker lives on", worker.starts == 1)
    run.figure("longest down, seconds", max(downs))
    run.figure("answered 503", statuses.count(503))
    run.figure("went unknown", verdict.went_unknown)
    run.expect(f"nothing but 201 and 503 ({set(statuses)})", set(statuses) <= ALLOWED)


@drill(
    "postgres-frozen",
    number=13.5,
    breaks="SIGSTOP of PostgreSQL for 20 s under 20 requests a second, then SIGCONT",
    holds="nothing but 201 and 503, each within 5 s; afterwards all goes on by itself, lost 0, doubled 0",
)
def postgres_frozen(run: Run) -> None:
    seconds = run.scale(20, 8)
    postgres = run.servers.postgres
    with run.stack() as stack:
        stack.web()
        worker = stack.worker("worker")
        stack.await_workers(worker)
        clients = stack.post(rate=20, connections=100, priority="low")
        stack.await_accepted(100)
        began = time.time()
        postgres.freeze()
        time.sleep(seconds)
        postgres.thaw()
        ended = time.time()
        run.figure(
            "delivering again after, seconds", stack.await_accepted(stack.vendors.accepted + 100)
        )
        clients.stop()
        stack.wait_until_quiet()
        run.judge(stack)
        meanwhile = [answer for answer in stack.answers if began < answer.at < ended]
        run.expect("the worker lives on", worker.starts == 1)
    _judge_answers(run, meanwhile)


def _judge_answers(run: Run, answers: list[Answer]) -> None:
    statuses = {answer.status for answer in answers}
    longest = max(answer.seconds for answer in answers)
    run.figure("requests meanwhile", len(answers))
    run.figure("answered 503", sum(answer.status == 503 for answer in answers))
    run.figure("longest answer, seconds", longest)
    run.expect(f"nothing but 201 and 503 ({statuses})", statuses <= ALLOWED)
    run.expect(f"each within {ANSWERED_WITHIN} s", longest <= ANSWERED_WITHIN)


@drill(
    "postgres-commit-cut",
    number=15,
    breaks="the answer to COMMIT is cut off on its way to the API, 200 times; the clients retry with their key",
    holds="exactly one notification for each, and one copy",
)
def postgres_commit_cut(run: Run) -> None:
    cuts = run.scale(200, 20)
    with run.stack() as stack, CommitCutter(run.servers.postgres.socket) as cutter:
        stack.web(DATABASE_URL=run.servers.postgres.url_by_tcp(stack.database, cutter.port))
        stack.worker("worker")
        cutter.cut(every=2)
        clients = stack.post(connections=8, retries=20)
        wait_until(lambda: cutter.cuts >= cuts, 200, "too few commits to cut")
        cutter.cut(every=0)
        clients.stop()
        stack.wait_until_quiet()
        run.judge(stack)
        wanted = {answer.ref for answer in stack.answers if answer.promised}
        rows = stack.count()
        statuses = {answer.status for answer in stack.answers}
    run.figure("commits cut", cutter.cuts)
    run.figure("wanted", len(wanted))
    run.figure("stored", rows)
    run.expect("exactly one of each is stored", rows == len(wanted))
    run.expect(f"nothing but 201 and 503 ({statuses})", statuses <= ALLOWED)
