"""Redis is stopped, frozen, emptied, restarted and full. It carries wake-ups and rate counters, nothing else."""

from __future__ import annotations

import time

from drills.catalogue import drill
from drills.judge import Answer
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack

#: What a client may be answered while Redis is away.
ALLOWED = {201, 429}
#: The sweep as it is by default: without Redis, it is what finds the due.
SWEEP = 5
PRIORITIES = ("high", "normal", "low")


@drill(
    "redis-stopped",
    number=8,
    breaks="kill -9 of Redis for a minute, under 50 requests a second",
    holds="nothing but 201 and 429, p99 below 500 ms after 5 s; all delivered by the sweep meanwhile",
)
def redis_stopped(run: Run) -> None:
    answers = _without_redis(run, frozen=False)
    p99 = _p99(answers[5 * 50 :])
    run.figure("p99 after the first 5 s, ms", p99 * 1000)
    run.expect("p99 is below 500 ms", p99 < 0.5)


@drill(
    "redis-frozen",
    number=9,
    breaks="SIGSTOP of Redis for a minute, under 50 requests a second",
    holds="nothing but 201 and 429, no request above 1 s after the first; delivered by the sweep meanwhile",
)
def redis_frozen(run: Run) -> None:
    answers = _without_redis(run, frozen=True)
    longest = max(answer.seconds for answer in answers[1:])
    run.figure("longest after the first, ms", longest * 1000)
    run.expect("no request takes more than 1 s", longest <= 1)


def _p99(answers: list[Answer]) -> float:
    """In seconds."""
    return sorted(answer.seconds for answer in answers)[int(len(answers) * 0.99)]


def _without_redis(run: Run, *, frozen: bool) -> list[Answer]:
    """Post at 50 a second while Redis is away. Returns the answers of that time, in their order."""
    seconds = run.scale(60, 10)
    valkey = run.servers.valkey
    with run.stack(SWEEP_INTERVAL=SWEEP) as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        clients = stack.post(rate=50, connections=40)
        stack.await_accepted(20)
        time.sleep(5)
        began, before = time.time(), stack.vendors.accepted
        (valkey.freeze if frozen else valkey.kill)()
        run.figure("first 100 delivered without Redis, seconds", stack.await_accepted(before + 100))
        time.sleep(max(0.0, began + seconds - time.time()))
        run.figure("delivered meanwhile", stack.vendors.accepted - before)
        ended = time.time()
        (valkey.thaw if frozen else valkey.start)()
        stack.await_accepted(stack.vendors.accepted + 100)
        clients.stop()
        stack.wait_until_quiet()
        run.judge(stack)
        meanwhile = [answer for answer in stack.answers if began < answer.at < ended]
        run.figure("p99 with Redis, ms", _p99([a for a in stack.answers if a.at < began]) * 1000)
    statuses = {answer.status for answer in meanwhile}
    run.figure("requests meanwhile", len(meanwhile))
    run.expect(f"nothing but 201 and 429 ({statuses})", statuses <= ALLOWED)
    return sorted(meanwhile, key=lambda answer: answer.at)


@drill(
    "redis-flushed",
    number=10,
    breaks="FLUSHALL with 10,000 due in three lanes and no wake-up left",
    holds="lost 0; all lanes move within 30 s, and all is delivered",
)
def redis_flushed(run: Run) -> None:
    due = run.scale(10_000, 900)
    with run.stack(email="mailgun", SWEEP_INTERVAL=SWEEP) as stack:
        stack.web()
        for priority in PRIORITIES:
            stack.post_and_wait(due // 3, priority=priority)
        run.servers.valkey.client().flushall()
        stack.await_workers(stack.worker("urgent", "high,normal"), stack.worker("bulk", "low"))
        moving = wait_until(lambda: _lanes_that_move(stack) == len(PRIORITIES), 60, "a lane waits")
        run.figure("all lanes move after, seconds", moving)
        delivered = stack.await_accepted(due // 3 * len(PRIORITIES))
        run.figure("all delivered after, seconds", moving + delivered)
        stack.wait_until_quiet()
        run.judge(stack)
    run.expect("all lanes move within 30 s", moving <= 30)


def _lanes_that_move(stack: Stack) -> int:
    [(lanes,)] = stack.query(
        "SELECT count(DISTINCT flow_id) FROM notifications_notification WHERE status = 'sent'"
    )
    return int(lanes)


@drill(
    "redis-restarted",
    number=11,
    breaks="kill -9 and restart of Redis, 10 times, under 20 requests a second; the sweep helps only each minute",
    holds="workers are woken again within 15 s of each; lost 0",
)
def redis_restarted(run: Run) -> None:
    restarts, waits = run.scale(10, 2), []
    with run.stack(SWEEP_INTERVAL=60) as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        clients = stack.post(rate=20, connections=4)
        for _ in range(restarts):
            time.sleep(2)
            run.servers.valkey.kill()
            time.sleep(1)
            run.servers.valkey.start()
            waits.append(stack.await_accepted(stack.vendors.accepted + 1))
        clients.stop()
        stack.wait_until_quiet()
        run.judge(stack)
    run.figure("restarts", restarts)
    run.figure("longest until woken again, seconds", max(waits))
    run.expect("woken again within 15 s", max(waits) <= 15)


@drill(
    "redis-refuses",
    number=12,
    breaks="Redis refuses every write: it is full (noeviction), then read-only as after a failover",
    holds="the API still answers 201, the workers live on and deliver; lost 0",
)
def redis_refuses(run: Run) -> None:
    sends = run.scale(1_000, 100)
    with run.stack(SWEEP_INTERVAL=SWEEP) as stack, run.servers.valkey.client() as client:
        stack.web()
        worker = stack.worker("worker")
        stack.await_workers(worker)
        client.config_set("maxmemory", "1mb")
        stack.post_and_wait(sends)
        run.figure("full: all delivered after, seconds", stack.await_accepted(sends))
        client.config_set("maxmemory", "0")
        client.replicaof("127.0.0.1", "1")
        stack.post_and_wait(sends)
        run.figure("read-only: all delivered after, seconds", stack.await_accepted(2 * sends))
        client.replicaof("NO", "ONE")
        stack.wait_until_quiet()
        run.judge(stack)
        statuses = {answer.status for answer in stack.answers}
        run.expect(f"nothing but 201 ({statuses})", statuses == {201})
        run.expect("the worker lives on", worker.starts == 1)
