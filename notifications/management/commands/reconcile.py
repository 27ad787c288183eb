"""Does the ledger add up, in itself and beside the provider's own log?"""

from __future__ import annotations

import csv
import json
import re
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from notifications.models import Status
from notifications.reconciling import MEANINGS, ProviderLog, Reconciliation, reconcile

#: What vendors call the column, without what is no letter.
COLUMNS = ("messageid", "messagesid", "sid", "id")
#: Seconds between two lines of progress.
TELL_EVERY = 5.0


class Command(BaseCommand):
    help = (
        "Counts the accepted notifications by status and looks whether each sent one has its acceptance and each "
        "acceptance its notification. With a provider's log, names what is missing on either side. Exit code 1 when "
        "it does not add up."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", type=moment, help="2026-01-31, or 2026-01-31T12:00 (UTC)")
        parser.add_argument(
            "--until", type=moment, help="the same; what was accepted from then on is left out"
        )
        parser.add_argument(
            "--provider-log",
            type=Path,
            metavar="FILE",
            help="the provider's export: a message id a line, or CSV with a header",
        )
        parser.add_argument("--column", help="the CSV column with the message id")
        parser.add_argument(
            "--provider", default="", help="whose log it is: smtp, mailgun, twilio ..."
        )
        parser.add_argument(
            "--ids",
            type=int,
            default=20,
            metavar="N",
            help="name at most N ids for each difference",
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = options["since"], options["until"]
        if since and until and since >= until:
            raise CommandError("--since must lie before --until.")
        path, column = options["provider_log"], options["column"]
        if (column or options["provider"]) and not path:
            raise CommandError(
                "--column and --provider say more about --provider-log, which is missing."
            )
        self.told_at = time.monotonic()
        try:
            with closing(load(path, column)) if path else nullcontext() as log:
                result = reconcile(
                    since, until, log, options["provider"], options["ids"], self._progress
                )
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(f"The database could not be asked: {error}") from error
        self._tell(result, options["json"], with_log=path is not None)
        sys.exit(0 if result.adds_up else 1)

    def _progress(self, count: int) -> None:
        if time.monotonic() - self.told_at > TELL_EVERY:
            self.told_at = time.monotonic()
            self.stderr.write(f"{count:,} notifications ...")

    def _tell(self, result: Reconciliation, as_json: bool, *, with_log: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(as_document(result), indent=2))
            return
        for status in Status.values:
            self.stdout.write(f"{status:<12}{result.statuses[status]:>12,}")
        self.stdout.write(f"{'together':<12}{result.total:>12,}\n")
        self.stdout.write(f"{result.accepted:,} acceptances by a provider.")
        if result.accepted_late:
            self.stdout.write(
                f"{result.accepted_late:,} of them came to what was cancelled, failed or expired by then, or is to be "
                "sent again: the attempt alone says so."
            )
        if with_log:
            self._tell_of_log(result)
        for code, difference in result.differences.items():
            self.stdout.write(
                self.style.ERROR(f"\n{difference.count:,} {MEANINGS[code]}  [{code}]")
            )
            for id in difference.first:
                self.stdout.write(f"  {id}")
            if difference.count > len(difference.first):
                self.stdout.write(
                    f"  ... and {difference.count - len(difference.first):,} more (--ids)"
                )
        if result.adds_up:
            self.stdout.write(self.style.SUCCESS("It adds up."))

    def _tell_of_log(self, result: Reconciliation) -> None:
        self.stdout.write(f"{result.in_log:,} message ids in the provider's log.")
        if result.without_id:
            self.stdout.write(
                f"{result.without_id:,} acceptances had no id, and were not compared."
            )


def as_document(result: Reconciliation) -> dict[str, Any]:
    return {
        "adds_up": result.adds_up,
        "total": result.total,
        "statuses": {status: result.statuses[status] for status in Status.values},
        "accepted": result.accepted,
        "accepted_late": result.accepted_late,
        "accepted_without_id": result.without_id,
        "in_provider_log": result.in_log,
        "differences": {
            code: {"count": difference.count, "ids": difference.first}
            for code, difference in result.differences.items()
        },
    }


def moment(text: str) -> datetime:
    """A day or a moment; UTC where it does not say. For argparse."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no date; write 2026-01-31 or 2026-01-31T12:00:00+00:00"
        ) from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def load(path: Path, column: str | None) -> ProviderLog:
    """Raises CommandError where the file cannot be read or holds no id."""
    try:
        log = ProviderLog(message_ids(path, column))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text in UTF-8; export it as CSV.") from error
    except csv.Error as error:
        raise CommandError(f"{path} cannot be read as CSV: {error}.") from error
    if not len(log):
        raise CommandError(f"{path} holds no message id.")
    return log


def message_ids(path: Path, column: str | None) -> Iterator[str]:
    """Of CSV, where a column is named or the first line is a header; else the lines themselves."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = next((each for each in (",", ";", "\t") if each in first), ",")
        header = next(csv.reader([first], delimiter=separator), [])
        name = column if column is not None else _column_of(header)
        if name is None and separator in first:
            raise CommandError(
                f"Which column of {path} has the message id? Name it: --column. {_named(header)}"
            )
        if name is None:
            yield from file
            return
        if name not in header:
            raise CommandError(f"{path} has no column {name!r}. {_named(header)}")
        for row in csv.DictReader(file, delimiter=separator):
            yield row[name] or ""


def _column_of(header: list[str]) -> str | None:
    names = {re.sub("[^a-z]", "", name.lower()): name for name in header}
    return next((names[known] for known in COLUMNS if known in names), None)


def _named(header: list[str]) -> str:
    return f"It has: {', '.join(header)}."
