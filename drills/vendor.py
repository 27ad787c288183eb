"""The fake vendors, a process of their own: SMTP, and the HTTP APIs of Mailgun and Twilio.

    python -m drills.vendor FOLDER URL

Whatever one of them takes is in FOLDER/ledger.jsonl, and on the disk, before it answers: one fsync for all that wait
at the moment. FOLDER/calls.jsonl has every call with what became of it. The first line on standard output says where
they listen; on the control port they can be told, at run time, how to behave (`Behaviour`), and what to report later
of what they take (`Reports`): the web at URL gets their webhooks, and FOLDER/webhooks.jsonl has each with its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
import time
from collections import Counter, defaultdict, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs
from uuid import uuid4

from drills import webhooks
from drills.webhooks import Teller, Webhook

#: Seconds between two bytes of one that drips.
DRIP_INTERVAL = 1.0
#: Most bytes of a message.
LARGEST = 2**22

USERNAME, PASSWORD = "mailer", "password-example"
MAILGUN_KEY, MAILGUN_DOMAIN = "key-example", "mg.example.com"
TWILIO_ACCOUNT, TWILIO_TOKEN, TWILIO_FROM = "AC" + "0" * 32, "token-example", "+15005550006"
VENDORS = ("smtp", "mailgun", "twilio")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a vendor answers from now on.

    | how | what happens |
    |---|---|
    | accept | taken |
    | refuse | not taken; answered with `code`, and `Retry-After` where `retry_after` is set |
    | drip | not taken; the answer comes a byte a second, and never ends |
    | hang | not taken; no answer |
    | reset | not taken; the connection is reset |
    | accept_hang | taken; no answer |
    | accept_reset | taken; the connection is reset |
    | accept_error | taken; answered with `code` |

    `delay`: seconds before anything of that. `stage`: for SMTP, where it happens: at `mail`, `rcpt` or the final `dot`
    (535 and 530: at the log-in and, for those who are logged in, at `mail`). `only`: for recipients that contain this;
    the others are accepted. `above`: while it has accepted fewer than this in the last second, it accepts.
    """

    how: str = "accept"
    delay: float = 0.0
    code: int = 0
    retry_after: int = 0
    stage: str = "dot"
    only: str = ""
    above: int = 0


ACCEPT = Behaviour()


@dataclass(frozen=True, slots=True)
class Reports:
    """What Mailgun or Twilio reports by webhook, from now on, of each message it takes.

    `event`: "delivered" or "bounced"; "" nothing. It is told `delay` seconds after the message was taken. With a
    `head_start`, it is told before the call is answered, so many seconds.
    """

    event: str = ""
    delay: float = 0.0
    head_start: float = 0.0


SILENCE = Reports()
#: Connections over which the vendors report.
REPORTING = 8


@dataclass(frozen=True, slots=True)
class Taken:
    """One message that came by HTTP; `message_id` is the vendor's own, `callback` where its status is to go."""

    vendor: str
    to: str
    ref: str
    id: str
    message_id: str
    callback: str = ""


class Ledger:
    """What was taken: on the disk before the vendor says so. One fsync for all that wait."""

    def __init__(self, folder: Path) -> None:
        self._file: BinaryIO = (folder / "ledger.jsonl").open("ab", buffering=0)
        self._calls: BinaryIO = (folder / "calls.jsonl").open("ab", buffering=0)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._something = asyncio.Event()
        self.accepted = 0

    async def accept(self, vendor: str, ref: str, id: str) -> None:
        """Returns when it is on the disk."""
        line = _line(vendor=vendor, ref=ref, id=id, at=time.time())
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, stored))
        self._something.set()
        await stored

    def call(self, vendor: str, ref: str, id: str, began: float, outcome: str) -> None:
        """One call, when it is over or has been decided; `at` is when it came in."""
        self._calls.write(_line(vendor=vendor, ref=ref, id=id, at=began, outcome=outcome))

    async def keep(self) -> None:
        """Write what waits, for ever."""
        while True:
            await self._something.wait()
            self._something.clear()
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._store, b"".join(line for line, _ in batch))
            self.accepted += len(batch)
            for _, stored in batch:
                if not stored.done():
                    stored.set_result(None)

    def _store(self, lines: bytes) -> None:
        self._file.write(lines)
        os.fdatasync(self._file.fileno())


