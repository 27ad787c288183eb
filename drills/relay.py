"""A TCP relay before PostgreSQL that cuts connections in the worst moment: committed, and not yet said so."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

#: The simple query that psycopg ends a transaction with.
COMMIT = b"COMMIT\x00"


class CommitCutter:
    """Passes everything on, between a port of 127.0.0.1 and the server's UNIX socket.

    After `cut(every=n)`, the answer to each nth COMMIT is swallowed and its connection reset.
    """

    def __init__(self, unix_socket: str) -> None:
        self.cuts = 0
        self._target = unix_socket
        self._every = self._commits = 0
        self._counting = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for each in (self._server, *self._sockets):
            _close(each)

    def cut(self, *, every: int) -> None:
        """From now on; 0: none."""
        self._every = every

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += [client, server]
                doomed = threading.Event()
                for pass_on in (self._pass_queries_on, self._pass_answers_on):
                    threading.Thread(
                        target=pass_on, args=(client, server, doomed), daemon=True
                    ).start()

    def _pass_queries_on(
        self, client: socket.socket, server: socket.socket, doomed: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if data.endswith(COMMIT) and self._is_next():
                    doomed.set()
                server.sendall(data)
        _close(server)

    def _pass_answers_on(
        self, client: socket.socket, server: socket.socket, doomed: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if doomed.is_set():
                    # This answers the COMMIT: it is done, and nobody will hear of it.
                    self.cuts += 1
                    break
                client.sendall(data)
        _close(client)

    def _is_next(self) -> bool:
        with self._counting:
            self._commits += 1
            return bool(self._every) and self._commits % self._every == 0


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
