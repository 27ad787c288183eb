"""The first page's sentences: true of what is given, and the most serious first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notifications.admin.headline import ALL_IS_WELL, NO_WORKER, Standing, statements
from notifications.doctor.backlog import MOST, Lane
from notifications.doctor.findings import Finding, Severity, error, ok, warning
from notifications.models import Circuit, Pause
from users.models import User

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CARRIED = {"email.low": "smtp", "sms.high": "twilio", "sms.low": "twilio", "sandbox": "sandbox"}


def said(**facts: Any) -> list[str]:
    return [statement.text for statement in told(**facts)]


def told(**facts: Any) -> list[Any]:
    nothing: dict[str, Any] = {"lanes": (), "findings": (), "circuits": (), "pauses": ()}
    return statements(Standing(**{**nothing, "carried": CARRIED, **facts}), NOW)


def lane(name: str, waiting: int = 0, oldest: float = 0, overdue: float = 0) -> Lane:
    return Lane(name, waiting, oldest, overdue)


def refused(**fields: Any) -> Circuit:
    given: dict[str, Any] = {
        "provider": "twilio",
        "cause": "refused",
        "code": "401",
        "opened_at": NOW - timedelta(minutes=7),
        "open_until": NOW + timedelta(seconds=20),
    }
    return Circuit(**given | fields)


NO_WORKERS = error("workers", "no_worker", "No worker was heard of in the last 20 s", "")


def test_where_nothing_is_wrong_it_says_so() -> None:
    findings: list[Finding] = [ok("workers", "2 alive."), ok("scheduler", "Beat is alive.")]
    [only] = told(findings=findings, lanes=[lane("sms.high", waiting=3, oldest=1, overdue=1)])
    assert (only.severity, only.text) == (Severity.OK, ALL_IS_WELL)


def test_a_refused_account_tells_which_channel_has_been_waiting_for_how_long() -> None:
    lanes = [lane("sms.high", 2, oldest=60), lane("sms.low", 5, oldest=420), lane("email.low", 1)]
    assert said(lanes=lanes, circuits=[refused()]) == [
        "SMS has been waiting 7 min: twilio refuses our account, for 7 min now (401); next try in 20 s."
    ]


@pytest.mark.parametrize("sender", ["", "shop@example.com"])
def test_an_open_circuit_for_which_nothing_is_known_to_wait_is_told_alone(sender: str) -> None:
    lanes = [lane("sms.high", 2, oldest=60)] if sender else []
    [only] = said(lanes=lanes, circuits=[refused(sender=sender)])
    assert only.startswith("Held: twilio refuses our account")


def test_without_a_worker_nothing_else_explains_what_is_late() -> None:
    lanes = [lane("sms.high", 2, oldest=600, overdue=600)]
    assert said(lanes=lanes, findings=[NO_WORKERS]) == [NO_WORKER]


def test_a_lane_that_nothing_holds_is_late() -> None:
    lanes = [lane("sms.high", 1, oldest=600, overdue=600), lane("email.low", MOST, 40, overdue=40)]
    assert said(lanes=lanes) == [
        "sms.high is 10 min late: 1 notification waits, and nothing holds it back.",
        "email.low is 40 s late: 1,000 notifications or more wait, and nothing holds it back.",
    ]


def test_a_lane_that_nobody_carries_any_more_says_that() -> None:
    lanes = [lane("email.high", 2, oldest=40, overdue=40)]
    assert said(lanes=lanes) == [
        "email.high is 40 s late: 2 notifications wait, and no provider carries it any more."
    ]


def test_a_circuit_that_nobody_probes_though_it_is_time_is_told() -> None:
    lanes = [lane("sms.high", 1, oldest=600, overdue=600)]
    _, late = said(lanes=lanes, circuits=[refused()])
    assert late.endswith("1 notification waits, and nobody tries twilio again, though it is time.")


def test_a_pause_tells_who_why_and_how_many_wait_behind_it() -> None:
    by = {"paused_by": User(username="olga"), "paused_at": NOW - timedelta(minutes=3)}
    pauses = [Pause(target="email.low", reason="wrong prices", **by), Pause(target="twilio", **by)]
    lanes = [lane("email.low", 3, 20), lane("sms.high", 1, 20), lane("sms.low", 1, 20)]
    assert said(lanes=lanes, pauses=pauses) == [
        "email.low is paused for 3 min now by olga: 'wrong prices'. 3 notifications wait.",
        "twilio is paused for 3 min now by olga. 2 notifications wait.",
    ]


def test_the_most_serious_comes_first() -> None:
    found = told(
        lanes=[lane("email.low", 3, 400, overdue=400)],
        circuits=[refused(cause="throttled"), refused()],
        pauses=[Pause(target="sandbox", paused_at=NOW)],
        findings=[warning("scheduler", "no_beat", "Beat was not heard of.", "")],
    )
    severities = [statement.severity for statement in found]
    assert severities == [Severity.ERROR] * 2 + [Severity.WARNING] * 3
    assert found[0].text.startswith("E-mail") is False
    assert "twilio refuses" in found[0].text
