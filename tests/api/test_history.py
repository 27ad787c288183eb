"""GET /users/{user_id}/notifications: what was sent to one person, newest first."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.factories import NotificationFactory, RecipientFactory
from users.models import Project

pytestmark = pytest.mark.django_db


def ids(
    client: APIClient, path: str = "/api/v1/users/ann/notifications", **query: Any
) -> list[str]:
    response = client.get(path, query)
    assert response.status_code == 200, response.content
    return [item["id"] for item in response.json()["results"]]


@pytest.fixture
def three(alice: Project) -> list[str]:
    """The ids of three notifications of Ann, newest first; Bob has one too."""
    ann = RecipientFactory(project=alice, user_id="ann")
    NotificationFactory(recipient__project=alice, recipient__user_id="bob")
    made = [NotificationFactory(recipient=ann, channel=name) for name in ("email", "sms", "in_app")]
    return [str(notification.id) for notification in reversed(made)]


def test_it_is_one_persons_newest_first(client_of_alice: APIClient, three: list[str]) -> None:
    assert ids(client_of_alice) == three


def test_it_comes_in_pages(client_of_alice: APIClient, three: list[str]) -> None:
    path = "/api/v1/users/ann/notifications"
    first = client_of_alice.get(path, {"limit": 2}).json()
    second = client_of_alice.get(first["next"]).json()
    assert [item["id"] for item in first["results"] + second["results"]] == three
    assert second["next"] is None


def test_it_can_be_filtered(client_of_alice: APIClient, three: list[str]) -> None:
    assert ids(client_of_alice, channel="in-app") == three[:1]
    assert ids(client_of_alice, status="failed") == []
    assert ids(client_of_alice, user_id="bob") == []


def test_a_user_never_seen_has_an_empty_one(client_of_alice: APIClient) -> None:
    answer = client_of_alice.get("/api/v1/users/nobody/notifications")
    assert answer.json() == {"next": None, "previous": None, "results": []}


def test_another_projects_user_of_that_id_has_nothing_to_do_with_it(
    client_of_alice: APIClient, stranger: Project
) -> None:
    NotificationFactory(recipient__project=stranger, recipient__user_id="ann")
    assert ids(client_of_alice) == []


@pytest.mark.parametrize(
    ("user_id", "path"),
    [("a b", "a%20b"), ("ü", "%C3%BC"), ("a%", "a%25"), ("a?b", "a%3Fb"), ("😀", "%F0%9F%98%80")],
)
def test_an_id_of_any_characters_can_stand_in_the_path(
    client_of_alice: APIClient, user_id: str, path: str
) -> None:
    body = {"user_id": user_id, "channel": "in_app", "message": "Hello"}
    created = client_of_alice.post("/notifications", body, format="json").json()
    assert ids(client_of_alice, f"/users/{path}/notifications") == [created["id"]]


def test_what_was_sent_to_an_address_is_in_the_history_of_its_owner(
    client_of_alice: APIClient,
) -> None:
    client_of_alice.put("/users/ann", {"email": "ann@example.com"}, format="json")
    body = {"channel": "email", "recipient": "ann@example.com", "message": "Hello"}
    by_address = client_of_alice.post("/notifications", body, format="json").json()
    beside = body | {"user_id": "ann", "recipient": "another@example.com"}
    by_both = client_of_alice.post("/notifications", beside, format="json").json()
    assert ids(client_of_alice) == [by_both["id"], by_address["id"]]
