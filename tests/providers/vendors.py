"""Stand-ins for the vendors: real servers on loopback that answer, and misbehave, as the vendors do.

    with FakeMailgun() as vendor:
        settings.MAILGUN_API_URL = vendor.url
        vendor.next(status=429, headers={"Retry-After": "7"})   # the next request gets this
        vendor.next(HANG)                                       # the one after: no answer at all
        ...
        assert vendor.accepted[0]["to"] == ["ann@example.com"]

All of them, `FakeMailgun`, `FakeTwilio`, `FakeTelnyx` and `FakeSmtp`, have `url`, `accepted` (what they took, in order),
`connections` (how many were opened to them), `next(...)` and `settings` (what makes Django use them).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import ssl
import struct
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs
from uuid import uuid4

import trustme
from aiosmtpd.smtp import SMTP, AuthResult

logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd's, a line for every command

#: Seconds between two bytes of a server that drips; far below any time-out of a socket.
DRIP_INTERVAL = 0.05
#: Seconds by which a slow answer is late.
DELAY = 0.3


class Misbehaviour(Enum):
    HANG = auto()  # takes the request, says nothing
    DRIP = auto()  # answers one byte at a time, for ever
    RESET = auto()  # takes the request, breaks the connection
    RESET_EARLY = auto()  # HTTP: breaks the connection before it has read the body
    SLOW = auto()  # answers as it should, but late


HANG, DRIP, RESET, RESET_EARLY, SLOW = Misbehaviour


class Authority:
    """A certificate authority that nobody knows, unless told to trust it."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def server_context(self, name: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name).configure_cert(context)
        return context

    def write(self, path: Any) -> str:
        """The authority's certificate as a file, for SSL_CERT_FILE and REQUESTS_CA_BUNDLE."""
        self._ca.cert_pem.write_to_path(str(path))
        return str(path)


# --- HTTP ------------------------------------------------------------------------------------------


@dataclass
class Answer:
    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class FakeHttpVendor:
    """A vendor's HTTP API. A subclass says what it accepts."""

    username: str
    password: str

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.accepted: list[dict[str, Any]] = []
        self.connections = 0
        self._script: deque[Answer | Misbehaviour] = deque()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.vendor = self
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def next(
        self,
        misbehaviour: Misbehaviour | None = None,
        *,
        status: int = 200,
        body: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Script one more request: a misbehaviour, or an answer. Unscripted ones are accepted."""
        self._script.append(misbehaviour or Answer(status, body, headers or {}))

    def close_connections(self) -> None:
        """Close the kept connections, as a load balancer does after a while."""
        for connection in tuple(self._server.open_connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def authorization(self) -> str:
        """What every request has to say: HTTP basic auth, with most vendors."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"

    def parse(self, body: str) -> dict[str, Any]:
        """What a request's body says: a form, with most vendors."""
        return parse_qs(body, keep_blank_values=True)

    def accept(self, path: str, form: dict[str, Any]) -> Answer:
        raise NotImplementedError

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self.close_connections()

    def _answer(self, path: str, authorization: str, body: str) -> Answer:
        if authorization != self.authorization:
            return self.unauthorized()
        return self.accept(path, self.parse(body))

    def unauthorized(self) -> Answer:
        raise NotImplementedError


class FakeMailgun(FakeHttpVendor):
    """https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages"""

    username = "api"
    password = "key-example"
    domain = "mg.example.com"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "MAILGUN_API_KEY": self.password,
            "MAILGUN_DOMAIN": self.domain,
            "MAILGUN_API_URL": f"{self.url}/v3",
            "ANYMAIL": {
                "MAILGUN_API_KEY": self.password,
                "MAILGUN_SENDER_DOMAIN": self.domain,
                "MAILGUN_API_URL": f"{self.url}/v3",
            },
        }

    def unauthorized(self) -> Answer:
        return Answer(401, "Forbidden")

    def accept(self, path: str, form: dict[str, list[str]]) -> Answer:
        if path != f"/v3/{self.domain}/messages":
            return Answer(404, json.dumps({"message": f"Domain not found: {path.split('/')[2]}"}))
        if "from" not in form:
            return Answer(400, json.dumps({"message": "from parameter is missing"}))
        self.accepted.append(form)
        answer = {"id": f"<{uuid4().hex}@{self.domain}>", "message": "Queued. Thank you."}
        return Answer(200, json.dumps(answer))


