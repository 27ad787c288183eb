"""One run of one drill: what it says while it goes on, what it expects, and what became of it."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from drills.catalogue import Drill
from drills.judge import Verdict
from drills.stack import Servers, Stack

Number = TypeVar("Number", int, float)

PASS, FAIL, NOT_RUN = "PASS", "FAIL", "NOT RUN"
#: Refs shown of each kind of fault.
SHOWN = 5


class CannotRun(Exception):
    """This machine cannot do what the drill needs. Never counted as passed."""


@dataclass
class Result:
    """What became of a drill; `figures` in the order in which they were found."""

    name: str
    outcome: str = PASS
    reason: str = ""
    quick: bool = False
    seconds: float = 0.0
    at: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


class Run:
    """What a drill is given."""

    def __init__(self, drill: Drill, servers: Servers, *, quick: bool) -> None:
        self.servers, self.quick = servers, quick
        self.result = Result(drill.name, quick=quick)
        self._name = drill.name

    def scale(self, full: Number, quick: Number) -> Number:
        """The number for `--all`, and the one for `--quick`."""
        return quick if self.quick else full

    def stack(self, *, email: str = "smtp", part: str = "", **settings: Any) -> Stack:
        """The stack of this drill, `email` being "smtp" or "mailgun". `part` names one of several."""
        name = f"{self._name}-{part}" if part else self._name
        return Stack(self.servers, name, email=email, **settings)

    def note(self, sentence: str) -> None:
        """Say what is being done."""
        print(f"    {sentence}", flush=True)

    def figure(self, name: str, value: Any) -> None:
        """Keep a figure, for the results and the table."""
        self.result.figures[name] = round(value, 2) if isinstance(value, float) else value
        self.note(f"{name}: {self.result.figures[name]}")

    def expect(self, sentence: str, holds: bool) -> None:
        """What must hold. The drill goes on: one failure must not hide the next."""
        if not holds:
            self.result.failed.append(sentence)
            self.note(f"DOES NOT HOLD: {sentence}")

    def judge(self, stack: Stack, *, part: str = "", **allowed: Collection[str]) -> Verdict:
        """Have the judge weigh the stack's evidence, and expect no fault of any kind; the ledger's own invariants too.

        `allowed`: see `Stack.judge`. `part` stands before each figure, where a drill has several.
        """
        verdict = stack.judge(**allowed)
        prefix = f"{part} " if part else ""
        self.figure(f"{prefix}accepted (201)", verdict.promised)
        self.figure(f"{prefix}copies at the vendor", verdict.accepted)
        for kind, refs in verdict.faults.items():
            if refs or kind in ("lost", "doubled", "stuck"):
                self.figure(f"{prefix}{kind}", len(refs))
            shown = ", ".join(refs[:SHOWN])
            self.expect(f"{prefix}no {kind} (but {len(refs)}: {shown})", not refs)
        breaches = stack.breaches()
        self.expect(f"{prefix}the ledger's invariants hold (but {breaches})", not breaches)
        return verdict


def play(drill: Drill, servers: Servers, *, quick: bool) -> Result:
    """Run one drill to its end, whatever that is."""
    run = Run(drill, servers, quick=quick)
    result, began = run.result, time.monotonic()
    result.at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    try:
        with _limited(drill.limit):
            drill.play(run)
    except CannotRun as reason:
        result.outcome, result.reason = NOT_RUN, str(reason)
    except Exception as error:
        traceback.print_exc()
        result.failed.append(f"{type(error).__name__}: {error}")
    servers.bring_back()
    if result.failed:
        result.outcome, result.reason = FAIL, "; ".join(result.failed)
    result.seconds = round(time.monotonic() - began, 1)
    return result


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block when it takes longer."""

    def too_long(*args: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def keep(results: list[Result], file: Path) -> None:
    """Write the results, over older ones of the same drills."""
    kept = {result.name: result for result in [*kept_results(file), *results]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(result) for result in kept.values()], indent=2) + "\n")


def kept_results(file: Path) -> list[Result]:
    return [Result(**line) for line in json.loads(file.read_text())] if file.exists() else []
