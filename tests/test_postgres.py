"""The database backend: an end to every wait, and no round trip to see whether a connection still works."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import OperationalError, close_old_connections, connection, connections, transaction

from notifyproj.postgres.base import Rest, rest

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_connection_at_rest_is_usable():
    connection.ensure_connection()
    assert connection.is_usable()


@pytest.mark.parametrize("_again", range(5))
def test_a_connection_that_the_server_has_ended_is_not_used_again(_again):
    other = connections.create_connection("default")
    other.ensure_connection()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (other.connection.info.backend_pid,))
        time.sleep(0.05)
        assert not other.is_usable()
    finally:
        other.close()


def test_a_changed_parameter_does_not_end_a_connection():
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("LISTEN something")
        cursor.execute("NOTIFY something")
    assert connection.is_usable()


def test_a_query_ends_at_the_deadline_and_its_connection_with_it(settings):
    settings.DATABASE_DEADLINE = 0.2
    other = connections.create_connection("default")
    started = time.monotonic()
    try:
        in_time = pytest.raises(OperationalError, match=r"did not answer within 0\.2 seconds")
        with in_time, other.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
        assert time.monotonic() - started < 2
        assert not other.is_usable()
    finally:
        other.close()


def test_after_a_deadline_nobody_waits_and_then_one_asks_for_all(settings):
    settings.DATABASE_DEADLINE = 0.2
    pause = Rest()
    pause.SECONDS = 0.1
    pause.refuse()
    pause.begin()
    with pytest.raises(psycopg.OperationalError):
        pause.refuse()
    time.sleep(0.15)
    pause.refuse()  # this thread asks,
    pause.refuse()  # with as many questions as it takes,
    with ThreadPoolExecutor(1) as another, pytest.raises(psycopg.OperationalError):
        another.submit(pause.refuse).result()  # and no other does
    pause.end()
    with ThreadPoolExecutor(1) as another:
        another.submit(pause.refuse).result()


def test_leaving_a_transaction_whose_connection_is_gone_opens_no_other(settings):
    settings.DATABASE_DEADLINE = 0.2
    with pytest.raises(OperationalError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(5)")
    assert connection.connection is None


def test_a_migration_takes_as_long_as_it_takes(settings):
    settings.DATABASE_DEADLINE = 0.2
    other = connections.create_connection("default")
    try:
        with other.schema_editor(atomic=False) as editor:
            editor.execute("SELECT pg_sleep(0.5)")
        with pytest.raises(OperationalError), other.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(5)")
    finally:
        other.close()


def test_a_request_that_begins_while_postgresql_rests_is_not_refused_before_it_is_answered():
    """Django looks at the open connection first, outside of every handler: an error there is a bare 500."""
    connection.ensure_connection()
    rest.begin()
    close_old_connections()
    with pytest.raises(OperationalError):
        connection.cursor()
