"""What a connection that is behind is given next: by one question for all that are.

The numbers of an inbox have no gap. So a client is given what comes right after its own number; where that is not there
any more, or is very much, it is told to load its list anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from notifications.api.parsing import dump_json
from notifications.inbox.items import Change, State, changes_after, states_of, told
from notifications.inbox.nudging import InboxKey
from notifications.streaming.connections import Connection, line

#: A client that has missed more changes loads its list anew.
MOST_MISSED = 1000

#: Bytes that a connection is given at once, about: they wait in memory for a slow reader.
LARGEST_GIFT = 256_000

#: An inbox, and the number after which one wants to know.
Place = tuple[InboxKey, int]


def look(places: set[Place]) -> tuple[dict[InboxKey, State], dict[Place, list[Change]]]:
    """Where the inboxes are, and what came after. In this order: what is counted can be read then."""
    states = states_of({key for key, _ in places})
    near = [place for place in places if _is_near(states.get(place[0], State()), place[1])]
    return states, changes_after(near)


def feed(
    connections: Sequence[Connection],
    states: dict[InboxKey, State],
    changes: dict[Place, list[Change]],
) -> None:
    """Give each what came after its number; what is the same for several is made once."""
    lines: dict[Place, tuple[bytes, int]] = {}
    for connection in connections:
        place = (connection.key, connection.position)
        if place not in lines:
            state = states.get(connection.key, State())
            lines[place] = next_lines(state, connection.position, changes.get(place, []))
        content, position = lines[place]
        if content:
            connection.give(content, position)
        if position < states.get(connection.key, State()).position:
            connection.connections.is_behind(connection)


def next_lines(state: State, position: int, changes: Sequence[Change]) -> tuple[bytes, int]:
    """The events for who has seen all up to `position`, and the number up to which they lead. Nothing is b""."""
    if changes and _follow(changes, position):
        events = list(_as_many_as_fit(changes))
        last = changes[len(events) - 1]
        return b"".join([*events, counted(State(last.number, last.unread))]), last.number
    if state.position == position:
        return b"", position
    return _numbered("reset", state), state.position


def _as_many_as_fit(changes: Sequence[Change]) -> Iterator[bytes]:
    """At least one. The others are asked for again when these have been sent."""
    size = 0
    for change in changes:
        event = event_of(change)
        size += len(event)
        if size > LARGEST_GIFT and size > len(event):
            return
        yield event


def counted(state: State) -> bytes:
    """The `count` event."""
    return _numbered("count", state)


def event_of(change: Change) -> bytes:
    name, content = told(change)
    return line(name, _json(content), change.number)


def _numbered(event: str, state: State) -> bytes:
    return line(event, _json(state.content), state.position)


def _json(content: Any) -> str:
    return dump_json(content).decode()


def _follow(changes: Sequence[Change], position: int) -> bool:
    numbers = [change.number for change in changes]
    return numbers == list(range(position + 1, position + 1 + len(changes)))


def _is_near(state: State, position: int) -> bool:
    return 0 < state.position - position <= MOST_MISSED
