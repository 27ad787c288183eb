"""Whose inbox one sees: what is refused on every route of the inbox, and by the stream's own process.

Another user's token, another project's, a forged, an expired, a revoked one, an API key in its place; pages of other
origins; and that a token never stands in a log.
"""

from __future__ import annotations

import base64
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import changes
from notifications.models import Notification
from tests.api.inboxes import (
    COUNT,
    LIST,
    READ_ALL,
    STREAM,
    browser_of,
    browser_with,
    ids_in,
    item,
    token_of,
)
from tests.api.problems import problem_of
from tests.api.test_routes import BODIES, CALLS, call
from tests.factories import ApiKeyFactory, ProjectFactory, RecipientFactory, arrived
from tests.streams import StreamServer
from users.inbox_tokens import PREFIX, InboxToken, issue, read
from users.models import ApiKey, Forgetting, Project, Recipient

pytestmark = pytest.mark.django_db

APP = "https://app.alice.example"
OTHER_APP = "https://app.stranger.example"


@pytest.fixture
def ann(alice: Project) -> Recipient:
    recipient: Recipient = RecipientFactory(project=alice, user_id="ann")
    return recipient


def calls_of(notification: Notification) -> list[tuple[str, str, Any]]:
    """Every call that an inbox token opens, as (method, path, body)."""
    return [
        ("get", LIST, None),
        ("get", COUNT, None),
        ("patch", item(notification), {"status": "read"}),
        ("post", READ_ALL, {"up_to": 99}),
    ]


def answers(browser: APIClient, notification: Notification, **headers: str) -> Iterator[Any]:
    for method, path, body in calls_of(notification):
        yield getattr(browser, method)(path, body, format="json", headers=headers)


# --- Tokens that open nothing ------------------------------------------------------------------------

Refused = dict[str, tuple[str, str]]


def forged(token: str, place: int, value: Any) -> str:
    """The token with another value in one place, under the old signature."""
    payload, _, signature = token.removeprefix(PREFIX).rpartition(":")
    parts = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    parts[place] = value
    text = json.dumps(parts, separators=(",", ":")).encode()
    return f"{PREFIX}{base64.urlsafe_b64encode(text).decode().rstrip('=')}:{signature}"


def _forged(token: str, ann: Recipient, other: Recipient) -> Refused:
    payload, _, signature = token.rpartition(":")
    texts = {
        "of another project": forged(token, 0, other.project_id),
        "of another person": forged(token, 1, other.pk),
        "of the other inbox": forged(token, 2, False),
        "of a later epoch": forged(token, 3, 1),
        "of another key": forged(token, 4, 1),
        "that holds for longer": forged(token, 5, 2**40),
        "with another signature": f"{payload}:{signature[:-1]}{'A' if signature[-1] != 'A' else 'B'}",
        "with half a signature": f"{payload}:{signature[:20]}",
        "without a signature": payload,
        "of nothing but the prefix": PREFIX,
        "without the prefix": token.removeprefix(PREFIX),
        "with something behind it": token + "x",
        "that is not ASCII": token + "é",
        "that is very long": PREFIX + "A" * 5000,
    }
    return {name: (text, "invalid_token") for name, text in texts.items()}


def _ended(ann: Recipient, other: Recipient) -> Refused:
    """Properly signed, and yet they open nothing."""
    token = read(token_of(ann), timezone.now())
    revoked = ApiKeyFactory(project=ann.project, revoked_at=timezone.now())
    expired = ApiKeyFactory(project=ann.project, expires_at=timezone.now() - timedelta(minutes=1))
    may_not = ApiKeyFactory(project=ann.project, scopes=["send", "read", "manage"])
    forgotten = RecipientFactory(project=ann.project)
    of_forgotten = token_of(forgotten)
    changes.forget(forgotten)
    being_forgotten = RecipientFactory(project=ann.project)
    Forgetting.objects.create(recipient=being_forgotten)
    past = token.expires_at - timedelta(days=1)
    ended = {
        "of an older epoch": replace(token, epoch=-1),
        "of another project's person": replace(token, project_id=other.project_id),
        "of nobody": replace(token, recipient_id=2**40),
        "of a key that is revoked": replace(token, key_id=revoked.pk),
        "of a key that has expired": replace(token, key_id=expired.pk),
        "of a key that may not any more": replace(token, key_id=may_not.pk),
        "of a key that is gone": replace(token, key_id=2**40),
    }
    texts = {name: issue(each) for name, each in ended.items()} | {
        "of a person who was forgotten": of_forgotten,
        "of a person who is being forgotten": token_of(being_forgotten),
    }
    expired_ones = {"that has expired": (issue(replace(token, expires_at=past)), "token_expired")}
    return {name: (text, "token_revoked") for name, text in texts.items()} | expired_ones


