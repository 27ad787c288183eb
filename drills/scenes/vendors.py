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
    holds="each such call makes one unknown; nothing is called twice; what the circuit kept back is sent afterwards",
)
def vendor_takes_and_is_silent(run: Run) -> None:
    _deliver_in_doubt(run, "mailgun", hang=HANG, reset=RESET, error=ERROR)
    _deliver_in_doubt(run, "smtp", hang=HANG, reset=RESET)


def _deliver_in_doubt(run: Run, email: str, **behaviours: Behaviour) -> None:
    """Each behaviour for a while; then the vendor is well again."""
    sends = run.scale(200, 40)
    with run.stack(part=email, email=email, SEND_DEADLINE=2) as stack:
        stack.web()
        stack.worker("worker")
        for name, behaviour in behaviours.items():
            stack.vendors.tell(**{email: behaviour})
            stack.post_and_wait(sends, priority="low", prefix=f"{name}-")
            doubtful = _await_some_unknown(stack, name)
            stack.vendors.tell(**{email: Behaviour()})
            stack.wait_until_quiet()
            run.note(f"{email} {name}: {doubtful} unknown, then the vendor is well again")
        verdict = run.judge(stack, part=email)
        unknown = {ref for (ref,) in stack.query(UNKNOWN)}
        # Without a ref: what the doctor has asked, which sends nothing.
        calls = [call.ref for call in stack.calls if call.ref]
        in_doubt = {call.ref for call in stack.calls if call.outcome.startswith("accept_")}
    run.figure(f"{email}: calls without a yes", len(in_doubt))
    run.figure(f"{email}: unknown", verdict.unknown)
    run.expect(f"{email}: just these are unknown", unknown == in_doubt)
    run.expect(f"{email}: nothing is called twice", len(calls) == len(set(calls)))


UNKNOWN = "SELECT reference FROM notifications_notification WHERE status = 'unknown'"
#: Fewer than open a circuit.
SOME = 16


def _await_some_unknown(stack: Stack, prefix: str) -> int:
    """Until that many are; the circuit may keep the rest back."""
    condition = f"status = 'unknown' AND starts_with(reference, '{prefix}-')"
    wait_until(lambda: stack.count(condition) >= SOME, 120, "too few become unknown")
    return stack.count(condition)
