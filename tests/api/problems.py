"""What the tests say about a refusal: that it is a problem document, and that it left nothing behind."""

from __future__ import annotations

from typing import Any

from notifications.models import IdempotencyKey, Notification
from users.models import Address, Recipient

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "errors"}


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """The problem document that an answer must be, checked in every member."""
    assert response.status_code == status, response.content[:2000]
    assert response["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert set(document) == MEMBERS
    assert document["status"] == status
    assert document["instance"] == response["X-Request-Id"]
    assert all(document[member] for member in ("type", "title", "detail", "code"))
    assert all(set(item) == {"field", "code", "detail"} for item in document["errors"])
    return document


def refused(response: Any, status: int, field: str, code: str) -> dict[str, Any]:
    """The problem document, which names this field and this code; an empty field: none is at fault."""
    document = problem_of(response, status)
    named = {(item["field"], item["code"]) for item in document["errors"]}
    assert (field, code) in (named or {("", document["code"])}), document
    return document


def rows() -> dict[str, int]:
    """What a refused request must not change."""
    models = (Notification, Recipient, Address, IdempotencyKey)
    return {model.__name__: model.objects.count() for model in models}


NOTHING = {"Notification": 0, "Recipient": 0, "Address": 0, "IdempotencyKey": 0}
