"""POST /notifications/batch: up to 1,000 in one call, each by itself, all that are accepted at once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from rest_framework.test import APIClient

from notifications import intake_many
from notifications.intake import lock_key
from notifications.models import IdempotencyKey, Notification
from notifyproj.wsgi import application
from tests.api.problems import NOTHING, problem_of, refused, rows
from tests.factories import AddressFactory, RecipientFactory, SuppressionFactory
from users import throttling
from users.models import Project
from users.throttling import RateLimiter

pytestmark = pytest.mark.django_db

URL = "/api/v1/notifications/batch"
GOOD: dict[str, Any] = {"user_id": "ann", "channel": "in_app", "message": "Hello"}
BAD: dict[str, Any] = {"channel": "fax", "message": "Hello"}


def post(client: APIClient, *items: Any, key: str = "", path: str = URL) -> Any:
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key else {}
    return client.post(path, {"notifications": items}, format="json", **headers)


def results(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.content[:2000]
    document = response.json()
    found: list[dict[str, Any]] = document["results"]
    assert document["accepted"] == sum("notification" in result for result in found)
    assert document["refused"] == sum("error" in result for result in found)
    assert document["accepted"] + document["refused"] == len(found)
    return found


@pytest.fixture
def _with_vendors(settings: Settings) -> None:
    """Live e-mail and SMS have a vendor, so the sandbox carries neither."""
    settings.EMAIL_URL = "smtp://localhost:2525"
    settings.TWILIO_ACCOUNT_SID = settings.TWILIO_AUTH_TOKEN = "x"
    settings.TWILIO_FROM = "+15005550006"


# --- The answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [URL, f"{URL}/", "/notifications/batch", "/notifications/batch/"])
def test_each_is_answered_in_order_as_the_single_call_answers_it(
    client_of_alice: APIClient, path: str
) -> None:
    items = [
        GOOD
        | {"metadata": {"zz": 1e22, "a": [1.50, "é"]}, "scheduled_for": "2027-01-01T00:00:00Z"},
        BAD,
        {"channel": "email", "recipient": "ada@example.com", "title": "T", "message": "M"},
        {"channel": "sms", "user_id": "bob", "message": "M", "priority": "high", "category": "c"},
    ]
    answers = results(post(client_of_alice, *items, path=path))
    assert [answer["status"] for answer in answers] == [201, 400, 201, 201]
    for item, answer in zip(items, answers, strict=True):
        alone = client_of_alice.post("/api/v1/notifications", item, format="json")
        assert alone.status_code == answer["status"]
        if alone.status_code == 201:
            assert set(answer) == {"status", "notification"}
            assert _lasting(answer["notification"]) == _lasting(alone.json())
            stored = client_of_alice.get(f"/api/v1/notifications/{answer['notification']['id']}")
            assert answer["notification"].items() <= stored.json().items()
        else:
            assert answer["error"] == {
                name: alone.json()[name] for name in ("code", "detail", "errors")
            }


def _lasting(notification: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on when it was sent."""
    changing = {"id", "created_at", "next_attempt_at", "expires_at"}
    return {name: value for name, value in notification.items() if name not in changing}


@pytest.mark.parametrize(
    "item",
    [
        None,
        1,
        "text",
        [],
        [GOOD],
        {},
        BAD,
        GOOD | {"unknown": 1},
        GOOD | {"type": "sms"},
        GOOD | {"message": " "},
        GOOD | {"message": "\x00"},
        GOOD | {"metadata": {"a\x00": 1}},
        GOOD | {"metadata": {"a": "\ud800"}},
        GOOD | {"metadata": {"a": {}}, "title": "a\nb", "url": "ftp://x", "html": "x"},
        GOOD | {"user_id": None},
        GOOD | {"user_id": "a/b"},
        GOOD | {"user_id": True},
        GOOD | {"recipient": "bob"},
        GOOD | {"scheduled_for": "2027-01-01T00:00:00"},
        GOOD | {"expires_at": "2020-01-01T00:00:00Z"},
        GOOD | {"title": "x" * 999},
        GOOD | {"url": "https://example.com", "channel": "email"},
        GOOD | {"category": "x" * 101},
        {"channel": "email", "recipient": "nobody", "message": "Hello"},
        {"channel": "sms", "recipient": "12", "message": "Hello"},
        {"channel": "sms", "recipient": "+15005550006", "message": "x" * 1601},
    ],
)
def test_a_bad_one_has_the_single_calls_error_and_does_not_touch_the_others(
    client_of_alice: APIClient, item: Any
) -> None:
    body = json.dumps({"notifications": [GOOD, item, GOOD]})
    response = client_of_alice.post(URL, body, content_type="application/json")
    first, error, last = results(response)
    assert (first["status"], last["status"]) == (201, 201)
    alone = client_of_alice.post(
        "/api/v1/notifications", json.dumps(item), content_type="application/json"
    )
    document = problem_of(alone, error["status"])
    if item is not None:
        assert error["error"] == {name: document[name] for name in ("code", "detail", "errors")}
    assert Notification.objects.count() == 2


