"""The clients, a process of their own: they post, and keep a record of every answer.

    python -m drills.clients '{"url": ..., "count": ...}'     (the fields of `Load`)

Each notification has a `ref` that the client makes up. A client that retries does so as the documentation tells it
to: with the same Idempotency-Key, after a cut answer, a 409, a 429 and a 5xx. SIGTERM ends it after the answers that
are under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TextIO
from urllib.parse import urlsplit
from uuid import uuid4


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is posted. `count` notifications, or as many as `seconds` allow; both 0: until SIGTERM."""

    url: str
    key: str
    record: str
    count: int = 0
    seconds: float = 0.0
    #: Requests a second; 0: as fast as the connections go.
    rate: float = 0.0
    connections: int = 8
    priority: str = "normal"
    channel: str = "email"
    #: The refs begin with this, so that a vendor can single them out.
    prefix: str = ""
    #: Retry, with an Idempotency-Key, up to so often; 0: ask once, without a key.
    retries: int = 0
    #: Seconds a client waits for an answer.
    patience: float = 30.0
    message: str = "Your order is on its way."


#: What was answered to one request: the status (None: nothing came) and the document.
Reply = tuple[int | None, Any]

RETRIED = (409, 429, 500, 502, 503, 504)
RETRY_PAUSE = 0.5


class Connection:
    """One kept HTTP connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._host, self._port = urlsplit(load.url).hostname, urlsplit(load.url).port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: Any, headers: str = "") -> Reply:
        """The answer; (None, None) when none came in time."""
        try:
            async with asyncio.timeout(self._load.patience):
                return await self._exchange(path, json.dumps(body).encode(), headers)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.close()
            return None, None

    async def _exchange(self, path: str, body: bytes, headers: str) -> Reply:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=2**24)
        reader, writer = self._streams
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._load.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()
            + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].partition("\r\n")[0])
        document = json.loads(await reader.readexactly(length))
        if "connection: close" in head:
            self.close()
        return int(head[9:12]), document

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None


class Clients:
    """So many connections, each posting one thing after the other."""

    def __init__(self, load: Load, record: TextIO) -> None:
        self.load, self.record = load, record
        self.stopping = False
        #: One True for each notification to post; False: no more.
        self.turns: asyncio.Queue[bool] = asyncio.Queue(maxsize=1)

    async def run(self) -> None:
        posting = [asyncio.create_task(self._post_for_ever()) for _ in range(self.load.connections)]
        async for turn in self._paced():
            await self.turns.put(turn)
        for _ in posting:
            await self.turns.put(False)
        await asyncio.gather(*posting)

    async def _paced(self) -> AsyncIterator[bool]:
        """A turn for each notification, at the pace of `rate`, until it is enough."""
        load, began, asked = self.load, time.monotonic(), 0
        while not self.stopping and not (load.count and asked >= load.count):
            if load.seconds and time.monotonic() - began > load.seconds:
                return
            yield True
            asked += 1
            if load.rate:
                await asyncio.sleep(max(0.0, began + asked / load.rate - time.monotonic()))

    async def _post_for_ever(self) -> None:
        connection = Connection(self.load)
        while await self.turns.get():
            await self._post_one(connection)
        connection.close()

    async def _post_one(self, connection: Connection) -> None:
        ref = self._ref()
        headers = f"Idempotency-Key: {ref}\r\n" if self.load.retries else ""
        for _ in range(1 + self.load.retries):
            began = time.time()
            status, document = await connection.post(
                "/api/v1/notifications", self._body(ref), headers
            )
            self._note(ref, status, document["id"] if status == 201 else "", began)
            if self.stopping or not (status is None or status in RETRIED):
                return
            await asyncio.sleep(RETRY_PAUSE)

    def _ref(self) -> str:
        return f"{self.load.prefix}{uuid4().hex}"

    def _body(self, ref: str) -> dict[str, str]:
        return {
            "recipient": self._recipient(ref),
            "channel": self.load.channel,
            "priority": self.load.priority,
            "message": f"{self.load.message} ref={ref}",
            "reference": ref,
        } | ({"title": "Your order"} if self.load.channel == "email" else {})

    def _recipient(self, ref: str) -> str:
        if self.load.channel == "sms":
            return f"+1555{int(ref[-7:], 16) % 10_000_000:07d}"
        return f"{ref}@example.com"

    def _note(self, ref: str, status: int | None, id: str, began: float) -> None:
        answer = {
            "ref": ref,
            "status": status,
            "id": id,
            "at": began,
            "seconds": time.time() - began,
        }
        self.record.write(json.dumps(answer) + "\n")

    def stop(self) -> None:
        self.stopping = True


async def main(load: Load) -> None:
    with open(load.record, "a", encoding="utf-8") as record:
        clients = Clients(load, record)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, clients.stop)
        with contextlib.suppress(asyncio.CancelledError):
            await clients.run()
        record.flush()
        os.fsync(record.fileno())


if __name__ == "__main__":
    asyncio.run(main(Load(**json.loads(sys.argv[1]))))
