"""`python -m drills list | run NAME... | run --all | run --quick | table`: break the stack on purpose, and count.

Everything runs on this machine, in processes and servers of the drills' own, under var/drills; nothing of a running
`script/server` is touched. Ends with 1 when a drill fails.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drills.catalogue import Drill, all_drills
from drills.processes import ROOT

VAR = Path(os.environ.get("VAR_DIR", ROOT / "var")) / "drills"
RESULTS = VAR / "results.json"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    drills = all_drills()
    if options.command == "list":
        return _list(drills)
    if options.command == "table":
        return _table(drills)
    known = {drill.name: drill for drill in drills}
    if unknown := [name for name in options.names if name not in known]:
        print(f"There is no drill {', '.join(unknown)}. See: python -m drills list")
        return 2
    chosen = [known[name] for name in options.names] or drills
    if not (options.names or options.all or options.quick):
        print("Name the drills, or say --all or --quick.")
        return 2
    return _run(chosen, quick=options.quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m drills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="which drills there are")
    commands.add_parser("table", help="the last results, as docs/reliability.md shows them")
    run = commands.add_parser("run", help="run some, one after another")
    run.add_argument("names", nargs="*", metavar="NAME")
    run.add_argument("--all", action="store_true", help="every drill, in full")
    run.add_argument("--quick", action="store_true", help="every drill, or those named, but small")
    return parser


def _list(drills: list[Drill]) -> int:
    width = max(len(drill.name) for drill in drills)
    for drill in drills:
        print(f"{drill.number:>4g}  {drill.name:<{width}}  {drill.breaks}")
    return 0


def _table(drills: list[Drill]) -> int:
    from drills.run import kept_results

    results = {result.name: result for result in kept_results(RESULTS)}
    print("| drill | what is broken | what must hold | result | figures |")
    print("|---|---|---|---|---|")
    for drill in drills:
        result = results.get(drill.name)
        figures = (
            ", ".join(f"{name} {value}" for name, value in result.figures.items()) if result else ""
        )
        outcome = _outcome(result.outcome, result.quick, result.seconds) if result else ""
        print(f"| `{drill.name}` | {drill.breaks} | {drill.holds} | {outcome} | {figures} |")
    return 0


def _outcome(outcome: str, quick: bool, seconds: float) -> str:
    return f"{outcome}{' (quick)' if quick else ''}, {seconds:.0f} s"


def _run(drills: list[Drill], *, quick: bool) -> int:
    from drills.run import FAIL, NOT_RUN, PASS, Result, keep, play
    from drills.stack import Servers

    results: list[Result] = []
    with _alone():
        servers = Servers.start(VAR)
        try:
            for drill in drills:
                print(f"{drill.name}: {drill.breaks}", flush=True)
                result = play(drill, servers, quick=quick)
                results.append(result)
                keep([result], RESULTS)
                reason = f": {result.reason}" if result.reason else ""
                print(f"  {result.outcome}{reason} ({result.seconds:.0f} s)", flush=True)
        finally:
            servers.stop()
    counts = [f"{sum(r.outcome == o for r in results)} {o}" for o in (PASS, FAIL, NOT_RUN)]
    print(", ".join(counts))
    return int(any(result.outcome == FAIL for result in results))


@contextmanager
def _alone() -> Iterator[None]:
    """One run at a time in this folder; SIGTERM ends it as Ctrl-C does, with everything it started."""
    VAR.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (VAR / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"Another run of the drills is under way in {VAR}.")
        yield


if __name__ == "__main__":
    sys.exit(main())
