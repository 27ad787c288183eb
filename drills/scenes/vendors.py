"""Vendors that take a message and do not say so."""

from __future__ import annotations

from drills.catalogue import drill
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack
from drills.vendor import Behaviour

HANG, RESET, ERROR = (
    Behaviour("accept_hang"),
    Behaviour("accept_reset"),
    Behaviour("accept_error", code=500),
)


@drill(
    "vendor-takes-and-is-silent",
    number=20,
    breaks="the vendor accepts, then hangs, resets the connection or answers 500; SMTP and HTTP, policy hold",
    holds="every one unknown; one call and one copy each",
)
def vendor_takes_and_is_silent(run: Run) -> None:
    _deliver_in_doubt(run, "mailgun", hang=HANG, reset=RESET, error=ERROR)
    _deliver_in_doubt(run, "smtp", hang=HANG, reset=RESET)


def _await_unknown(stack: Stack, number: int) -> None:
    wait_until(lambda: stack.count("status = 'unknown'") == number, 120, "not all are unknown")


def _deliver_in_doubt(run: Run, email: str, **behaviours: Behaviour) -> None:
    sends = run.scale(200, 16)
    with run.stack(part=email, email=email, SEND_DEADLINE=2) as stack:
        stack.web()
        stack.worker("worker")
        for number, (name, behaviour) in enumerate(behaviours.items(), start=1):
            stack.vendors.tell(**{email: behaviour})
            stack.post_and_wait(sends, priority="low", prefix=f"{name}-")
            _await_unknown(stack, number * sends)
            run.figure(f"{email} {name}: unknown", sends)
        stack.vendors.tell(**{email: Behaviour()})
        stack.wait_until_quiet()
        verdict = run.judge(stack, part=email)
        calls = len(stack.calls)
    run.figure(f"{email} calls", calls)
    run.expect(f"{email}: all stay unknown", verdict.unknown == verdict.promised)
    run.expect(f"{email}: one call each", calls == verdict.promised == verdict.accepted)
