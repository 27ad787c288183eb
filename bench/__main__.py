"""`python -m bench NAME`: ratios measured in one run, on the real stack; `compare A.json B.json` puts two runs side by side.

The machines that run this are shared and noisy: compare ratios, never absolute figures. Each benchmark brings its own
servers up in var/bench and takes them down again; nothing of a running `script/server` is touched.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from bench import figures

VAR = Path(__file__).parent.parent / "var" / "bench"


def main() -> int:
    options = vars(_parser().parse_args())
    name = options.pop("name")
    if name == "compare":
        print(figures.compared(*(figures.read(file) for file in options["files"])))
        return 0
    os.environ.setdefault("VAR_DIR", str(VAR))
    os.environ.setdefault("LOG_LEVEL", "INFO" if name in {"create", "items"} else "WARNING")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")
    # The limiter is on and counts every request; its limit is out of reach.
    os.environ.setdefault("RATE_LIMIT", "100000000/60")
    # Seconds for one statement: it may make a million rows.
    os.environ.setdefault("DATABASE_DEADLINE", "600")
    file = options.pop("json") or Path(os.environ["VAR_DIR"]) / f"{name}.json"
    measured = _benchmark(name, keep=options.get("keep", False)).run(**options)
    print(figures.table(measured))
    figures.write(file, name, measured)
    print(f"written to {file}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)

    def add(name: str, what: str, **options: int | float) -> argparse.ArgumentParser:
        benchmark = names.add_parser(name, help=what)
        benchmark.add_argument("--json", type=Path, help="default: var/bench/NAME.json")
        for option, default in options.items():
            benchmark.add_argument(f"--{option}", type=type(default), default=default)
        return benchmark

    add("create", "POST /notifications beside an empty view", seconds=4.0, rounds=3)
    add("items", "1,000 notifications in a call beside single calls", seconds=6.0, rounds=3)
    add("deliver", "due rows beside Celery's no-op tasks", rows=20_000)
    add("smtp", "mails to a local server, beside django-post-office", mails=6_000, rounds=3)
    add("wake", "POST to hand-over, at rest and busy", rest=10.0, seconds=20.0, rate=200)
    add("mixed", "POST to hand-over of high while low drains", low=100_000, rate=50)
    add(
        "growth",
        "database time and pages read as the table grows",
        rows=5_000_000,
        beside=1_000_000,
    )
    add(
        "receipts",
        "webhooks beside an empty view, how fast they are applied, the API beside a burst of them",
        seconds=4.0,
        rounds=3,
        stored=50_000,
        rate=2_000,
        burst=30.0,
    )
    add(
        "bulk",
        "send_bulk beside a bare COPY, its mails beside django-post-office, urgent ones beside it",
        rows=1_000_000,
        mails=100_000,
        rate=50,
    )
    add(
        "stream",
        "open streams: memory, nothing lost at so many events a second, POST to client at rest and beside bulk",
        streams=1_000,
        rate=500,
        seconds=20.0,
        low=100_000,
    )
    console = add("console", "every page of the console, beside a small one", rows=5_000_000)
    console.add_argument(
        "--keep", action="store_true", help="ask the ledger that is in VAR_DIR, as it is"
    )
    add("idle", "memory and processor of script/server at rest", seconds=30.0)
    compare = names.add_parser("compare", help="two runs side by side, and their ratio")
    compare.add_argument("files", type=Path, nargs=2, metavar="FILE")
    return parser


def _benchmark(name: str, keep: bool):  # type: ignore[no-untyped-def]
    """The module bench/NAME.py, whose run() returns its figures. All but `idle` find an empty database, if not `keep`."""
    if name != "idle":
        import django

        django.setup()
        from bench import stack

        stack.prepare_database(keep=keep)
    return import_module(f"bench.{name}")


if __name__ == "__main__":
    sys.exit(main())
