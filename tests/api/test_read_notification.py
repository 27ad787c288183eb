"""GET /notifications/{id}: one notification with its attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from notifications import changes, delivery
from tests.api.problems import refused
from tests.factories import AttemptFactory, NotificationFactory, ReceiptFactory
from users.models import Project

URL = "/api/v1/notifications"


@pytest.mark.django_db
def test_attempts_are_numbered_in_their_order(client_of_alice: APIClient, alice: Project) -> None:
    sent = NotificationFactory(recipient__project=alice)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    AttemptFactory(notification=sent, fence=7, provider="mailgun", started_at=start)
    AttemptFactory(
        notification=sent,
        fence=3,
        started_at=start,
        finished_at=start + timedelta(milliseconds=120),
        outcome="temporary",
        code="421",
        detail="try later",
    )
    answer = client_of_alice.get(f"{URL}/{sent.id}").json()
    assert answer["attempts"] == [
        {
            "number": 1,
            "provider": "smtp",
            "started_at": "2026-01-01T00:00:00Z",
            "duration_ms": 120,
            "outcome": "temporary",
            "code": "421",
            "detail": "try later",
        },
        {
            "number": 2,
            "provider": "mailgun",
            "started_at": "2026-01-01T00:00:00Z",
            "duration_ms": None,
            "outcome": None,
            "code": "",
            "detail": "",
        },
    ]
    assert answer["receipts"] == []


@pytest.mark.django_db
def test_a_failed_one_says_why(client_of_alice: APIClient, alice: Project) -> None:
    failed = NotificationFactory(
        recipient__project=alice,
        status="failed",
        failure_kind="permanent",
        failure_code="bounced",
        failure_detail="550 no such mailbox",
        provider="smtp",
    )
    answer = client_of_alice.get(f"{URL}/{failed.id}").json()
    assert answer["failure"] == {
        "kind": "permanent",
        "code": "bounced",
        "detail": "550 no such mailbox",
    }
    assert (answer["provider"], answer["next_attempt_at"]) == ("smtp", None)


@pytest.mark.django_db
def test_what_an_operator_said_is_not_taken_for_the_providers_word(
    client_of_alice: APIClient, alice: Project
) -> None:
    unknown = NotificationFactory(recipient__project=alice, status="unknown")
    AttemptFactory(notification=unknown)
    assert client_of_alice.get(f"{URL}/{unknown.id}").json()["settled_by_hand"] is False
    changes.settle_as_arrived(unknown.id)
    answer = client_of_alice.get(f"{URL}/{unknown.id}").json()
    assert (answer["status"], answer["settled_by_hand"]) == ("sent", True)
    assert answer["attempts"][0]["outcome"] is None


@pytest.mark.django_db
def test_its_receipts_are_shown_in_the_order_in_which_they_happened(
    client_of_alice: APIClient, alice: Project
) -> None:
    sent = NotificationFactory(recipient__project=alice)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    for minutes, event in ((2, "bounced"), (0, "queued"), (1, "deferred")):
        ReceiptFactory(
            notification=sent,
            event=event,
            occurred_at=noon + timedelta(minutes=minutes),
            received_at=noon + timedelta(hours=1),
            reject_reason="bounced" if event == "bounced" else "",
            detail="550 no such mailbox" if event == "bounced" else "",
        )
    answer = client_of_alice.get(f"{URL}/{sent.id}").json()
    assert [each["event"] for each in answer["receipts"]] == ["queued", "deferred", "bounced"]
    assert answer["receipts"][2] == {
        "provider": "mailgun",
        "event": "bounced",
        "reject_reason": "bounced",
        "code": "",
        "detail": "550 no such mailbox",
        "occurred_at": "2026-01-01T12:02:00Z",
        "received_at": "2026-01-01T13:00:00Z",
    }
    assert answer["receipts"][0]["reject_reason"] is None


@pytest.mark.django_db
@pytest.mark.parametrize("spelling", ["upper", "hex"])
def test_an_id_may_be_spelled_in_another_way(
    client_of_alice: APIClient, alice: Project, spelling: str
) -> None:
    sent = NotificationFactory(recipient__project=alice)
    other = {"upper": str(sent.id).upper(), "hex": sent.id.hex}[spelling]
    assert client_of_alice.get(f"{URL}/{other}").json()["id"] == str(sent.id)


@pytest.mark.django_db
def test_what_does_not_exist_and_what_belongs_to_others_is_the_same(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = NotificationFactory(recipient__project=stranger)
    answers = []
    for unknown in (theirs.id, uuid4()):
        document = refused(client_of_alice.get(f"{URL}/{unknown}"), 404, "", "not_found")
        answers.append(document | {"instance": ""})
    assert answers[0] == answers[1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("address", "status", "outcome"),
    [
        ("delivered@sandbox.test", "sent", "accepted"),
        ("bounced@sandbox.test", "sent", "accepted"),
        ("refused@sandbox.test", "failed", "permanent"),
        ("temporary@sandbox.test", "pending", "temporary"),
        ("ambiguous@sandbox.test", "unknown", "ambiguous"),
    ],
)
def test_a_delivered_one_shows_what_became_of_it(
    client_of_alice: APIClient, address: str, status: str, outcome: str
) -> None:
    body = {"channel": "email", "recipient": address, "message": "Hello"}
    created = client_of_alice.post(URL, body, format="json")
    delivery.drain("sandbox")
    answer = client_of_alice.get(created["Location"]).json()
    assert (answer["status"], answer["provider"], answer["attempt_count"]) == (status, "sandbox", 1)
    assert [attempt["outcome"] for attempt in answer["attempts"]] == [outcome]
    assert (answer["sent_at"] is not None) == (status == "sent")
    assert (answer["failure"] is not None) == (status == "failed")