@pytest.fixture
def refused_tokens(ann: Recipient, stranger: Project) -> Refused:
    """By what is wrong with it: the token, and the code with which it is refused."""
    other = RecipientFactory(project=stranger, user_id="ann")
    key: Any = ApiKeyFactory(project=ann.project)
    api_key = {"that is an API key": (key.token, "invalid_token")}
    return _forged(token_of(ann), ann, other) | _ended(ann, other) | api_key


def test_a_token_that_does_not_hold_opens_nothing(ann: Recipient, refused_tokens: Refused, dump: Callable[..., str]) -> None:  # fmt: skip
    theirs = arrived(ann, title="Secret")
    before = dump("notifications_notification", "notifications_inbox")
    assert len(refused_tokens) == 25
    for name, (token, code) in refused_tokens.items():
        for answer in answers(browser_with(token), theirs):
            document = problem_of(answer, 401)
            assert document["code"] == code, name
            assert answer["WWW-Authenticate"] == 'Bearer realm="notifyproj inbox"'
            assert b"Secret" not in answer.content
    assert dump("notifications_notification", "notifications_inbox") == before


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic {}", "{}", "Bearer {} x"])  # fmt: skip
def test_without_a_token_nothing_is_open(ann: Recipient, header: str | None) -> None:
    browser = APIClient()
    if header is not None:
        browser.credentials(HTTP_AUTHORIZATION=header.format(token_of(ann)))
    for answer in answers(browser, arrived(ann)):
        problem_of(answer, 401)


def test_a_session_of_staff_opens_no_inbox(ann: Recipient, admin_client: Any) -> None:
    for method, path, body in calls_of(arrived(ann)):
        problem_of(getattr(admin_client, method)(path, body, content_type="application/json"), 401)


def test_a_token_in_the_address_opens_nothing_but_the_stream(ann: Recipient) -> None:
    token = token_of(ann)
    for method, path, body in calls_of(arrived(ann)):
        answer = getattr(APIClient(), method)(f"{path}?token={token}", body, format="json")
        problem_of(answer, 401)


def test_an_inbox_token_opens_no_call_of_a_backend(ann: Recipient) -> None:
    browser = browser_of(ann)
    path_of = {"pk": str(arrived(ann).pk), "user_id": "ann"}
    for (method, path), _ in CALLS.items():
        for prefix in ("api/v1/", ""):
            body = BODIES.get((method, path), {})
            answer = call(browser, method, prefix + path.format(**path_of), body)
            assert problem_of(answer, 401)["code"] == "invalid_key", (method, path)


# --- Ends ---------------------------------------------------------------------------------------------


@pytest.fixture
def by_key(alice: Project, ann: Recipient) -> tuple[ApiKey, APIClient, APIClient]:
    """A backend's key, the backend, and Ann's browser with a token that it has made."""
    key: Any = ApiKeyFactory(project=alice)
    backend = APIClient()
    backend.credentials(HTTP_AUTHORIZATION=f"Bearer {key.token}")
    answer = backend.post("/api/v1/users/ann/inbox-tokens", {}, format="json")
    return key, backend, browser_with(answer.json()["token"])


def codes(browser: APIClient, notification: Notification) -> set[str]:
    return {problem_of(answer, 401)["code"] for answer in answers(browser, notification)}


def test_a_backend_ends_all_tokens_of_a_person_and_of_no_other(
    by_key: tuple[ApiKey, APIClient, APIClient], ann: Recipient
) -> None:
    _, backend, browser = by_key
    others = browser_of(RecipientFactory(project=ann.project))
    of_test_keys, one = browser_of(ann, live=False), arrived(ann)
    assert browser.get(COUNT).status_code == 200
    assert backend.delete("/api/v1/users/ann/inbox-tokens").status_code == 204
    assert codes(browser, one) == codes(of_test_keys, one) == {"token_revoked"}
    assert others.get(COUNT).status_code == 200
    ann.refresh_from_db()
    assert browser_of(ann).get(COUNT).status_code == 200


