"""Forgetting a person: out of reach at once, erased in small steps, by whoever is there to go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import changes, forgetting, queue
from notifications.models import Attempt, Notification
from notifications.tasks import go_on_forgetting
from tests.factories import (
    AddressFactory,
    AttemptFactory,
    BatchFactory,
    NotificationFactory,
    RecipientFactory,
    row_of,
)
from users.models import Forgetting, Project, Recipient
from users.refusals import Conflict

pytestmark = pytest.mark.django_db

SENT = {"status": "sent", "sent_at": timezone.now()}


@pytest.fixture
def ann(alice: Project, monkeypatch: pytest.MonkeyPatch) -> Recipient:
    """With eight sent notifications and then two waiting ones; two are erased at a time."""
    monkeypatch.setattr(forgetting, "CHUNK", 2)
    ann = RecipientFactory(project=alice, user_id="ann", name="Ann")
    AddressFactory(recipient=ann, value="ann@example.com")
    for fields in (*[SENT] * 8, *[{}] * 2):
        AttemptFactory(
            notification=NotificationFactory(recipient=ann, fence=1, **fields), detail="to ann"
        )
    return ann


@pytest.fixture
def ends_after(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the request's time be over after so many chunks."""

    def end(chunks: int) -> None:
        moments = iter([0.0] * (chunks + 1) + [99.0] * 100)
        monkeypatch.setattr("notifications.forgetting.monotonic", lambda: next(moments))

    return end


def left() -> int:
    """How many still have their content."""
    return Notification.objects.exclude(message="").count()


