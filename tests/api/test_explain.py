"""GET /notifications/{id}/explain: why it is where it is, as the console says it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import changes, pausing
from notifications.api.explanations import HOLDERS, ExplanationOutput
from notifications.models import Batch, Circuit, Flow, Notification
from tests.api.problems import problem_of
from tests.factories import (
    AttemptFactory,
    BatchFactory,
    NotificationFactory,
    SuppressionFactory,
    UserFactory,
    row_of,
)
from users.models import Project

pytestmark = pytest.mark.django_db
URL = "/api/v1/notifications/{}/explain"


@pytest.fixture(autouse=True)
def _a_provider(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"


def explained(client: APIClient, notification: Notification) -> dict[str, Any]:
    response = client.get(URL.format(notification.pk))
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def waiting(project: Project, **values: Any) -> Notification:
    made: Notification = NotificationFactory(
        recipient__project=project, lane="email.normal", **values
    )
    return made


def test_one_that_is_due_is_held_by_nothing(client_of_alice: APIClient, alice: Project) -> None:
    answer = explained(client_of_alice, waiting(alice))
    assert set(answer) == set(ExplanationOutput().fields)
    assert answer["held_by"] is None
    assert answer["explanation"].startswith("Waiting")
    assert not answer["finished"]
    assert answer["next_attempt_at"]


def hold_by_pause(notification: Notification) -> None:
    pausing.pause("email.normal", UserFactory(username="olga"), "wrong texts")


def hold_by_flow(notification: Notification) -> None:
    Flow.objects.filter(pk=notification.flow_id).update(paused=True)


def hold_by_circuit(notification: Notification) -> None:
    until = timezone.now() + timedelta(minutes=5)
    Circuit.objects.create(provider="smtp", open_until=until, opened_at=timezone.now())


def hold_by_schedule(notification: Notification) -> None:
    notification.due_at = timezone.now() + timedelta(hours=1)
    notification.save()


def hold_by_suppression(notification: Notification) -> None:
    SuppressionFactory(project=notification.project, address=notification.address.lower())


def hold_by_rate(notification: Notification) -> None:
    Flow.objects.filter(pk=notification.flow_id).update(rate=5)


def hold_by_expiry(notification: Notification) -> None:
    notification.expires_at = timezone.now() - timedelta(seconds=1)
    notification.save()


def hold_by_worker(notification: Notification) -> None:
    notification.leased_until = timezone.now() + timedelta(minutes=1)
    notification.save()


WAYS = {
    "pause": hold_by_pause,
    "flow": hold_by_flow,
    "circuit": hold_by_circuit,
    "schedule": hold_by_schedule,
    "suppression": hold_by_suppression,
    "rate": hold_by_rate,
    "expiry": hold_by_expiry,
    "worker": hold_by_worker,
}


@pytest.mark.parametrize("holder", WAYS)
def test_what_holds_it_is_named(holder: str, client_of_alice: APIClient, alice: Project) -> None:
    notification = waiting(alice)
    WAYS[holder](notification)
    assert explained(client_of_alice, notification)["held_by"] == holder


def test_a_batch_that_does_not_run_is_named(client_of_alice: APIClient, alice: Project) -> None:
    batch = BatchFactory(project=alice, status=Batch.Status.PAUSED)
    answer = explained(client_of_alice, row_of(batch, 1))
    assert answer["held_by"] == "batch"
    assert batch.name in answer["explanation"]


def test_every_holder_that_is_documented_is_tested() -> None:
    assert {*WAYS, "batch"} == set(HOLDERS)


def test_nobody_of_the_staff_is_named_to_a_caller(
    client_of_alice: APIClient, alice: Project
) -> None:
    notification = waiting(alice)
    hold_by_pause(notification)
    answer = explained(client_of_alice, notification)["explanation"]
    assert "email.normal is paused" in answer
    assert "olga" not in answer
    assert "wrong texts" not in answer


def test_the_console_says_the_same(
    client_of_alice: APIClient, alice: Project, client: Client
) -> None:
    failed = waiting(alice, status="failed", failure_kind="permanent", failure_code="550")
    AttemptFactory(notification=failed, outcome="permanent", code="550", finished_at=timezone.now())
    client.force_login(UserFactory(is_superuser=True))
    page = client.get(f"/admin/notifications/notification/{failed.pk}/change/")
    answer = explained(client_of_alice, failed)
    assert answer["explanation"] in page.content.decode()
    assert answer["finished"]
    assert answer["held_by"] is None


def test_a_resend_names_both(client_of_alice: APIClient, alice: Project) -> None:
    first = waiting(alice, status="failed", failure_kind="permanent")
    second = changes.resend(first).notification
    assert explained(client_of_alice, first)["resent_as"] == str(second.pk)
    assert explained(client_of_alice, second)["resend_of"] == str(first.pk)


def test_a_suppressed_address_is_told(client_of_alice: APIClient, alice: Project) -> None:
    sent = waiting(alice, status="sent", sent_at=timezone.now())
    SuppressionFactory(project=alice, address=sent.address.lower(), reason="complaint")
    assert explained(client_of_alice, sent)["suppressed"] == "complaint"


def test_another_projects_is_not_found(client_of_alice: APIClient, stranger: Project) -> None:
    problem_of(client_of_alice.get(URL.format(waiting(stranger).pk)), 404)


def test_it_costs_a_bounded_number_of_queries(
    client_of_alice: APIClient, alice: Project, django_assert_max_num_queries: Any
) -> None:
    notification = waiting(alice)
    for fence in range(5):
        AttemptFactory(notification=notification, fence=fence)
    client_of_alice.get(URL.format(notification.pk))
    with django_assert_max_num_queries(8):
        explained(client_of_alice, notification)


def test_a_mandatory_category_goes_out_in_spite_of_a_complaint(
    client_of_alice: APIClient, alice: Project
) -> None:
    alice.mandatory_categories = ["receipts"]
    alice.save()
    notification = waiting(alice, category="receipts")
    suppression = SuppressionFactory(
        project=alice, address=notification.address.lower(), reason="complaint"
    )
    assert explained(client_of_alice, notification)["held_by"] is None
    type(suppression).objects.update(reason="hard_bounce")
    assert explained(client_of_alice, notification)["held_by"] == "suppression"
