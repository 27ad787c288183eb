"""Which notifications a query means: every filter, all of them together, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications.ids import first_of
from notifications.models import Notification
from notifications.selecting import PARAMETERS, chosen
from tests.factories import (
    BatchFactory,
    NotificationFactory,
    RecipientFactory,
    row_of,
)
from users.models import Project
from users.refusals import Refused

pytestmark = pytest.mark.django_db


def ids(query: dict[str, Any], project_ids: list[int] | None = None) -> set[UUID]:
    return {each.pk for each in chosen({k: str(v) for k, v in query.items()}, project_ids)}


def sent(**fields: Any) -> Notification:
    return NotificationFactory(status="sent", sent_at=timezone.now(), **fields)


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"status": "pending"}, {"status": "pending"}),
        ({"status": "cancelled"}, {"status": "cancelled"}),
        ({"channel": "sms"}, {"channel": "sms", "address": "+15005550006"}),
        ({"priority": "high"}, {"priority": "high"}),
        ({"live": "0"}, {"live": False}),
        ({"provider": "twilio"}, {"provider": "twilio"}),
        ({"failure_code": "550"}, {"failure_code": "550"}),
        ({"category": "receipts"}, {"category": "receipts"}),
        ({"held": "1"}, {"status": "unknown"}),
        ({"q": "order-4711"}, {"reference": "order-4711"}),
    ],
)
def test_each_filter_chooses_by_its_own(query: dict[str, str], fields: dict[str, Any]) -> None:
    wanted = NotificationFactory(**fields)
    sent()
    assert ids(query) == {wanted.pk}


def test_a_project_and_a_recipient_are_chosen_by_their_ids(alice: Project) -> None:
    wanted = sent(recipient=RecipientFactory(project=alice))
    sent()
    assert ids({"project": alice.pk}) == {wanted.pk}
    assert ids({"recipient": wanted.recipient_id}) == {wanted.pk}


def test_a_batch_is_chosen_by_its_id() -> None:
    batch = BatchFactory()
    row = row_of(batch, 1)
    sent()
    assert ids({"batch": batch.pk}) == {row.pk}
    assert ids({"batch": uuid7()}) == set()


def test_what_was_resent_and_what_was_not() -> None:
    old = sent()
    newer = sent(recipient=old.recipient, resend_of=old)
    assert ids({"resent": "1"}) == {old.pk}
    assert ids({"resent": "0"}) == {newer.pk}


def test_a_day_counts_whole_and_a_moment_to_itself() -> None:
    at = {hour: datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (0, 10, 23)}
    made = {hour: sent(id=first_of(moment)).pk for hour, moment in at.items()}
    sent(id=first_of(datetime(2026, 3, 2, tzinfo=UTC)))
    day = {"created_from": "2026-03-01", "created_to": "2026-03-01"}
    assert ids(day) == set(made.values())
    assert ids(day | {"created_from": "2026-03-01T10:00"}) == {made[10], made[23]}
    assert ids(day | {"created_to": "2026-03-01T10:00Z"}) == {made[0]}
    assert ids(day | {"created_to": "2026-03-01 10"}) == {made[0]}
    assert ids(day | {"created_from": "2026-03-01T11:00+01:00"}) == {made[10], made[23]}
    assert ids({"created_from": "1969-01-01", "created_to": "9999-12-31"})


def test_all_of_them_hold_together(alice: Project) -> None:
    wanted = sent(recipient=RecipientFactory(project=alice), provider="smtp", category="news")
    sent(recipient=wanted.recipient, provider="smtp")
    sent(provider="smtp", category="news")
    query = {
        "project": alice.pk,
        "status": "sent",
        "provider": "smtp",
        "category": "news",
        "q": wanted.user_id,
    }
    assert ids(query) == {wanted.pk}


def test_what_is_empty_is_not_asked_for_and_paging_is_no_filter() -> None:
    wanted = sent()
    assert ids(dict.fromkeys(PARAMETERS, "")) == {wanted.pk}
    assert ids({"before": wanted.pk, "after": "x", "q": "  "}) == {wanted.pk}


def test_nothing_beyond_the_given_projects_is_chosen(alice: Project, stranger: Project) -> None:
    mine = sent(recipient=RecipientFactory(project=alice, user_id="4"))
    theirs = sent(recipient=RecipientFactory(project=stranger, user_id="4"))
    assert ids({"q": "4"}, [alice.pk]) == {mine.pk}
    assert ids({"q": "4"}, [alice.pk, stranger.pk]) == {mine.pk, theirs.pk}
    assert ids({"project": stranger.pk}, [alice.pk]) == set()
    assert ids({}, []) == set()


def test_a_search_chooses_all_that_match_and_not_only_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("notifications.finding.MOST_FOUND", 2)
    monkeypatch.setattr("notifications.finding.MOST_RECIPIENTS", 2)
    assert len([sent(recipient__user_id="4") for _ in range(4)]) == len(ids({"q": "4"}))


def test_the_newest_come_first() -> None:
    made = [sent(reference="r", id=first_of(timezone.now() + timedelta(hours=n))) for n in range(3)]
    assert [each.pk for each in chosen({"q": "r"})] == [each.pk for each in reversed(made)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "nonsense"),
        ("channel", "fax"),
        ("priority", "1"),
        ("live", "yes"),
        ("held", "maybe"),
        ("resent", "2"),
        ("project", "x"),
        ("project", "9" * 30),
        ("recipient", "-1"),
        ("batch", "x"),
        ("created_from", "31.12.2026"),
        ("created_to", "2026-02-30"),
        ("q", "\x00"),
        ("category", "\x00"),
        ("before", "\x00"),
        ("staus", "failed"),
    ],
)
def test_a_bad_value_and_an_unknown_name_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(Refused) as refused:
        chosen({name: value})
    assert refused.value.field == name
    assert name in refused.value.detail
