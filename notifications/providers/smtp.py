"""E-mail by SMTP, over one kept connection per thread.

Django's backend opens the connection (TLS, certificates, log-in: the EMAIL_* settings); `smtplib` sends.

Where the server's answer falls decides what it means (RFC 5321, 4.2.1: 4yz is transient, 5yz permanent):

| answer | meaning |
|---|---|
| 421, 4yz to anything, the final dot included | Temporary; throttled where it says that we are too fast |
| 530, 534, 535, 538 to anything (RFC 4954, 6) | Misconfigured: log-in |
| 5yz to the greeting, EHLO, STARTTLS, AUTH | Misconfigured: the server does not want us |
| 552 to MAIL FROM (RFC 1870, 6.1) | Permanent: the message is too large |
| other 5yz to MAIL FROM | Misconfigured: it does not want this sender |
| 5yz to RCPT TO, DATA, the final dot | Permanent; with 5.1.1 and the like to RCPT TO, the address is suppressed |
| no STARTTLS, no common AUTH, a certificate that fails | Misconfigured |
| no connection, or lost before the final dot | Temporary |
| lost between the final dot and its answer | Ambiguous: RFC 1047 is about just this |
"""

from __future__ import annotations

import re
import smtplib
import ssl
import threading
from contextlib import suppress
from time import monotonic
from typing import Any, cast

from django.conf import settings
from django.core.mail.backends.smtp import EmailBackend
from urllib3.util import wait_for_read

from notifications.providers import mail
from notifications.providers.base import (
    Message,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Sent,
    Temporary,
)
from notifications.providers.deadline import Deadline, current
from notifications.providers.events import RejectReason

CONNECT_TIMEOUT = 3.0
#: A server may close an idle connection after 5 minutes (RFC 5321, 4.5.3.2.7); many do after one.
IDLE_LIMIT = 55.0
#: RFC 5321, 4.5.3.2.6. In fact until the deadline: from here on patience is cheaper than doubt.
FINAL_ANSWER_TIMEOUT = 600.0
_LOG_IN_CODES = (530, 534, 535, 538)
_END_OF_MESSAGE = b"\r\n.\r\n"
#: RFC 5321, 4.5.2: a line that begins with a period gets another.
_LEADING_PERIOD = re.compile(rb"(?m)^\.")
#: RFC 3463, 3.2: no such mailbox, no such domain, no valid address, moved away; RFC 7505: it takes no mail at all.
#: Any other refusal of a recipient may be about us or about the moment, and must not suppress anybody.
_NO_MAILBOX = re.compile(r"5\d\d 5\.1\.(1|2|3|6|10)\b")
#: We are too fast. RFC 3463 has no code for it (4.7.1 is greylisting as well), so it is the words of those who say so:
#: Gmail (421 4.7.28 "unusual rate"), Microsoft 365 (451 4.7.500 "Server busy"), Amazon SES (454 "Throttling failure:
#: Maximum sending rate exceeded"), Postfix (450 4.7.1 "too much mail from", 421 4.7.0 "too many connections").
_TOO_FAST = re.compile(
    r"4\.7\.(28|500)\b|throttl|(rate limit|sending rate|unusual rate)|too (many (connections|messages)|much mail)",
    re.IGNORECASE,
)
#: RFC 5321, 3.8: the server closes the connection after this answer.
_CLOSING = 421


