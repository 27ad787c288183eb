"""Vendors that say no: for now, for good, to us, for a while; and one that drips."""

from __future__ import annotations

import time
from collections import Counter

from drills.catalogue import drill
from drills.evidence import Call
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack
from drills.vendor import Behaviour

WELL = Behaviour()
#: The longest first back-off (docs/lifecycle.md), and the share of first retries that one second of it may have: five
#: times its fair share.
FIRST_BACKOFF = 30
LARGEST_SHARE = 5 / FIRST_BACKOFF


@drill(
    "vendor-refuses-for-now",
    number=16,
    breaks="SMTP 451 to each recipient (greylisting) for a while, 1,000 sends",
    holds="each delivered once, after at most 12 attempts; first retries are spread, no second has a sixth of them",
)
def vendor_refuses_for_now(run: Run) -> None:
    with run.stack() as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        stack.vendors.tell(smtp=Behaviour("refuse", code=451, stage="rcpt"))
        stack.post_and_wait(run.scale(1000, 150))
        time.sleep(run.scale(45, 5))
        stack.vendors.tell(smtp=WELL)
        stack.wait_until_quiet(60)
        run.figure("of which an operator said: retry now", _retry_now(stack))
        run.figure("quiet after, seconds", stack.wait_until_quiet(120))
        run.judge(stack)
        attempts = Counter(call.ref for call in stack.calls)
        gaps = _first_gaps(stack.calls)
    run.figure("most attempts of one", max(attempts.values()))
    run.expect("at most 12 attempts", max(attempts.values()) <= 12)
    share = max(Counter(int(gap) for gap in gaps).values()) / len(gaps)
    run.figure("largest share of first retries in one second", share)
    run.expect("first retries are spread", share <= LARGEST_SHARE)


def _retry_now(stack: Stack) -> int:
    """The longest waits by now are minutes: what the console's "retry now" does. Returns for how many."""
    waiting = stack.count("status = 'pending'")
    stack.query("UPDATE notifications_notification SET due_at = now() WHERE status = 'pending'")
    return waiting


def _first_gaps(calls: list[Call]) -> list[float]:
    """Seconds between the first and the second call for each ref that has two."""
    times: dict[str, list[float]] = {}
    for call in calls:
        times.setdefault(call.ref, []).append(call.at)
    return [sorted(at)[1] - min(at) for at in times.values() if len(at) > 1]


@drill(
    "vendor-refuses-some",
    number=17,
    breaks="SMTP 550 for a tenth of the recipients",
    holds="just those fail, after one attempt; the others are delivered at the first",
)
def vendor_refuses_some(run: Run) -> None:
    good, bad = run.scale(900, 90), run.scale(100, 10)
    with run.stack() as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        stack.vendors.tell(smtp=Behaviour("refuse", code=550, stage="rcpt", only="nobody-"))
        stack.post_and_wait(bad, prefix="nobody-")
        stack.post_and_wait(good)
        stack.wait_until_quiet()
        run.judge(stack)
        failed = {ref for (ref,) in stack.query(f"{REFERENCES} WHERE status = 'failed'")}
        calls = Counter(call.ref for call in stack.calls)
    run.figure("failed", len(failed))
    run.expect("just those fail", len(failed) == bad and all(map(is_nobody, failed)))
    run.expect("one attempt each", set(calls.values()) == {1})


REFERENCES = "SELECT reference FROM notifications_notification"


def is_nobody(ref: str) -> bool:
    return ref.startswith("nobody-")


@drill(
    "vendor-refuses-us",
    number=18,
    breaks="SMTP 535 for five minutes, then HTTP 401 for one, with 500 due",
    holds="0 failed, no attempt spent, few calls meanwhile; all delivered once afterwards",
    limit=1200,
)
def vendor_refuses_us(run: Run) -> None:
    _refuse_us(run, "smtp", Behaviour("refuse", code=535, stage="mail"), run.scale(300, 8))
    _refuse_us(run, "mailgun", Behaviour("refuse", code=401), run.scale(60, 8))


