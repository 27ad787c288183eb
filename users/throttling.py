"""A rate limit for each API key: a token bucket in Redis, moved by one script and so atomic.

While a bucket is more than half full, a process takes what flows into it in `HELD` seconds at once, and asks again
when that is spent or as old; what is left over goes back. So the limit is exact to the tenth of a second, and near
its end, where each token is asked for, exact.

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
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from users.authentication import Caller
from users.impatient_redis import impatient_redis
from users.inbox_tokens import InboxToken

log = structlog.get_logger(__name__)

#: Seconds Redis has for an answer.
REDIS_DEADLINE = 0.25
#: Seconds without a try after Redis did not answer.
REDIS_REST = 5.0

#: Seconds for which a process may spend tokens that it has taken.
HELD = 0.1
#: Buckets of which a process holds something, at most.
MOST_HANDFULS = 10_000

# KEYS[1] the bucket; ARGV: capacity, seconds to fill it, tokens given back, tokens wanted at once, tokens needed.
# Returns {tokens taken, tokens left}: what was wanted, or what is needed where less than half is left, or none.
# Time is Redis's own, so that all web processes agree.
_TAKE = """
local capacity, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local back, wanted, needed = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(bucket[1]) or capacity
local at = tonumber(bucket[2]) or now
tokens = math.min(capacity, tokens + back + math.max(0, now - at) * capacity / window)
local taken = tokens > capacity / 2 and tokens >= wanted and wanted or tokens >= needed and needed or 0
tokens = tokens - taken
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil(window))
return {taken, tostring(tokens)}
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


class Handful:
    """What this process has taken out of one key's bucket; `left` is what was in it then."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tokens = 0
        self.left = 0.0
        self.until = 0.0

    def has(self, tokens: int) -> bool:
        return self.tokens >= tokens and time.monotonic() < self.until


class RateLimiter:
    """Takes tokens of a key's bucket."""

    def __init__(self) -> None:
        self._handfuls: dict[int | str, Handful] = {}
        self._rest_until = 0.0
        self._lock = threading.Lock()

    @cached_property
    def _take(self) -> Any:
        return impatient_redis(REDIS_DEADLINE).register_script(_TAKE)

    def take(self, whose: int | str, limit: int, window: int, cost: int = 1) -> Quota | None:
        """What is left after this request, which takes all of its `cost` or nothing; None when Redis cannot be asked.

        `whose` names the bucket: the id of an API key, or `inbox:` and that of a recipient.
        """
        handful = self._handful_of(whose)
        # While one thread asks Redis, the key's others wait for what it gets.
        with handful.lock:
            if not handful.has(cost) and not self._take_more(handful, whose, limit, window, cost):
                return None
            allowed = handful.tokens >= cost
            if allowed:
                handful.tokens -= cost
            left = handful.left + handful.tokens
        return Quota(
            limit=limit,
            window=window,
            remaining=int(left),
            reset=round((limit - left) * window / limit),
            allowed=allowed,
            retry_after=max(0.0, (cost - left) * window / limit),
        )

    def _handful_of(self, whose: int | str) -> Handful:
        """People are many more than keys: what was held for them is given up now and then."""
        if len(self._handfuls) >= MOST_HANDFULS:
            self._handfuls = {}
        return self._handfuls.get(whose) or self._handfuls.setdefault(whose, Handful())

    def _take_more(
        self, handful: Handful, whose: int | str, limit: int, window: int, needed: int
    ) -> bool:
        """Whether Redis has answered."""
        if time.monotonic() < self._rest_until:
            return False
        prefix = settings.REDIS_KEY_PREFIX
        wanted = max(needed, int(limit / window * HELD))
        try:
            taken, left = self._take(
                keys=[f"{prefix}rate:{whose}"],
                args=[limit, window, handful.tokens, wanted, needed],
            )
        except redis.RedisError as error:
            self._rest(error)
            return False
        handful.tokens, handful.left = taken, float(left)
        handful.until = time.monotonic() + HELD
        return True

    def _rest(self, error: Exception) -> None:
        with self._lock:
            if time.monotonic() < self._rest_until:
                return
            self._rest_until = time.monotonic() + REDIS_REST
        log.warning("rate_limit_off", error=type(error).__name__, seconds=REDIS_REST)


limiter = RateLimiter()


def rate_limit(name: str = "RATE_LIMIT") -> tuple[int, int] | None:
    """The setting as (requests, seconds); None when it is off. Raises ValueError."""
    given: str = getattr(settings, name)
    if not given:
        return None
    requests, _, seconds = given.partition("/")
    limit = int(requests), int(seconds)
    if min(limit) < 1:
        raise ValueError(f"{name} must be two positive numbers, not {given!r}")
    return limit


def charge(request: Request, tokens: int) -> None:
    """Take more than the one token that every call costs. More than the whole limit is never asked for.

    Raises Throttled, and then has taken none.
    """
    limit = rate_limit()
    if limit is None or tokens < 1 or limit[0] == 1 or not isinstance(request.user, Caller):
        return
    quota = limiter.take(request.user.key_id, *limit, cost=min(tokens, limit[0] - 1))
    request._request.quota = quota  # type: ignore[attr-defined]
    if quota and not quota.allowed:
        raise Throttled(quota.retry_after)


class ApiKeyThrottle(BaseThrottle):
    """The view puts `request.quota` into the answer's headers (notifications/api/views.py)."""

    setting = "RATE_LIMIT"

    def __init__(self) -> None:
        self._quota: Quota | None = None

    def whose(self, request: Request) -> int | str | None:
        """Which bucket the request takes from; None for one that is not limited."""
        return request.user.key_id if isinstance(request.user, Caller) else None

    def allow_request(self, request: Request, view: Any) -> bool:
        limit, whose = rate_limit(self.setting), self.whose(request)
        if limit is None or whose is None:
            return True
        self._quota = limiter.take(whose, *limit)
        request._request.quota = self._quota  # type: ignore[attr-defined]
        return self._quota is None or self._quota.allowed

    def wait(self) -> float | None:
        return self._quota.retry_after if self._quota else None


def inbox_bucket(recipient_id: int) -> str:
    """Opening a stream takes from it too (notifications/streaming/admission.py)."""
    return f"inbox:{recipient_id}"


class InboxThrottle(ApiKeyThrottle):
    """For the browsers of one person together."""

    setting = "INBOX_RATE_LIMIT"

    def whose(self, request: Request) -> int | str | None:
        token: object = request.user
        return inbox_bucket(token.recipient_id) if isinstance(token, InboxToken) else None
