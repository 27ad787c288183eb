"""Webhooks as Mailgun and Twilio make them, signed with the drills' keys, and told until they are answered with 2xx.

    python -m drills.webhooks '{"url": ..., "events": ...}'     (the fields of `Storm`)

tells many from a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

from twilio.request_validator import RequestValidator

MAILGUN_SIGNING_KEY = "signing-key-example"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One POST: where to, and what."""

    path: str
    content_type: str
    body: bytes
    headers: str = ""

    def request(self, host: str) -> bytes:
        """As it goes over the wire."""
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n{self.headers}\r\n"
        ).encode() + self.body


def mailgun_event(
    event: str, notification_id: str, recipient: str, message_id: str = ""
) -> dict[str, Any]:
    """What happened to one message. It stays the same, however often it is told.

    https://documentation.mailgun.com/docs/mailgun/user-manual/events/event-structure
    """
    failed = {"severity": "permanent", "reason": "bounce"} if event == "failed" else {}
    return failed | {
        "event": event,
        "id": uuid4().hex[:22],
        "timestamp": time.time(),
        "log-level": "info",
        "recipient": recipient,
        "recipient-domain": recipient.partition("@")[2],
        "tags": [],
        "campaigns": [],
        "user-variables": {"notification_id": notification_id},
        "envelope": {
            "sender": "notifications@example.com",
            "transport": "smtp",
            "targets": recipient,
        },
        "message": {
            "headers": {
                "to": recipient,
                "from": "notifications@example.com",
                "subject": "Your order",
                "message-id": message_id.strip("<>"),
            },
            "attachments": [],
            "size": 111,
        },
        "delivery-status": {
            "tls": True,
            "mx-host": "mx.example.com",
            "attempt-no": 1,
            "description": "",
            "session-seconds": 0.4331989288330078,
            "utf8": True,
            "code": 550 if failed else 250,
            "message": "No such mailbox" if failed else "OK",
            "certificate-verified": True,
        },
        "flags": {
            "is-routed": False,
            "is-authenticated": True,
            "is-system-test": False,
            "is-test-mode": False,
        },
        "storage": {"url": "https://storage.example.com/messages/key", "key": "key"},
    }


def mailgun(event: dict[str, Any]) -> Webhook:
    """The event, told now: with a time and a token of its own, which is all that the signature covers.

    https://documentation.mailgun.com/docs/mailgun/user-manual/events/webhooks#securing-webhooks
    """
    timestamp, token = str(int(time.time())), uuid4().hex
    signature = hmac.new(
        MAILGUN_SIGNING_KEY.encode(), f"{timestamp}{token}".encode(), hashlib.sha256
    )
    signed = {"timestamp": timestamp, "token": token, "signature": signature.hexdigest()}
    body = json.dumps({"signature": signed, "event-data": event}).encode()
    return Webhook("/hooks/mailgun", "application/json", body)


def twilio(url: str, token: str, form: dict[str, str]) -> Webhook:
    """A status callback to the address that came with the message."""
    signature = RequestValidator(token).compute_signature(url, form)
    return Webhook(
        urlsplit(url).path,
        "application/x-www-form-urlencoded",
        urlencode(form).encode(),
        f"X-Twilio-Signature: {signature}\r\n",
    )


# --- Telling ---------------------------------------------------------------------------------------------------

#: Seconds until a webhook that was not answered with 2xx is told again, and for which an answer is awaited.
REPEATED_AFTER, PATIENCE = 0.5, 10.0


class Teller:
    """Tells over so many kept connections, and writes down each webhook with its answer."""

    def __init__(self, url: str, record: Path, connections: int) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._record = record.open("ab", buffering=0)
        self._free: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for _ in range(connections):
            self._free.put_nowait(_Connection(self._host, self._port))

    async def tell_mailgun(self, ref: str, event: dict[str, Any]) -> None:
        """Signed anew each time that it is told."""
        await self.tell(ref, event["event"], event["id"], lambda: mailgun(event))

    async def tell(self, ref: str, event: str, event_id: str, make: Callable[[], Webhook]) -> None:
        """Returns when it was answered with 2xx."""
        while True:
            began = time.time()
            status = await self._once(make)
            self._note(ref=ref, event=event, event_id=event_id, status=status, at=began)
            if status and 200 <= status < 300:
                return
            await asyncio.sleep(REPEATED_AFTER)

    def close(self) -> None:
        """When nothing is being told any more."""
        while not self._free.empty():
            self._free.get_nowait().close()
        self._record.close()

    async def _once(self, make: Callable[[], Webhook]) -> int | None:
        connection = await self._free.get()
        try:
            return await connection.exchange(make().request(f"{self._host}:{self._port}"))
        finally:
            self._free.put_nowait(connection)

    def _note(self, *, at: float, **values: Any) -> None:
        values |= {"at": at, "seconds": time.time() - at}
        self._record.write(json.dumps(values).encode() + b"\n")


class _Connection:
    def __init__(self, host: str | None, port: int | None) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: bytes) -> int | None:
        """The status; None where no answer came in time."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._exchange(request)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.close()
            return None

    async def _exchange(self, request: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        if b"connection: close" in head:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Events of Mailgun, from a file with a line `[ref, event]` for each, told over so many connections.

    Each is told `times` times, in any order. With a `rate`, so many a second are offered for `seconds`: what finds no
    free connection by then is not told at all.
    """

    url: str
    record: str
    events: str
    times: int = 1
    connections: int = 20
    rate: float = 0.0
    seconds: float = 0.0


class Storming:
    """One storm, on one event loop."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self._teller = Teller(storm.url, Path(storm.record), storm.connections)
        self._free = asyncio.Semaphore(storm.connections)

    async def run(self) -> None:
        lines = Path(self.storm.events).read_text(encoding="utf-8").splitlines()
        tellings = [json.loads(line) for line in lines] * self.storm.times
        random.shuffle(tellings)
        with closing(self._teller):
            await self._tell_all(tellings)

    async def _tell_all(self, tellings: list[tuple[str, dict[str, Any]]]) -> None:
        began, offered = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            for ref, event in tellings:
                await self._paced(began, offered)
                await self._free.acquire()
                if self.storm.seconds and time.monotonic() - began > self.storm.seconds:
                    return
                offered += 1
                group.create_task(self._tell(ref, event))

    async def _paced(self, began: float, offered: int) -> None:
        if self.storm.rate:
            await asyncio.sleep(max(0.0, began + offered / self.storm.rate - time.monotonic()))

    async def _tell(self, ref: str, event: dict[str, Any]) -> None:
        try:
            await self._teller.tell_mailgun(ref, event)
        finally:
            self._free.release()


if __name__ == "__main__":
    asyncio.run(Storming(Storm(**json.loads(sys.argv[1]))).run())