def test_tokens_end_with_the_key_that_made_them(
    by_key: tuple[ApiKey, APIClient, APIClient], ann: Recipient
) -> None:
    key, _, browser = by_key
    assert browser.get(COUNT).status_code == 200
    ApiKey.objects.filter(pk=key.pk).update(revoked_at=Now())
    assert codes(browser, arrived(ann)) == {"token_revoked"}


def test_tokens_end_with_the_person(
    by_key: tuple[ApiKey, APIClient, APIClient], ann: Recipient
) -> None:
    _, backend, browser = by_key
    one = arrived(ann)
    assert backend.delete("/api/v1/users/ann").status_code in (202, 204)
    assert codes(browser, one) == {"token_revoked"}
    # Who comes back under the same name is somebody else to us.
    assert backend.post("/api/v1/users", {"user_id": "ann"}, format="json").status_code == 201
    assert codes(browser, one) == {"token_revoked"}


def test_a_backend_makes_no_token_for_another_projects_user(
    by_key: tuple[ApiKey, APIClient, APIClient], stranger: Project
) -> None:
    _, backend, _ = by_key
    theirs = arrived(RecipientFactory(project=stranger, user_id="zoe"))
    answer = backend.post("/api/v1/users/zoe/inbox-tokens", {}, format="json")
    # It is for a user of that name of one's own project.
    browser = browser_with(answer.json()["token"])
    assert ids_in(browser.get(LIST)) == []
    problem_of(browser.patch(item(theirs), {"status": "read"}, format="json"), 404)


# --- Each sees their own ------------------------------------------------------------------------------


def _others(ann: Recipient, stranger: Project) -> list[tuple[str, APIClient]]:
    return [
        ("another person", browser_of(RecipientFactory(project=ann.project, user_id="ben"))),
        ("another project", browser_of(RecipientFactory(project=stranger, user_id="ann"))),
        ("test keys", browser_of(ann, live=False)),
    ]


def test_nobody_sees_or_marks_what_is_in_another_inbox(ann: Recipient, stranger: Project) -> None:
    theirs = arrived(ann, title="Secret")
    for name, browser in _others(ann, stranger):
        for answer in answers(browser, theirs):
            assert b"Secret" not in answer.content, name
        assert ids_in(browser.get(LIST)) == [], name
        assert browser.get(COUNT).json() == {"unread": 0, "position": 0}, name
        for status in ("read", "unread", "archived", "unarchived"):
            answer = browser.patch(item(theirs), {"status": status}, format="json")
            problem_of(answer, 404)
    theirs.refresh_from_db()
    assert theirs.is_unread


def test_what_test_keys_send_is_never_in_the_live_inbox(ann: Recipient) -> None:
    live, test = arrived(ann), arrived(ann, live=False)
    for is_live, its in ((True, live), (False, test)):
        browser = browser_of(ann, live=is_live)
        assert ids_in(browser.get(LIST)) == [str(its.pk)]
        assert browser.get(COUNT).json() == {"unread": 1, "position": 1}
        assert browser.patch(item(its), {"status": "read"}, format="json").status_code == 200


def test_a_key_makes_tokens_of_its_own_kind(
    ann: Recipient, make_client: Callable[..., APIClient]
) -> None:
    for kind in ("live", "test"):
        client = make_client(ann.project, kind=kind)
        told = client.post("/api/v1/users/ann/inbox-tokens", {}, format="json").json()
        assert told["live"] is (kind == "live")
        assert read(told["token"], timezone.now()).live is (kind == "live")


def test_anothers_cursor_shows_ones_own(ann: Recipient, stranger: Project) -> None:
    for _ in range(3):
        arrived(ann, title="Secret")
    url = browser_of(ann).get(f"{LIST}?limit=1").json()["next"]
    for name, browser in _others(ann, stranger):
        assert ids_in(browser.get(url)) == [], name


# --- Pages of other origins --------------------------------------------------------------------------


@pytest.fixture
def with_origins(alice: Project, stranger: Project) -> None:
    for project, origin in ((alice, APP), (stranger, OTHER_APP)):
        project.inbox_origins = [origin]
        project.save()


def test_a_page_that_the_project_names_may_use_its_inboxes(
    ann: Recipient, with_origins: None
) -> None:
    for answer in answers(browser_of(ann), arrived(ann), origin=APP):
        assert answer.status_code == 200
        assert answer["Access-Control-Allow-Origin"] == APP
        assert "origin" in answer["Vary"].lower()
        assert "Access-Control-Allow-Credentials" not in answer


