"""Every state of a notification is explained in words that are true of the engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.explaining import duration, explain, trouble
from notifications.models import Attempt, Circuit, Notification

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


def test_a_paused_flow_holds_what_waits_but_not_what_a_worker_has() -> None:
    assert said(notification(), paused=True).startswith("Held: its flow is paused.")
    taken = notification(leased_until=NOW + HOUR)
    assert said(taken, paused=True) == "Being prepared: a worker has just taken it."


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
            "Sent: smtp accepted it 1 h ago. Whether it arrived is not known: receipts are not read yet.",
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
