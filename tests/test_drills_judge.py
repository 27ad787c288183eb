"""The drills' judge: what it calls lost, doubled, phantom, stuck, a ghost, regressed or denied, and what not."""

from __future__ import annotations

import pytest

from drills.evidence import Call
from drills.judge import FORWARD, Acceptance, Answer, Change, Row, Verdict, judge
from notifications.models import Status

PROMISED = Answer("a", 201, "1")


def verdict(
    answers: list[Answer], ledger: list[str], rows: list[Row], *changes: Change, **kwargs: list[str]
) -> Verdict:
    return judge(answers, [Acceptance(ref) for ref in ledger], rows, changes, **kwargs)


def row(status: str) -> Row:
    return Row("1", "a", status)


def faults(found: Verdict) -> dict[str, tuple[str, ...]]:
    return {kind: refs for kind, refs in found.faults.items() if refs}


def test_what_was_promised_sent_and_taken_once_is_no_fault() -> None:
    found = verdict([PROMISED], ["a"], [row("sent")])
    assert found.is_clean
    assert (found.promised, found.accepted, found.most_copies) == (1, 1, 1)


def test_an_unknown_one_is_no_fault_whether_the_vendor_took_it_or_not() -> None:
    assert verdict([PROMISED], [], [row("unknown")]).is_clean
    found = verdict([PROMISED], ["a"], [row("unknown")])
    assert found.is_clean
    assert found.unknown == 1


def test_a_promise_without_a_row_is_lost_also_when_the_vendor_took_it() -> None:
    assert verdict([PROMISED], [], []).lost == ("a",)
    assert verdict([PROMISED], ["a"], []).lost == ("a",)


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_an_end_that_nobody_brought_about_is_a_loss(status: str) -> None:
    assert verdict([PROMISED], [], [row(status)]).lost == ("a",)


def test_failed_is_an_end_only_where_a_vendor_refused() -> None:
    assert verdict([PROMISED], [], [row("failed")], refused=["a"]).is_clean
    assert verdict([PROMISED], [], [row("failed")], refused=["b"]).lost == ("a",)


@pytest.mark.parametrize(
    ("vendor", "outcome", "for_good"),
    [
        ("smtp", "refuse 550", True),
        ("smtp", "refuse 451", False),
        ("smtp", "refuse 535", False),
        ("mailgun", "refuse 400", True),
        ("mailgun", "refuse 401", False),
        ("mailgun", "refuse 429", False),
        ("mailgun", "refuse 503", False),
        ("mailgun", "accept_error 500", False),
        ("smtp", "accept", False),
    ],
)
def test_only_a_refusal_of_the_message_itself_counts_as_one(
    vendor: str, outcome: str, for_good: bool
) -> None:
    assert Call(vendor, "a", "", 0.0, outcome).refused_for_good is for_good


def test_a_status_is_an_end_where_the_drill_brings_it_about() -> None:
    assert verdict([PROMISED], [], [row("cancelled")], ends=["cancelled"]).is_clean


@pytest.mark.parametrize("status", ["pending", "sending"])
def test_what_is_still_open_is_stuck(status: str) -> None:
    assert verdict([PROMISED], [], [row(status)]).stuck == ("a",)
    assert verdict([PROMISED], ["a"], [row(status)]).stuck == ("a",)


def test_two_copies_are_a_double() -> None:
    assert faults(verdict([PROMISED], ["a", "a"], [row("sent")])) == {"doubled": ("a",)}


def test_two_copies_of_two_notifications_are_a_double_too() -> None:
    """A client that asked again with its Idempotency-Key was given another notification."""
    answers = [Answer("a", None), Answer("a", 201, "2")]
    rows = [row("sent"), Row("2", "a", "sent")]
    assert faults(verdict(answers, ["a", "a"], rows)) == {"doubled": ("a",)}


