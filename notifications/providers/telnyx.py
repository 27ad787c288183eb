"""SMS by Telnyx's HTTP API, and its webhooks."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64decode
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.http import HttpRequest

from notifications.providers import http
from notifications.providers.base import (
    Ambiguous,
    Message,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.providers.callbacks import callback_url, notification_of
from notifications.providers.deadline import Deadline
from notifications.providers.events import (
    Event,
    EventType,
    Forged,
    RejectReason,
    Told,
    Unreadable,
)

#: Seconds by which the time of a signature may differ from ours.
#: https://developers.telnyx.com/docs/development/api-fundamentals/webhooks
LONGEST_AGE = 300.0

#: What Telnyx's codes mean. Misconfigured is only what every message would meet; what depends on the recipient, as his
#: country or his STOP, is Permanent. A code that is not here counts by the answer's status.
#: https://developers.telnyx.com/docs/messaging/messages/error-codes
#: https://support.telnyx.com/en/articles/6505121-telnyx-messaging-error-codes
MEANINGS: dict[str, type[ProviderError]] = {
    # Our account and its key
    "10003": Misconfigured,  # our address for webhooks is invalid: PUBLIC_URL
    "10005": Misconfigured,  # nothing is found there: TELNYX_API_URL
    "10006": Misconfigured,  # the id of the messaging profile is invalid
    "10009": Misconfigured,  # authentication failed
    "10010": Misconfigured,  # the key may not send
    "20002": Misconfigured,  # the key was revoked
    "20006": Misconfigured,  # the key has expired
    "20012": Misconfigured,  # account is inactive
    "20013": Misconfigured,  # account is blocked
    "20014": Misconfigured,  # account is not verified
    "20015": Misconfigured,  # SMS is not enabled in the account
    "20016": Misconfigured,  # account is not verified, level 1
    "20017": Misconfigured,  # account is not verified, level 2
    "20100": Misconfigured,  # no money left
    "40314": Misconfigured,  # messaging is disabled in the account
    # Our sender: TELNYX_FROM
    "40013": Misconfigured,  # the sender's number is invalid
    "40100": Misconfigured,  # its messaging is not enabled
    "40150": Misconfigured,  # toll-free, and not in the registry
    "40151": Misconfigured,  # still being enabled with another provider
    "40305": Misconfigured,  # it does not belong to the messaging profile
    "40306": Misconfigured,  # a name as a sender is not set up
    "40312": Misconfigured,  # its messaging profile is disabled
    "40315": Misconfigured,  # its health is bad: too much was taken for spam
    "40320": Misconfigured,  # its purchase is not finished
    "40321": Misconfigured,  # the messaging profile has no number that can send
    "40329": Misconfigured,  # toll-free, and not verified yet
    # Too fast, or too much waits already: not taken, and so safe to repeat
    "10011": Temporary,  # too many requests
    "40318": Temporary,  # too many messages wait
    # This recipient
    "40001": Permanent,  # a landline, or no number that can be reached
    "40010": Permanent,  # his carrier wants a sender that is registered for 10DLC
    "40012": Permanent,  # his carrier knows no such number
    "40300": Permanent,  # the recipient has replied STOP
    "40301": Permanent,  # he cannot get this kind of message
    "40309": Permanent,  # his country is not enabled in the messaging profile
    "40310": Permanent,  # invalid "to"
    "40319": Permanent,  # he cannot get this kind of message from this kind of sender
    # This message
    "40302": Permanent,  # too large: more than 10 parts
    "40316": Permanent,  # no text
    "40322": Permanent,  # its content is not allowed
}

#: Of these, the ones that say that we are too fast.
TOO_FAST = frozenset({"10011", "40318"})

#: What is wrong with the number, for whatever message; by an error's code, in an answer or in a receipt.
#: Only INVALID and UNSUBSCRIBED suppress it. 40012 may also be a recipient without credit.
REJECT_REASONS: dict[str, RejectReason] = {
    "40001": RejectReason.INVALID,  # a landline, or no number that can be reached
    "40002": RejectReason.BLOCKED,  # taken for spam, this time
    "40003": RejectReason.BLOCKED,  # taken for spam, as all from this sender
    "40004": RejectReason.OTHER,  # the carrier does not say
    "40005": RejectReason.TIMED_OUT,  # not delivered before its time was up
    "40006": RejectReason.TIMED_OUT,  # the carrier is down
    "40008": RejectReason.OTHER,  # the carrier does not say
    "40012": RejectReason.OTHER,  # unknown, switched off, or without credit
    "40014": RejectReason.TIMED_OUT,  # waited too long at Telnyx
    "40015": RejectReason.BLOCKED,  # taken for spam by Telnyx
    "40300": RejectReason.UNSUBSCRIBED,  # the recipient has replied STOP
    "40310": RejectReason.INVALID,  # invalid "to"
    "40322": RejectReason.BLOCKED,  # its content is not allowed
}

#: The statuses of an outbound message.
#: https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
EVENTS: dict[str, EventType] = {
    "scheduled": EventType.QUEUED,
    "queued": EventType.QUEUED,
    "sending": EventType.QUEUED,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    # Its carrier has not said so, and never will: as far as anybody knows, it stays sent.
    "delivery_unconfirmed": EventType.SENT,
    "delivery_failed": EventType.BOUNCED,
    "sending_failed": EventType.FAILED,
    "expired": EventType.FAILED,
}
#: Those of an inbound message are the same words, about something else.
_OF_OUTBOUND = {"message.sent", "message.finalized"}


class Telnyx(Provider):
    name = "telnyx"

    def __init__(self) -> None:
        self._kept = _PerThread()

    def send(self, message: Message, deadline: Deadline) -> Sent:
        """https://developers.telnyx.com/docs/messaging/messages/send-message"""
        taken = self._call(
            deadline,
            "POST",
            "messages",
            json={"to": message.to, "text": message.text} | _sender() | _callback(message),
        )
        if not isinstance(message_id := taken.get("id"), str) or not message_id:
            raise Ambiguous("unreadable_answer", "2xx, but no id")
        return Sent(provider_message_id=message_id)

    def verify(self, deadline: Deadline) -> str:
        """Reads the balance: https://developers.telnyx.com/docs/development/api-fundamentals/first-api-request"""
        balance = self._call(deadline, "GET", "balance")
        left = f"{balance.get('available_credit')} {balance.get('currency')}"
        if Decimal(balance.get("available_credit") or 0) <= 0:
            raise Misconfigured("insufficient_funds", f"{left} are left")
        return f"the key is right, and {left} are left"

    def read(self, request: HttpRequest, link: str) -> Told:
        """https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks"""
        _verify(request)
        named = notification_of(link)
        try:
            return Told(events=(_event(request.body, named),))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise Unreadable(f"not the form of an event: {type(error).__name__}") from error

    def close(self) -> None:
        self._kept.session.close()

    def _call(self, deadline: Deadline, method: str, path: str, **request: Any) -> dict[str, Any]:
        """What an accepted call answers. Raises as `send` does."""
        with deadline.enforced():
            try:
                url = f"{settings.TELNYX_API_URL}/{path}"
                response = self._kept.session.request(method, url, **request)
            except requests.RequestException as error:
                raise http.failure(error) from error
        document = _document(response)
        if response.status_code // 100 != 2:
            raise _refusal(response, document)
        if not isinstance(data := document.get("data"), dict):
            raise Ambiguous("unreadable_answer", "2xx, but not Telnyx's form")
        return data


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.session = http.with_deadlines(requests.Session())
        self.session.auth = _authorized


