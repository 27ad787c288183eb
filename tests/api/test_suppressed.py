"""What a suppressed address stops at intake, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from notifications import changes
from notifications.models import Notification
from tests.api.problems import NOTHING, refused, rows
from tests.factories import (
    AddressFactory,
    NotificationFactory,
    RecipientFactory,
    SuppressionFactory,
)
from users.models import Project
from users.refusals import Conflict

pytestmark = pytest.mark.django_db

EMAIL, PHONE = "ann@example.com", "+15005550099"


def post(client: APIClient, **body: Any) -> Any:
    return client.post(
        "/api/v1/notifications", {"channel": "email", "message": "Hello"} | body, format="json"
    )


@pytest.fixture
def ann(alice: Project) -> Any:
    recipient = RecipientFactory(project=alice, user_id="ann")
    AddressFactory(recipient=recipient, value="Ann@example.com")
    AddressFactory(recipient=recipient, channel="sms", value=PHONE)
    return recipient


@pytest.fixture
def suppressed(alice: Project) -> None:
    SuppressionFactory(project=alice, address=EMAIL, reason="complaint")
    SuppressionFactory(project=alice, channel="sms", address=PHONE, reason="stop")


@pytest.mark.usefixtures("ann", "suppressed")
@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"user_id": "ann"}, "user_id", "complaint"),
        ({"recipient": "Ann@example.com"}, "recipient", "complaint"),
        ({"recipient": "ANN@EXAMPLE.COM"}, "recipient", "complaint"),
        ({"user_id": "bob", "recipient": "ann@example.com"}, "recipient", "complaint"),
        ({"channel": "sms", "recipient": "ann"}, "recipient", "stop"),
        ({"channel": "sms", "recipient": "(500) 555-0099"}, "recipient", "stop"),
        ({"channel": "sms", "user_id": "ann"}, "user_id", "stop"),
    ],
)
def test_a_notification_to_it_is_refused_and_the_reason_named(
    client_of_alice: APIClient, body: dict[str, str], field: str, reason: str
) -> None:
    before = rows()
    document = refused(post(client_of_alice, **body), 409, field, "suppressed")
    assert f"suppressed: {reason}, since" in document["detail"]
    assert rows() == before


@pytest.mark.usefixtures("suppressed")
def test_a_new_person_is_not_made_for_it(client_of_alice: APIClient) -> None:
    refused(post(client_of_alice, recipient=EMAIL), 409, "recipient", "suppressed")
    refused(post(client_of_alice, user_id="new", recipient=EMAIL), 409, "recipient", "suppressed")
    assert rows() == NOTHING


@pytest.mark.usefixtures("ann", "suppressed")
def test_other_ways_to_the_same_person_stay_open(client_of_alice: APIClient) -> None:
    assert post(client_of_alice, channel="in_app", user_id="ann").status_code == 201
    elsewhere = post(client_of_alice, user_id="ann", recipient="ann@elsewhere.example.com")
    assert elsewhere.status_code == 201


def test_another_projects_list_does_not_matter(
    client_of_alice: APIClient, stranger: Project
) -> None:
    SuppressionFactory(project=stranger, address=EMAIL)
    assert post(client_of_alice, recipient=EMAIL).status_code == 201


def test_the_other_channels_list_does_not_matter(
    client_of_alice: APIClient, alice: Project
) -> None:
    SuppressionFactory(project=alice, channel="sms", address=EMAIL)
    assert post(client_of_alice, recipient=EMAIL).status_code == 201


@pytest.mark.usefixtures("suppressed")
def test_a_test_key_is_refused_as_a_live_one_is(
    alice: Project, make_client: Callable[..., APIClient]
) -> None:
    refused(post(make_client(alice, kind="test"), recipient=EMAIL), 409, "recipient", "suppressed")


@pytest.mark.usefixtures("suppressed")
def test_the_idempotency_key_is_not_spent(client_of_alice: APIClient) -> None:
    key = {"HTTP_IDEMPOTENCY_KEY": "order-1"}
    body = {"channel": "email", "message": "Hello", "recipient": EMAIL}
    url = "/api/v1/notifications"
    refused(client_of_alice.post(url, body, format="json", **key), 409, "recipient", "suppressed")
    other = client_of_alice.post(url, body | {"recipient": "b@example.com"}, format="json", **key)
    assert other.status_code == 201


def test_taken_off_the_list_it_is_written_to_again(
    client_of_alice: APIClient, alice: Project
) -> None:
    listed = SuppressionFactory(project=alice, address=EMAIL)
    refused(post(client_of_alice, recipient=EMAIL), 409, "recipient", "suppressed")
    client_of_alice.delete(f"/api/v1/suppressions/{listed.id}")
    assert post(client_of_alice, recipient=EMAIL).status_code == 201


@pytest.mark.parametrize(
    ("reason", "category", "status"),
    [
        ("complaint", "receipts", 201),
        ("unsubscribe", "security", 201),
        ("manual", "receipts", 201),
        ("complaint", "news", 409),
        ("complaint", "Receipts", 409),
        ("complaint", "", 409),
        ("hard_bounce", "receipts", 409),
        ("stop", "security", 409),
    ],
)
def test_mandatory_categories_are_stopped_by_what_would_reach_nobody_alone(
    client_of_alice: APIClient, alice: Project, reason: str, category: str, status: int
) -> None:
    alice.mandatory_categories = ["receipts", "security"]
    alice.save()
    SuppressionFactory(project=alice, address=EMAIL, reason=reason)
    assert post(client_of_alice, recipient=EMAIL, category=category).status_code == status


@pytest.mark.usefixtures("suppressed")
def test_an_operators_resend_to_it_is_refused_too(alice: Project) -> None:
    notification = NotificationFactory(
        recipient__project=alice, address=EMAIL, status="failed", failure_kind="permanent"
    )
    with pytest.raises(Conflict) as conflict:
        changes.resend(notification)
    assert conflict.value.code == "suppressed"
    assert Notification.objects.count() == 1