def test_a_second_copy_after_a_resend_from_unknown_is_in_the_record_and_a_third_is_not() -> None:
    resend = Change("1", "unknown", "pending")
    found = verdict([PROMISED], ["a", "a"], [row("sent")], resend)
    assert found.is_clean
    assert (found.resent, found.most_copies) == (1, 2)
    found = verdict([PROMISED], ["a", "a", "a"], [row("sent")], resend)
    assert faults(found) == {"doubled": ("a",)}


def test_a_retry_after_a_refusal_excuses_no_second_copy() -> None:
    retry = Change("1", "sending", "pending")
    assert verdict([PROMISED], ["a", "a"], [row("sent")], retry).doubled == ("a",)


@pytest.mark.parametrize("status", ["sent", "delivered"])
def test_sent_without_a_copy_at_the_vendor_is_a_phantom(status: str) -> None:
    found = verdict([PROMISED], [], [row(status)])
    assert found.phantom == ("a",)
    assert found.lost == ("a",)


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_not_sent_with_a_copy_at_the_vendor_is_denied(status: str) -> None:
    assert verdict([PROMISED], ["a"], [row(status)]).denied == ("a",)


def test_failed_with_a_copy_at_the_vendor_is_the_truth_where_the_vendor_said_later_that_it_bounced() -> (
    None
):
    assert verdict([PROMISED], ["a"], [row("failed")], bounced=["a"]).is_clean
    assert verdict([PROMISED], ["a"], [row("failed")], bounced=["b"]).denied == ("a",)


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_bounce_makes_no_other_end_true(status: str) -> None:
    assert verdict([PROMISED], ["a"], [row(status)], bounced=["a"]).denied == ("a",)


def test_a_copy_that_nobody_asked_for_is_a_ghost() -> None:
    assert verdict([], ["a"], [row("sent")]).ghost == ("a",)


@pytest.mark.parametrize("status", [400, 401, 409, 429])
def test_a_copy_although_the_client_was_told_no_is_a_ghost(status: int) -> None:
    assert verdict([Answer("a", status)], ["a"], [row("sent")]).ghost == ("a",)


@pytest.mark.parametrize("status", [None, 503])
def test_a_copy_after_an_answer_that_leaves_it_open_is_counted_and_no_ghost(
    status: int | None,
) -> None:
    found = verdict([Answer("a", status)], ["a"], [row("sent")])
    assert found.is_clean
    assert found.unconfirmed == 1


def test_what_was_never_promised_is_not_lost_but_may_be_stuck() -> None:
    assert verdict([Answer("a", None)], [], []).is_clean
    assert verdict([Answer("a", None)], [], [row("pending")]).stuck == ("a",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("sent", "sending"), ("sent", "unknown"), ("failed", "pending")),
        *(("delivered", "sent"), ("failed", "sent"), ("failed", "delivered")),
    ],
)
def test_a_status_that_goes_backwards_has_regressed(old: str, new: str) -> None:
    found = verdict([PROMISED], ["a"], [row("sent")], Change("1", old, new))
    assert found.regressed == (f"a: {old} -> {new}",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((old, new) for old in ("pending", "sending", "unknown") for new in ("sent", "delivered")),
        *((old, "failed") for old in ("pending", "sending", "unknown", "sent", "delivered")),
        ("sent", "delivered"),
    ],
)
def test_whatever_a_receipt_does_goes_forward(old: str, new: str) -> None:
    assert not verdict([PROMISED], ["a"], [row("unknown")], Change("1", old, new)).regressed


def test_how_many_went_unknown_is_counted_by_notification() -> None:
    changes = [Change("1", "sending", "unknown")] * 2 + [Change("1", "unknown", "sent")]
    found = verdict([PROMISED], ["a"], [row("sent")], *changes)
    assert (found.went_unknown, found.unknown) == (1, 0)


def test_it_knows_every_status_and_nothing_leaves_an_end_but_what_bounces() -> None:
    assert {status for change in FORWARD for status in change} == set(Status.values)
    ends = {"delivered", "failed", "cancelled", "expired"}
    assert [change for change in FORWARD if change[0] in ends] == [("delivered", "failed")]
