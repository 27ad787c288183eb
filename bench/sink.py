"""An SMTP server that takes every mail and throws it away, at little cost: `python -m bench.sink PORT`.

It knows the commands that smtplib sends, and `XCOUNT`, which answers `250 <mails> <bytes> <different recipients>`.
Its ledger of recipients is a set of their addresses.
"""

from __future__ import annotations

import asyncio
import sys

_END = b"\r\n.\r\n"
_ANSWERS = {
    b"EHLO": b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"HELO": b"250 sink.test\r\n",
    b"DATA": b"354 Go ahead\r\n",
    b"QUIT": b"221 Bye\r\n",
}
_counted = {"mails": 0, "bytes": 0}
_recipients: set[bytes] = set()


class Session(asyncio.Protocol):
    """One connection. Commands may come several at once (RFC 2920); after DATA the client waits for the answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self.message: bytearray | None = None
        self.recipient = b""
        self.transport.write(b"220 sink.test\r\n")

    def data_received(self, data: bytes) -> None:
        if self.message is not None:
            self._take(data)
        else:
            self.transport.write(b"".join(map(self._answer, data.splitlines())))

    def _answer(self, line: bytes) -> bytes:
        command = line[:4].upper()
        if command == b"DATA":
            self.message = bytearray()
        if command == b"RCPT":
            self.recipient = line
        if command == b"XCOU":
            return f"250 {_counted['mails']} {_counted['bytes']} {len(_recipients)}\r\n".encode()
        return _ANSWERS.get(command, b"250 OK\r\n")

    def _take(self, data: bytes) -> None:
        assert self.message is not None
        self.message += data
        if self.message.endswith(_END):
            _counted["mails"] += 1
            _counted["bytes"] += len(self.message)
            _recipients.add(self.recipient)
            self.message = None
            self.transport.write(b"250 Queued\r\n")


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Session, "127.0.0.1", port, backlog=200)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
