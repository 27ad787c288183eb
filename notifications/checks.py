"""System checks: configuration that would keep notifications from going out, each with a hint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from notifications import pace, providers
from notifications.housekeeping import SHORTEST_RETENTION_DAYS
from notifications.providers import configuration
from notifications.providers.base import Misconfigured
from notifications.providers.mail import address_of
from notifyproj import broker
from users.throttling import rate_limit

UNTOUCHED_FROM = "notifications@localhost"


@register()
def vendor_configuration(**kwargs: Any) -> list[CheckMessage]:
    """No vendor, half a vendor or two vendors for a channel."""
    return [
        Error(problem.message, hint=problem.hint, id=problem.id)
        for problem in configuration.problems()
    ]


@register()
def sender(**kwargs: Any) -> list[CheckMessage]:
    """The address that live e-mail comes from. A local one is fine with a mail catcher."""
    if configuration.vendor_of("email") is None:
        return []
    try:
        address = address_of(settings.DEFAULT_FROM_EMAIL)
    except Misconfigured as error:
        return [
            Error(f"DEFAULT_FROM_EMAIL: {error.detail}.", hint=_FROM_HINT, id="notifications.E006")
        ]
    if address != UNTOUCHED_FROM:
        return []
    level = Error if settings.PRODUCTION else Warning
    return [
        level(
            f"DEFAULT_FROM_EMAIL is not set, so e-mail would come from {UNTOUCHED_FROM}.",
            hint=_FROM_HINT,
            id=f"notifications.{'E' if level is Error else 'W'}007",
        )
    ]


@register()
def request_rate(**kwargs: Any) -> list[CheckMessage]:
    """They are read with every request; an unreadable one would refuse them all."""
    found: list[CheckMessage] = []
    hint = "Write requests/seconds, as in 6000/60, or leave it empty for no limit."
    for name in ("RATE_LIMIT", "INBOX_RATE_LIMIT"):
        try:
            rate_limit(name)
        except ValueError as error:
            found.append(Error(f"{name}: {error}", hint=hint, id="notifications.E008"))
    return found


@register()
def stream(**kwargs: Any) -> list[CheckMessage]:
    """Where people's browsers find the inbox's stream, and how many of them may."""
    found: list[CheckMessage] = []
    for name in (
        "STREAM_CONNECTIONS",
        "STREAM_CONNECTIONS_PER_USER",
        "STREAM_LOOK_EVERY",
        "STREAM_PATIENCE",
    ):
        if getattr(settings, name) <= 0:
            problem = f"{name} is {getattr(settings, name):g}."
            found.append(
                Error(problem, hint="It must be more than nothing.", id="notifications.E028")
            )
    if not settings.STREAM_URL:
        return found + ([_NO_STREAM] if settings.PRODUCTION else [])
    parts = urlsplit(settings.STREAM_URL)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        problem = "STREAM_URL cannot be read."
        found.append(Error(problem, hint=_STREAM_HINT, id="notifications.E027"))
    return found


_STREAM_HINT = (
    "Write where browsers find the stream: https://notify.example.com/api/v1/inbox/stream. A proxy passes that path on "
    "to the process `stream`."
)
_NO_STREAM = Warning(
    "STREAM_URL is not set: in-app messages are not pushed to open pages.",
    hint=_STREAM_HINT,
    id="notifications.W029",
)


@register()
def bulk(**kwargs: Any) -> list[CheckMessage]:
    """What a batch may fail and weigh."""
    found: list[CheckMessage] = []
    if not 0 < settings.BATCH_FAILURE_LIMIT <= 1:
        hint = "It is a share of a batch's last 1,000 calls: 0.2 is a fifth, 1 never pauses."
        problem = f"BATCH_FAILURE_LIMIT is {settings.BATCH_FAILURE_LIMIT:g}."
        found.append(Error(problem, hint=hint, id="notifications.E024"))
    if settings.MAX_BATCH_BYTES <= 0:
        hint = "It is the size of an upload in bytes, for example 256000000."
        problem = f"MAX_BATCH_BYTES is {settings.MAX_BATCH_BYTES}."
        found.append(Error(problem, hint=hint, id="notifications.E025"))
    return found


@register()
def provider_rates(**kwargs: Any) -> list[CheckMessage]:
    """An unreadable rate keeps the provider's messages waiting, rather than be none."""
    hint = (
        "Write calls a second for each, as in smtp=100,twilio=10, or leave it empty for no limit."
    )
    try:
        rates = pace.configured_rates()
    except ValueError as error:
        return [Error(f"PROVIDER_RATES: {error}", hint=hint, id="notifications.E022")]
    unknown = sorted(set(rates) - set(providers.paced_names()))
    known = f"There are {', '.join(providers.paced_names())}."
    return [
        Error(
            f"PROVIDER_RATES names {name!r}, which is no provider.",
            hint=known,
            id="notifications.E023",
        )
        for name in unknown
    ]


