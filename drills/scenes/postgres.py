"""PostgreSQL is restarted and frozen, and its word that something is stored gets lost."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from drills.catalogue import drill
from drills.proxy import Proxy
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack

#: What a client may be answered while the database is away.
ALLOWED = {201, 503}


@drill(
    "postgres-restarted",
    number=13,
    breaks="an immediate restart of PostgreSQL, 5 times, under load; policy hold",
    holds="every 201 is there afterwards; nothing but 503 in between; accepting again within 10 s; doubled 0",
)
def postgres_restarted(run: Run) -> None:
    restarts, waits = run.scale(5, 2), []
    with run.stack() as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        clients = stack.post(rate=100, connections=8, priority="low")
        for _ in range(restarts):
            stack.await_accepted(stack.vendors.accepted + 100)
            run.servers.postgres.restart_immediately()
            before, began = stack.count(), time.monotonic()
            wait_until(lambda before=before: stack.count() > before, 30, "nothing is accepted")
            waits.append(time.monotonic() - began)
            run.note(f"accepting again {waits[-1]:.1f} s after it answers")
        stack.await_accepted(stack.vendors.accepted + 100)
        clients.stop()
        stack.wait_until_quiet()
        verdict = run.judge(stack)
        statuses = Counter(answer.status for answer in stack.answers)
    run.figure("unknown", verdict.unknown)
    run.figure("answered 503", statuses[503])
    run.expect(f"nothing but 201 and 503 ({dict(statuses)})", set(statuses) <= ALLOWED)
    run.figure("accepting again after, seconds", max(waits))
    run.expect("accepting again within 10 s", max(waits) <= 10)


@drill(
    "postgres-frozen",
    number=13.5,
    breaks="SIGSTOP of PostgreSQL for 20 s, under 20 requests a second",
    holds="503 within 5 s, then on; every 201 is there afterwards; doubled 0",
)
def postgres_frozen(run: Run) -> None:
    seconds = run.scale(20, 8)
    with run.stack() as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        clients = stack.post(rate=20, connections=40, priority="low")
        stack.await_accepted(50)
        run.servers.postgres.freeze()
        time.sleep(seconds)
        run.servers.postgres.thaw()
        run.figure("delivering again after, seconds", _next_delivery(stack))
        time.sleep(3)
        clients.stop()
        stack.wait_until_quiet()
        run.judge(stack)
        answers = stack.answers
    longest = max(answer.seconds for answer in answers)
    statuses = Counter(answer.status for answer in answers)
    run.figure("answered 503", statuses[503])
    run.figure("longest request, seconds", longest)
    run.expect(f"nothing but 201 and 503 ({dict(statuses)})", set(statuses) <= ALLOWED)
    run.expect("no answer takes more than 5 s", longest <= 5)


def _next_delivery(stack: Stack) -> float:
    return stack.await_accepted(stack.vendors.accepted + 1, 30)


@drill(
    "commit-answer-lost",
    number=15,
    breaks="the answer to every other COMMIT of the web is cut off, 200 times; clients ask again with their key",
    holds="exactly as many rows as were asked for, each sent once",
)
def commit_answer_lost(run: Run) -> None:
    count = run.scale(200, 30)
    with run.stack() as stack, Proxy(run.servers.postgres) as proxy:
        own, stack.settings["DATABASE_URL"] = stack.settings, proxy.url(stack.database)
        stack.web()
        del own["DATABASE_URL"]
        stack.await_workers(stack.worker("worker"))
        proxy.cut_every_other_commit = True
        stack.post_and_wait(count, retries=20, connections=8)
        proxy.cut_every_other_commit = False
        stack.wait_until_quiet()
        run.judge(stack)
        rows, references = stack.count(), stack.query(DISTINCT)[0][0]
    run.figure("answers cut", proxy.cuts)
    run.figure("rows", rows)
    run.expect("answers were cut", proxy.cuts >= count // 4)
    run.expect("exactly as many rows as were asked for", rows == references == count)


DISTINCT = "SELECT count(DISTINCT reference) FROM notifications_notification"


@drill(
    "same-key-at-once",
    number=25,
    breaks="50 POSTs at once with one Idempotency-Key, then one with another body; 20 times",
    holds="one row for each key; 201 or 409 for the same body, 422 for the other",
)
def same_key_at_once(run: Run) -> None:
    keys, callers = run.scale(20, 4), 50
    with run.stack() as stack, ThreadPoolExecutor(callers) as pool:
        stack.web()
        same: Counter[int] = Counter()
        other: Counter[int] = Counter()
        for number in range(keys):
            start = threading.Barrier(callers)
            asked = [
                pool.submit(_ask, stack, f"key-{number}", "one", start) for _ in range(callers)
            ]
            same.update(each.result() for each in asked)
            other[_ask(stack, f"key-{number}", "another")] += 1
        rows = stack.count()
    run.figure("answers to the same body", dict(same))
    run.figure("rows", rows)
    run.expect("one row for each key", rows == keys)
    run.expect("201 or 409 for the same body", set(same) <= {201, 409})
    run.expect("422 for another body", set(other) == {422})


def _ask(stack: Stack, key: str, message: str, start: threading.Barrier | None = None) -> int:
    """The status of one POST."""
    body = {"recipient": f"{key}@example.com", "channel": "email", "message": message}
    request = urllib.request.Request(
        f"{stack.url}/api/v1/notifications",
        json.dumps(body).encode(),
        {
            "Authorization": f"Bearer {stack.servers.key}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        },
    )
    if start:
        start.wait()
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
