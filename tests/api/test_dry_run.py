"""POST /notifications?dry_run=true: the same refusals, the same answer in advance, and nothing stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import pausing
from notifications.api.explanations import RehearsalOutput
from notifications.models import Notification
from tests.api.problems import refused
from tests.factories import AddressFactory, RecipientFactory, SuppressionFactory
from users.models import Project

pytestmark = pytest.mark.django_db
URL = "/api/v1/notifications"
DRY = f"{URL}?dry_run=true"
MAIL = {"channel": "email", "recipient": "ada@example.com", "title": "Hello", "message": "Well?"}


@pytest.fixture
def counts() -> Callable[[], dict[str, int]]:
    """Of the rows of every table of ours."""

    def count() -> dict[str, int]:
        models = [
            model
            for app in ("users", "notifications")
            for model in apps.get_app_config(app).get_models()
        ]
        return {model.__name__: model._default_manager.count() for model in models}

    return count


@pytest.fixture
def client(client_of_alice: APIClient, alice: Project) -> APIClient:
    """Of a project with somebody who has both addresses, somebody who has none, and a suppressed address."""
    both = RecipientFactory(project=alice, user_id="4")
    AddressFactory(recipient=both, channel="email", value="grace@example.com")
    AddressFactory(recipient=both, channel="sms", value="+15005550006")
    RecipientFactory(project=alice, user_id="nowhere")
    SuppressionFactory(project=alice, address="gone@example.com", reason="hard_bounce")
    return client_of_alice


BODIES: dict[str, Any] = {
    "a new address": MAIL,
    "somebody known by id": {"channel": "email", "user_id": 4, "message": "x"},
    "somebody unseen by id and address": MAIL | {"user_id": "new"},
    "an SMS to a known phone": {
        "channel": "sms",
        "recipient": "+1 500 555 0006",
        "message": "x",
    },
    "an SMS to a new phone": {"channel": "sms", "recipient": "+15005550009", "message": "x"},
    "in-app to somebody unseen": {"channel": "in_app", "user_id": "new", "message": "x"},
    "scheduled": MAIL | {"scheduled_for": "2099-01-01T00:00:00Z"},
    "with an end": MAIL | {"expires_at": "2099-01-01T00:00:00Z"},
    "urgent": MAIL | {"priority": "high"},
    # And those that are refused.
    "a suppressed address": MAIL | {"recipient": "gone@example.com"},
    "no message": {"channel": "email", "recipient": "ada@example.com"},
    "no such channel": MAIL | {"channel": "pigeon"},
    "an unknown field": MAIL | {"colour": "red"},
    "an address that is none": MAIL | {"recipient": "ada"},
    "a phone that is none": {"channel": "sms", "recipient": "12", "message": "x"},
    "nobody": {"channel": "email", "message": "x"},
    "an end that is past": MAIL | {"expires_at": "2001-01-01T00:00:00Z"},
    "no object": [],
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("sandbox", [True, False], ids=["sandbox", "vendors"])
def test_it_answers_as_the_call_itself_and_stores_nothing(
    client: APIClient, counts: Any, settings: Any, body: Any, sandbox: bool
) -> None:
    settings.SANDBOX = sandbox
    settings.EMAIL_URL = "" if sandbox else "smtp://127.0.0.1:1"
    before = counts()
    dry = client.post(DRY, body, format="json")
    assert counts() == before
    real = client.post(URL, body, format="json")
    if real.status_code == 201:
        assert dry.status_code == 200
        _is_what_it_said(dry.json(), real.json())
    else:
        assert dry.status_code == real.status_code
        assert dry.json() | {"instance": ""} == real.json() | {"instance": ""}


def _is_what_it_said(said: dict[str, Any], stored: dict[str, Any]) -> None:
    assert set(said) == set(RehearsalOutput().fields)
    assert said["dry_run"] is True
    for name in ("channel", "recipient", "priority", "live"):
        assert said[name] == stored[name], name
    if not said["new_user"]:
        assert said["user_id"] == stored["user_id"]
    for name in ("expires_at", "next_attempt_at"):
        assert (said[name] is None) == (stored[name] is None), name
    if stored["expires_at"]:
        notification = Notification.objects.get(pk=stored["id"])
        assert notification.expires_at is not None
        told = timezone.datetime.fromisoformat(said["expires_at"])
        assert abs(told - notification.expires_at) < timedelta(minutes=1)


def test_it_shows_how_it_would_look(client: APIClient) -> None:
    answer = client.post(DRY, MAIL, format="json").json()
    assert answer["subject"] == "Hello"
    assert answer["text"] == "Well?"
    assert "<p>Well?</p>" in answer["html"]
    assert answer["sms_segments"] is None


def test_it_counts_the_segments_of_an_sms(client: APIClient) -> None:
    body = {"channel": "sms", "recipient": "+15005550006", "message": "x" * 200}
    assert client.post(DRY, body, format="json").json()["sms_segments"] == 2


def test_whether_a_user_would_be_made_is_said(client: APIClient) -> None:
    new = client.post(DRY, MAIL, format="json").json()
    assert (new["new_user"], new["user_id"]) == (True, None)
    known = client.post(DRY, {"channel": "email", "user_id": 4, "message": "x"}, format="json")
    assert (known.json()["new_user"], known.json()["user_id"]) == (False, "4")


def test_what_would_hold_it_is_said(client: APIClient) -> None:
    pausing.pause("sandbox", None, "")
    answer = client.post(DRY, MAIL, format="json").json()
    assert answer["held_by"] == "pause"
    assert answer["explanation"].startswith("Held: sandbox is paused")


@pytest.mark.parametrize("value", ["1", "yes", "", "True", "true&dry_run=false"])
def test_neither_yes_nor_no_is_refused_and_sends_nothing(
    client: APIClient, counts: Any, value: str
) -> None:
    before = counts()
    refused(client.post(f"{URL}?dry_run={value}", MAIL, format="json"), 400, "dry_run", "invalid")
    assert counts() == before


def test_no_means_that_it_is_sent(client: APIClient) -> None:
    assert client.post(f"{URL}?dry_run=false", MAIL, format="json").status_code == 201


def test_the_key_of_a_rehearsal_is_free_for_the_call_itself(client: APIClient) -> None:
    key = {"HTTP_IDEMPOTENCY_KEY": "once"}
    assert client.post(DRY, MAIL | {"message": "other"}, format="json", **key).status_code == 200
    real = client.post(URL, MAIL, format="json", **key)
    assert real.status_code == 201
    assert "Idempotent-Replayed" not in real


def test_many_cannot_be_rehearsed_and_are_not_sent_instead(client: APIClient, counts: Any) -> None:
    before = counts()
    response = client.post(f"{URL}/batch?dry_run=true", {"notifications": [MAIL]}, format="json")
    refused(response, 400, "dry_run", "not_supported")
    assert counts() == before
