"""Is it well? What the doctor finds and everybody may know, each with an end to the waiting. Asks no provider.

It is public, so it tells the findings' sentences and never their details. Whoever asks more than once a second, or while
another is being answered, gets the same answer: the database pays for one.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from notifications import doctor
from notifications.doctor import (
    Finding,
    Severity,
    backlog,
    brokers,
    database,
    disk,
    processes,
    vendors,
)

#: Seconds the broker, and Redis, have for an answer.
BROKER_DEADLINE = 0.5
#: Seconds for which what seldom changes is remembered.
REMEMBERED = 10.0
#: Seconds for which a whole answer is.
ANSWER_REMEMBERED = 1.0

OK, DEGRADED, DOWN = "ok", "degraded", "down"
STATUS = {Severity.OK: OK, Severity.WARNING: DEGRADED, Severity.ERROR: DOWN}

#: With one of these nothing can be stored.
NOTHING_STORED = {
    "database_unreachable",
    "database_is_replica",
    "database_read_only",
    "rights_missing",
}

SELDOM_CHANGES = (
    database.version,
    database.writable,
    database.durable,
    database.rights,
    database.migrations,
    database.clock,
    disk.examine_both,
)


class _Memory:
    """The last answer, and findings of a short while ago."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self._findings: list[Finding] = []
        self._until = 0.0
        self._answer: dict[str, Any] = {}
        self._answer_until = 0.0

    def answer(self) -> dict[str, Any]:
        with self._lock:
            if time.monotonic() >= self._answer_until:
                self._answer = _examine()
                self._answer_until = time.monotonic() + ANSWER_REMEMBERED
            return self._answer

    def surroundings(self) -> list[Finding]:
        if time.monotonic() >= self._until:
            self._findings = list(doctor.examine_database(SELDOM_CHANGES))
            self._until = time.monotonic() + REMEMBERED
        return self._findings


memory = _Memory()


def health() -> dict[str, Any]:
    """`{status, environment, components, lanes}`; each component is `{status, detail}`, each lane `{waiting, overdue_seconds}`."""
    return memory.answer()


def _examine() -> dict[str, Any]:
    reached = database.reach()
    findings = [reached]
    lanes: list[backlog.Lane] = []
    if reached.severity is Severity.OK:
        findings += memory.surroundings()
        findings += doctor.examine_database((processes.examine, backlog.circuits, backlog.pauses))
        lanes = _lanes()
    findings += brokers.examine(BROKER_DEADLINE)
    findings += vendors.configured()
    components = _components(findings)
    return {
        "status": _overall({finding.code for finding in findings}, components, lanes),
        "environment": settings.ENVIRONMENT,
        "components": components,
        "lanes": {
            lane.name: {"waiting": lane.waiting, "overdue_seconds": int(lane.overdue)}
            for lane in lanes
        },
    }


def _components(findings: list[Finding]) -> dict[str, dict[str, str]]:
    """Each with its worst status, and what is said about that."""
    of_component = defaultdict(list)
    for finding in findings:
        of_component[finding.component].append(finding)
    return {name: _component(found) for name, found in of_component.items()}


def _component(findings: list[Finding]) -> dict[str, str]:
    severity = doctor.worst(findings)
    told = [finding for finding in findings if finding.severity is not Severity.OK] or findings[:1]
    sentences = dict.fromkeys(finding.sentence for finding in told)
    return {"status": STATUS[severity], "detail": " ".join(sentences)}


def _overall(
    codes: set[str], components: dict[str, dict[str, str]], lanes: list[backlog.Lane]
) -> str:
    """Down: nothing can be stored, or nothing goes out. The broker alone never makes it so: the sweep goes on."""
    longest = max((lane.overdue for lane in lanes), default=0.0)
    workers = components.get("workers", {"status": OK})
    nothing_goes_out = longest > backlog.OVERDUE_ERROR and workers["status"] != OK
    if codes & NOTHING_STORED or nothing_goes_out:
        return DOWN
    all_well = all(component["status"] == OK for component in components.values())
    return OK if all_well and longest <= backlog.OVERDUE_WARNING else DEGRADED


def _lanes() -> list[backlog.Lane]:
    """None where they cannot be asked: another finding then says why."""
    try:
        return backlog.lanes()
    except (DatabaseError, InterfaceError):
        return []
