"""Django's PostgreSQL backend, with an end to every wait.

A frozen PostgreSQL (SIGSTOP, a dead disk, a lost host) honours no `statement_timeout`: without a deadline
on our side, a request would wait for ever. psycopg's `Connection.wait` is the one place through which every
answer of the server comes, so the deadline stands there. A call that runs into it closes the connection: what
the server did with the statement is then unknown, and the connection must not be used again.
"""

import select
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.abc import RV, PQGen


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends after `settings.DATABASE_DEADLINE` seconds."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        deadline = settings.DATABASE_DEADLINE
        try:
            return super().wait(gen, interval, deadline if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL did not answer within {deadline:g} seconds"
            ) from error


class _Database:
    """psycopg, as Django's backend uses it, but for the class of its connections."""

    connect = DeadlineConnection.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(base.DatabaseWrapper):
    Database = _Database()  # type: ignore[assignment]  # stands for the module

    def is_usable(self) -> bool:
        """Whether the server has hung up since the last request.

        Django would ask it, which costs a round trip per request, and waits for one that is frozen. A server that
        has gone has closed its end, and then there is something to read; between two requests there is nothing
        else. (One that vanished without closing is found out by the deadline of the next query.)
        """
        connection = self.connection
        if connection is None or connection.closed:
            return False
        # What has come may be a farewell, with the end right behind it.
        for _ in range(3):
            if not _has_something_to_read(connection):
                return True
            if not _read(connection):
                return False
        return False


def _has_something_to_read(connection: psycopg.Connection[Any]) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _read(connection: psycopg.Connection[Any]) -> bool:
    """Take in what has come, such as a changed parameter. False when it was the end."""
    try:
        connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return connection.pgconn.status == psycopg.pq.ConnStatus.OK