class FakeTwilio(FakeHttpVendor):
    """https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource"""

    username = "AC" + "0" * 32
    password = "token-example"
    account_status = "active"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "TWILIO_ACCOUNT_SID": self.username,
            "TWILIO_AUTH_TOKEN": self.password,
            "TWILIO_FROM": "+15005550006",
            "TWILIO_API_URL": self.url,
        }

    def next_error(self, status: int, code: int, message: str, **headers: str) -> None:
        """Refuse the next request in Twilio's own form."""
        self.next(status=status, body=_twilio_error(status, code, message), headers=headers)

    def unauthorized(self) -> Answer:
        return Answer(401, _twilio_error(401, 20003, "Authenticate"))

    def accept(self, path: str, form: dict[str, list[str]]) -> Answer:
        if path == f"/2010-04-01/Accounts/{self.username}.json":
            return Answer(200, json.dumps({"sid": self.username, "status": self.account_status}))
        if path != f"/2010-04-01/Accounts/{self.username}/Messages.json":
            return Answer(
                404, _twilio_error(404, 20404, f"The requested resource {path} was not found")
            )
        self.accepted.append(form)
        answer = {"sid": f"SM{uuid4().hex}", "status": "queued", "error_code": None}
        return Answer(201, json.dumps(answer))


def _twilio_error(status: int, code: int, message: str) -> str:
    more_info = f"https://www.twilio.com/docs/errors/{code}"
    return json.dumps({"code": code, "message": message, "more_info": more_info, "status": status})