class _Watched(smtplib.SMTP):
    """An SMTP connection under the deadline of the current call, which learns when the message has left."""

    last_used = 0.0
    #: The server's answer to the final dot; usually says under which id it queued the message.
    answer = ""

    def use(self) -> None:
        """Put the connection under the current call's deadline."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        current().watch(self.sock)
        self.sock.settimeout(current().within(self.timeout))
        self.last_used = monotonic()

    def is_alive(self) -> bool:
        """An idle connection has nothing to read, unless the server has said goodbye or is gone."""
        if self.sock is None or monotonic() - self.last_used > IDLE_LIMIT:
            return False
        return not wait_for_read(self.sock, timeout=0)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        # Covers the TLS handshake of SMTP_SSL too: a socket's time-out is for the whole of it.
        within = current().within(CONNECT_TIMEOUT)
        self.sock = super()._get_socket(host, port, within)  # type: ignore[misc]
        self.use()
        return self.sock

    def starttls(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        self.use()
        reply = super().starttls(*args, **kwargs)
        self.use()  # Another socket object since.
        return reply

    def send(self, s: Any) -> None:
        super().send(s)
        if self.sock is not None and isinstance(s, bytes) and s.endswith(_END_OF_MESSAGE):
            # Not before: a send that broke has kept the final dot back.
            current().message_left = True
            self.sock.settimeout(current().within(FINAL_ANSWER_TIMEOUT))

    def data(self, msg: Any) -> tuple[int, bytes]:
        code, words = super().data(msg)
        self.answer = f"{code} {_text(words)}"
        return code, words

    def transact(self, sender: str, to: str, content: bytes) -> None:
        """One mail transaction, in two round trips where the server takes several commands at once (RFC 2920).

        Raises as `smtplib.sendmail`, which does it in four.
        """
        self.ehlo_or_helo_if_needed()
        if not self.has_extn("pipelining"):
            self.sendmail(sender, [to], content)
            return
        self._open_envelope(sender, to, len(content))
        body = _LEADING_PERIOD.sub(b"..", content)
        self.send(body + (b".\r\n" if body.endswith(b"\r\n") else _END_OF_MESSAGE))
        code, words = self.getreply()
        self.answer = f"{code} {_text(words)}"
        if code != 250:
            self._end_refused(code)
            raise smtplib.SMTPDataError(code, words)

    def _open_envelope(self, sender: str, to: str, size: int) -> None:
        """MAIL, RCPT and DATA. Each is answered, also where an earlier one was refused."""
        with_size = f" size={size}" if self.has_extn("size") else ""
        self.send(
            f"mail FROM:{smtplib.quoteaddr(sender)}{with_size}\r\n"
            f"rcpt TO:{smtplib.quoteaddr(to)}\r\ndata\r\n"
        )
        replies = [self.getreply()]
        while len(replies) < 3 and replies[-1][0] != _CLOSING:
            replies.append(self.getreply())
        refusal = _first_refusal(replies, sender, to)
        if refusal is None:
            return
        if replies[-1][0] == 354:
            # It waits for a message, although for nobody: an empty one, which is refused.
            self.send(b".\r\n")
            self.getreply()
        self._end_refused(replies[-1][0])
        raise refusal

    def _end_refused(self, code: int) -> None:
        """After a farewell the connection is of no use; else the next transaction can begin."""
        if code == _CLOSING:
            self.close()
            return
        with suppress(smtplib.SMTPServerDisconnected):
            self.rset()


def _first_refusal(
    replies: list[tuple[int, bytes]], sender: str, to: str
) -> smtplib.SMTPException | None:
    """Of the replies to MAIL, RCPT and DATA; where the server has hung up, the last."""
    mail, rcpt, data = [*replies, *replies[-1:] * 2][:3]
    if mail[0] != 250:
        return smtplib.SMTPSenderRefused(*mail, sender)
    if rcpt[0] not in (250, 251):
        return smtplib.SMTPRecipientsRefused({to: rcpt})
    return None if data[0] == 354 else smtplib.SMTPDataError(*data)


class _WatchedTLS(_Watched, smtplib.SMTP_SSL):
    pass


class _Backend(EmailBackend):
    """Django's backend, opening watched connections."""

    connection: _Watched | None
    _partial_connection: _Watched | None

    @property
    def connection_class(self) -> type[_Watched]:
        return _WatchedTLS if self.use_ssl else _Watched

    def drop(self) -> None:
        """Close without QUIT: there is nothing to lose, and a hanging server would hold us up."""
        for connection in (self.connection, self._partial_connection):
            if connection is not None:
                connection.close()
        self.connection = self._partial_connection = None

    __del__ = drop  # Its thread has ended.


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.backend = _Backend()


