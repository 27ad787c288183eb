"""System checks: configuration that would keep notifications from going out, each with a hint."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from notifications.providers import configuration
from notifications.providers.base import Misconfigured
from notifications.providers.mail import address_of
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
    """RATE_LIMIT is read with every request; an unreadable one would refuse them all."""
    try:
        rate_limit()
    except ValueError as error:
        hint = "Write requests/seconds, as in 6000/60, or leave it empty for no limit."
        return [Error(f"RATE_LIMIT: {error}", hint=hint, id="notifications.E008")]
    return []


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


_FROM_HINT = (
    "Set DEFAULT_FROM_EMAIL to an address that your e-mail vendor accepts as a sender, as in "
    "'Example <notifications@example.com>'."
)
