"""Would the drills notice? The engine is broken on purpose, in real worker processes, and the judge has to say so.

Each scene runs twice: with the engine as it is, where the judge finds nothing, and with one guard taken out.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings

from drills.judge import Verdict
from drills.processes import Process
from drills.servers import wait_until
from drills.stack import Servers, Stack
from drills.vendor import Behaviour, Reports

#: Notifications in each scene: more than one call, and no more than are in flight at once.
SENDS = 8
UNANSWERED = "SELECT 1 FROM notifications_attempt WHERE outcome IS NULL LIMIT 1"
#: Leases as short as can be.
LEASES = {
    "SEND_DEADLINE": 1,
    "SEND_LEASE_MARGIN": 1,
    "CLAIM_LEASE": 1,
    "SWEEP_INTERVAL": 0.2,
    "UNKNOWN_REVIEW_AFTER": 0.5,
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    started = Servers.start(settings.VAR_DIR / "drills")
    yield started
    started.stop()


@pytest.fixture
def stack(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Stack]:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-40:].strip(
        "-"
    )
    with Stack(servers, name, **LEASES) as stack:
        stack.web()
        yield stack


def broken(way: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("broken", ["", way], ids=["as it is", way])


def start_worker(stack: Stack, name: str, broken: str, **fault: str | float) -> Process:
    return stack.worker(name, app="drills.broken", revived=False, BROKEN=broken, **fault)


def pause(stack: Stack) -> dict[str, str]:
    """Stand still at the fault's point until `wake`."""
    return {"FAULT": "pause", "FAULT_UNTIL": str(stack.folder / "awake")}


def wake(stack: Stack, sleeper: Process) -> None:
    """And wait for what it does then: a worker that is told to stop finishes what it has begun."""
    assert sleeper.is_alive
    (stack.folder / "awake").touch()
    sleeper.stop()


def post(stack: Stack, priority: str) -> None:
    """Before there is a worker, so that the first claim takes all of them."""
    stack.post_and_wait(SENDS, priority=priority)


def judged(stack: Stack) -> Verdict:
    stack.wait_until_quiet(20)
    return stack.judge()


@broken("fence_ignored")
def test_a_worker_that_wakes_up_with_an_old_claim(stack: Stack, broken: str) -> None:
    """Frozen between CLAIM and BEGIN until another has sent what it had claimed."""
    post(stack, "low")
    sleeper = start_worker(stack, "sleeper", broken, FAULT_AT="claimed", **pause(stack))
    wait_until(lambda: stack.count("fence > 0") > 0, 30, "nothing was claimed")
    start_worker(stack, "other", broken)
    wait_until(lambda: stack.vendors.accepted >= SENDS, 30, "the other sends nothing")
    wake(stack, sleeper)
    found = judged(stack)
    assert found.is_clean is not bool(broken), found
    assert bool(found.doubled) is bool(broken)
    assert bool(found.regressed) is bool(broken)


@broken("settle_without_condition")
def test_an_answer_that_comes_when_another_has_long_sent_it(stack: Stack, broken: str) -> None:
    """Frozen before SETTLE, with an answer that leaves it open, until the policy has sent it again."""
    stack.vendors.tell(smtp=Behaviour("accept_hang"))
    post(stack, "normal")
    sleeper = start_worker(stack, "sleeper", broken, FAULT_AT="answered", **pause(stack))
    wait_until(lambda: stack.vendors.accepted >= SENDS, 30, "the sleeper sends nothing")
    stack.vendors.tell(smtp=Behaviour())
    start_worker(stack, "other", broken)
    wait_until(lambda: stack.count("status = 'sent'") == SENDS, 30, "the other sends nothing")
    wake(stack, sleeper)
    found = judged(stack)
    assert found.is_clean is not bool(broken), found
    assert bool(found.regressed) is bool(broken)
    assert found.resent == SENDS


@broken("settle_without_condition")
def test_an_answer_that_comes_when_a_receipt_has_long_said_more(stack: Stack, broken: str) -> None:
    """The vendor reports a message as delivered, and then answers that it has taken it."""
    stack.vendors.report(twilio=Reports("delivered", head_start=0.5))
    stack.await_workers(start_worker(stack, "worker", broken, SEND_DEADLINE=5))
    stack.post_and_wait(SENDS, priority="low", channel="sms")
    wait_until(lambda: stack.vendors.accepted >= SENDS, 30, "nothing is sent")
    stack.await_receipts(30)
    wait_until(lambda: not stack.query(UNANSWERED), 30, "an answer is not stored")
    found = judged(stack)
    assert found.is_clean is not bool(broken), found
    assert bool(found.regressed) is bool(broken)
    assert stack.count("status = 'delivered'") == (0 if broken else SENDS)


@broken("claim_without_begin")
def test_a_worker_that_dies_with_the_answers_in_its_hands(stack: Stack, broken: str) -> None:
    """Whether anything left is not in the database, unless BEGIN has said so before."""
    post(stack, "low")
    dying = start_worker(stack, "dying", broken, FAULT_AT="answered", FAULT="crash")
    dying.wait(30)
    assert stack.vendors.accepted == SENDS
    start_worker(stack, "other", broken)
    wait_until(
        lambda: stack.vendors.accepted > SENDS if broken else stack.count("status = 'unknown'") > 0,
        30,
        "the other does nothing",
    )
    found = stack.judge() if broken else judged(stack)
    assert found.is_clean is not bool(broken), found
    assert bool(found.doubled) is bool(broken)
    assert found.unknown == (0 if broken else SENDS)
