"""/suppressions: looking, adding, taking off."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from notifications.ids import first_of
from notifications.models import Suppression
from tests.api.problems import refused
from tests.factories import NotificationFactory, SuppressionFactory
from users.models import Project, Scope

pytestmark = pytest.mark.django_db

URL = "/api/v1/suppressions"


def post(client: APIClient, **body: Any) -> Any:
    return client.post(
        URL, {"channel": "email", "address": "ann@example.com"} | body, format="json"
    )


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [item["id"] for item in response.json()["results"]]


def test_an_address_is_added_and_can_be_looked_at(client_of_alice: APIClient) -> None:
    created = post(client_of_alice, reason="unsubscribe", detail="By phone, on Monday.")
    assert created.status_code == 201
    document = created.json()
    assert document | {"id": "", "created_at": ""} == {
        "id": "",
        "channel": "email",
        "address": "ann@example.com",
        "reason": "unsubscribe",
        "source": "api",
        "detail": "By phone, on Monday.",
        "notification_id": None,
        "created_at": "",
    }
    assert client_of_alice.get(created["Location"]).json() == document
    assert ids(client_of_alice.get(URL)) == [document["id"]]


@pytest.mark.parametrize(
    ("channel", "given", "kept"),
    [
        ("email", "Ann.Lee@Example.COM", "ann.lee@example.com"),
        ("sms", "(500) 555-0006", "+15005550006"),
        ("sms", "+1 500 555 0006", "+15005550006"),
    ],
)
def test_an_address_is_kept_in_one_spelling(
    client_of_alice: APIClient, channel: str, given: str, kept: str
) -> None:
    assert post(client_of_alice, channel=channel, address=given).json()["address"] == kept


def test_without_a_reason_it_is_by_hand(client_of_alice: APIClient) -> None:
    assert post(client_of_alice).json()["reason"] == "manual"


def test_what_is_there_already_stays_as_it_is(client_of_alice: APIClient) -> None:
    first = post(client_of_alice, reason="complaint", detail="first")
    again = post(client_of_alice, address="ANN@example.com", reason="manual", detail="second")
    assert (again.status_code, again.json()) == (200, first.json())


def test_a_reason_that_stops_more_takes_its_place(client_of_alice: APIClient) -> None:
    first = post(client_of_alice, reason="complaint")
    again = post(client_of_alice, reason="hard_bounce")
    assert (again.status_code, again.json()["reason"]) == (201, "hard_bounce")
    for name in ("id", "created_at"):
        assert again.json()[name] == first.json()[name]


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"channel": "in_app"}, "channel", "invalid_choice"),
        ({"channel": "fax"}, "channel", "invalid_choice"),
        ({"channel": None}, "channel", "required"),
        ({"address": None}, "address", "required"),
        ({"address": ""}, "address", "blank"),
        ({"address": "not an address"}, "address", "invalid_email"),
        ({"address": "a@example.com\nBcc: b@example.com"}, "address", "control_characters"),
        ({"address": 7}, "address", "invalid"),
        ({"address": "x" * 321}, "address", "max_length"),
        ({"channel": "sms", "address": "12"}, "address", "invalid_phone"),
        ({"reason": "because"}, "reason", "invalid_choice"),
        ({"detail": "x" * 2001}, "detail", "max_length"),
        ({"source": "receipt"}, "source", "unknown_field"),
        ({"project": 1}, "project", "unknown_field"),
    ],
)
def test_bad_input_names_its_field_and_stores_nothing(
    client_of_alice: APIClient, body: dict[str, Any], field: str, code: str
) -> None:
    refused(post(client_of_alice, **body), 400, field, code)
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("body", ["[]", '"x"', "{", ""])
def test_a_body_that_is_no_object_is_refused(client_of_alice: APIClient, body: str) -> None:
    response = client_of_alice.generic("POST", URL, body, "application/json")
    assert response.status_code == 400


def test_taken_off_it_is_gone(client_of_alice: APIClient, alice: Project) -> None:
    listed = SuppressionFactory(project=alice)
    assert client_of_alice.delete(f"{URL}/{listed.id}").status_code == 204
    assert not Suppression.objects.exists()
    refused(client_of_alice.delete(f"{URL}/{listed.id}"), 404, "", "not_found")
    refused(client_of_alice.get(f"{URL}/{listed.id}"), 404, "", "not_found")


def test_another_projects_list_is_not_seen_and_not_changed(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = SuppressionFactory(project=stranger, address="ann@example.com")
    assert ids(client_of_alice.get(URL)) == []
    for method in (client_of_alice.get, client_of_alice.delete):
        refused(method(f"{URL}/{theirs.id}"), 404, "", "not_found")
        refused(method(f"{URL}/{uuid4()}"), 404, "", "not_found")
        refused(method(f"{URL}/x"), 400, "id", "invalid")
    assert post(client_of_alice).status_code == 201
    assert Suppression.objects.count() == 2


@pytest.mark.parametrize(
    ("scopes", "may_read", "may_manage"),
    [([Scope.READ], True, False), ([Scope.MANAGE], False, True), ([Scope.SEND], False, False)],
)
def test_reading_and_changing_need_their_scopes(
    alice: Project,
    make_client: Callable[..., APIClient],
    scopes: list[str],
    may_read: bool,
    may_manage: bool,
) -> None:
    client, listed = make_client(alice, scopes=scopes), SuppressionFactory(project=alice)
    for path in (URL, f"{URL}/{listed.id}"):
        assert client.get(path).status_code == (200 if may_read else 403)
    assert post(client).status_code == (201 if may_manage else 403)
    assert client.delete(f"{URL}/{listed.id}").status_code == (204 if may_manage else 403)


def test_each_filter_finds_its_own(client_of_alice: APIClient, alice: Project) -> None:
    wanted = SuppressionFactory(project=alice, channel="sms", address="+15005550006", reason="stop")
    SuppressionFactory(project=alice, address="ann@example.com", reason="complaint")
    for query in (
        {"channel": "sms"},
        {"reason": "stop"},
        {"channel": "sms", "address": "(500) 555-0006"},
        {"channel": "sms", "reason": "stop", "address": "+15005550006"},
    ):
        assert ids(client_of_alice.get(URL, query)) == [str(wanted.id)], query
    assert len(ids(client_of_alice.get(URL, {"address": "ANN@Example.com"}))) == 1
    assert ids(client_of_alice.get(URL, {"address": "ann@example.com", "reason": "stop"})) == []


def test_times_are_bounds(client_of_alice: APIClient, alice: Project) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    made = [
        SuppressionFactory(project=alice, created_at=moment, id=first_of(moment))
        for moment in (noon, noon + timedelta(hours=1))
    ]
    assert ids(client_of_alice.get(URL, {"created_after": "2026-01-01T12:00:00Z"})) == [
        str(made[1].id)
    ]
    assert ids(client_of_alice.get(URL, {"created_before": "2026-01-01T13:00:00Z"})) == [
        str(made[0].id)
    ]


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({"channel": "in_app"}, "channel", "invalid_choice"),
        ({"reason": "x"}, "reason", "invalid_choice"),
        ({"address": "x"}, "address", "invalid_email"),
        ({"channel": "sms", "address": "x"}, "address", "invalid_phone"),
        ({"created_after": "yesterday"}, "created_after", "invalid"),
        ({"status": "sent"}, "status", "unknown_filter"),
        ({"limit": "0"}, "limit", "invalid"),
        ({"cursor": "x"}, "cursor", "invalid_cursor"),
    ],
)
def test_a_filter_that_cannot_be_read_is_named(
    client_of_alice: APIClient, query: dict[str, str], field: str, code: str
) -> None:
    refused(client_of_alice.get(URL, query), 400, field, code)


def test_pages_lead_through_all_of_them_newest_first(
    client_of_alice: APIClient, alice: Project
) -> None:
    made = [str(each.id) for each in SuppressionFactory.create_batch(5, project=alice)][::-1]
    page = client_of_alice.get(URL, {"limit": 2}).json()
    seen = [item["id"] for item in page["results"]]
    while page["next"]:
        page = client_of_alice.get(page["next"]).json()
        seen += [item["id"] for item in page["results"]]
    assert seen == made


def test_it_tells_by_which_notification_it_was_learned(
    client_of_alice: APIClient, alice: Project
) -> None:
    notification = NotificationFactory(recipient__project=alice)
    listed = SuppressionFactory(project=alice, notification=notification)
    document = client_of_alice.get(f"{URL}/{listed.id}").json()
    assert document["notification_id"] == str(notification.id)