@pytest.mark.parametrize("levels", [17, 18, 5000])
def test_each_may_be_nested_as_deep_as_alone(client_of_alice: APIClient, levels: int) -> None:
    nested = '{"a":' * levels + "1" + "}" * levels
    item = f'{{"user_id":"ann","channel":"in_app","message":"x","metadata":{nested}}}'
    alone = client_of_alice.post("/api/v1/notifications", item, content_type="application/json")
    body = f'{{"notifications":[{item}]}}'
    response = client_of_alice.post(URL, body, content_type="application/json")
    if response.status_code == 400:
        assert response.json()["code"] == alone.json()["code"] == "too_deep"
    else:
        assert results(response)[0]["status"] == alone.status_code


@pytest.mark.usefixtures("_with_vendors")
def test_what_intake_refuses_is_refused_alone_and_leaves_nobody_behind(
    client_of_alice: APIClient, alice: Project
) -> None:
    SuppressionFactory(project=alice, address="gone@example.com", reason="complaint")
    answers = results(
        post(
            client_of_alice,
            {"channel": "email", "user_id": "new", "message": "M"},
            {"channel": "email", "recipient": "Gone@Example.com", "message": "M"},
            {"channel": "email", "recipient": "ok@example.com", "message": "M"},
        )
    )
    assert [answer["status"] for answer in answers] == [400, 409, 201]
    assert answers[0]["error"]["code"] == "no_address"
    assert answers[1]["error"]["code"] == "suppressed"
    assert answers[1]["error"]["errors"][0]["field"] == "recipient"
    assert "complaint" in answers[1]["error"]["detail"]
    assert rows() == {"Notification": 1, "Recipient": 1, "Address": 1, "IdempotencyKey": 0}