@pytest.mark.parametrize(
    "origin",
    [
        OTHER_APP,
        "https://evil.example",
        "null",
        "*",
        "http://app.alice.example",
        "https://app.alice.example:444",
        "https://app.alice.example.evil.example",
        "https://evil.example#app.alice.example",
        "https://APP.alice.example",
        f"{APP}/",
        f"{APP}, https://evil.example",
        "http://testserver.evil.example",
        "https://testserver",
        "http://testserver:81",
    ],
)
def test_a_page_of_another_origin_may_not(
    ann: Recipient, with_origins: None, origin: str, dump: Callable[..., str]
) -> None:
    theirs = arrived(ann, title="Secret")
    before = dump("notifications_notification", "notifications_inbox")
    for answer in answers(browser_of(ann), theirs, origin=origin):
        assert problem_of(answer, 403)["code"] == "origin_not_allowed"
        assert answer.get("Access-Control-Allow-Origin") in (None, OTHER_APP)
        assert b"Secret" not in answer.content
    assert dump("notifications_notification", "notifications_inbox") == before


def test_nothing_is_open_to_other_origins_by_default(ann: Recipient) -> None:
    for answer in answers(browser_of(ann), arrived(ann), origin=APP):
        assert problem_of(answer, 403)["code"] == "origin_not_allowed"
        assert "Access-Control-Allow-Origin" not in answer


@pytest.mark.parametrize("origin", [None, "http://testserver", "https://notify.example"])
def test_our_own_pages_and_what_is_no_page_need_no_leave(
    ann: Recipient, settings: Any, origin: str | None
) -> None:
    settings.OWN_ORIGINS = ["https://notify.example"]
    headers = {"origin": origin} if origin else {}
    for answer in answers(browser_of(ann), arrived(ann), **headers):
        assert answer.status_code == 200


def preflight(path: str, origin: str, method: str = "PATCH") -> Any:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type",
    }
    return APIClient().options(path, headers=headers)


def test_a_preflight_is_granted_to_pages_that_a_project_names_and_to_no_others(
    ann: Recipient, with_origins: None
) -> None:
    for _, path, _ in calls_of(arrived(ann)):
        granted = preflight(path, APP)
        assert granted.status_code == 200
        assert granted["Access-Control-Allow-Origin"] == APP
        assert "PATCH" in granted["Access-Control-Allow-Methods"]
        assert "authorization" in granted["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in granted
        for origin in ("https://evil.example", "null", "*"):
            assert "Access-Control-Allow-Origin" not in preflight(path, origin)


@pytest.mark.parametrize(
    "path", ["/api/v1/users/ann/inbox-tokens", "/api/v1/notifications", "/users/ann", "/", "/admin/"]
)  # fmt: skip
def test_nothing_but_the_inbox_is_open_to_pages(with_origins: None, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert "Access-Control-Allow-Origin" not in preflight(path, APP, method)
    assert "Access-Control-Allow-Origin" not in APIClient().get(path, headers={"origin": APP})


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com/path",
        "https://app.example.com?x",
        "https://user@app.example.com",
        "app.example.com",
        "//app.example.com",
        "ftp://app.example.com",
        "javascript://x",
        "https://App.example.com",
        "https://app.example.com:port",
        "https://",
        "https://app.example.com\nhttps://evil.example",
        "https://app.example.com\n",
        " https://app.example.com",
        "https://app.example.com:123456",
        "https://[::1",
        "https://app.example.com:443",
        "http://[::1]:80",
    ],
)
def test_what_no_browser_sends_as_an_origin_cannot_be_stored(origin: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ProjectFactory.build(inbox_origins=[origin]).clean_fields()
    assert set(refusal.value.message_dict) == {"inbox_origins"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://localhost:3000",
        "http://10.0.0.7",
        "http://[::1]:8000",
        "https://x:4430",
        "http://x:8080",
    ],
)
def test_an_origin_as_browsers_send_it_can_be_stored(origin: str) -> None:
    ProjectFactory.build(inbox_origins=[origin]).clean_fields()


# --- Logs ---------------------------------------------------------------------------------------------


