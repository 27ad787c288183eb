"""PostgreSQL: can it be reached, written to, trusted with a commit; does its clock agree, are the tables there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from notifications.doctor.findings import Finding, error, ok, warning, words

COMPONENT = "database"
OURS = ("notifications", "users")
#: Older ones do not understand our SQL.
OLDEST_VERSION = 160000
#: Seconds by which two clocks may differ.
CLOCK_TOLERANCE = 5.0
#: Seconds a transaction may be open.
LONGEST_TRANSACTION = 3600.0

RIGHTS = """
SELECT name, wanted FROM unnest(%s::text[]) AS name, unnest(%s::text[]) AS wanted
WHERE NOT has_table_privilege(to_regclass(quote_ident(name)), wanted)
ORDER BY name, wanted
"""

# Asked of the server: what it was told is not always what it does.
DURABILITY = """
SELECT name, setting FROM pg_settings
WHERE (name, setting) IN (('synchronous_commit', 'off'), ('fsync', 'off'), ('full_page_writes', 'off'))
"""

OLDEST_TRANSACTION = """
SELECT coalesce(max(extract(epoch FROM now() - xact_start)), 0) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


def reach() -> Finding:
    """Whether there is a database at all. Nothing else can be asked without it."""
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            [version] = _row(cursor, "SHOW server_version")
    except (DatabaseError, InterfaceError) as failure:
        connection.close()
        return error(
            COMPONENT,
            "database_unreachable",
            "The database does not answer, or does not let us in: nothing can be stored.",
            "Look whether PostgreSQL runs, and at DATABASE_URL: host, port, database, user, password. Callers get "
            "503 meanwhile; workers keep the answers they have.",
            words(failure),
        )
    return ok(COMPONENT, "The database answers.", f"PostgreSQL {version}")


def version() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        [number] = _row(cursor, "SELECT current_setting('server_version_num')::int")
    if number < OLDEST_VERSION:
        yield error(
            COMPONENT,
            "database_too_old",
            "This version of PostgreSQL is too old.",
            "Upgrade to PostgreSQL 18, with which the service is developed and tested.",
            f"server_version_num {number}",
        )


def writable() -> Iterator[Finding]:
    """Not a replica, not read-only."""
    with connection.cursor() as cursor:
        replica, read_only = _row(
            cursor, "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')"
        )
    if replica:
        yield error(
            COMPONENT,
            "database_is_replica",
            "The database is a replica, which takes no changes.",
            "Point DATABASE_URL at the primary, or promote this one if the primary is gone for good.",
        )
    elif read_only == "on":
        yield error(
            COMPONENT,
            "database_read_only",
            "The database takes no changes: transactions are read-only by default.",
            "Find out who set default_transaction_read_only, for the server, the database or the role, and why.",
        )


def durable() -> Iterator[Finding]:
    """A commit must survive a crash of the server: the promise stands on it."""
    with connection.cursor() as cursor:
        cursor.execute(DURABILITY)
        off = [name for name, _ in cursor.fetchall()]
    for name in off:
        yield error(
            COMPONENT,
            "commit_not_durable",
            f"{name} is off: a crash of the database server may forget what was accepted, or that it was sent.",
            f"Set {name} = on, for the server and for our role (ALTER ROLE ... RESET {name}).",
        )


def rights() -> Iterator[Finding]:
    """SELECT, INSERT, UPDATE and DELETE on each of our tables."""
    with connection.cursor() as cursor:
        cursor.execute(RIGHTS, (sorted(_tables()), ["SELECT", "INSERT", "UPDATE", "DELETE"]))
        missing = cursor.fetchall()
        [user] = _row(cursor, "SELECT current_user")
    if missing:
        tables = {name for name, _ in missing}
        named = ", ".join(f"{wanted} on {name}" for name, wanted in missing[:5])
        more = f", and {len(missing) - 5} more" if len(missing) > 5 else ""
        yield error(
            COMPONENT,
            "rights_missing",
            f"The service may not read or change {len(tables)} of its own tables.",
            "As the owner of the tables: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "
            "the user of DATABASE_URL.",
            f"{user} lacks {named}{more}",
        )