@pytest.mark.usefixtures("_with_vendors")
def test_a_channel_without_a_vendor_is_refused_by_item(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.SANDBOX, settings.TWILIO_ACCOUNT_SID = False, ""
    sms = {"channel": "sms", "recipient": "+15005550006", "message": "M"}
    answers = results(post(client_of_alice, sms, GOOD))
    assert [answer["status"] for answer in answers] == [400, 201]
    assert answers[0]["error"]["code"] == "channel_not_configured"


def test_a_test_key_sends_to_the_sandbox(
    alice: Project,
    make_client: Callable[..., APIClient],
    woken: list[str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answers = results(post(make_client(alice, kind="test"), GOOD))
    assert answers[0]["notification"]["live"] is False
    assert Notification.objects.get().flow.lane == "sandbox"
    assert woken == ["sandbox"]


def test_each_lane_is_woken_once(
    client_of_alice: APIClient,
    woken: list[str],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        post(client_of_alice, GOOD, GOOD, GOOD | {"priority": "high"}, BAD)
    assert sorted(woken) == ["in_app.high", "in_app.normal"]


def test_nobody_is_woken_for_what_is_refused(client_of_alice: APIClient, woken: list[str]) -> None:
    assert results(post(client_of_alice, BAD))[0]["status"] == 400
    assert woken == []
    assert rows() == NOTHING


def test_another_projects_people_are_strangers(
    client_of_alice: APIClient, stranger: Project
) -> None:
    theirs = RecipientFactory(project=stranger, user_id="ann")
    AddressFactory(recipient=theirs, value="ann@example.com")
    email = {"channel": "email", "recipient": "ann@example.com", "message": "M"}
    results(post(client_of_alice, GOOD, email))
    assert not theirs.notifications.exists()


def test_a_thousand_cost_few_statements(client_of_alice: APIClient) -> None:
    items = [GOOD | {"user_id": f"user{number}"} for number in range(1000)]
    results(post(client_of_alice, GOOD))
    with CaptureQueriesContext(connection) as queries:
        assert results(post(client_of_alice, *items))[999]["notification"]["user_id"] == "user999"
    assert len(queries) <= 8
    assert Notification.objects.count() == 1001


# --- The call as a whole ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"notifications": []}, "notifications", "empty"),
        ({"notifications": [GOOD] * 1001}, "notifications", "max_length"),
        ({"notifications": GOOD}, "notifications", "not_a_list"),
        ({"notifications": "x"}, "notifications", "not_a_list"),
        ({"notifications": None}, "notifications", "required"),
        ({}, "notifications", "required"),
        ({"notifications": [GOOD], "rate": 5}, "rate", "unknown_field"),
        ({"notifications": [GOOD], "\x00": 5}, "?", "invalid_characters"),
        ({"notifications": [GOOD], "\ud800": 5}, "?", "invalid_characters"),
        ([GOOD], "", "not_an_object"),
        ("x", "", "not_an_object"),
    ],
)
def test_a_body_of_another_shape_is_refused_as_a_whole(
    client_of_alice: APIClient, body: Any, field: str, code: str
) -> None:
    response = client_of_alice.post(URL, json.dumps(body), content_type="application/json")
    refused(response, 400, field, code)
    assert rows() == NOTHING


@pytest.mark.parametrize("body", [b"{", b'{"notifications":[{"a":1,"a":2}]}', b"\xff", b"NaN"])
def test_what_is_no_json_is_refused_as_a_whole(client_of_alice: APIClient, body: bytes) -> None:
    response = client_of_alice.post(URL, body, content_type="application/json")
    assert problem_of(response, 400)["code"] == "invalid_json"


def test_the_body_may_be_larger_than_a_single_calls(client_of_alice: APIClient) -> None:
    large = GOOD | {"message": "x" * 200_000}
    assert len(results(post(client_of_alice, *[large] * 10))) == 10


def call_wsgi(client: APIClient, body: io.BytesIO, **headers: Any) -> tuple[int, dict[str, Any]]:
    """As a server calls the application: with what the network brought."""
    environ = RequestFactory().generic("POST", URL).environ
    environ |= client._credentials | {"CONTENT_TYPE": "application/json", "wsgi.input": body}
    environ.pop("CONTENT_LENGTH", None)
    started: list[str] = []
    chunks = application(environ | headers, lambda status, headers: started.append(status))
    return int(started[0].split()[0]), json.loads(b"".join(chunks))


@pytest.mark.django_db(transaction=True)
def test_a_body_of_more_than_sixteen_megabytes_is_refused(client_of_alice: APIClient) -> None:
    limit = django_settings.MAX_BATCH_REQUEST_BYTES
    body = io.BytesIO(b" " * (limit + 2_000_000))
    status, document = call_wsgi(client_of_alice, body, CONTENT_LENGTH=str(limit + 2_000_000))
    assert (status, document["code"]) == (413, "body_too_large")
    assert "16,000,000" in document["detail"]
    assert body.tell() < limit + 100_000


@pytest.mark.django_db(transaction=True)
def test_a_body_in_chunks_is_refused(client_of_alice: APIClient) -> None:
    body = io.BytesIO(json.dumps({"notifications": [GOOD]}).encode())
    status, document = call_wsgi(client_of_alice, body, HTTP_TRANSFER_ENCODING="chunked")
    assert (status, document["code"]) == (411, "length_required")
    assert rows() == NOTHING


@pytest.mark.django_db(transaction=True)
def test_after_a_503_nothing_is_stored(
    client_of_alice: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(intake_many._Intake, "_remember_keys", away)
    response = post(client_of_alice, GOOD, key="k1")
    assert problem_of(response, 503)["code"] == "unavailable"
    assert response["Retry-After"] == "2"
    assert rows() == NOTHING


# --- Idempotency-Key --------------------------------------------------------------------------------


def test_the_same_call_again_replays_each(client_of_alice: APIClient) -> None:
    items = [GOOD, GOOD | {"user_id": "bob"}]
    first, again = (post(client_of_alice, *items, key="k1") for _ in range(2))
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert results(again) == [result | {"replayed": True} for result in results(first)]
    assert Notification.objects.count() == 2
    keys = IdempotencyKey.objects.order_by("key").values_list("key", flat=True)
    assert list(keys) == ["k1#0", "k1#1"]


@pytest.mark.usefixtures("_with_vendors")
def test_what_was_refused_is_tried_again(client_of_alice: APIClient, alice: Project) -> None:
    items = [BAD, {"channel": "email", "user_id": "ann", "message": "M"}, GOOD]
    first = results(post(client_of_alice, *items, key="k1"))
    assert [result["status"] for result in first] == [400, 400, 201]
    client_of_alice.put("/api/v1/users/ann", {"email": "ann@example.com"}, format="json")
    response = post(client_of_alice, *items, key="k1")
    again = results(response)
    assert [result["status"] for result in again] == [400, 201, 201]
    assert [result.get("replayed", False) for result in again] == [False, False, True]
    assert "Idempotent-Replayed" not in response
    assert Notification.objects.count() == 2


@pytest.mark.parametrize(
    "items",
    [
        [BAD, GOOD | {"message": "Bye"}],
        [BAD, GOOD, GOOD],
        [GOOD],
        [BAD | {"message": "Bye"}, GOOD],
    ],
    ids=["another message", "one more", "one less", "the refused one mended"],
)
def test_another_body_is_refused_as_a_whole(client_of_alice: APIClient, items: list[Any]) -> None:
    post(client_of_alice, BAD, GOOD, key="k1")
    before = rows()
    response = post(client_of_alice, *items, key="k1")
    refused(response, 422, "Idempotency-Key", "idempotency_key_reused")
    assert rows() == before


def test_a_call_of_which_nothing_was_stored_leaves_the_key_free(client_of_alice: APIClient) -> None:
    post(client_of_alice, BAD, key="k1")
    assert results(post(client_of_alice, GOOD, key="k1"))[0]["status"] == 201


def test_a_live_call_is_never_answered_with_a_test_keys(
    alice: Project, make_client: Callable[..., APIClient]
) -> None:
    post(make_client(alice, kind="test"), GOOD, key="k1")
    response = post(make_client(alice), GOOD, key="k1")
    refused(response, 422, "Idempotency-Key", "idempotency_key_reused")


def test_a_key_has_at_most_245_characters(client_of_alice: APIClient) -> None:
    refused(post(client_of_alice, GOOD, key="k" * 246), 400, "Idempotency-Key", "invalid")
    items = [GOOD] * 1000
    assert len(results(post(client_of_alice, *items, key="k" * 245))) == 1000


@pytest.mark.django_db(transaction=True)
def test_a_call_that_is_under_way_is_a_conflict(client_of_alice: APIClient, alice: Project) -> None:
    held, release = Event(), Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                lock_key(alice.pk, "k1")
                held.set()
                release.wait(10)
        finally:
            connection.close()

    other = Thread(target=hold)
    other.start()
    try:
        assert held.wait(10)
        response = post(client_of_alice, BAD, GOOD, key="k1")
        refused(response, 409, "Idempotency-Key", "idempotency_key_in_use")
        assert response["Retry-After"] == "1"
        assert rows() == NOTHING
    finally:
        release.set()
        other.join()
    assert results(post(client_of_alice, BAD, GOOD, key="k1"))[1]["status"] == 201


# --- The rate limit ---------------------------------------------------------------------------------


@pytest.fixture
def _full_buckets(monkeypatch: pytest.MonkeyPatch, redis_client: Any) -> None:
    monkeypatch.setattr(throttling, "limiter", RateLimiter())
    for key in redis_client.scan_iter("test:*:rate:*"):
        redis_client.delete(key)


@pytest.mark.usefixtures("_full_buckets")
@pytest.mark.parametrize(("items", "left"), [(1, 99), (10, 99), (11, 98), (100, 90), (995, 0)])
def test_each_started_ten_cost_one_request(
    client_of_alice: APIClient, settings: Settings, items: int, left: int
) -> None:
    settings.RATE_LIMIT = "100/100000"
    response = post(client_of_alice, *[GOOD] * items)
    assert len(results(response)) == items
    assert response["RateLimit"].startswith(f'"default";r={left};t=')


@pytest.mark.usefixtures("_full_buckets")
def test_a_call_that_costs_more_than_is_left_stores_nothing(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.RATE_LIMIT = "10/1000"
    assert post(client_of_alice, *[GOOD] * 70).status_code == 200
    before = rows()
    response = post(client_of_alice, *[GOOD] * 40)
    assert problem_of(response, 429)["code"] == "throttled"
    # One for the call, so two are left of the three that are needed.
    assert 98 <= int(response["Retry-After"]) <= 102
    assert rows() == before
    assert post(client_of_alice, *[GOOD] * 20).status_code == 200


@pytest.mark.usefixtures("_full_buckets")
@pytest.mark.parametrize("limit", ["1/1000", "5/1000"])
def test_a_call_never_costs_more_than_the_whole_limit(
    client_of_alice: APIClient, settings: Settings, limit: str
) -> None:
    settings.RATE_LIMIT = limit
    assert post(client_of_alice, *[GOOD] * 100).status_code == 200
    assert post(client_of_alice, GOOD).status_code == 429