#: Each of these is a time to wait, in seconds.
WAITS = (
    "SEND_DEADLINE",
    "SEND_LEASE_MARGIN",
    "CLAIM_LEASE",
    "UNKNOWN_REVIEW_AFTER",
    "SWEEP_INTERVAL",
    "CIRCUIT_FIRST_REST",
    "CIRCUIT_LONGEST_REST",
    "STANDSTILL_AFTER",
)


@register()
def waits(**kwargs: Any) -> list[CheckMessage]:
    """Every wait has an end, each inside the next."""
    found: list[CheckMessage] = [
        Error(f"{name} is {getattr(settings, name):g}.", hint=_WAIT_HINT, id="notifications.E011")
        for name in WAITS
        if getattr(settings, name) <= 0
    ]
    call = settings.SEND_DEADLINE + settings.SEND_LEASE_MARGIN
    if max(call, settings.DATABASE_DEADLINE) >= settings.STANDSTILL_AFTER:
        found.append(
            Error(
                "STANDSTILL_AFTER is shorter than one call or one wait for the database may take, so "
                "that workers would end themselves for no reason.",
                hint=f"Set it to more than {max(call, settings.DATABASE_DEADLINE):g} (seconds).",
                id="notifications.E012",
            )
        )
    if settings.CIRCUIT_LONGEST_REST < settings.CIRCUIT_FIRST_REST:
        found.append(
            Error(
                "CIRCUIT_LONGEST_REST is shorter than CIRCUIT_FIRST_REST.",
                hint="The rest of an open circuit grows from the first to the longest.",
                id="notifications.E013",
            )
        )
    return found


@register()
def connections(**kwargs: Any) -> list[CheckMessage]:
    """A worker with no connection would send no mail."""
    if settings.SMTP_MAX_CONNECTIONS > 0:
        return []
    hint = "Servers commonly allow 10 to 50 from one address; all worker processes share these."
    return [Error("SMTP_MAX_CONNECTIONS must be at least 1.", hint=hint, id="notifications.E014")]


@register()
def webhooks(**kwargs: Any) -> list[CheckMessage]:
    """What a vendor reports must reach us, and be known to be the vendor's."""
    found: list[CheckMessage] = []
    url = settings.PUBLIC_URL
    if url and not (url.startswith(("https://", "http://")) and urlsplit(url).hostname):
        hint = "Write it as the vendors call it: https://notify.example.com."
        found.append(Error(f"PUBLIC_URL is {url!r}.", hint=hint, id="notifications.E016"))
    secrets = settings.ANYMAIL.get("WEBHOOK_SECRET") or []
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        user, colon, password = secret.partition(":")
        if not (user and colon and password):
            found.append(
                Error(
                    "WEBHOOK_SECRET is not of the form user:password.",
                    hint=_WEBHOOK_HINT,
                    id="notifications.E017",
                )
            )
    return found + list(_silent_sms())


