"""Webhooks of django-anymail's vendors: verified and translated by anymail, and by what it leaves out.

anymail checks each vendor's signature, or HTTP basic auth (WEBHOOK_SECRET) where the vendor has none. It checks neither
how old Mailgun's signature is nor whether it was used before, and takes anything where no secret is set; we do not.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from anymail import webhooks
from anymail.exceptions import (
    AnymailConfigurationError,
    AnymailWebhookValidationFailure,
)
from anymail.signals import AnymailTrackingEvent
from anymail.webhooks.base import AnymailBaseWebhookView
from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string

from notifications.providers.events import Event, EventType, Forged, NoWebhooks, RejectReason, Told

log = structlog.get_logger(__name__)

#: Seconds by which the time of a Mailgun signature may differ from ours.
#: https://documentation.mailgun.com/docs/mailgun/user-manual/events/webhooks#securing-webhooks
LONGEST_AGE = 300.0

#: anymail's names of the views that are not `<Vendor>TrackingWebhookView`.
_COMBINED = {"mandrill": "MandrillCombinedWebhookView"}

#: Where a vendor says more precisely than anymail what became of it: the word's place in the event, and our reasons.
#: anymail takes some soft bounces for hard ones, and these must not suppress anybody.
_REASONS: dict[str, tuple[tuple[str, ...], dict[str, RejectReason]]] = {
    # https://documentation.mailgun.com/docs/mailgun/user-manual/events/events (event-data.reason)
    "mailgun": (
        ("event-data", "reason"),
        {
            "bounce": RejectReason.BOUNCED,
            "suppress-bounce": RejectReason.BOUNCED,
            "suppress-complaint": RejectReason.SPAM,
            "suppress-unsubscribe": RejectReason.UNSUBSCRIBED,
            "espblock": RejectReason.BLOCKED,
            "old": RejectReason.TIMED_OUT,
            "generic": RejectReason.OTHER,
        },
    ),
    # https://developers.brevo.com/docs/transactional-webhooks
    "brevo": (("event",), {"soft_bounce": RejectReason.OTHER}),
    # https://postmarkapp.com/developer/api/bounce-api#bounce-types
    "postmark": (("Type",), {"SoftBounce": RejectReason.OTHER}),
    # https://support.sparkpost.com/docs/deliverability/bounce-classification-codes: hard are 10, 30 and 90
    "sparkpost": (
        ("msys", "message_event", "bounce_class"),
        dict.fromkeys(("20", "21", "22", "23", "40", "70"), RejectReason.OTHER),
    ),
    # https://dev.mailjet.com/email/guides/webhooks/#bounce-event
    "mailjet": (("hard_bounce",), {"False": RejectReason.OTHER}),
    # https://mailchimp.com/developer/transactional/docs/webhooks/
    "mandrill": (("event",), {"hard_bounce": RejectReason.BOUNCED}),
    # https://developers.mailersend.com/api/v1/webhooks.html
    "mailersend": (
        ("type",),
        {
            "activity.hard_bounced": RejectReason.BOUNCED,
            "activity.soft_bounced": RejectReason.OTHER,
        },
    ),
}


_EVENT_TYPES, _REJECT_REASONS = frozenset(EventType), frozenset(RejectReason)
#: Where anymail's views keep what they verify signatures by.
_KEYS = ("webhook_signing_key", "webhook_key", "signing_secret", "tracking_secret", "api_key_bytes")


class Webhooks:
    """One vendor's, for the whole process."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor
        self._views: list[AnymailBaseWebhookView] = []

    def read(self, request: HttpRequest) -> Told:
        """Raises Forged, or NoWebhooks where anymail knows none of this vendor."""
        view = self._verified(request)
        token = _fresh_mailgun_token(request) if self.vendor == "mailgun" else ""
        return Told(events=self._events(view, request), token=token)

    def _verified(self, request: HttpRequest) -> AnymailBaseWebhookView:
        """The view whose secret is right: several are, while one takes the other's place."""
        if not self._views:
            self._views = _views_of(self.vendor)
        for view in self._views:
            with suppress(AnymailWebhookValidationFailure):
                try:
                    view.run_validators(request)
                except AnymailConfigurationError as error:
                    raise _without_secret(error) from error
                except (AttributeError, LookupError, TypeError, ValueError) as error:
                    # Whatever verifying trips over was not made by the vendor.
                    raise Forged(f"not the vendor's form: {type(error).__name__}") from error
                return view
        raise Forged("the signature or the secret is not right")

    def _events(self, view: AnymailBaseWebhookView, request: HttpRequest) -> tuple[Event, ...]:
        try:
            return tuple(self._event(told) for told in view.parse_events(request))
        except Exception:
            # The vendor has changed its form. Kept as it came, so that nothing is lost meanwhile.
            log.exception("webhook_not_understood", vendor=self.vendor)
            return (_not_understood(request.body),)

    def _event(self, told: AnymailTrackingEvent) -> Event:
        raw = _as_dict(told.esp_event)
        return Event(
            event_id=_event_id(self.vendor, told, raw),
            event=_event_type(told.event_type),
            occurred_at=told.timestamp,
            notification_id=_our_id(told),
            provider_message_id=str(told.message_id or ""),
            reject_reason=_reject_reason(self.vendor, told, raw),
            detail=str(told.mta_response or told.description or ""),
            raw=_as_json(raw),
        )


