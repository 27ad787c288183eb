"""Redis for what may be done without: it has so long for an answer, and is asked once."""

from __future__ import annotations

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry


def impatient_redis(seconds: float) -> redis.Redis:
    """A client of REDIS_URL. Its calls raise redis.RedisError after so many seconds, instead of trying again."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
    )