def _refuse_us(run: Run, email: str, refusal: Behaviour, seconds: float) -> None:
    with run.stack(part=email, email=email, CIRCUIT_LONGEST_REST=16) as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        stack.vendors.tell(**{email: refusal})
        began = time.time()
        stack.post_and_wait(run.scale(500, 60))
        wait_until(lambda: _open_circuits(stack) == 1, 10, "the circuit does not open")
        run.figure(f"{email}: circuit open after, seconds", time.time() - began)
        time.sleep(seconds)
        failed, spent = stack.count("status = 'failed'"), stack.count("attempt_count > 0")
        meanwhile = len(stack.calls)
        stack.vendors.tell(**{email: WELL})
        run.figure(f"{email}: all delivered after, seconds", stack.wait_until_quiet())
        run.judge(stack, part=email)
        once = stack.count("status = 'sent' AND attempt_count = 1")
        everything = stack.count()
    run.figure(f"{email}: calls meanwhile", meanwhile)
    run.expect(f"{email}: none has failed ({failed})", failed == 0)
    run.expect(f"{email}: no attempt is spent ({spent})", spent == 0)
    run.expect(f"{email}: all sent at the first attempt that counts", once == everything)


def _open_circuits(stack: Stack) -> int:
    [(found,)] = stack.query(
        "SELECT count(*) FROM notifications_circuit WHERE open_until IS NOT NULL"
    )
    return int(found)


@drill(
    "vendor-drips",
    number=19,
    breaks="the SMTP server answers a byte a second, for ever, while SMS go on at 20 a second",
    holds="each call ends at its deadline; SMS are as quick as before; what the circuit kept back is sent afterwards",
)
def vendor_drips(run: Run) -> None:
    deadline = 3
    with run.stack(SEND_DEADLINE=deadline) as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        before = _sms_latency(run, stack, "before-")
        stack.vendors.tell(smtp=Behaviour("drip"))
        stack.post_and_wait(run.scale(200, 60), priority="low")
        meanwhile = _sms_latency(run, stack, "meanwhile-")
        stack.vendors.tell(smtp=WELL)
        stack.wait_until_quiet()
        run.judge(stack)
        [(longest,)] = stack.query(LONGEST_ATTEMPT)
    run.figure("longest call, seconds", float(longest))
    run.expect("each call ends at its deadline", float(longest) <= deadline + 1)
    run.figure("p95 of SMS before, ms", before * 1000)
    run.figure("p95 of SMS meanwhile, ms", meanwhile * 1000)
    run.expect("SMS are as quick as before", meanwhile <= max(2 * before, 0.5))


LONGEST_ATTEMPT = (
    "SELECT max(extract(epoch FROM finished_at - started_at)) FROM notifications_attempt"
)


def _sms_latency(run: Run, stack: Stack, prefix: str) -> float:
    """From POST to the vendor, p95, in seconds."""
    seconds = run.scale(15, 5)
    stack.post_and_wait(20 * seconds, rate=20, channel="sms", prefix=prefix)
    wait_until(lambda: not stack.count(f"status = 'pending' AND {SMS}"), 60, "SMS wait")
    asked = {answer.ref: answer.at for answer in stack.answers}
    took = sorted(
        call.at - asked[call.ref]
        for call in stack.calls
        if call.vendor == "twilio" and call.ref.startswith(prefix)
    )
    return took[int(len(took) * 0.95)]


SMS = "channel = 'sms'"


@drill(
    "vendor-asks-for-a-pause",
    number=21,
    breaks="HTTP 429 with Retry-After: 30, with 300 due",
    holds="no call before the 30 s are over, but those in flight at the first; at most 2 attempts each; all delivered",
)
def vendor_asks_for_a_pause(run: Run) -> None:
    pause = run.scale(30, 6)
    with run.stack(email="mailgun", CIRCUIT_LONGEST_REST=60) as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        stack.vendors.tell(mailgun=Behaviour("refuse", code=429, retry_after=pause))
        stack.post_and_wait(run.scale(300, 60))
        wait_until(lambda: bool(stack.calls), 20, "nothing is called")
        time.sleep(pause / 2)
        stack.vendors.tell(mailgun=WELL)
        run.figure("all delivered after, seconds", pause / 2 + stack.wait_until_quiet(180))
        run.judge(stack)
        calls = sorted(call.at for call in stack.calls)
        attempts = Counter(call.ref for call in stack.calls)
    asked = calls[0]
    early = sum(asked + IN_FLIGHT < at < asked + pause for at in calls)
    run.figure("calls before their time", early)
    run.expect("no call before its time", early == 0)
    run.expect("at most 2 attempts each", max(attempts.values()) <= 2)


#: Seconds after the first 429 in which calls that were in flight may still arrive.
IN_FLIGHT = 2.0
