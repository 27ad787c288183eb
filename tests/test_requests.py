"""Each request has an id, in and out; the log tells what happened, and never an address or a content."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog
from django.conf import settings
from django.test import Client
from rest_framework.test import APIClient

from notifications import delivery

CANARY = "canary"
#: Everything that a caller says about a person and to that person.
CONTENT: dict[str, Any] = {
    "title": f"{CANARY}-title",
    "message": f"{CANARY}-message\n\nhttps://example.com/{CANARY}",
    "html": f"<p>{CANARY}-html</p>",
    "metadata": {f"{CANARY}-name": f"{CANARY}-value"},
    "reference": f"{CANARY}-reference",
    "category": f"{CANARY}-category",
}
SIMULATED = ["delivered", "bounced", "temporary", "misconfigured", "ambiguous"]


@pytest.fixture(params=["json", "console"])
def log(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """All that is logged, at every level, as production and as development write it."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if request.param == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    formatter = dict(settings.LOGGING["formatters"]["structured"])
    formatter.pop("()")
    formatter["processors"] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        renderer,
    ]
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(**formatter))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield written.getvalue
    root.setLevel(level)
    root.removeHandler(handler)


# --- The request's id -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/nowhere", "/api/v1/notifications", "/health"])
@pytest.mark.django_db
def test_a_request_gets_an_id_and_keeps_the_one_it_brings(client: Client, path: str) -> None:
    UUID(client.get(path)["X-Request-Id"])
    given = client.get(path, HTTP_X_REQUEST_ID="order-7_a.B")
    assert given["X-Request-Id"] == "order-7_a.B"


@pytest.mark.parametrize("given", ["", "a b", "a\nb", "é", "x" * 101, "<script>", "\x00", "a;b"])
@pytest.mark.django_db
def test_an_id_that_could_do_harm_in_a_log_is_replaced(client: Client, given: str) -> None:
    UUID(client.get("/livez", HTTP_X_REQUEST_ID=given)["X-Request-Id"])


@pytest.mark.django_db
def test_the_line_about_a_request_has_its_id_its_route_and_its_outcome(
    client_of_alice: APIClient, log: Callable[[], str]
) -> None:
    client_of_alice.get(f"/users/{CANARY}@example.com", HTTP_X_REQUEST_ID="my-id")
    line = next(line for line in log().splitlines() if "my-id" in line)
    for part in ("GET", "404", "user_id", "notifyproj.request"):
        assert part in line
    assert CANARY not in line


@pytest.mark.django_db
def test_an_id_does_not_stick_to_the_next_request(client: Client, log: Callable[[], str]) -> None:
    client.get("/", HTTP_X_REQUEST_ID="first")
    client.get("/", HTTP_X_REQUEST_ID="second")
    lines = [line for line in log().splitlines() if "notifyproj.request" in line]
    assert ["first" in line for line in lines] == [True, False]


# --- What is never in the log ---------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_notifications_lines_have_its_id_and_neither_address_nor_content(
    client_of_alice: APIClient, log: Callable[[], str]
) -> None:
    ids = []
    for outcome in SIMULATED:
        address = f"{outcome}+{CANARY}@sandbox.test"
        body = CONTENT | {"channel": "email", "recipient": address, "user_id": f"{CANARY}-user"}
        created = client_of_alice.post("/notifications", body, format="json")
        assert created.status_code == 201, created.content
        ids.append(created.json()["id"])
    delivery.drain("sandbox")
    written = log()
    for notification_id in ids:
        assert notification_id in written
    assert CANARY not in written
    assert "sandbox.test" not in written


@pytest.mark.django_db(transaction=True)
def test_reading_changing_and_refusing_says_nothing_of_a_person_either(
    client_of_alice: APIClient, log: Callable[[], str]
) -> None:
    person = {
        "user_id": f"{CANARY}-user",
        "name": f"{CANARY}-name",
        "email": f"{CANARY}@example.com",
        "phone": "+12125550137",
    }
    key = {"HTTP_IDEMPOTENCY_KEY": f"{CANARY}-key"}
    in_app = CONTENT | {"channel": "in_app", "user_id": f"{CANARY}-user", "html": ""}
    client_of_alice.post("/users", person, format="json")
    client_of_alice.post("/users", person, format="json")
    client_of_alice.post("/notifications", in_app, format="json", **key)
    client_of_alice.post("/notifications", in_app | {"title": ""}, format="json", **key)
    client_of_alice.post("/notifications", in_app | {"channel": CANARY}, format="json")
    client_of_alice.post("/notifications", in_app | {CANARY: CANARY}, format="json")
    client_of_alice.generic("POST", "/notifications", f'{{"{CANARY}', "application/json")
    client_of_alice.get(f"/users/{CANARY}-user/notifications?reference={CANARY}")
    client_of_alice.get(f"/{CANARY}")
    client_of_alice.get("/notifications", HTTP_AUTHORIZATION=f"Bearer ntf_live_{CANARY}")
    client_of_alice.patch(f"/users/{CANARY}-user", {"name": CANARY}, format="json")
    client_of_alice.delete(f"/users/{CANARY}-user")
    written = log()
    assert "notifyproj.request" in written
    assert CANARY not in written
    assert "2125550137" not in written


@pytest.mark.django_db(transaction=True)
def test_a_key_is_never_in_the_log(client_of_alice: APIClient, log: Callable[[], str]) -> None:
    client_of_alice.get("/notifications")
    token = client_of_alice._credentials["HTTP_AUTHORIZATION"].split()[1]
    assert token not in log()
    assert token.split("_", 3)[3] not in log()
