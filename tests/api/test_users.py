"""/users: register, read, replace, change and forget a person."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import changes
from notifications.models import IdempotencyKey, Notification
from tests.api.parallel import at_once
from tests.api.problems import problem_of, refused, rows
from tests.factories import AddressFactory, AttemptFactory, NotificationFactory, RecipientFactory
from users.models import Address, Project, Recipient

pytestmark = pytest.mark.django_db

URL = "/api/v1/users"
ANN = {
    "name": "Ann",
    "email": "ann@example.com",
    "phone": "+12125550100",
    "locale": "de-AT",
    "timezone": "Europe/Vienna",
}


def call(client: APIClient, method: str, path: str, body: Any = None, expect: int = 200) -> Any:
    response = getattr(client, method)(path, body, format="json")
    assert response.status_code == expect, response.content
    return response.json() if response.content else None


def register(client: APIClient, expect: int = 201, **body: Any) -> Any:
    return call(client, "post", URL, body, expect)


def notify(client: APIClient, **body: Any) -> Any:
    return call(client, "post", "/notifications", {"message": "Hello"} | body, 201)


@pytest.fixture
def ann(client_of_alice: APIClient) -> dict[str, Any]:
    """As POST /users answered."""
    answer: dict[str, Any] = register(client_of_alice, user_id="ann", **ANN)
    return answer


# --- POST and GET ---------------------------------------------------------------------------------


def test_a_registered_person_can_be_read_again(
    client_of_alice: APIClient, ann: dict[str, Any]
) -> None:
    assert {name: ann[name] for name in ANN} == ANN
    assert ann["user_id"] == "ann"
    assert call(client_of_alice, "get", f"{URL}/ann") == ann


def test_who_comes_without_an_id_gets_one_of_ours(client_of_alice: APIClient) -> None:
    ids = {register(client_of_alice)["user_id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(user_id.startswith("usr_") for user_id in ids)


def test_what_is_not_known_is_empty_or_null(client_of_alice: APIClient) -> None:
    answer = register(client_of_alice, user_id=4)
    assert answer | {"created_at": ""} == {
        "user_id": "4",
        "name": "",
        "email": None,
        "phone": None,
        "locale": "",
        "timezone": "",
        "created_at": "",
    }


@pytest.mark.parametrize(
    ("again", "field"),
    [
        ({"user_id": "ann"}, "user_id"),
        ({"email": "ann@EXAMPLE.com"}, "email"),
        ({"phone": "(212) 555-0100"}, "phone"),
        ({"user_id": "bob", "email": "bob@example.com", "phone": "+12125550100"}, "phone"),
        ({"user_id": "bob", "email": "ann@example.com", "phone": "+12125550199"}, "email"),
    ],
)
def test_what_another_person_has_is_a_conflict_that_names_the_field(
    client_of_alice: APIClient, ann: dict[str, Any], again: dict[str, str], field: str
) -> None:
    before = rows()
    response = client_of_alice.post(URL, again, format="json")
    refused(response, 409, field, "already_exists")
    assert rows() == before
    assert call(client_of_alice, "get", f"{URL}/ann") == ann


def test_another_project_may_have_the_same_person(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = RecipientFactory(project=stranger, user_id="ann")
    AddressFactory(recipient=theirs, channel="email", value="ann@example.com")
    register(client_of_alice, user_id="ann", **ANN)
    assert Recipient.objects.filter(user_id="ann").count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_who_register_one_person_at_once_one_succeeds(
    client_of_alice: APIClient,
) -> None:
    def post(number: int) -> int:
        body = {"user_id": f"user{number}", "email": "ann@example.com"}
        status: int = client_of_alice.post(URL, body, format="json").status_code
        return status

    assert sorted(at_once(20, post)) == [201, *[409] * 19]
    assert (Recipient.objects.count(), Address.objects.count()) == (1, 1)


# --- Adoption of whom only a notification has made ------------------------------------------------


def test_a_new_address_is_adopted_with_its_history_by_who_registers_it(
    client_of_alice: APIClient,
) -> None:
    sent = notify(client_of_alice, channel="email", recipient="ann@example.com")
    adopted = register(client_of_alice, **ANN)
    assert adopted["user_id"] == sent["user_id"]
    assert adopted["name"] == "Ann"
    history = call(client_of_alice, "get", f"{URL}/{adopted['user_id']}/notifications")
    assert [item["id"] for item in history["results"]] == [sent["id"]]


def test_who_adopts_an_address_may_bring_an_id(client_of_alice: APIClient) -> None:
    sent = notify(client_of_alice, channel="sms", recipient="+12125550100")
    register(client_of_alice, user_id="ann", **ANN)
    history = call(client_of_alice, "get", f"{URL}/ann/notifications")
    assert [item["id"] for item in history["results"]] == [sent["id"]]
    assert history["results"][0]["user_id"] == sent["user_id"]  # as it was when it was accepted


def test_what_was_sent_before_the_adoption_is_resent_into_the_same_history(
    client_of_alice: APIClient,
) -> None:
    sent = notify(client_of_alice, channel="sms", recipient="+12125550100")
    register(client_of_alice, user_id="ann", **ANN)
    Notification.objects.update(status="cancelled")
    resent = changes.resend(Notification.objects.get(id=sent["id"])).notification
    history = call(client_of_alice, "get", f"{URL}/ann/notifications")
    assert [item["id"] for item in history["results"]] == [str(resent.id), sent["id"]]


def test_an_id_that_a_notification_has_made_is_adopted(client_of_alice: APIClient) -> None:
    notify(client_of_alice, channel="in_app", user_id="ann")
    assert register(client_of_alice, user_id="ann", **ANN)["user_id"] == "ann"
    assert Recipient.objects.get().name == "Ann"
    register(client_of_alice, expect=409, user_id="ann")


def test_an_address_and_an_id_that_two_notifications_made_become_one_person(
    client_of_alice: APIClient,
) -> None:
    notify(client_of_alice, channel="in_app", user_id="ann")
    notify(client_of_alice, channel="email", recipient="ann@example.com")
    register(client_of_alice, user_id="ann", **ANN)
    assert Address.objects.get(channel="email").recipient.user_id == "ann"


# --- PUT and PATCH --------------------------------------------------------------------------------


def test_put_creates_and_then_replaces(client_of_alice: APIClient) -> None:
    made = call(client_of_alice, "put", f"{URL}/ann", ANN, 201)
    replaced = call(client_of_alice, "put", f"{URL}/ann", {"name": "Anna"})
    assert (made["email"], made["phone"]) == (ANN["email"], ANN["phone"])
    assert replaced == made | {
        "name": "Anna",
        "email": None,
        "phone": None,
        "locale": "",
        "timezone": "",
    }


def test_patch_changes_what_is_given_and_nothing_else(
    client_of_alice: APIClient, ann: dict[str, Any]
) -> None:
    changed = call(client_of_alice, "patch", f"{URL}/ann", {"email": "new@example.com"})
    assert changed == ann | {"email": "new@example.com"}
    assert call(client_of_alice, "patch", f"{URL}/ann", {}) == changed


def test_an_empty_string_removes_and_a_null_does_not(
    client_of_alice: APIClient, ann: dict[str, Any]
) -> None:
    changed = call(client_of_alice, "patch", f"{URL}/ann", {"phone": "", "email": None})
    assert changed == ann | {"phone": None}


@pytest.mark.parametrize("method", ["put", "patch"])
@pytest.mark.parametrize(("field", "value"), [("email", ANN["email"]), ("phone", "2125550100")])
def test_nobody_takes_an_address_that_another_has(
    client_of_alice: APIClient, ann: dict[str, Any], method: str, field: str, value: str
) -> None:
    bob = register(client_of_alice, user_id="bob")
    response = getattr(client_of_alice, method)(f"{URL}/bob", {field: value}, format="json")
    refused(response, 409, field, "already_exists")
    assert call(client_of_alice, "get", f"{URL}/bob") == bob


def test_an_address_that_was_given_up_is_free(
    client_of_alice: APIClient, ann: dict[str, Any]
) -> None:
    call(client_of_alice, "patch", f"{URL}/ann", {"email": ""})
    assert register(client_of_alice, email=ANN["email"])["user_id"] != "ann"


def test_the_id_itself_cannot_be_changed(client_of_alice: APIClient, ann: dict[str, Any]) -> None:
    response = client_of_alice.patch(f"{URL}/ann", {"user_id": "bob"}, format="json")
    refused(response, 400, "user_id", "unknown_field")


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_who_was_never_seen_is_not_found(client_of_alice: APIClient, method: str) -> None:
    problem_of(getattr(client_of_alice, method)(f"{URL}/nobody", format="json"), 404)


@pytest.mark.django_db(transaction=True)
def test_many_puts_of_one_new_person_make_one(client_of_alice: APIClient) -> None:
    def put(number: int) -> int:
        response = client_of_alice.put(f"{URL}/ann", {"name": f"Ann {number}"}, format="json")
        status: int = response.status_code
        return status

    assert sorted(at_once(20, put)) == [*[200] * 19, 201]
    assert Recipient.objects.count() == 1


# --- DELETE ---------------------------------------------------------------------------------------

SECRET = "canary-of-ann"


@pytest.fixture
def past(alice: Project) -> list[Notification]:
    """A waiting, a claimed and a failed notification of Ann, full of what only Ann may know."""
    ann = RecipientFactory(project=alice, user_id="ann", name=SECRET)
    AddressFactory(recipient=ann, value=f"{SECRET}@example.com")
    content = {
        "recipient": ann,
        "address": f"{SECRET}@example.com",
        "title": SECRET,
        "message": SECRET,
        "html": SECRET,
        "metadata": {SECRET: SECRET},
        "reference": "order-1",
    }
    failed = NotificationFactory(
        **content,
        status="failed",
        failure_kind="permanent",
        failure_code="bounced",
        failure_detail=f"550 {SECRET}: no such mailbox",
    )
    AttemptFactory(notification=failed, detail=f"550 {SECRET}: no such mailbox")
    return [
        NotificationFactory(**content),
        NotificationFactory(**content, leased_until=timezone.now(), fence=1),
        NotificationFactory(**content, channel="in_app", url=f"https://{SECRET}.example.com"),
        failed,
    ]


def test_forgetting_erases_addresses_and_content_and_keeps_the_ledgers_ids(
    client_of_alice: APIClient, past: list[Notification], dump: Any
) -> None:
    assert SECRET in dump()
    response = client_of_alice.delete(f"{URL}/ann")
    assert (response.status_code, response.content) == (204, b"")
    assert SECRET not in dump()
    problem_of(client_of_alice.get(f"{URL}/ann"), 404)
    for notification in past:
        kept = call(client_of_alice, "get", f"/notifications/{notification.id}")
        assert (kept["user_id"], kept["reference"]) == ("ann", "order-1")
        assert (kept["recipient"], kept["message"], kept["metadata"]) == (None, "", {})


def test_forgetting_cancels_what_waits_and_leaves_the_rest_as_it_ended(
    client_of_alice: APIClient, past: list[Notification]
) -> None:
    client_of_alice.delete(f"{URL}/ann")
    statuses = [Notification.objects.get(id=item.id).status for item in past]
    assert statuses == ["cancelled", "cancelled", "cancelled", "failed"]


def test_a_later_user_with_the_same_id_starts_with_an_empty_history(
    client_of_alice: APIClient, past: list[Notification]
) -> None:
    client_of_alice.delete(f"{URL}/ann")
    register(client_of_alice, user_id="ann", email=f"{SECRET}@example.com")
    assert call(client_of_alice, "get", f"{URL}/ann/notifications")["results"] == []
    listed = call(client_of_alice, "get", "/api/v1/notifications?user_id=ann")
    assert listed["results"] == []


def test_forgetting_takes_the_answers_that_idempotency_keys_would_replay(
    client_of_alice: APIClient, dump: Any
) -> None:
    body = {"user_id": "ann", "channel": "in_app", "message": SECRET}
    headers = {"HTTP_IDEMPOTENCY_KEY": "k1"}
    client_of_alice.post("/notifications", body, format="json", **headers)
    client_of_alice.delete(f"{URL}/ann")
    replay = client_of_alice.post("/notifications", body, format="json", **headers)
    assert (replay.status_code, replay["Idempotent-Replayed"]) == (201, "true")
    assert SECRET not in replay.content.decode()
    assert (IdempotencyKey.objects.count(), Notification.objects.count()) == (1, 1)
    assert SECRET not in dump()


def test_a_stranger_forgets_nobody_of_alices(client_of_alice: APIClient, stranger: Project) -> None:
    theirs = RecipientFactory(project=stranger, user_id="ann")
    problem_of(client_of_alice.delete(f"{URL}/ann"), 404)
    theirs.refresh_from_db()


@pytest.mark.django_db(transaction=True)
def test_what_is_sent_while_the_person_is_being_forgotten_is_erased_or_comes_after(
    client_of_alice: APIClient,
) -> None:
    def send_or_forget(number: int) -> int:
        if number % 5 == 4:
            client_of_alice.delete(f"{URL}/ann")
            return 201
        body = {"user_id": "ann", "channel": "in_app", "message": SECRET}
        response = client_of_alice.post("/notifications", body, format="json")
        status: int = response.status_code
        return status

    assert set(at_once(100, send_or_forget)) == {201}
    of_nobody = Notification.objects.filter(recipient=None)
    assert of_nobody.count() > 0
    assert not of_nobody.exclude(message="").exists()
    assert not of_nobody.filter(erased_at=None).exists()
