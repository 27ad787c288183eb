"""The `Idempotency-Key` header: the same request again is answered as the first time, and sends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from rest_framework.test import APIClient

from notifications import delivery, housekeeping
from notifications.models import IdempotencyKey, Notification
from tests.api.parallel import at_once
from tests.api.problems import NOTHING, problem_of, refused, rows
from users.models import Project

URL = "/api/v1/notifications"
BODY = {
    "user_id": "ann",
    "channel": "email",
    "recipient": "delivered@sandbox.test",
    "message": "Hello",
    "metadata": {"zz": 1e22, "a": [1.50, "é"]},
    "scheduled_for": None,
}


def post(client: APIClient, key: str = "k1", path: str = URL, **changes: Any) -> Any:
    return client.post(path, BODY | changes, format="json", HTTP_IDEMPOTENCY_KEY=key)


@pytest.mark.django_db
def test_the_same_again_is_answered_byte_for_byte_as_the_first_time(
    client_of_alice: APIClient, woken: list[str]
) -> None:
    first, again = post(client_of_alice), post(client_of_alice)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert first["Location"] == again["Location"]
    assert again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert Notification.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["delivered", "bounced", "temporary", "ambiguous"])
def test_the_answer_is_the_same_also_after_delivery(
    client_of_alice: APIClient, address: str, woken: list[str]
) -> None:
    recipient = f"{address}@sandbox.test"
    first = post(client_of_alice, recipient=recipient)
    delivery.drain("sandbox")
    assert Notification.objects.get().attempt_count == 1
    assert post(client_of_alice, recipient=recipient).content == first.content
    assert woken.count("sandbox") == 1


@pytest.mark.django_db
def test_the_answer_is_the_same_also_when_it_was_read_or_cancelled(
    client_of_alice: APIClient,
) -> None:
    first = post(client_of_alice, scheduled_for="2027-01-01T00:00:00Z")
    for status in ("read", "cancelled"):
        path = f"{first['Location']}/status"
        assert client_of_alice.patch(path, {"status": status}, format="json").status_code == 200
        again = post(client_of_alice, scheduled_for="2027-01-01T00:00:00Z")
        assert again.content == first.content


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/notifications", "/notifications/", f"{URL}/"])
def test_the_path_may_have_a_prefix_and_a_slash_or_not(
    client_of_alice: APIClient, path: str
) -> None:
    first = post(client_of_alice)
    assert post(client_of_alice, path=path).content == first.content


@pytest.mark.django_db
def test_the_order_of_names_does_not_matter(client_of_alice: APIClient) -> None:
    first = post(client_of_alice)
    turned = dict(reversed(BODY.items()))
    again = client_of_alice.post(URL, turned, format="json", HTTP_IDEMPOTENCY_KEY="k1")
    assert again.content == first.content


@pytest.mark.django_db
def test_the_quotes_of_a_structured_field_are_no_part_of_the_key(
    client_of_alice: APIClient,
) -> None:
    first = post(client_of_alice, key='"k1"')
    assert post(client_of_alice, key="k1").content == first.content


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes",
    [{"message": "Bye"}, {"user_id": "bob"}, {"metadata": {}}, {"title": ""}, {"priority": "high"}],
)
def test_another_body_is_refused(client_of_alice: APIClient, changes: dict[str, Any]) -> None:
    post(client_of_alice)
    before = rows()
    refused(post(client_of_alice, **changes), 422, "Idempotency-Key", "idempotency_key_reused")
    assert rows() == before


@pytest.mark.django_db
def test_a_live_request_is_never_answered_with_what_a_test_key_has_sent(
    alice: Project, make_client: Callable[..., APIClient]
) -> None:
    post(make_client(alice, kind="test"))
    refused(post(make_client(alice)), 422, "Idempotency-Key", "idempotency_key_reused")


@pytest.mark.django_db
def test_two_keys_of_a_project_share_their_idempotency_keys(
    alice: Project, make_client: Callable[..., APIClient]
) -> None:
    first = post(make_client(alice))
    assert post(make_client(alice)).content == first.content


@pytest.mark.django_db
def test_another_projects_key_is_another_key(
    client_of_alice: APIClient, stranger: Project, make_client: Callable[..., APIClient]
) -> None:
    first, other = post(client_of_alice), post(make_client(stranger))
    assert other.status_code == 201
    assert other.json()["id"] != first.json()["id"]


@pytest.mark.django_db
@pytest.mark.parametrize("changes", [{"channel": "fax"}, {"recipient": "nobody"}])
def test_a_refused_request_leaves_the_key_free(
    client_of_alice: APIClient, changes: dict[str, Any]
) -> None:
    problem_of(post(client_of_alice, **changes), 400)
    assert rows() == NOTHING
    assert post(client_of_alice).status_code == 201


@pytest.mark.django_db
def test_a_key_is_remembered_for_seven_days(client_of_alice: APIClient) -> None:
    post(client_of_alice)
    for days, left in ((6.9, 1), (7.1, 0)):
        IdempotencyKey.objects.update(created_at=Now() - timedelta(days=days))
        housekeeping.prune()
        assert IdempotencyKey.objects.count() == left
    assert "Idempotent-Replayed" not in post(client_of_alice)


@pytest.mark.django_db(transaction=True)
def test_fifty_parallel_posts_of_one_key_make_one_row(client_of_alice: APIClient) -> None:
    answers = at_once(50, lambda _: post(client_of_alice), threads=25)

    assert rows() == {"Notification": 1, "Recipient": 1, "Address": 0, "IdempotencyKey": 1}
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}
    stored = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.content for answer in stored}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in stored) == 1
    for answer in answers:
        if answer.status_code == 409:
            refused(answer, 409, "Idempotency-Key", "idempotency_key_in_use")
            assert answer["Retry-After"] == "1"


@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_under_way_is_a_conflict(client_of_alice: APIClient) -> None:
    """Held open by a transaction of another connection, as by a request that has not ended."""
    from threading import Event, Thread

    from django.db import connection, transaction

    from notifications.intake import lock_key

    project_id = Project.objects.get().id
    held, release = Event(), Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                lock_key(project_id, "k1")
                held.set()
                release.wait(10)
        finally:
            connection.close()

    other = Thread(target=hold)
    other.start()
    try:
        assert held.wait(10)
        response = post(client_of_alice)
        refused(response, 409, "Idempotency-Key", "idempotency_key_in_use")
        assert response["Retry-After"] == "1"
        assert rows() == NOTHING
    finally:
        release.set()
        other.join()
    assert post(client_of_alice).status_code == 201
