"""E-mail by the HTTP API of any vendor that django-anymail knows; Mailgun first.

A vendor's name is that of its module in `anymail.backends`, its settings are anymail's.
"""

from __future__ import annotations

import re
import threading
from typing import NamedTuple

import requests
from anymail.backends.base_requests import AnymailRequestsBackend
from anymail.exceptions import (
    AnymailAPIError,
    AnymailConfigurationError,
    AnymailError,
    AnymailInvalidAddress,
    AnymailRecipientsRefused,
    AnymailSerializationError,
    AnymailUnsupportedFeature,
)
from anymail.message import AnymailStatus
from django.http import HttpRequest
from django.utils.module_loading import import_string

from notifications.providers import http, mail
from notifications.providers.anymail_webhooks import Webhooks
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
from notifications.providers.deadline import Deadline, current
from notifications.providers.events import Told


class Anymail(Provider):
    """One vendor of django-anymail. A backend, and with it a session, is kept per thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._local = threading.local()
        self._webhooks = Webhooks(name)

    def send(self, message: Message, deadline: Deadline) -> Sent:
        email = mail.compose(message)
        # Comes back with each of the vendor's events, so that a receipt finds its notification.
        vars(email)["metadata"] = {"notification_id": str(message.notification_id)}
        with deadline.enforced():
            try:
                self._backend().send_messages([email])
            except (AnymailError, AnymailConfigurationError) as error:
                raise _meaning(self.name, error) from error
        return _taken(vars(email)["anymail_status"])

    def verify(self, deadline: Deadline) -> str:
        """Mailgun alone is asked; other vendors have no question in common."""
        if self.name != "mailgun":
            return ""
        with deadline.enforced():
            try:
                return _ask_mailgun(self._backend())
            except requests.RequestException as error:
                raise http.failure(error) from error

    def read(self, request: HttpRequest, link: str) -> Told:
        return self._webhooks.read(request)

    def close(self) -> None:
        if hasattr(self._local, "backend"):
            self._local.backend.close()
            del self._local.backend

    def _backend(self) -> AnymailRequestsBackend:
        if not hasattr(self._local, "backend"):
            backend = make_backend(self.name)
            backend.open()
            self._local.backend = backend
        return self._local.backend


def _ask_mailgun(backend: AnymailRequestsBackend) -> str:
    """Hand over a message with nothing in it, which is refused with 400 once key and domain are found right.

    Reading the domain would be nicer, but a sending key, which Mailgun advises, may do nothing but this.
    """
    url = f"{backend.api_url}{backend.sender_domain}/messages"
    response = backend.session.post(url, auth=("api", backend.api_key), data={})
    if response.status_code != 400:
        raise _refusal("mailgun", response)
    return f"the key is right for {backend.sender_domain}"


def make_backend(name: str) -> AnymailRequestsBackend:
    """The vendor's backend. Raises AnymailConfigurationError when its settings are incomplete."""
    backend_class = import_string(f"anymail.backends.{name}.EmailBackend")
    return type("EmailBackend", (_WithDeadlines, backend_class), {})()


class _WithDeadlines(AnymailRequestsBackend):  # type: ignore[misc]
    def create_session(self) -> requests.Session:
        return http.with_deadlines(super().create_session())


def _taken(status: AnymailStatus) -> Sent:
    """An answer that is no error. anymail has raised already when the recipient was refused."""
    if "failed" in status.status:
        raise Temporary("recipient_failed", "the vendor could not take the message")
    if not status.message_id:
        raise Ambiguous("unreadable_answer", "2xx, but without an id")
    return Sent(provider_message_id=status.message_id)


#: The message is at fault; noticed before anything is sent.
_UNSENDABLE = (AnymailInvalidAddress, AnymailUnsupportedFeature, AnymailSerializationError)


def _meaning(vendor: str, error: Exception) -> ProviderError:
    if isinstance(error, AnymailRecipientsRefused):
        return Permanent("recipient_refused", "the vendor refused the recipient")
    if isinstance(error, AnymailAPIError) and error.response is not None:
        return _refusal(vendor, error.response)
    if isinstance(error.__cause__, requests.RequestException):
        return http.failure(error.__cause__)
    if current().message_left:
        return Ambiguous("unreadable_answer", str(error))
    if isinstance(error, _UNSENDABLE):
        return Permanent("unsupported_message", str(error))
    return Misconfigured("not_configured", str(error))


class _Rule(NamedTuple):
    status: int
    words: str
    meaning: type[ProviderError]
    code: str


#: What vendors say more precisely by words than by status. Misconfigured is only what every message
#: would meet: what depends on the recipient must not stop the others' mail.
_RULES = {
    # https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages
    "mailgun": [
        _Rule(200, "Mailgun Magnificent API", Misconfigured, "invalid_url"),
        _Rule(400, r"'?from'? parameter", Misconfigured, "invalid_sender"),
        _Rule(400, r"'?to'? parameter", Permanent, "invalid_address"),
        # A sandbox domain or a free account, which may write to a few addresses only.
        _Rule(403, "authorized recipients", Permanent, "recipient_not_authorized"),
        _Rule(404, "", Misconfigured, "unknown_domain"),
    ],
}


def _refusal(vendor: str, response: requests.Response) -> ProviderError:
    for rule in _RULES.get(vendor, []):
        if response.status_code == rule.status and re.search(rule.words, response.text):
            return rule.meaning(rule.code, response.text[:500])
    return http.refusal(response.status_code, response.text, response.headers)
