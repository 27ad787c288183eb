"""When to try again: pure, so a table is the test."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.providers.base import Ambiguous, Misconfigured, Permanent, Sent, Temporary
from notifications.retry import LONGEST_WAIT, backoff, judge, lifetime, resends_from_unknown


def verdict_of(answer, attempt=1):
    return judge(answer, attempt=attempt, max_attempts=25, chance=0.5)


@given(attempt=st.integers(1, 500), chance=st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_longer_than_an_hour(attempt, chance):
    assert 0 <= backoff(attempt, chance) <= LONGEST_WAIT


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 30), (2, 60), (3, 120), (7, 1920), (8, 3600)])
def test_the_window_doubles_with_every_attempt_up_to_an_hour(attempt, ceiling):
    assert backoff(attempt, 0.5) == ceiling / 2


def test_retry_after_is_a_floor_and_may_exceed_an_hour():
    assert backoff(1, 0.0, retry_after=7200) == 7200
    assert backoff(3, 0.9, retry_after=1) == pytest.approx(108)


@pytest.mark.parametrize("asked", [10.0**12, float("inf")])
def test_a_provider_cannot_park_a_message_for_years(asked):
    assert backoff(1, 0.0, retry_after=asked) == 24 * 3600


@pytest.mark.parametrize(
    ("answer", "status", "outcome"),
    [
        (Sent(provider_message_id="x"), "sent", "accepted"),
        (Sent(delivered=True), "delivered", "accepted"),
        (Temporary("smtp_451"), "pending", "temporary"),
        (Permanent("smtp_550"), "failed", "permanent"),
        (Misconfigured("smtp_535"), "pending", "misconfigured"),
        (Ambiguous("timed_out"), "unknown", "ambiguous"),
    ],
)
def test_each_answer_means_one_status(answer, status, outcome):
    verdict = verdict_of(answer)
    assert (verdict.status, verdict.outcome) == (status, outcome)


def test_only_a_misconfiguration_costs_no_attempt():
    assert not verdict_of(Misconfigured("smtp_535")).spent
    assert verdict_of(Temporary("smtp_451")).spent


def test_the_last_attempt_makes_a_temporary_error_final():
    verdict = verdict_of(Temporary("smtp_451", "try later"), attempt=25)
    assert (verdict.status, verdict.failure_kind, verdict.wait) == ("failed", "temporary", None)
    assert verdict_of(Temporary("smtp_451"), attempt=24).status == "pending"


def test_an_ambiguous_answer_is_never_retried_by_itself():
    assert verdict_of(Ambiguous("timed_out")).wait is None


@pytest.mark.parametrize(
    ("channel", "priority", "hours"),
    [("email", "normal", 72), ("sms", "low", 12), ("email", "high", 1), ("sms", "high", 1)],
)
def test_what_is_not_sent_in_time_is_not_sent(channel, priority, hours):
    assert lifetime(channel, priority) == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("policy", "resent"),
    [("", ["high", "normal"]), ("resend", ["high", "normal", "low"]), ("hold", [])],
)
def test_a_projects_policy_for_unknown_ones_goes_before_the_priority(policy, resent):
    priorities = ("high", "normal", "low")
    assert [each for each in priorities if resends_from_unknown(each, policy)] == resent


def test_an_in_app_message_never_expires():
    assert lifetime("in_app", "high") is None
