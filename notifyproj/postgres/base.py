"""Django's PostgreSQL backend, with an end to every wait.

A frozen PostgreSQL (SIGSTOP, a dead disk, a lost host) honours no `statement_timeout`: without a deadline
on our side, a request would wait for ever. psycopg's `Connection.wait` is the one place through which every
answer of the server comes, so the deadline stands there. A call that runs into it closes the connection: what
the server did with the statement is then unknown, and the connection must not be used again.
"""

from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.abc import RV, PQGen

#: Seconds for Django's question, before a connection is used again, whether it still works. A new one may
#: take 3 s more (connect_timeout), and together they must stay below the 5 s in which a request is answered.
HEALTH_CHECK_DEADLINE = 1.0


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends after `settings.DATABASE_DEADLINE` seconds."""

    #: Stands for DATABASE_DEADLINE where it is set.
    deadline: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        deadline = self.deadline or settings.DATABASE_DEADLINE
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
        connection = self.connection
        if connection is None:
            return False
        connection.deadline = HEALTH_CHECK_DEADLINE
        try:
            usable: bool = super().is_usable()
            return usable
        finally:
            connection.deadline = None