class Vendors:
    """All of them, on one event loop."""

    def __init__(self, folder: Path, url: str) -> None:
        self.ledger = Ledger(folder)
        self.teller = Teller(url, folder / "webhooks.jsonl", REPORTING)
        self.behaviours = dict.fromkeys(VENDORS, ACCEPT)
        self.reports = dict.fromkeys(VENDORS, SILENCE)
        self.reporting: set[asyncio.Task[None]] = set()
        self.open_calls: Counter[str] = Counter()
        #: When each of the last second was accepted, where only what is above a number is refused.
        self.lately: defaultdict[str, deque[float]] = defaultdict(deque)

    async def serve(self) -> None:
        """Listen, say where, and go on until SIGTERM."""
        servers = {
            name: await asyncio.start_server(self._guarded(handler), "127.0.0.1", 0, limit=LARGEST)
            for name, handler in (
                ("smtp", self.smtp),
                ("http", self.http),
                ("control", self.control),
            )
        }
        ports = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
        print(json.dumps(ports), flush=True)
        keeping = asyncio.create_task(self.ledger.keep())
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()
        keeping.cancel()

    def _guarded(self, handler: Any) -> Any:
        """A client that hangs up, or is killed, ends its own conversation and nothing else."""

        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                await handler(reader, writer)
            with contextlib.suppress(OSError):
                writer.close()

        return guarded

    def behaviour_for(self, vendor: str, to: str) -> Behaviour:
        behaviour = self.behaviours[vendor]
        if behaviour.only not in to or (
            behaviour.above and self._is_slow_enough(vendor, behaviour)
        ):
            return ACCEPT
        return behaviour

    def _is_slow_enough(self, vendor: str, behaviour: Behaviour) -> bool:
        """Counts it, if so."""
        lately, now = self.lately[vendor], time.monotonic()
        while lately and lately[0] <= now - 1:
            lately.popleft()
        if len(lately) >= behaviour.above:
            return False
        lately.append(now)
        return True

    # -- control ----------------------------------------------------------------------------------------

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A line of JSON in: vendors with what is new of them (`as_json`). A line out: what has been counted."""
        while line := await reader.readline():
            told = json.loads(line)
            for vendor, behaviour in told["behaviours"].items():
                self.behaviours[vendor] = Behaviour(**behaviour)
            for vendor, reports in told["reports"].items():
                self.reports[vendor] = Reports(**reports)
            state = {
                "accepted": self.ledger.accepted,
                "open_calls": self.open_calls.total(),
                "open_reports": len(self.reporting),
            }
            writer.write(json.dumps(state).encode() + b"\n")

    # -- one message --------------------------------------------------------------------------------------

    async def take(
        self, vendor: str, to: str, id: str, text: str, behaviour: Behaviour
    ) -> Behaviour:
        """Decide about one whole message. Returns the behaviour whose answer is due."""
        began, ref = time.time(), ref_of(to, text)
        self.open_calls[vendor] += 1
        try:
            if behaviour.delay:
                await asyncio.sleep(behaviour.delay)
            if behaviour.how.startswith("accept"):
                await self.ledger.accept(vendor, ref, id)
            self.ledger.call(vendor, ref, id, began, _outcome(behaviour))
        finally:
            self.open_calls[vendor] -= 1
        return behaviour

    # -- SMTP ---------------------------------------------------------------------------------------------

    async def smtp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 vendor.test ESMTP\r\n")
        to = ""
        envelope = True
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"MAIL":
                to, envelope = "", True
            if verb == b"RCPT":
                to = _address(line)
            elif verb == b"DATA" and envelope:
                writer.write(b"354 Go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                await self._smtp_message(reader, writer, to, content)
                continue
            elif verb == b"QUIT":
                writer.write(b"221 Bye\r\n")
                return
            elif verb == b"DATA":  # pipelined behind a refusal
                writer.write(b"503 5.5.1 no valid envelope\r\n")
                continue
            envelope = await self._smtp_command(reader, writer, verb, to) and envelope

    async def _smtp_command(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, verb: bytes, to: str
    ) -> bool:
        """Anything but the message itself. Returns whether it was not refused."""
        behaviour = self.behaviours["smtp"] if verb in (b"MAIL", b"AUTH") else ACCEPT
        if verb == b"RCPT":
            behaviour = self.behaviour_for("smtp", to)
        if behaviour.how != "accept" and _is_at(behaviour, verb):
            if behaviour.delay:
                await asyncio.sleep(behaviour.delay)
            self.ledger.call("smtp", ref_of(to, ""), "", time.time(), _outcome(behaviour))
            await _misbehave(reader, writer, behaviour, _smtp_refusal(behaviour, verb))
            return False
        writer.write(_SMTP_ANSWERS.get(verb, b"250 OK\r\n"))
        return True

    async def _smtp_message(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: str, content: bytes
    ) -> None:
        behaviour = self.behaviour_for("smtp", to)
        if behaviour.how != "accept" and behaviour.stage != "dot":
            behaviour = ACCEPT
        id = _header(content, b"X-Notification-Id")
        await self.take("smtp", to, id, "", behaviour)
        if behaviour.how == "accept":
            writer.write(f"250 2.0.0 Ok: queued as {uuid4().hex[:10].upper()}\r\n".encode())
        else:
            await _misbehave(reader, writer, behaviour, _smtp_refusal(behaviour, b"DOT"))

    # -- HTTP ---------------------------------------------------------------------------------------------

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(_header(head, b"Content-Length") or 0)
            form = parse_qs((await reader.readexactly(length)).decode(), keep_blank_values=True)
            vendor = "twilio" if b"/2010-04-01/" in head.split(b"\r\n", 1)[0] else "mailgun"
            await self._http_message(reader, writer, vendor, form)

    async def _http_message(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        vendor: str,
        form: dict[str, list[str]],
    ) -> None:
        to = (form.get("to") or form.get("To") or [""])[0]
        text = (form.get("text") or form.get("Body") or [""])[0]
        [id] = form.get("v:notification_id", [""])
        behaviour = await self.take(vendor, to, id, text, self.behaviour_for(vendor, to + text))
        [callback] = form.get("StatusCallback", [""])
        message = Taken(vendor, to, ref_of(to, text), id, _new_id(vendor), callback)
        if behaviour.how.startswith("accept"):
            await self._report(message)
        if behaviour.how == "accept":
            writer.write(_http_taken(message))
        else:
            await _misbehave(reader, writer, behaviour, _http_refusal(behaviour))

    # -- webhooks -----------------------------------------------------------------------------------------

    async def _report(self, message: Taken) -> None:
        """Begin to report; returns when the call may be answered."""
        reports = self.reports[message.vendor]
        if not reports.event:
            return
        telling = asyncio.create_task(self._tell(message, reports))
        self.reporting.add(telling)
        telling.add_done_callback(self.reporting.discard)
        if reports.head_start:
            await telling
            await asyncio.sleep(reports.head_start)

    async def _tell(self, message: Taken, reports: Reports) -> None:
        await asyncio.sleep(reports.delay)
        if message.vendor == "twilio":
            webhook = _twilio_webhook(message, reports.event)
            await self.teller.tell(message.ref, reports.event, message.message_id, lambda: webhook)
            return
        word = _MAILGUN_WORDS[reports.event]
        event = webhooks.mailgun_event(word, message.id, message.to, message.message_id)
        await self.teller.tell_mailgun(message.ref, event)


async def _misbehave(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    behaviour: Behaviour,
    refusal: bytes,
) -> None:
    how = behaviour.how.removeprefix("accept_")
    if how in ("refuse", "error"):
        writer.write(refusal)
    elif how == "reset":
        _reset(writer)
    else:
        await _never_answer(reader, writer, drips=how == "drip")


async def _never_answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, drips: bool
) -> None:
    """Until the client goes away."""
    leaving = asyncio.create_task(reader.read())
    dripped = b"2"  # an SMTP reply, or the garbled start of an HTTP one: no end in either
    while not leaving.done():
        if drips:
            writer.write(dripped)
            dripped = b"5"
        await asyncio.wait([leaving], timeout=DRIP_INTERVAL)
    raise EOFError


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST, as a crashed server's kernel or a firewall does."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise EOFError


def ref_of(to: str, text: str) -> str:
    """The client's ref: what stands before the @, or `ref=...` in an SMS."""
    if "@" in to:
        return to.partition("@")[0]
    found = re.search(r"ref=(\S+)", text)
    return found[1] if found else to


