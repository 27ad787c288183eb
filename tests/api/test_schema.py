"""The OpenAPI document is valid, and says what the API really does."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml
from django.test import Client
from django.utils import timezone
from drf_spectacular import drainage
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.test import APIClient

from notifications.api.serializers import present_in_detail
from notifications.models import Notification
from tests.api.problems import MEMBERS
from tests.factories import AttemptFactory, NotificationFactory
from users.models import Project

formats = jsonschema.FormatChecker()


@formats.checks("date-time", raises=ValueError)
def _is_a_time_in_utc(text: object) -> bool:
    """jsonschema's own check wants one more package."""
    return not isinstance(text, str) or (text.endswith("Z") and bool(datetime.fromisoformat(text)))


@cache
def schema() -> dict[str, Any]:
    drainage.GENERATOR_STATS.reset()
    generated: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return generated


def operations() -> dict[str, dict[str, Any]]:
    """`{"POST /api/v1/users": operation}`."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in schema()["paths"].items()
        for method, operation in methods.items()
    }


def examples() -> list[Any]:
    return [
        pytest.param(call, example["value"], id=f"{call} {name}")
        for call, operation in operations().items()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for name, example in content.get("examples", {}).items()
    ]


def valid(document: Any, component: str) -> None:
    """As the component of that name says; nothing may be there that it does not name."""
    components = schema()["components"]
    described = components["schemas"][component]
    assert set(document) == set(described["properties"])
    whole = {"$ref": f"#/components/schemas/{component}", "components": components}
    jsonschema.validate(document, whole, format_checker=formats)


def test_it_is_valid_openapi_3_1() -> None:
    validate_schema(schema())
    assert schema()["openapi"].startswith("3.1")


def test_it_is_made_without_a_warning() -> None:
    schema.cache_clear()
    schema()
    assert not drainage.GENERATOR_STATS._warn_cache
    assert not drainage.GENERATOR_STATS._error_cache


@pytest.mark.parametrize("path", ["/api/schema", "/api/schema/"])
def test_it_is_served_without_a_key(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert yaml.safe_load(response.content)["info"]["title"] == "notifyproj"


def test_the_docs_page_needs_no_other_server(client: Client) -> None:
    page = client.get("/docs").content.decode()
    assert "swagger-ui" in page
    for attribute in ("src=", "href="):
        for part in page.split(attribute)[1:]:
            assert part[1:].startswith("/"), part[:80]
    assert "https://" not in page


def test_it_has_every_call_once_under_its_version() -> None:
    assert set(operations()) == {
        "POST /api/v1/notifications",
        "GET /api/v1/notifications",
        "POST /api/v1/notifications/batch",
        "GET /api/v1/notifications/{id}",
        "GET /api/v1/notifications/{id}/explain",
        "PATCH /api/v1/notifications/{id}/status",
        "POST /api/v1/users",
        "GET /api/v1/users/{user_id}",
        "PUT /api/v1/users/{user_id}",
        "PATCH /api/v1/users/{user_id}",
        "DELETE /api/v1/users/{user_id}",
        "GET /api/v1/users/{user_id}/notifications",
        "POST /api/v1/users/{user_id}/inbox-tokens",
        "DELETE /api/v1/users/{user_id}/inbox-tokens",
        "GET /api/v1/inbox",
        "GET /api/v1/inbox/count",
        "PATCH /api/v1/inbox/{id}",
        "POST /api/v1/inbox/read-all",
        "GET /api/v1/inbox/stream",
        "POST /api/v1/batches",
        "GET /api/v1/batches",
        "GET /api/v1/batches/{id}",
        "PATCH /api/v1/batches/{id}/status",
        "GET /api/v1/batches/{id}/results",
        "GET /api/v1/stats",
        "GET /api/v1/suppressions",
        "POST /api/v1/suppressions",
        "GET /api/v1/suppressions/{id}",
        "DELETE /api/v1/suppressions/{id}",
        "GET /api/v1/health",
    }


def test_every_call_but_health_needs_a_key() -> None:
    for call, operation in operations().items():
        if call != "GET /api/v1/health":
            assert operation.get("security"), call


def test_every_call_has_a_summary_and_describes_its_problems() -> None:
    for call, operation in operations().items():
        if call == "GET /api/v1/health":
            continue
        assert operation.get("summary"), call
        responses = operation["responses"]
        assert {"400", "401", "403", "429", "503"} <= set(responses), call
        for status, response in responses.items():
            if int(status) >= 400:
                assert set(response["content"]) == {"application/problem+json"}, (call, status)


def test_a_list_is_a_page() -> None:
    for call in ("GET /api/v1/notifications", "GET /api/v1/users/{user_id}/notifications"):
        content = operations()[call]["responses"]["200"]["content"]["application/json"]["schema"]
        name = content["$ref"].rpartition("/")[2]
        properties = schema()["components"]["schemas"][name]["properties"]
        assert set(properties) == {"next", "previous", "results"}


@pytest.mark.django_db
def test_a_new_notification_is_as_described(client_of_alice: APIClient) -> None:
    body = {"user_id": 4, "channel": "email", "message": "Hello", "metadata": {"a": 1}}
    valid(client_of_alice.post("/notifications", body, format="json").json(), "NotificationOutput")


@pytest.mark.django_db
def test_the_results_of_many_are_as_described(client_of_alice: APIClient) -> None:
    good = {"user_id": 4, "channel": "in_app", "message": "Hello"}
    for _ in range(2):
        answer = client_of_alice.post(
            "/notifications/batch",
            {"notifications": [good, {}]},
            format="json",
            HTTP_IDEMPOTENCY_KEY="k1",
        ).json()
        valid(answer, "NotificationBatchOutput")
    stored, refused = answer["results"]
    assert set(stored) == {"status", "notification", "replayed"}
    assert set(refused) == {"status", "error"}
    valid(stored["notification"], "NotificationOutput")
    valid(refused["error"], "ItemError")


@pytest.mark.django_db
def test_a_notification_with_everything_in_it_is_as_described(
    client_of_alice: APIClient, alice: Project
) -> None:
    now = timezone.now()
    original = NotificationFactory(recipient__project=alice)
    full = NotificationFactory(
        recipient=original.recipient,
        status="failed",
        failure_kind="permanent",
        failure_code="bounced",
        failure_detail="no such mailbox",
        provider="smtp",
        resend_of=original,
        **dict.fromkeys(("scheduled_for", "expires_at", "sent_at", "delivered_at", "read_at"), now),
    )
    AttemptFactory(notification=full, outcome="permanent", finished_at=now)
    AttemptFactory(notification=full, fence=2)
    answer = client_of_alice.get(f"/notifications/{full.id}").json()
    valid(answer, "NotificationDetail")
    for attempt in answer["attempts"]:
        valid(attempt, "AttemptOutput")
    valid(answer["failure"], "FailureOutput")
    assert set(present_in_detail(Notification.objects.get(id=full.id))) == set(answer)


@pytest.mark.django_db
def test_users_problems_and_health_are_as_described(client_of_alice: APIClient) -> None:
    valid(client_of_alice.post("/users", {"name": "Ann"}, format="json").json(), "UserOutput")
    everything = {"email": "ann@example.com", "phone": "+15005550006", "locale": "de"}
    valid(client_of_alice.put("/users/a", everything, format="json").json(), "UserOutput")
    problem = client_of_alice.post("/notifications", {}, format="json").json()
    valid(problem, "Problem")
    assert set(problem) == MEMBERS
    for item in problem["errors"]:
        valid(item, "ProblemItem")
    valid(client_of_alice.get("/health").json(), "HealthOutput")


@pytest.mark.django_db
@pytest.mark.parametrize(("call", "body"), examples())
def test_an_example_is_accepted_as_it_stands(
    client_of_alice: APIClient, call: str, body: dict[str, Any]
) -> None:
    method, path = call.split()
    response = getattr(client_of_alice, method.lower())(path, body, format="json")
    assert response.status_code == (200 if call.endswith("/batch") else 201), response.content
    assert response.json().get("refused", 0) == 0


def test_there_is_an_example_of_each_channel() -> None:
    sent = [
        example.values[1]
        for example in examples()
        if example.values[0] == "POST /api/v1/notifications"
    ]
    assert {body["channel"] for body in sent} == {"email", "sms", "in_app"}
