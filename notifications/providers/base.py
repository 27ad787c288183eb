"""What a provider is: a function of data.

A provider takes a `Message` and either returns `Sent` or raises one of four errors. Each error says
what the engine may do next, so that no vendor's vocabulary leaves the vendor's own file. Providers
know no model, no queue and no Celery, and can be tried in a shell with nothing but settings.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from notifications.providers.events import Event, NoWebhooks, RejectReason, Told

if TYPE_CHECKING:
    from django.http import HttpRequest

    from notifications.providers.deadline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One rendered notification, ready to hand over.

    `to` is an e-mail address, an E.164 phone number or, for in-app, the recipient's user id.
    `subject`, `html`, `from_email` and `reply_to` mean something for e-mail only; `from_email` and
    `reply_to` may be empty. `notification_id` stays the same over all attempts, and whatever a vendor
    offers to recognise a repeated message by (Message-ID, a custom variable) is made from it.
    """

    notification_id: UUID
    channel: str
    to: str
    text: str
    subject: str = ""
    html: str = ""
    from_email: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The provider took the message. `delivered` is True only where taking it is delivering it.

    `events`: what it tells at once of what becomes of it, where it needs no webhook for that (the sandbox).
    """

    provider_message_id: str = ""
    detail: str = ""
    delivered: bool = False
    events: tuple[Event, ...] = ()


class ProviderError(Exception):
    """The message was not surely taken.

    `code` is stable and for machines (snake_case, or the vendor's number); `detail` is the vendor's own
    words, for the operator. Neither may contain a secret.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class Temporary(ProviderError):
    """Surely not accepted, and worth another try; `retry_after` seconds at the earliest, where told.

    `recipient_only` where the refusal is about this recipient alone (a full mailbox, greylisting), and says
    nothing about how the provider is. `throttled` where we were too fast for it: that is no fault of the message,
    costs it no attempt, and lowers the pace (pace.py).
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        recipient_only: bool = False,
        throttled: bool = False,
    ) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after
        self.recipient_only = recipient_only
        self.throttled = throttled


class Permanent(ProviderError):
    """Surely not accepted, and no later try will be: the address or the message is at fault.

    `reject_reason` where it is the address, for whatever message: it is suppressed then (suppressions.py).
    """

    def __init__(
        self, code: str, detail: str = "", *, reject_reason: RejectReason | None = None
    ) -> None:
        super().__init__(code, detail)
        self.reject_reason = reject_reason


class Misconfigured(ProviderError):
    """Surely not accepted, because of our account, credentials or sender.

    Says nothing about the message, so it must not cost the notification an attempt.
    """


class Ambiguous(ProviderError):
    """May or may not have been accepted: the connection broke after the message had gone out.

    Never retried blindly and never handed to another provider; the engine makes it `unknown`. `events`: as those of
    `Sent`.
    """

    def __init__(self, code: str, detail: str = "", *, events: tuple[Event, ...] = ()) -> None:
        super().__init__(code, detail)
        self.events = events


class Provider(abc.ABC):
    """A vendor that carries a channel. One instance serves a whole process, from many threads.

    Connections are kept per thread (or in a thread-safe pool) and reused.
    """

    #: Stored with every attempt; the registry's key.
    name: str
    #: Sending the same message twice is harmless, so what lapsed is simply sent again.
    repeatable: ClassVar[bool] = False
    #: Whether it is left alone for a while when it is down or refuses our account (circuits.py).
    has_circuit: ClassVar[bool] = True
    #: Calls one worker process has in flight at most, over all lanes.
    max_in_flight: int = 64

    @abc.abstractmethod
    def send(self, message: Message, deadline: Deadline) -> Sent:
        """Hand the message over, within the deadline.

        Raises `Temporary`, `Permanent`, `Misconfigured` or `Ambiguous`. Any other exception is a bug; the
        engine treats it as `Ambiguous`, since it cannot know what had left by then.
        """

    def verify(self, deadline: Deadline) -> str:
        """Ask the vendor, over a connection of its own, whether it would take a message from us. Sends nothing.

        Returns in words what was found; "" where there is nobody to ask, or no harmless question is known.
        Raises as `send` does.
        """
        return ""

    def read(self, request: HttpRequest, link: str) -> Told:
        """What one webhook of the vendor tells: verified, and translated into our words (events.py).

        `link` is what stands behind the vendor's name in the path (callbacks.py). Raises Forged, Unreadable, or
        NoWebhooks where there are none.
        """
        raise NoWebhooks(self.name)

    def close(self) -> None:  # noqa: B027  (most keep nothing that has to be closed)
        """Close the connections that the calling thread has kept; the next send opens new ones."""
