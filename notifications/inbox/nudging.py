"""Tell the stream processes that inboxes have changed, without ever failing or holding up the caller.

As with a lane's wake-up, it is a hint and no more: what is sent comes from PostgreSQL, and a stream looks by itself
every few seconds. One message names many inboxes, so a burst costs little.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import redis
from django.conf import settings

from notifications.waking import Waker
from users.impatient_redis import impatient_redis

#: Seconds Redis has for an answer.
REDIS_DEADLINE = 1.0

#: A recipient's id, and whether it is the inbox of live keys.
InboxKey = tuple[int, bool]


def channel() -> str:
    """Where it is published."""
    return f"{settings.REDIS_KEY_PREFIX}inbox"


def nudge(inboxes: Iterable[InboxKey]) -> None:
    """Mark the inboxes as changed, and return at once. Call it after the commit."""
    for recipient_id, live in inboxes:
        _nudger.mark(f"{recipient_id}:{int(live)}")


def named_in(message: str) -> list[InboxKey]:
    """The inboxes that a published message names; what is not one of ours is left out."""
    names = [name.partition(":") for name in message.split(",")]
    return [
        (int(recipient_id), live == "1")
        for recipient_id, _, live in names
        if recipient_id.isdecimal()
    ]


def publish(names: set[str]) -> None:
    """Raises redis.RedisError."""
    _client().publish(channel(), ",".join(names))


@cache
def _client() -> redis.Redis:
    return impatient_redis(REDIS_DEADLINE)


_nudger = Waker(publish)
