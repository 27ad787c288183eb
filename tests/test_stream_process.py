"""The stream as a client meets it: a real process, real Redis and PostgreSQL, HTTP by hand."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from notifications.inbox import marking
from notifications.inbox.entry import entry_for
from notifications.models import Heartbeat, Inbox, InboxEvent
from tests.factories import RecipientFactory, arrived, arrived_together
from tests.streams import StreamServer
from users import inbox_access
from users.models import Project, Recipient

pytestmark = pytest.mark.django_db(transaction=True)

Event = tuple[str, int | None, Any]


class Client:
    """Reads Server-Sent Events, as the specification of HTML has them."""

    def __init__(self, url: str, token: str, after: int | None = None, **headers: str) -> None:
        query = "" if after is None else f"?after={after}"
        request = urllib.request.Request(
            url + query, headers={"Authorization": f"Bearer {token}", **headers}
        )
        self._response = urllib.request.urlopen(request, timeout=20)
        self.headers = self._response.headers

    def events(self) -> Iterator[Event]:
        """Until the server ends the stream."""
        fields: dict[str, str] = {}
        for line in self._response:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                number = int(fields["id"]) if "id" in fields else None
                yield fields["event"], number, json.loads(fields["data"])
                fields = {}
            else:
                fields = {}

    def next(self, count: int) -> list[Event]:
        """So many, waited for."""
        events = self.events()
        return [next(events) for _ in range(count)]

    def close(self) -> None:
        self._response.close()


@pytest.fixture
def ada(alice: Project) -> Recipient:
    return RecipientFactory(project=alice, user_id="ada")


@pytest.fixture
def token(alice: Project, ada: Recipient) -> str:
    return entry_for(alice.pk, "ada", live=True).token


def refused(url: str, **headers: str) -> tuple[int, Any]:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10)
    body = json.loads(refusal.value.read())
    assert refusal.value.headers["Content-Type"] == "application/problem+json"
    return refusal.value.code, body["code"]


def test_it_begins_where_the_inbox_is_and_tells_what_changes(
    start_stream: Callable[..., StreamServer], ada: Recipient, token: str
) -> None:
    arrived(ada)
    client = Client(start_stream().url, token)
    assert client.headers["Content-Type"].startswith("text/event-stream")
    assert client.headers["Cache-Control"] == "no-store"
    assert client.headers["X-Accel-Buffering"] == "no"
    assert client.next(1) == [("count", 1, {"unread": 1, "position": 1})]
    item = arrived(ada, title="Hello", url="https://example.com/")
    (name, number, data), counted = client.next(2)
    assert (name, number) == ("created", 2)
    assert data["notification"]["id"] == str(item.id)
    assert data["notification"]["title"] == "Hello"
    assert counted == ("count", 2, {"unread": 2, "position": 2})
    marking.mark_read(item.id)
    (name, number, data), _ = client.next(2)
    assert (name, number, data["unread"]) == ("updated", 3, 1)
    assert data["notification"]["read_at"]
    marking.read_all(ada.pk, True, up_to=3)
    (name, number, data), _ = client.next(2)
    assert (name, number) == ("read_all", 4)
    assert data["read_up_to"] == 3


@pytest.mark.parametrize("by", ["header", "query"])
def test_who_was_away_gets_exactly_what_came_meanwhile(
    start_stream: Callable[..., StreamServer], ada: Recipient, token: str, by: str
) -> None:
    arrived_together(ada, 250)
    url = start_stream().url
    if by == "query":
        client = Client(url, token, after=20)
    else:
        client = Client(url, token, after=1, **{"Last-Event-ID": "20"})
    seen = [number for name, number, _ in client.next(230 + 3) if name == "created"]
    assert seen == list(range(21, 251))


def test_what_is_not_kept_any_more_is_told_by_a_reset(
    start_stream: Callable[..., StreamServer], ada: Recipient, token: str
) -> None:
    arrived_together(ada, 5)
    InboxEvent.objects.filter(number__lte=3).delete()
    client = Client(start_stream().url, token, after=2)
    assert client.next(1) == [("reset", 5, {"unread": 5, "position": 5})]
    arrived(ada)
    assert [number for _, number, _ in client.next(2)] == [6, 6]


def test_each_gets_only_its_own(
    start_stream: Callable[..., StreamServer], alice: Project, ada: Recipient, token: str
) -> None:
    ben = RecipientFactory(project=alice, user_id="ben")
    url = start_stream().url
    of_ada, of_ben = Client(url, token), Client(url, entry_for(alice.pk, "ben", live=True).token)
    of_test = Client(url, entry_for(alice.pk, "ada", live=False).token)
    for client in (of_ada, of_ben, of_test):
        client.next(1)
    arrived(ben, title="for Ben")
    arrived(ada, live=False, title="of a test key")
    arrived(ada, title="for Ada")
    for client, title in (of_ada, "for Ada"), (of_ben, "for Ben"), (of_test, "of a test key"):
        (name, number, data), _ = client.next(2)
        assert (name, number, data["notification"]["title"]) == ("created", 1, title)


def test_without_redis_it_looks_by_itself(
    start_stream: Callable[..., StreamServer], ada: Recipient, token: str
) -> None:
    client = Client(start_stream(REDIS_URL="redis://127.0.0.1:1/0").url, token)
    client.next(1)
    arrived(ada)
    assert [name for name, _, _ in client.next(2)] == ["created", "count"]


def test_it_ends_with_the_reason_when_the_token_is_revoked(
    start_stream: Callable[..., StreamServer], ada: Recipient, token: str
) -> None:
    client = Client(start_stream().url, token)
    client.next(1)
    inbox_access.revoke(ada)
    began = time.monotonic()
    (name, _, data) = client.next(1)[0]
    assert (name, data["code"]) == ("end", "token_revoked")
    assert time.monotonic() - began < 10
    assert list(client.events()) == []


def test_it_ends_with_the_reason_when_the_token_expires(
    start_stream: Callable[..., StreamServer], alice: Project, ada: Recipient
) -> None:
    url = start_stream().url
    token = entry_for(alice.pk, "ada", live=True, lifetime=timedelta(seconds=5)).token
    client = Client(url, token)
    (_, (name, _, data)) = client.next(2)
    assert (name, data["code"]) == ("end", "token_expired")


def test_it_says_goodbye_when_the_process_is_told_to_stop(
    start_stream: Callable[..., StreamServer], token: str
) -> None:
    server = start_stream()
    client = Client(server.url, token)
    client.next(1)
    assert Heartbeat.objects.filter(kind="stream").exists()
    # Granian overhears a signal that comes while its worker is still starting, for web as for the stream.
    time.sleep(1)
    server.stop()
    assert [(name, data["code"]) for name, _, data in client.events()] == [("end", "shutting_down")]
    assert "refused to gracefully stop" not in server.output
    assert not Heartbeat.objects.filter(kind="stream").exists()


def test_who_comes_at_the_moment_it_stops_does_not_hold_it_up(
    start_stream: Callable[..., StreamServer], token: str
) -> None:
    server = start_stream(STREAM_CONNECTIONS_PER_USER=200)
    clients = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(100)]
    request = (
        f"GET /api/v1/inbox/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    for client in clients:
        client.sendall(request.encode())
    # The first is admitted; most of the others are being asked about.
    clients[0].recv(10)
    server.stop()
    for client in clients:
        client.close()
    assert "refused to gracefully stop" not in server.output


def test_one_stream_too_many_is_refused_and_told_when_to_come_again(
    start_stream: Callable[..., StreamServer], alice: Project, token: str, wait_until: Any
) -> None:
    url = start_stream(STREAM_CONNECTIONS_PER_USER=2, STREAM_CONNECTIONS=3).url
    clients = [Client(url, token) for _ in range(2)]
    assert refused(url, Authorization=f"Bearer {token}") == (429, "too_many_streams")
    other = Client(url, entry_for(alice.pk, "ben", live=True).token)
    ceci = f"Bearer {entry_for(alice.pk, 'ceci', live=True).token}"
    assert refused(url, Authorization=ceci) == (429, "too_many_streams")
    for client in (*clients, other):
        client.close()

    def there_is_room() -> bool:
        try:
            Client(url, token).close()
        except urllib.error.HTTPError:
            return False
        return True

    wait_until(there_is_room)


def test_who_comes_back_all_the_time_is_told_to_wait(
    start_stream: Callable[..., StreamServer], token: str
) -> None:
    url = start_stream(INBOX_RATE_LIMIT="3/60").url
    for _ in range(3):
        Client(url, token).close()
    assert refused(url, Authorization=f"Bearer {token}") == (429, "throttled")


def test_over_plain_http_it_is_refused_where_https_is_asked_for(
    start_stream: Callable[..., StreamServer], token: str
) -> None:
    url = start_stream(SECURE_SSL_REDIRECT=1).url
    assert refused(url, Authorization=f"Bearer {token}") == (403, "https_required")
    assert Client(url, token, **{"X-Forwarded-Proto": "https"}).next(1)


def test_while_the_database_is_away_streams_stay_open_and_catch_up(
    start_stream: Callable[..., StreamServer], ada: Recipient, token: str
) -> None:
    client = Client(start_stream().url, token)
    client.next(1)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    arrived(ada)
    assert [name for name, _, _ in client.next(2)] == ["created", "count"]


def test_a_reader_that_takes_nothing_is_cut_off_and_the_others_are_not_held_up(
    start_stream: Callable[..., StreamServer], alice: Project, ada: Recipient, token: str
) -> None:
    server = start_stream(STREAM_PATIENCE=2)
    ben = RecipientFactory(project=alice, user_id="ben")
    other = Client(server.url, entry_for(alice.pk, "ben", live=True).token)
    other.next(1)
    with socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", server.port))
        head = (
            f"GET /api/v1/inbox/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        lazy.sendall(head.encode())
        lazy.recv(200)
        arrived_together(ada, 200, message="x" * 60_000)
        arrived(ben)
        assert [name for name, _, _ in other.next(2)] == ["created", "count"]
        time.sleep(4)
    server.stop()
    assert "too_slow" in server.output


def test_the_token_stands_in_no_line_of_its_output(
    start_stream: Callable[..., StreamServer], token: str
) -> None:
    server = start_stream(LOG_LEVEL="DEBUG")
    with urllib.request.urlopen(f"{server.url}?token={token}", timeout=10) as response:
        assert response.readline().startswith(b"retry: ")
    refused(f"{server.url}?token={token}x")
    refused(server.url, Authorization=f"Bearer {token}x")
    server.stop()
    assert "invalid" not in server.output
    assert token.removeprefix("ntf_inbox_")[:40] not in server.output


def test_a_mark_that_changes_nothing_is_told_to_nobody(ada: Recipient) -> None:
    item = arrived(ada)
    for mark in (marking.mark_read, marking.mark_read, marking.archive, marking.archive):
        mark(item.id)
    marking.read_all(ada.pk, True, up_to=99)
    assert Inbox.objects.get().position == 3
