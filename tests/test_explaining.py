"""Every state of a notification is explained in words that are true of the engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.explaining import duration, explain, trouble
from notifications.models import (
    Attempt,
    Batch,
    Circuit,
    Notification,
    Pause,
    Receipt,
    Suppression,
)
from users.models import User

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def notification(**fields: Any) -> Notification:
    defaults: dict[str, Any] = {
        "channel": "email",
        "priority": "normal",
        "status": "pending",
        "provider": "smtp",
        "created_at": NOW - HOUR,
        "due_at": NOW,
    }
    return Notification(**defaults | fields)


def attempt(
    outcome: str | None = "temporary", detail: str = "451 try later", **fields: Any
) -> Attempt:
    started = NOW - timedelta(seconds=3)
    return Attempt(provider="smtp", started_at=started, outcome=outcome, detail=detail, **fields)


def said(of: Notification, last: Attempt | None = None, **more: Any) -> str:
    return explain(of, last, NOW, **more)


def test_a_retry_tells_when_which_attempt_and_what_the_provider_said() -> None:
    waiting = notification(due_at=NOW + timedelta(seconds=42), attempt_count=2)
    assert said(waiting, attempt()) == (
        "Waiting: next attempt in 42 s (attempt 3; smtp said 451 try later)."
    )


def test_a_waiting_one_tells_when_it_is_given_up() -> None:
    waiting = notification(due_at=NOW + HOUR, expires_at=NOW + 2 * HOUR)
    assert said(waiting) == "Waiting: to be sent in 1 h. It is given up at 4 May 2026, 14:00 UTC."


def test_a_scheduled_one_tells_its_time() -> None:
    later = NOW + timedelta(days=3)
    assert said(notification(due_at=later, scheduled_for=later)) == (
        "Waiting: to be sent in 3 days (as scheduled, 7 May 2026, 12:00 UTC)."
    )


def test_an_overdue_one_waits_for_a_worker() -> None:
    assert said(notification(due_at=NOW - timedelta(minutes=5))) == (
        "Waiting for a worker: overdue by 5 min."
    )


def test_our_own_fault_is_said_to_cost_no_attempt() -> None:
    waiting = notification(due_at=NOW + HOUR)
    assert "costs no attempt" in said(waiting, attempt("misconfigured", "535 log-in failed"))


def test_one_of_a_paused_lane_tells_who_holds_it_since_when_and_why() -> None:
    waiting = notification(due_at=NOW + HOUR, expires_at=NOW + 2 * HOUR)
    pause = Pause(
        target="email.normal",
        reason="wrong  texts",
        paused_by=User(username="olga"),
        paused_at=NOW - HOUR,
    )
    assert said(waiting, pause=pause, paused=True, circuit=circuit()) == (
        "Held: email.normal is paused for 1 h now by olga: 'wrong texts'. It goes out once that is resumed. "
        "It is given up at 4 May 2026, 14:00 UTC."
    )


def test_a_pause_from_the_shell_without_a_reason_is_told_as_it_is() -> None:
    pause = Pause(target="smtp", paused_at=NOW - HOUR)
    assert said(notification(), pause=pause) == (
        "Held: smtp is paused for 1 h now. It goes out once that is resumed."
    )
    over = notification(status="sent", sent_at=NOW)
    assert "paused" not in said(over, pause=pause)


@pytest.mark.parametrize(
    ("status", "fields", "words"),
    [
        ("loading", {}, "It waits: its batch 'Spring' is still being loaded."),
        ("ready", {}, "It waits: its batch 'Spring' is ready, and was not started yet."),
        (
            "ready",
            {"scheduled_for": NOW + HOUR},
            "It waits: its batch 'Spring' is ready, and starts at 4 May 2026, 13:00 UTC.",
        ),
        ("paused", {}, "It waits: its batch 'Spring' is paused."),
        (
            "cancelled",
            {},
            "It does not go out: its batch 'Spring' is cancelled, and so is this within seconds.",
        ),
    ],
)
def test_a_row_of_a_batch_waits_as_its_batch_does(
    status: str, fields: dict[str, Any], words: str
) -> None:
    batch = Batch(name="Spring", status=status, **fields)
    told = said(notification(), paused=True, batch=batch)
    assert told == words


def test_a_paused_flow_holds_what_waits_but_not_what_a_worker_has() -> None:
    assert said(notification(), paused=True).startswith("Held: its flow is paused.")
    taken = notification(leased_until=NOW + HOUR)
    assert said(taken, paused=True) == "Being prepared: a worker has just taken it."


def test_what_is_due_waits_for_its_turn_where_there_is_a_rate() -> None:
    rate = "At most 5 a second, over all workers."
    assert said(notification(), limits=rate).startswith(f"Waiting for its turn. {rate}")
    assert rate not in said(notification(due_at=NOW + HOUR), limits=rate)


def circuit(cause: str = "refused", **fields: Any) -> Circuit:
    opened = {"opened_at": NOW - timedelta(minutes=5), "open_until": NOW + timedelta(seconds=20)}
    said = {"code": "smtp_535", "detail": "535 log-in failed"}
    return Circuit(**{"provider": "smtp", "cause": cause} | opened | said | fields)


def test_an_open_circuit_holds_what_is_due_and_says_why_since_when_and_until_when() -> None:
    waiting = notification(expires_at=NOW + HOUR)
    assert said(waiting, circuit=circuit()) == (
        "Held: smtp refuses our account, for 5 min now (535 log-in failed); next try in 20 s. "
        "That costs it no attempt. It is given up at 4 May 2026, 13:00 UTC."
    )
    assert said(notification(), paused=True, circuit=circuit()).startswith("Held: its flow is")


def test_an_open_circuit_is_told_also_of_what_is_due_later() -> None:
    later = notification(due_at=NOW + HOUR)
    assert said(later, circuit=circuit("unreachable", code="", detail="")) == (
        "Waiting: to be sent in 1 h. At present smtp cannot be reached, for 5 min now; next try in 20 s."
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"sender": "shop@example.com"},
            "smtp refuses our account or the sender shop@example.com, for",
        ),
        ({"cause": "throttled"}, "smtp wants a pause, for 5 min now"),
        ({"cause": "failing", "sender": "s@example.com"}, "calls to smtp with the sender s@"),
        ({"cause": "failing"}, "too many calls to smtp fail, for 5 min now"),
        ({"open_until": NOW}, "; next try with the next one due"),
    ],
)
def test_each_trouble_has_words(fields: dict[str, Any], words: str) -> None:
    assert words in trouble(circuit(**fields), NOW)


def test_what_is_too_late_is_not_promised() -> None:
    assert said(notification(expires_at=NOW - HOUR)).startswith("Too late:")


def test_a_sending_one_tells_who_has_it_and_for_how_long() -> None:
    assert (
        said(notification(status="sending"), attempt(None))
        == "Being sent: smtp has had it for 3 s."
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"status": "sent", "sent_at": NOW - HOUR},
            "Sent: smtp accepted it 1 h ago. SMTP tells nothing after that: whether it arrived is not known.",
        ),
        (
            {"status": "sent", "provider": "mailgun", "sent_at": NOW - HOUR},
            "Sent: mailgun accepted it 1 h ago. No receipt has come yet that says whether it arrived.",
        ),
        (
            {"status": "sent", "provider": "sandbox", "sent_at": NOW},
            "Sent: sandbox accepted it just now. The sandbox only simulates: nothing has left the machine.",
        ),
        (
            {"status": "delivered", "channel": "in_app", "delivered_at": NOW - HOUR, "read_at": NOW},
            "Delivered: stored in the inbox 1 h ago, read just now.",
        ),
        (
            {"status": "failed", "failure_kind": "permanent", "failure_detail": "550 no such user"},
            "Failed: smtp refused it for good (550 no such user). "
            "Nothing more happens by itself; a resend tries it as a new notification.",
        ),
        (
            {"status": "failed", "failure_kind": "technical", "failure_code": "rendering_failed"},
            "Failed by a fault of ours (rendering_failed). "
            "Nothing more happens by itself; a resend tries it as a new notification.",
        ),
        ({"status": "cancelled"}, "Cancelled before it was sent. Nothing more happens by itself."),
        (
            {"status": "expired", "expires_at": NOW},
            "Expired: it was worth sending until 4 May 2026, 12:00 UTC; it was never tried. "
            "Nothing more happens by itself.",
        ),
    ],
)  # fmt: skip
def test_what_is_over_tells_how_it_ended(fields: dict[str, Any], sentence: str) -> None:
    assert said(notification(**fields)) == sentence


def test_what_was_given_up_tells_after_how_many_attempts() -> None:
    failed = notification(
        status="failed", failure_kind="temporary", failure_detail="451", attempt_count=25
    )
    assert "given up after 25 attempts; at last smtp said 451" in said(failed)


def test_an_unknown_one_tells_what_the_policy_will_do() -> None:
    review_at = NOW + timedelta(minutes=9)
    for fields, words in (
        ({}, "it is sent once more in 9 min; the person may then get it twice."),
        ({"priority": "low"}, "it is left to an operator in 9 min."),
        ({"resends": 1}, "it is left to an operator in 9 min."),
        ({"expires_at": NOW}, "it is left to an operator in 9 min."),
    ):
        unknown = notification(**{"status": "unknown", "review_at": review_at} | fields)
        assert said(unknown, attempt("ambiguous", "timed out")).endswith(words)
    unknown = notification(status="unknown", review_at=review_at)
    assert "left to an operator" in said(unknown, policy="hold")
    bulk = notification(status="unknown", review_at=review_at, priority="low")
    assert "sent once more" in said(bulk, policy="resend")
    held = notification(status="unknown")
    assert said(held, attempt("ambiguous")).endswith(
        "held for an operator, who says that it arrived, resends it, or gives it up."
    )
    assert said(held, attempt("ambiguous"), resent=True).endswith(
        "It was resent since, as a new notification."
    )


def test_what_an_operator_settled_is_told_as_such_whatever_the_provider_says_later() -> None:
    arrived = notification(status="sent", sent_at=NOW - HOUR, settled_by_hand=True)
    assert said(arrived, attempt(None)) == (
        "Sent, on an operator's word 1 h ago: it arrived. smtp has not said so (no answer came)."
    )
    assert said(arrived, attempt("accepted", "")).startswith("Sent: smtp accepted it")
    given_up = notification(
        status="failed", failure_kind="technical", failure_code="given_up", settled_by_hand=True
    )
    assert said(given_up, attempt(None)).startswith(
        "Failed: an operator gave it up. Whether smtp accepted it is not known (no answer came). Nothing more"
    )
    assert "smtp accepted it after all" in said(given_up, attempt("accepted", ""))


# --- What receipts tell ----------------------------------------------------------------------------------------


def receipt(event: str, minutes: int = 5, detail: str = "", **fields: Any) -> Receipt:
    """Mailgun's, of so many minutes ago."""
    occurred = NOW - timedelta(minutes=minutes)
    return Receipt(
        **{"provider": "mailgun", "event": event, "detail": detail, "occurred_at": occurred}
        | fields
    )