def _authorized(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """As a header of the session, what a ~/.netrc says would take its place."""
    request.headers["Authorization"] = f"Bearer {settings.TELNYX_API_KEY}"
    return request


def _sender() -> dict[str, str]:
    """A number, or a messaging profile that chooses one of its own."""
    try:
        UUID(settings.TELNYX_FROM)
    except ValueError:
        return {"from": settings.TELNYX_FROM}
    return {"messaging_profile_id": settings.TELNYX_FROM}


def _callback(message: Message) -> dict[str, Any]:
    """Where to report, and nowhere else; without our public address, what the messaging profile says."""
    url = callback_url("telnyx", message.notification_id)
    return {"webhook_url": url, "use_profile_webhooks": False} if url else {}


# --- Answers --------------------------------------------------------------------------------------------


def _document(response: requests.Response) -> dict[str, Any]:
    """The answer's JSON; empty where it is not Telnyx's (a proxy's page)."""
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _refusal(response: requests.Response, document: dict[str, Any]) -> ProviderError:
    number, words = _error_in(document)
    code, meaning = f"telnyx_{number}" if number else "", MEANINGS.get(number)
    if meaning is None:
        words = words or response.text
        return http.refusal(response.status_code, words, response.headers, code=code)
    if meaning is Temporary:
        return Temporary(
            code,
            words,
            retry_after=_retry_after(response),
            throttled=number in TOO_FAST or response.status_code == http.TOO_MANY_REQUESTS,
        )
    if meaning is Permanent:
        return Permanent(code, words, reject_reason=_reject_reason(number, words))
    return meaning(code, words)


def _error_in(document: dict[str, Any]) -> tuple[str, str]:
    """The first error's number and words; both empty where there is none."""
    errors = document.get("errors")
    if not (isinstance(errors, list) and errors and isinstance(errors[0], dict)):
        return "", ""
    title, detail = errors[0].get("title"), errors[0].get("detail")
    return str(errors[0].get("code") or ""), ": ".join(
        str(each) for each in (title, detail) if each
    )


def _reject_reason(number: str, words: str) -> RejectReason | None:
    """40300 is documented as a STOP; should a block of another kind come by it, nobody is unsubscribed."""
    if number == "40300" and "STOP" not in words:
        return RejectReason.BLOCKED
    return REJECT_REASONS.get(number)


def _retry_after(response: requests.Response) -> float | None:
    """https://developers.telnyx.com/development/api-fundamentals/reliability/rate-limiting: in a header of its own."""
    seconds = response.headers.get("x-ratelimit-reset", "")
    return http.retry_after({"Retry-After": response.headers.get("Retry-After", seconds)})


# --- Webhooks -------------------------------------------------------------------------------------------


def _verify(request: HttpRequest) -> None:
    """Telnyx signs the time and the body, with the private half of TELNYX_PUBLIC_KEY. Raises Forged."""
    timestamp = request.headers.get("telnyx-timestamp", "")
    try:
        age = abs(time.time() - float(timestamp))
        signature = b64decode(request.headers.get("telnyx-signature-ed25519", ""), validate=True)
    except ValueError as error:
        raise Forged("its time or its signature cannot be read") from error
    if not age <= LONGEST_AGE:
        raise Forged(f"its signature is {age:.0f} s away from now")
    signed = timestamp.encode() + b"|" + request.body
    if not any(_is_signed_by(key, signature, signed) for key in settings.TELNYX_PUBLIC_KEY):
        raise Forged("the signature is not right")


def _is_signed_by(key: str, signature: bytes, signed: bytes) -> bool:
    """Nothing is by a key that cannot be read; `manage.py check` names that one."""
    try:
        Ed25519PublicKey.from_public_bytes(b64decode(key)).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _event(body: bytes, named: UUID | None) -> Event:
    """Raises AttributeError, LookupError, TypeError or ValueError where it is not Telnyx's form."""
    data = json.loads(body)["data"]
    payload = data["payload"]
    number, words = _error_in(payload)
    return Event(
        event_id=str(data["id"]),
        event=_event_type(data["event_type"], payload),
        occurred_at=_time_of(data),
        notification_id=named,
        provider_message_id=str(payload.get("id") or ""),
        reject_reason=_reject_reason(number, words),
        code=f"telnyx_{number}" if number else "",
        detail=words,
        raw=body.decode(errors="replace"),
    )


def _event_type(event_type: str, payload: dict[str, Any]) -> EventType:
    if event_type not in _OF_OUTBOUND:
        return EventType.UNKNOWN
    return EVENTS.get(payload["to"][0]["status"], EventType.UNKNOWN)


def _time_of(data: dict[str, Any]) -> datetime | None:
    """None where it does not say, or not by which clock."""
    moment = datetime.fromisoformat(data["occurred_at"]) if data.get("occurred_at") else None
    return moment if moment and moment.tzinfo else None