def test_no_token_stands_in_a_log_of_the_web_process(
    ann: Recipient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], settings: Any
) -> None:  # fmt: skip
    settings.STREAM_URL = "https://stream.example/api/v1/inbox/stream"
    token = token_of(ann)
    with caplog.at_level(logging.DEBUG):
        for text in (token, token + "x", token_of(ann, lifetime=timedelta(0))):
            for answer in answers(browser_with(text), arrived(ann)):
                assert answer.status_code in (200, 401)
            assert APIClient().get(f"{STREAM}?token={text}").status_code == 307
            APIClient().get(f"{STREAM}/nowhere?token={text}")
            APIClient().post(f"{STREAM}?token={text}")
            APIClient().get(f"{LIST}?token={text}")
    written = caplog.text + "".join(capfd.readouterr())
    assert "api/v1/inbox" in written
    payload, _, signature = token.removeprefix(PREFIX).rpartition(":")
    assert PREFIX not in written
    assert payload not in written
    assert signature not in written


# --- The stream ---------------------------------------------------------------------------------------


def ask(url: str, token: str = "", **headers: str) -> tuple[int, Any, Any]:
    """(status, code of the problem, headers) of a stream that is not opened for long."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    # As WSGI and ASGI hand it over: header bytes are Latin-1.
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, None, answer.headers
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())["code"], refusal.headers


def test_the_web_process_leads_to_the_stream_and_tells_nothing_by_it(
    ann: Recipient, refused_tokens: Refused, settings: Any
) -> None:
    settings.STREAM_URL = "https://stream.example/api/v1/inbox/stream"
    places = {
        browser_with(token).get(STREAM)["Location"]
        for token in ("", token_of(ann), *(token for token, _ in refused_tokens.values()))
    }
    assert places == {settings.STREAM_URL}


@pytest.mark.django_db(transaction=True)
def test_the_stream_refuses_what_every_route_refuses(
    ann: Recipient, refused_tokens: Refused, start_stream: Callable[..., StreamServer]
) -> None:
    server = start_stream(LOG_LEVEL="DEBUG")
    for name, (token, code) in refused_tokens.items():
        status, given, headers = ask(server.url, token)
        assert (status, given) == (401, code), name
        assert headers["WWW-Authenticate"] == 'Bearer realm="notifyproj inbox"'
        if token.isascii():
            assert ask(f"{server.url}?token={token}")[:2] == (401, code), name
    assert ask(server.url)[:2] == (401, "invalid_token")
    token = token_of(ann)
    assert ask(server.url, token)[0] == 200
    assert ask(f"{server.url}?token={token}")[0] == 200
    # What the header says counts, not a good one in the address beside it.
    assert ask(f"{server.url}?token={token}", token + "x")[:2] == (401, "invalid_token")
    server.stop()
    assert PREFIX not in server.output
    assert token.removeprefix(PREFIX)[:40] not in server.output


@pytest.mark.django_db(transaction=True)
def test_the_stream_is_open_to_pages_that_the_project_names_and_to_no_others(
    ann: Recipient,
    with_origins: None,
    start_stream: Callable[..., StreamServer],
    wait_until: Callable[..., None],
) -> None:
    url = start_stream(PUBLIC_URL="https://notify.example").url
    own = url.removesuffix(STREAM)
    token = token_of(ann)
    status, _, headers = ask(url, token, Origin=APP)
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, APP)
    for origin in (own, "https://notify.example"):
        assert ask(url, token, Origin=origin)[0] == 200
    for origin in (OTHER_APP, "https://evil.example", "null", f"{own}0"):
        status, code, headers = ask(url, token, Origin=origin)
        assert (status, code) == (403, "origin_not_allowed"), origin
        assert headers["Access-Control-Allow-Origin"] in (None, OTHER_APP)
    for origin, granted in ((APP, APP), ("https://evil.example", None), ("null", None)):
        wait_until(lambda origin=origin, granted=granted: _granted(url, origin) == granted)


def _granted(url: str, origin: str) -> str | None:
    """What a preflight is told."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    request = urllib.request.Request(url, method="OPTIONS", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            granted: str | None = answer.headers["Access-Control-Allow-Origin"]
            return granted
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.headers["Access-Control-Allow-Origin"]


def test_tokens_are_made_for_one_inbox_alone(ann: Recipient) -> None:
    token = read(token_of(ann), timezone.now())
    assert isinstance(token, InboxToken)
    assert (token.project_id, token.recipient_id, token.live) == (ann.project_id, ann.pk, True)
