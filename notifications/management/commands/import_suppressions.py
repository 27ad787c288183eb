"""Bring along the addresses that must not be written to, from a provider or an older system."""

from __future__ import annotations

import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError

from notifications import suppressions
from notifications.explaining import counted
from notifications.models import Suppression
from notifications.suppression_files import Line, UnreadableFile, read
from notifications.suppressions import Entry
from users.management.projects import project_named

#: Addresses that one statement adds.
CHUNK = 5000
#: Bad lines that are named.
MOST_NAMED = 20


class Command(BaseCommand):
    help = (
        "Adds the addresses of a CSV file to a project's list of those that must not be written to. The first line "
        "names the columns: channel (email or sms), address, reason, detail; or just email, or phone. All lines are "
        "read before anything is added: if one is bad, nothing is, and the exit code is 1. The same file again changes "
        "nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="CSV in UTF-8; - for standard input")
        parser.add_argument("--project", help="the project's name; needed where there are several")
        parser.add_argument(
            "--reason",
            choices=Suppression.Reason.values,
            default=Suppression.Reason.MANUAL,
            help="of lines that give none (default: manual)",
        )
        parser.add_argument("--skip-invalid", action="store_true", help="add the good lines")
        parser.add_argument("--dry-run", action="store_true", help="only read the lines")

    def handle(self, *args: Any, **options: Any) -> None:
        project = project_named(options["project"])
        reason = options["reason"]
        try:
            with _opened(options["file"]) as file:
                good, bad = self._count(read(file, reason))
                if bad and not options["skip_invalid"]:
                    lines = counted(bad, "bad line")
                    raise CommandError(f"{lines}, so nothing was added. See --skip-invalid.")
                if options["dry_run"]:
                    self.stdout.write(f"{good:,} good, {bad:,} bad; nothing was added.")
                    return
                file.seek(0)
                added = _add(project.pk, (line.entry for line in read(file, reason) if line.entry))
        except UnreadableFile as error:
            raise CommandError(f"{options['file']} cannot be read. {error}") from error
        self.stdout.write(f"{added:,} added, {good - added:,} known already, {bad:,} bad.")

    def _count(self, lines: Iterable[Line]) -> tuple[int, int]:
        """How many are good, and how many bad; the first of these are named."""
        good = bad = 0
        for line in lines:
            good += bool(line.entry)
            bad += not line.entry
            if not line.entry and bad <= MOST_NAMED:
                self.stderr.write(f"line {line.number}: {line.problem}")
        return good, bad


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """The file, which is read twice: standard input therefore from a copy. Raises CommandError."""
    if name == "-":
        with tempfile.NamedTemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            with _opened(copy.name) as file:
                yield file
        return
    try:
        # Spreadsheets put a byte order mark in front.
        file = open(name, encoding="utf-8-sig", newline="")  # noqa: SIM115  (below)
    except OSError as error:
        raise CommandError(f"{name} cannot be opened: {error.strerror}.") from error
    with file:
        yield file


def _add(project_id: int, entries: Iterator[Entry]) -> int:
    """Chunk by chunk, each in a transaction of its own: broken off, the same file brings the rest."""
    added = 0
    while chunk := list(islice(entries, CHUNK)):
        added += suppressions.add(project_id, chunk, Suppression.Source.IMPORT)
    return added