def at_mailgun(status: str, **fields: Any) -> Notification:
    return notification(**{"status": status, "provider": "mailgun"} | fields)


def suppressed(reason: str) -> Suppression:
    return Suppression(reason=reason)


BOUNCED = {
    "sent_at": NOW - HOUR,
    "failure_kind": "permanent",
    "failure_code": "bounced",
    "failure_detail": "550 5.1.1 no such user",
}


def test_a_receipt_that_the_other_side_wants_it_later_leaves_open_whether_it_arrives() -> None:
    sent = at_mailgun("sent", sent_at=NOW - HOUR)
    deferred = [receipt("queued", 9), receipt("deferred", 5, "452 mailbox full")]
    assert said(sent, attempt("accepted"), receipts=deferred) == (
        "Sent: mailgun accepted it 1 h ago. No receipt has come yet that says whether it arrived; "
        "mailgun reported 5 min ago that the other side wants it later (452 mailbox full)."
    )
    assert said(sent, attempt("accepted"), receipts=deferred[:1]).endswith("whether it arrived.")


def test_a_delivered_one_tells_who_reported_it_and_when() -> None:
    delivered = at_mailgun("delivered", delivered_at=NOW - HOUR)
    told = [receipt("opened", 2), receipt("delivered", 5)]
    assert said(delivered, attempt("accepted"), receipts=told) == (
        "Delivered: mailgun reported 5 min ago that it arrived."
    )
    assert said(delivered, attempt("accepted"), receipts=told[:1]) == (
        "Delivered: mailgun reported 2 min ago that it was opened."
    )