def test_all_of_it_goes_in_small_transactions(
    ann: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    erased, sizes = forgetting._erase_rows, []

    def noted(ids: list[Any]) -> None:
        sizes.append(len(ids))
        erased(ids)

    monkeypatch.setattr(forgetting, "_erase_rows", noted)
    assert changes.forget(ann)
    assert (left(), max(sizes)) == (0, 2)
    assert not Attempt.objects.exclude(detail="").exists()
    assert not Recipient.objects.exists()
    assert not Forgetting.objects.exists()


def test_what_waits_is_stopped_first_and_the_rest_is_erased_by_a_worker(
    ann: Recipient, ends_after: Any
) -> None:
    ends_after(2)
    assert changes.forget(ann)
    assert not Notification.objects.filter(status="pending").exists()
    assert left() > 0
    ends_after(99)
    go_on_forgetting()
    assert (left(), Recipient.objects.count(), Forgetting.objects.count()) == (0, 0, 0)


def test_when_not_even_that_is_done_in_time_the_answer_says_so(
    client_of_alice: APIClient, ann: Recipient, ends_after: Any
) -> None:
    ends_after(0)
    assert client_of_alice.delete("/users/ann").status_code == 202
    assert client_of_alice.get("/users/ann").status_code == 404
    assert left() == 10
    ends_after(99)
    assert forgetting.go_on_with_all() == 0
    assert left() == 0
    assert {*Notification.objects.values_list("status", flat=True)} == {"sent", "cancelled"}


def test_whoever_dies_in_the_middle_is_succeeded(
    ann: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "_remove", _die)
        with pytest.raises(ConnectionError):
            changes.forget(ann)
    assert Recipient.objects.exists()
    forgetting.go_on_with_all()
    assert not Recipient.objects.exists()


def _die(recipient_id: int) -> None:
    raise ConnectionError


def test_the_id_and_the_address_are_free_at_once_and_lead_to_somebody_new(
    client_of_alice: APIClient, ann: Recipient
) -> None:
    forgetting.begin(ann.id)
    new = {"user_id": "ann", "email": "ann@example.com"}
    assert client_of_alice.post("/users", new, format="json").status_code == 201
    assert client_of_alice.get("/users/ann/notifications").json()["results"] == []
    assert client_of_alice.get("/notifications?user_id=ann").json()["results"] == []
    body = {"user_id": "ann", "channel": "in_app", "message": "Welcome"}
    assert client_of_alice.post("/notifications", body, format="json").status_code == 201
    forgetting.go_on_with_all()
    assert list(Notification.objects.exclude(message="").values_list("message")) == [("Welcome",)]


@pytest.mark.parametrize("id", ["forgotten\n{}", "forgotten%0A{}", "{}"])
def test_who_is_being_forgotten_is_found_by_nobody(
    client_of_alice: APIClient, admin_client: Any, ann: Recipient, id: str
) -> None:
    forgetting.begin(ann.id)
    id = id.format(ann.id)
    assert client_of_alice.get(f"/users/{id}").status_code == 404
    assert "forgotten" not in admin_client.get("/admin/users/recipient/").content.decode()


def test_an_insert_that_had_found_the_person_just_before_is_stopped_and_erased_too(
    ann: Recipient,
) -> None:
    forgetting.begin(ann.id)
    late = NotificationFactory(recipient=ann)
    forgetting.go_on_with_all()
    late.refresh_from_db()
    assert (late.status, late.message, late.recipient) == ("cancelled", "", None)


def test_an_insert_that_comes_while_the_rest_is_erased_goes_with_the_person(
    ann: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[Notification] = []
    remove = forgetting._remove

    def insert_and_remove(recipient_id: int) -> None:
        late.append(NotificationFactory(recipient=ann))
        remove(recipient_id)

    monkeypatch.setattr(forgetting, "_remove", insert_and_remove)
    assert changes.forget(ann)
    late[0].refresh_from_db()
    assert (late[0].status, late[0].message) == ("cancelled", "")
    assert not Recipient.objects.exists()


def test_what_is_not_erased_yet_is_not_resent_either(ann: Recipient) -> None:
    forgetting.begin(ann.id)
    with pytest.raises(Conflict, match="forgotten"):
        changes.resend(Notification.objects.filter(status="sent")[0])


def test_what_is_in_flight_while_the_person_is_forgotten_is_not_tried_again(
    ann: Recipient, ends_after: Any
) -> None:
    rows = queue.claim("email.normal", "smtp", 2, 60)
    queue.begin(rows, "smtp", 60)
    ends_after(2)
    assert changes.forget(ann)
    Notification.objects.filter(status="sending").update(status="pending", leased_until=None)
    assert queue.claim("email.normal", "smtp", 2, 60) == []


def test_forgetting_twice_is_forgetting_once(ann: Recipient) -> None:
    forgetting.begin(ann.id)
    forgetting.begin(ann.id)
    assert Forgetting.objects.count() == 1
    assert changes.forget(ann)
    assert changes.forget(ann)


@pytest.mark.django_db(transaction=True)
def test_several_who_go_on_at_once_do_not_disturb_each_other(ann: Recipient) -> None:
    forgetting.begin(ann.id)
    troubles: list[Exception] = []

    def go_on() -> None:
        try:
            forgetting.go_on(ann.id, 60)
        except Exception as error:
            troubles.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=go_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert troubles == []
    assert (left(), Recipient.objects.count()) == (0, 0)


def test_a_batchs_examples_do_not_keep_who_is_forgotten(alice):
    recipient = AddressFactory(recipient__project=alice, value="ada@example.com").recipient
    examples = [{"recipient": "ada@example.com", "message": "Hello Ada!"}]
    batch = BatchFactory(project=alice, report={"rows": 1, "examples": examples})
    other = BatchFactory(project=alice, report={"examples": [{"recipient": "x@example.com"}]})
    changes.forget(recipient)
    batch.refresh_from_db()
    other.refresh_from_db()
    assert batch.report == {"rows": 1}
    assert other.report["examples"]


def test_two_forgotten_rows_of_one_batch_do_not_collide(alice):
    batch = BatchFactory(project=alice)
    rows = [row_of(batch, number, address=f"{number}@example.com") for number in (1, 2)]
    for row in rows:
        changes.forget(row.recipient)
    assert set(Notification.objects.values_list("address", "status")) == {("", "cancelled")}
