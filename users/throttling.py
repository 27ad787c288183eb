"""A rate limit for each API key: a token bucket in Redis, moved by one script and so atomic.

It protects the service, not a secret, so it lets requests through when Redis is away: short time-outs, no
retries, and after a failure no further try for a moment, so that a frozen Redis costs one request its time-out
and not every one.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from users.authentication import Caller

log = structlog.get_logger(__name__)

#: Seconds Redis has for an answer.
REDIS_DEADLINE = 0.25
#: Seconds without a try after Redis did not answer.
REDIS_REST = 5.0

# KEYS[1] the bucket; ARGV: capacity, seconds to fill it. Returns {allowed, tokens left}.
# Time is Redis's own, so that all web processes agree.
_TAKE = """
local capacity, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(bucket[1]) or capacity
local at = tonumber(bucket[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * capacity / window)
local allowed = tokens >= 1 and 1 or 0
tokens = tokens - allowed
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(window))
return {allowed, tostring(tokens)}
"""


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left to a key: of `limit` requests per `window` seconds, `remaining`, full in `reset` seconds."""

    limit: int
    window: int
    remaining: int
    reset: int
    allowed: bool
    retry_after: float

    def headers(self) -> dict[str, str]:
        """RateLimit fields as in draft-ietf-httpapi-ratelimit-headers-10."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window}',
            "RateLimit": f'"default";r={self.remaining};t={self.reset}',
        }


class RateLimiter:
    """Takes one token of a key's bucket."""

    def __init__(self) -> None:
        self._rest_until = 0.0
        self._lock = threading.Lock()

    @cached_property
    def _take(self) -> Any:
        client = redis.Redis.from_url(
            settings.REDIS_URL,
            socket_timeout=REDIS_DEADLINE,
            socket_connect_timeout=REDIS_DEADLINE,
            retry=Retry(NoBackoff(), 0),
        )
        return client.register_script(_TAKE)

    def take(self, key_id: int, limit: int, window: int) -> Quota | None:
        """What is left after this request; None when Redis cannot be asked."""
        if time.monotonic() < self._rest_until:
            return None
        prefix = settings.REDIS_KEY_PREFIX
        try:
            allowed, tokens = self._take(keys=[f"{prefix}rate:{key_id}"], args=[limit, window])
        except redis.RedisError as error:
            self._rest(error)
            return None
        left = float(tokens)
        return Quota(
            limit=limit,
            window=window,
            remaining=int(left),
            reset=round((limit - left) * window / limit),
            allowed=bool(allowed),
            retry_after=max(0.0, (1 - left) * window / limit),
        )

    def _rest(self, error: Exception) -> None:
        with self._lock:
            if time.monotonic() < self._rest_until:
                return
            self._rest_until = time.monotonic() + REDIS_REST
        log.warning("rate_limit_off", error=type(error).__name__, seconds=REDIS_REST)


limiter = RateLimiter()


def rate_limit() -> tuple[int, int] | None:
    """`RATE_LIMIT` as (requests, seconds); None when it is off. Raises ValueError."""
    if not settings.RATE_LIMIT:
        return None
    requests, _, seconds = settings.RATE_LIMIT.partition("/")
    limit = int(requests), int(seconds)
    if min(limit) < 1:
        raise ValueError(f"RATE_LIMIT must be two positive numbers, not {settings.RATE_LIMIT!r}")
    return limit


class ApiKeyThrottle(BaseThrottle):
    """The view puts `request.quota` into the answer's headers (notifications/api/views.py)."""

    def __init__(self) -> None:
        self._quota: Quota | None = None

    def allow_request(self, request: Request, view: Any) -> bool:
        limit = rate_limit()
        if limit is None or not isinstance(request.user, Caller):
            return True
        self._quota = limiter.take(request.user.key_id, *limit)
        request._request.quota = self._quota  # type: ignore[attr-defined]
        return self._quota is None or self._quota.allowed

    def wait(self) -> float | None:
        return self._quota.retry_after if self._quota else None
