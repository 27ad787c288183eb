"""A relay before PostgreSQL that can cut a connection between a COMMIT and its answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from drills.servers import Postgres

#: As psycopg sends it: a simple query (https://www.postgresql.org/docs/current/protocol-message-formats.html).
_COMMIT = b"COMMIT\x00"


class Proxy:
    """Listens on a port of loopback while the block runs."""

    def __init__(self, postgres: Postgres) -> None:
        address = postgres._program.address
        self._user = address.user
        self._target = f"{address.socket_dir}/.s.PGSQL.{address.port or 5432}"
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._sockets: list[socket.socket] = []
        self._counting = threading.Lock()
        self._commits = 0
        self.cut_every_other_commit = False
        self.cuts = 0

    def url(self, database: str) -> str:
        return f"postgres://{self._user}@127.0.0.1:{self._server.getsockname()[1]}/{database}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self._server, *self._sockets):
            _close(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.socket(socket.AF_UNIX)
                self._sockets += [client, server]
                server.connect(self._target)
                connection = _Connection(self, client, server)
                for carry in (connection.carry_questions, connection.carry_answers):
                    threading.Thread(target=carry, daemon=True).start()

    def cuts_this_one(self) -> bool:
        if not self.cut_every_other_commit:
            return False
        with self._counting:
            self._commits += 1
            self.cuts += self._commits % 2
            return self._commits % 2 == 1


class _Connection:
    """One client's. After a COMMIT that is to be cut, what the server says next goes nowhere."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._cut = False

    def carry_questions(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(65536):
                if _COMMIT in data and self._proxy.cuts_this_one():
                    self._cut = True
                self._server.sendall(data)
        _close(self._server)

    def carry_answers(self) -> None:
        with suppress(OSError):
            # By the time that the answer to a COMMIT comes, it is stored.
            while (data := self._server.recv(65536)) and not self._cut:
                self._client.sendall(data)
        _close(self._client)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
