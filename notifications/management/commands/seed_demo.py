"""A ledger to look at: for screenshots, for trying the console out, for measuring it."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from notifications import demonstration
from users.refusals import Refused


class Command(BaseCommand):
    help = (
        "Stores invented notifications of the last two weeks, with their attempts, receipts, batches and suppressions. "
        "None of it is ever sent to anybody, and it is refused in production. See docs/operations.md."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--rows", type=_rows, default=2000, help="notifications; default 2000")
        parser.add_argument(
            "--project",
            default="",
            help="all in a project of this name; default: in " + ", ".join(demonstration.PROJECTS),
        )
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, **options: Any) -> None:
        rows = options["rows"]
        if not options["yes"] and not self._agreed(rows):
            raise CommandError("Nothing was stored.")
        began = time.monotonic()
        try:
            with tqdm(total=rows, unit="row", disable=not sys.stderr.isatty()) as bar:
                demonstration.seed(rows, options["project"], bar.update)
        except Refused as error:
            raise CommandError(error.detail) from error
        seconds = time.monotonic() - began
        self.stdout.write(
            f"{rows:,} notifications stored and counted in {seconds:,.1f} s ({rows / seconds:,.0f}/s)."
        )

    def _agreed(self, rows: int) -> bool:
        question = f"Store {rows:,} invented notifications in this database? [y/N] "
        return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")


def _rows(text: str) -> int:
    """Raises ArgumentTypeError."""
    try:
        rows = int(text.replace(",", "").replace("_", ""))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from error
    if not 100 <= rows <= 50_000_000:
        raise ArgumentTypeError("between 100 and 50,000,000")
    return rows
