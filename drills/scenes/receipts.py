"""Vendors that report by webhook: again and again, too early, instead of a dead worker, or all at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from itertools import cycle, islice
from typing import Any

from drills import evidence
from drills.catalogue import drill
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack
from drills.vendor import Reports
from drills.webhooks import mailgun_event

#: Seconds in which a worker that dies at every turn has died often enough.
PATIENCE = 180
OPEN = "status IN ('pending', 'sending')"
SENT = "SELECT id::text, reference, address, provider_message_id FROM notifications_notification WHERE status = 'sent'"
WRONG = """
SELECT count(*) FROM notifications_notification
WHERE status <> CASE WHEN reference = ANY(%s) THEN 'failed' ELSE 'delivered' END
"""
RECEIPTS = (
    "SELECT split_part(event_id, ':', 2) FROM notifications_receipt WHERE applied_at IS NOT NULL"
)
STRAIGHT = "SELECT count(*) FROM drills_change WHERE old = 'sending' AND new = 'delivered'"

#: A notification's ref, and what is told of it.
Telling = tuple[str, dict[str, Any]]


@drill(
    "crash-after-acceptance-with-receipts",
    number=4.5,
    breaks="each worker dies between the vendor's yes and SETTLE, 200 sends; policy hold; the vendor reports by webhook",
    holds="all delivered, one copy of each; unknown 0",
)
def crash_after_acceptance_with_receipts(run: Run) -> None:
    # Mailgun reports when all have lapsed and are held, Twilio while most count as being sent.
    _die_and_be_told(run, "mailgun", "email", Reports("delivered", delay=15))
    _die_and_be_told(run, "twilio", "sms", Reports("delivered", delay=1))


def _die_and_be_told(run: Run, vendor: str, channel: str, reports: Reports) -> None:
    sends = run.scale(200, 40)
    with run.stack(part=vendor, email="mailgun") as stack:
        stack.vendors.report(**{vendor: reports})
        stack.web()
        stack.post_and_wait(sends, priority="low", channel=channel)
        worker = stack.worker("dying", app="drills.faults", FAULT_AT="answered", FAULT="crash")
        wait_until(lambda: not stack.count(OPEN), PATIENCE, "some are still open")
        stack.await_receipts()
        run.figure(f"{vendor}: crashes", worker.starts - 1)
        verdict = run.judge(stack, part=vendor)
        delivered = stack.count("status = 'delivered'")
    run.figure(f"{vendor}: went unknown", verdict.went_unknown)
    run.figure(f"{vendor}: delivered", delivered)
    run.expect(f"{vendor}: all are delivered", delivered == sends)
    run.expect(f"{vendor}: one copy of each", verdict.accepted == sends)
    run.expect(f"{vendor}: the workers did die", worker.starts > 1)


@drill(
    "same-webhook-many-times",
    number=23,
    breaks="three events of each of 50 messages, each told 100 times, in any order, 20 at once",
    holds="one receipt for each event; every status ends right, and none goes back; nothing but 2xx",
)
def same_webhook_many_times(run: Run) -> None:
    sends, times = run.scale(50, 10), run.scale(100, 20)
    with run.stack(email="mailgun") as stack:
        stack.web()
        stack.worker("worker")
        stack.post_and_wait(sends)
        stack.wait_until_quiet()
        told = [event for sent in stack.query(SENT) for event in _story(*sent)]
        stack.storm(told, times=times, connections=20).wait(400)
        stack.await_receipts()
        bounced = evidence.bounced(stack.folder)
        [(receipts,)] = stack.query("SELECT count(*) FROM notifications_receipt")
        [(wrong,)] = stack.query(WRONG, list(bounced))
        run.judge(stack)
        refused = sum(not each.was_taken for each in stack.webhooks)
    run.figure("webhooks", len(told) * times)
    run.figure("receipts", receipts)
    run.figure("bounced", len(bounced))
    run.expect("one receipt for each event", receipts == len(told) == 3 * sends)
    run.expect(f"every status ends right (but {wrong})", wrong == 0)
    run.expect(f"each webhook is answered with 2xx (but {refused})", refused == 0)


def _story(id: str, ref: str, address: str, message_id: str) -> list[Telling]:
    """Delivered and opened; what an even ref was sent to comes back after all."""
    words = ("delivered", "opened", "failed" if int(ref[-1], 16) % 2 == 0 else "clicked")
    return [(ref, mailgun_event(word, id, address, message_id)) for word in words]


@drill(
    "receipt-before-settle",
    number=24,
    breaks="the vendor reports each of 500 as delivered, and answers the call itself half a second later",
    holds="each ends as delivered and never goes back to sent; most are settled by the receipt",
)
def receipt_before_settle(run: Run) -> None:
    sends = run.scale(500, 60)
    with run.stack(email="mailgun") as stack:
        stack.vendors.report(mailgun=Reports("delivered", head_start=0.5))
        stack.web()
        worker = stack.worker("worker")
        stack.await_workers(worker)
        stack.post_and_wait(sends)
        stack.wait_until_quiet()
        stack.await_receipts()
        verdict = run.judge(stack)
        [(straight,)] = stack.query(STRAIGHT)
        delivered = stack.count("status = 'delivered'")
    run.figure("delivered", delivered)
    run.figure("of these before the answer", straight)
    run.expect("each is delivered", delivered == sends)
    run.expect("one copy of each", verdict.accepted == sends)
    run.expect("most are settled by the receipt", straight > sends / 2)


@drill(
    "webhook-burst",
    number=24.5,
    breaks="2,000 webhooks a second are offered for 30 s, over 64 connections, beside 50 POST /notifications a second",
    holds="each webhook answered with 2xx is a receipt and applied, the others are told again; lost 0, doubled 0",
)
def webhook_burst(run: Run) -> None:
    rate, seconds = 2000, run.scale(30, 5)
    with run.stack(email="mailgun") as stack:
        stack.web()
        stack.worker("worker")
        stack.post_and_wait(run.scale(1000, 100))
        stack.wait_until_quiet()
        run.figure("p95 of the API at rest, ms", _p95_of_posts(stack, run.scale(10, 3)))
        events = list(islice(_events_of(stack.query(SENT)), rate * seconds))
        storm = stack.storm(events, connections=64, rate=rate, seconds=seconds)
        wait_until(lambda: bool(stack.webhooks), 30, "no webhook is told")
        run.figure("p95 of the API meanwhile, ms", _p95_of_posts(stack, seconds))
        storm.wait(120)
        run.figure("all applied after, seconds", stack.await_receipts())
        stack.wait_until_quiet()
        run.judge(stack)
        _all_is_kept(run, stack)


def _events_of(sent: list[tuple[str, str, str, str]]) -> Iterable[Telling]:
    """Of each message delivered, then of each opened, and opened again: no two events are the same."""
    for number, (id, ref, address, message_id) in enumerate(cycle(sent)):
        word = "delivered" if number < len(sent) else "opened"
        yield ref, mailgun_event(word, id, address, message_id)


def _p95_of_posts(stack: Stack, seconds: float) -> float:
    began = time.time()
    stack.post(rate=50, seconds=seconds, connections=32).wait(seconds + 60)
    took = [answer.seconds * 1000 for answer in stack.answers if answer.at >= began]
    return statistics.quantiles(took, n=20)[-1]


def _all_is_kept(run: Run, stack: Stack) -> None:
    webhooks = stack.webhooks
    taken = {told.event_id for told in webhooks if told.was_taken}
    span = max(told.at + told.seconds for told in webhooks) - min(told.at for told in webhooks)
    applied = {event_id for (event_id,) in stack.query(RECEIPTS)}
    run.figure("webhooks taken", len(taken))
    run.figure("a second", len(taken) / span)
    run.figure("answered otherwise, and told again", sum(not told.was_taken for told in webhooks))
    run.expect("each one taken is a receipt and applied", taken == applied)
    run.expect("each one told was taken in the end", taken == {told.event_id for told in webhooks})
