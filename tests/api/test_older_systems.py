"""The calls of the systems this one replaces work as they stand, in the order in which a newcomer makes them."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from notifications.models import Notification
from users.models import Recipient

pytestmark = pytest.mark.django_db

WITH_AND_WITHOUT = [
    pytest.param(prefix, slash, id=f"{prefix or 'no prefix'}{' and a slash' if slash else ''}")
    for prefix in ("", "/api/v1")
    for slash in ("", "/")
]


class OldSystem:
    """Makes the calls of section 2 and hands back the body of each answer."""

    def __init__(self, client: APIClient, prefix: str, slash: str) -> None:
        self.client = client
        self.prefix = prefix
        self.slash = slash

    def call(self, method: str, path: str, body: Any = None, *, expect: int) -> Any:
        url = f"{self.prefix}{path}{self.slash}"
        response = getattr(self.client, method)(url, body, format="json" if body else None)
        assert response.status_code == expect, (url, response.content)
        return response.json()

    def post(self, path: str, body: Any, *, expect: int = 201) -> Any:
        return self.call("post", path, body, expect=expect)

    def get(self, path: str) -> Any:
        return self.call("get", path, expect=200)


@pytest.mark.parametrize(("prefix", "slash"), WITH_AND_WITHOUT)
def test_every_call_of_the_older_systems_works_as_it_stands(
    client_of_alice: APIClient, prefix: str, slash: str
) -> None:
    old = OldSystem(client_of_alice, prefix, slash)

    hello = old.post("/notifications", {"user_id": 1, "type": "email", "message": "Hello there!"})
    assert (hello["user_id"], hello["channel"], hello["message"]) == ("1", "email", "Hello there!")
    assert hello["status"] == "pending"

    for spelling, channel in (("email", "email"), ("sms", "sms"), ("in_app", "in_app")):
        welcome = old.post(
            "/notifications",
            {
                "user_id": "user123",
                "notif_type": spelling,
                "content": "Welcome to the platform!",
            },
        )
        assert (welcome["user_id"], welcome["channel"]) == ("user123", channel)
        assert welcome["message"] == "Welcome to the platform!"

    urgent = old.post(
        "/notifications",
        {
            "user_id": "user123",
            "title": "Welcome!",
            "message": "Welcome to our platform",
            "type": "email",
            "metadata": {"priority": "high", "category": "welcome"},
        },
    )
    assert (urgent["title"], urgent["priority"], urgent["category"]) == (
        "Welcome!",
        "high",
        "welcome",
    )
    assert urgent["metadata"] == {"priority": "high", "category": "welcome"}

    ananya = {"name": "ananya", "email": "ananya@example.com", "phone": "1236889367"}
    registered = old.post("/users", ananya)
    assert registered["user_id"].startswith("usr_")
    assert (registered["email"], registered["phone"]) == ("ananya@example.com", "+11236889367")
    again = old.post("/users", ananya, expect=409)
    assert again["errors"][0]["field"] == "email"

    by_sms = old.post(
        "/notifications", {"type": "sms", "recipient": "1236889367", "message": "sms success"}
    )
    by_email = old.post(
        "/notifications",
        {"type": "email", "recipient": "ananya@example.com", "message": "email success"},
    )
    in_app = old.post(
        "/notifications",
        {"type": "inapp", "recipient": registered["user_id"], "message": "inapp success"},
    )
    assert {item["user_id"] for item in (by_sms, by_email, in_app)} == {registered["user_id"]}
    assert (by_sms["recipient"], in_app["channel"]) == ("+11236889367", "in_app")

    world = old.post(
        "/notifications", {"user_id": 4, "notification_type": "in-app", "content": "hello, world!"}
    )
    assert (world["user_id"], world["channel"]) == ("4", "in_app")

    assert [item["id"] for item in old.get("/users/4/notifications")["results"]] == [world["id"]]
    history = old.get("/users/user123/notifications")["results"]
    assert [item["title"] for item in history] == ["Welcome!", "", "", ""]
    assert old.get(f"/notifications/{world['id']}")["message"] == "hello, world!"
    read = old.call("patch", f"/notifications/{world['id']}/status", {"status": "read"}, expect=200)
    assert read["read_at"] is not None
    assert (
        old.client.get(f"{prefix}/health{slash}").json()["components"]["database"]["status"] == "ok"
    )
    assert Notification.objects.count() == 9
    assert Recipient.objects.count() == 4


@pytest.mark.parametrize("spelling", [4, "4"])
def test_a_user_id_is_the_same_as_an_integer_and_as_a_string(
    client_of_alice: APIClient, spelling: int | str
) -> None:
    client_of_alice.put("/api/v1/users/4", {"name": "Four"}, format="json")
    body = {"user_id": spelling, "channel": "in_app", "message": "hello"}
    client_of_alice.post("/notifications", body, format="json")
    assert Recipient.objects.get().notifications.count() == 1
