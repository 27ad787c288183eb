"""Rates: a flow that is to go slowly, and a vendor that wants it slower than we knew."""

from __future__ import annotations

import time
from collections import Counter

from drills.catalogue import drill
from drills.evidence import Call
from drills.run import Run
from drills.vendor import Behaviour

RATE = 50
#: In any sliding second, and on average.
MOST, LEAST = 52, 48

STARTED = "SELECT extract(epoch FROM started_at)::float8 FROM notifications_attempt ORDER BY 1"


@drill(
    "rate",
    number=35,
    breaks="a flow's rate of 50 a second beside four workers, for a minute; FLUSHALL in the middle",
    holds="never above 52 in any second of the ledger, at least 48 on average; lost 0, doubled 0",
)
def rate(run: Run) -> None:
    seconds = run.scale(60, 20)
    with run.stack() as stack:
        stack.web()
        stack.post_and_wait(RATE * seconds, priority="low")
        stack.query("UPDATE notifications_flow SET rate = %s, paused = true", RATE)
        stack.await_workers(*(stack.worker(f"worker{number}") for number in range(4)))
        stack.query("UPDATE notifications_flow SET paused = false")
        time.sleep(seconds / 2)
        stack.servers.valkey.client().flushall()
        stack.wait_until_quiet(2 * seconds)
        run.judge(stack)
        moments = [moment for (moment,) in stack.query(STARTED)]
    most = most_in_a_second(moments)
    run.note(
        f"by second: {sorted(Counter(int(moment - moments[0]) for moment in moments).items())}"
    )
    average = (len(moments) - 1) / (moments[-1] - moments[0])
    run.figure("most in any second", most)
    run.figure("a second on average", average)
    run.expect(f"never above {MOST} in a second", most <= MOST)
    run.expect(f"at least {LEAST} a second on average", average >= LEAST)


def most_in_a_second(moments: list[float]) -> int:
    """Of sorted moments in seconds: how many lie in the fullest second, wherever that begins."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


#: What the vendor takes in a second.
LIMIT = 20
#: Seconds of the first burst, in which nobody knows; and the share of later calls that the vendor may refuse: the pace
#: grows until it does.
FIRST_BURST, LARGEST_SHARE = 3.0, 0.1


@drill(
    "throttle",
    number=36,
    breaks="the vendor answers 429 to all above 20 a second, without Retry-After; 1,500 are due",
    holds="none fails, no attempt is spent on a refusal; after the first burst at most a tenth of the calls is refused; lost 0, doubled 0",
)
def throttle(run: Run) -> None:
    with run.stack(email="mailgun") as stack:
        stack.web()
        stack.vendors.tell(mailgun=Behaviour("refuse", code=429, above=LIMIT))
        stack.post_and_wait(run.scale(1500, 300), priority="low")
        stack.await_workers(*(stack.worker(f"worker{number}") for number in range(2)))
        run.figure("all delivered after, seconds", stack.wait_until_quiet(run.scale(300, 120)))
        run.judge(stack)
        failed, spent = stack.count("status = 'failed'"), stack.count("attempt_count > 1")
        burst, share = _refused(stack.calls)
    run.figure("refused in the first burst", burst)
    run.figure("share of later calls refused", share)
    run.expect(f"none has failed ({failed})", failed == 0)
    run.expect(f"no attempt is spent on a refusal ({spent})", spent == 0)
    run.expect("few calls are refused", share <= LARGEST_SHARE)


def _refused(calls: list[Call]) -> tuple[int, float]:
    """How many of the first burst, and which share of all later ones."""
    ends = min(call.at for call in calls) + FIRST_BURST
    refused = [call.at for call in calls if call.outcome.startswith("refuse")]
    later = sum(call.at > ends for call in calls)
    return sum(at <= ends for at in refused), sum(at > ends for at in refused) / max(later, 1)
