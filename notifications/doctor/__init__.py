"""The doctor: why does it not go out, and what is about to go wrong. `manage.py doctor` and /health ask here.

Each examination is a function that yields findings. It is for bad surroundings, so none of them may fail: what cannot
be asked is a finding too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from django.core import checks
from django.db import DatabaseError, InterfaceError, ProgrammingError, transaction

from notifications.doctor import backlog, brokers, database, disk, processes, vendors
from notifications.doctor.findings import Finding, Severity, error, ok, warning, words, worst

Examination = Callable[[], Iterable[Finding]]

OF_DATABASE: tuple[Examination, ...] = (
    database.version,
    database.writable,
    database.durable,
    database.rights,
    database.migrations,
    database.clock,
    database.size,
    database.transactions,
    processes.examine,
    backlog.overdue,
    backlog.circuits,
    backlog.paces,
    backlog.pauses,
    backlog.paused,
    backlog.paused_batches,
    backlog.held,
    backlog.receipts,
    backlog.ledger,
)


def examine() -> Iterator[Finding]:
    """Everything, in order; each found as soon as it is known. Takes some seconds where somebody does not answer."""
    yield from _guarded(configuration)
    reached = database.reach()
    yield reached
    if reached.severity is Severity.OK:
        yield from examine_database(OF_DATABASE)
        yield from _guarded(disk.examine_both)
    else:
        yield from _guarded(disk.examine)
    yield from _guarded(brokers.examine)
    yield from _guarded(brokers.evicting, quietly=True)
    yield from _guarded(vendors.verified)


def examine_database(examinations: Iterable[Examination]) -> Iterator[Finding]:
    """Each in a transaction of its own. Where rights or tables are missing, what follows from that is not said."""
    explained = False
    for examination in examinations:
        for finding in _in_transaction(examination, quietly=explained):
            explained |= finding.severity is Severity.ERROR
            yield finding


def configuration() -> Iterator[Finding]:
    """Django's system checks, ours among them."""
    found = checks.run_checks()
    for message in found:
        if message.level >= checks.WARNING:
            make = error if message.level >= checks.ERROR else warning
            yield make("configuration", message.id or "check", message.msg, message.hint or "")
    if not found:
        yield ok("configuration", "The settings are in order.")


def _in_transaction(examination: Examination, *, quietly: bool) -> list[Finding]:
    try:
        with transaction.atomic():
            return list(examination())
    except ProgrammingError as failure:
        return [] if quietly else [_not_checked(examination, failure)]
    except (DatabaseError, InterfaceError) as failure:
        return [_not_checked(examination, failure)]


def _guarded(examination: Examination, *, quietly: bool = False) -> list[Finding]:
    """Whatever goes wrong: it is bad surroundings that the doctor is for."""
    try:
        return list(examination())
    except Exception as failure:
        return [] if quietly else [_not_checked(examination, failure)]


def _not_checked(examination: Examination, failure: Exception) -> Finding:
    part = examination.__module__.rpartition(".")[2]
    return warning(
        part,
        "not_checked",
        f"This could not be looked at: {part}, {examination.__name__}.",
        "See what the other findings say; if nothing explains it, report it.",
        words(failure),
    )


__all__ = ["Finding", "Severity", "examine", "examine_database", "worst"]