def migrations() -> Iterator[Finding]:
    """Whether the tables are those that this code expects."""
    if not MigrationRecorder(connection).has_table():
        applied: set[tuple[str, str]] = set()
    else:
        applied = set(MigrationRecorder.Migration.objects.values_list("app", "name"))
    ours = _migrations_of_this_code()
    unapplied = sorted(ours - applied)
    newer = sorted(key for key in applied - ours if key[0] in {app for app, _ in ours})
    if unapplied:
        yield error(
            "migrations",
            "migrations_unapplied",
            f"{len(unapplied)} of this version's database migrations have not been applied.",
            "Run manage.py migrate, with a user who may change tables, then restart web and workers. What was "
            "accepted waits meanwhile.",
            _named(unapplied),
        )
    elif newer:
        yield warning(
            "migrations",
            "migrations_newer",
            "The database has been migrated by a newer version than this one.",
            "During an upgrade, and after going back to the previous release, this is as it should be. Else bring "
            "this machine to the newer version.",
            _named(newer),
        )
    else:
        yield ok("migrations", "All migrations have been applied.")


def clock() -> Iterator[Finding]:
    """This machine's clock beside the database's."""
    before = time.time()
    with connection.cursor() as cursor:
        [theirs] = _row(cursor, "SELECT extract(epoch FROM clock_timestamp())::float8")
    ahead = (before + time.time()) / 2 - theirs
    yield (
        skew("this machine", ahead)
        if abs(ahead) > CLOCK_TOLERANCE
        else ok("clocks", "This machine's clock and the database's agree.")
    )


def skew(whose: str, ahead: float, detail: str = "") -> Finding:
    """A clock that is not right; `ahead` in seconds, of the database's."""
    where = "ahead of" if ahead > 0 else "behind"
    return warning(
        "clocks",
        "clock_skew",
        f"The clock of {whose} is {abs(ahead):,.0f} s {where} the database's.",
        "Have both machines keep time by NTP. The database's clock alone decides when something goes out, so a "
        "wrong one there sends too early or too late; a wrong one elsewhere upsets the order of lists, log lines "
        "and TLS.",
        detail,
    )


def size() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        pretty, rows = _row(
            cursor,
            "SELECT pg_size_pretty(pg_database_size(current_database())),"
            " (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass('notifications_notification'))",
        )
    about = f", with about {rows:,} notifications" if rows is not None else ""
    yield ok(COMPONENT, "Its size is known.", f"{pretty}{about}")


def transactions() -> Iterator[Finding]:
    """One that is open for long keeps VACUUM from cleaning the queue's tables."""
    with connection.cursor() as cursor:
        [oldest] = _row(cursor, OLDEST_TRANSACTION)
    if oldest > LONGEST_TRANSACTION:
        yield warning(
            COMPONENT,
            "long_transaction",
            f"A transaction has been open for {oldest / 3600:.1f} hours; the queue's tables cannot be cleaned behind it.",
            "Find it in pg_stat_activity (order by xact_start), and end it: a forgotten psql, a stuck export, a "
            "backup tool.",
        )


def data_directory() -> str | None:
    """Where the server keeps its data, if that is this machine and we may know."""
    if not _is_local(connection.settings_dict["HOST"]):
        return None
    with connection.cursor() as cursor:
        [path] = _row(
            cursor,
            "SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')"
            " THEN current_setting('data_directory') END",
        )
    return path if isinstance(path, str) else None


def _is_local(host: str) -> bool:
    return host.startswith("/") or host in {"", "localhost", "127.0.0.1", "::1"}


def _row(cursor: Any, statement: str) -> tuple[Any, ...]:
    cursor.execute(statement)
    return tuple(cursor.fetchone())


def _tables() -> set[str]:
    """Those that accepting and delivering need; the console's own (sessions, sign-ins) are Django's matter."""
    ours = [apps.get_app_config(name).get_models(include_auto_created=True) for name in OURS]
    return {model._meta.db_table for models in ours for model in models}


@cache
def _migrations_of_this_code() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def _named(migrations: list[tuple[str, str]]) -> str:
    first = ", ".join(f"{app}.{name}" for app, name in migrations[:3])
    return first + (f" and {len(migrations) - 3} more" if len(migrations) > 3 else "")