def _views_of(vendor: str) -> list[AnymailBaseWebhookView]:
    """One for each secret that counts. Raises Forged where there is none: nobody could tell who calls."""
    prefix = f"{webhooks.__name__}.{vendor}"
    name = _COMBINED.get(vendor) or _class_name(prefix)
    view_class = import_string(f"{prefix}.{name}")
    try:
        return [_secured(view_class, secret) for secret in _secrets_of(vendor)]
    except AnymailConfigurationError as error:
        raise _without_secret(error) from error


def _secured(
    view_class: type[AnymailBaseWebhookView], secret: dict[str, str]
) -> AnymailBaseWebhookView:
    """Raises Forged where neither a signature nor basic auth protects it: anymail would warn, and take everything."""
    basic_auth = _basic_auth()
    view = view_class(**secret, webhook_secret=basic_auth or "none is set")
    # An unset variable reaches anymail as an empty key, with which anybody could sign.
    if any(getattr(view, name, None) in ("", b"") for name in _KEYS):
        raise Forged("no secret is configured: the key is empty")
    if not basic_auth and view.warn_if_no_basic_auth:
        raise Forged("no secret is configured: set WEBHOOK_SECRET")
    view.basic_auth = basic_auth
    return view


def _basic_auth() -> list[str]:
    given = settings.ANYMAIL.get("WEBHOOK_SECRET") or []
    return [secret for secret in ([given] if isinstance(given, str) else given) if secret]


def _without_secret(error: AnymailConfigurationError) -> Forged:
    return Forged(f"no secret is configured: {str(error).partition(chr(10))[0]}")


def _class_name(module: str) -> str:
    try:
        names = vars(__import__(module, fromlist=["*"]))
    except ImportError as error:
        raise NoWebhooks(module) from error
    return next(name for name in names if name.endswith("TrackingWebhookView"))


def _secrets_of(vendor: str) -> list[dict[str, str]]:
    """What differs between the views of a vendor: the signing key, of which Mailgun's alone may be several."""
    if vendor == "mailgun" and settings.MAILGUN_WEBHOOK_SIGNING_KEY:
        return [{"webhook_signing_key": key} for key in settings.MAILGUN_WEBHOOK_SIGNING_KEY]
    if vendor == "mandrill" and settings.PUBLIC_URL:
        # It signs the address that it calls, which a proxy may hide from us.
        return [{"webhook_url": f"{settings.PUBLIC_URL}/hooks/mandrill"}]
    return [{}]


def _fresh_mailgun_token(request: HttpRequest) -> str:
    """The signature covers a time and a token, and nothing of the event: neither may be used twice.

    Raises Forged where the time is not now.
    """
    if request.content_type == "application/json":
        signed = json.loads(request.body)["signature"]
    else:
        signed = request.POST
    try:
        age = abs(time.time() - float(signed["timestamp"]))
    except ValueError as error:
        raise Forged("its time is no number") from error
    if not age <= LONGEST_AGE:
        raise Forged(f"its signature is {age:.0f} s away from now")
    return str(signed["token"])


def _event_id(vendor: str, told: AnymailTrackingEvent, raw: dict[str, Any]) -> str:
    """The same each time the event is told."""
    if vendor == "mailgun" and "event-data" in raw:
        # Its own id is unique within a day only; the token, which anymail takes, differs when it is told again.
        data = raw["event-data"]
        return f"{data.get('timestamp')}:{data.get('id') or _digest(data)}"
    return str(told.event_id or _digest(raw))


def _event_type(word: str | None) -> EventType:
    return EventType(word) if word in _EVENT_TYPES else EventType.UNKNOWN


def _our_id(told: AnymailTrackingEvent) -> UUID | None:
    """From the metadata that it was sent with; else from the Message-ID, where the vendor has left us ours."""
    metadata = told.metadata if isinstance(told.metadata, dict) else {}
    named = (
        metadata.get("notification_id") or str(told.message_id or "").strip("<>").partition("@")[0]
    )
    try:
        return UUID(str(named))
    except ValueError:
        return None


def _reject_reason(
    vendor: str, told: AnymailTrackingEvent, raw: dict[str, Any]
) -> RejectReason | None:
    if vendor in _REASONS:
        place, table = _REASONS[vendor]
        word: Any = raw
        for name in place:
            word = word.get(name) if isinstance(word, dict) else None
        if str(word) in table:
            return table[str(word)]
    if told.reject_reason is None:
        return None
    known = told.reject_reason in _REJECT_REASONS
    return RejectReason(told.reject_reason) if known else RejectReason.OTHER


def _not_understood(body: bytes) -> Event:
    raw = body.decode(errors="replace")
    return Event(event_id=_digest(raw), event=EventType.UNKNOWN, raw=raw)


def _as_dict(esp_event: Any) -> dict[str, Any]:
    if hasattr(esp_event, "lists"):  # a form
        return {
            name: values if len(values) > 1 else values[0] for name, values in esp_event.lists()
        }
    return esp_event if isinstance(esp_event, dict) else {"event": esp_event}


def _as_json(raw: Any) -> str:
    return json.dumps(raw, default=str, sort_keys=True)


def _digest(raw: Any) -> str:
    return hashlib.sha256(_as_json(raw).encode()).hexdigest()
