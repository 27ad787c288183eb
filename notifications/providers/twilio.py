"""SMS by Twilio's own library, and its status callbacks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from django.conf import settings
from django.http import HttpRequest
from twilio.base.exceptions import TwilioRestException, TwilioServiceException
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.request_validator import (
    SIGNATURE_SETTINGS_HEADER,
    RequestValidator,
    get_signature_algorithm,
)
from twilio.rest import Client

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
from notifications.providers.callbacks import callback_url, notification_of, public_url_of
from notifications.providers.deadline import Deadline
from notifications.providers.events import (
    Event,
    EventType,
    Forged,
    RejectReason,
    Told,
    Unreadable,
)

#: What Twilio's codes mean, each with its page: https://www.twilio.com/docs/api/errors/<code>.
#: Misconfigured is only what every message would meet. What depends on the recipient (his country, his
#: STOP, a trial account's list) is Permanent: one such number must not stop the others' messages.
#: Twilio splits codes up from time to time (as in July 2024), so an unknown one falls back on its status.
MEANINGS: dict[int, type[ProviderError]] = {
    # Our account and its credentials
    10001: Misconfigured,  # account is not active
    20003: Misconfigured,  # authentication failed
    20005: Misconfigured,  # account is not active
    20008: Misconfigured,  # test credentials on a live resource
    20404: Misconfigured,  # the account's URL is not found: SID or TWILIO_API_URL
    # Our sender: TWILIO_FROM
    21212: Misconfigured,  # invalid From
    21603: Misconfigured,  # From is required
    21609: Misconfigured,  # our address for status callbacks is invalid: PUBLIC_URL
    21606: Misconfigured,  # From is no number of this account that can send
    21659: Misconfigured,  # From is no Twilio number, or a short code of another country
    21660: Misconfigured,  # From and the account do not belong together
    21661: Misconfigured,  # From cannot send SMS
    21701: Misconfigured,  # the Messaging Service does not exist
    21703: Misconfigured,  # the Messaging Service has no number that can send
    21704: Misconfigured,  # the Messaging Service has no number at all
    21705: Misconfigured,  # the Messaging Service SID is invalid
    # Too fast, or too much waits already. Never processed, and so always safe to repeat.
    20429: Temporary,  # too many requests
    21611: Temporary,  # this From has too many messages queued
    14107: Temporary,  # too many messages
    # This recipient
    21211: Permanent,  # invalid To
    21214: Permanent,  # To cannot be reached
    21217: Permanent,  # no valid phone number
    21219: Permanent,  # To is not verified, on a trial account
    21265: Permanent,  # To is a short code
    21266: Permanent,  # To and From are the same
    21408: Permanent,  # SMS to this country is not enabled in the account
    21608: Permanent,  # To is not verified, on a trial account
    21610: Permanent,  # the recipient has replied STOP
    21612: Permanent,  # there is no route from this From to this To
    21614: Permanent,  # To is no mobile number
    21635: Permanent,  # To is a landline
    # This message
    21602: Permanent,  # no text
    21617: Permanent,  # longer than 1,600 characters
    21619: Permanent,  # no text, no media
    30007: Permanent,  # filtered as unwanted
}


#: Of these, the ones that say that we are too fast.
TOO_FAST = frozenset({20429, 21611, 14107})

#: What is wrong with the number itself, for whatever message; by the error's code, also that of a receipt.
REJECT_REASONS: dict[int, RejectReason] = {
    21211: RejectReason.INVALID,  # invalid To
    21610: RejectReason.UNSUBSCRIBED,  # the recipient has replied STOP
    21614: RejectReason.INVALID,  # To is no mobile number
    30003: RejectReason.TIMED_OUT,  # the handset is off or out of reach
    30004: RejectReason.BLOCKED,  # blocked by the carrier, or the recipient
    30005: RejectReason.INVALID,  # unknown handset: the number does not exist any more
    30006: RejectReason.OTHER,  # a landline, or a carrier that cannot be reached
    30007: RejectReason.BLOCKED,  # filtered as unwanted
    30008: RejectReason.OTHER,  # the carrier does not say
}

#: https://www.twilio.com/docs/messaging/guides/track-outbound-message-status#message-status-changes-triggering-status-callback-requests
EVENTS: dict[str, EventType] = {
    "accepted": EventType.QUEUED,
    "scheduled": EventType.QUEUED,
    "queued": EventType.QUEUED,
    "sending": EventType.QUEUED,
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "read": EventType.OPENED,
    "undelivered": EventType.BOUNCED,
    "failed": EventType.FAILED,
}


class Twilio(Provider):
    name = "twilio"

    def __init__(self) -> None:
        self._kept = _PerThread()

    def send(self, message: Message, deadline: Deadline) -> Sent:
        with deadline.enforced(), self._errors_as_ours():
            sid = self._kept.client.messages.create(
                to=message.to, body=message.text, **_sender(), **_callback(message)
            ).sid
        if not sid:
            raise Ambiguous("unreadable_answer", "2xx, but no sid")
        return Sent(provider_message_id=sid)

    def verify(self, deadline: Deadline) -> str:
        """Reads the account: https://www.twilio.com/docs/iam/api/account#fetch-an-account-resource"""
        with deadline.enforced(), self._errors_as_ours():
            status = self._kept.client.api.accounts(settings.TWILIO_ACCOUNT_SID).fetch().status
        if status != "active":
            raise Misconfigured("account_not_active", f"the account is {status}")
        return "the account is active"

    def read(self, request: HttpRequest, link: str) -> Told:
        """A status callback: https://www.twilio.com/docs/usage/webhooks/webhooks-security"""
        _verify(request)
        named, form = notification_of(link), request.POST
        sid, status = form.get("MessageSid", ""), form.get("MessageStatus", "")
        if not (sid and status):
            raise Unreadable("neither MessageSid nor MessageStatus")
        error = int(code) if (code := form.get("ErrorCode", "")).isdecimal() else 0
        event = Event(
            # A message has each status once; Twilio gives its callbacks neither an id nor a time.
            event_id=f"{sid}:{status}",
            event=EVENTS.get(status, EventType.UNKNOWN),
            notification_id=named,
            provider_message_id=sid,
            reject_reason=REJECT_REASONS.get(error),
            code=f"twilio_{error}" if error else "",
            detail=form.get("ErrorMessage", ""),
            raw=json.dumps(form.dict(), sort_keys=True),
        )
        return Told(events=(event,))

    def close(self) -> None:
        self._kept.http.session.close()

    @contextmanager
    def _errors_as_ours(self) -> Iterator[None]:
        try:
            yield
        except (TwilioRestException, TwilioServiceException) as error:
            raise _refusal(error, self._kept.http) from error
        except requests.RequestException as error:
            raise http.failure(error) from error
        except ValueError as error:
            raise Ambiguous("unreadable_answer", "2xx, but not JSON") from error


