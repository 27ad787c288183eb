"""Many clients of the stream in one process: `python -m bench.listeners PORT TOKENS EVENTS`.

Reads a token a line, opens a stream for each, and goes on until it is told to end. Of each event that it is given it
writes a line: which client, the event's name, its number, the notification's id, when (seconds since 1970). A client whose
stream ends comes back with the number of the last event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import IO

#: Streams that are opened at the same time.
AT_ONCE = 50


class Listener:
    def __init__(self, number: int, port: int, token: str, out: IO[str]) -> None:
        self.number, self.port, self.token, self.out = number, port, token, out
        self.last: str | None = None

    async def listen(self, gate: asyncio.Semaphore, opened: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._listen_once(gate, opened)
            await asyncio.sleep(0.5)

    async def _listen_once(self, gate: asyncio.Semaphore, opened: asyncio.Event) -> None:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self._request())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise OSError(head.split(b"\r\n")[0].decode())
            opened.set()
        try:
            await self._read(reader)
        finally:
            writer.close()

    def _request(self) -> bytes:
        after = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
        return (
            f"GET /api/v1/inbox/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.token}\r\n"
            f"{after}\r\n"
        ).encode()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        text = b""
        while size := int((await reader.readline()) or b"0", 16):
            text += (await reader.readexactly(size + 2))[:-2]
            *blocks, text = text.split(b"\n\n")
            now = time.time()
            for block in blocks:
                self._note(block, now)

    def _note(self, block: bytes, now: float) -> None:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
        if "id" not in fields:
            return
        self.last = fields["id"]
        item = json.loads(fields["data"]).get("notification") or {}
        print(
            self.number,
            fields["event"],
            self.last,
            item.get("id", "-"),
            f"{now:.6f}",
            file=self.out,
        )


async def listen(port: int, tokens: list[str], out: IO[str]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)
    opened = [asyncio.Event() for _ in tokens]
    tasks = [
        asyncio.create_task(Listener(number, port, token, out).listen(gate, opened[number]))
        for number, token in enumerate(tokens)
    ]
    for each in opened:
        await each.wait()
    print("all are open", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    for task in tasks:
        task.cancel()


def main() -> None:
    port, tokens, events = sys.argv[1:]
    with Path(events).open("w") as out:
        asyncio.run(listen(int(port), Path(tokens).read_text().split(), out))


if __name__ == "__main__":
    main()
