"""GET /notifications: filters and pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rest_framework.test import APIClient

from notifications.ids import first_of
from notifications.models import Notification
from tests.api.problems import refused
from tests.factories import NotificationFactory, RecipientFactory
from users.models import Project

pytestmark = pytest.mark.django_db

URL = "/api/v1/notifications"


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [item["id"] for item in response.json()["results"]]


@pytest.fixture
def five(alice: Project) -> list[str]:
    """The ids of five notifications, newest first."""
    ann = RecipientFactory(project=alice, user_id="ann")
    made = [NotificationFactory(recipient=ann, message=f"number {n}") for n in range(5)]
    return [str(notification.id) for notification in reversed(made)]


def test_the_newest_comes_first_and_nothing_is_counted(
    client_of_alice: APIClient, five: list[str]
) -> None:
    page = client_of_alice.get(URL)
    assert ids(page) == five
    assert set(page.json()) == {"next", "previous", "results"}
    assert page.json()["next"] is None


def test_pages_lead_on_to_the_end_and_back_to_the_start(
    client_of_alice: APIClient, five: list[str]
) -> None:
    first = client_of_alice.get(URL, {"limit": 2})
    second = client_of_alice.get(first.json()["next"])
    third = client_of_alice.get(second.json()["next"])
    assert [*ids(first), *ids(second), *ids(third)] == five
    assert third.json()["next"] is None
    back = client_of_alice.get(third.json()["previous"])
    assert ids(back) == ids(second)
    assert ids(client_of_alice.get(back.json()["previous"])) == ids(first)


def test_a_page_keeps_its_filters(client_of_alice: APIClient, five: list[str]) -> None:
    first = client_of_alice.get(URL, {"limit": 3, "user_id": "ann"})
    query = parse_qs(urlsplit(first.json()["next"]).query)
    assert (query["limit"], query["user_id"]) == (["3"], ["ann"])


def test_what_comes_meanwhile_moves_no_page(
    client_of_alice: APIClient, alice: Project, five: list[str]
) -> None:
    first = client_of_alice.get(URL, {"limit": 2})
    NotificationFactory(recipient__project=alice)
    assert ids(client_of_alice.get(first.json()["next"])) == five[2:4]


def test_a_page_has_50_results_and_250_at_most(client_of_alice: APIClient, alice: Project) -> None:
    ann = RecipientFactory(project=alice)
    NotificationFactory.create_batch(51, recipient=ann)
    assert len(ids(client_of_alice.get(URL))) == 50
    assert len(ids(client_of_alice.get(URL, {"limit": 250}))) == 51


@pytest.mark.parametrize("position", [0, 5, 30, -1])
def test_a_cursor_that_was_tampered_with_is_refused(
    client_of_alice: APIClient, five: list[str], position: int
) -> None:
    link = client_of_alice.get(URL, {"limit": 2}).json()["next"]
    cursor = parse_qs(urlsplit(link).query)["cursor"][0]
    other = "A" if cursor[position] != "A" else "B"
    changed = cursor[:position] + other + (cursor[position + 1 :] if position >= 0 else "")
    refused(client_of_alice.get(URL, {"cursor": changed}), 400, "cursor", "invalid_cursor")


def test_each_filter_finds_its_own(client_of_alice: APIClient, alice: Project) -> None:
    wanted = NotificationFactory(
        recipient__project=alice,
        recipient__user_id="4",
        channel="sms",
        status="cancelled",
        reference="order-1",
        category="welcome",
    )
    NotificationFactory(recipient__project=alice)
    for query in (
        {"status": "cancelled"},
        {"channel": "sms"},
        {"user_id": "4"},
        {"reference": "order-1"},
        {"category": "welcome"},
        {"status": "cancelled", "channel": "sms", "user_id": 4, "reference": "order-1"},
    ):
        assert ids(client_of_alice.get(URL, query)) == [str(wanted.id)], query
    assert ids(client_of_alice.get(URL, {"status": "failed", "channel": "sms"})) == []
    assert ids(client_of_alice.get(URL, {"user_id": "nobody"})) == []


@pytest.mark.parametrize("spelling", ["in_app", "in-app", "inapp"])
def test_a_channel_may_be_spelled_as_on_the_way_in(
    client_of_alice: APIClient, alice: Project, spelling: str
) -> None:
    wanted = NotificationFactory(recipient__project=alice, channel="in_app")
    assert ids(client_of_alice.get(URL, {"channel": spelling})) == [str(wanted.id)]


def _made_at(moment: datetime, project: Project) -> Notification:
    """As if made then, by a web process whose clock is half an hour behind the database's."""
    id = first_of(moment - timedelta(minutes=30))
    return NotificationFactory(recipient__project=project, created_at=moment, id=id)


def test_times_are_bounds_that_are_not_included(client_of_alice: APIClient, alice: Project) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    hour = timedelta(hours=1)
    before, at, after = (
        str(_made_at(moment, alice).id) for moment in (noon - hour, noon, noon + hour)
    )
    assert ids(client_of_alice.get(URL, {"created_after": noon.isoformat()})) == [after]
    assert ids(client_of_alice.get(URL, {"created_before": "2026-01-01T13:00:00+01:00"})) == [
        before
    ]
    around = {
        "created_after": (noon - hour).isoformat(),
        "created_before": (noon + hour).isoformat(),
    }
    assert ids(client_of_alice.get(URL, around)) == [at]


def test_another_projects_notifications_are_not_in_it(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = NotificationFactory(recipient__project=stranger, recipient__user_id="ann")
    assert ids(client_of_alice.get(URL)) == []
    assert ids(client_of_alice.get(URL, {"user_id": "ann"})) == []
    assert theirs.user_id == "ann"


def test_a_forgotten_users_notifications_are_still_found_by_their_reference(
    client_of_alice: APIClient, alice: Project
) -> None:
    sent = NotificationFactory(
        recipient__project=alice, recipient__user_id="ann", reference="order-1"
    )
    assert client_of_alice.delete("/api/v1/users/ann").status_code == 204
    assert ids(client_of_alice.get(URL, {"reference": "order-1"})) == [str(sent.id)]
    assert ids(client_of_alice.get(URL, {"user_id": "ann"})) == []
