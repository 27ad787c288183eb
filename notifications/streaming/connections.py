"""The open streams of this process, and which of them are behind.

A connection knows the number of the last change that it was given. When its inbox has moved on, and it has sent what
it was given, it is behind: the feeder (feeding.py) reads what comes next from the database. So catching up after a
break is the same as living on, and what waits for a slow reader waits in PostgreSQL, not in here.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from random import uniform

from django.conf import settings
from sse_starlette import ServerSentEvent

from notifications.inbox.nudging import InboxKey
from users.inbox_tokens import InboxToken

#: Seconds after which a client that lost its connection comes back: not all of a process at the same moment.
COME_BACK_AFTER = (2.0, 4.0)
#: Bytes handed to the server at a time: it keeps a few of these for each reader that is slow.
PIECE = 32_000
#: Seconds after which one that was refused may try again.
TRY_AGAIN_AFTER = 10


class TooManyStreams(Exception):
    """The detail says of whom."""


def line(event: str, data: str, number: int | None = None) -> bytes:
    """One event as bytes."""
    name = None if number is None else str(number)
    return ServerSentEvent(data, event=event, id=name, sep="\n").encode()


class Connection:
    """One open stream. `position` is the number of the last change that it was given."""

    def __init__(self, connections: Connections, token: InboxToken, position: int) -> None:
        self.connections = connections
        self.token = token
        self.key: InboxKey = (token.recipient_id, token.live)
        self.position = position
        #: It waits for what comes next, and has nothing left to send.
        self.is_idle = False
        #: Its inbox may have moved on.
        self.is_behind = True
        self.ended_by = ""
        self._given: asyncio.Queue[bytes] = asyncio.Queue()

    def give(self, lines: bytes, position: int) -> None:
        """What came next, up to the number `position`. After an `end`, nothing comes."""
        if self.ended_by:
            return
        self.position = position
        self.connections.is_busy(self)
        self._given.put_nowait(lines)

    def end(self, code: str, detail: str) -> None:
        """Say why, and close it, once what it was given has been sent."""
        if not self.ended_by:
            self.ended_by = code
            self._given.put_nowait(line("end", f'{{"code": "{code}", "detail": "{detail}"}}'))

    async def lines(self) -> AsyncIterator[bytes]:
        """What to send, as it comes; ends with an `end` event, or with the client."""
        yield f"retry: {uniform(*COME_BACK_AFTER) * 1000:.0f}\n\n".encode()  # noqa: S311  (no secret)
        try:
            while True:
                if self._given.empty():
                    self.connections.is_ready(self)
                given = await self._given.get()
                for start in range(0, len(given), PIECE):
                    yield given[start : start + PIECE]
                if self.ended_by and self._given.empty():
                    return
        finally:
            self.connections.remove(self)


class Connections:
    """All of this process, by inbox."""

    def __init__(self) -> None:
        self._of_inbox: dict[InboxKey, set[Connection]] = defaultdict(set)
        self._of_recipient: dict[int, int] = defaultdict(int)
        self._behind: set[Connection] = set()
        self._some_are_behind = asyncio.Event()
        self.count = 0
        self._said_goodbye = False

    def all(self) -> list[Connection]:
        return [connection for group in self._of_inbox.values() for connection in group]

    def keys(self) -> list[InboxKey]:
        return list(self._of_inbox)

    def refuse_one_too_many(self, recipient_id: int | None = None) -> None:
        """Raises TooManyStreams."""
        if self.count >= settings.STREAM_CONNECTIONS:
            raise TooManyStreams("This process has as many open streams as it may have.")
        if recipient_id and (
            self._of_recipient.get(recipient_id, 0) >= settings.STREAM_CONNECTIONS_PER_USER
        ):
            raise TooManyStreams("This user has as many open streams as one may have.")

    def add(self, token: InboxToken, position: int) -> Connection:
        """Raises TooManyStreams."""
        self.refuse_one_too_many(token.recipient_id)
        connection = Connection(self, token, position)
        self._of_inbox[connection.key].add(connection)
        self._of_recipient[token.recipient_id] += 1
        self.count += 1
        if self._said_goodbye:
            _say_goodbye(connection)
        return connection

    def say_goodbye(self) -> None:
        """End all, and at once who is being admitted at this moment: one that went on would hold up the process's end."""
        self._said_goodbye = True
        for connection in self.all():
            _say_goodbye(connection)

    def remove(self, connection: Connection) -> None:
        group = self._of_inbox.get(connection.key)
        if group is None or connection not in group:
            return
        group.discard(connection)
        if not group:
            del self._of_inbox[connection.key]
        recipient_id = connection.token.recipient_id
        self._of_recipient[recipient_id] -= 1
        if not self._of_recipient[recipient_id]:
            del self._of_recipient[recipient_id]
        self._behind.discard(connection)
        self.count -= 1

    def moved(self, keys: Iterable[InboxKey]) -> None:
        """These inboxes have changed, as it seems."""
        for key in keys:
            for connection in self._of_inbox.get(key, ()):
                self.is_behind(connection)

    def moved_to(self, positions: dict[InboxKey, int]) -> None:
        """This is where the inboxes are. One that never changed is not among them."""
        for key, group in self._of_inbox.items():
            position = positions.get(key, 0)
            for connection in group:
                if connection.position != position:
                    self.is_behind(connection)

    def is_behind(self, connection: Connection) -> None:
        connection.is_behind = True
        self._enlist(connection)

    def is_busy(self, connection: Connection) -> None:
        """It has something to send: also if its inbox moved on while one looked, it is given nothing more until then."""
        connection.is_idle = False
        self._behind.discard(connection)

    def is_ready(self, connection: Connection) -> None:
        """It has sent what it was given."""
        connection.is_idle = True
        self._enlist(connection)

    def _enlist(self, connection: Connection) -> None:
        if connection.is_idle and connection.is_behind:
            self._behind.add(connection)
            self._some_are_behind.set()

    async def those_behind(self) -> list[Connection]:
        """All that are behind and ready for more, as soon as there is one. From then on they are not."""
        while not self._behind:
            self._some_are_behind.clear()
            await self._some_are_behind.wait()
        behind, self._behind = list(self._behind), set()
        for connection in behind:
            connection.is_behind = False
        return behind


def _say_goodbye(connection: Connection) -> None:
    connection.end("shutting_down", "The service starts anew. Come back in a moment.")
