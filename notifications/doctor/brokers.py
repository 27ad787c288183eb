"""The broker of the wake-ups, and the Redis that counts requests. Neither holds anything that may not be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import redis
from django.conf import settings
from kombu import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from notifications.doctor.findings import Finding, error, ok, warning, words

#: Seconds each has for its answer.
DEADLINE = 0.5

_BROKER_ADVICE = (
    "Look whether it runs, and at CELERY_BROKER_URL (or REDIS_URL, which stands for it): host, port, password. "
    "Workers find what is due by themselves meanwhile, every few seconds."
)
_COUNTERS_ADVICE = "Look whether it runs, and at REDIS_URL: host, port, password. Requests are not limited meanwhile."


def examine() -> Iterator[Finding]:
    """Both asked once; where they are one, as they are by default, one question is enough."""
    broker = _asked("broker", _ask_broker)
    counters = _asked("counters", _ask_counters) if _are_two() else broker
    yield _of_broker(broker)
    yield _of_counters(counters)


def evicting() -> Iterator[Finding]:
    """A Redis that throws keys away when it is full would throw wake-ups away."""
    with _redis() as client:
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


def _asked(what: str, ask: Callable[[], None]) -> Exception | None:
    """What came of it. Clients raise all kinds of errors, OSError and KeyError among them."""
    try:
        ask()
    except Exception as failure:
        return failure
    return None


def _ask_broker() -> None:
    if not _are_two():
        _ask_counters()
        return
    url = settings.CELERY_BROKER_URL
    options = {"socket_timeout": DEADLINE, "socket_connect_timeout": DEADLINE}
    of_redis = url.startswith("redis")
    if "://" not in url:
        raise ValueError("no URL")  # Kombu would take it for a host.
    with Connection(
        url,
        ssl=settings.CELERY_BROKER_USE_SSL,
        connect_timeout=DEADLINE,
        transport_options=options if of_redis else {},
    ) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)


def _ask_counters() -> None:
    with _redis() as client:
        client.ping()


def _redis() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=DEADLINE,
        socket_connect_timeout=DEADLINE,
        retry=Retry(NoBackoff(), 0),
    )


def _are_two() -> bool:
    """Whether the broker is another server than REDIS_URL's. Celery spells a UNIX socket in another way."""
    broker = settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://")
    return bool(broker.replace("?virtual_host=", "?db=") != settings.REDIS_URL)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}{at}{host}", query="").geturl()
