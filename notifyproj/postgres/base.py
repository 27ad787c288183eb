"""Django's PostgreSQL backend, with an end to every wait.

A frozen PostgreSQL (SIGSTOP, a dead disk, a lost host) honours no `statement_timeout`: without a deadline
on our side, a request would wait for ever. psycopg's `Connection.wait` is the one place through which every
answer of the server comes, so the deadline stands there. A call that runs into it closes the connection: what
the server did with the statement is then unknown, and the connection must not be used again.
"""

import select
import threading
import time
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from django.db.backends.postgresql.schema import DatabaseSchemaEditor
from psycopg.abc import RV, PQGen


class Rest:
    """After a wait that ran into its deadline, nobody asks for a moment, and then one asks for all.

    Else every thread of a web process would wait for a frozen server, request after request, and those that
    queue for a thread would wait for many deadlines.
    """

    SECONDS = 1.0
    #: How long the one who asks has for it, at most, before another one may.
    LONGEST_QUESTION = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._asking: int | None = None

    def begin(self) -> None:
        self._asking = None
        self._until = time.monotonic() + self.SECONDS

    def end(self) -> None:
        """PostgreSQL has answered."""
        self._until = 0.0

    def refuse(self) -> None:
        """Raises OperationalError while nobody asks, or while another one does."""
        if not self._until or self._asking == threading.get_ident():
            return
        with self._lock:
            now = time.monotonic()
            if now < self._until:
                raise psycopg.OperationalError("PostgreSQL did not answer a moment ago")
            self._asking = threading.get_ident()
            self._until = now + min(settings.DATABASE_DEADLINE, self.LONGEST_QUESTION)


rest = Rest()


class DeadlineConnection(psycopg.Connection[Any]):
    """A connection whose every wait ends after `settings.DATABASE_DEADLINE` seconds, or `patience` where it is set."""

    patience: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        deadline = self.patience or settings.DATABASE_DEADLINE
        try:
            answer = super().wait(gen, interval, deadline if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            if timeout is not None:
                raise
            rest.begin()
            self.close()
            raise psycopg.OperationalError(
                f"PostgreSQL did not answer within {deadline:g} seconds"
            ) from error
        rest.end()
        return answer


class SchemaEditor(DatabaseSchemaEditor):
    """Migrations: an index of a large table takes as long as it takes. Given up, it would be left invalid."""

    LONGEST_STATEMENT = 7 * 24 * 3600.0

    def execute(self, *statement: Any, **parameters: Any) -> Any:
        self.connection.ensure_connection()
        connection = self.connection.connection
        connection.patience = self.LONGEST_STATEMENT
        try:
            return super().execute(*statement, **parameters)
        finally:
            connection.patience = None


class _Database:
    """psycopg, as Django's backend uses it, but for the class of its connections."""

    connect = DeadlineConnection.connect

    def __getattr__(self, name: str) -> Any:
        return getattr(psycopg, name)


class DatabaseWrapper(base.DatabaseWrapper):
    Database = _Database()  # type: ignore[assignment]  # stands for the module
    SchemaEditorClass = SchemaEditor

    def ensure_connection(self) -> None:
        with self.wrap_database_errors:
            rest.refuse()
        super().ensure_connection()

    def get_autocommit(self) -> bool:
        """Django asks at the start of each request, and would connect (or, resting, fail) to find out."""
        return self.autocommit if self.connection is not None else super().get_autocommit()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        try:
            return super().get_new_connection(conn_params)
        except psycopg.errors.ConnectionTimeout:
            rest.begin()
            raise

    def set_autocommit(
        self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False
    ) -> None:
        """Not on a connection that is gone: Django, leaving a transaction, would open another one for it."""
        if autocommit and self.connection is None:
            return
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)

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