def test_what_the_sandbox_reports_is_said_to_be_simulated() -> None:
    delivered = notification(status="delivered", provider="sandbox")
    told = [receipt("delivered", provider="sandbox")]
    assert said(delivered, attempt("accepted"), receipts=told) == (
        "Delivered: sandbox reported 5 min ago that it arrived. The sandbox only simulates: nothing has left the machine."
    )


@pytest.mark.parametrize(
    ("event", "reason", "words"),
    [
        ("complained", "complaint", "the person called it spam"),
        ("unsubscribed", "stop", "the person wants no more"),
    ],
)
def test_an_objection_after_it_arrived_is_told_with_what_came_of_it(
    event: str, reason: str, words: str
) -> None:
    told = [receipt("delivered", 30), receipt(event, 20)]
    delivered = at_mailgun("delivered")
    shown = said(delivered, attempt("accepted"), receipts=told, suppression=suppressed(reason))
    assert shown == (
        "Delivered: mailgun reported 30 min ago that it arrived. After that, mailgun reported 20 min ago that "
        f"{words}. Its address is suppressed ({reason})."
    )


def test_a_bounce_tells_that_it_was_taken_what_was_said_and_why_a_resend_is_refused() -> None:
    failed = at_mailgun("failed", **BOUNCED)
    told = [receipt("bounced", 5, "550 5.1.1 no such user")]
    bounced = (
        "Failed: mailgun took it, and reported 5 min ago that it bounced (550 5.1.1 no such user)."
    )
    assert said(
        failed, attempt("accepted"), receipts=told, suppression=suppressed("hard_bounce")
    ) == (
        f"{bounced} Nothing more happens by itself: its address is suppressed (hard_bounce), and a resend is refused "
        "until it is taken off the list."
    )
    assert said(failed, attempt("accepted"), receipts=told) == (
        f"{bounced} Nothing more happens by itself; a resend tries it as a new notification."
    )


