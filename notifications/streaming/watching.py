"""What keeps the streams of this process alive: Redis says when to look, and a clock says so too.

The database is asked in threads of their own, with Django's connections and their deadline, so that nothing ever holds up
the event loop. While it is away, connections stay open; they are given what they missed when it is back.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

import redis.asyncio
import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone
from redis import RedisError

from notifications import heartbeats
from notifications.inbox.items import states_of
from notifications.inbox.nudging import channel, named_in
from notifications.streaming import feeding
from notifications.streaming.connections import Connection, Connections
from users import inbox_access
from users.inbox_tokens import EXPIRED, REVOKED, InboxToken, TokenRefused

log = structlog.get_logger(__name__)

#: Questions that the database is asked at the same time.
THREADS = 4
#: Seconds between two tries while the database or Redis is away.
AWAY_WAIT = 1.0
#: Seconds after which a silent Redis is asked whether it is still there.
REDIS_SILENCE = 5.0
#: Seconds between two signs of life.
BEAT_EVERY = 5.0

Answer = TypeVar("Answer")
DATABASE_ERRORS = (DatabaseError, InterfaceError)


class Watcher:
    """Runs as long as the process does."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.name = f"stream@{socket.gethostname()}:{os.getpid()}"
        self._threads = ThreadPoolExecutor(THREADS, "database")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        # Preflights, which must not wait, are answered by what is known.
        await self.ask(inbox_access.origins.of_projects)
        runs = (self._listen, self._look, self._feed, self._beat)
        self._tasks = [asyncio.create_task(self._for_ever(run)) for run in runs]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self.ask(heartbeats.forget, self.name)
        except DATABASE_ERRORS:
            log.warning("goodbye_failed")
        self._threads.shutdown(wait=False)

    async def ask(self, question: Callable[..., Answer], *about: Any) -> Answer:
        """The answer of a function that asks the database. Raises what it raises."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _asked, question, *about)

    async def _for_ever(self, run: Callable[[], Any]) -> None:
        """One trouble, one line; then on."""
        while True:
            try:
                await run()
            except (*DATABASE_ERRORS, RedisError, OSError) as error:
                log.warning("stream_trouble", of=run.__name__, error=type(error).__name__)
                await asyncio.sleep(AWAY_WAIT)
            except Exception:
                log.exception("stream_fault", of=run.__name__)
                await asyncio.sleep(AWAY_WAIT)

    # -- when to look -----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Until Redis goes away. What was missed meanwhile, the clock finds."""
        async with redis.asyncio.from_url(settings.REDIS_URL) as client, client.pubsub() as pubsub:
            await pubsub.subscribe(channel())
            was_asked = False
            while True:
                message = await pubsub.get_message(timeout=REDIS_SILENCE)
                if message is None:
                    if was_asked:
                        raise ConnectionError("Redis does not answer")
                    await asyncio.wait_for(pubsub.ping(), REDIS_SILENCE)
                elif message["type"] == "message":
                    self.connections.moved(named_in(message["data"].decode()))
                was_asked = message is None

    async def _look(self) -> None:
        """Once: where all inboxes are, and which tokens hold."""
        await asyncio.sleep(settings.STREAM_LOOK_EVERY)
        open_ones = self.connections.all()
        tokens = list({connection.token for connection in open_ones})
        states, holding = await self.ask(_where_they_are, self.connections.keys(), tokens)
        self.connections.moved_to({key: state.position for key, state in states.items()})
        now = timezone.now()
        for connection in open_ones:
            if refusal := _refusal(connection.token, holding, now):
                connection.end(refusal.code, refusal.detail)

    async def _beat(self) -> None:
        await self.ask(heartbeats.beat, self.name, "stream")
        await asyncio.sleep(BEAT_EVERY)

    # -- what to give -----------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Once: all that are behind and ready for more."""
        behind = await self.connections.those_behind()
        try:
            await self._feed_all(behind)
        except BaseException:
            for connection in behind:
                self.connections.is_behind(connection)
            raise

    async def _feed_all(self, behind: Sequence[Connection]) -> None:
        places = {(connection.key, connection.position) for connection in behind}
        feeding.feed(behind, *await self.ask(feeding.look, places))


def _asked(question: Callable[..., Answer], *about: Any) -> Answer:
    close_old_connections()
    return question(*about)


def _where_they_are(keys: Sequence[Any], tokens: Sequence[InboxToken]) -> tuple[Any, Any]:
    inbox_access.origins.of_projects()
    return states_of(keys), inbox_access.holding(tokens)


def _refusal(token: InboxToken, holding: set[InboxToken], now: datetime) -> TokenRefused | None:
    if token.expires_at <= now:
        return EXPIRED
    return None if token in holding else REVOKED