class FakeTelnyx(FakeHttpVendor):
    """https://developers.telnyx.com/docs/messaging/messages/send-message"""

    password = "key-example"
    credit = "400.00"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "TELNYX_API_KEY": self.password,
            "TELNYX_FROM": "+15005550006",
            "TELNYX_API_URL": f"{self.url}/v2",
        }

    @property
    def authorization(self) -> str:
        return f"Bearer {self.password}"

    def parse(self, body: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(body or "{}")
        return document

    def next_error(
        self, status: int, code: str, title: str, detail: str = "", **headers: str
    ) -> None:
        """Refuse the next request in Telnyx's own form."""
        self.next(status=status, body=_telnyx_error(code, title, detail), headers=headers)

    def unauthorized(self) -> Answer:
        return Answer(401, _telnyx_error("10009", "Authentication failed", "Invalid key"))

    def accept(self, path: str, form: dict[str, Any]) -> Answer:
        if path == "/v2/balance":
            balance = {"available_credit": self.credit, "currency": "USD"}
            return Answer(200, json.dumps({"data": balance}))
        if path != "/v2/messages":
            return Answer(404, _telnyx_error("10005", "Resource not found", path))
        self.accepted.append(form)
        to = [{"phone_number": form["to"], "status": "queued", "carrier": "", "line_type": ""}]
        return Answer(200, json.dumps({"data": {"id": str(uuid4()), "to": to, "errors": []}}))


def _telnyx_error(code: str, title: str, detail: str) -> str:
    return json.dumps({"errors": [{"code": code, "title": title, "detail": detail}]})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    vendor: FakeHttpVendor

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.open_connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.vendor.connections += 1
        self.open_connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open_connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the game."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        vendor = self.server.vendor
        scripted = vendor._script.popleft() if vendor._script else None
        if scripted is RESET_EARLY:
            return self._reset()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if scripted is SLOW:
            vendor._closing.wait(DELAY)
            scripted = None
        if isinstance(scripted, Misbehaviour):
            return self._misbehave(scripted)
        authorization = self.headers.get("Authorization", "")
        self._send(scripted or vendor._answer(self.path, authorization, body))

    do_GET = do_POST

    def _misbehave(self, how: Misbehaviour) -> None:
        if how is RESET:
            return self._reset()
        if how is DRIP:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not self.server.vendor._closing.wait(DRIP_INTERVAL):
            if how is DRIP:
                self.wfile.write(b".")
        self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def _send(self, answer: Answer) -> None:
        body = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


# --- SMTP ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    """What an SMTP server took."""

    sender: str
    recipients: list[str]
    content: bytes

    @property
    def parsed(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)


class FakeSmtp:
    """An SMTP server: plain, with STARTTLS (`tls`) and log-in, or with TLS from the start (`smtps`).

    With `pipelining` it takes several commands at once, as most do.

    `next("RCPT", "550 5.1.1 No such user")` scripts the next such command; the stages are GREETING,
    STARTTLS, AUTH, MAIL, RCPT, DATA (the command) and DOT (the end of the message).
    """

    username = "mailer"
    password = "password-example"

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        smtps: ssl.SSLContext | None = None,
        log_in: bool = False,
        pipelining: bool = False,
    ) -> None:
        self.pipelining = pipelining
        self.accepted: list[Mail] = []
        self.connections = 0
        self.tls, self.smtps, self.log_in = tls, smtps, log_in
        self._script: dict[str, deque[str | Misbehaviour]] = {}
        self._sessions: set[_Session] = set()
        self._transports: list[Any] = []
        self._loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        """For EMAIL_URL."""
        scheme = "smtp+ssl" if self.smtps else "smtp+tls" if self.tls else "smtp"
        log_in = f"{self.username}:{self.password}@" if self.log_in else ""
        return f"{scheme}://{log_in}127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "EMAIL_URL": self.url,
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": self.port,
            "EMAIL_USE_TLS": bool(self.tls),
            "EMAIL_USE_SSL": bool(self.smtps),
            "EMAIL_HOST_USER": self.username if self.log_in else "",
            "EMAIL_HOST_PASSWORD": self.password if self.log_in else "",
        }

    def next(self, stage: str, answer: str | Misbehaviour) -> None:
        self._script.setdefault(stage, deque()).append(answer)

    def close_connections(self) -> None:
        """Close the kept connections, as a server does with idle ones."""
        asyncio.run_coroutine_threadsafe(self._close_sessions(), self._loop).result(5)

    async def _close_sessions(self) -> None:
        for session in tuple(self._sessions):
            session.transport.close()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = self._loop.create_server(
            lambda: _Session(self), "127.0.0.1", 0, ssl=self.smtps, backlog=128
        )
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        await asyncio.sleep(0.01)  # connections in the making
        for transport in self._transports:
            transport.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the sockets are closed in the loop's next turns

    # What aiosmtpd asks its handler.

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        more = ["250-PIPELINING"] if self.pipelining else []
        return [*responses[:-1], *more, responses[-1]]

    async def handle_DATA(self, server: _Session, session: Any, envelope: Any) -> str:
        if await server.scripted("DOT"):
            return ""
        self.accepted.append(Mail(envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 2.0.0 Ok: queued as EXAMPLE"

    def authenticate(self, server: Any, session: Any, envelope: Any, how: Any, given: Any) -> Any:
        expected = (self.username.encode(), self.password.encode())
        known = (given.login, given.password) == expected
        return AuthResult(success=known, handled=known)


class _Session(SMTP):
    """aiosmtpd's server, which answers by the script where there is one."""

    transport: Any

    def __init__(self, vendor: FakeSmtp) -> None:
        self._vendor = vendor
        super().__init__(
            vendor,
            tls_context=vendor.tls,
            authenticator=vendor.authenticate,
            auth_required=vendor.log_in,
            auth_require_tls=True,
            enable_SMTPUTF8=False,
            ident="fake",
            loop=vendor._loop,
        )

    async def scripted(self, stage: str) -> bool:
        script = self._vendor._script.get(stage)
        if not script:
            return False
        match script.popleft():
            case str(reply):
                await self._reply(reply)
            case Misbehaviour.SLOW:
                await asyncio.sleep(DELAY)
                return False
            case Misbehaviour.RESET:
                self.transport.abort()
            case how:
                await self._never_finish(drip=how is DRIP)
        return True

    async def _reply(self, reply: str) -> None:
        await super().push(reply)
        if reply.startswith("421"):
            self.transport.close()

    async def _never_finish(self, *, drip: bool) -> None:
        while not self.transport.is_closing():
            if drip:
                self.transport.write(b"2")
            await asyncio.sleep(DRIP_INTERVAL)

    async def push(self, status: Any) -> None:
        if status:  # nothing, when handle_DATA has already answered by the script
            await super().push(status)

    def connection_made(self, transport: Any) -> None:
        if self not in self._vendor._sessions:  # not once more after STARTTLS
            self._vendor._sessions.add(self)
            self._vendor._transports.append(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._vendor._sessions.discard(self)
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        self._vendor.connections += 1
        if not await self.scripted("GREETING"):
            await super()._handle_client()

    async def smtp_STARTTLS(self, arg: str) -> None:
        if not await self.scripted("STARTTLS"):
            await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:
        if not await self.scripted("AUTH"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str | None) -> None:
        if not await self.scripted("MAIL"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str | None) -> None:
        if not await self.scripted("RCPT"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:
        if not await self.scripted("DATA"):
            await super().smtp_DATA(arg)
