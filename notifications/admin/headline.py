"""Is it going out? The first page's sentences, the most serious first. Pure: the facts are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notifications.doctor.backlog import MOST, OVERDUE_ERROR, OVERDUE_WARNING, Lane
from notifications.doctor.findings import Finding, Severity
from notifications.explaining import counted, duration, paused_by, trouble
from notifications.models import SANDBOX_LANE, Channel, Circuit, Pause

NO_WORKER = "Nothing goes out: no worker is alive."
ALL_IS_WELL = "Everything is going out."


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that is not as it should be, or that all is."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How the service stands: `carried` says which provider carries a lane, `findings` what the doctor says of workers
    and beat.
    """

    lanes: Sequence[Lane]
    carried: Mapping[str, str | None]
    findings: Sequence[Finding]
    circuits: Sequence[Circuit]
    pauses: Sequence[Pause]

    def waiting_behind(self, *targets: str) -> list[Lane]:
        """The lanes with something due that are of these names, or carried by these providers."""
        return [
            lane
            for lane in self.lanes
            if lane.waiting and (lane.name in targets or self.carried.get(lane.name) in targets)
        ]


def statements(standing: Standing, now: datetime) -> list[Statement]:
    """All there is to say; never empty."""
    told = [
        *_of_processes(standing.findings),
        *_of_circuits(standing, now),
        *_of_late_lanes(standing),
        *_of_pauses(standing, now),
    ]
    # A stable sort: of the same severity, what explains more comes first.
    errors_first = sorted(told, key=lambda statement: statement.severity is not Severity.ERROR)
    return errors_first or [Statement(Severity.OK, ALL_IS_WELL)]


def _of_processes(findings: Iterable[Finding]) -> Iterator[Statement]:
    for finding in findings:
        if finding.severity is not Severity.OK:
            text = NO_WORKER if finding.code == "no_worker" else finding.sentence
            yield Statement(finding.severity, text)


def _of_circuits(standing: Standing, now: datetime) -> Iterator[Statement]:
    for circuit in standing.circuits:
        refused = circuit.cause == Circuit.Cause.REFUSED
        severity = Severity.ERROR if refused else Severity.WARNING
        yield Statement(severity, f"{_who_waits(standing, circuit)}{trouble(circuit, now)}.")


def _who_waits(standing: Standing, circuit: Circuit) -> str:
    """Of a project's own sender nobody has counted it."""
    waiting = [] if circuit.sender else standing.waiting_behind(circuit.provider)
    if not waiting:
        return "Held: "
    channels = " and ".join(dict.fromkeys(_channel_of(lane.name) for lane in waiting))
    return f"{channels} has been waiting {_longest(waiting)}: "


def _of_late_lanes(standing: Standing) -> Iterator[Statement]:
    """Unless no worker is alive: then that is why."""
    if any(finding.code == "no_worker" for finding in standing.findings):
        return
    for lane in standing.lanes:
        if lane.overdue <= OVERDUE_WARNING:
            continue
        severity = Severity.ERROR if lane.overdue > OVERDUE_ERROR else Severity.WARNING
        late = f"{lane.name} is {duration(timedelta(seconds=lane.overdue))} late"
        yield Statement(severity, f"{late}: {_wait(lane.waiting)}, {_why_late(standing, lane)}.")


def _why_late(standing: Standing, lane: Lane) -> str:
    provider = standing.carried.get(lane.name)
    if provider is None:
        return "and no provider carries it any more"
    if any(circuit.provider == provider and not circuit.sender for circuit in standing.circuits):
        return f"and nobody tries {provider} again, though it is time"
    return "and nothing holds it back"


def _of_pauses(standing: Standing, now: datetime) -> Iterator[Statement]:
    for pause in standing.pauses:
        waiting = sum(lane.waiting for lane in standing.waiting_behind(pause.target))
        behind = f" {_wait(waiting)}." if waiting else ""
        yield Statement(Severity.WARNING, f"{paused_by(pause, now)}.{behind}")


def _wait(number: int) -> str:
    if number >= MOST:
        return f"{MOST:,} notifications or more wait"
    return f"{counted(number, 'notification')} {'waits' if number == 1 else 'wait'}"


def _longest(lanes: Iterable[Lane]) -> str:
    return duration(timedelta(seconds=max(lane.oldest for lane in lanes)))


def _channel_of(lane: str) -> str:
    return "The sandbox" if lane == SANDBOX_LANE else str(Channel(lane.partition(".")[0]).label)
