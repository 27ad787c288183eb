"""Say what became of the unknown notifications that are held, all at once: after a restore, after an outage."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError

from notifications.answering import ANSWERS, Answered, answer, key_of_ours
from notifications.explaining import counted
from notifications.management.commands.reconcile import moment
from notifications.provider_log import ProviderLog, UnreadableLog

_DONE = {
    "arrived": "sent now, by your word",
    "resend": "sent again, as new notifications",
    "give-up": "given up",
}


class Command(BaseCommand):
    help = (
        "Answers for all notifications that are unknown and held for an operator: they arrived, they are to be sent "
        "again, or they are given up. With --provider-log only for e-mail: 'arrived' for those in the log, 'resend' "
        "and 'give-up' for those that are not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("answer", choices=ANSWERS)
        parser.add_argument("--since", type=moment, help="of when they were accepted; 2026-01-31")
        parser.add_argument("--until", type=moment, help="the same")
        parser.add_argument(
            "--provider-log",
            type=Path,
            metavar="FILE",
            help="the provider's export: a message id a line, or CSV with a header",
        )
        parser.add_argument("--column", help="the CSV column with the message id")
        parser.add_argument("--dry-run", action="store_true", help="only count them")

    def handle(self, *args: Any, **options: Any) -> None:
        path, how = options["provider_log"], options["answer"]
        try:
            with (
                closing(ProviderLog.read(path, options["column"], key_of_ours))
                if path
                else nullcontext()
            ) as log:
                answered = answer(how, options["since"], options["until"], log, options["dry_run"])
        except UnreadableLog as error:
            raise CommandError(f"{error} Only ids that hold ours count here.") from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                f"The database does not answer: {error}. What was answered until then is; run it again."
            ) from error
        self._tell(answered, "would be answered so" if options["dry_run"] else _DONE[how])

    def _tell(self, answered: Answered, done: str) -> None:
        self.stdout.write(f"{counted(answered.count, 'notification')}: {done}.")
        for code, count in answered.left.most_common():
            self.stdout.write(f"{count:,} left as they are: {code}.")