class Smtp(Provider):
    name = "smtp"

    def __init__(self) -> None:
        #: One connection each; servers commonly allow 10 to 50 from one address.
        self.max_in_flight = settings.SMTP_MAX_CONNECTIONS
        self._kept = _PerThread()

    def send(self, message: Message, deadline: Deadline) -> Sent:
        email = mail.compose(message)
        sender, to = mail.address_of(email.from_email), mail.with_ascii_domain(message.to)
        content = mail.as_bytes(email, boundary=f"={message.notification_id.hex}=")
        with deadline.enforced():
            answer = self._hand_over(sender, to, content)
        return Sent(provider_message_id=email.extra_headers["Message-ID"], detail=answer)

    def verify(self, deadline: Deadline) -> str:
        """Connect, STARTTLS, log in, QUIT."""
        backend = _Backend()
        with deadline.enforced():
            try:
                backend.open()
                connection = cast(_Watched, backend.connection)
                connection.quit()
            except (OSError, smtplib.SMTPException) as error:
                raise _meaning(error) from error
            finally:
                backend.drop()
        return f"{backend.host}:{backend.port} {_how(backend)}"

    def close(self) -> None:
        self._kept.backend.drop()

    def _hand_over(self, sender: str, to: str, content: bytes) -> str:
        backend = self._kept.backend
        reused = _reuse(backend)
        try:
            return _transact(backend, sender, to, content)
        except Temporary:
            lost_unused = backend.connection is None and not current().message_left
            if not (reused and lost_unused) or current().expired:
                raise
        # The kept connection had died without our seeing it. That must not cost an attempt.
        return _transact(backend, sender, to, content)


def _how(backend: _Backend) -> str:
    encrypted = "with TLS" if backend.use_tls or backend.use_ssl else "without TLS"
    return f"answers {encrypted}" + (" and takes the log-in" if backend.username else "")


def _reuse(backend: _Backend) -> bool:
    """Whether the thread's kept connection will be used again; drops one that is too old or dead."""
    if backend.connection is None or not backend.connection.is_alive():
        backend.drop()
        return False
    return True


def _transact(backend: _Backend, sender: str, to: str, content: bytes) -> str:
    """One mail transaction; opens a connection where there is none, and leaves none that is broken."""
    try:
        backend.open()
        connection = cast(_Watched, backend.connection)
        connection.use()
        connection.transact(sender, to, content)
    except (OSError, smtplib.SMTPException) as error:
        if not _still_usable(backend, error):
            backend.drop()
        raise _meaning(error) from error
    return connection.answer


def _still_usable(backend: _Backend, error: Exception) -> bool:
    """After a refusal `smtplib` has sent RSET, and the next transaction can begin."""
    connection = backend.connection
    return (
        connection is not None
        and connection.sock is not None
        and isinstance(
            error,
            smtplib.SMTPSenderRefused | smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError,
        )
    )


def _meaning(error: Exception) -> ProviderError:
    """The table at the top."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        [(code, words)] = error.recipients.values()
        return _about_recipient(_refusal(code, words, Permanent))
    if isinstance(error, smtplib.SMTPResponseException):
        return _answer(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Misconfigured("tls_certificate", error.verify_message)
    if isinstance(error, smtplib.SMTPServerDisconnected) or not isinstance(
        error, smtplib.SMTPException
    ):
        return current().failure(error)
    # What is left: SMTPNotSupportedError, and "No suitable authentication method found."
    return Misconfigured("smtp_not_supported", str(error))


def _about_recipient(refusal: ProviderError) -> ProviderError:
    """An answer to RCPT TO is about that recipient (greylisting, a full mailbox), except for a farewell."""
    if isinstance(refusal, Temporary):
        refusal.recipient_only = refusal.code != "smtp_421" and not refusal.throttled
    if isinstance(refusal, Permanent) and _NO_MAILBOX.match(refusal.detail):
        refusal.reject_reason = RejectReason.INVALID
    return refusal


def _answer(error: smtplib.SMTPResponseException) -> ProviderError:
    code, words = error.smtp_code, error.smtp_error
    if isinstance(error, smtplib.SMTPDataError):
        return _refusal(code, words, Permanent)
    if current().message_left:  # smtplib could not read the answer to the final dot
        return current().failure(error)
    too_large = isinstance(error, smtplib.SMTPSenderRefused) and code == 552
    return _refusal(code, words, Permanent if too_large else Misconfigured)


def _refusal(code: int, words: bytes | str, permanently: type[ProviderError]) -> ProviderError:
    name, detail = f"smtp_{code}", f"{code} {_text(words)}"
    if code // 100 == 4:
        return Temporary(name, detail, throttled=bool(_TOO_FAST.search(detail)))
    if code in _LOG_IN_CODES:
        return Misconfigured(name, detail)
    if code // 100 == 5:
        return permanently(name, detail)
    # Not an SMTP answer at all; whether the message is in depends on how far we were.
    return current().failure(ConnectionError(f"answered {detail}"))


def _text(words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return " ".join(text.split())[:500]
