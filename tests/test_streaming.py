"""The stream's parts: what a client is given next, who is asked for more, and who is let in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from notifications.inbox.items import Change, State
from notifications.models import Notification
from notifications.streaming.admission import BadRequest, number_after, token_in
from notifications.streaming.connections import Connection, Connections, TooManyStreams
from notifications.streaming.feeding import feed, next_lines
from users.inbox_tokens import InboxToken

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ID = UUID(int=7)
TOKEN = InboxToken(1, 42, True, 0, None, NOW + timedelta(hours=1))
KEY = (42, True)


def created(number: int, unread: int = 1, **fields: Any) -> Change:
    notification = Notification(
        id=ID, recipient_id=42, inbox_position=number, created_at=NOW, **fields
    )
    return Change(number, "created", unread, NOW, ID, None, notification)


def events(lines: bytes) -> list[tuple[str, int | None, Any]]:
    """(event, id, data) of each, as a client reads them."""
    found = []
    for block in lines.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line)
        if fields:
            number = int(fields["id"]) if "id" in fields else None
            found.append((fields["event"], number, json.loads(fields["data"])))
    return found


# --- What comes next ---------------------------------------------------------------------------------


def test_who_has_seen_all_is_told_nothing() -> None:
    assert next_lines(State(5, 1), 5, []) == (b"", 5)


def test_each_change_has_its_number_and_the_count_comes_after_them() -> None:
    lines, position = next_lines(State(3, 2), 1, [created(2, 1), created(3, 2)])
    assert position == 3
    names = [(name, number) for name, number, _ in events(lines)]
    assert names == [("created", 2), ("created", 3), ("count", 3)]
    assert events(lines)[-1][2] == {"unread": 2, "position": 3}


def test_a_count_never_tells_of_changes_that_were_not_given() -> None:
    """The inbox may be further on than what one look brings."""
    lines, position = next_lines(State(900, 77), 0, [created(1, 1)])
    assert position == 1
    assert events(lines)[-1] == ("count", 1, {"unread": 1, "position": 1})


@pytest.mark.parametrize(
    ("position", "changes"),
    [
        (1, []),
        (1, [created(3)]),
        (1, [created(2), created(4)]),
        (9, []),
    ],
    ids=[
        "they are gone",
        "the first is gone",
        "one between is gone",
        "it knows of more than there is",
    ],
)
def test_where_a_change_is_missing_the_list_is_to_be_loaded_anew(
    position: int, changes: list[Change]
) -> None:
    lines, there = next_lines(State(4, 3), position, changes)
    assert events(lines) == [("reset", 4, {"unread": 3, "position": 4})]
    assert there == 4


def test_one_that_is_gone_by_now_is_told_as_removed_and_keeps_its_number() -> None:
    gone = Change(2, "updated", 0, NOW, ID, None)
    lines, _ = next_lines(State(2, 0), 1, [gone])
    assert events(lines)[0] == ("removed", 2, {"position": 2, "unread": 0, "id": str(ID)})


def test_all_that_were_read_are_told_by_one_event() -> None:
    read = Change(5, "read_all", 0, NOW, None, 3)
    lines, _ = next_lines(State(5, 0), 4, [read])
    name, number, data = events(lines)[0]
    assert (name, number) == ("read_all", 5)
    assert data == {"position": 5, "unread": 0, "read_up_to": 3, "read_at": "2026-11-26T12:00:00Z"}


def test_content_cannot_end_its_event() -> None:
    hostile = created(1, message="a\n\nevent: end\ndata: {}\r\n\u2028x", title="\r\rid: 9")
    lines, _ = next_lines(State(1, 1), 0, [hostile])
    assert [name for name, _, _ in events(lines)] == ["created", "count"]
    assert b"\r" not in lines


# --- Who is behind -----------------------------------------------------------------------------------


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Client:
    """Reads a stream as fast as it is told to."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lines = connection.lines()
        self._waiting: asyncio.Task[bytes] | None = None

    async def reads(self) -> bytes:
        return await anext(self._lines)

    async def waits(self) -> None:
        """Has taken all, and waits for what comes next."""
        self._waiting = asyncio.ensure_future(anext(self._lines))
        await asyncio.sleep(0)

    async def gets(self) -> bytes:
        assert self._waiting
        return await self._waiting


