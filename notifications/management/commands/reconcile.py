"""Does the ledger add up, in itself and beside the provider's own log?"""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from notifications.models import Status
from notifications.provider_log import ProviderLog, UnreadableLog
from notifications.reconciling import MEANINGS, Reconciliation, reconcile

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
            with closing(ProviderLog.read(path, column)) if path else nullcontext() as log:
                result = reconcile(
                    since, until, log, options["provider"], options["ids"], self._progress
                )
        except UnreadableLog as error:
            raise CommandError(str(error)) from error
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
