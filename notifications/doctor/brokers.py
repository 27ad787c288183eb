"""The broker of the wake-ups, and the Redis that counts requests. Neither holds anything that may not be lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from django.conf import settings
from kombu import Connection

from notifications.doctor.findings import Finding, error, ok, warning, words
from notifyproj import broker
from users.impatient_redis import impatient_redis

#: Seconds each has for its answer.
DEADLINE = 3.0

_BROKER_ADVICE = (
    "Look whether it runs, and at CELERY_BROKER_URL (or REDIS_URL, which stands for it): host, port, password. "
    "Workers find what is due by themselves meanwhile, every few seconds."
)
_COUNTERS_ADVICE = "Look whether it runs, and at REDIS_URL: host, port, password. Requests are not limited meanwhile."


def examine(deadline: float = DEADLINE) -> Iterator[Finding]:
    """Both asked once; where they are one, as they are by default, one question is enough."""
    counters = _failure(_ask_redis, deadline)
    yield _of_broker(_failure(_ask_broker, deadline) if _are_two() else counters)
    yield _of_counters(counters)


def evicting() -> Iterator[Finding]:
    """A Redis that throws keys away when it is full would throw wake-ups away."""
    with impatient_redis(DEADLINE) as client:
        memory = client.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        yield warning(
            "broker",
            "redis_evicts",
            f"Redis throws keys away when its memory is full ({policy}).",
            "Set maxmemory-policy noeviction: a wake-up thrown away delays delivery by some seconds, a counter "
            "thrown away lifts a rate limit.",
        )


def _of_broker(failure: Exception | None) -> Finding:
    if failure is None:
        return ok("broker", "The broker answers.", _without_password(settings.CELERY_BROKER_URL))
    if isinstance(failure, ValueError | KeyError | ImportError):
        return error(
            "broker",
            "broker_url_wrong",
            "The broker's URL cannot be understood; the workers' sweep delivers without it.",
            "Write CELERY_BROKER_URL as redis://host:6379/0 or amqp://user:password@host:5672/vhost.",
            _without_password(settings.CELERY_BROKER_URL),
        )
    return warning(
        "broker",
        "broker_unreachable",
        "The broker does not answer; the workers' sweep delivers without it, some seconds later.",
        _BROKER_ADVICE,
        f"{_without_password(settings.CELERY_BROKER_URL)}: {words(failure)}",
    )


def _of_counters(failure: Exception | None) -> Finding:
    if failure is None:
        return ok("counters", "Redis answers; requests are counted.")
    return warning(
        "counters",
        "counters_unreachable",
        "Redis does not answer; the rate limit of API keys is off.",
        _COUNTERS_ADVICE,
        f"{_without_password(settings.REDIS_URL)}: {words(failure)}",
    )


def _failure(ask: Callable[[float], None], deadline: float) -> Exception | None:
    """What came of it. Clients raise all kinds of errors, OSError and KeyError among them."""
    try:
        ask(deadline)
    except Exception as failure:
        return failure
    return None


def _ask_broker(deadline: float) -> None:
    url = settings.CELERY_BROKER_URL
    if not set(broker.schemes_of(url)) <= broker.REDIS | broker.RABBITMQ:
        raise ValueError("no broker that we know")
    options = ("read", "write") if broker.is_rabbitmq(url) else ("socket", "socket_connect")
    with Connection(
        url,
        connect_timeout=deadline,
        ssl=settings.CELERY_BROKER_USE_SSL,
        transport_options={f"{name}_timeout": deadline for name in options},
    ) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)


def _ask_redis(deadline: float) -> None:
    with impatient_redis(deadline) as client:
        client.ping()


def _are_two() -> bool:
    """Whether the broker is another server than REDIS_URL's. Celery spells a UNIX socket in another way."""
    url = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://")
    return bool(url.replace("?virtual_host=", "?db=") != settings.REDIS_URL)


def _without_password(url: str) -> str:
    """Of each server, where there are several. A password may hold anything, also what ends one in a URL."""
    return ";".join(re.sub("://.*@", "://...@", server) for server in url.split(";"))