def _outcome(behaviour: Behaviour) -> str:
    return f"{behaviour.how} {behaviour.code}" if behaviour.code else behaviour.how


def _line(**values: Any) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()


def _header(head: bytes, name: bytes) -> str:
    found = re.search(rb"^" + name + rb": *(\S+)", head, re.MULTILINE | re.IGNORECASE)
    return found[1].decode() if found else ""


_SMTP_ANSWERS = {
    b"EHLO": b"250-vendor.test\r\n250-AUTH PLAIN\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"AUTH": b"235 2.7.0 Welcome\r\n",
}
_LOG_IN_CODES = (530, 535)


def _is_at(behaviour: Behaviour, verb: bytes) -> bool:
    if behaviour.code in _LOG_IN_CODES:
        return verb in (b"AUTH", b"MAIL")
    return verb == behaviour.stage.upper().encode()


def _smtp_refusal(behaviour: Behaviour, verb: bytes) -> bytes:
    # Who is logged in cannot be refused the log-in; the next mail is.
    code = 530 if behaviour.code == 535 and verb == b"MAIL" else behaviour.code
    return f"{code} refused by the drill\r\n".encode()


_MAILGUN_WORDS = {"delivered": "delivered", "bounced": "failed"}
_TWILIO_WORDS = {
    "delivered": {"MessageStatus": "delivered"},
    "bounced": {"MessageStatus": "undelivered", "ErrorCode": "30005"},
}