class _HttpClient(TwilioHttpClient):  # type: ignore[misc]
    """Twilio's, with our session; keeps the headers of the answer, which Twilio's exceptions lack."""

    def __init__(self) -> None:
        super().__init__()
        self.session = http.with_deadlines(requests.Session())
        self.answer_headers: dict[str, str] = {}

    def request(self, *args: Any, **kwargs: Any) -> Response:
        response = super().request(*args, **kwargs)
        self.answer_headers = response.headers
        return response


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.http = _HttpClient()
        self.client = Client(
            settings.TWILIO_ACCOUNT_SID, settings.TWILIO_AUTH_TOKEN, http_client=self.http
        )
        self.client.api.base_url = settings.TWILIO_API_URL


def _sender() -> dict[str, str]:
    """A number, or a Messaging Service that chooses one."""
    if settings.TWILIO_FROM.startswith("MG"):
        return {"messaging_service_sid": settings.TWILIO_FROM}
    return {"from_": settings.TWILIO_FROM}


def _callback(message: Message) -> dict[str, str]:
    """Without our public address Twilio would refuse the message."""
    url = callback_url("twilio", message.notification_id)
    return {"status_callback": url} if url else {}


def _verify(request: HttpRequest) -> None:
    """Twilio signs the exact address that it calls, with the form. Raises Forged."""
    signature = request.headers.get("X-Twilio-Signature", "")
    algorithm = get_signature_algorithm(request.headers.get(SIGNATURE_SETTINGS_HEADER))
    url = public_url_of(request)
    tokens = [settings.TWILIO_AUTH_TOKEN, *settings.TWILIO_AUTH_TOKEN_FALLBACKS]
    validators = [RequestValidator(token) for token in tokens if token]
    if not any(each.validate(url, request.POST, signature, algorithm) for each in validators):
        raise Forged("the signature is not right")


def _refusal(
    error: TwilioRestException | TwilioServiceException, client: _HttpClient
) -> ProviderError:
    # The library puts the status where the answer has no code.
    code = f"twilio_{error.code}" if error.code != error.status else ""
    meaning = MEANINGS.get(error.code or 0)
    if meaning is None:
        return http.refusal(error.status, _words(error), client.answer_headers, code=code)
    if meaning is Temporary:
        return Temporary(
            code,
            _words(error),
            retry_after=http.retry_after(client.answer_headers),
            throttled=error.code in TOO_FAST or error.status == http.TOO_MANY_REQUESTS,
        )
    if meaning is Permanent:
        return Permanent(code, _words(error), reject_reason=REJECT_REASONS.get(error.code or 0))
    return meaning(code, _words(error))


def _words(error: TwilioRestException | TwilioServiceException) -> str:
    if isinstance(error, TwilioRestException):
        return str(error.msg).removeprefix("Unable to create record: ")
    return str(error.detail or error.title)
