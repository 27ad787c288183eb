"""POST /notifications: what is stored, to whom it goes, and what the answer says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.test import APIClient

from notifications.models import Notification
from tests.api.problems import NOTHING, refused, rows
from tests.factories import AddressFactory, RecipientFactory
from users.models import Address, Project, Recipient

pytestmark = pytest.mark.django_db

URL = "/api/v1/notifications"


def send(client: APIClient, expect: int = 201, **body: Any) -> dict[str, Any]:
    response = client.post(URL, {"message": "Hello"} | body, format="json")
    assert response.status_code == expect, response.content
    document: dict[str, Any] = response.json()
    return document


@pytest.fixture
def _with_vendors(settings: Settings) -> None:
    """Live e-mail and SMS have a vendor, so the sandbox carries neither."""
    settings.EMAIL_URL = "smtp://localhost:2525"
    settings.TWILIO_ACCOUNT_SID = settings.TWILIO_AUTH_TOKEN = "x"
    settings.TWILIO_FROM = "+15005550006"


@pytest.fixture
def ann(alice: Project) -> Recipient:
    """Has an e-mail address and a phone."""
    ann: Recipient = RecipientFactory(project=alice, user_id="ann")
    AddressFactory(recipient=ann, channel="email", value="ann@example.com")
    AddressFactory(recipient=ann, channel="sms", value="+12125550100")
    return ann


# --- The cost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whom",
    [
        {"user_id": "ann"},
        {"recipient": "ann@example.com"},
        {"user_id": "ann", "recipient": "b@c.test"},
    ],
    ids=["by user_id", "by address", "by both"],
)
def test_a_notification_to_somebody_known_is_one_statement(
    client_of_alice: APIClient,
    ann: Recipient,
    whom: dict[str, str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        send(client_of_alice, channel="email", **whom)  # from now on, key and flow are remembered
    with CaptureQueriesContext(connection) as queries:
        send(client_of_alice, channel="email", **whom)
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) == 1
    assert statements[0].lstrip().startswith("INSERT")


# --- The answer -----------------------------------------------------------------------------------


def test_the_answer_is_the_stored_notification_and_says_where_it_is(
    client_of_alice: APIClient,
) -> None:
    body = {
        "user_id": "ann",
        "recipient": "ann@Example.COM",
        "channel": "email",
        "title": "Welcome",
        "message": "Hello\n\nthere",
        "html": "<p>Hello</p>",
        "priority": "low",
        "category": "welcome",
        "reference": "order-1",
        "metadata": {"b": [1, 2.5, None, True, {"ü": "é"}], "a": 1e22},
        "scheduled_for": "2027-01-01T10:00:00+02:00",
        "expires_at": "2027-01-02T00:00:00.5Z",
    }
    created = client_of_alice.post(URL, body, format="json")
    assert created.status_code == 201
    answer = created.json()
    assert {name: answer[name] for name in body} == body | {
        "recipient": "ann@example.com",
        "scheduled_for": "2027-01-01T08:00:00Z",
        "expires_at": "2027-01-02T00:00:00.500000Z",
    }
    assert (answer["status"], answer["next_attempt_at"]) == ("pending", "2027-01-01T08:00:00Z")
    assert (answer["live"], answer["attempt_count"], answer["failure"]) == (True, 0, None)

    read = client_of_alice.get(created["Location"])
    assert read.status_code == 200
    assert read.content.startswith(created.content.rstrip(b"}"))


def test_the_lane_is_woken_once_the_row_is_there(
    client_of_alice: APIClient,
    woken: list[str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        send(client_of_alice, user_id="ann", channel="in_app", priority="high")
        assert woken == []
    assert woken == ["in_app.high"]


def test_a_refused_notification_wakes_nobody(
    client_of_alice: APIClient,
    woken: list[str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        send(client_of_alice, expect=400, user_id="ann", channel="fax")
    assert woken == []


@pytest.mark.parametrize(
    ("channel", "priority", "hours"),
    [
        ("email", "normal", 72),
        ("email", "low", 72),
        ("sms", "normal", 12),
        ("email", "high", 1),
        ("sms", "high", 1),
        ("in_app", "normal", None),
        ("in_app", "high", None),
    ],
)
def test_what_has_no_expiry_gets_one_of_its_channel_and_priority(
    client_of_alice: APIClient, channel: str, priority: str, hours: int | None
) -> None:
    answer = send(client_of_alice, user_id="ann", channel=channel, priority=priority)
    stored = Notification.objects.get(id=answer["id"])
    left = stored.expires_at - stored.due_at if stored.expires_at else None
    assert left == (timedelta(hours=hours) if hours else None)


def test_the_default_expiry_counts_from_the_schedule(client_of_alice: APIClient) -> None:
    when = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    answer = send(client_of_alice, user_id="ann", channel="sms", scheduled_for=when.isoformat())
    assert datetime.fromisoformat(answer["expires_at"]) == when + timedelta(hours=12)


def test_a_schedule_a_little_in_the_past_is_due_now(client_of_alice: APIClient) -> None:
    earlier = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    answer = send(client_of_alice, user_id="ann", channel="in_app", scheduled_for=earlier)
    assert answer["next_attempt_at"] == answer["created_at"]


@pytest.mark.parametrize("metadata", [{"priority": "low", "category": "a"}, {"priority": 1}, {}])
def test_the_field_itself_counts_more_than_metadata(
    client_of_alice: APIClient, metadata: dict[str, Any]
) -> None:
    answer = send(
        client_of_alice,
        user_id="ann",
        channel="in_app",
        priority="high",
        category="b",
        metadata=metadata,
    )
    assert (answer["priority"], answer["category"]) == ("high", "b")
    assert answer["metadata"] == metadata


@pytest.mark.parametrize(
    ("channel", "spelling"), [("in_app", "in-app"), ("in_app", "inapp"), ("email", "email")]
)
@pytest.mark.parametrize("name", ["channel", "type", "notif_type", "notification_type"])
def test_a_channel_has_several_names_and_spellings(
    client_of_alice: APIClient, name: str, channel: str, spelling: str
) -> None:
    assert send(client_of_alice, user_id="ann", **{name: spelling})["channel"] == channel


def test_two_names_for_one_thing_may_agree(client_of_alice: APIClient) -> None:
    body = {"channel": "in_app", "type": "in-app", "content": "Hello"}
    assert send(client_of_alice, user_id="ann", **body)["channel"] == "in_app"


def test_a_null_is_as_good_as_nothing(client_of_alice: APIClient) -> None:
    answer = send(
        client_of_alice,
        user_id="ann",
        recipient=None,
        channel="in_app",
        type=None,
        title=None,
        priority=None,
        metadata=None,
        scheduled_for=None,
    )
    assert (answer["title"], answer["priority"], answer["metadata"]) == ("", "normal", {})


@pytest.mark.parametrize(
    ("field", "size", "channel"),
    [("message", 256 * 1024, "email"), ("message", 1600, "sms"), ("title", 998, "email")],
)
def test_the_longest_that_is_allowed_is_stored(
    client_of_alice: APIClient, field: str, size: int, channel: str
) -> None:
    answer = send(client_of_alice, user_id="ann", channel=channel, **{field: "x" * size})
    assert len(answer[field]) == size


# --- To whom --------------------------------------------------------------------------------------


def test_an_integer_and_its_digits_are_one_user(client_of_alice: APIClient) -> None:
    for spelling in (4, "4", " 4 "):
        assert send(client_of_alice, user_id=spelling, channel="in_app")["user_id"] == "4"
    assert Recipient.objects.count() == 1


def test_a_user_never_seen_is_made_and_stays_provisional(client_of_alice: APIClient) -> None:
    send(client_of_alice, user_id="new", channel="in_app")
    assert Recipient.objects.get().provisional


@pytest.mark.usefixtures("_with_vendors")
def test_a_user_id_is_enough_where_the_address_is_known(
    client_of_alice: APIClient, ann: Recipient
) -> None:
    by_email = send(client_of_alice, user_id="ann", channel="email")
    by_sms = send(client_of_alice, user_id="ann", channel="sms")
    assert (by_email["recipient"], by_sms["recipient"]) == ("ann@example.com", "+12125550100")


@pytest.mark.usefixtures("_with_vendors")
def test_an_address_beside_a_user_id_is_used_and_not_kept(
    client_of_alice: APIClient, ann: Recipient
) -> None:
    answer = send(client_of_alice, user_id="ann", recipient="new@example.com", channel="email")
    assert (answer["user_id"], answer["recipient"]) == ("ann", "new@example.com")
    assert ann.addresses.get(channel="email").value == "ann@example.com"


def test_a_new_address_makes_a_user_with_an_id_of_ours_once(client_of_alice: APIClient) -> None:
    first = send(client_of_alice, recipient="new@example.com", channel="email")
    second = send(client_of_alice, recipient="new@EXAMPLE.com", channel="email")
    assert first["user_id"] == second["user_id"]
    assert first["user_id"].startswith("usr_")


def test_the_local_part_of_an_address_keeps_its_case(client_of_alice: APIClient) -> None:
    answer = send(client_of_alice, recipient="Ann.Lee@Example.com", channel="email")
    assert answer["recipient"] == "Ann.Lee@example.com"


@pytest.mark.parametrize(
    "spelling", ["2125550100", "(212) 555-0100", "+1 212 555 0100", "12125550100", 2125550100]
)
def test_a_phone_is_one_however_it_is_spelled(
    client_of_alice: APIClient, ann: Recipient, spelling: str | int
) -> None:
    answer = send(client_of_alice, recipient=spelling, channel="sms")
    assert (answer["user_id"], answer["recipient"]) == ("ann", "+12125550100")


def test_a_phone_without_a_country_is_read_in_the_default_region(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.DEFAULT_PHONE_REGION = "AT"
    answer = send(client_of_alice, recipient="0664 1234567", channel="sms")
    assert answer["recipient"] == "+436641234567"


def test_an_sms_to_a_known_user_id_goes_to_that_users_phone(
    client_of_alice: APIClient, ann: Recipient
) -> None:
    answer = send(client_of_alice, recipient="ann", channel="sms")
    assert (answer["user_id"], answer["recipient"]) == ("ann", "+12125550100")


def test_a_phone_of_one_person_that_is_the_id_of_another_is_ambiguous(
    client_of_alice: APIClient, alice: Project, ann: Recipient
) -> None:
    RecipientFactory(project=alice, user_id="2125550100")
    body = {"recipient": "2125550100", "channel": "sms", "message": "Hello"}
    before = rows()
    refused(client_of_alice.post(URL, body, format="json"), 400, "recipient", "ambiguous_recipient")
    assert rows() == before


def test_a_phone_that_is_also_the_id_of_the_same_person_is_not_ambiguous(
    client_of_alice: APIClient, alice: Project
) -> None:
    both = RecipientFactory(project=alice, user_id="2125550100")
    AddressFactory(recipient=both, channel="sms", value="+12125550100")
    answer = send(client_of_alice, recipient="2125550100", channel="sms")
    assert (answer["user_id"], answer["recipient"]) == ("2125550100", "+12125550100")


def test_another_projects_user_is_another_user(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = RecipientFactory(project=stranger, user_id="ann")
    AddressFactory(recipient=theirs, channel="email", value="ann@example.com")
    answer = send(client_of_alice, recipient="ann@example.com", channel="email")
    assert answer["user_id"] != "ann"
    assert theirs.notifications.count() == 0


# --- No address, no vendor ------------------------------------------------------------------------


@pytest.mark.usefixtures("_with_vendors")
@pytest.mark.parametrize(("channel", "field"), [("email", "email"), ("sms", "phone")])
def test_a_user_without_an_address_is_refused_and_told_how_to_add_one(
    client_of_alice: APIClient, channel: str, field: str
) -> None:
    body = {"user_id": "ann", "channel": channel, "message": "Hello"}
    document = refused(client_of_alice.post(URL, body, format="json"), 400, "user_id", "no_address")
    assert f'PUT /api/v1/users/ann {{"{field}": "..."}}' in document["detail"]
    assert rows() == NOTHING


@pytest.mark.usefixtures("_with_vendors")
def test_what_the_refusal_says_works(client_of_alice: APIClient) -> None:
    """Also for a user whom only an in-app message has made."""
    body = {"user_id": "bob", "channel": "email", "message": "Hello"}
    client_of_alice.post(URL, body, format="json")
    made = client_of_alice.put("/api/v1/users/bob", {"email": "bob@example.com"}, format="json")
    assert made.status_code == 201
    send(client_of_alice, user_id="ann", channel="in_app")
    answer = client_of_alice.post(URL, body | {"user_id": "ann"}, format="json")
    assert "PATCH /api/v1/users/ann" in answer.json()["detail"]
    patched = client_of_alice.patch(
        "/api/v1/users/ann", {"email": "ann@example.com"}, format="json"
    )
    assert patched.status_code == 200
    assert send(client_of_alice, user_id="ann", channel="email")["recipient"] == "ann@example.com"


def test_the_sandbox_needs_no_address(client_of_alice: APIClient) -> None:
    assert send(client_of_alice, user_id="ann", channel="email")["recipient"] is None


@pytest.mark.usefixtures("_with_vendors")
def test_a_test_key_uses_the_sandbox_although_there_are_vendors(
    alice: Project,
    make_client: Callable[..., APIClient],
    woken: list[str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = send(make_client(alice, kind="test"), user_id="ann", channel="email")
    assert (answer["live"], woken) == (False, ["sandbox"])


@pytest.mark.usefixtures("_with_vendors")
def test_the_fallback_address_takes_what_has_none(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.FALLBACK_EMAIL, settings.FALLBACK_PHONE = "me@example.com", "+12125550199"
    assert send(client_of_alice, user_id="ann", channel="email")["recipient"] == "me@example.com"
    assert send(client_of_alice, user_id="ann", channel="sms")["recipient"] == "+12125550199"
    assert Address.objects.count() == 0


@pytest.mark.usefixtures("_with_vendors")
def test_the_fallback_address_leaves_a_known_one_alone(
    client_of_alice: APIClient, settings: Settings, ann: Recipient
) -> None:
    settings.FALLBACK_EMAIL = "me@example.com"
    assert send(client_of_alice, user_id="ann", channel="email")["recipient"] == "ann@example.com"


@pytest.mark.parametrize("channel", ["email", "sms"])
def test_without_a_vendor_and_without_the_sandbox_a_live_notification_is_refused(
    client_of_alice: APIClient, settings: Settings, channel: str
) -> None:
    settings.SANDBOX = False  # as in production
    body = {"user_id": "ann", "channel": channel, "message": "Hello"}
    response = client_of_alice.post(URL, body, format="json")
    refused(response, 400, "channel", "channel_not_configured")
    assert rows() == NOTHING


def test_without_a_vendor_and_without_the_sandbox_in_app_and_test_keys_go_on(
    client_of_alice: APIClient,
    alice: Project,
    make_client: Callable[..., APIClient],
    settings: Settings,
) -> None:
    settings.SANDBOX = False
    send(client_of_alice, user_id="ann", channel="in_app")
    send(make_client(alice, kind="test"), user_id="ann", channel="email")