def test_a_bounce_after_it_had_arrived_tells_both() -> None:
    told = [receipt("delivered", 30), receipt("bounced", 5)]
    shown = said(at_mailgun("failed", **BOUNCED), attempt("accepted"), receipts=told)
    assert (
        "that it bounced (550 5.1.1 no such user). It had reported before that it arrived." in shown
    )


def test_a_bounce_whose_receipt_is_gone_is_still_told_from_the_notification() -> None:
    shown = said(at_mailgun("failed", **BOUNCED), attempt("accepted"))
    assert "mailgun took it, and reported later that it did not arrive (550 5.1.1 no such" in shown


@pytest.mark.parametrize(
    ("status", "event", "fields"),
    [
        ("sent", "queued", {"sent_at": NOW - HOUR}),
        ("delivered", "delivered", {"sent_at": NOW - HOUR}),
        ("failed", "bounced", BOUNCED),
    ],
)
@pytest.mark.parametrize("outcome", [None, "ambiguous"])
def test_what_a_receipt_settled_is_told_where_the_call_had_left_it_open(
    status: str, event: str, fields: dict[str, Any], outcome: str | None
) -> None:
    open_call = attempt(outcome, "timed out" if outcome else "")
    words = "smtp said timed out" if outcome else "no answer came"
    told = [receipt(event)]
    sentence = f"The receipt settled what the call had left open ({words})."
    assert sentence in said(at_mailgun(status, **fields), open_call, receipts=told)
    accepted = attempt("accepted", "")
    assert "settled" not in said(at_mailgun(status, **fields), accepted, receipts=told)


