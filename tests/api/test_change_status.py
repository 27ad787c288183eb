"""PATCH /notifications/{id}/status: cancel, read, unread."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from notifications.models import Notification, Status
from tests.api.problems import refused
from tests.factories import NotificationFactory
from users.models import Project

pytestmark = pytest.mark.django_db

#: What the database asks of a row in each status.
STATES: dict[str, dict[str, Any]] = {status: {"status": status} for status in Status.values}
STATES["sending"] |= {"leased_until": timezone.now()}
STATES["sent"] |= {"sent_at": timezone.now()}
STATES["delivered"] |= {"sent_at": timezone.now()}
STATES["failed"] |= {"failure_kind": "permanent"}


def change(client: APIClient, notification: Notification, status: Any) -> Any:
    path = f"/api/v1/notifications/{notification.id}/status"
    return client.patch(path, {"status": status}, format="json")


def test_a_waiting_one_can_be_cancelled_also_twice(
    client_of_alice: APIClient, alice: Project
) -> None:
    waiting = NotificationFactory(recipient__project=alice)
    for _ in range(2):
        answer = change(client_of_alice, waiting, "cancelled")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert answer.json()["next_attempt_at"] is None


def test_a_claimed_one_can_be_cancelled(client_of_alice: APIClient, alice: Project) -> None:
    claimed = NotificationFactory(recipient__project=alice, leased_until=timezone.now(), fence=1)
    assert change(client_of_alice, claimed, "cancelled").status_code == 200
    claimed.refresh_from_db()
    assert claimed.leased_until is None


@pytest.mark.parametrize("status", sorted(set(Status.values) - {"pending", "cancelled"}))
def test_what_has_left_cannot_be_cancelled_and_the_answer_says_what_can(
    client_of_alice: APIClient, alice: Project, status: str
) -> None:
    left = NotificationFactory(recipient__project=alice, **STATES[status])
    document = refused(change(client_of_alice, left, "cancelled"), 409, "status", "not_cancellable")
    assert status in document["detail"]
    assert "only a pending one" in document["detail"]
    left.refresh_from_db()
    assert left.status == status


@pytest.mark.parametrize("status", ["pending", "sending", "sent", "delivered", "unknown"])
def test_reading_sets_a_time_once_and_unreading_clears_it(
    client_of_alice: APIClient, alice: Project, status: str
) -> None:
    message = NotificationFactory(recipient__project=alice, **STATES[status])
    first = change(client_of_alice, message, "read").json()
    again = change(client_of_alice, message, "read").json()
    assert first["read_at"] == again["read_at"] != None  # noqa: E711
    assert first["status"] == status
    assert change(client_of_alice, message, "unread").json()["read_at"] is None
    assert change(client_of_alice, message, "unread").status_code == 200


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
@pytest.mark.parametrize("wanted", ["read", "unread"])
def test_what_reached_nobody_cannot_be_read(
    client_of_alice: APIClient, alice: Project, status: str, wanted: str
) -> None:
    message = NotificationFactory(recipient__project=alice, **STATES[status])
    refused(change(client_of_alice, message, wanted), 409, "status", "not_readable")


@pytest.mark.parametrize("status", ["sent", "READ", "", 1, True, ["read"], {}])
def test_no_other_status_can_be_set(
    client_of_alice: APIClient, alice: Project, status: Any
) -> None:
    message = NotificationFactory(recipient__project=alice)
    refused(change(client_of_alice, message, status), 400, "status", "invalid_choice")


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "status", "required"),
        ({"status": None}, "status", "required"),
        ({"status": "read", "read_at": 1}, "read_at", "unknown_field"),
        ([], "", "not_an_object"),
    ],
)
def test_a_bad_body_is_named(
    client_of_alice: APIClient, alice: Project, body: Any, field: str, code: str
) -> None:
    message = NotificationFactory(recipient__project=alice)
    path = f"/api/v1/notifications/{message.id}/status"
    refused(client_of_alice.patch(path, body, format="json"), 400, field, code)


def test_another_projects_notification_is_not_found_and_not_changed(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = NotificationFactory(recipient__project=stranger)
    refused(change(client_of_alice, theirs, "cancelled"), 404, "", "not_found")
    theirs.refresh_from_db()
    assert theirs.status == "pending"
