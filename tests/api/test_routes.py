"""Every route of the URLconf: who may call it, with which method, and what it never shows to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from notifications.inbox.entry import entry_for
from tests.api.problems import problem_of
from tests.factories import (
    AddressFactory,
    BatchFactory,
    NotificationFactory,
    RecipientFactory,
    SuppressionFactory,
)
from users.models import Project, Scope

pytestmark = pytest.mark.django_db

#: What everybody may call, and how. The admin asks for a password; its own tests show that it does.
PUBLIC = {
    "": {"GET"},
    "livez": {"GET"},
    "readyz": {"GET"},
    "docs": {"GET"},
    "api/schema": {"GET"},
    "api/v1/health": {"GET"},
    "health": {"GET"},
    # A vendor proves who it is in a way of its own: tests/test_hooks.py.
    "hooks/{provider}": {"POST"},
    "hooks/{provider}/{link}": {"POST"},
}

#: Each call of the API and the scope it needs. Each stands also without `api/v1/`.
CALLS = {
    ("GET", "notifications"): "read",
    ("POST", "notifications"): "send",
    ("POST", "notifications/batch"): "send",
    ("GET", "notifications/{pk}"): "read",
    ("GET", "notifications/{pk}/explain"): "read",
    ("PATCH", "notifications/{pk}/status"): "send",
    ("POST", "users"): "manage",
    ("GET", "users/{user_id}"): "read",
    ("PUT", "users/{user_id}"): "manage",
    ("PATCH", "users/{user_id}"): "manage",
    ("DELETE", "users/{user_id}"): "manage",
    ("GET", "users/{user_id}/notifications"): "read",
    ("GET", "batches"): "read",
    ("POST", "batches"): "send",
    ("GET", "batches/{pk}"): "read",
    ("PATCH", "batches/{pk}/status"): "send",
    ("GET", "batches/{pk}/results"): "read",
    ("GET", "stats"): "read",
    ("GET", "suppressions"): "read",
    ("POST", "suppressions"): "manage",
    ("GET", "suppressions/{pk}"): "read",
    ("DELETE", "suppressions/{pk}"): "manage",
    ("POST", "users/{user_id}/inbox-tokens"): "inbox",
    ("DELETE", "users/{user_id}/inbox-tokens"): "inbox",
}
#: Of people's browsers, with an inbox token; below `api/v1/` alone. tests/api/test_inbox_isolation.py tries them.
INBOX = {
    "api/v1/inbox": {"GET"},
    "api/v1/inbox/count": {"GET"},
    "api/v1/inbox/read-all": {"POST"},
    "api/v1/inbox/{pk}": {"PATCH"},
}
#: Leads to the stream, which looks at the token itself.
STREAM = "api/v1/inbox/stream"
#: The page to try it: for everybody in development, else for staff. tests/test_playground.py tries it.
TRY = {
    "try/": {"GET", "POST"},
    "try/sent": {"GET"},
    "try/token": {"POST"},
    "try/messages/{pk}": {"GET"},
}
#: What is not JSON: the query, the body and its type.
FILES = {("POST", "batches"): ("?name=x&channel=in_app&message=Hi", b"user_id\n7\n", "text/csv")}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "batches/{pk}/status"): {"status": "paused"},
    ("POST", "notifications"): {"user_id": "new", "channel": "in_app", "message": "Hello"},
    ("POST", "notifications/batch"): {
        "notifications": [{"user_id": "new", "channel": "in_app", "message": "Hello"}]
    },
    ("PATCH", "notifications/{pk}/status"): {"status": "read"},
    ("POST", "suppressions"): {"channel": "email", "address": "new@example.com"},
}
HOOK = {"provider": "mailgun", "link": "none"}
PREFIXES = ("", "api/v1/")
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
SECRET = "canary-of-a-stranger"


class Route(NamedTuple):
    path: str
    methods: set[str]


def routes() -> Iterator[Route]:
    """Every route but the admin's, with the methods of its view."""
    for path, pattern in _patterns(get_resolver().url_patterns):
        actions = getattr(pattern.callback, "actions", None)
        of_view = {method.upper() for method in actions or {"get": ""}} & METHODS
        yield Route(path, (PUBLIC | TRY).get(path, of_view))