@in_a_loop
async def test_who_is_still_sending_is_given_nothing_more() -> None:
    """What waits for a slow reader waits in PostgreSQL."""
    connections = Connections()
    connection = connections.add(TOKEN, 0)
    client = Client(connection)
    assert (await client.reads()).startswith(b"retry: ")
    await client.waits()
    assert await connections.those_behind() == [connection]
    connection.give(b"first", 1)
    connections.moved([KEY])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connections.those_behind(), 0.05)
    assert await client.gets() == b"first"
    await client.waits()
    assert await connections.those_behind() == [connection]
    client._waiting.cancel()  # type: ignore[union-attr]


@in_a_loop
async def test_what_moves_while_one_looks_is_given_after_what_was_found() -> None:
    connections = Connections()
    connection = connections.add(TOKEN, 0)
    client = Client(connection)
    await client.reads()
    await client.waits()
    assert await connections.those_behind() == [connection]
    connections.moved([KEY])
    connection.give(b"found", 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connections.those_behind(), 0.05)
    assert await client.gets() == b"found"
    await client.waits()
    assert await connections.those_behind() == [connection]
    client._waiting.cancel()  # type: ignore[union-attr]


@in_a_loop
async def test_one_that_is_not_told_of_a_change_is_found_by_where_its_inbox_is() -> None:
    connections = Connections()
    connection = connections.add(TOKEN, 0)
    client = Client(connection)
    await client.reads()
    await client.waits()
    await connections.those_behind()
    connections.moved_to({})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connections.those_behind(), 0.05)
    connections.moved_to({KEY: 3})
    assert await connections.those_behind() == [connection]
    client._waiting.cancel()  # type: ignore[union-attr]


@in_a_loop
async def test_who_gets_a_part_is_behind_again_at_once() -> None:
    connections = Connections()
    connection = connections.add(TOKEN, 0)
    connection.is_behind = False
    feed([connection], {KEY: State(2, 2)}, {(KEY, 0): [created(1)]})
    assert connection.position == 1
    assert connection.is_behind
    connection.is_behind = False
    feed([connection], {KEY: State(2, 2)}, {(KEY, 1): [created(2, 2)]})
    assert connection.position == 2
    assert not connection.is_behind


@in_a_loop
async def test_a_stream_ends_with_the_reason_after_what_it_was_given() -> None:
    connections = Connections()
    connection = connections.add(TOKEN, 0)
    client = Client(connection)
    await client.reads()
    connection.give(b"last", 1)
    connection.end("token_expired", "It is over.")
    connection.end("token_revoked", "Too late.")
    assert await client.reads() == b"last"
    assert events(await client.reads()) == [
        ("end", None, {"code": "token_expired", "detail": "It is over."})
    ]
    with pytest.raises(StopAsyncIteration):
        await client.reads()
    assert connections.count == 0
    assert connections.keys() == []


@in_a_loop
async def test_streams_are_limited_for_a_person_and_for_the_process() -> None:
    connections = Connections()
    for _ in range(settings.STREAM_CONNECTIONS_PER_USER):
        last = connections.add(TOKEN, 0)
    with pytest.raises(TooManyStreams, match="This user"):
        connections.add(TOKEN, 0)
    connections.remove(last)
    connections.remove(last)
    connections.add(TOKEN, 0)
    connections.count = settings.STREAM_CONNECTIONS
    other = InboxToken(1, 43, True, 0, None, NOW)
    with pytest.raises(TooManyStreams, match="This process"):
        connections.add(other, 0)


# --- Who is let in -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "query", "token"),
    [
        ("Bearer abc", None, "abc"),
        ("bearer abc", "other", "abc"),
        (None, "abc", "abc"),
        (None, None, ""),
        ("Basic abc", "abc", ""),
        ("Bearer", None, ""),
    ],
)
def test_the_header_comes_before_the_query(header: Any, query: Any, token: str) -> None:
    assert token_in(header, query) == token


def test_what_a_browser_kept_comes_before_where_it_began() -> None:
    assert number_after("7", "3") == 7
    assert number_after(None, "3") == 3
    assert number_after("", "") is None


@pytest.mark.parametrize("given", ["-1", "x", "1.5", "9" * 19, "٣"])
def test_a_number_that_is_none_is_refused_by_the_name_of_its_field(given: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        number_after(None, given)
    assert refusal.value.field == "after"


def test_what_waits_in_memory_for_a_reader_is_bounded_by_its_size() -> None:
    changes = [created(number, number, message="x" * 100_000) for number in range(1, 6)]
    lines, position = next_lines(State(5, 5), 0, changes)
    assert position == 2
    assert [number for _, number, _ in events(lines)] == [1, 2, 2]
    one_that_is_too_large = [created(1, message="x" * 300_000)]
    assert next_lines(State(5, 5), 0, one_that_is_too_large)[1] == 1
