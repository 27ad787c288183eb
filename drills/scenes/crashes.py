"""Workers that die at the worst moment, exactly: a Celery application that ends there (drills/faults.py)."""

from __future__ import annotations

import time

from drills.catalogue import drill
from drills.processes import Process
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack

#: Seconds in which a worker that dies at every turn has died often enough.
PATIENCE = 180
POISON = "poison"
#: Calls that a worker has in flight by SMTP, in each lane.
SLOTS = 16
OPEN = "status IN ('pending', 'sending')"


def _dying(stack: Stack, at: str) -> Process:
    """A worker that crashes at the point, and that is started again whenever it has."""
    return stack.worker("dying", app="drills.faults", FAULT_AT=at, FAULT="crash")


def _await_none(stack: Stack, condition: str) -> float:
    return wait_until(lambda: not stack.count(condition), PATIENCE, f"there is still: {condition}")


@drill(
    "crash-before-settle-hold",
    number=4,
    breaks="each worker dies between the vendor's yes and SETTLE, 200 sends; policy hold",
    holds="all unknown, one copy of each",
)
def crash_before_settle_hold(run: Run) -> None:
    sends = run.scale(200, 40)
    with run.stack(email="mailgun") as stack:
        stack.web()
        stack.post_and_wait(sends, priority="low")
        worker = _dying(stack, "answered")
        _await_none(stack, OPEN)
        run.figure("crashes", worker.starts - 1)
        stack.wait_until_quiet()
        verdict = run.judge(stack)
    run.figure("unknown", verdict.unknown)
    run.expect("all are unknown", verdict.unknown == sends)
    run.expect("one copy of each", verdict.accepted == sends)


@drill(
    "crash-before-settle-resend",
    number=4,
    breaks="each worker dies between the vendor's yes and SETTLE, 200 sends; policy resend",
    holds="two copies of each, none three times; then held",
)
def crash_before_settle_resend(run: Run) -> None:
    sends = run.scale(200, 40)
    with run.stack(email="mailgun") as stack:
        stack.web()
        stack.post_and_wait(sends)
        worker = _dying(stack, "answered")
        stack.await_accepted(2 * sends, PATIENCE)
        stack.wait_until_quiet()
        time.sleep(5)  # In which a third copy would go out, if any did.
        run.figure("crashes", worker.starts - 1)
        verdict = run.judge(stack)
    run.figure("two copies", verdict.resent)
    run.figure("unknown", verdict.unknown)
    run.expect("two copies of each", verdict.resent == sends)
    run.expect("none three times", verdict.most_copies == 2)
    run.expect("all are held as unknown", verdict.unknown == sends)


@drill(
    "crash-before-write",
    number=5,
    breaks="each worker dies between BEGIN and the first byte, 200 sends; then the policy resends",
    holds="all unknown and no copy; after the resend one copy of each",
)
def crash_before_write(run: Run) -> None:
    sends = run.scale(200, 40)
    with run.stack(email="mailgun", UNKNOWN_REVIEW_AFTER=3600) as stack:
        stack.web()
        stack.post_and_wait(sends)
        worker = _dying(stack, "begun")
        _await_none(stack, OPEN)
        worker.stop()
        run.figure("crashes", worker.starts - 1)
        run.figure("unknown", stack.count("status = 'unknown'"))
        run.expect("all are unknown", stack.count("status = 'unknown'") == sends)
        run.expect("no copy went out", stack.vendors.accepted == 0)
        stack.worker("healthy")
        stack.query("UPDATE notifications_notification SET review_at = now()")
        run.note("an hour passes: the review is due")
        stack.await_accepted(sends)
        stack.wait_until_quiet()
        verdict = run.judge(stack)
    run.expect("one copy of each", verdict.accepted == sends)


@drill(
    "crash-before-begin",
    number=6,
    breaks="each worker dies between CLAIM and BEGIN, 200 sends; then their leases end; policy hold",
    holds="unknown 0; all are freed by the sweep, one copy of each",
)
def crash_before_begin(run: Run) -> None:
    sends = run.scale(200, 40)
    with run.stack(email="mailgun", CLAIM_LEASE=3600) as stack:
        stack.web()
        stack.post_and_wait(sends, priority="low")
        worker = _dying(stack, "claimed")
        _await_none(stack, "leased_until IS NULL")
        worker.stop()
        run.figure("crashes", worker.starts - 1)
        run.expect("no copy went out", stack.vendors.accepted == 0)
        stack.worker("healthy")
        stack.query("UPDATE notifications_notification SET leased_until = now()")
        run.note("an hour passes: the leases end")
        run.figure("all delivered after, seconds", stack.await_accepted(sends))
        stack.wait_until_quiet()
        verdict = run.judge(stack)
        run.expect("each was claimed twice", stack.count("fence = 2") == sends)
    run.expect("none was ever unknown", verdict.went_unknown == 0)
    run.expect("one copy of each", verdict.accepted == sends)


@drill(
    "poison",
    number=27,
    breaks="a message whose rendering kills the worker, and one whose rendering raises",
    holds="it fails, named technical, after at most four deaths; the others are delivered, or were in flight at a death",
)
def poison(run: Run) -> None:
    others, poisons = run.scale(3_000, 300), run.scale(3, 1)
    without = 0.0 if run.quick else _deliver_poison(run, others, 0, "crash", part="none")
    took = _deliver_poison(run, others, poisons, "crash", part="deadly")
    _deliver_poison(run, others // 10, poisons, "raise", part="raising")
    run.figure("seconds for the others, without and with a deadly one", f"{without}, {took}")


def _deliver_poison(run: Run, others: int, poisons: int, fault: str, *, part: str) -> float:
    """Deliver so many, and so many poisonous ones among them. Returns the seconds the others took."""
    with run.stack(
        part=part, CLAIM_LEASE=2, FAULT_AT="rendering", FAULT=fault, FAULT_WORD=POISON
    ) as stack:
        stack.web()
        stack.post_and_wait(others // 2, priority="low")
        if poisons:
            stack.post_and_wait(poisons, priority="low", message=POISON, prefix=POISON)
        stack.post_and_wait(others - others // 2, priority="low")
        workers = [stack.worker(name, app="drills.faults") for name in ("worker-1", "worker-2")]
        stack.await_accepted(1)
        took = _await_none(stack, f"{OPEN} AND reference NOT LIKE '{POISON}%'")
        stack.wait_until_quiet()
        poisonous = {answer.ref for answer in stack.answers if answer.ref.startswith(POISON)}
        verdict = run.judge(stack, part=part, may_fail=poisonous)
        deaths = sum(worker.starts - 1 for worker in workers)
        failed = stack.count("status = 'failed' AND failure_kind = 'technical'")
    run.figure(f"{part}: deaths", deaths)
    run.figure(f"{part}: unknown", verdict.unknown)
    run.expect("each poisonous one fails, named technical", failed == poisons)
    run.expect("it kills at most four times", deaths <= 4 * poisons)
    run.expect("the others were in flight at a death", verdict.unknown <= deaths * SLOTS)
    return round(took, 1)