def _patterns(patterns: list[Any], before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        path = before + _readable(str(pattern.pattern))
        if isinstance(pattern, URLResolver):
            if path != "admin/":
                yield from _patterns(pattern.url_patterns, path)
        else:
            yield path, pattern


def _readable(pattern: str) -> str:
    """`^users/(?P<user_id>[^/]+)/?$` -> `users/{user_id}`."""
    for name in ("pk", "user_id", "link"):
        pattern = pattern.replace(f"(?P<{name}>[^/]+)", f"{{{name}}}")
    pattern = pattern.replace("(?P<provider>[a-z0-9_]+)", "{provider}")
    return pattern.removeprefix("^").removesuffix("$").removesuffix("/?")


def guarded() -> list[Route]:
    """By an API key, or by an inbox token."""
    open_to_all = {*PUBLIC, *TRY, STREAM}
    return [route for route in routes() if route.path not in open_to_all]


def realm_of(path: str) -> str:
    return "notifyproj inbox" if path in INBOX else "notifyproj"


def call(client: Client, method: str, path: str, body: Any = None) -> Any:
    return client.generic(
        method, f"/{path}", b"" if body is None else _json(body), "application/json"
    )


def _json(body: Any) -> bytes:
    import json

    return json.dumps(body).encode()


def _called(client: Client, method: str, path: str, url: str, body: Any) -> Any:
    if (method, path) not in FILES:
        return call(client, method, url, body)
    query, content, content_type = FILES[method, path]
    return client.generic(method, f"/{url}{query}", content, content_type)


def _content(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


@pytest.fixture
def theirs(stranger: Project) -> dict[str, str]:
    """A notification, a suppression and a batch of the same id and a user of another project, by the names that paths have for them."""
    recipient = RecipientFactory(project=stranger, user_id="their-user", name=SECRET)
    AddressFactory(recipient=recipient, value=f"{SECRET}@example.com")
    notification = NotificationFactory(recipient=recipient, message=SECRET, title=SECRET)
    SuppressionFactory(id=notification.id, project=stranger, detail=SECRET)
    BatchFactory(id=notification.id, project=stranger, name=SECRET)
    return {"pk": str(notification.id), "user_id": "their-user"} | HOOK


@pytest.fixture
def client_of_ann(alice: Project) -> APIClient:
    """A person's browser, with an inbox token."""
    client = APIClient()
    token = entry_for(alice.pk, "ann", live=True).token
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def _client_for(route: Route, of_backend: Client, of_person: Client, of_nobody: Client) -> Client:
    if route.path in INBOX:
        return of_person
    return of_nobody if route.path in {*PUBLIC, *TRY, STREAM} else of_backend


@pytest.fixture
def strict_client() -> Client:
    """As a browser of the outside world: nobody has switched Django's own checks off."""
    return Client(enforce_csrf_checks=True)


def test_the_tables_above_hold_every_route() -> None:
    expected: dict[str, set[str]] = {path: set(methods) for path, methods in PUBLIC.items()}
    expected |= INBOX | TRY | {STREAM: {"GET"}}
    for method, path in CALLS:
        for prefix in PREFIXES:
            expected.setdefault(prefix + path, set()).add(method)
    assert {route.path: route.methods for route in routes()} == expected


def test_every_route_but_the_public_ones_asks_for_a_key(strict_client: Client) -> None:
    for route in guarded():
        path = route.path.format(pk="0" * 32, user_id="ann", **HOOK)
        for method in METHODS | {"HEAD", "OPTIONS", "TRACE", "BREW"}:
            response = call(strict_client, method, path, {})
            assert response.status_code == 401, (method, path)
            assert response["WWW-Authenticate"] == f'Bearer realm="{realm_of(route.path)}"'
            if method != "HEAD":
                problem_of(response, 401)


@pytest.mark.parametrize("path", [path for path, methods in PUBLIC.items() if "GET" in methods])
def test_a_public_route_needs_no_key(strict_client: Client, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert call(strict_client, method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_a_key_without_the_scope_is_refused_and_one_with_it_is_not(
    alice: Project,
    make_client: Callable[..., APIClient],
    method: str,
    path: str,
) -> None:
    needed = CALLS[method, path]
    recipient = RecipientFactory(project=alice, user_id="ann")
    notification = NotificationFactory(recipient=recipient)
    SuppressionFactory(id=notification.id, project=alice)
    BatchFactory(id=notification.id, project=alice)
    names = {"pk": notification.id, "user_id": "ann"}
    body = BODIES.get((method, path), {})
    others = [scope for scope in Scope.values if scope != needed]
    for prefix in PREFIXES:
        url = prefix + path.format(**names)
        refused = _called(make_client(alice, scopes=others), method, path, url, body)
        assert problem_of(refused, 403)["code"] == "missing_scope"
    client = make_client(alice, scopes=[needed])
    response = _called(client, method, path, path.format(**names), body)
    assert response.status_code in {200, 201, 202, 204}, _content(response)


def test_another_projects_object_is_not_found_on_any_route_that_takes_an_id(
    client_of_alice: APIClient, theirs: dict[str, str], dump: Callable[..., str]
) -> None:
    tables = (
        "notifications_notification",
        "notifications_suppression",
        "notifications_batch",
        "notifications_flow",
    )
    people = ("users_recipient", "users_address")
    before = dump(*tables), dump(*people)
    taking_ids = [route for route in guarded() if "{" in route.path and route.path not in INBOX]
    assert len(taking_ids) == 20
    for route in taking_ids:
        for method in sorted(route.methods):
            if method == "PUT" or (method, route.path.partition("}")[2]) == (
                "POST",
                "/inbox-tokens",
            ):
                continue  # makes a user of that id in one's own project
            path = route.path.format(**theirs)
            body = BODIES.get((method, route.path.removeprefix("api/v1/")), {})
            response = call(client_of_alice, method, path, body)
            if path.endswith("their-user/notifications"):
                assert response.json()["results"] == []
            else:
                assert problem_of(response, 404)["code"] == "not_found"
            assert SECRET not in _content(response).decode()
    assert (dump(*tables), dump(*people)) == before


def test_a_put_with_another_projects_id_makes_ones_own_user(
    client_of_alice: APIClient, theirs: dict[str, str], dump: Callable[..., str]
) -> None:
    response = call(client_of_alice, "PUT", "users/their-user", {"name": "mine"})
    assert response.status_code == 201
    assert SECRET not in response.content.decode()
    assert SECRET in dump("users_recipient")


def test_a_wrong_method_is_a_problem_document_that_says_which_are_right(
    client_of_alice: APIClient, client_of_ann: APIClient, strict_client: Client
) -> None:
    for route in routes():
        client = _client_for(route, client_of_alice, client_of_ann, strict_client)
        path = route.path.format(pk="0" * 32, user_id="ann", **HOOK)
        for method in (METHODS | {"BREW"}) - route.methods:
            response = call(client, method, path, {})
            assert response.status_code == 405, (method, path)
            assert problem_of(response, 405)["code"] == "method_not_allowed", (method, path)
            assert route.methods <= set(response["Allow"].split(", ")), (method, path)


def test_head_says_no_more_than_get(
    client_of_alice: APIClient, client_of_ann: APIClient, theirs: dict[str, str], alice: Project
) -> None:
    NotificationFactory(recipient__project=alice, recipient__user_id="ann2", message=SECRET)
    for route in routes():
        if "GET" in route.methods:
            client = _client_for(route, client_of_alice, client_of_ann, client_of_alice)
            response = call(client, "HEAD", route.path.format(**theirs))
            assert _content(response) == b"", route.path


def test_options_says_nothing_of_fields_and_objects(
    client_of_alice: APIClient,
    client_of_ann: APIClient,
    strict_client: Client,
    theirs: dict[str, str],
) -> None:
    for route in routes():
        client = _client_for(route, client_of_alice, client_of_ann, strict_client)
        response = call(client, "OPTIONS", route.path.format(**theirs))
        text = response.content.decode()
        assert SECRET not in text
        assert "actions" not in text
        assert response.status_code in {200, 403, 405}, route.path
