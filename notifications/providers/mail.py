"""Message -> Django e-mail, shared by everything that sends e-mail."""

from __future__ import annotations

import re
from email.generator import BytesGenerator
from email.policy import Compat32
from email.utils import parseaddr
from functools import lru_cache
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.core.validators import validate_email
from django.utils.encoding import punycode

from notifications.providers.base import Message, Misconfigured, Permanent

#: What `str.splitlines` takes for the end of a line, and with it Python's `email`; and NUL.
_LINE_BREAK = re.compile("[\0\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
_PRINTABLE_ASCII = re.compile("[ -~]*")
#: RFC 5322, 2.1.1: a line should have at most 78 characters.
LONGEST_LINE = 78
_UNUSUAL_LINE_BREAK = re.compile("[\v\f\x1c\x1d\x1e\x85\u2028\u2029]")


def compose(message: Message) -> EmailMultiAlternatives:
    """The e-mail of a message. The same message has the same Message-ID each time.

    Raises Permanent when a header would break or `to` is no address, Misconfigured when the sender is
    none. Checked here, for every vendor: anymail's Mailgun backend takes a line break in a subject and
    sends whatever header follows it.
    """
    sender = message.from_email or settings.DEFAULT_FROM_EMAIL
    # Pasted from a document. Harmless, but Python's `email` sees a second header behind it and gives up.
    subject = _UNUSUAL_LINE_BREAK.sub(" ", message.subject)
    _refuse_line_breaks(
        subject=subject, to=message.to, from_email=sender, reply_to=message.reply_to
    )
    _refuse_invalid_address(message.to)
    email = EmailMultiAlternatives(
        subject=subject,
        body=message.text,
        from_email=sender,
        to=[message.to],
        reply_to=[message.reply_to] if message.reply_to and address_of(message.reply_to) else None,
        headers={
            # The service's domain, not the sender's: a project's From may change between two attempts.
            "Message-ID": f"<{message.notification_id}@{_service_domain()}>",
            "X-Notification-Id": str(message.notification_id),
        },
    )
    if message.html:
        email.attach_alternative(message.html, "text/html")
    return email


def _service_domain() -> str:
    return address_of(settings.DEFAULT_FROM_EMAIL).rpartition("@")[2]


class _QuickFolding(Compat32):
    """Folds as Python does, but takes a header that needs neither folding nor encoding as it stands.

    Folding each of a mail's dozen short headers was measured at two thirds of the cost of making the mail.
    """

    def fold_binary(self, name: str, value: Any) -> bytes:
        line = f"{name}: {value}"
        if (
            isinstance(value, str)
            and len(line) <= LONGEST_LINE
            and _PRINTABLE_ASCII.fullmatch(line)
        ):
            return f"{line}{self.linesep}".encode()
        return super().fold_binary(name, value)


_POLICY = _QuickFolding(linesep="\r\n", max_line_length=LONGEST_LINE)


def as_bytes(email: EmailMultiAlternatives, boundary: str) -> bytes:
    """The e-mail as SMTP takes it. Looking for a boundary of its own would cost Python a quarter more."""
    mime = email.message()
    if mime.is_multipart():
        mime.set_boundary(boundary)
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=_POLICY).flatten(mime)
    return written.getvalue()


@lru_cache(maxsize=1024)
def address_of(sender: str) -> str:
    """`a@example.com` of `Ann <a@example.com>`. Raises Misconfigured when that is no address."""
    address = parseaddr(sender)[1]
    try:
        validate_email(address)
    except ValidationError as error:
        raise Misconfigured("invalid_sender", f"{sender!r} is not an e-mail address") from error
    return with_ascii_domain(address)


def with_ascii_domain(address: str) -> str:
    """The address as SMTP wants it. What stands before the @ is ASCII already, or was refused."""
    name, _, domain = address.rpartition("@")
    return address if domain.isascii() else f"{name}@{punycode(domain)}"


def _refuse_line_breaks(**fields: str) -> None:
    for name, value in fields.items():
        if _LINE_BREAK.search(value):
            raise Permanent("invalid_header", f"{name} contains a line break or a NUL")


def _refuse_invalid_address(to: str) -> None:
    """One address, and nothing beside it: a vendor would take `a@x.test, b@x.test` for two.

    A name that is not ASCII (`jörg@`) is refused with it: it needs SMTPUTF8 (RFC 6531) at every server on
    the way, and Django's mail does not speak it.
    """
    try:
        validate_email(to)
    except ValidationError as error:
        raise Permanent("invalid_address", "not an e-mail address") from error