def test_a_receipt_counts_more_than_an_operators_word() -> None:
    arrived = at_mailgun("sent", sent_at=NOW - HOUR, settled_by_hand=True)
    shown = said(arrived, attempt(None), receipts=[receipt("queued")])
    assert shown.startswith("Sent: mailgun accepted it 1 h ago. The receipt settled")


@pytest.mark.parametrize("reason", ["hard_bounce", "complaint"])
def test_one_that_was_cancelled_for_its_address_tells_why(reason: str) -> None:
    cancelled = notification(status="cancelled", failure_code="suppressed", failure_detail=reason)
    assert said(cancelled, suppression=suppressed(reason)) == (
        f"Cancelled before it was sent: the address is suppressed ({reason}). Nothing more happens by itself."
    )
    assert f"the address was suppressed ({reason})" in said(cancelled)


def test_a_waiting_one_to_a_suppressed_address_is_said_to_be_cancelled_instead_of_sent() -> None:
    waiting = notification(due_at=NOW + HOUR)
    assert said(waiting, suppression=suppressed("hard_bounce")) == (
        "Waiting: to be sent in 1 h. But its address is suppressed (hard_bounce): it is cancelled instead of sent."
    )
    late = notification(expires_at=NOW - HOUR)
    assert "suppressed" not in said(late, suppression=suppressed("hard_bounce"))


@pytest.mark.parametrize(
    ("reason", "category", "exception"),
    [
        ("complaint", "news", True),
        ("complaint", "", False),
        ("hard_bounce", "news", False),
        ("stop", "news", False),
    ],
)
def test_a_mandatory_category_is_named_as_the_exception_only_where_there_can_be_one(
    reason: str, category: str, exception: bool
) -> None:
    for of in (notification(category=category), at_mailgun("failed", category=category, **BOUNCED)):
        shown = said(of, suppression=suppressed(reason))
        assert ("unless its category is mandatory" in shown) is exception


ENDED = [
    {"status": "expired", "expires_at": NOW - HOUR},
    {"status": "cancelled"},
    {"status": "failed", "failure_kind": "temporary", "failure_detail": "451"},
    {"status": "failed", "failure_kind": "permanent", "failure_detail": "550"},
    {"status": "failed", "failure_kind": "technical", "failure_code": "rendering_failed"},
    {"status": "failed", "failure_kind": "technical", "failure_code": "given_up"},
]


@pytest.mark.parametrize("fields", ENDED)
@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            [receipt("queued", 7), receipt("delivered")],
            "Yet mailgun reported 5 min ago that it arrived: the person has it.",
        ),
        (
            [receipt("bounced", 5, "550 no such user")],
            "Later, mailgun reported 5 min ago that it bounced (550 no such user).",
        ),
        (
            [receipt("queued")],
            "Yet mailgun reported 5 min ago that it took it: the person may have it.",
        ),
    ],
)
def test_a_receipt_for_what_had_ended_otherwise_is_told_as_well(
    fields: dict[str, Any], told: list[Receipt], sentence: str
) -> None:
    shown = said(notification(**fields), attempt("ambiguous"), receipts=told)
    assert sentence in shown
    assert "is not known" not in shown


@pytest.mark.parametrize("event", ["unknown", "subscribed"])
def test_a_receipt_that_says_nothing_of_the_message_changes_nothing(event: str) -> None:
    for of in (at_mailgun("sent", sent_at=NOW), notification(**ENDED[-1])):
        assert said(of, attempt(None), receipts=[receipt(event)]) == said(of, attempt(None))


def test_the_forgotten_are_said_to_be_erased_whatever_their_status() -> None:
    assert said(notification(status="sent", erased_at=NOW - HOUR)).startswith("Erased 1 h ago:")


def test_a_provider_that_talks_much_is_quoted_in_part() -> None:
    waiting = notification(due_at=NOW + HOUR)
    sentence = said(waiting, attempt(detail="so\nmuch " * 500))
    assert len(sentence) < 350
    assert "so much so much" in sentence


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (180, "3 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (259200, "3 days"),
    ],
)
def test_a_duration_is_said_in_the_units_a_person_would_use(seconds: int, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words