def _silent_sms() -> Iterator[CheckMessage]:
    """An SMS vendor that is not told where to report, or that would not be believed."""
    vendor = configuration.vendor_of("sms")
    if settings.PRODUCTION and not settings.PUBLIC_URL and vendor:
        yield Warning(
            f"PUBLIC_URL is not set, so {vendor} is not told where to report what becomes of an SMS: it stays `sent`.",
            hint="Set it to the address under which the internet reaches this service.",
            id="notifications.W018",
        )
    if settings.PUBLIC_URL and vendor == "telnyx" and not settings.TELNYX_PUBLIC_KEY:
        yield Warning(
            "TELNYX_PUBLIC_KEY is not set, so whatever Telnyx reports is refused: an SMS stays `sent`.",
            hint="Copy it from Telnyx's portal: Keys & Credentials, Public Key.",
            id="notifications.W021",
        )


@register()
def retention(**kwargs: Any) -> list[CheckMessage]:
    """Nothing may be deleted before its idempotency key is forgotten."""
    if settings.RETENTION_DAYS == 0 or settings.RETENTION_DAYS >= SHORTEST_RETENTION_DAYS:
        return []
    return [
        Error(
            f"RETENTION_DAYS is {settings.RETENTION_DAYS}; nothing is deleted as long as it is.",
            hint=f"Set it to at least {SHORTEST_RETENTION_DAYS}: as long as an idempotency key is remembered, its "
            "notification must be there, or the same request would send again. 0 keeps everything.",
            id="notifications.E020",
        )
    ]


@register()
def broker_url(**kwargs: Any) -> list[CheckMessage]:
    """A broker that Celery cannot use: every wake-up would be lost, and the sweep alone would deliver."""
    schemes = broker.schemes_of(settings.CELERY_BROKER_URL)
    if any(set(schemes) <= family for family in (broker.REDIS, broker.RABBITMQ)):
        return []
    given = " and ".join(scheme or "no scheme" for scheme in sorted(set(schemes)))
    return [
        Error(
            f"CELERY_BROKER_URL (else REDIS_URL) begins with {given}.",
            hint="Write redis://host:6379/0 for Redis, or amqp://user:password@host:5672/vhost for RabbitMQ; "
            "rediss:// and amqps:// with TLS. Several servers, parted by semicolons, are of one kind.",
            id="notifications.E015",
        )
    ]


#: First parts of paths that are the service's own (notifyproj/urls.py).
TAKEN = (
    "api", "batches", "docs", "favicon.ico", "health", "hooks", "livez", "notifications", "readyz", "static", "stats",
    "suppressions", "try", "users",
)  # fmt: skip
_PLAIN_PATH = re.compile(r"([A-Za-z0-9_-]+/)+")


@register()
def admin_path(**kwargs: Any) -> list[CheckMessage]:
    """A console that nobody reaches, or that stands before the API."""
    given = settings.ADMIN_PATH
    if not _PLAIN_PATH.fullmatch(given):
        problem = f"ADMIN_PATH is {given!r}."
        hint = "Write words of letters, digits, _ and - between slashes, and none first: desk/ or staff/desk/."
    elif given.partition("/")[0] in TAKEN:
        problem = f"ADMIN_PATH is {given!r}, where the service's other calls and pages are."
        hint = f"Let it begin otherwise than with {', '.join(TAKEN)}."
    else:
        return []
    return [Error(problem, hint=hint, id="notifications.E026")]


@register(Tags.security)
def debug_in_production(**kwargs: Any) -> list[CheckMessage]:
    if not (settings.PRODUCTION and settings.DEBUG):
        return []
    return [
        Error(
            "DEBUG is on in production: error pages would show settings and content.",
            hint="Unset DEBUG.",
            id="notifications.E010",
        )
    ]


_WAIT_HINT = "It is a number of seconds, and must be more than 0."
_WEBHOOK_HINT = (
    "The vendor calls https://user:password@.../hooks/<vendor>. Several are separated by commas."
)
_FROM_HINT = (
    "Set DEFAULT_FROM_EMAIL to an address that your e-mail vendor accepts as a sender, as in "
    "'Example <notifications@example.com>'."
)
