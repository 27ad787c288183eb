"""Which vendor carries a channel, and what is wrong with the settings that say so. No I/O.

A vendor is switched on by its own settings: `EMAIL_URL`, `MAILGUN_API_KEY` with `MAILGUN_DOMAIN`,
`TWILIO_ACCOUNT_SID` with `TWILIO_AUTH_TOKEN` and `TWILIO_FROM`, `TELNYX_API_KEY` with `TELNYX_FROM`.
`EMAIL_PROVIDER` and `SMS_PROVIDER` choose where two are on; the former may name another vendor of
django-anymail, whose settings are in `ANYMAIL`. Where the settings do not say exactly one, none is taken:
a wrong guess would send from the wrong place.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from pkgutil import iter_modules
from typing import NamedTuple

from django.conf import settings

#: The settings that switch a vendor on, by channel and vendor. All of a vendor's are needed.
SWITCHES: dict[str, dict[str, tuple[str, ...]]] = {
    "email": {"smtp": ("EMAIL_URL",), "mailgun": ("MAILGUN_API_KEY", "MAILGUN_DOMAIN")},
    "sms": {
        "twilio": ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM"),
        "telnyx": ("TELNYX_API_KEY", "TELNYX_FROM"),
    },
}
_EMAIL_SCHEMES = {"smtp", "smtp+tls", "smtp+ssl"}
_CHOOSERS = {"email": "EMAIL_PROVIDER", "sms": "SMS_PROVIDER"}

#: Modules of anymail.backends that are no vendor, and Amazon SES: that one goes through boto3, which
#: repeats a send by itself and takes no deadline. SES speaks SMTP too, so EMAIL_URL reaches it.
_NO_VENDORS = {"base", "base_requests", "console", "test", "amazon_ses"}


class Problem(NamedTuple):
    id: str
    message: str
    hint: str


def vendor_of(channel: str) -> str | None:
    """The vendor that carries the live messages of a channel; None where none is configured."""
    if channel == "in_app":
        return "inbox"
    switched_on = _switched_on(channel)
    chosen = _chosen(channel)
    if not chosen:
        return switched_on[0] if len(switched_on) == 1 else None
    has_switches = chosen in SWITCHES[channel]
    usable = chosen in (switched_on if has_switches else _vendors(channel))
    return chosen if usable else None


@cache
def anymail_vendors() -> frozenset[str]:
    """The vendors that django-anymail knows, by its module names."""
    from anymail import backends

    return frozenset(module.name for module in iter_modules(backends.__path__)) - _NO_VENDORS


def problems() -> Iterator[Problem]:
    """What the operator has to put right before live messages can go out."""
    for channel in SWITCHES:
        yield from _half_configured(channel)
        yield from _undecided(channel)
        yield from _wrongly_chosen(channel)
    yield from _unclear_email_url(settings.EMAIL_URL)
    yield from _unreadable_telnyx_keys(settings.TELNYX_PUBLIC_KEY)


def _unclear_email_url(url: str) -> Iterator[Problem]:
    """django-environ takes `smtps` for STARTTLS and drops a query such as `?tls=true` without a word."""
    if not url or (url.partition("://")[0] in _EMAIL_SCHEMES and "?" not in url):
        return
    yield Problem(
        "notifications.E004",
        "EMAIL_URL does not say clearly how to reach an SMTP server.",
        "Use smtp:// (no TLS), smtp+tls:// (STARTTLS) or smtp+ssl:// (TLS from the start), without "
        "anything behind a '?', as in smtp+tls://user:password@mail.example.com:587.",
    )


def _unreadable_telnyx_keys(keys: list[str]) -> Iterator[Problem]:
    """By one of them no webhook would ever be proved."""
    for key in keys:
        if not _is_ed25519_key(key):
            yield Problem(
                "notifications.E019",
                f"TELNYX_PUBLIC_KEY has {key[:8]!r}..., which is no Ed25519 public key.",
                "Copy it from Telnyx's portal (Keys & Credentials, Public Key): 44 characters of base64. Several are "
                "separated by commas.",
            )


def _is_ed25519_key(key: str) -> bool:
    try:
        return len(b64decode(key.strip(), validate=True)) == 32
    except ValueError:
        return False


def _half_configured(channel: str) -> Iterator[Problem]:
    for vendor, names in SWITCHES[channel].items():
        missing = [name for name in names if not getattr(settings, name)]
        if 0 < len(missing) < len(names):
            given = [name for name in names if name not in missing]
            yield Problem(
                "notifications.E001",
                f"{vendor} is only half configured: {_list(missing)} not set.",
                f"Set {_list(missing)} too, or unset {_list(given)}.",
            )


def _undecided(channel: str) -> Iterator[Problem]:
    switched_on = _switched_on(channel)
    if len(switched_on) > 1 and not _chosen(channel):
        yield Problem(
            "notifications.E002",
            f"Two vendors are configured for {channel}: {_list(switched_on)}.",
            f"Say which one carries it: {_CHOOSERS[channel]}={switched_on[0]}, for one.",
        )


def _wrongly_chosen(channel: str) -> Iterator[Problem]:
    chosen, chooser = _chosen(channel), _CHOOSERS[channel]
    if chosen and chosen not in _vendors(channel):
        yield Problem(
            "notifications.E003",
            f"{chooser} is {chosen!r}, which is no vendor of {channel}.",
            f"It can be {_list(sorted(_vendors(channel)))}.",
        )
    elif chosen and vendor_of(channel) is None:
        yield Problem(
            "notifications.E003",
            f"{chooser} is {chosen!r}, which is not configured.",
            f"Set {_list(SWITCHES[channel][chosen])}, or unset {chooser}.",
        )
    elif chosen in anymail_vendors():
        yield from _refused_by_anymail(chosen)


def _refused_by_anymail(vendor: str) -> Iterator[Problem]:
    from anymail.exceptions import AnymailConfigurationError

    from notifications.providers.anymail import make_backend

    try:
        make_backend(vendor)
    except AnymailConfigurationError as error:
        yield Problem(
            "notifications.E005",
            f"{vendor} is not configured: {str(error).partition(chr(10))[0]}",
            f"See https://anymail.dev/en/stable/esps/{vendor}/; anymail's settings go into ANYMAIL, "
            "as one line of JSON.",
        )


def _chosen(channel: str) -> str:
    return str(getattr(settings, _CHOOSERS[channel]))


def _switched_on(channel: str) -> list[str]:
    return [
        vendor
        for vendor, names in SWITCHES[channel].items()
        if all(getattr(settings, name) for name in names)
    ]


def _vendors(channel: str) -> frozenset[str]:
    own = frozenset(SWITCHES[channel])
    return own | anymail_vendors() if channel == "email" else own


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)