def _twilio_webhook(message: Taken, event: str) -> Webhook:
    form = {"MessageSid": message.message_id, "AccountSid": TWILIO_ACCOUNT, "To": message.to}
    return webhooks.twilio(message.callback, TWILIO_TOKEN, form | _TWILIO_WORDS[event])


def _new_id(vendor: str) -> str:
    return f"SM{uuid4().hex}" if vendor == "twilio" else f"<{uuid4().hex}@{MAILGUN_DOMAIN}>"


def _http_taken(message: Taken) -> bytes:
    if message.vendor == "twilio":
        return _http_answer(201, {"sid": message.message_id, "status": "queued"})
    return _http_answer(200, {"id": message.message_id, "message": "Queued."})


def _http_refusal(behaviour: Behaviour) -> bytes:
    extra = f"Retry-After: {behaviour.retry_after}\r\n" if behaviour.retry_after else ""
    body = {"message": "refused by the drill", "status": behaviour.code}
    return _http_answer(behaviour.code, body, extra)


def _http_answer(status: int, body: dict[str, Any], extra: str = "") -> bytes:
    content = json.dumps(body)
    return (
        f"HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n{extra}\r\n{content}"
    ).encode()


def as_json(behaviours: dict[str, Behaviour], reports: dict[str, Reports]) -> bytes:
    """What `Vendors.control` reads."""
    return _line(
        behaviours={vendor: asdict(behaviour) for vendor, behaviour in behaviours.items()},
        reports={vendor: asdict(each) for vendor, each in reports.items()},
    )


if __name__ == "__main__":
    asyncio.run(Vendors(Path(sys.argv[1]), sys.argv[2]).serve())
